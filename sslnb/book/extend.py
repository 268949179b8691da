"""Extends a recorded result by members that its pool has gained since: they are measured, the others stay as they are.

What a study measures of a member depends on no other one, but for its ``joins``, which are made anew. One recorded
member is measured again beside the new ones: where its headline numbers differ, so may everybody's.
"""

import json
from pathlib import Path

import numpy as np
import xarray as xr

from sslnb import studies
from sslnb.book.verify import compared
from sslnb.core.checks import expect
from sslnb.core.result import Result
from sslnb.studies.presets import Parameters
from sslnb.studies.study import RECORDED, UNTRAINED, Context, Run, Study

Member = tuple[str, int]
ANY = 0.05  # that any number may differ by where images do: shares, areas, deviations; most differ by a thousandth
DESCRIBED = ("self_supervised", "learned")  # what results say of objectives, which may have gained seeds


def extend(name: str, *, folder: Path = RECORDED) -> Result:
    """The recorded result of a study with every finished member of its pool.

    ``ValueError`` for a study that compares members while it measures them, where there is no new member, one that
    joins the training on of others, or a recorded one with other weights, and where a recorded member, measured again,
    has other numbers.
    """
    study = studies.get(name)
    expect(study.joins is not None, "study", "one that measures each encoder by itself", name)
    recorded = Result.load(folder / name)
    whole = Context(_parameters(study, recorded))
    new, again = _members(recorded, whole)
    run = study.start(whole.parameters, only=[*new, again])
    run.step(study.steps[-1].__name__)
    other_images = _expect_same(study, recorded, run, again)
    old = {_pair(member) for member in recorded.facts["provenance"]["encoders"]}
    old |= {(UNTRAINED, seed) for _, seed in old}
    cells = [pair for pair in run.context.names if pair not in old]
    for step, there in recorded.data.items():
        measured = run.result.data[step]
        whole.data[step] = joined(there, measured, cells, whole) if "objective" in there.dims else there
    for step, join in study.joins.items():
        whole.data[step] = join(whole)
    facts = {"parameters": recorded.facts["parameters"], "provenance": _provenance(recorded, run, new, again)}
    left_out = f"pool {whole.plan.name}: left out"  # what is so now, whatever was when it was recorded
    earlier = [note for note in recorded.facts["notes"] if not note.startswith(left_out)]
    later = [note for note in run.context.notes if not note.startswith(left_out)]
    facts["notes"] = list(dict.fromkeys((*earlier, *whole.notes, *later, *other_images)))
    return study.decided(Result(name, whole.data, facts))


def _parameters(study: Study, recorded: Result) -> Parameters:
    """Those of the recording; asked for are only those that the profile has otherwise."""
    there = dict(recorded.facts["parameters"])
    profile = there.pop("profile")
    preset = json.loads(json.dumps(study.parameters.of(profile).as_dict()))
    made = study.parameters.of(profile, **{k: v for k, v in there.items() if v != preset.get(k)})
    now = json.loads(json.dumps(made.as_dict()))  # in which a None that was asked for is the preset's value again
    other = [name for name, value in there.items() if now.get(name) != value]
    expect(not other, "study", "parameters that can be had again", f"others for {', '.join(other)}")
    return made


def _pair(member: str) -> Member:
    objective, _, seed = member.rpartition("/")
    return objective, int(seed)


def _members(recorded: Result, whole: Context) -> tuple[list[str], str]:
    """Members that the result lacks, and the recorded one to measure again."""
    checksums, pool = recorded.facts["provenance"].get("encoders", {}), whole.pool
    there = [f"{objective}/{seed}" for objective, seed in whole.members]
    new = [name for name in there if name not in checksums]
    expect(bool(new), "study", f"a member of {pool.scale.name} that its result lacks", "none")
    other = [name for name, sha256 in checksums.items() if name not in there or pool.entry(name).sha256 != sha256]
    expect(not other, "study", "a result of the weights that the pool has", f"others of {', '.join(other)}")
    # Training on has a rate that the first seed of an objective chooses for all: one more is no matter of itself alone.
    together = [name for name in new if name.rpartition("/")[0] in getattr(whole.parameters, "regularized", ())]
    expect(not together, "study", "members that are measured by themselves", f"{', '.join(together)}, which train on")
    return new, next(iter(checksums))


