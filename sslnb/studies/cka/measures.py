"""The study's number for the synthesis."""

from collections.abc import Mapping

import xarray as xr

from sslnb.studies.cka.parameters import SUPERVISED


def measures(data: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """CKA of pooled features with the supervised network's, first seed; NaN for that network itself."""
    similarity, seeds = data["objectives_map"]["map"], data["layer_similarity"].seed
    names = [name for name in similarity.network.values if name != "labels"]
    values = similarity.sel(network=names, network_b=SUPERVISED, drop=True).rename(network="objective")
    values = values.where(values.objective != SUPERVISED)
    return xr.Dataset({"cka_supervised": values.expand_dims(seed=seeds.values[:1])})
