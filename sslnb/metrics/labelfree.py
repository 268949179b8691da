"""Numbers about features that need no labels: how many directions they use, and how they lie on the sphere.

Features h are [N,d]. Spectra are taken in float64 from products of features that are read a few rows at a time, so that
memory does not grow with N. Measures of neighbourhoods are in ``sslnb.metrics.neighbourhoods``.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_features, expect_finite, expect_real, expect_shape
from sslnb.core.numerics import scaled, unit
from sslnb.metrics.qscore import activation_rate, discriminative, q_score

ROWS = 4096  # read at a time for products: 64 MiB of float64 at 2,048 features
FEW = 256  # read at a time for sums: they stay in a processor's cache
BLOCK = 1024  # of pairwise distances at a time
COLUMNS = 512  # of a symmetric product at a time
WIDEST = 32_768  # features: products of all pairs are held in float64
GROUP = 4096  # samples among which all pairs are compared
# Of the greatest singular value. Features are float32: what is below their rounding is no direction. It is also what
# float64 leaves of a singular value that was squared.
FLOOR = torch.finfo(torch.float32).eps


class Spectral(NamedTuple):
    """The three measures of a spectrum; each is explained where it has a function of its own."""

    rankme: float
    alpha_req: float
    nesum: float


def spectral(h: Tensor) -> Spectral:
    """RankMe, α-ReQ and NESum of features h [N,d] from one reading of them. ``ValueError`` as ``alpha_req``."""
    raw, centred = _grams(h)
    variances = _eigenvalues(centred)
    return Spectral(_effective_number(_eigenvalues(raw).sqrt()), _decay(variances), _sum_over_greatest(variances))


def rankme(h: Tensor) -> float:
    """Effective rank of features h [N,d]: exp(−Σ p_k log p_k), p_k = σ_k / Σ σ, of their singular values σ.

    1 where all features are multiples of one, or 0; at most min(N, d). Not centred. 0 log 0 is 0, where the paper adds
    1e-7 to every p_k. ``ValueError`` for other shapes or values that are not finite. Source: Garrido et al. 2023
    (arXiv 2210.02885), equation 1.
    """
    return _effective_number(_eigenvalues(_grams(h)[0]).sqrt())


def alpha_req(h: Tensor) -> float:
    """α of the power law λ_j ∝ j^−α that the covariance's eigenvalues of features h [N,d] follow.

    0 for isotropic features, larger the fewer directions carry the variance. Least squares of log λ_j on log j, over
    all eigenvalues above rounding. ``ValueError`` where features vary in fewer than two directions, which determine no
    slope. Source: Agrawal et al. 2022 (α-ReQ).
    """
    return _decay(_eigenvalues(_grams(h)[1]))


def nesum(h: Tensor) -> float:
    """Normalised sum of eigenvalues Σ λ_j / λ_1 of the covariance of features h [N,d].

    d for isotropic features, 1 where they vary along one line, 0 where they do not vary. ``ValueError`` for other
    shapes or values that are not finite. Source: He and Ozay 2022, definition 4.1.
    """
    return _sum_over_greatest(_eigenvalues(_grams(h)[1]))


def lidar(views: Tensor, *, delta: float = 1e-4) -> float:
    """Effective rank of the directions that tell images apart better than views of one: of views [N,V,d], V per image.

    exp(−Σ p_k log p_k), p_k = λ_k / Σ λ, of the eigenvalues λ of Σ_w^−½ Σ_b Σ_w^−½: Σ_b is the covariance of the
    images' means, Σ_w that of views about them plus δ·I. At most min(N − 1, d); 1 where images do not differ. δ is in
    squared units of the features, so that their scale matters where views hardly differ. The paper takes 1,000 images
    with 50 views each. ``ValueError`` for fewer than 2 images or views, or δ that is not positive.
    Source: Thilak et al. 2024 (arXiv 2312.04000).
    """
    expect_real(views, "views")
    expect_shape(views, "views", "N", "V", "d")
    n, v, d = views.shape
    whole = n >= 2 and v >= 2 and d >= 1
    expect(whole, "views", "at least 2 images with 2 views each, of some features", list(views.shape))
    expect(delta > 0, "delta", "a positive value", delta)
    _expect_narrow(d, "views")
    expect_finite(views, "views")
    views = views.detach()
    within, means = torch.zeros(d, d, dtype=torch.double, device=views.device), []
    for part in views.split(max(1, ROWS // v)):
        means.append(part.double().mean(1))
        about = (part.double() - means[-1][:, None]).flatten(0, 1)
        _add_products(within, about)
    within = _mirrored(within) / (n * (v - 1)) + delta * torch.eye(d, dtype=torch.double, device=views.device)
    means = torch.cat(means)
    means = (means - means.mean(0)) / math.sqrt(n - 1)
    # L⁻¹ Σ_b L⁻ᵀ with Σ_w = L Lᵀ has the eigenvalues of Σ_w^−½ Σ_b Σ_w^−½.
    factor, failed = torch.linalg.cholesky_ex(within)
    expect(not int(failed), "views", f"features in whose square delta={delta:g} is above rounding", "larger ones")
    whitened = torch.linalg.solve_triangular(factor, means.T, upper=False).T
    return _effective_number(_eigenvalues(whitened.T @ whitened if n > d else whitened @ whitened.T))


def uniformity(z: Tensor, *, t: float = 2.0, seed: int = 0) -> float:
    """log of the mean of exp(−t·‖z_i − z_j‖²) over pairs of unit-length features z [N,d]; lower is more uniform.

    0 where all are alike; at least −4t; −2t·N/(N − 1) for a simplex. Of more than 4,096 samples, pairs are compared
    within equal groups in an order drawn by ``seed``: every sample counts, and the number was within 1e-4 of that over
    all pairs of 16,000 samples, as a share. ``ValueError`` for fewer than 2 samples, a sample of length 0, or t outside
    (0, 20]. Source: Wang and Isola 2020, section 4.1.
    """
    _expect_directions(z, "z")
    expect(len(z) >= 2, "z", "at least 2 samples", len(z))
    expect(0 < t <= 20, "t", "a value in (0, 20], at which float32 holds exp(−4t)", t)
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))
    total, pairs = 0.0, 0
    for group in order.tensor_split(math.ceil(len(z) / GROUP)):
        among = unit(z.detach()[group.to(z.device)].double()).float()
        for start in range(0, len(among), BLOCK):
            rows = among[start : start + BLOCK]
            squared = (2 - 2 * rows @ among[start:].T).clamp_(min=0).fill_diagonal_(torch.inf)  # each with itself: none
            own, later = squared.mul_(-t).exp_().tensor_split([len(rows)], 1)
            total += float(own.sum(dtype=torch.double) + 2 * later.sum(dtype=torch.double))
        pairs += len(among) * (len(among) - 1)
    return math.log(total / pairs)


def alignment(z1: Tensor, z2: Tensor, *, power: float = 2.0) -> float:
    """Mean of ‖z1_i − z2_i‖^power over pairs of views z1, z2 [N,d], scaled to unit length; lower is more alike.

    0 for equal directions, 2 on average for independent ones (power 2), at most 4. ``ValueError`` for shapes that
    differ, no samples, a sample of length 0, or a power outside (0, 100]. Source: Wang and Isola 2020,
    section 4.1.
    """
    _expect_directions(z1, "z1")
    _expect_directions(z2, "z2")
    expect_shape(z2, "z2", *z1.shape)
    expect(0 < power <= 100, "power", "a value in (0, 100]", power)
    pairs = zip(_parts(z1, FEW), _parts(z2, FEW), strict=True)
    total = sum(float((unit(a) - unit(b)).norm(dim=1).pow(power).sum()) for a, b in pairs)
    return total / len(z1)


def feature_deviation(h: Tensor) -> float:
    """Mean deviation of unit-length features h [N,d] times √d: 0 when all are alike, 1 when they spread evenly.

    Source: Chen and He 2021 (SimSiam), section 4.1 and figure 2.
    """
    expect_features(h, "h")
    total = square = torch.zeros(h.shape[1], dtype=torch.double, device=h.device)
    first = unit(h[:1].detach().double())  # what varies is summed about a sample: no cancellation where all are alike
    for part in _parts(h, FEW):
        about = unit(part) - first
        total, square = total + about.sum(0), square + about.square().sum(0)
    variance = (square / len(h) - (total / len(h)).square()).clamp(min=0)
    return float(variance.sqrt().mean()) * math.sqrt(h.shape[1])


def mean_q_score(h: Tensor, *, epsilon: float = 4.0) -> float:
    """Mean quality score of features h [N,d], over the features that are discriminative among themselves.

    ``ValueError`` where no feature is highly activating at this ε. Source: Kalibhat et al. 2024, equation 1.
    """
    expect_features(h, "h")
    rate = activation_rate(h.detach(), epsilon)
    expect(bool(rate.any()), "h", f"features that stand out by {epsilon} deviations in some sample", "none")
    return float(q_score(h.detach(), discriminative(rate), epsilon).double().mean())


def _grams(h: Tensor) -> tuple[Tensor, Tensor]:
    """Σ h hᵀ and Σ (h − μ)(h − μ)ᵀ [d,d] in one reading, in float64.

    Sums are about the mean c of the first rows: with δ = h − c, the second is Σ δδᵀ − N δ̄δ̄ᵀ, which cancels little.
    """
    expect_features(h, "h")
    _expect_narrow(h.shape[1], "h")
    h = scaled(h.detach())  # all measures of a spectrum are of its shape alone
    n, c = len(h), h[:ROWS].double().mean(0)
    gram, total = torch.zeros(h.shape[1], h.shape[1], dtype=torch.double, device=h.device), torch.zeros_like(c)
    for part in _parts(h, ROWS):
        about = part - c
        _add_products(gram, about)
        total += about.sum(0)
    gram = _mirrored(gram)
    cross = torch.outer(total, c)
    centred = gram - torch.outer(total, total) / n
    rounding = n * (FLOOR * (c + total / n)).square().sum()  # of features that are all alike
    return gram + cross + cross.T + n * torch.outer(c, c), centred * (centred.trace() > rounding)


def _add_products(gram: Tensor, rows: Tensor) -> None:
    """Add Σ row rowᵀ of rows [N,d] to a matrix [d,d], above its diagonal: five eighths of the work at d = 2,048."""
    for k in range(0, rows.shape[1], COLUMNS):
        gram[k : k + COLUMNS, k:] += rows[:, k : k + COLUMNS].T @ rows[:, k:]


def _mirrored(gram: Tensor) -> Tensor:
    """The symmetric matrix of which this has what is above the diagonal."""
    return gram.triu() + gram.triu(1).T


def _eigenvalues(gram: Tensor) -> Tensor:
    """Eigenvalues of a Gram matrix, falling; 0 where the singular value is below rounding."""
    values = torch.linalg.eigvalsh(gram).flip(0)
    return values * (values > FLOOR**2 * values[0])


def _decay(values: Tensor) -> float:
    """Minus the slope of log λ_j on log j, over those above 0."""
    values = values[values > 0]
    expect(len(values) >= 2, "h", "features that vary in at least 2 directions", len(values))
    x = torch.arange(1, len(values) + 1, dtype=torch.double, device=values.device).log()
    x = x - x.mean()
    return -float(x @ values.log() / (x @ x))


def _sum_over_greatest(values: Tensor) -> float:
    return float(values.sum() / values[0]) if values[0] > 0 else 0.0


def _effective_number(values: Tensor) -> float:
    """exp of the entropy of the values' shares; 1 where all values are 0."""
    shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return float(torch.special.entr(shares).sum().exp())


def _parts(h: Tensor, rows: int) -> Iterator[Tensor]:
    """So many rows at a time, in float64."""
    return (part.double() for part in h.detach().split(rows))


def _expect_narrow(d: int, name: str) -> None:
    expect(d <= WIDEST, name, f"at most {WIDEST:,} features, whose products take 8 GB", d)


def _expect_directions(z: Tensor, name: str) -> None:
    expect_features(z, name)
    expect(bool(z.any(1).all()), name, "samples that have a direction", "a sample of length 0")
