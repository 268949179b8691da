"""The study's number for the synthesis."""

from collections.abc import Mapping

import xarray as xr


def measures(data: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """AUROC with which the Q-Score predicts what the probe gets right on the first set."""
    predicted = data["predict"].auroc.sel(predictor="qscore", drop=True)
    return xr.Dataset({"qscore_auroc": predicted.isel(dataset=0, drop=True)})
