import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sslnb.metrics import qscore
from sslnb.metrics.qscore import activation_rate, discriminative, highly_activating, q_score, q_score_penalty


def features(n: int = 40, d: int = 64, seed: int = 0) -> Tensor:
    """Nearly sparse features [n,d]: small ones everywhere, a few large ones."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.rand(n, d, generator=generator) * 0.1
    return h + 3 * (torch.rand(n, d, generator=generator) < 0.02)


# Naive versions, straight from the paper's formulas


def naive_active(h: np.ndarray, epsilon: float) -> np.ndarray:
    out = np.zeros(h.shape, bool)
    for i, row in enumerate(h):
        for j, value in enumerate(row):
            out[i, j] = value > row.mean() + epsilon * row.std()
    return out


def naive_score(h: np.ndarray, mask: np.ndarray, epsilon: float) -> np.ndarray:
    active, scores = naive_active(h, epsilon), []
    for i, row in enumerate(h):
        unit = row / np.linalg.norm(row)
        chosen = [unit[j] - unit.mean() for j in range(len(row)) if active[i, j] and mask[j]]
        scores.append(np.mean(chosen) if chosen else 0.0)
    return np.array(scores)


def naive_penalty(h: np.ndarray, mask: np.ndarray, weight: float, norm_weight: float, epsilon: float) -> float:
    quality = naive_score(h, mask, epsilon)
    norms = np.abs(h / np.linalg.norm(h, axis=1, keepdims=True)).sum(0)
    gain = np.mean([q if q < quality.mean() else 0.0 for q in quality])
    return norm_weight * sum(n for n in norms if n > norms.mean()) - weight * gain


@pytest.mark.parametrize("epsilon", [0.0, 1.5, 4.0])
def test_everything_equals_the_formulas(epsilon):
    h, mask = features(), torch.arange(64) % 3 == 0
    double = h.double().numpy()
    active = highly_activating(h, epsilon)
    assert torch.equal(active, torch.from_numpy(naive_active(double, epsilon)))
    assert active.any() or epsilon == 4.0
    assert activation_rate(h, epsilon).numpy() == pytest.approx(100 * naive_active(double, epsilon).mean(0))
    assert q_score(h, mask, epsilon).numpy() == pytest.approx(naive_score(double, mask.numpy(), epsilon), abs=1e-6)
    how = {"weight": 0.3, "norm_weight": 0.02}
    expected = naive_penalty(double, mask.numpy(), **how, epsilon=epsilon)
    assert float(q_score_penalty(h, mask, **how, epsilon=epsilon)) == pytest.approx(expected, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_a_samples_scale_changes_neither_what_stands_out_nor_the_score(seed, scale):
    h, mask = features(10, seed=seed), torch.arange(64) < 40
    assert torch.equal(highly_activating(h, 2.0), highly_activating(scale * h, 2.0))
    torch.testing.assert_close(q_score(h, mask, 2.0), q_score(scale * h, mask, 2.0), atol=1e-6, rtol=1e-4)


def test_deviations_survive_large_means():
    h = features(8) * 1e-3 + 100  # in float32 the difference of mean squares and squared mean would be noise
    exact = naive_active(h.double().numpy(), 3.0)
    assert exact.any() and torch.equal(highly_activating(h, 3.0), torch.from_numpy(exact))


def test_memory_maps_are_read_in_parts_and_give_the_same(tmp_path, monkeypatch):
    h, mask = features(1000), torch.arange(64) % 2 == 0
    np.save(tmp_path / "h.npy", h.numpy())
    mapped = np.load(tmp_path / "h.npy", mmap_mode="r")
    monkeypatch.setattr(qscore, "CHUNK_BYTES", 4 * 64 * 7)
    sizes = []
    plain = qscore._threshold

    def spy(part: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
        sizes.append(len(part))
        return plain(part, epsilon)

    monkeypatch.setattr(qscore, "_threshold", spy)
    torch.testing.assert_close(activation_rate(mapped, 3.0), 100 * highly_activating(h, 3.0).double().mean(0))
    assert max(sizes[1:-1]) == 7 or max(sizes[:-1]) == 7
    torch.testing.assert_close(q_score(mapped, mask, 3.0), q_score(h, mask, 3.0))


def test_half_precision_maps_are_raised(tmp_path):
    np.save(tmp_path / "h.npy", features().half().numpy())
    mapped = np.load(tmp_path / "h.npy", mmap_mode="r")
    torch.testing.assert_close(activation_rate(mapped), activation_rate(features().half().float()))


def test_the_band_is_between_the_percentiles_of_the_rates():
    rate = torch.arange(100).double()[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
    mask = discriminative(rate)
    assert sorted(rate[mask].tolist()) == list(range(50, 95)) and mask.dtype == torch.bool
    assert discriminative(rate, 0, 100).sum() == 99  # all that ever activate
    sparse = torch.tensor([0.0] * 90 + [1.0] * 10)
    assert not discriminative(sparse, 20, 100)[:90].any()


def test_a_sample_without_a_discriminative_feature_scores_0():
    h = torch.zeros(2, 50)
    h[:, 3], h[1, 7] = 1.0, 1.0
    mask = torch.arange(50) == 7
    assert q_score(h, mask, 4.0)[0] == 0 and q_score(h, mask, 4.0)[1] > 0
    assert q_score(torch.zeros(1, 50), mask).tolist() == [0.0]


def test_the_penalty_raises_low_scores_and_lowers_common_features():
    h = features(16).requires_grad_()
    mask = torch.arange(64) < 48
    scored = q_score(h, mask, 2.0)
    low = (scored < scored.mean()) & (scored > 0)
    assert low.any()
    (gradient,) = torch.autograd.grad(q_score_penalty(h, mask, weight=1.0, norm_weight=0.0, epsilon=2.0), h)
    after = q_score((h - 0.5 * gradient).detach(), mask, 2.0)
    assert (after > scored)[low].all()
    assert not gradient[scored >= scored.mean()].any()
    (gradient,) = torch.autograd.grad(q_score_penalty(h, mask, weight=0.0, norm_weight=1.0, epsilon=2.0), h)
    norms = torch.nn.functional.normalize(h.detach(), dim=1).sum(0)
    moved = torch.nn.functional.normalize((h - 0.05 * gradient).detach(), dim=1).abs().sum(0)
    common = norms > norms.mean()
    assert moved[common].sum() < norms[common].sum()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h: highly_activating(h[0]), r"h: expected shape \[N, d\]"),
        (lambda h: highly_activating(h.long()), "h: expected floats, at least two features"),
        (lambda h: highly_activating(h[:, :1]), "h: expected floats, at least two features"),
        (lambda h: highly_activating(h, -1.0), "epsilon: expected a value of at least 0"),
        (lambda h: activation_rate(h / 0), "h: expected finite"),
        (lambda h: activation_rate(h[:0]), "h: expected shape .* at least one sample"),
        (lambda h: discriminative(torch.zeros(9)), "rate: expected at least one feature that is highly activating"),
        (lambda h: discriminative(torch.rand(9), 95, 50), "low, high: expected percentiles"),
        (lambda h: discriminative(torch.tensor([0.0, 1.0]), 40, 60), "low, high: expected a band that holds"),
        (lambda h: q_score(h, torch.ones(5, dtype=torch.bool)), r"mask: expected shape \[64\]"),
        (lambda h: q_score(h, torch.zeros(64, dtype=torch.bool)), "mask: expected bool, at least one feature"),
        (lambda h: q_score(h, torch.ones(64)), "mask: expected bool"),
        (lambda h: q_score_penalty(h, torch.ones(64, dtype=torch.bool), weight=-1.0), "weight, norm_weight: expected"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call(features())


def test_a_sample_of_noughts_has_a_score_of_nought_and_a_gradient():
    h = torch.rand(4, 20, generator=torch.Generator().manual_seed(0))
    h[1] = 0
    h.requires_grad_()
    mask = torch.arange(20) < 10
    q_score_penalty(h, mask, weight=1.0, norm_weight=1.0, epsilon=1.0).backward()
    assert torch.isfinite(h.grad).all() and q_score(h.detach(), mask, 1.0)[1] == 0
