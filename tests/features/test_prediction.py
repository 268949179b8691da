import math

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from sslnb.features.prediction import curves, predicts


def scored(n: int = 400, gap: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    right = generator.random(n) < 0.7
    return generator.standard_normal(n) + gap * right, right


def test_areas_are_scikit_learns_and_lie_in_their_intervals():
    score, right = scored()
    found = predicts(score, right)
    assert found.auroc[0] == pytest.approx(roc_auc_score(right, score))
    assert found.auprc[0] == pytest.approx(average_precision_score(right, score))
    for value, low, high in (found.auroc, found.auprc):
        assert low < value < high and high - low < 0.15
    assert found.base_rate == right.mean() and found.undefined is None


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    truth = roc_auc_score(*reversed(scored(200_000)))
    held = [low <= truth <= high for low, high in (predicts(*scored(seed=s), rounds=100).auroc[1:] for s in range(40))]
    assert 33 <= sum(held) <= 40


def test_a_score_that_knows_nothing_is_at_chance_and_its_opposite_mirrors():
    score, right = scored(gap=0.0)
    found, turned = predicts(score, right), predicts(-score, right)
    assert found.auroc[1] < 0.5 < found.auroc[2]
    assert found.auroc[0] + turned.auroc[0] == pytest.approx(1)
    constant = predicts(np.zeros(50), np.arange(50) % 2 == 0)
    assert constant.auroc == (0.5, 0.5, 0.5) and constant.auprc[0] == 0.5


@pytest.mark.parametrize(("right", "why"), [(True, "all samples are right"), (False, "no samples are right")])
def test_where_nothing_can_be_told_apart_it_says_so(right, why):
    found = predicts(np.arange(9.0), np.full(9, right))
    assert found.undefined == why and all(map(math.isnan, (*found.auroc, *found.auprc)))
    with pytest.raises(ValueError, match="right: expected samples that are right and others"):
        curves(np.arange(9.0), np.full(9, right))


def test_a_bootstrap_of_one_wrong_sample_ends():
    right = np.ones(30, bool)
    right[3] = False
    assert predicts(np.arange(30.0), right).auroc[0] == pytest.approx(26 / 29)


def test_curves_enclose_their_areas():
    score, right = scored()
    found = curves(score, right)
    assert auc(found["fpr"], found["tpr"]) == pytest.approx(predicts(score, right).auroc[0])
    assert found["precision"][-1] == 1 and found["recall"][0] == 1


@pytest.mark.parametrize(
    ("score", "right", "message"),
    [
        (np.zeros(3), np.zeros(3), "right: expected bool"),
        (np.zeros(3), np.zeros(4, bool), r"score: expected shape \[4\]"),
        (np.zeros(0), np.zeros(0, bool), "score: expected"),
        (np.full(3, np.nan), np.array([True, False, True]), "score: expected finite"),
    ],
)
def test_bad_input_is_refused(score, right, message):
    with pytest.raises(ValueError, match=message):
        predicts(score, right)
