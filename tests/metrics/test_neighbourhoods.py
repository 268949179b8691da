import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch import Tensor

from sslnb.metrics import neighbourhoods
from sslnb.metrics.neighbourhoods import (
    clid,
    cluster_learnability,
    intrinsic_dimension,
    kmeans,
    knn_agreement,
    neighbour_overlap,
)

few = settings(deadline=None, max_examples=15)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shuffled(h: Tensor, seed: int = 0) -> Tensor:
    return h[torch.randperm(len(h), generator=torch.Generator().manual_seed(seed))]


def naive_dimension(h: Tensor) -> float:
    """Facco et al. 2017: ratios of the two least distances, and a line through the origin."""
    points = [
        row for i, row in enumerate(h.double()) if not any(bool((row == other).all()) for other in h.double()[:i])
    ]
    ratios = []
    for i, point in enumerate(points):
        distances = sorted(float((point - other).norm()) for j, other in enumerate(points) if j != i)
        ratios.append(distances[1] / distances[0])
    n, x, y = len(ratios), [], []
    for i, ratio in enumerate(sorted(ratios)[: int(0.9 * n)]):
        x.append(math.log(ratio))
        y.append(-math.log(1 - (i + 1) / n))
    return float(np.dot(x, y) / np.dot(x, x))


def naive_learnability(h: Tensor, clusters: int, seed: int = 0) -> float:
    unit = F.normalize(shuffled(h, seed).double(), dim=1)
    label = kmeans(F.normalize(shuffled(h, seed), dim=1), clusters, seed).tolist()
    half, right = len(unit) // 2, 0
    for i in range(half, len(unit)):
        nearest = max(range(half), key=lambda j: float(unit[i] @ unit[j]))
        right += label[nearest] == label[i]
    return right / (len(unit) - half)


def naive_overlap(z1: Tensor, z2: Tensor, k: int) -> list[float]:
    shares = []
    for i in range(len(z1)):
        near = []
        for z in (z1.double(), z2.double()):
            cosine = [float(z[i] @ other / z[i].norm() / other.norm()) for other in z]
            near.append(set(sorted((j for j in range(len(z)) if j != i), key=lambda j: -cosine[j])[:k]))
        shares.append(len(near[0] & near[1]) / k)
    return shares


@given(seed=st.integers(0, 2**31), n=st.integers(12, 40), d=st.integers(2, 6))
@few
def test_measures_of_neighbours_equal_naive_ones(seed, n, d):
    h, other = draw(n, d, seed=seed), draw(n, d + 1, seed=seed + 1)
    assert intrinsic_dimension(h) == pytest.approx(naive_dimension(h), rel=1e-4)
    assert cluster_learnability(h, 3) == pytest.approx(naive_learnability(h, int(n**0.5), 3))
    assert neighbour_overlap(h, other, k=4).tolist() == pytest.approx(naive_overlap(h, other, 4))
    expected = cluster_learnability(h, 5) + intrinsic_dimension(h, 5) / d
    assert clid(h, seed=5) == pytest.approx(expected)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_the_dimension_is_that_of_the_manifold_whatever_the_space(dimension):
    uniform = torch.rand(3000, dimension, generator=torch.Generator().manual_seed(0))
    embedded = uniform @ draw(dimension, 40, seed=1) + 3
    found = intrinsic_dimension(embedded)
    assert found == pytest.approx(dimension, rel=0.1)
    rotation = torch.linalg.qr(draw(40, 40, seed=2)).Q
    assert intrinsic_dimension(-7 * (embedded.double() @ rotation.double()) + 1) == pytest.approx(found, rel=1e-3)
    curved = torch.cat([embedded, embedded.sin()], 1)
    assert intrinsic_dimension(curved) == pytest.approx(dimension, rel=0.25)


def test_duplicated_samples_count_once_and_near_ones_are_told_apart():
    h = draw(300, 4)
    assert intrinsic_dimension(torch.cat([h, h, h[:7]])) == pytest.approx(intrinsic_dimension(h), rel=1e-6)
    pairs = torch.cat([h, h + 1e-5 * draw(300, 4, seed=1)]).double() + 100  # within float32's rounding of products
    assert intrinsic_dimension(pairs) == pytest.approx(naive_dimension(pairs), rel=1e-2)


