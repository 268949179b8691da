"""The rule that decides claims, on simulated studies whose truth is known."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from sslnb.core.claims import (
    Claim,
    Kind,
    bootstrap_weights,
    decide,
    detectable,
    gate,
    jackknife,
    not_tested,
    verdicts_of,
)

CLAIM = Claim("Z1", "A holds", "§1", "difference in points", sei=1.0)
SIMULATIONS = 1000


def effects(values: np.ndarray, *parts: str, unit: str = "seed") -> xr.DataArray:
    return xr.DataArray(values, dims=(unit, *parts))


def positive(kinds: list[Kind]) -> float:
    return sum(kind in (Kind.REPLICATED, Kind.SMALL) for kind in kinds) / len(kinds)


@pytest.mark.parametrize("units", [3, 4, 6])
@pytest.mark.parametrize("parts", [1, 4])
def test_a_null_effect_is_called_present_in_a_fortieth_of_studies(units: int, parts: int) -> None:
    rng = np.random.default_rng(units)
    kinds = [decide(CLAIM, effects(rng.normal(size=(units, parts)), "norm")).kind for _ in range(SIMULATIONS)]
    error = math.sqrt(0.025 * 0.975 / SIMULATIONS)
    assert positive(kinds) == pytest.approx(0.025, abs=2.6 * error)  # of six such tests, none fails in 19 of 20


@pytest.mark.parametrize("units", [3, 4, 6])
@pytest.mark.parametrize("shared", [0.3, 1.0, 3.0])
def test_an_error_that_all_units_share_makes_it_no_more_likely(units: int, shared: float) -> None:
    rng = np.random.default_rng(7)
    kinds = []
    for _ in range(SIMULATIONS):
        error = shared * rng.normal()  # of the test set, whose bootstrap has the same deviation
        replicates = xr.DataArray(shared * rng.normal(size=400), dims="replicate")
        kinds.append(decide(CLAIM, effects(rng.normal(size=units) + error), replicates=replicates).kind)
    assert positive(kinds) <= 0.025 + 2.6 * math.sqrt(0.025 * 0.975 / SIMULATIONS)


@pytest.mark.parametrize("units", [3, 4, 6])
def test_the_detectable_effect_is_found_with_the_power_that_is_stated(units: int) -> None:
    rng = np.random.default_rng(units)
    sample = np.resize([1.0, -1.0], units)
    truth = detectable(sample / sample.std(ddof=1))  # of units with a deviation of 1
    kinds = [decide(CLAIM, effects(truth + rng.normal(size=units))).kind for _ in range(SIMULATIONS)]
    assert positive(kinds) == pytest.approx(0.8, abs=3 * math.sqrt(0.16 / SIMULATIONS))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([2.0, 2.1, 2.2], Kind.REPLICATED),
        ([0.5, 0.51, 0.52], Kind.SMALL),
        ([-0.1, 0.0, 0.1], Kind.ABSENT),
        ([-0.5, -0.51, -0.52], Kind.ABSENT),  # against the claim, but too small to be of interest
        ([-2.0, -2.1, -2.2], Kind.REVERSED),
        ([-3.0, 1.0, 4.0], Kind.UNDECIDED),
        ([2.0, 2.1], Kind.NOT_TESTED),
        ([2.0, np.nan, 2.1], Kind.NOT_TESTED),
        ([], Kind.NOT_TESTED),
    ],
)
def test_the_six_verdicts(values: list[float], kind: Kind) -> None:
    verdict = decide(CLAIM, effects(np.array(values)))
    assert verdict.kind == kind
    assert (verdict.note == "") == (kind != Kind.NOT_TESTED)


def test_the_order_of_parts_and_units_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    values = effects(rng.normal(size=(4, 3, 2)), "norm", "dataset").assign_coords(norm=[1, 2, 3], dataset=["a", "b"])
    turned = values.isel(norm=[2, 0, 1], dataset=[1, 0], seed=[3, 1, 0, 2]).transpose("dataset", "seed", "norm")
    one, other = decide(CLAIM, values), decide(CLAIM, turned)
    assert (one.kind, one.units) == (other.kind, other.units)
    np.testing.assert_allclose([one.low, one.high, one.detectable], [other.low, other.high, other.detectable])
    parts = {part.name: (part.low, part.high) for part in one.parts}
    assert parts.keys() == {part.name for part in other.parts} and "b, 2" in parts
    for part in other.parts:
        np.testing.assert_allclose(parts[part.name], (part.low, part.high))


def test_a_unit_without_all_parts_is_left_out() -> None:
    values = np.arange(8.0).reshape(4, 2)
    values[1, 0] = np.nan
    verdict = decide(CLAIM, effects(values, "norm"))
    assert verdict.units == 3 and verdict.estimate == values[[0, 2, 3]].mean()


def test_intervals_of_parts_are_wider_the_more_there_are_and_decide_nothing() -> None:
    rng = np.random.default_rng(2)
    values = 5 + rng.normal(size=(4, 6))
    alone, many = decide(CLAIM, effects(values[:, :1], "norm")), decide(CLAIM, effects(values, "norm"))
    first = {part.name: part.high - part.low for part in many.parts}["0"]
    assert first > alone.high - alone.low
    values[:, 5] = [-1, 1, -1, 1]  # one part that shows nothing
    assert decide(CLAIM, effects(values, "norm")).kind == Kind.REPLICATED


def test_controls_stand_beside_and_change_no_verdict() -> None:
    values = effects(np.array([2.0, 2.1, 2.2]))
    verdict = decide(CLAIM, values, controls={"supervised on SimCLR's views": 0 * values})
    assert verdict.kind == Kind.REPLICATED
    assert verdict.controls["supervised on SimCLR's views"] == (0.0, 0.0, 0.0)


def test_an_encoder_below_the_gate_decides_nothing() -> None:
    accuracy = {"simclr": [0.61, 0.62], "byol": [0.60, 0.42], "supervised": [0.8, 0.8]}
    learned, reasons = gate(accuracy, pixels=0.39, untrained=[0.33, 0.34])
    assert learned == ("simclr", "supervised")
    assert reasons == {"byol": "42.0 % in its worst seed, of the 44.0 % that count as learning"}
    assert not_tested(CLAIM, "no encoder learned").kind == Kind.NOT_TESTED


def test_pseudo_values_of_a_mean_are_the_values() -> None:
    values = np.array([1.0, 4.0, 2.0, 8.0])
    without = [np.delete(values, i).mean() for i in range(4)]
    np.testing.assert_allclose(jackknife(without, values.mean()), values)


def test_units_have_to_be_named() -> None:
    with pytest.raises(ValueError, match="effects: expected a dimension 'objective'"):
        decide(Claim("Z2", "", "", "", 1.0, unit="objective"), effects(np.ones(3)))


def test_every_round_of_a_bootstrap_draws_n_samples():
    weights = bootstrap_weights(37, rounds=50, seed=1)
    assert weights.shape == (50, 37) and (weights.sum(1) == 37).all() and (weights >= 0).all()
    assert np.array_equal(bootstrap_weights(37, rounds=50, seed=1), weights)
    assert not np.array_equal(bootstrap_weights(37, rounds=50, seed=2), weights)
    assert bootstrap_weights(1, rounds=3).tolist() == [[1], [1], [1]]


def test_replicates_of_the_mean_deviate_by_its_standard_error():
    values = np.random.default_rng(0).exponential(size=400)
    replicates = bootstrap_weights(400, rounds=2000) @ values / 400
    assert replicates.std(ddof=1) == pytest.approx(stats.sem(values), rel=0.08)
    assert replicates.mean() == pytest.approx(values.mean(), abs=3 * stats.sem(values) / math.sqrt(2000))


@pytest.mark.parametrize(("n", "rounds"), [(0, 10), (5, 1)])
def test_a_bootstrap_of_nothing_is_refused(n, rounds):
    with pytest.raises(ValueError, match="n and rounds: expected"):
        bootstrap_weights(n, rounds=rounds)


def test_each_claim_is_decided_by_its_own_comparison_or_none_where_something_is_missing() -> None:
    claims = {name: Claim(name, "A holds.", "§1", "difference", sei=1.0) for name in ("Z1", "Z2")}

    def small(claim: Claim, values: np.ndarray) -> object:
        return decide(claim, effects(values / 10))

    def whole(claim: Claim, values: np.ndarray) -> object:
        return decide(claim, effects(values))

    both, values = {"Z2": small, "Z1": whole}, np.array([2.0, 2.1, 2.2])
    decided = verdicts_of(claims, both, values)
    assert [(v.claim, v.kind) for v in decided] == [("Z1", Kind.REPLICATED), ("Z2", Kind.SMALL)]
    missing = verdicts_of(claims, both, values, needs="encoders that learned")
    assert [(v.kind, v.note) for v in missing] == [(Kind.NOT_TESTED, "needs encoders that learned")] * 2
    with pytest.raises(ValueError, match="comparisons: expected one for each"):
        verdicts_of(claims, {"Z1": whole}, values)
