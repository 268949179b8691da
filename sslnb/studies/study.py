"""What every study is: checked parameters with presets, steps from a Context to named data, claims decided by one rule.

A study measures encoders of the pool and trains none. A sixth one is a folder with a ``STUDY`` and a notebook.
"""

import ast
import dataclasses
import functools
import time
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import xarray as xr
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from sslnb import data
from sslnb.core.checks import expect, expect_known
from sslnb.core.claims import Claim, Verdict, gate
from sslnb.core.provenance import provenance
from sslnb.core.result import Result
from sslnb.data import ImageSet
from sslnb.data.images import at_most
from sslnb.encoders import Encoder, load_encoder
from sslnb.objectives.registry import OBJECTIVES
from sslnb.pool import Pool
from sslnb.pool import train as pool_training
from sslnb.pool.pool import MATCHED, UNTRAINED
from sslnb.pool.scales import QUICK_POOLS, SCALES

PROFILES = ("quick", "small", "paper", "published")
RECORDED = Path(__file__).resolve().parents[2] / "book" / "results"
PATHS = ("folder", "npz", "hf", "checkpoint")  # what begins a name that goes on with a path
OWN = "encoder"  # how results name an encoder that the user brings

# --- parameters -------------------------------------------------------------------------------------------------------


def listed(value: object) -> object:
    """Text with commas, or with semicolons where names hold commas, as a list; a single value as a list of one."""
    if isinstance(value, str):
        separator = ";" if ";" in value else ","
        parts = [part.strip() for part in value.split(separator)]
        return tuple(parts[:-1] if separator == ";" and parts[-1] == "" else parts)
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def distinct(values: tuple) -> tuple:
    """A field's values, if none comes twice."""
    if len(set(values)) < len(values):
        raise ValueError(f"expected distinct values, got {values}")
    return values


Count = typing.Annotated[int, Field(ge=1)]
Counts = typing.Annotated[tuple[Count, ...], BeforeValidator(listed)]
Names = typing.Annotated[tuple[typing.Annotated[str, Field(min_length=1)], ...], BeforeValidator(listed)]


@dataclasses.dataclass(frozen=True)
class Preset:
    """A profile of a study: what it costs, what it reaches, and the values that make it so."""

    minutes: float  # measured for quick, once its pool is there; of the others an expectation
    hardware: str
    reaches: str
    values: Mapping[str, object]


class Parameters(BaseModel):
    """Parameters of a study; a subclass adds typed fields, whose defaults are the quick preset's, and ``PRESETS``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str = "quick"
    pool: str = "quick"  # whose encoders are measured
    objectives: Names | None = None  # of the pool's members; all of them unless given
    encoder: str | None = None  # one more to measure, such as checkpoint:PATH or torchvision:resnet50
    size: Count | None = None  # side of the images in pixels; their own unless given

    PRESETS: typing.ClassVar[dict[str, Preset]] = {}
    _asked: frozenset[str] = PrivateAttr(frozenset())  # fields that somebody set: the others are cut to what there is

    @field_validator("pool")
    @classmethod
    def _known_pool(cls, name: str) -> str:
        if not name.startswith("paper"):  # which is planned where there is a GPU
            expect_known(name, tuple(SCALES), "pool")
        return name

    @model_validator(mode="after")
    def _there(self) -> typing.Self:
        """Members that the pool plans, and files that exist: refused here, before anything is computed."""
        for objective in self.objectives or () if self.pool in SCALES else ():
            expect_known(objective, sorted(SCALES[self.pool].variants), "objectives")
        for name, value in self:
            for item in value if isinstance(value, tuple) else (value,):
                kind, _, path = item.partition(":") if isinstance(item, str) else ("", "", "")
                there = kind not in PATHS or Path(path.partition("?")[0]).expanduser().exists()
                expect(there, name, f"{kind}: and a path that exists", item)
        return self

    @classmethod
    def of(cls, profile: str = "quick", **changes: object) -> typing.Self:
        """A profile's preset with some fields changed; ``None`` keeps the preset's value.

        ``ValueError`` for an unknown profile or name (with the nearest valid one) or a value of the wrong kind.
        """
        expect_known(profile, PROFILES, "profile")
        for name in changes:
            expect_known(name, tuple(cls.model_fields), "parameter")
        changed = {name: value for name, value in changes.items() if value is not None}
        expect(profile != "published" or not changed, "profile", "no other parameter with 'published'", [*changed])
        preset = cls.PRESETS["small" if profile == "published" else profile].values
        try:
            made = cls(**{"profile": profile} | dict(preset) | changed)
        except ValidationError as error:
            raise ValueError(_in_one_line(error)) from error
        made._asked = frozenset(changed)
        return made

    def asked(self, name: str) -> bool:
        """Whether a value was asked for, rather than a preset's."""
        return name in self._asked

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, object]) -> typing.Self:
        """Parameters out of a notebook's globals, as its parameters cell and papermill left them.

        Other globals are the user's own. A name that papermill injected has to be a parameter: papermill itself only
        logs one that the notebook does not know, and runs on.
        """
        injected = set(_injected(namespace.get("In", []))) - {"result_path"}
        names = injected | {name for name in cls.model_fields if name in namespace}
        return cls.of(**{name: namespace[name] for name in names})

    def as_dict(self) -> dict:
        return self.model_dump(mode="json")


