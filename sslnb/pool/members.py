"""Which encoders a pool holds: for every scale its data, what all members share, and what each one changes.

A member is named ``VARIANT/SEED``; a variant is an objective, unless it says which objective it varies.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from sslnb import data
from sslnb.core import labels
from sslnb.core.checks import expect_known
from sslnb.data import ImageSet
from sslnb.training import PretrainConfig


@dataclass(frozen=True)
class Variant:
    """One way to train: how many seeds, and what differs from the scale's configuration."""

    seeds: int = 1
    objective: str = ""  # the variant's own name unless given
    changes: Mapping[str, object] = field(default_factory=dict)  # fields of PretrainConfig
    options: Mapping[str, object] = field(default_factory=dict)  # of the objective
    dataset: str = ""  # the scale's unless given
    split: str = "train"  # of it, that is learned from
    initial: str = ""  # another variant, with whose encoder of the same seed it begins
    label: str = ""  # as figures and tables write it; the objective's unless given
    dense_epochs: int = 0  # encoders are kept after every quarter of the first so many epochs, of all seeds


@dataclass(frozen=True, eq=False)
class Member:
    """One encoder of a pool: everything that decides it. There is one object for each."""

    name: str
    config: PretrainConfig
    dataset: str
    size: int | None
    limit: int | None
    kept_epochs: tuple[float, ...] = ()  # after which its encoder is kept too, besides the last
    kept: tuple[int, ...] = ()  # the same in steps
    split: str = "train"
    initial: "Member | None" = None  # whose encoder it begins with

    def images(self, split: str = "train") -> ImageSet:
        """The images that it learns from, or those of another split."""
        own = self.split if split == "train" else split
        return _load(self.dataset, own, self.size, self.limit if split == "train" else None)

    def kept_steps(self, images: int) -> tuple[int, ...]:
        """Steps after which the encoder is kept, the last one included, for so many training images."""
        per_epoch = images // min(self.config.batch_size, images)
        last = min(self.config.epochs * per_epoch, self.config.steps or self.config.epochs * per_epoch)
        after_epochs = {max(1, round(epoch * per_epoch)) for epoch in self.kept_epochs if epoch * per_epoch < last}
        return tuple(sorted(after_epochs | {step for step in self.kept if step < last} | {last}))


@functools.cache
def _load(dataset: str, split: str, size: int | None, limit: int | None) -> ImageSet:
    return data.load(dataset, split, size=size, limit=limit)


class Plan:
    """What a pool is to hold: ``variants`` that say their objective, data set and seeds, and ``members`` by name."""

    name: str
    variants: Mapping[str, object]
    members: Mapping[str, object]

    def member(self, name: str) -> object:
        """One member; ``ValueError`` names the nearest one."""
        expect_known(name, tuple(self.members), f"member of the pool {self.name!r}")
        return self.members[name]


@dataclass(frozen=True)
class Scale(Plan):
    """The plan of a pool that is trained here.

    All members share ``shared`` (fields of PretrainConfig) and ``view_size``, but for their own.
    """

    name: str
    dataset: str
    shared: Mapping[str, object]
    variants: Mapping[str, Variant]
    view_size: int | None = None  # side of the crops in pixels; None keeps the images'
    size: int | None = None
    limit: int | None = None
    halvings: int = 6  # of seed 0, encoders after 1/2, 1/4, … of the training are kept
    steps: tuple[int, ...] = ()  # after which the encoders of all seeds are kept

    def __post_init__(self) -> None:
        labels.METHOD_LABELS |= {name: variant.label for name, variant in self.variants.items() if variant.label}

    @functools.cached_property
    def members(self) -> dict[str, Member]:
        """Every member by its name."""
        names = {f"{name}/{seed}": (name, v, seed) for name, v in self.variants.items() for seed in range(v.seeds)}
        return {name: self._member(*parts) for name, parts in names.items()}

    def _member(self, name: str, variant: Variant, seed: int) -> Member:
        options = {"view_size": self.view_size} | dict(variant.options)
        fields = dict(self.shared) | dict(variant.changes)
        config = PretrainConfig(variant.objective or name, seed=seed, options=options, **fields)
        epochs = [config.epochs / 2**k for k in range(1, self.halvings + 1)] if seed == 0 else []
        epochs += [quarter / 4 for quarter in range(1, 4 * variant.dense_epochs + 1)]
        initial = self._member(variant.initial, self.variants[variant.initial], seed) if variant.initial else None
        source = variant.dataset or self.dataset, self.size, self.limit
        return Member(f"{name}/{seed}", config, *source, tuple(epochs), self.steps, variant.split, initial)


def scale(name: str, argument: str = "scale") -> Plan:
    """The plan of a pool; ``ValueError`` names the nearest one."""
    from sslnb.pool.scales import SCALES

    expect_known(name, tuple(SCALES), argument)
    return SCALES[name]
