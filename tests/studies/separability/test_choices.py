"""What depends on the choice of the probe, from made-up audits with known answers."""

import itertools
import math

import numpy as np
import pytest
import xarray as xr

from sslnb.core.claims import jackknife
from sslnb.studies.separability import choices

DECAYS = [1e-4, 1e-3, 1e-2]  # of the made-up audits


def by_regression(values: xr.DataArray) -> dict[str, float]:
    """The shares as rises of R² when the factors enter a linear regression one after another."""
    cells = list(itertools.product(*(range(n) for n in values.shape)))
    y = np.array([float(values[cell]) for cell in cells])
    objectives = list(values.objective.values)
    columns = {
        "objective": [f"{objectives[e]}" for e, _, _ in cells],
        "seed": [f"encoder {e}" for e, _, _ in cells],
        "decay": [f"decay {d}" for _, d, _ in cells],
        "rate": [f"rate {r}" for _, _, r in cells],
        "decay × rate": [f"{d} {r}" for _, d, r in cells],
    }
    design, explained, shares = [np.ones(len(y))], 0.0, {}
    for name, levels in columns.items():
        design += [np.array([level == own for own in levels], float) for level in sorted(set(levels))]
        x = np.stack(design, 1)
        residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        r2 = 1 - np.square(residual).sum() / np.square(y - y.mean()).sum()
        shares[name], explained = r2 - explained, r2
    return shares | {"encoder × probe": 1 - explained}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shares_of_variance_are_those_of_a_regression(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(5, 3, 4)).cumsum(0).cumsum(1)
    names = ["a", "a", "b", "b", "c"]  # the third has a seed less
    array = xr.DataArray(values, {"objective": ("encoder", names)}, ("encoder", "decay", "rate"))
    shares = choices.variance_shares(array)
    assert shares.sum() == pytest.approx(1) and (shares >= 0).all()
    expected = by_regression(array)
    np.testing.assert_allclose(shares, [expected[name] for name in choices.SOURCES], atol=1e-9)
    np.testing.assert_allclose(choices.variance_shares(3 - 2 * array), shares)
    others = [choices.variance_shares(array.isel(encoder=[f for f in range(5) if f != e])) for e in range(5)]
    pseudo = jackknife(others, shares)
    np.testing.assert_allclose(choices.deviation(array), pseudo.std(0, ddof=1) / math.sqrt(5))


@pytest.mark.parametrize("shape", [(0, 3, 4), (1, 3, 4), (3, 3, 4), (3, 0, 4)])
def test_nothing_varies_nothing_is_shared_out(shape: tuple[int, ...]) -> None:
    names = ["a"] * shape[0]
    array = xr.DataArray(np.ones(shape), {"objective": ("encoder", names)}, ("encoder", "decay", "rate"))
    assert np.isnan(choices.variance_shares(array)).all() and np.isnan(choices.deviation(array)).all()


def test_the_levels_that_miss_most_are_left_out() -> None:
    values = xr.DataArray(np.ones((4, 3, 5)), dims=("encoder", "decay", "rate"))
    values[:, :, 4] = np.nan  # the largest rate never converges
    values[1, :, 3] = np.nan
    values[1, 0, 0] = np.nan
    remaining = choices.balanced(values)
    assert dict(remaining.sizes) == {"encoder": 3, "decay": 3, "rate": 4} and bool(remaining.notnull().all())
    assert choices.balanced(values * np.nan).size == 0


@pytest.mark.parametrize(
    ("effects", "source"),
    [({"decay": 0.01}, "objective"), ({"encoder": 0.01, "decay": 1.0}, "decay"), ({"both": 2.0}, "encoder × probe")],
)
def test_variance_is_put_down_to_its_source(made_up, effects: dict[str, float], source: str) -> None:
    shares = choices.variance(made_up(**effects))
    largest = shares.share.idxmax("source") if source != "encoder × probe" else shares.share.sel(source=source)
    assert bool((largest == source).all()) if source != "encoder × probe" else bool((largest > 0.1).all())
    np.testing.assert_allclose(shares.share.sum("source"), 1)
    assert shares.levels.sel(dataset="a", norm="l2").values.tolist() == [12, 3, 2]  # without the untrained ones
    # One learning rate cannot be told apart from the best, at all weight decays.
    assert shares.choice_levels.sel(dataset="a", norm="l2").values.tolist() == [12, 3, 1]


def test_admissible_is_what_validation_cannot_tell_from_the_best(made_up) -> None:
    audit = made_up()
    assert choices.admissible(audit).transpose("decay", "rate").values.tolist() == [[True, False]] * 3
    audit.validation.loc[{"decay": 1e-2, "rate": 0.1, "objective": "moco", "seed": 0, "dataset": "a"}] = np.nan
    audit.validation.loc[{"objective": "untrained"}] = 0.1  # which says nothing about the others
    assert choices.admissible(audit).sel(rate=0.1).values.tolist() == [True, True, False]


def test_claims_are_decided_for_every_probe_and_rule(made_up, of_study) -> None:
    audit = made_up(both=0.2)
    results = choices.claims_by_choice(audit, of_study(audit))
    for row, decay in enumerate(DECAYS):
        own = results.sel(claim="S1", decay=decay)
        np.testing.assert_allclose(own.estimate, 0.5 - 0.2 * row, atol=0.01)
        assert bool((own.low < own.estimate).all()) and bool((own.estimate < own.high).all())
    rules = results.rule_estimate.sel(claim="S1")
    assert float(rules.sel(rule="compared")) == pytest.approx(0.3, abs=0.01)  # at a weight decay of 0.001
    # What each encoder prefers has another weight decay for supervised ones.
    assert float(rules.sel(rule="own")) == pytest.approx(0.1, abs=0.01)
    assert float(rules.sel(rule="limit")) == pytest.approx(0)
    assert bool(results.estimate.notnull().all())


def test_without_encoders_that_learned_there_is_nothing_to_say_and_nothing_breaks(made_up) -> None:
    audit = made_up()
    audit["learned"] = "objective", [False] * 5
    parts = choices.variance(audit), choices.claims_by_choice(audit, {}), choices.edges(audit)
    merged = xr.merge(parts)
    assert not bool(merged.admissible.any())
    assert all(bool(merged[name].isnull().all()) for name in ("share", "choice_share", "estimate", "edge_chosen"))


def test_an_edge_counts_where_it_is_chosen_and_where_it_is_ahead(made_up) -> None:
    audit = made_up()
    shares = choices.edges(audit).sel(dataset="a")
    # All decays are equally good, and the first of equals is the least; the largest rate is two points behind.
    chosen = {str(edge): float(shares.edge_chosen.sel(edge=edge)) for edge in shares.edge.values}
    assert chosen == {"least decay": 1, "largest decay": 0, "least rate": 1, "largest rate": 0}
    assert float(shares.edge_ahead.sel(edge="least decay")) == 0
    assert float(shares.edge_ahead.sel(edge="least rate")) == 1
    audit.validation.loc[{"objective": "moco", "decay": 1e-2}] += 0.05
    shares = choices.edges(audit).sel(dataset="b", edge="largest decay")
    assert float(shares.edge_chosen) == float(shares.edge_ahead) == pytest.approx(1 / 4)
