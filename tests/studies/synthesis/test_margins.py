"""Margins by set: their order beside accuracy's, and their ratios, as a loop over objectives gives them."""

import numpy as np
import pytest
import xarray as xr

from sslnb.core.claims import mean_interval
from sslnb.studies.synthesis.margins import order, ratios
from sslnb.studies.synthesis.relations import spearman

OBJECTIVES = ["supervised", "supervised_matched", "simclr", "moco", "infomin", "cmc", "rotnet"]
SETS = ["digits", "scenes"]


@pytest.fixture
def margins() -> xr.DataArray:
    values = np.exp(np.random.default_rng(0).normal(size=(len(OBJECTIVES), 3, 2)))
    values[3, 2] = np.nan  # a seed that was not trained
    coordinates = {"objective": OBJECTIVES, "seed": range(3), "dataset": SETS}
    return xr.DataArray(values, coordinates, tuple(coordinates))


def test_ratios_are_means_over_objectives_of_differences_of_logarithms(margins: xr.DataArray) -> None:
    found = ratios(margins, ["simclr", "moco", "cmc"])
    assert found.against.values.tolist() == ["supervised", "supervised_matched"]
    for against in found.against.values:
        for name in SETS:
            logs = np.log(margins.sel(dataset=name)).mean("seed")
            gaps = [float(logs.sel(objective=against) - logs.sel(objective=one)) for one in ("simclr", "moco", "cmc")]
            assert found.sel(against=against, probed=name).values == pytest.approx(mean_interval(np.array(gaps), 0.0))


def test_the_order_is_that_of_means_over_seeds(margins: xr.DataArray) -> None:
    accuracies = margins**2  # the same order, but for what the mean over seeds does
    found = order(margins, accuracies, OBJECTIVES[2:])
    for name in SETS:
        x, y = (v.sel(dataset=name, objective=OBJECTIVES[2:]).mean("seed").values for v in (margins, accuracies))
        assert found.sel(probed=name).values == pytest.approx(np.array(spearman(x, y)[:3]), nan_ok=True)
