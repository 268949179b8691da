"""A pool of encoders by name: exported files first, then finished runs in the cache."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from sslnb.core import artifacts
from sslnb.core.checks import expect
from sslnb.data import ImageSet
from sslnb.encoders.encoder import Encoder
from sslnb.pool import runs, store
from sslnb.pool.members import scale
from sslnb.pool.store import Entry
from sslnb.training.loop import objective_from

UNTRAINED, PIXELS, MATCHED = "untrained", "pixels", "supervised_matched"
ON_VIEWS = "supervised_simclr_views"  # supervised training on SimCLR's views; with MATCHED the two controls
MATCH = "supervised", "simclr"  # the objective that is stopped early, and the one whose accuracy it then has
CLOSE = 0.02  # of validation accuracy, within which the two count as equal


class Pool:
    """The encoders of a scale. ``ValueError`` for a name that the scale does not plan, or that is not trained yet.

    ``encoder("simclr", seed=0)`` is a member, ``encoder("untrained", seed=0)`` the weights that it began with,
    ``encoder("pixels")`` the image itself, ``encoder("supervised_matched", seed=0)`` supervised training stopped where
    it is as accurate as SimCLR of the same seed. Weights are those of the exported files: in float16, where
    that holds them.
    """

    def __new__(cls, name: str = "small", **_: object) -> "Pool":
        """The kind of pool that its plan is of, as ``pathlib.Path`` is of the kind of its system."""
        from sslnb.pool.published import PublicPlan, PublicPool

        return super().__new__(PublicPool if isinstance(scale(name), PublicPlan) else cls)

    def __init__(self, name: str = "small", *, folder: Path | str | None = None) -> None:
        self.scale = scale(name)
        self.folder = Path(folder) if folder else store.export_root() / name
        self.manifest = store.read_manifest(self.folder)
        whose = self.manifest and self.manifest.scale
        expect(whose in (None, name), "pool", f"encoders of {name!r} in {self.folder}", f"those of {whose!r}")

    def members(self) -> tuple[str, ...]:
        """Names of the planned members that are finished, in the order of the plan, then of the matched controls."""
        places = {name: self._find(name) for name in self.scale.members}
        planned = (name for name, place in places.items() if place is not None and place[1].file)
        return (*planned, *(f"{MATCHED}/{seed}" for seed in self.matched_steps()))

    def matched_steps(self) -> dict[int, int]:
        """Seeds with the step at which supervised training is as accurate as SimCLR of the same seed.

        Of the steps at which encoders were kept, the one whose validation accuracy is nearest, at most 2 points off.
        """
        early, reference = (self.scale.variants.get(name) for name in MATCH)
        known = early is not None and reference is not None and early.dense_epochs > 0
        steps = {seed: self._matched_step(seed) for seed in range(min(early.seeds, reference.seeds) if known else 0)}
        return {seed: step for seed, step in steps.items() if step is not None}

    def _matched_step(self, seed: int) -> int | None:
        early, goal = f"{MATCH[0]}/{seed}", self._find(f"{MATCH[1]}/{seed}")
        gaps = {} if goal is None or goal[1].file is None else self._gaps(early, goal[1])
        nearest = min(gaps, key=gaps.__getitem__, default=None)
        return nearest if nearest is not None and gaps[nearest] <= CLOSE else None

    def _gaps(self, name: str, goal: Entry) -> dict[int, float]:
        """How far a member's validation accuracy was from a goal's at the steps, short of the last, that were kept."""
        kept = self.scale.member(name).kept_steps(goal.data["images"])[:-1]  # both learn from the same images
        places = {step: self._find(f"{name}@{step}") for step in kept}
        accuracies = {step: place[1].accuracy["linear"] for step, place in places.items() if place is not None}
        return {step: abs(accuracy - goal.accuracy["linear"]) for step, accuracy in accuracies.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.members())

    def __len__(self) -> int:
        return len(self.members())

    def images(self, split: str = "train") -> ImageSet:
        """What the scale's members learn from, those with data of their own aside; or another split."""
        return next(iter(self.scale.members.values())).images(split)

    def seeds(self, variant: str) -> tuple[int, ...]:
        """Seeds of a variant's finished members."""
        names = (name.rpartition("/") for name in self.members())
        return tuple(int(seed) for prefix, _, seed in names if prefix == variant)

    def encoder(self, variant: str, seed: int = 0, *, step: int | None = None) -> Encoder:
        """A trained encoder, after all of its training or a ``step`` at which it was kept; or one of the controls."""
        if variant == PIXELS:
            return Pixels(*self._shape()).eval()
        if variant == UNTRAINED:
            return self._untrained(seed)
        name = f"{variant}/{seed}" + (f"@{step}" if step is not None else "")
        folder, entry = self.find(name)
        expect(entry.file is not None, f"pool: {name}", "an encoder that has trained to its end", entry.reason)
        return self._read(folder, name, entry)

    def _read(self, folder: Path, name: str, entry: Entry) -> Encoder:
        return store.read_weights(folder, name, entry)

    def _shape(self) -> tuple[int, int]:
        """Channels, and the side in pixels, of the images that members are made for."""
        return tuple(self.images().images.shape[1:3])

    def entry(self, name: str) -> Entry:
        """Where the encoder ``VARIANT/SEED[@STEP]`` comes from, and how its training went."""
        return self.find(name)[1]

    def find(self, name: str) -> tuple[Path, Entry]:
        """Folder and description of an encoder; ``ValueError`` where it is not finished."""
        place = self._find(name)
        if place is None:
            control = name.startswith(f"{MATCHED}/")
            member = self.scale.member(name.partition("@")[0].replace(MATCHED, MATCH[0]))
            base, _, step = name.partition("@")
            if step and not control and self._find(base) is not None:
                kept = ", ".join(map(str, self.steps(*base.split("/"))))
                expect(False, f"pool: {self.scale.name}/{name}", f"a step at which it was kept: {kept}", step)
            ask = f"sslnb pool train --scale {self.scale.name}"
            got = "none that is as accurate as SimCLR" if control else runs.state(member)
            expect(False, f"pool: {self.scale.name}/{name}", f"a finished encoder ({ask} makes it)", got)
        return place

    def _find(self, name: str) -> tuple[Path, Entry] | None:
        if name.startswith(f"{MATCHED}/"):
            early = name.replace(MATCHED, MATCH[0])
            self.scale.member(early)
            step = self._matched_step(int(early.rpartition("/")[2]))
            if step is None:
                return None
            name = f"{early}@{step}"
        if self.manifest is not None and name in self.manifest.entries:
            return self.folder, self.manifest.entries[name]
        base, _, step = name.partition("@")
        member = self.scale.member(base)
        try:
            return runs.find(member, int(step) if step else None)
        except (ValueError, RuntimeError, OSError):
            if self.manifest is None:
                raise
            return None  # without its images nobody can tell; what ships stands without, and who trains asks for them

    def steps(self, variant: str, seed: int = 0) -> tuple[int, ...]:
        """Steps of a member's training at which its encoder was kept and is there, the last included."""
        member = self.scale.member(f"{variant}/{seed}")
        place = self._find(member.name)
        planned = member.kept_steps(len(member.images()) if place is None else place[1].data["images"])
        return tuple(step for step in planned if step == planned[-1] or self._find(f"{member.name}@{step}"))

    def _untrained(self, seed: int) -> Encoder:
        return self.beginning(next(iter(self.scale.variants)), seed)

    def beginning(self, variant: str, seed: int = 0) -> Encoder:
        """An encoder before its first step: the untrained twin, but of objectives that have a network of their own."""
        member = self.scale.member(f"{variant}/0")
        config = dataclasses.replace(member.config, seed=seed)
        return store.rounded(objective_from(config, member.images()).encoder)

    @functools.cache  # noqa: B019 - a pool lives as long as its study
    def floor(self) -> dict[str, object]:
        """Linear accuracy on validation images of raw pixels and of untrained twins, which members have to exceed.

        ``ValueError`` where the scale's data set here is not the one that members learned from.
        """
        images, held_out = self.images(), self.images("val")
        own = {name for name, variant in self.scale.variants.items() if variant.dataset}
        for name in self:
            if name.rpartition("/")[0] not in own:
                self._expect_data(name, images)
        seeds = sorted({int(name.rpartition("/")[2]) for name in self})

        def linear(variant: str, seed: int = 0) -> float:
            return runs.accuracies(self.encoder(variant, seed), images, held_out)["linear"]

        def measured() -> dict[str, object]:
            return {"pixels": linear(PIXELS), "untrained": [linear(UNTRAINED, seed) for seed in seeds]}

        config = next(iter(self.scale.members.values())).config
        facts = {"config": dataclasses.asdict(config), "seeds": seeds}
        facts |= {"data": images.checksum(), "held_out": held_out.checksum()}
        floor = artifacts.once("floor", measured, code=(runs.__name__, objective_from.__module__), **facts)
        return {"pixels": float(floor["pixels"]), "untrained": floor["untrained"].tolist()}

    def _expect_data(self, name: str, images: ImageSet) -> None:
        data, checksum = self.entry(name).data, images.checksum()
        wanted = f"{len(images):,} images of {images.name} with checksum {checksum[:12]}"
        got = f"{data['images']:,} images of {data['name']} with {data['checksum'][:12]}"
        expect(data["checksum"] == checksum, f"pool: {self.scale.name}/{name}", f"training on {wanted}", got)


class Pixels(Encoder):
    """The image itself as its features: what an encoder has to beat."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__(channels * side**2, (), {"family": PIXELS}, (0.0,) * channels, (1.0,) * channels)

    def embed(self, x: Tensor) -> Tensor:
        return x


def encoder_by_name(name: str) -> Encoder:
    """The encoder ``SCALE/VARIANT/SEED[@STEP]``, as ``load_encoder("pool:…")`` names it."""
    form = "pool:SCALE/VARIANT/SEED or pool:SCALE/VARIANT/SEED@STEP"
    parts, at, step = name.partition("@")
    words = parts.split("/")
    whole = len(words) == 3 and words[2].isdecimal() and (step.isdecimal() if at else True)
    expect(whole, "spec", form, f"'pool:{name}'")
    return Pool(words[0]).encoder(words[1], int(words[2]), step=int(step) if step else None)
