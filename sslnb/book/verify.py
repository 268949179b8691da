"""Measures published numbers again from the encoders that ship, and compares them with what is recorded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from sslnb import studies
from sslnb.core.checks import expect
from sslnb.core.result import Result
from sslnb.pool import Pool
from sslnb.studies.study import RECORDED, Study

MEMBERS = ("supervised/0", "simclr/0")  # what most claims compare; each more adds its share of the minutes


@dataclass(frozen=True)
class Comparison:
    """One recorded number, or several of one kind, measured again."""

    study: str
    step: str
    name: str
    cells: int  # how many numbers of the encoders
    difference: float  # the greatest
    tolerance: float
    note: str = ""  # why it could not be compared

    @property
    def same(self) -> bool:
        return bool(self.note) or self.difference <= self.tolerance


def verify(
    names: Sequence[str] = (), members: Sequence[str] = MEMBERS, *, folder: Path = RECORDED
) -> Iterator[Comparison]:
    """Comparisons of every study that says its headline numbers, as they come.

    Steps run with the recorded parameters, for these ``members`` alone, and on the first set where a study has several.
    ``ValueError`` where nothing recorded can be compared.
    """
    chosen = [name for name in names or studies.NAMES if studies.get(name).headlines]
    expect(bool(chosen), "study", "one with headline numbers", list(names))
    compared = 0
    for name in chosen:
        for one in _of(studies.get(name), members, folder):
            compared += not one.note
            yield one
    expect(compared > 0, "results", f"some of {folder.name}/ recorded from the encoders that ship", "none")


def _of(study: Study, members: Sequence[str], folder: Path) -> Iterator[Comparison]:
    if not (folder / f"{study.name}.json").is_file():
        yield _left_out(study, f"not recorded in {folder.name}/")
        return
    recorded = Result.load(folder / study.name)
    reason = _not_comparable(recorded, members)
    if reason:
        yield _left_out(study, reason)
        return
    asked = dict(recorded.facts["parameters"])
    profile = asked.pop("profile")
    parameters = study.parameters.of(profile, **asked | _first_set(study, asked) | study.spared)
    run = study.start(parameters, only=members)
    for step, tolerances in study.headlines.items():
        again = run.step(step)
        for name, tolerance in tolerances.items():
            yield compared(study.name, step, name, (recorded.data[step][name], again[name]), tolerance, members)


def _first_set(study: Study, asked: dict) -> dict[str, object]:
    several = asked.get(study.parameters.IMAGES)
    return {study.parameters.IMAGES: several[:1]} if isinstance(several, list) else {}


def _not_comparable(recorded: Result, members: Sequence[str]) -> str:
    """Why a result says nothing about the encoders that ship; empty where it does."""
    checksums = recorded.facts["provenance"].get("encoders", {})
    pool = recorded.facts["parameters"].get("pool")
    missing = [name for name in members if name not in checksums]
    if missing:
        return f"recorded without {', '.join(missing)} of a pool"
    other = [name for name in members if Pool(pool).entry(name).sha256 != checksums[name]]
    return f"recorded with other weights of {', '.join(other)}" if other else ""


def _left_out(study: Study, reason: str) -> Comparison:
    return Comparison(study.name, "", "", 0, float("nan"), 0.0, reason)


def compared(
    study: str, step: str, name: str, pair: tuple[xr.DataArray, xr.DataArray], tolerance: float, members: Sequence[str]
) -> Comparison:
    """A variable as recorded and as measured again, of some members alone."""
    old, new = xr.align(*(_by_encoder(values, members) for values in pair), join="inner")
    here, there = (np.isfinite(values.values) for values in (old, new))
    differences = np.abs(old.values - new.values)[here & there]
    gaps = int((here != there).sum())  # a number on one side alone is as different as can be
    greatest = float("inf") if gaps else float(differences.max(initial=0.0))
    note = "" if here.any() or there.any() else "not measured for these encoders"
    return Comparison(study, step, name, int(here.sum()), greatest, tolerance, note)


def _by_encoder(values: xr.DataArray, members: Sequence[str]) -> xr.DataArray:
    """Of some members alone, NaN elsewhere, with runs told apart by objective and seed rather than by their place."""
    pairs = {(objective, int(seed)) for objective, _, seed in (name.rpartition("/") for name in members)}
    if "run" in values.dims:
        values = values.set_index(run=("objective", "seed"))
        return values.isel(run=[(str(o), int(s)) in pairs for o, s in values.indexes["run"]])
    for objective, seed in (("objective", "seed"), ("objective_b", "seed_b")):
        if {objective, seed} <= set(values.dims):
            cells = [[(str(o), int(s)) in pairs for s in values[seed].values] for o in values[objective].values]
            coordinates = {dim: values[dim].values for dim in (objective, seed)}
            values = values.where(xr.DataArray(cells, coordinates, (objective, seed)))
    return values
