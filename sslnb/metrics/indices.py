"""Indices of the similarity of two representations of the same samples, all with one interface.

Each takes features x [N,d1] and y [N,d2], computes in float64, and gives a scalar: 1 for representations that it cannot
tell apart, near 0 for unrelated ones, and 0 where one of the two does not vary.
"""

from collections.abc import Callable

import torch
from scipy import stats
from torch import Tensor

from sslnb.core.checks import expect, expect_finite, expect_shape
from sslnb.metrics.cka import LEAST, cka_of, linear_cka

RANK = 1e-6  # of the greatest singular value: what is below is rounding, no dimension


def _checked(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 with a mean of 0 per feature."""
    expect_shape(x, "x", "N", "d")
    expect_shape(y, "y", len(x), "d")
    expect(len(x) >= LEAST, "x", f"at least {LEAST} samples", len(x))
    for name, part in {"x": x, "y": y}.items():
        expect_finite(part, name)
    return x.double() - x.double().mean(0), y.double() - y.double().mean(0)


def rbf_cka(x: Tensor, y: Tensor, *, bandwidth: float = 1.0) -> Tensor:
    """CKA with Gaussian kernels, their width ``bandwidth`` times the median distance; biased.

    Source: Kornblith et al. 2019, section 3 and appendix. ``ValueError`` for a bandwidth that is not positive.
    """
    expect(bandwidth > 0, "bandwidth", "a positive value", bandwidth)
    rows = []
    for part in _checked(x, y):
        squared = torch.cdist(part, part).square()
        median = squared[~torch.eye(len(part), dtype=torch.bool)].median()
        kernel = torch.exp(-squared / (2 * bandwidth**2 * median)) if median > 0 else torch.zeros_like(squared)
        rows.append((kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()).flatten())
    rows = torch.stack(rows)
    return cka_of(rows @ rows.T)[0, 1].float()


def _directions(x: Tensor, explained: float = 1.0) -> Tensor:
    """Orthonormal directions [N,r] of centred features, as many as explain that share of their variance."""
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    rank = int((s > RANK * s[0]).sum()) if s[0] > 0 else 0
    share = (s.square().cumsum(0) / s.square().sum().clamp(min=torch.finfo(s.dtype).tiny))[:rank]
    return u[:, : min(rank, int((share < explained - 1e-12).sum()) + 1)]


def _canonical(x: Tensor, y: Tensor) -> Tensor:
    """Canonical correlations of two sets of directions, as many as the smaller has."""
    return torch.linalg.svdvals(x.T @ y).clamp(max=1)


def cca(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared canonical correlation, invariant to every invertible linear map.

    It takes more samples than features, or everything correlates: ``ValueError`` otherwise.
    Source: Kornblith et al. 2019, equation 7, divided by the smaller rank.
    """
    x, y = _checked(x, y)
    features = max(x.shape[1], y.shape[1])
    expect(len(x) > features + 1, "x", f"more samples than the {features} features and one", len(x))
    a, b = _directions(x), _directions(y)
    return _canonical(a, b).square().mean().float() if a.numel() and b.numel() else torch.tensor(0.0)


def svcca(x: Tensor, y: Tensor, *, explained: float = 0.99) -> Tensor:
    """Mean canonical correlation of the directions that explain a share of each one's variance.

    Source: Raghu et al. 2017, section 2. ``ValueError`` for a share outside (0, 1].
    """
    expect(0 < explained <= 1, "explained", "a share in (0, 1]", explained)
    x, y = _checked(x, y)
    a, b = _directions(x, explained), _directions(y, explained)
    expect(max(a.shape[1], b.shape[1]) < len(x) - 1, "x", "more samples than directions that are kept", len(x))
    return _canonical(a, b).mean().float() if a.numel() and b.numel() else torch.tensor(0.0)


def procrustes(x: Tensor, y: Tensor) -> Tensor:
    """Cosine of the angle between two centred representations after the best rotation, 1 − half the squared distance.

    Source: Ding, Denain and Steinhardt 2021, section 2; the Riemannian shape distance of Williams et al. 2021 is its
    arc cosine.
    """
    x, y = _checked(x, y)
    scale = x.norm() * y.norm()
    return ((torch.linalg.svdvals(x.T @ y).sum() / scale) if scale > 0 else scale).float()


def rsa(x: Tensor, y: Tensor) -> Tensor:
    """Rank correlation of the distances between samples (representational similarity analysis).

    Source: Kriegeskorte, Mur and Bandettini 2008, with Euclidean distances, which every sample has.
    """
    distances = [torch.pdist(part) for part in _checked(x, y)]
    if min(float(values.max() - values.min()) for values in distances) <= 0:
        return torch.tensor(0.0)
    return torch.tensor(stats.spearmanr(*(values.numpy() for values in distances)).statistic, dtype=torch.float32)


INDICES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear CKA": linear_cka,
    "RBF CKA": rbf_cka,
    "CCA": cca,
    "SVCCA": svcca,
    "Procrustes": procrustes,
    "RSA": rsa,
}
