"""What every study is: checked parameters, steps from a Context to named data, claims decided by one rule.

A study measures encoders of the pool and trains none. Another one is a folder with a ``STUDY`` and a notebook.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from sslnb import data
from sslnb.core.checks import expect, expect_known
from sslnb.core.claims import Claim, Verdict, gate
from sslnb.core.labels import label
from sslnb.core.provenance import provenance
from sslnb.core.result import Result
from sslnb.data import ImageSet
from sslnb.encoders import Encoder, load_encoder
from sslnb.encoders.encoder import weights_checksum
from sslnb.encoders.wrapped import expect_takes
from sslnb.objectives.registry import OBJECTIVES
from sslnb.pool import Pool
from sslnb.pool import train as pool_training
from sslnb.pool.members import Scale, scale
from sslnb.pool.pool import MATCHED, UNTRAINED
from sslnb.pool.scales import QUICK_POOLS
from sslnb.studies.presets import Parameters

RECORDED = Path(__file__).resolve().parents[2] / "book" / "results"
OWN = "encoder"  # how results name an encoder that the user brings


class Context:
    """What a step works with: parameters, the pool, images, and the datasets of the steps before."""

    def __init__(self, parameters: Parameters, only: Iterable[str] = ()) -> None:
        self.parameters, self.only = parameters, frozenset(only)  # members OBJECTIVE/SEED, all unless some are named
        self.data: dict[str, xr.Dataset] = {}
        self.notes: list[str] = []  # what the page has to say: where a set was smaller than a preset asks for, …
        self.checksums: dict[str, str] = {}  # of the images that were measured on
        self.memory: dict = {}  # what a step leaves for later ones and no result holds: probes, features
        self.plan = scale(parameters.pool, "pool")  # which a preset may name before anybody plans it
        # Where a study takes several, it loads them itself.
        self.own = load_encoder(parameters.encoder).eval() if isinstance(parameters.encoder, str) else None

    @functools.cached_property
    def architecture(self) -> Encoder:
        """An encoder as the pool's are, before any training."""
        return Pool(self.plan.name).encoder(UNTRAINED)

    @functools.cached_property
    def pool(self) -> Pool:
        """The pool; a quick one is trained first where it is not there."""
        if self.parameters.pool in QUICK_POOLS:
            pool_training.train(self.parameters.pool)
        return Pool(self.parameters.pool)

    @functools.cached_property
    def members(self) -> tuple[tuple[str, int], ...]:
        """Objective and seed of all members that are asked for, whether ``only`` some of them are measured or not."""
        asked = self.parameters.objectives
        members = [(name.rpartition("/")[0], int(name.rpartition("/")[2])) for name in self.pool.members()]
        ask = f"finished encoders (sslnb pool train --scale {self.plan.name} makes them)"
        expect(bool(members), "pool", ask, f"none in {self.plan.name}")
        trained = {name for name, _ in members}
        for objective in asked or ():
            expect_known(objective, sorted(trained), "objectives")
        missing = [name for name in self.plan.variants if name not in trained]
        if missing and asked is None:
            self.note(f"pool {self.plan.name}: left out, as not trained yet: {'; '.join(map(label, missing))}")
        return tuple((name, seed) for name, seed in members if asked is None or name in asked)

    @functools.cached_property
    def names(self) -> tuple[tuple[str, int], ...]:
        """Objective and seed of everything that is measured: members, the untrained twin of each seed, the user's."""
        chosen = [(name, seed) for name, seed in self.members if not self.only or f"{name}/{seed}" in self.only]
        twins = [(UNTRAINED, seed) for seed in sorted({seed for _, seed in chosen})]
        return (*chosen, *twins, *([(OWN, 0)] if self.own else []))

    def seeds(self, name: str) -> set[int]:
        """Seeds of a variant that are measured."""
        return {seed for seed in self.pool.seeds(name) if not self.only or f"{name}/{seed}" in self.only}

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
            variant = self.plan.variants.get(name)  # controls and the user's own have none
            if variant is not None and not variant.dataset:
                accuracy.setdefault(name, []).append(self.pool.entry(f"{name}/{seed}").accuracy["linear"])
        return gate(accuracy, floor["pixels"], floor["untrained"])[1]

    def coordinates(self) -> dict[str, object]:
        """Coordinates that all of a study's datasets share: objectives, with what they are, and seeds."""
        objectives, seeds = self.grid()
        labels_used = {name: OBJECTIVES[v.objective or name].uses_labels for name, v in self.plan.variants.items()}
        trained = {*labels_used, MATCHED}
        return {
            "objective": objectives,
            "seed": seeds,
            "self_supervised": ("objective", [not labels_used.get(name, True) for name in objectives]),
            "learned": ("objective", [name in trained and name not in self.unlearned for name in objectives]),
        }

    def note(self, text: str) -> None:
        """Have the page say something, once however many steps come upon it."""
        if text not in self.notes:
            self.notes.append(text)

    def at_most(self, field: str, have: int) -> int | None:
        """A field's value, or what there is: a preset's is cut and noted, ``ValueError`` for one that was asked for."""
        wanted = getattr(self.parameters, field)
        if wanted is None or wanted <= have:
            return wanted
        expect(not self.parameters.asked(field), field, f"at most {have:,}, as many as there are", wanted)
        self.note(f"{field}: {have:,}, where {wanted:,} were asked for")
        return have

    def expect_usable(self, argument: str, splits: Mapping[str, ImageSet], *, by_own: bool = True) -> None:
        """``ValueError`` for images of one class alone, or that the pool's encoders or the user's do not take."""
        for split, images in splits.items():
            some = len(images.labels.unique()) > 1
            expect(some, argument, "images of at least two classes", f"{images.name}, whose {split} split has one")
        shapes = {split: list(images.images.shape[1:]) for split, images in splits.items()}
        one = len({*map(tuple, shapes.values())}) == 1
        expect(one, argument, "splits whose images are alike in channels and size", shapes)
        images = next(iter(splits.values())).images
        expect_takes(self.architecture, images, argument)
        self.note_size("pool", self.architecture, images.shape[-1])
        if self.own is not None and by_own:
            expect_takes(self.own, images, OWN)
            self.note_size("encoder", self.own, images.shape[-1])

    def note_size(self, argument: str, encoder: Encoder, side: int) -> None:
        """Say where weights were made for larger images."""
        made_for = encoder.side
        if made_for and side < made_for:
            wanted = f"its weights were made for images of {made_for} px, these have {side} px (size={made_for})"
            self.note(f"{argument}: {wanted}")

    @functools.cache  # noqa: B019 - a context lives as long as its study
    def images(
        self,
        name: str,
        split: str,
        limit: int | None = None,
        classes: tuple[int, ...] | None = None,
        side: int | None = None,
    ) -> ImageSet:
        """A set's split at the study's size or another, at most ``limit`` images; a note says where there are fewer.

        A limit is no demand, whoever sets it, since one is for all sets of a study, of which some are smaller.
        """
        images = data.load(name, split, at_most=limit, size=side or self.parameters.size, classes=classes)
        described = f"{name}, {split}" + (f", classes {' '.join(map(str, classes))}" if classes else "")
        described += f", {side} px" if side else ""
        if limit is not None and len(images) < limit:
            self.note(f"{described}: {len(images):,} images, where {limit:,} were asked for")
        self.checksums[described] = images.checksum()
        return images

    def splits(self, name: str, *, val: int | None = None, side: int | None = None) -> dict[str, ImageSet]:
        """What probes train on, are chosen on (all of it, or at most ``val`` images) and are judged by."""
        limits = {"train": self.parameters.probe_limit, "val": val, "test": self.parameters.test_limit}
        return {split: self.images(name, split, limit, side=side) for split, limit in limits.items()}


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
    """A study: ``steps`` turn a Context into datasets, ``decide`` turns those into verdicts on ``claims``.

    ``headlines`` are variables of steps that can be measured again for some encoders alone, each with the difference
    that another machine may make; ``spared`` are parameters under which they are the same and all else is cheap.
    Where all steps measure each encoder by itself, ``joins`` are those that then compare them, or their parts that do,
    made anew when others join; None where steps need all encoders at once.
    """

    name: str
    title: str
    paper: str  # its key in book/references.bib, also of its printed numbers
    parameters: type[Parameters]
    steps: tuple[Step, ...]
    claims: Mapping[str, Claim]
    decide: Callable[[Mapping[str, xr.Dataset]], list[Verdict]]
    measures: Callable[[Mapping[str, xr.Dataset]], xr.Dataset] = lambda _: xr.Dataset()  # of studies.measures, by name
    check: Callable[[Context], None] = lambda _: None  # refuses what would stop a step, before anything is trained
    headlines: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    spared: Mapping[str, object] = dataclasses.field(default_factory=dict)
    joins: Mapping[str, Step] | None = None
    published: bool = False  # whether weights suffice: encoders whose training, with its images, is not at hand

    def start(self, parameters: Parameters, only: Iterable[str] = ()) -> "Run":
        """Begin; with ``only`` on some members of the pool, as OBJECTIVE/SEED, and their untrained twins."""
        return Run(self, parameters, only)

    def decided(self, result: Result) -> Result:
        """The same result with the verdicts on the claims among its facts."""
        if "verdicts" not in result.facts:
            result.facts["verdicts"] = [dataclasses.asdict(verdict) for verdict in self.decide(result.data)]
        return result


