"""Correlations agree with scipy's, partial ones with a regression by hand, and a regret with its definition."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sslnb.studies.synthesis.relations import LEAST, blind_regret, kendall, p_value, regret, spearman


@pytest.mark.parametrize("seed", range(5))
def test_raw_correlations_are_scipys(seed: int) -> None:
    x, y = np.random.default_rng(seed).normal(size=(2, 12)).round(1)  # rounded: some are tied
    assert spearman(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_partial_correlation_is_that_of_what_a_regression_of_ranks_leaves(seed: int) -> None:
    generator = np.random.default_rng(seed)
    given = generator.normal(size=15)
    x, y = given + generator.normal(size=15), given - generator.normal(size=15)
    ranks = [stats.rankdata(values) for values in (x, y, given)]
    design = np.stack([np.ones(15), ranks[2]], 1)
    left = [r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in ranks[:2]]
    assert spearman(x, y, given).value == pytest.approx(np.corrcoef(left)[0, 1], abs=1e-12)


def test_two_measures_that_only_follow_accuracy_have_nothing_in_common_once_it_is_held_fixed() -> None:
    generator = np.random.default_rng(0)
    accuracy = np.arange(200.0)
    x, y = (accuracy + 20 * generator.normal(size=200) for _ in range(2))
    assert spearman(x, y).value > 0.85
    assert abs(spearman(x, y, accuracy).value) < 0.15


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    generator, inside = np.random.default_rng(1), 0
    truth = 6 / math.pi * math.asin(0.6 / 2)  # Spearman's ρ of a normal pair with r = 0.6
    for _ in range(1000):
        x = generator.normal(size=15)
        y = 0.6 * x + 0.8 * generator.normal(size=15)
        correlation = spearman(x, y)
        inside += correlation.low <= truth <= correlation.high
    assert 0.93 <= inside / 1000 <= 0.98


def test_equal_orders_have_an_interval_of_some_length() -> None:
    x = np.arange(7.0)
    whole, one_exchange = spearman(x, x), spearman(x, np.array([0.0, 1, 2, 3, 4, 6, 5]))
    assert whole.value == whole.high == 1 and whole.low == pytest.approx(one_exchange.low)
    reverse = spearman(x, -x)
    assert reverse.value == reverse.low == -1 and reverse.high == pytest.approx(-one_exchange.low)


def test_gaps_are_left_out_and_few_units_have_no_interval() -> None:
    x = np.array([1.0, 2, 3, 4, np.nan, 6])
    assert spearman(x, x).n == 5 and spearman(x, x).value == pytest.approx(1)
    few = spearman(x[: LEAST - 1], x[: LEAST - 1])
    assert few.value == pytest.approx(1) and math.isnan(few.low)
    assert math.isnan(spearman(x, np.ones(6)).value) and math.isnan(kendall(x[:2], x[:2]))
    assert math.isnan(kendall(x, np.ones(6)))


def test_p_is_the_share_of_all_pairings_that_are_as_far_from_none() -> None:
    x, y = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 3, 4, 5])
    every = [np.corrcoef(x, order)[0, 1] for order in itertools.permutations(x)]
    own = np.corrcoef(x, y)[0, 1]
    assert p_value(x, y) == pytest.approx(2 * np.mean(np.array(every) >= own - 1e-12))
    assert p_value(x, x) == p_value(x, -x) == pytest.approx(2 / 120)
    assert math.isnan(p_value(x[:4], y[:4])) and math.isnan(p_value(x, np.ones(5)))
    assert math.isnan(p_value(x, y, x))  # of which nothing is left


@pytest.mark.parametrize("held", [False, True])
def test_null_measures_have_a_small_p_about_as_often_as_it_says(held: bool) -> None:
    generator = np.random.default_rng(3)
    small = 0
    for _ in range(300):
        x, y, given = generator.normal(size=(3, 7))
        p = p_value(x + 2 * given, y + 2 * given, given) if held else p_value(x, y)
        small += p < 0.05
    assert 0.01 <= small / 300 <= 0.085


def test_regret_is_what_the_first_choice_loses() -> None:
    target = np.array([0.3, 0.9, 0.5])
    assert regret(np.array([1.0, 2, 3]), target) == pytest.approx(0.4)
    assert regret(np.array([0.0, 5, 1]), target) == 0
    assert regret(np.array([7.0, 0, 7]), target) == pytest.approx(0.9 - 0.4)  # of two that share the first place
    assert regret(np.array([np.nan, 0, 7]), target) == pytest.approx(0.4)
    assert math.isnan(regret(np.full(3, np.nan), target))
    assert blind_regret(target) == pytest.approx(0.9 - target.mean())
