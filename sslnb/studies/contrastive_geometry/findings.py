"""What the chapter's text says of its recorded result, and whether the result bears it out."""

import numpy as np
import xarray as xr

from sslnb.core.result import Result
from sslnb.pool.pool import PIXELS
from sslnb.report import kinds
from sslnb.studies.contrastive_geometry.claims import kept
from sslnb.studies.study import UNTRAINED

MATCHED = "supervised_matched"


def means(result: Result) -> xr.Dataset:
    """What the text quotes of every method, means over seeds and tasks on validation images, shares as fractions."""
    data = result.data
    tuned, along, attacked, flat = (data[name] for name in ("fine_tuning", "trajectories", "robustness", "flat"))
    end = {"split": "validation"}
    values = {
        "accuracy": tuned.accuracy.sel(end).isel(epoch=-1),
        "standardized_accuracy": tuned.standardized_accuracy,
        "progress": along.progress.sel(end).isel(epoch=-1),
        "standardized_progress": along.standardized_progress,
        "fgsm": kept(attacked.fgsm.sel(end)),
        "pgd": kept(attacked.pgd, "pgd_budget"),
        **{name: flat[name] for name in ("loss", "rise", "sharpness", "eigenvalue", "trace")},
    }
    means = {n: v.mean("task") if "task" in v.dims else v for n, v in values.items()}
    return (
        xr.Dataset({n: v.drop_vars(["split", "epoch", "task"], errors="ignore") for n, v in means.items()})
        .groupby("objective")
        .mean()
    )
