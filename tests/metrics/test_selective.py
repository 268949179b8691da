"""Risk–coverage curves are what their definition says, ties included, and as fast as a bootstrap needs."""

import itertools
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from sslnb.core.claims import bootstrap_weights
from sslnb.metrics import risk_coverage


def drawn(n: int = 60, levels: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores, of so many different values, and which samples are right: more often those of high scores."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(n, generator=generator)
    right = torch.rand(n, generator=generator) < 0.4 + 0.5 * scores
    return (scores if levels is None else (levels * scores).floor()), right


def naive(scores: Tensor, right: Tensor) -> np.ndarray:
    """Risk [N] of scores without ties: sort, answer one more, count."""
    order = sorted(range(len(scores)), key=lambda i: -float(scores[i]))
    return np.array([np.mean([not right[i] for i in order[: n + 1]]) for n in range(len(order))])


def test_the_curve_is_that_of_a_loop_over_coverages():
    scores, right = drawn()
    curve, wanted = risk_coverage(scores, right), naive(scores, right)
    assert curve.risk.numpy() == pytest.approx(wanted) and float(curve.area) == pytest.approx(wanted.mean())
    assert curve.coverage.numpy() == pytest.approx(np.arange(1, 61) / 60)
    best = naive(right.float() + 0.001 * scores, right)
    assert curve.optimum.numpy() == pytest.approx(best)
    assert float(curve.excess) == pytest.approx(wanted.mean() - best.mean())


def test_samples_of_one_score_count_as_the_mean_over_all_their_orders():
    scores = torch.tensor([1.0, 1, 1, 0, 2, 0])
    right = torch.tensor([True, False, False, True, False, True])
    orders = [torch.tensor(noise) for noise in itertools.permutations([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])]
    wanted = np.mean([naive(scores + noise, right) for noise in orders], axis=0)
    assert risk_coverage(scores, right).risk.numpy() == pytest.approx(wanted)


def test_the_area_is_that_of_the_trapezoidal_rule_and_its_two_half_ends():
    """Of scikit-learn, over the same points; it leaves out half of the first and of the last."""
    from sklearn.metrics import auc

    scores, right = drawn(400)
    curve = risk_coverage(scores, right)
    ends = (float(curve.risk[0]) + float(curve.risk[-1])) / 2 / 400
    assert float(curve.area) == pytest.approx(auc(curve.coverage.numpy(), curve.risk.numpy()) + ends)


@pytest.mark.parametrize("change", [torch.exp, lambda s: 5 * s - 3, lambda s: s.double() ** 3, lambda s: (4 * s).int()])
def test_only_the_order_of_the_scores_matters(change):
    scores, right = drawn(levels=4)
    scores = scores / 4
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(1))
    changed = risk_coverage(change(scores)[order], right[order])
    assert torch.equal(changed.risk, risk_coverage(scores, right).risk)


def test_a_perfect_score_has_no_excess_and_its_opposite_the_most():
    scores, right = drawn()
    perfect, random, worst = (risk_coverage(s, right) for s in (right.float(), scores, -right.float()))
    assert float(perfect.excess) == pytest.approx(0, abs=1e-12) and torch.allclose(perfect.risk, perfect.optimum)
    assert 0 < float(random.excess) < float(worst.excess)
    assert torch.equal(random.optimum, worst.optimum)


def test_a_score_that_does_not_vary_has_the_error_rate_at_every_coverage():
    _, right = drawn()
    error = 1 - float(right.double().mean())
    curve = risk_coverage(torch.zeros(60), right)
    assert curve.risk.numpy() == pytest.approx(np.full(60, error)) and float(curve.area) == pytest.approx(error)


@pytest.mark.parametrize(("value", "risk"), [(True, 0.0), (False, 1.0)])
@pytest.mark.parametrize("n", [1, 7])
def test_where_all_samples_are_alike_no_order_is_better(value, risk, n):
    curve = risk_coverage(torch.arange(n), torch.full((n,), value))
    assert curve.risk.tolist() == [risk] * n and float(curve.excess) == 0


def test_risks_at_a_coverage_are_of_the_fewest_samples_that_reach_it():
    right = torch.tensor([True] * 7 + [False] * 3)
    curve = risk_coverage(torch.arange(10.0).flip(0), right)
    assert curve.at([0.7, 0.701, 0.8, 1.0]).tolist() == pytest.approx([0, 1 / 8, 1 / 8, 0.3])
    assert curve.at([1e-6]).tolist() == [0]
    for share in (0.0, -0.1, 1.01, float("nan")):
        with pytest.raises(ValueError, match=r"coverages: expected shares in \(0, 1\]"):
            curve.at([share])


@pytest.mark.parametrize("levels", [None, 5])
def test_a_resampling_is_the_curve_of_the_samples_that_were_drawn(levels):
    scores, right = drawn(levels=levels)
    weights = torch.from_numpy(bootstrap_weights(60, rounds=5))
    curves = risk_coverage(scores, right, weights=weights)
    assert curves.risk.shape == (5, 60)
    for r, row in enumerate(weights):
        index = torch.arange(60).repeat_interleave(row)
        alone = risk_coverage(scores[index], right[index])
        assert curves.risk[r].numpy() == pytest.approx(alone.risk.numpy())
        assert float(curves.area[r]) == pytest.approx(float(alone.area))
        assert float(curves.excess[r]) == pytest.approx(float(alone.excess))
        assert curves.at([0.5, 0.9])[r].tolist() == pytest.approx(alone.at([0.5, 0.9]).tolist())


def test_hundreds_of_draws_of_ten_thousand_samples_take_about_a_second():
    scores, right = drawn(10_000)
    weights = torch.from_numpy(bootstrap_weights(10_000, rounds=200))
    started = time.monotonic()
    excess = risk_coverage(scores, right, weights=weights).excess
    assert time.monotonic() - started < 5 and 0 < float(excess.std()) < 0.01  # a tenth of it on an idle core


WEIGHTS = torch.ones(2, 3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"right": torch.zeros(3)}, "right: expected bool"),
        ({"right": torch.zeros(4, dtype=torch.bool)}, "right: expected shape"),
        ({"scores": torch.zeros(0)}, "scores: expected at least one sample"),
        ({"scores": torch.zeros(3, 1)}, "scores: expected shape"),
        ({"scores": torch.tensor([0.0, float("nan"), 1.0])}, "scores: expected finite"),
        ({"scores": torch.zeros(3, dtype=torch.complex64)}, "scores: expected real"),
        ({"scores": [0.0, 1.0, 2.0]}, "scores: expected a tensor"),
        ({"weights": WEIGHTS.float()}, "weights: expected whole numbers"),
        ({"weights": WEIGHTS[:, :2]}, "weights: expected shape"),
        ({"weights": WEIGHTS[:0]}, "weights: expected at least one resampling"),
        ({"weights": -WEIGHTS}, "weights: expected rows of counts"),
        ({"weights": torch.tensor([[1, 1, 1], [1, 1, 2]])}, "weights: expected rows of counts"),
    ],
)
def test_bad_input_is_refused(changes, message):
    sound = {"scores": torch.arange(3.0), "right": torch.tensor([True, False, True])}
    with pytest.raises(ValueError, match=message):
        risk_coverage(**sound | changes)
