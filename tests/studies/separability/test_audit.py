"""Measures of all probes at once are those of each probe alone."""

import math

import numpy as np
import pytest
import torch

from sslnb.features import LinearProbe, LinearProbeGrid, Standardizer
from sslnb.features.linear import LEARNING_RATES, WEIGHT_DECAYS
from sslnb.features.maxmargin import max_margin
from sslnb.metrics import effective_accuracy, margins, robust_accuracy
from sslnb.studies.separability.audit import audited
from sslnb.studies.separability.readings import BUDGETS, CURVE_POINTS, NORMS


@pytest.fixture(scope="module")
def splits() -> tuple[dict, dict]:
    """Features, standardized, and labels of three classes of unequal size."""
    generator, x, y = torch.Generator().manual_seed(0), {}, {}
    for split, n in {"train": 200, "val": 90, "test": 150}.items():
        y[split] = torch.arange(n) % 4 % 3
        x[split] = torch.randn(n, 6, generator=generator) + 1.5 * torch.nn.functional.one_hot(y[split], 6)
    standardize = Standardizer("unit_variance").fit(x["train"]).transform
    return {split: standardize(part) for split, part in x.items()}, y


@pytest.mark.parametrize("per_class", [False, True])
def test_what_is_audited_is_what_each_probe_gives_alone(splits, per_class) -> None:
    x, y = splits
    candidates = LinearProbeGrid(epochs=3).fit_all(x["train"], y["train"], x["val"], y["val"])
    found = audited(candidates, x, y, per_class=per_class)
    assert found.mean_margin.dims == ("decay", "rate", "norm")
    limit = max_margin(x["train"], y["train"], hard=False)
    cells = [(found.isel(decay=d, rate=r), "", r * len(WEIGHT_DECAYS) + d) for d, r in [(0, 0), (3, 2), (1, 6)]]
    weights = {g: (candidates.weight[g], candidates.bias[g]) for _, _, g in cells}
    cells.append((found, "limit_", -1))
    weights[-1] = limit.weight.float(), limit.bias.float()
    for cell, prefix, g in cells:
        probe = LinearProbe(*weights[g], 0.1, 0.0, True, candidates.grid)
        assert float(cell[f"{prefix}accuracy"]) == pytest.approx(probe.accuracy(x["test"], y["test"], per_class))
        assert float(cell[f"{prefix}validation"]) == pytest.approx(probe.accuracy(x["val"], y["val"]))
        for norm, p in NORMS.items():
            margin = margins(probe.weight, probe.bias, x["test"], p=p, labels=y["test"])
            own = cell[f"{prefix}mean_margin"].sel(norm=norm)
            assert float(own) == pytest.approx(float(np.nanmean(margin)), rel=1e-5)
        for norm, budget in BUDGETS.items():
            budgets = np.linspace(0, budget, CURVE_POINTS)
            data = (probe.weight, probe.bias, x["test"], y["test"], budgets)
            value = effective_accuracy(robust_accuracy(*data, p=NORMS[norm], per_class=per_class), budgets)
            assert float(cell[f"{prefix}norm_auc"].sel(attacked=norm)) == pytest.approx(value.norm_auc, rel=1e-4)
            assert float(cell[f"{prefix}effective"].sel(attacked=norm)) == pytest.approx(value.effective, rel=1e-4)


def test_the_coordinates_are_those_of_each_probe(splits) -> None:
    x, y = splits
    grid = LinearProbeGrid(epochs=2)
    found = audited(grid.fit_all(x["train"], y["train"], x["val"], y["val"]), x, y, per_class=False)
    rate, decay = LEARNING_RATES[1], WEIGHT_DECAYS[3]
    weight, bias = grid.train(x["train"], y["train"], torch.tensor([rate]), torch.tensor([decay]), 3)
    margin = margins(weight[0], bias[0], x["test"], p=2, labels=y["test"]).nanmean()
    assert float(found.mean_margin.sel(rate=rate, decay=decay, norm="l2")) == pytest.approx(float(margin), rel=1e-4)


def test_probes_that_did_not_converge_have_no_margin(splits) -> None:
    x, y = splits
    labels = y | {"val": y["val"][torch.randperm(90, generator=torch.Generator().manual_seed(1))]}
    candidates = LinearProbeGrid(epochs=2).fit_all(x["train"], labels["train"], x["val"], labels["val"])
    found = audited(candidates, x, labels, per_class=False)
    assert not bool(found.converged.any())
    assert all(bool(found[name].isnull().all()) for name in ("mean_margin", "norm_auc", "accuracy", "limit_effective"))
    assert math.isfinite(float(found.limit_validation))
