"""The study's numbers for the synthesis, under the primary standardization and the common weight decay."""

from collections.abc import Mapping

import xarray as xr

from sslnb.studies.separability.claims import compared


def measures(data: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Accuracies on the first set, transfer to the others, margin, norm-AUC and effective accuracy on the first."""
    probed, separation = data["probes"], data["separation"]
    accuracy = compared(probed, probed.accuracy)
    first = {"dataset": 0, "drop": True}
    return xr.Dataset(
        {
            "accuracy": accuracy.isel(**first),
            "knn": probed.knn.isel(**first),
            "transfer": accuracy.isel(dataset=slice(1, None)).mean("dataset"),
            "margin": compared(probed, separation.mean_margin).sel(norm="l2", drop=True).isel(**first),
            "norm_auc": compared(probed, separation.norm_auc).mean("attacked").isel(**first),
            "effective": compared(probed, separation.effective).mean("attacked").isel(**first),
        }
    )