@pytest.mark.parametrize(
    ("h", "says"),
    [
        (torch.ones(20, 3), "h: expected at least 3 different samples, got 1"),
        (torch.eye(3)[torch.arange(20) % 2], "h: expected at least 3 different samples, got 2"),
        (
            torch.arange(40.0)[:, None] * torch.ones(3),
            "h: expected samples at different distances from their neighbours",
        ),
        (torch.ones(2, 3), "h: expected at least 3 samples, got 2"),
    ],
)
def test_a_dimension_that_is_not_determined_is_refused(h, says):
    with pytest.raises(ValueError, match=says):
        intrinsic_dimension(h)


def test_clusters_that_are_far_apart_are_learnable_and_those_of_noise_less():
    centres = torch.eye(10, 32)
    apart = centres[torch.arange(400) % 10] + 0.01 * draw(400, 32)
    assert cluster_learnability(apart, clusters=10) == 1
    assert cluster_learnability(draw(400, 32), clusters=10) < 0.6
    assert cluster_learnability(draw(400, 32), clusters=1) == 1
    assert clid(apart) > clid(torch.cat([apart[:200], 100 * apart[200:]])) - 1  # lengths do not matter to clusters
    scaled = apart * (0.1 + torch.rand(400, 1, generator=torch.Generator().manual_seed(0)))
    assert cluster_learnability(scaled, clusters=10) == 1


def test_clusters_are_a_fixed_point_about_as_good_as_scikit_learns():
    points = torch.from_numpy(load_digits().data).float()
    label = kmeans(points, 10)
    means = torch.stack([points[label == k].mean(0) for k in range(10)])
    assert torch.equal(torch.cdist(points, means).argmin(1), label)
    inertia = [float((points - means[label]).square().sum())]
    inertia += [KMeans(10, n_init=1, random_state=seed).fit(points.numpy()).inertia_ for seed in range(5)]
    assert inertia[0] < 1.03 * max(inertia[1:])
    assert not torch.equal(kmeans(points, 10, seed=1), label) and torch.equal(kmeans(points, 10), label)


def test_fewer_different_points_than_clusters_leave_clusters_empty():
    points = torch.eye(3)[torch.arange(30) % 3]
    label = kmeans(points, 7)
    assert len(label.unique()) == 3 and all(len(label[points[:, k] == 1].unique()) == 1 for k in range(3))


def test_the_seed_draws_the_samples_and_the_same_gives_the_same():
    h = draw(500, 6)
    assert clid(h, 1, samples=200) == clid(h, seed=1, samples=200) != clid(h, 2, samples=200)
    assert intrinsic_dimension(h, 1, samples=200) == intrinsic_dimension(shuffled(h, 1)[:200])
    assert knn_agreement(h, h + 1, seed=1, samples=200) != knn_agreement(h, h + 1, seed=2, samples=200)


def test_views_that_agree_share_all_neighbours_and_independent_ones_as_many_as_chance():
    z = draw(400, 8)
    rotation = torch.linalg.qr(draw(8, 8, seed=2)).Q
    assert neighbour_overlap(z, 5 * z @ rotation).tolist() == [1] * 400
    assert knn_agreement(z, draw(400, 8, seed=1), k=20) == pytest.approx(20 / 399, abs=0.01)
    assert knn_agreement(z, z + 0.3 * draw(400, 8, seed=1)) > 0.3
    assert knn_agreement(z, draw(400, 3), k=399) == 1


def test_neighbours_are_found_in_parts(monkeypatch):
    z, other = draw(90, 5), draw(90, 5, seed=1)
    whole = neighbour_overlap(z, other), intrinsic_dimension(z), cluster_learnability(z)
    monkeypatch.setattr(neighbourhoods, "ROWS", 7)
    assert torch.equal(neighbour_overlap(z, other), whole[0])
    assert (intrinsic_dimension(z), cluster_learnability(z)) == whole[1:]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: clid(torch.ones(5)), r"h: expected shape \[N, d\], got shape \[5\]"),
        (lambda: clid(draw(9, 2), samples=2), "samples: expected at least 3, got 2"),
        (
            lambda: cluster_learnability(draw(9, 2), clusters=5),
            "clusters: expected at least 1 and at most half of 9",
        ),
        (lambda: cluster_learnability(torch.zeros(9, 2)), "h: expected samples that have a direction"),
        (lambda: knn_agreement(draw(9, 2), draw(8, 2)), r"z2: expected shape \[9, d\], got shape \[8, 2\]"),
        (
            lambda: neighbour_overlap(draw(9, 2), draw(9, 2), k=9),
            "k: expected at least 1 and fewer than the 9 samples",
        ),
        (
            lambda: neighbour_overlap(draw(9, 2), draw(9, 2), k=0),
            "k: expected at least 1 and fewer than the 9 samples",
        ),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
