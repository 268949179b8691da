"""Results: datasets with named dimensions in one netCDF file, and everything else in one JSON file beside it."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr

from sslnb.core.checks import expect
from sslnb.core.files import atomic, sha256


@dataclass
class Result:
    """What a study measured: ``data``, an ``xarray.Dataset`` for each step, and ``facts`` (JSON-able).

    Facts hold the study's name, its parameters, verdicts and provenance. ``result.data["separation"]`` is a dataset;
    ``.sel(objective="simclr")`` reads it by name.
    """

    study: str
    data: dict[str, xr.Dataset] = field(default_factory=dict)
    facts: dict = field(default_factory=dict)

    def save(self, path: Path | str) -> Path:
        """Write ``PATH.nc`` and ``PATH.json``, each whole or not at all; a pair that does not match is refused later.

        NaN and infinity survive. ``TypeError`` for facts that JSON can't hold; then nothing is written.
        """
        netcdf, described = _files(path)
        facts = json.dumps(_plain(self.facts), ensure_ascii=False, indent=1, allow_nan=False)
        with atomic(described) as json_partial, atomic(netcdf) as data_partial:
            tree = xr.DataTree.from_dict({f"/{name}": dataset for name, dataset in self.data.items()})
            tree.to_netcdf(data_partial, engine="h5netcdf", encoding=self._encoding())
            whole = {"study": self.study, "steps": list(self.data), "data": sha256(data_partial)}
            text = json.dumps(whole, indent=1)[:-2] + f',\n "facts": {facts}\n}}\n'
            json_partial.write_text(text, encoding="utf-8")
        return netcdf.with_suffix("")

    def _encoding(self) -> dict[str, dict]:
        """Compressed without loss, where that saves more than the chunks cost that it needs; texts letter by letter."""
        squeezed = {"zlib": True, "complevel": 5, "shuffle": True}
        letters = squeezed | {"dtype": "S1"}  # texts of any length can't be compressed
        return {
            f"/{step}": {
                name: letters if values.dtype.kind in "UO" else squeezed
                for name, values in dataset.variables.items()
                if values.nbytes > LEAST_COMPRESSED
            }
            for step, dataset in self.data.items()
        }

    @staticmethod
    def load(path: Path | str) -> "Result":
        """Read what :meth:`save` wrote; ``ValueError`` names the file that is missing or damaged."""
        netcdf, described = _files(path)
        try:
            whole = json.loads(described.read_text(encoding="utf-8"))
            expect(
                isinstance(whole, dict) and set(whole) == KEYS, f"path: {described}", f"keys {sorted(KEYS)}", "others"
            )
            matches = whole["data"] == sha256(netcdf)
            expect(matches, f"path: {netcdf}", f"the data that {described.name} is of", "others")
            data = {step: xr.load_dataset(netcdf, group=step, engine="h5netcdf") for step in whole["steps"]}
        except FileNotFoundError as error:
            raise ValueError(f"path: expected a saved Result, got no file {error.filename}") from error
        except (ValueError, KeyError, OSError) as error:
            raise ValueError(f"path: expected a whole Result at {described} and {netcdf.name}, got: {error}") from error
        return Result(whole["study"], data, whole["facts"])


def bit_round(values: np.ndarray, bits: int) -> np.ndarray:
    """Values as float32 of which BITS binary digits count, so that a file compresses; NaN and infinity stay.

    The relative error is at most 2^-bits: for draws and curves, whose noise is greater (netCDF's *BitRound*).
    """
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits).astype(np.float32)


KEYS = {"study", "steps", "data", "facts"}
LEAST_COMPRESSED = 4096  # bytes


def _files(path: Path | str) -> tuple[Path, Path]:
    """The .nc and .json of a result; a dot in its name is part of the name."""
    path = Path(path)
    stem = path.stem if path.suffix in (".nc", ".json") else path.name
    return path.with_name(f"{stem}.nc"), path.with_name(f"{stem}.json")


def _plain(value: object) -> object:
    """NumPy numbers as plain ones, tuples as lists, numbers that are not finite as None; ``TypeError`` for the rest."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"facts: expected JSON-able values, got {type(value).__name__}")