class Run:
    """A study in progress: ``result`` fills step by step, or is the recorded one when the profile is ``published``."""

    def __init__(self, study: Study, parameters: Parameters, only: Iterable[str] = ()) -> None:
        self.study, self.parameters, self.context = study, parameters, None
        if parameters.profile == "published":
            where = f"a checkout of the repository, whose {RECORDED.parent.name}/{RECORDED.name} holds what is recorded"
            expect(RECORDED.is_dir(), "profile", where, f"'published' in an installation without {RECORDED}")
            self.result = Result.load(RECORDED / study.name)
        else:
            self.context = Context(parameters, only)
            trained = study.published or isinstance(self.context.plan, Scale)
            expect(trained, "pool", f"one that was trained here, as {study.name} looks into that", parameters.pool)
            if parameters.pool not in QUICK_POOLS:  # which would be trained to know its names
                self.context.grid()  # which refuses members that are asked for and not there
            study.check(self.context)
            facts = {"parameters": parameters.as_dict(), "provenance": provenance(seconds={}), "notes": []}
            if self.context.own is not None:
                facts["provenance"]["encoder"] = weights_checksum(self.context.own)
            self.result = Result(study.name, self.context.data, facts)

    def step(self, name: str) -> xr.Dataset:
        """The dataset of a step, after those before it; each runs once.

        Of a recorded result nothing runs: a step that is younger than it has an empty dataset.
        """
        expect_known(name, [step.__name__ for step in self.study.steps], "step")
        for step in self.study.steps:
            if self.context is not None and step.__name__ not in self.result.data:
                started = time.monotonic()
                self.context.data[step.__name__] = step(self.context)
                self._record(step.__name__, time.monotonic() - started)
            if step.__name__ == name:
                break
        return self.result.data.get(name, xr.Dataset())

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
        return self.study.decided(self.result)