def _expect_same(study: Study, recorded: Result, run: Run, member: str) -> list[str]:
    """``ValueError`` where a recorded member, measured again, has other numbers; notes on images that are other ones.

    Images that are drawn rather than read can differ in the rounding of a few pixels from one machine to the next.
    """
    for step, tolerances in study.headlines.items():
        for name, tolerance in tolerances.items():
            _one_same(study, recorded, run, member, (step, name), tolerance)
    images, now = (result.facts["provenance"]["data"] for result in (recorded, run.result))
    other = [name for name in now if images.get(name, now[name]) != now[name]]
    if not other:
        return []
    every = [
        (step, str(name))
        for step, data in recorded.data.items()
        for name, values in data.data_vars.items()
        if {"objective", "seed"} <= set(values.dims) and values.dtype.kind == "f"
    ]
    apart = {place: _one_same(study, recorded, run, member, place, ANY) for place in every}
    most = max(apart, key=apart.__getitem__)
    where = f"of {member} no number differs by more than {apart[most]:.2g} ({'.'.join(most)})"
    return [f"{'; '.join(other)}: new members saw images of another machine; {where}"]


def _one_same(study: Study, recorded: Result, run: Run, member: str, place: tuple[str, str], tolerance: float) -> float:
    """How far a member's numbers of one kind are from those recorded; ``ValueError`` beyond the tolerance."""
    step, name = place
    one = compared(
        study.name, step, name, (recorded.data[step][name], run.result.data[step][name]), tolerance, [member]
    )
    got = f"{step}.{name} {one.difference:.3g} apart: record the study as a whole"
    expect(one.same, "study", f"{member} as it is recorded, to {tolerance:g}", got)
    return one.difference


def joined(old: xr.Dataset, new: xr.Dataset, cells: list[Member], whole: Context) -> xr.Dataset:
    """What was measured before, with the new ``cells`` (objective and seed), in the pool's order.

    Of a variable without seeds those of new objectives are added; one without objectives stays as it is. ``ValueError``
    where a number that the whole step went by is another one.
    """
    numbers = {name: float(value) for name, value in old.attrs.items() if isinstance(value, float)}
    now = {name: new.attrs.get(name) for name in numbers}
    expect(numbers == now, "study", f"the recorded {numbers}", now)
    objectives, seeds = whole.grid()
    grid = {"objective": objectives, "seed": seeds}
    in_cells = [[(objective, seed) in cells for seed in seeds] for objective in objectives]
    added = xr.DataArray(in_cells, grid, ("objective", "seed"))
    newcomers = xr.DataArray([name not in old.objective for name in objectives], {"objective": objectives})

    def both(values: xr.DataArray) -> xr.DataArray:
        here = {dim: places for dim, places in grid.items() if dim in values.dims}
        nothing = np.nan if values.dtype.kind == "f" else values.dtype.type()
        pair = (v.drop_vars(DESCRIBED, errors="ignore") for v in (values, new[values.name]))
        before, after = (v.reindex(here, fill_value=nothing) for v in pair)
        taken = xr.where(added if "seed" in values.dims else newcomers, after, before)
        return taken.transpose(*values.dims).astype(values.dtype)

    of_encoders = {name: both(values) for name, values in old.data_vars.items() if "objective" in values.dims}
    others = {name: values for name, values in old.data_vars.items() if name not in of_encoders}
    described = {name: value for name, value in whole.coordinates().items() if name in DESCRIBED and name in old.coords}
    return xr.Dataset(of_encoders | others, attrs=old.attrs).assign_coords(described)


def _provenance(recorded: Result, run: Run, new: list[str], again: str) -> dict:
    """Where the result comes from: the first recording's, and of each extension the command, members and machine."""
    first, now = recorded.facts["provenance"], run.result.facts["provenance"]
    own = {name: now[name] for name in ("command", "date", "commit", "versions", "hardware", "seconds", "data")}
    own |= {"encoders": new, "measured_again": again}
    encoders = first["encoders"] | {name: now["encoders"][name] for name in new}
    return first | {"encoders": encoders, "extended": [*first.get("extended", []), own]}