def _injected(cells: list[str]) -> Iterator[str]:
    """Names that the cell of papermill's parameters assigns to."""
    for cell in cells:
        if cell.startswith("# Parameters\n"):
            for node in ast.parse(cell).body:
                if isinstance(node, ast.Assign):
                    yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _in_one_line(error: ValidationError) -> str:
    """The first problem as *name: expected …, got …*."""
    problem = error.errors()[0]
    if not problem["loc"]:  # of several fields together, which the message names
        return problem["msg"].removeprefix("Value error, ")
    bounds = {
        "greater_than_equal": "at least {ge}",
        "greater_than": "a value above {gt}",
        "less_than_equal": "at most {le}",
    }
    text = bounds.get(problem["type"], "").format(**problem.get("ctx", {}))
    if problem["type"] == "value_error":
        text, name = problem["msg"].removeprefix("Value error, "), problem["loc"][0]
        return text if text.startswith(f"{name}: ") else f"{name}: {text}"
    expected = text or problem["msg"].removeprefix("Input should be ").partition(",")[0]
    return f"{problem['loc'][0]}: expected {expected}, got {problem['input']!r}"


# --- a run ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Measured:
    """An encoder that a study measures: a member of the pool, a control, or the user's own."""

    objective: str
    seed: int
    encoder: Encoder


