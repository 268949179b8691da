import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sslnb.core.claims import (
    NOT_REPLICATED,
    NOT_TESTED,
    REPLICATED,
    UNDECIDED,
    Claim,
    Verdict,
    combine,
    decide,
    decide_share,
    interval,
)

CLAIM = Claim("X1", "It is so.", "table 1", "difference")


def part(verdict: str, low: float, high: float, seeds: int = 3) -> Verdict:
    return Verdict("X1", (low + high) / 2, low, high, seeds, verdict)


# Intervals


def test_the_interval_over_seeds_is_students():
    effects = [0.1, 0.4, 0.3, 0.2]
    mean, low, high = interval(effects)
    deviation = math.sqrt(sum((e - 0.25) ** 2 for e in effects) / 3)
    half = 3.182446305284263 * deviation / 2  # t of 3 degrees of freedom, 97.5 %
    assert (mean, low, high) == pytest.approx((0.25, 0.25 - half, 0.25 + half))
    peer = stats.t.interval(0.95, 3, loc=np.mean(effects), scale=stats.sem(effects))
    assert (low, high) == pytest.approx(peer)
    assert interval(effects, confidence=0.5)[1:] == pytest.approx(
        stats.t.interval(0.5, 3, loc=np.mean(effects), scale=stats.sem(effects))
    )


def test_replicates_widen_the_interval_in_quadrature():
    effects, replicates = [1.0, 1.2, 1.1], np.random.default_rng(0).normal(5.0, 0.3, 400)
    mean, low, high = interval(effects, replicates)
    seeds = 4.302652729696142 * 0.1 / math.sqrt(3)
    samples = 1.959963984540054 * replicates.std(ddof=1)
    assert mean == pytest.approx(1.1)
    assert high - mean == pytest.approx(math.hypot(seeds, samples)) == pytest.approx(mean - low)
    assert interval(effects, [7.0]) == interval(effects)  # one replicate has no deviation


def test_equal_effects_have_an_interval_of_no_width():
    assert interval([0.5, 0.5]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("effects", [[], [1.0], [[1.0, 2.0]], [1.0, math.nan], [1.0, math.inf]])
def test_an_interval_needs_two_finite_seeds(effects):
    with pytest.raises(ValueError, match="effects: expected"):
        interval(effects)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6), st.floats(0.1, 10), st.floats(-5, 5))
@settings(deadline=None, max_examples=50)
def test_intervals_follow_scale_and_shift(effects, scale, shift):
    moved = interval([scale * e + shift for e in effects])
    assert moved == pytest.approx([scale * v + shift for v in interval(effects)], abs=1e-6)


# Verdicts


@pytest.mark.parametrize(
    ("effects", "threshold", "verdict"),
    [
        ([1.0, 1.1, 0.9], 0.0, REPLICATED),
        ([1.0, 1.1, 0.9], 1.2, UNDECIDED),
        ([1.0, 1.1, 0.9], 1.3, NOT_REPLICATED),
        ([-1.0, -1.1, -0.9], 0.0, NOT_REPLICATED),
        ([1.0, -1.0, 0.5], 0.0, UNDECIDED),
        ([0.0, 0.0], 0.0, UNDECIDED),  # equal values say nothing about their spread
        ([0.5, 0.5], 0.4, UNDECIDED),
    ],
)
def test_the_verdict_follows_where_the_whole_interval_is(effects, threshold, verdict):
    claim = Claim("X1", "", "", "", threshold)
    found = decide(claim, effects, note="as said")
    assert found.verdict == verdict and found.note == "as said" and found.claim == "X1"
    assert (found.effect, found.low, found.high) == interval(effects) and found.seeds == len(effects)


def test_an_interval_that_touches_the_threshold_from_above_spans_it():
    _, low, high = interval([1.0, 2.0])
    assert decide(Claim("X", "", "", "", low), [1.0, 2.0]).verdict == UNDECIDED
    assert decide(Claim("X", "", "", "", np.nextafter(low, -9)), [1.0, 2.0]).verdict == REPLICATED
    assert decide(Claim("X", "", "", "", high), [1.0, 2.0]).verdict == NOT_REPLICATED
    assert decide(Claim("X", "", "", "", np.nextafter(high, -9)), [1.0, 2.0]).verdict == UNDECIDED


def test_uncertain_test_samples_can_leave_agreeing_seeds_undecided():
    wide = np.random.default_rng(0).normal(0.1, 0.2, 200)
    assert decide(CLAIM, [0.1, 0.1, 0.1]).verdict == REPLICATED
    assert decide(CLAIM, [0.1, 0.1, 0.1], wide).verdict == UNDECIDED


