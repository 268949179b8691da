"""The study's numbers for the synthesis, under the primary standardization and the common weight decay."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from sslnb.studies.separability.claims import OBJECTIVES, compared, learned_in


def measures(data: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Accuracies on the first set, transfer to the others, margin, norm-AUC and effective accuracy on the first.

    Besides, accuracies and margins on every set, the latter as geometric means over norms with the objectives that the
    claim on margins is about as their attribute ``claimed``.
    """
    probed, separation = data["probes"], data["separation"]
    accuracy = compared(probed, probed.accuracy)
    first = {"dataset": 0, "drop": True}
    margins = np.exp(np.log(compared(probed, separation.mean_margin)).mean("norm"))
    claimed = [name for name in learned_in(probed) if name in OBJECTIVES] or learned_in(probed)
    return xr.Dataset(
        {
            "accuracy": accuracy.isel(**first),
            "knn": probed.knn.isel(**first),
            "transfer": accuracy.isel(dataset=slice(1, None)).mean("dataset"),
            "margin": compared(probed, separation.mean_margin).sel(norm="l2", drop=True).isel(**first),
            "norm_auc": compared(probed, separation.norm_auc).mean("attacked").isel(**first),
            "effective": compared(probed, separation.effective).mean("attacked").isel(**first),
            "accuracies": accuracy,
            "margins": margins.assign_attrs(claimed=claimed),
        }
    )
