"""Indices of the similarity of two representations of the same samples, all with one interface.

Each takes features x [N,d1] and y [N,d2], computes in float64, and gives a scalar: 1 for representations that it cannot
tell apart, near 0 for unrelated ones, 0 where one of the two does not vary, and NaN where the index is not defined.
"""

import math
from collections.abc import Callable

import scipy
import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_finite, expect_real, expect_shape
from sslnb.core.numerics import ROUNDING, centred, rounding
from sslnb.metrics.cka import LEAST, cka_of, linear_cka

EPSILON = ROUNDING[torch.double]  # of what is computed in float64


def _checked(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 with a mean of 0 per feature, up to a factor each; 0 where they do not vary."""
    expect_shape(x, "x", "N", "d")
    expect_shape(y, "y", len(x), "d")
    expect(len(x) >= LEAST, "x", f"at least {LEAST} samples", len(x))
    for name, part in {"x": x, "y": y}.items():
        expect_real(part, name)
        expect_finite(part, name)
    return centred(x), centred(y)


def rbf_cka(x: Tensor, y: Tensor, *, bandwidth: float = 1.0) -> Tensor:
    """CKA with Gaussian kernels, their width ``bandwidth`` times the median distance; biased.

    NaN where the median distance is 0, since most samples are alike, and where the kernel is so wide that all samples
    look alike. Source: Kornblith et al. 2019, section 3 and appendix. ``ValueError`` for a bandwidth that is not
    positive.
    """
    expect(0 < bandwidth < math.inf, "bandwidth", "a positive value", bandwidth)
    kernels = [_gaussian_kernel(part, bandwidth) for part in _checked(x, y)]
    rows = torch.stack([(k - k.mean(0) - k.mean(1, keepdim=True) + k.mean()).flatten() for k in kernels])
    # Entries of a kernel are rounded at 1; where features do not vary it is 0, and so is the index.
    least = torch.stack([(EPSILON * len(x)) ** 2 * k.any() for k in kernels])
    return cka_of(rows @ rows.T, least)[0, 1].float()


def _gaussian_kernel(x: Tensor, bandwidth: float) -> Tensor:
    """Kernel [N,N] of centred features; 0 where they do not vary, NaN where the median distance is 0."""
    squared = torch.cdist(x, x).square()
    if not x.any():
        return squared
    median = squared[~torch.eye(len(x), dtype=torch.bool, device=x.device)].median()
    # Distances of large sets come from products, which are right to rounding in the largest length.
    median = torch.where(median > EPSILON * x.square().sum(1).max(), median, torch.nan)
    return torch.exp(-squared / (2 * bandwidth**2 * median))


def _directions(x: Tensor, least: float, explained: float = 1.0) -> Tensor:
    """Orthonormal directions [N,r] of centred features, as many as explain that share of their variance.

    Singular values below ``least`` of the greatest are rounding, no dimension.
    """
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    rank = int((s > least * s[0]).sum()) if len(s) and s[0] > 0 else 0
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
    a, b = _checked(x, y)
    features = max(x.shape[1], y.shape[1])
    expect(len(x) > features + 1, "x", f"more samples than the {features} features and one", len(x))
    a, b = _directions(a, rounding(x.dtype)), _directions(b, rounding(y.dtype))
    return _canonical(a, b).square().mean().float() if a.numel() and b.numel() else torch.tensor(0.0)


def svcca(x: Tensor, y: Tensor, *, explained: float = 0.99) -> Tensor:
    """Mean canonical correlation of the directions that explain a share of each one's variance.

    Source: Raghu et al. 2017, section 2. ``ValueError`` for a share outside (0, 1].
    """
    expect(0 < explained <= 1, "explained", "a share in (0, 1]", explained)
    a, b = _checked(x, y)
    a, b = _directions(a, rounding(x.dtype), explained), _directions(b, rounding(y.dtype), explained)
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

    NaN where all samples of one are equally far from each other. Source: Kriegeskorte, Mur and Bandettini 2008, with
    Euclidean distances, which every sample has.
    """
    distances = [torch.pdist(part) for part in _checked(x, y)]
    if not all(values.any() for values in distances):
        return torch.tensor(0.0)
    # Distances that differ by rounding are equal: one-hot features have three of them, not thousands.
    ranked = [(values / (EPSILON * values.max())).round().numpy(force=True) for values in distances]
    if any(values.max() == values.min() for values in ranked):
        return torch.tensor(torch.nan)
    return torch.tensor(scipy.stats.spearmanr(*ranked).statistic, dtype=torch.float32)


INDICES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear CKA": linear_cka,
    "RBF CKA": rbf_cka,
    "CCA": cca,
    "SVCCA": svcca,
    "Procrustes": procrustes,
    "RSA": rsa,
}