def test_seeds_without_a_measurement_do_not_count():
    assert decide(CLAIM, [1.0, math.nan, 1.2]) == decide(CLAIM, [1.0, 1.2])
    assert decide(CLAIM, [math.nan, 1.0, 1.2]).seeds == 2


@pytest.mark.parametrize("effects", [[], [math.nan, math.nan], [0.7], [0.7, math.nan]])
def test_fewer_than_two_measured_seeds_are_no_test(effects):
    found = decide(CLAIM, effects)
    assert found.verdict == NOT_TESTED and math.isnan(found.low) and math.isnan(found.high)
    assert found.seeds == sum(map(math.isfinite, effects))
    assert found.effect == 0.7 if 0.7 in effects else math.isnan(found.effect)


def test_effects_that_are_all_at_their_bound_decide_and_other_equal_ones_do_not():
    claim = Claim("X", "", "", "")
    assert decide(claim, [-2.0, -2.0]).verdict == UNDECIDED == decide(claim, [-2.0, -2.0], bound=-1.0).verdict
    assert decide(claim, [-2.0, -2.0], bound=-2.0).verdict == NOT_REPLICATED


def test_a_verdict_is_a_dictionary_of_plain_values():
    found = decide(CLAIM, [1.0, 1.1]).as_dict()
    assert list(found) == ["claim", "effect", "low", "high", "seeds", "verdict", "note"]
    assert all(isinstance(value, str | float | int) for value in found.values())


# Claims of several comparisons

YES, NO, OPEN = part(REPLICATED, 1, 2), part(NOT_REPLICATED, -2, -1), part(UNDECIDED, -0.5, 0.5)
UNTESTED = Verdict("X1", math.nan, math.nan, math.nan, 1, NOT_TESTED)


@pytest.mark.parametrize(
    ("parts", "verdict", "note"),
    [
        ([YES, YES], REPLICATED, "2 of 2 comparisons replicated, 0 not"),
        ([YES, NO, YES], NOT_REPLICATED, "2 of 3 comparisons replicated, 1 not"),
        ([YES, OPEN], UNDECIDED, "1 of 2 comparisons replicated, 0 not"),
        ([OPEN, NO], NOT_REPLICATED, "0 of 2 comparisons replicated, 1 not"),
        ([YES, UNTESTED], UNDECIDED, "1 of 2 comparisons replicated, 0 not, 1 not measured"),
        ([NO, UNTESTED], NOT_REPLICATED, "0 of 2 comparisons replicated, 1 not, 1 not measured"),
        ([UNTESTED, OPEN], UNDECIDED, "0 of 2 comparisons replicated, 0 not, 1 not measured"),
    ],
)
def test_a_combined_claim_needs_every_part(parts, verdict, note):
    for order in (parts, parts[::-1]):
        found = combine(CLAIM, order)
        assert found.verdict == verdict and found.note == note


def test_a_combined_claim_shows_a_part_that_decided_it():
    refuted = combine(CLAIM, [part(NOT_REPLICATED, -0.6, -0.5), part(UNDECIDED, -38.0, 38.0), YES])
    assert (refuted.verdict, refuted.low, refuted.high) == (NOT_REPLICATED, -0.6, -0.5)


def test_a_share_is_decided_by_its_exact_interval():
    claim = Claim("X", "", "", "", 0.5)
    assert decide_share(claim, 0, 0, 2).verdict == NOT_TESTED
    assert decide_share(claim, 4, 4, 2).verdict == UNDECIDED  # 0.4 to 1
    found = decide_share(claim, 6, 6, 2, "six")
    assert found.verdict == REPLICATED and found.high == 1 and found.low == pytest.approx(0.025 ** (1 / 6))
    assert decide_share(claim, 0, 6, 2).verdict == NOT_REPLICATED
    assert decide_share(claim, 3, 6, 2).verdict == UNDECIDED


def test_a_combined_claim_shows_its_weakest_part():
    weaker = part(REPLICATED, 0.2, 9, seeds=5)
    found = combine(CLAIM, [YES, weaker])
    assert (found.effect, found.low, found.high, found.seeds) == (weaker.effect, 0.2, 9, 5)


@pytest.mark.parametrize("parts", [[], [UNTESTED], [UNTESTED, UNTESTED]])
def test_nothing_tested_is_not_tested(parts):
    found = combine(CLAIM, parts)
    assert found.verdict == NOT_TESTED and found.seeds == 0 and math.isnan(found.effect)


# Bootstrap
