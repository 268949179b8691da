"""What the nearest neighbours of features say without labels: intrinsic dimension, learnability, agreement of views.

Features h are [N,d]. Of more than ``samples`` of them that many are drawn by ``seed``, since the work grows with N².
"""

import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_features, expect_shape
from sslnb.core.numerics import scaled, unit

SAMPLES = 5000  # their pairs take a second or two at 2,048 features
ROWS = 1024  # of pairwise similarities at a time
KEPT = 0.9  # share of the smallest ratios that is fitted: the paper leaves out the tail, which outliers rule
ITERATIONS = 100  # of k-means, which has mostly settled after 30


def clid(h: Tensor, seed: int = 0, *, samples: int = SAMPLES) -> float:
    """Cluster learnability plus intrinsic dimension as a share of d, of features h [N,d]; higher is better.

    The paper adds the two after standardizing each over the encoders that are compared: for that take the two functions
    by themselves. ``ValueError`` as theirs. Source: Lu et al. 2023 (arXiv 2206.01251).
    """
    learnability = cluster_learnability(h, seed, samples=samples)
    return learnability + intrinsic_dimension(h, seed, samples=samples) / h.shape[1]


def cluster_learnability(h: Tensor, seed: int = 0, *, clusters: int | None = None, samples: int = SAMPLES) -> float:
    """How well the nearest neighbour among half of the features h [N,d] tells the k-means cluster of the other half.

    Features have unit length, neighbours are by cosine, there are √N clusters unless given. 1 where clusters are far
    apart; about 1 / clusters where neighbours tell nothing. ``ValueError`` for fewer samples than 2 per cluster, or a
    sample of length 0. Source: Lu et al. 2023 (arXiv 2206.01251).
    """
    directions = unit(_drawn(h, seed, samples).double()).float()
    n = len(directions)
    expect(bool(directions.any(1).all()), "h", "samples that have a direction", "a sample of length 0")
    clusters = int(n**0.5) if clusters is None else clusters
    whole = isinstance(clusters, int) and 1 <= clusters <= n // 2
    expect(whole, "clusters", f"at least 1 and at most half of {n} samples", clusters)
    label = kmeans(directions, clusters, seed)
    known, asked = directions[: n // 2], directions[n // 2 :]  # in an order that was drawn
    nearest = torch.cat([(part @ known.T).argmax(1) for part in asked.split(ROWS)])
    return float((label[nearest] == label[n // 2 :]).double().mean())


def intrinsic_dimension(h: Tensor, seed: int = 0, *, samples: int = SAMPLES) -> float:
    """Dimension of the manifold that features h [N,d] lie on, from the distances to their two nearest neighbours.

    Ratios μ = r₂ / r₁ have the distribution F(μ) = 1 − μ^−D; D is the slope through the origin of −log(1 − F) on log μ
    over the 90 % smallest. Samples that equal another are counted once. ``ValueError`` for fewer than 3 different
    samples, or where all ratios are 1, as on a grid. Source: Facco et al. 2017 (TwoNN).
    """
    points = scaled(_drawn(h, seed, samples).double()).unique(dim=0)
    n = len(points)
    expect(n >= 3, "h", "at least 3 different samples", n)
    points = points - points.mean(0)
    near = _nearest(points, 2)  # in float64, in which products tell near distances
    first, second = ((points - points[near[:, k]]).norm(dim=1) for k in (0, 1))
    ratio = (second / first).log().sort().values
    kept = max(1, int(KEPT * n))
    x, y = ratio[:kept], -torch.log1p(-torch.arange(1, kept + 1, dtype=torch.double, device=h.device) / n)
    expect(bool(x.any()), "h", "samples at different distances from their neighbours", "equal distances")
    return float(x @ y / (x @ x))


def knn_agreement(z1: Tensor, z2: Tensor, *, k: int = 10, samples: int = SAMPLES, seed: int = 0) -> float:
    """Mean share of the k nearest neighbours that a sample has in both views z1, z2 [N,d1], [N,d2], by cosine.

    1 where views agree, about k / (N − 1) where they have nothing in common: so N belongs to the number.
    ``ValueError`` as ``neighbour_overlap``.
    """
    expect_features(z1, "z1")
    expect_features(z2, "z2")
    expect_shape(z2, "z2", len(z1), "d")
    overlap = neighbour_overlap(_drawn(z1, seed, samples, "z1"), _drawn(z2, seed, samples, "z2"), k=k)
    return float(overlap.double().mean())


def neighbour_overlap(z1: Tensor, z2: Tensor, *, k: int = 10) -> Tensor:
    """The share [N] of its k nearest neighbours that each sample has in both views z1, z2 [N,d1], [N,d2], by cosine.

    ``ValueError`` for shapes that do not fit, or k that is not in 1..N−1.
    """
    expect_features(z1, "z1")
    expect_features(z2, "z2")
    expect_shape(z2, "z2", len(z1), "d")
    expect(
        isinstance(k, int) and 1 <= k < len(z1),
        "k",
        f"at least 1 and fewer than the {len(z1)} samples",
        k,
    )
    first, second = (_nearest(unit(z.detach().double()).float(), k) for z in (z1, z2))  # N×k
    return (first[:, :, None] == second[:, None]).any(2).float().mean(1)


def kmeans(points: Tensor, clusters: int, seed: int = 0) -> Tensor:
    """Cluster [N] of each of the points [N,d], by Lloyd's steps from centres that are drawn far from one another.

    Ends when no point changes its cluster, or after 100 steps. Source: Arthur and Vassilvitskii 2007 (k-means++).
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(points), (), generator=generator))]
    away = torch.full((len(points),), torch.inf, device=points.device)
    for _ in range(clusters - 1):
        away = torch.minimum(away, (points - points[chosen[-1]]).square().sum(1))
        share = away.cpu() if bool(away.any()) else torch.ones(len(points))  # where fewer points differ
        chosen.append(int(torch.multinomial(share, 1, generator=generator)))
    centers, label = points[chosen], None
    for _ in range(ITERATIONS):
        previous, label = label, (points @ centers.T - centers.square().sum(1) / 2).argmax(1)
        if previous is not None and torch.equal(previous, label):
            break
        counts = label.bincount(minlength=clusters)[:, None]
        sums = torch.zeros_like(centers).index_add_(0, label, points)
        centers = torch.where(counts > 0, sums / counts.clamp(min=1), centers)
    return label


def _nearest(points: Tensor, k: int) -> Tensor:
    """Indices [N,k] of each point's nearest others, the nearest first."""
    square, start, found = points.square().sum(1), 0, []
    for part in points.split(ROWS):
        squared = square - 2 * part @ points.T  # and the square of each row's own, which does not change the order
        own = torch.arange(len(part), device=points.device)
        squared[own, own + start] = torch.inf
        found.append(squared.topk(k, largest=False).indices)
        start += len(part)
    return torch.cat(found)


def _drawn(h: Tensor, seed: int, samples: int, name: str = "h") -> Tensor:
    """At most ``samples`` of h [N,d] in an order that is drawn."""
    expect_features(h, name)
    expect(isinstance(samples, int) and samples >= 3, "samples", "at least 3", samples)
    expect(len(h) >= 3, name, "at least 3 samples", len(h))
    order = torch.randperm(len(h), generator=torch.Generator().manual_seed(seed))[:samples]
    return h.detach()[order.to(h.device)]
