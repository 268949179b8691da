"""What every probe of the grid says about an encoder, and the one without a parameter, not only those that were chosen.

The probes are those that the choice was made among: they have learned from the training split alone. Under the primary
standardization. ``limit_*`` is the limit of small weight decay (:mod:`sslnb.features.maxmargin`).
"""

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sslnb.features.linear import LEARNING_RATES, WEIGHT_DECAYS, Candidates, LinearProbeGrid
from sslnb.features.maxmargin import max_margin
from sslnb.features.scores import above_chance
from sslnb.metrics.margins import accuracy_at, effective_accuracy, stacked_margins
from sslnb.studies.separability.readings import BUDGETS, CURVE_POINTS, NORMS

Splits = dict[str, Tensor]


def audited(candidates: Candidates, features: Splits, labels: Splits, *, per_class: bool) -> xr.Dataset:
    """Measures on the test features of all probes of an encoder, by weight decay and learning rate, and of their limit.

    Features [N,d] and labels [N] by split. NaN where a probe did not converge.
    """
    # For all encoders the same point of the path, rather than its end for those whose classes can be separated alone.
    limit = max_margin(features["train"], labels["train"], hard=False)
    weight = torch.cat([candidates.weight, limit.weight[None].to(candidates.weight)])
    bias = torch.cat([candidates.bias, limit.bias[None].to(candidates.bias)])
    validation = float(LinearProbeGrid.scores(weight[-1:], bias[-1:], features["val"], labels["val"]))
    converged = [*candidates.converged.flatten().tolist(), above_chance(validation, labels["val"])]
    measured = _measured(weight, bias, converged, features["test"], labels["test"], per_class)
    grid, end = measured.isel(probe=slice(-1)), measured.isel(probe=-1)
    cells = {"rate": list(LEARNING_RATES), "decay": list(WEIGHT_DECAYS)}
    results = xr.Dataset({name: _on_grid(values, cells) for name, values in grid.items()})
    return results.assign(
        validation=(("rate", "decay"), candidates.grid.numpy()),
        converged=(("rate", "decay"), candidates.converged.numpy()),
        limit_validation=((), validation),
        separable=((), limit.separable),
        **{f"limit_{name}": values for name, values in end.items()},
    ).transpose("decay", "rate", ...)


def _on_grid(values: xr.DataArray, cells: dict[str, list]) -> xr.DataArray:
    """Values of one probe after another as those of learning rates and weight decays."""
    shape = [len(axis) for axis in cells.values()]
    return xr.DataArray(values.values.reshape(*shape, *values.shape[1:]), cells, (*cells, *values.dims[1:]))


def _measured(weight: Tensor, bias: Tensor, converged: list[bool], x: Tensor, y: Tensor, per_class: bool) -> xr.Dataset:
    """Mean margin, norm-AUC, effective accuracy and accuracy of stacked probes; NaN for those that did not converge."""
    n = len(weight)
    results = xr.Dataset(
        {
            "accuracy": ("probe", np.full(n, np.nan)),
            "mean_margin": (("probe", "norm"), np.full((n, len(NORMS)), np.nan)),
            "norm_auc": (("probe", "attacked"), np.full((n, len(BUDGETS)), np.nan)),
            "effective": (("probe", "attacked"), np.full((n, len(BUDGETS)), np.nan)),
        },
        {"norm": list(NORMS), "attacked": list(BUDGETS)},
    )
    usable = np.flatnonzero(converged)
    if not len(usable):
        return results
    margin = stacked_margins(weight[usable], bias[usable], x, orders=list(NORMS.values()), labels=y)
    results.mean_margin[usable] = margin.nanmean(2).T.numpy(force=True)
    for norm, budget in BUDGETS.items():
        budgets = np.linspace(0, budget, CURVE_POINTS)
        for probe, own in zip(usable, margin[list(NORMS).index(norm)], strict=True):
            curve = accuracy_at(own, budgets, groups=y if per_class else None)
            value = effective_accuracy(curve, budgets)
            results.accuracy[probe] = value.benign
            results.norm_auc.loc[{"attacked": norm}][probe] = value.norm_auc
            results.effective.loc[{"attacked": norm}][probe] = value.effective
    return results
