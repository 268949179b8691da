"""Margins on every set: whether they have the order of accuracy, and how much larger labels make them.

xarray in, xarray out; ``margins`` and ``accuracies`` have the dimensions objective, seed and dataset.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from sslnb.core.claims import mean_interval
from sslnb.core.labels import CONTROLS
from sslnb.studies.synthesis.relations import spearman

BOUNDS = ["value", "low", "high"]


def order(margins: xr.DataArray, accuracies: xr.DataArray, units: Sequence[str]) -> xr.DataArray:
    """Rank correlation [probed, bound] of margins with accuracy over objectives, on each set."""
    both = [values.reindex(objective=list(units)).mean("seed") for values in (margins, accuracies)]
    names = list(margins.dataset.values)
    rows = [spearman(*(values.sel(dataset=name).values for values in both))[:3] for name in names]
    return xr.DataArray(rows, {"probed": names, "bound": BOUNDS}, ("probed", "bound"))


def ratios(margins: xr.DataArray, claimed: Sequence[str]) -> xr.DataArray:
    """Log ratio [against, probed, bound] of supervised training's margins, or a control's, to those of ``claimed``.

    Means over seeds of log margins; the unit of the interval is the objective.
    """
    known = [name for name in ("supervised", *CONTROLS) if name in margins.objective.values]
    logs = np.log(margins).mean("seed").transpose("objective", "dataset")
    over, sets = logs.sel(objective=list(claimed)).values, list(margins.dataset.values)
    gaps = [(logs.sel(objective=one).values - over).T for one in known]  # [set, claimed] against each
    rows = [[mean_interval(gap[np.isfinite(gap)], 0.0) for gap in one] for one in gaps]
    coordinates = {"against": known, "probed": sets, "bound": BOUNDS}
    return xr.DataArray(np.reshape(rows, (len(known), len(sets), 3)), coordinates, tuple(coordinates))
