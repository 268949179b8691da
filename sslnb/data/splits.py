"""Image sets by name: where they come from, and how they are split without leakage."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sslnb.core import files
from sslnb.core.checks import expect, nearest
from sslnb.data import sources
from sslnb.data.catalogue import describe, names
from sslnb.data.images import (
    SPLITS,
    ImageSet,
    Source,
    Split,
    choose_per_class,
    class_indices,
    others,
    positive,
    relabel,
    resize,
    stratified,
)

__all__ = ["ImageSet", "describe", "load", "names", "resize", "stratified"]

CARVED = 0.1  # share of each class that becomes a split which the source lacks
CARVE_SEED = 20_202  # constant: no seed of the user's may move an image from train to val or test


def load(
    name: str,
    split: str = "train",
    *,
    root: Path | str | None = None,
    size: int | None = None,
    limit: int | None = None,
    at_most: int | None = None,
    classes: Sequence[str | int] | None = None,
    seed: int = 0,
) -> ImageSet:
    """Load one split (train, val, test, or unlabeled where there is one) of a set of images.

    name: a known set (``names()``); ``digit-scenes:backgrounds=16,contrast=0.5`` with the generator's parameters;
    ``npz:PATH`` or any path ending in .npz (see ``npz.source``); ``folder:PATH`` of pictures (see ``folders.folder``);
    ``hf:PATH`` of Hugging Face's ``datasets`` (see ``hf.source``); or the name of a prepared ``<root>/<name>.npz``,
    which is used before anything is downloaded. root: default ``$SSLNB_DATA``, else the user's cache folder.
    classes: keep these, by name or index, then limit: that many images, each class in proportion, chosen by ``seed``
    (which decides nothing else), or at_most: that many, or all where there are fewer; no others are read. Then size:
    side in px, shorter side scaled to it (antialiased), centre cropped.

    A val split that the source lacks is a stratified tenth of its train split, and a missing test split another tenth
    taken before it, both constant whatever the seed; train is what remains. Raises ``ValueError`` for bad arguments and
    bad files, naming them, and ``RuntimeError`` when a download fails.
    """
    expect(
        isinstance(split, str) and split in SPLITS,
        "split",
        f"one of {', '.join(SPLITS)}{nearest(str(split), SPLITS)}",
        repr(split),
    )
    expect(size is None or positive(size), "size", "a positive number of pixels", repr(size))
    for argument, count in (("limit", limit), ("at_most", at_most)):
        expect(count is None or positive(count), argument, "a positive integer", repr(count))
    whole = isinstance(seed, int) and not isinstance(seed, bool) and abs(seed) < 2**63  # what torch takes
    expect(whole, "seed", "an integer of 64 bits", repr(seed))
    expect(isinstance(root, str | Path | None), "root", "a path", repr(root))
    source = find(name, root=root, size=size)
    part = _split(source, split)
    if classes is not None:
        expect(split != "unlabeled", "classes", "None for an unlabeled split", classes)
        selected, labels = relabel(part.labels, part.classes, classes)
        part = part.at(selected, labels, tuple(part.classes[i] for i in class_indices(part.classes, classes)))
    if at_most is not None and at_most < len(part.labels):
        part = part.at(stratified(part.labels, at_most, seed, "at_most"))
    if limit is not None:
        part = part.at(stratified(part.labels, limit, seed, "limit"))
    images, masks = part.read(torch.arange(len(part.labels)))
    if size is not None:
        images, masks = resize(images, size), None if masks is None else resize(masks, size)
    return ImageSet(images, part.labels, part.classes, masks, source.name)


def find(name: str, *, root: Path | str | None = None, size: int | None = None) -> Source:
    """The source that a name stands for, nothing of its images read yet; ``ValueError`` as in :func:`load`."""
    expect(isinstance(name, str) and bool(name), "name", "the name of a set of images", repr(name))
    return sources.resolve(name, Path(root) if root is not None else files.data_root(), size)


def _split(source: Source, split: str) -> Split:
    """The source's own split, or what is carved from its train split to stand in; train keeps the remainder."""
    carved = [s for s in ("test", "val") if s not in source.splits]
    if split in source.splits and not (split == "train" and carved):
        return source.open(split)
    expect(split in (*carved, "train"), "split", f"a split of {source.name}: train, val or test", repr(split))
    expect("train" in source.splits, "split", f"one that {source.name} has ({', '.join(source.splits)})", repr(split))
    train = source.open("train")
    part, where = train.at(_carve(train, carved)[split]), f"{split} split of {source.name}"
    expect(len(part.labels) > 0, where, "a class of at least two images to take it from", "none")
    return part


def _carve(train: Split, carved: Sequence[str]) -> dict[str, Tensor]:
    """Positions of train, and of each split taken from it: a tenth of every class, one image where that is less."""
    parts, remaining = {}, torch.arange(len(train.labels))
    generator = torch.Generator().manual_seed(CARVE_SEED)
    for name in carved:
        counts = train.labels[remaining].bincount(minlength=len(train.classes))
        fewest, wanted = int(counts.argmin()), "at least two images of every class where test is taken from train"
        got = f"{counts[fewest]} of class {train.classes[fewest]!r}"
        expect(name != "test" or int(counts[fewest]) > 1, "split", wanted, got)
        quota = (counts * CARVED).round().long().clamp(min=1) * (counts > 1)
        chosen = choose_per_class(train.labels[remaining], quota, generator)
        parts[name], remaining = remaining[chosen], remaining[others(len(remaining), chosen)]
    return {**parts, "train": remaining}
