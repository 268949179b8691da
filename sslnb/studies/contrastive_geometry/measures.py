"""The study's numbers for the synthesis, means over tasks, on validation images."""

from collections.abc import Mapping

import xarray as xr

from sslnb.studies.contrastive_geometry.claims import by_seed, kept


def measures(data: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Progress at the end of fine-tuning, rise of the loss, and the share of accuracy kept under FGSM and PGD."""
    end = data["trajectories"].progress.sel(split="validation", drop=True).isel(epoch=-1, drop=True)
    attacked = data["robustness"]
    return xr.Dataset(
        {
            "progress": by_seed(end).mean("task"),
            "rise": by_seed(data["flat"].rise),
            "fgsm": by_seed(kept(attacked.fgsm.sel(split="validation", drop=True))).mean("task"),
            "pgd": by_seed(kept(attacked.pgd, "pgd_budget")).mean("task"),
        }
    )