class Context:
    """What a step works with: parameters, the pool, images, and the datasets of the steps before."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.data: dict[str, xr.Dataset] = {}
        self.notes: list[str] = []  # what the page has to say: where a set was smaller than a preset asks for, …
        self.checksums: dict[str, str] = {}  # of the images that were measured on
        self.memory: dict = {}  # what a step leaves for later ones and no result holds: probes, features
        self.own = load_encoder(parameters.encoder).eval() if parameters.encoder else None

    @functools.cached_property
    def pool(self) -> Pool:
        """The pool; a quick one is trained first where it is not there."""
        if self.parameters.pool in QUICK_POOLS:
            pool_training.train(self.parameters.pool)
        return Pool(self.parameters.pool)

    @functools.cached_property
    def names(self) -> tuple[tuple[str, int], ...]:
        """Objective and seed of everything that is measured: members, the untrained twin of each seed, the user's."""
        asked = self.parameters.objectives
        members = [(name.rpartition("/")[0], int(name.rpartition("/")[2])) for name in self.pool.members()]
        for objective in asked or ():
            expect_known(objective, sorted({name for name, _ in members}), "objectives")
        chosen = [(name, seed) for name, seed in members if asked is None or name in asked]
        twins = [(UNTRAINED, seed) for seed in sorted({seed for _, seed in chosen})]
        return (*chosen, *twins, *([(OWN, 0)] if self.own else []))

    def encoder(self, objective: str, seed: int) -> Encoder:
        return self.own if objective == OWN else self.pool.encoder(objective, seed)

    def grid(self) -> tuple[list[str], list[int]]:
        """Coordinates of results: objectives and seeds; a cell without an encoder is NaN."""
        return list(dict.fromkeys(name for name, _ in self.names)), sorted({seed for _, seed in self.names})

    @functools.cached_property
    def unlearned(self) -> dict[str, str]:
        """Objectives that did not pass the gate, with the reason: validation accuracies, by the rule of the claims."""
        floor, accuracy = self.pool.floor(), dict[str, list[float]]()
        for name, seed in self.names:
            # What learned from another set than the pool's has no place beside that set's floor.
            variant = self.pool.scale.variants.get(name)  # controls and the user's own have none
            if variant is not None and not variant.dataset:
                accuracy.setdefault(name, []).append(self.pool.entry(f"{name}/{seed}").accuracy["linear"])
        return gate(accuracy, floor["pixels"], floor["untrained"])[1]

    def coordinates(self) -> dict[str, object]:
        """Coordinates that all of a study's datasets share: objectives, with what they are, and seeds."""
        objectives, seeds = self.grid()
        labels_used = {
            name: OBJECTIVES[v.objective or name].uses_labels for name, v in self.pool.scale.variants.items()
        }
        trained = {*labels_used, MATCHED}
        return {
            "objective": objectives,
            "seed": seeds,
            "self_supervised": ("objective", [not labels_used.get(name, True) for name in objectives]),
            "learned": ("objective", [name in trained and name not in self.unlearned for name in objectives]),
        }

    def at_most(self, field: str, have: int) -> int:
        """A field's value, or what there is: a preset's is cut and noted, ``ValueError`` for one that was asked for."""
        wanted = getattr(self.parameters, field)
        if wanted <= have:
            return wanted
        expect(not self.parameters.asked(field), field, f"at most {have:,}, as many as there are", wanted)
        note = f"{field}: {have:,}, where {wanted:,} were asked for"
        self.notes += [] if note in self.notes else [note]
        return have

    @functools.cache  # noqa: B019 - a context lives as long as its study
    def images(
        self,
        name: str,
        split: str,
        limit: int | None = None,
        classes: tuple[int, ...] | None = None,
        side: int | None = None,
    ) -> ImageSet:
        """A set's split at the study's size or another, at most ``limit`` images; a note says where there are fewer."""
        images = data.load(name, split, size=side or self.parameters.size, classes=classes)
        described = f"{name}, {split}" + (f", classes {' '.join(map(str, classes))}" if classes else "")
        described += f", {side} px" if side else ""
        if limit is not None and len(images) < limit:
            self.notes.append(f"{described}: {len(images):,} images, where {limit:,} were asked for")
        images = at_most(images, limit)
        self.checksums[described] = images.checksum()
        return images


Step = Callable[[Context], xr.Dataset]


def empty(coordinates: Mapping[str, Iterable], *dims: str) -> xr.DataArray:
    """NaN over some of the coordinates, or over all of them: what a step fills cell by cell."""
    values = {dim: list(coordinates[dim]) for dim in dims or coordinates}
    return xr.DataArray(np.full([len(v) for v in values.values()], np.nan), values, tuple(values))


