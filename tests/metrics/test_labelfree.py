"""Label-free measures against naive float64 versions, published special cases, invariances, and ssrlib."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sslnb import metrics
from sslnb.metrics import labelfree, neighbourhoods
from sslnb.metrics.labelfree import (
    alignment,
    alpha_req,
    feature_deviation,
    lidar,
    mean_q_score,
    nesum,
    rankme,
    spectral,
    uniformity,
)
from sslnb.metrics.qscore import activation_rate, discriminative, q_score

few = settings(deadline=None, max_examples=15)
SPECTRAL = {"rankme": rankme, "alpha_req": alpha_req, "nesum": nesum}
every_spectral = pytest.mark.parametrize("name", SPECTRAL)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def decaying(n: int, d: int, power: float = 1.0, seed: int = 0) -> Tensor:
    """Features whose covariance has exactly the eigenvalues j^−power, about a mean that is not 0."""
    centred = draw(n, d, seed=seed).double()
    u = torch.linalg.qr(centred - centred.mean(0)).Q
    rotation = torch.linalg.qr(draw(d, d, seed=seed + 1).double()).Q
    return u * torch.arange(1, d + 1).double().pow(-power / 2) @ rotation + 0.3


def rotated(h: Tensor, seed: int = 3) -> Tensor:
    return h @ torch.linalg.qr(draw(h.shape[-1], h.shape[-1], seed=seed).double()).Q.to(h.dtype)


# The papers' equations in NumPy's float64, by singular values of the matrix itself or one sample after another


def naive_entropy_rank(values: np.ndarray) -> float:
    return math.exp(-sum(v / values.sum() * math.log(v / values.sum()) for v in values if v > 0))


def naive_rankme(h: Tensor) -> float:
    return naive_entropy_rank(np.linalg.svd(h.double().numpy(), compute_uv=False))


def naive_eigenvalues(h: Tensor) -> np.ndarray:
    values = np.linalg.eigvalsh(np.atleast_2d(np.cov(h.double().numpy().T)))[::-1]
    return values[values > 1e-13 * values[0]]


def naive_alpha_req(h: Tensor) -> float:
    values = naive_eigenvalues(h)
    return -float(np.polyfit(np.log(np.arange(len(values)) + 1), np.log(values), 1)[0])


def naive_nesum(h: Tensor) -> float:
    values = naive_eigenvalues(h)
    return sum(values / values[0])


def naive_lidar(views: Tensor, delta: float = 1e-4) -> float:
    x = views.double().numpy()
    n, v, d = x.shape
    means = x.mean(1)
    between, within = np.zeros((d, d)), delta * np.eye(d)
    for i in range(n):
        between += np.outer(means[i] - means.mean(0), means[i] - means.mean(0)) / (n - 1)
        for j in range(v):
            within += np.outer(x[i, j] - means[i], x[i, j] - means[i]) / (n * (v - 1))
    values, vectors = np.linalg.eigh(within)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    found = np.linalg.eigvalsh(root @ between @ root)
    return naive_entropy_rank(found[found > 1e-12 * found[-1]])


def naive_uniformity(z: Tensor, t: float = 2.0) -> float:
    unit = [row / row.norm() for row in z.double()]
    terms = [math.exp(-t * float((a - b).square().sum())) for i, a in enumerate(unit) for b in unit[:i]]
    return math.log(sum(terms) / len(terms))


def naive_alignment(z1: Tensor, z2: Tensor, power: float = 2.0) -> float:
    pairs = zip(z1.double(), z2.double(), strict=True)
    return float(np.mean([float((a / a.norm() - b / b.norm()).norm()) ** power for a, b in pairs]))


NAIVE = {"rankme": naive_rankme, "alpha_req": naive_alpha_req, "nesum": naive_nesum}


@every_spectral
@pytest.mark.parametrize(
    "h",
    [
        draw(300, 20),
        draw(20, 60) + 5,
        decaying(200, 40, 2.0).float(),
        torch.relu(draw(500, 30) @ draw(30, 30, seed=1)),
        torch.cat([draw(5000, 6), draw(5000, 6, seed=1) @ draw(6, 6) + 30]),
        1e-4 * draw(100, 8) @ torch.diag(torch.logspace(0, -4, 8)) + 1e-3,
    ],
    ids=["isotropic", "fewer samples than features", "power law", "after a ReLU", "sorted by class", "small"],
)
def test_spectral_measures_equal_naive_ones(name, h):
    assert SPECTRAL[name](h) == pytest.approx(NAIVE[name](h), rel=1e-4)
    assert getattr(spectral(h), name) == SPECTRAL[name](h)


@every_spectral
def test_spectra_are_read_in_parts(name, monkeypatch):
    h = draw(103, 12) @ draw(12, 12, seed=1)
    whole = SPECTRAL[name](h)
    monkeypatch.setattr(labelfree, "ROWS", 10)
    monkeypatch.setattr(labelfree, "COLUMNS", 5)
    assert SPECTRAL[name](h) == pytest.approx(whole, rel=1e-10)


@every_spectral
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3))
@few
def test_spectral_measures_ignore_order_scale_rotation_and_duplicates(name, seed, scale):
    measure, h = SPECTRAL[name], decaying(30, 6, 1.5, seed)
    expected = measure(h)
    for changed in (h.flip(0), scale * h, rotated(h, seed), torch.cat([h, h])):
        assert measure(changed) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.5])
def test_a_power_law_has_its_exponent_and_a_shift_is_seen_by_rankme_alone(power):
    h = decaying(300, 50, power)
    assert alpha_req(h) == pytest.approx(power, rel=1e-6)
    harmonic = sum(j**-power for j in range(1, 51))
    assert nesum(h) == pytest.approx(harmonic, rel=1e-6)
    for measure in (alpha_req, nesum):
        assert measure(h + 7) == pytest.approx(measure(h), rel=1e-5)
    assert rankme(h + 7) < 0.5 * rankme(h - h.mean(0))


def test_isotropic_features_use_all_directions_and_those_on_a_line_one():
    h = draw(50_000, 8)
    assert rankme(h) == pytest.approx(8, rel=1e-3) and nesum(h) == pytest.approx(8, rel=0.03)
    assert alpha_req(h) == pytest.approx(0, abs=0.02)
    exact = decaying(100, 8, 0.0)
    assert nesum(exact) == pytest.approx(8) and alpha_req(exact) == pytest.approx(0, abs=1e-9)
    line = draw(100, 1) @ draw(1, 8, seed=1)
    assert rankme(line) == pytest.approx(1, rel=1e-5) and nesum(line) == pytest.approx(1, rel=1e-5)
    with pytest.raises(ValueError, match="h: expected features that vary in at least 2 directions, got 1"):
        alpha_req(line)


@pytest.mark.parametrize("h", [torch.full((40, 5), 2.3), torch.zeros(40, 5), torch.ones(1, 5)], ids=repr)
def test_features_that_do_not_vary_have_the_documented_values(h):
    assert rankme(h) == pytest.approx(1) and nesum(h) == 0
    with pytest.raises(ValueError, match="h: expected features that vary in at least 2 directions, got 0"):
        alpha_req(h)


def test_the_rank_of_a_rank_one_matrix_is_one_at_the_width_of_a_resnet_50():
    assert rankme(draw(3000, 1) @ draw(1, 512, seed=1)) == pytest.approx(1, rel=1e-4)


# LiDAR


@pytest.mark.parametrize(("n", "v", "d", "noise"), [(40, 6, 8, 0.5), (6, 5, 12, 0.2), (30, 2, 5, 2.0)])
def test_lidar_equals_the_naive_version(n, v, d, noise):
    views = draw(n, 1, d) @ torch.diag(torch.logspace(0, -1, d)) + noise * draw(n, v, d, seed=1)
    for delta in (1e-4, 0.1):
        assert lidar(views, delta=delta) == pytest.approx(naive_lidar(views, delta), rel=1e-4)


def test_lidar_ignores_the_order_of_images_and_views_rotation_and_shift():
    views = draw(30, 1, 6) + 0.3 * draw(30, 5, 6, seed=1)
    expected = lidar(views)
    for changed in (views.flip(0), views.flip(1), rotated(views), views + 4):
        assert lidar(changed) == pytest.approx(expected, rel=1e-4)


def test_lidar_counts_the_directions_in_which_images_differ_by_the_noise_of_their_views():
    images = torch.zeros(4000, 1, 6)
    images[..., :3] = draw(4000, 1, 3) * torch.tensor([1.0, 10.0, 100.0])
    views = images + 1e-2 * images.abs().mean((0, 1)) * draw(4000, 4, 6, seed=1)
    assert lidar(views, delta=1e-9) == pytest.approx(3, rel=0.02)  # whose sizes are told apart by rankme alone
    assert rankme(views.flatten(0, 1)) < 1.6
    line = draw(50, 1, 1) * torch.ones(6) + 1e-3 * draw(50, 4, 6, seed=2)
    assert lidar(line) == pytest.approx(1, abs=0.01)
    assert lidar(torch.ones(20, 3, 4)) == 1  # no image differs from another
    assert lidar(draw(20, 1, 4).expand(20, 3, 4)) > 3  # views that do not differ: δ alone


def test_lidar_is_read_in_parts(monkeypatch):
    views = draw(31, 1, 6) + 0.3 * draw(31, 5, 6, seed=1)
    whole = lidar(views)
    monkeypatch.setattr(labelfree, "ROWS", 23)
    monkeypatch.setattr(labelfree, "COLUMNS", 4)
    assert lidar(views) == pytest.approx(whole, rel=1e-10)


# On the sphere


@given(seed=st.integers(0, 2**31), n=st.integers(2, 12), d=st.integers(1, 6), t=st.floats(0.1, 4))
@few
def test_uniformity_and_alignment_equal_naive_ones_and_ignore_lengths_rotation_and_order(seed, n, d, t):
    z1, z2 = draw(n, d, seed=seed), draw(n, d, seed=seed + 1)
    assert uniformity(z1, t=t) == pytest.approx(naive_uniformity(z1, t), rel=1e-4, abs=1e-5)
    assert alignment(z1, z2, power=t) == pytest.approx(naive_alignment(z1, z2, t), rel=1e-4, abs=1e-7)
    lengths = 0.1 + 10 * torch.rand(n, 1, generator=torch.Generator().manual_seed(seed))
    for change in (lambda z: lengths * z, lambda z: z.flip(0), rotated):
        assert uniformity(change(z1)) == pytest.approx(uniformity(z1), rel=1e-4, abs=1e-5)
        assert alignment(change(z1), change(z2)) == pytest.approx(alignment(z1, z2), rel=1e-4, abs=1e-5)


def test_uniformity_of_collapsed_opposite_simplex_and_even_samples():
    assert uniformity(draw(1, 5).expand(20, 5)) == pytest.approx(0, abs=1e-5)
    assert uniformity(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(-8)
    assert uniformity(torch.tensor([[1.0, 0], [-1, 0]]), t=20) == pytest.approx(-80)  # not lost beside exp(0)
    simplex = torch.eye(9) - 1 / 9
    assert uniformity(simplex) == pytest.approx(-4 * 9 / 8)
    # The infimum over distributions on a circle: −4 + log I₀(4), Wang and Isola 2020, section 4.
    angles = torch.arange(2000) * (2 * math.pi / 2000)
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    assert uniformity(circle) == pytest.approx(-4 + math.log(np.i0(4)), abs=5e-3)
    assert uniformity(draw(3000, 64)) == pytest.approx(-3.87, abs=0.02)


def test_alignment_of_equal_independent_and_opposite_views():
    z = draw(5000, 16)
    assert alignment(z, 3 * z) == pytest.approx(0, abs=1e-10)
    assert alignment(z, -z) == pytest.approx(4)
    assert alignment(z, draw(5000, 16, seed=1)) == pytest.approx(2, abs=0.05)


def test_uniformity_of_many_samples_is_near_that_over_all_pairs(monkeypatch):
    z = torch.cat([draw(2000, 8) + 2, draw(2000, 8, seed=1) - torch.arange(8)])  # sorted by cluster, as files are
    exact = uniformity(z)
    monkeypatch.setattr(labelfree, "GROUP", 1000)
    monkeypatch.setattr(labelfree, "BLOCK", 64)
    grouped = [uniformity(z, seed=seed) for seed in range(5)]
    assert grouped == pytest.approx([exact] * 5, rel=5e-3) and len(set(grouped)) == 5
    assert uniformity(z, seed=0) == grouped[0]


def test_the_deviation_is_read_in_parts_and_equals_the_direct_one(monkeypatch):
    h = draw(57, 6) + 3
    unit = torch.nn.functional.normalize(h.double(), dim=1)
    monkeypatch.setattr(labelfree, "FEW", 10)
    assert feature_deviation(h) == pytest.approx(float(unit.std(0, correction=0).mean()) * 6**0.5, rel=1e-9)


def test_the_mean_quality_score_is_that_of_the_discriminative_features():
    h = torch.relu(draw(200, 64)) ** 4
    expected = q_score(h, discriminative(activation_rate(h, 3.0)), 3.0).mean()
    assert mean_q_score(h, epsilon=3.0) == pytest.approx(float(expected), rel=1e-5)
    assert mean_q_score(5 * h, epsilon=3.0) == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(ValueError, match="h: expected features that stand out by"):
        mean_q_score(torch.ones(10, 8))


# Another implementation


@pytest.mark.parametrize("h", [draw(80, 12) @ draw(12, 12, seed=1), decaying(200, 30, 1.2)], ids=["mixed", "power law"])
def test_spectral_measures_agree_with_ssrlib(h):
    theirs = pytest.importorskip(
        "ssrlib.processing.spectral_quality", reason="ssrlib is not installed: see tests/requirements.txt"
    )
    x = h.double().numpy()
    assert nesum(h) == pytest.approx(theirs.NESumProcessor().process(x)[0], rel=1e-6)
    alpha = theirs.AlphaReQProcessor(max_rank_fraction=1.0).process(x)[0]
    assert alpha_req(h) == pytest.approx(alpha, rel=1e-6)
    # Theirs takes shares of squared singular values, ours as the paper those of singular values: equal for roots.
    u, s, v = np.linalg.svd(x, full_matrices=False)
    rooted = u * np.sqrt(s) @ v
    assert rankme(h) == pytest.approx(theirs.RankMeProcessor(center=False).process(rooted)[0], rel=1e-6)


# Refusals

EVERY: dict[str, Callable[[Tensor], object]] = {
    **SPECTRAL,
    "lidar": lambda h: lidar(h[:, None].expand(-1, 2, -1)),
    "uniformity": uniformity,
    "alignment": lambda h: alignment(h, h),
    "clid": neighbourhoods.clid,
    "cluster_learnability": neighbourhoods.cluster_learnability,
    "intrinsic_dimension": neighbourhoods.intrinsic_dimension,
    "knn_agreement": lambda h: neighbourhoods.knn_agreement(h, h, k=2),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_measure_refuses_what_is_not_finite(name):
    h = draw(12, 3)
    h[4, 1] = math.nan
    with pytest.raises(ValueError, match="expected finite values, got"):
        EVERY[name](h)


@pytest.mark.parametrize("name", EVERY)
def test_every_measure_is_public_and_a_number(name):
    assert getattr(metrics, name) and isinstance(EVERY[name](draw(50, 3)), float)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: rankme(torch.ones(5)), r"h: expected shape \[N, d\], got shape \[5\]"),
        (lambda: nesum(torch.ones(0, 5)), r"h: expected at least one sample and feature, got shape \[0, 5\]"),
        (lambda: alpha_req(torch.ones(5, 0)), r"h: expected at least one sample and feature, got shape \[5, 0\]"),
        (lambda: lidar(torch.ones(5, 4)), r"views: expected shape \[N, V, d\]"),
        (lambda: lidar(torch.ones(1, 4, 3)), "views: expected at least 2 images with 2 views each"),
        (lambda: lidar(torch.ones(4, 1, 3)), "views: expected at least 2 images with 2 views each"),
        (lambda: lidar(torch.ones(4, 2, 3), delta=0.0), "delta: expected a positive value, got 0.0"),
        (lambda: uniformity(torch.ones(1, 3)), "z: expected at least 2 samples, got 1"),
        (lambda: uniformity(torch.zeros(4, 3)), "z: expected samples that have a direction, got a sample of length 0"),
        (lambda: uniformity(torch.ones(4, 3), t=0.0), r"t: expected a value in \(0, 20\], at which .* got 0.0"),
        (lambda: alignment(torch.ones(4, 3), torch.ones(4, 2)), r"z2: expected shape \[4, 3\], got shape \[4, 2\]"),
        (lambda: alignment(torch.ones(4, 3), torch.zeros(4, 3)), "z2: expected samples that have a direction"),
        (lambda: alignment(torch.ones(4, 3), torch.ones(4, 3), power=0.0), "power: expected a value in"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
