"""A pool of encoders by name: exported files first, then finished runs in the cache."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from sslnb.core.checks import expect
from sslnb.data import ImageSet
from sslnb.encoders.encoder import Encoder
from sslnb.pool import runs, store
from sslnb.pool.members import scale
from sslnb.pool.store import Entry
from sslnb.training.loop import objective_from

UNTRAINED, PIXELS = "untrained", "pixels"


class Pool:
    """The encoders of a scale. ``ValueError`` for a name that the scale does not plan, or that is not trained yet.

    ``encoder("simclr", seed=0)`` is a member, ``encoder("untrained", seed=0)`` the weights that it began with,
    ``encoder("pixels")`` the image itself. Weights are those of the exported files, rounded to float16.
    """

    def __init__(self, name: str = "small", *, folder: Path | str | None = None) -> None:
        self.scale = scale(name)
        self.folder = Path(folder) if folder else store.export_root() / name
        self.manifest = store.read_manifest(self.folder)

    def members(self) -> tuple[str, ...]:
        """Names of the planned members that are finished, in the order of the plan."""
        return tuple(name for name in self.scale.members if self._find(name) and self._find(name)[1].file)

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
            _, channels, side, _ = self.images().images.shape
            return Pixels(channels, side).eval()
        if variant == UNTRAINED:
            return self._untrained(seed)
        name = f"{variant}/{seed}" + (f"@{step}" if step is not None else "")
        folder, entry = self.find(name)
        expect(entry.file is not None, f"pool: {name}", "an encoder that has trained to its end", entry.reason)
        return store.read_weights(folder, name, entry)

    def entry(self, name: str) -> Entry:
        """Where the encoder ``VARIANT/SEED[@STEP]`` comes from, and how its training went."""
        return self.find(name)[1]

    def find(self, name: str) -> tuple[Path, Entry]:
        """Folder and description of an encoder; ``ValueError`` where it is not finished."""
        place = self._find(name)
        if place is None:
            member = self.scale.member(name.partition("@")[0])
            ask = f"sslnb pool train --scale {self.scale.name}"
            expect(False, f"pool: {self.scale.name}/{name}", f"a finished encoder ({ask} makes it)", runs.state(member))
        return place

    def _find(self, name: str) -> tuple[Path, Entry] | None:
        if self.manifest is not None and name in self.manifest.entries:
            return self.folder, self.manifest.entries[name]
        base, _, step = name.partition("@")
        return runs.find(self.scale.member(base), int(step) if step else None)

    def steps(self, variant: str, seed: int = 0) -> tuple[int, ...]:
        """Steps of a member's training at which its encoder was kept and is there, the last included."""
        member = self.scale.member(f"{variant}/{seed}")
        planned = member.kept_steps(len(member.images()))
        return tuple(step for step in planned if step == planned[-1] or self._find(f"{member.name}@{step}"))

    def _untrained(self, seed: int) -> Encoder:
        member = next(iter(self.scale.members.values()))
        config = dataclasses.replace(member.config, seed=seed)
        return store.rounded(objective_from(config, member.images()).encoder)

    @functools.cache  # noqa: B019 - a pool lives as long as its study
    def floor(self) -> dict[str, object]:
        """Linear accuracy on validation images of raw pixels and of untrained twins, which members have to exceed."""
        images, held_out = self.images(), self.images("val")
        seeds = sorted({int(name.rpartition("/")[2]) for name in self})
        twins = [runs.accuracies(self.encoder(UNTRAINED, seed), images, held_out)["linear"] for seed in seeds]
        return {"pixels": runs.accuracies(self.encoder(PIXELS), images, held_out)["linear"], "untrained": twins}

    def expect_data(self, name: str, images: ImageSet) -> None:
        """``ValueError`` unless a member was trained on just these images."""
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
    parts, _, step = name.partition("@")
    words = parts.split("/")
    whole = len(words) == 3 and words[2].isdigit() and (step.isdigit() or not step)
    expect(whole, "spec", form, f"'pool:{name}'")
    return Pool(words[0]).encoder(words[1], int(words[2]), step=int(step) if step else None)