def pretraining(context: Context) -> xr.Dataset:
    """How the pool's members were trained: curves, validation accuracies and hours, the first step of every study."""
    coordinates = context.coordinates()
    members = [(name, seed) for name, seed in context.names if name not in (UNTRAINED, OWN)]
    entries = {member: context.pool.entry("{}/{}".format(*member)) for member in members}
    epochs = max((len(entry.history["loss"]) for entry in entries.values()), default=0)
    shape = (len(coordinates["objective"]), len(coordinates["seed"]))
    results = xr.Dataset(coords=coordinates | {"epoch": 1 + np.arange(epochs)})
    for name in ("loss", "knn", "probe"):
        results[name] = ("objective", "seed", "epoch"), np.full((*shape, epochs), np.nan)
    for name in ("knn_accuracy", "linear_accuracy", "hours"):
        results[name] = ("objective", "seed"), np.full(shape, np.nan)
    for (objective, seed), entry in entries.items():
        cell = {"objective": objective, "seed": seed}
        for name in ("loss", "knn", "probe"):
            values = np.array([np.nan if v is None else v for v in entry.history[name]], float)
            results[name].loc[cell | {"epoch": slice(1, len(values))}] = values
        results.knn_accuracy.loc[cell], results.linear_accuracy.loc[cell] = (
            entry.accuracy.get(k, np.nan) for k in ("knn", "linear")
        )
        results.hours.loc[cell] = entry.seconds / 3600
    floor = context.pool.floor()
    return results.assign(pixels_accuracy=floor["pixels"], untrained_accuracy=max(floor["untrained"]))


@dataclasses.dataclass(frozen=True)
class Study:
    """A study: ``steps`` turn a Context into datasets, ``decide`` turns those into verdicts on ``claims``."""

    name: str
    title: str
    paper: str  # its key in book/references.bib, also of its printed numbers
    parameters: type[Parameters]
    steps: tuple[Step, ...]
    claims: Mapping[str, Claim]
    decide: Callable[[Mapping[str, xr.Dataset]], list[Verdict]]

    def start(self, parameters: Parameters) -> "Run":
        return Run(self, parameters)


class Run:
    """A study in progress: ``result`` fills step by step, or is the recorded one when the profile is ``published``."""

    def __init__(self, study: Study, parameters: Parameters) -> None:
        self.study, self.parameters, self.context = study, parameters, None
        if parameters.profile == "published":
            where = f"a checkout of the repository, whose {RECORDED.parent.name}/{RECORDED.name} holds what is recorded"
            expect(RECORDED.is_dir(), "profile", where, f"'published' in an installation without {RECORDED}")
            self.result = Result.load(RECORDED / study.name)
        else:
            self.context = Context(parameters)
            facts = {"parameters": parameters.as_dict(), "provenance": provenance(seconds={}), "notes": []}
            self.result = Result(study.name, self.context.data, facts)

    def step(self, name: str) -> xr.Dataset:
        """The dataset of a step, after those before it; each runs once."""
        expect_known(name, [step.__name__ for step in self.study.steps], "step")
        for step in self.study.steps:
            if step.__name__ not in self.result.data:
                started = time.monotonic()
                self.context.data[step.__name__] = step(self.context)
                self._record(step.__name__, time.monotonic() - started)
            if step.__name__ == name:
                break
        return self.result.data[name]

    def _record(self, step: str, seconds: float) -> None:
        facts = self.result.facts
        facts["notes"] = self.context.notes
        facts["provenance"]["seconds"][step] = round(seconds, 2)
        facts["provenance"]["data"] = self.context.checksums
        if "names" in vars(self.context):  # a study need not ask for encoders
            members = [f"{name}/{seed}" for name, seed in self.context.names if name not in (UNTRAINED, OWN)]
            facts["provenance"]["encoders"] = {name: self.context.pool.entry(name).sha256 for name in members}

    def all(self) -> Result:
        """Every step, then the claims."""
        self.step(self.study.steps[-1].__name__)
        return self.claims()

    def claims(self) -> Result:
        """The claims, decided from the data of all steps."""
        self.step(self.study.steps[-1].__name__)
        if "verdicts" not in self.result.facts:
            verdicts = self.study.decide(self.result.data)
            self.result.facts["verdicts"] = [dataclasses.asdict(verdict) for verdict in verdicts]
        return self.result
