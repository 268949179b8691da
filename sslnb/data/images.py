"""What a set of images is, and how a part of one is chosen."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from sslnb.core.checks import expect, expect_labels, nearest

SPLITS = ("train", "val", "test", "unlabeled")
_SPLIT_NAMES = {
    **{"train": "train", "training": "train"},
    **{"val": "val", "valid": "val", "validation": "val"},
    **{"test": "test", "testing": "test"},
}
_CHUNK = 512  # images resized at a time


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in memory, with their classes.

    images: uint8 [N,C,H,W]; labels: int64 [N], in 0..K-1, or -1 throughout for an unlabeled set; classes: K distinct
    names, of which a split may lack some; masks: bool [N,H,W], True on the object, or None; name: as asked for.
    Raises ``ValueError`` for any other dtype, shape or label, and for empty sets.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    masks: Tensor | None
    name: str

    def __post_init__(self) -> None:
        _expect_tensor(self.images, "images", torch.uint8, "[N,C,H,W] without empty dimensions", 4)
        expect(self.images.numel() > 0, "images", "at least one image and pixel", f"shape {list(self.images.shape)}")
        _expect_tensor(self.labels, "labels", torch.int64, "[N]", 1)
        expect(len(self.labels) == len(self), "labels", f"one per image, {len(self)}", f"{len(self.labels)}")
        names_ok = isinstance(self.classes, tuple) and all(isinstance(c, str) and c for c in self.classes)
        expect(names_ok and bool(self.classes), "classes", "a tuple of at least one class name", repr(self.classes))
        repeated = [c for i, c in enumerate(self.classes) if c in self.classes[:i]] if names_ok else []
        expect(not repeated, "classes", "distinct names", f"{repeated[:1]} twice")
        if not self.unlabeled:
            expect_labels(self.labels, len(self.classes))
        if self.masks is not None:
            _expect_tensor(self.masks, "masks", torch.bool, "[N,H,W]", 3)
            wanted = [len(self), *self.images.shape[2:]]
            expect(list(self.masks.shape) == wanted, "masks", f"shape {wanted}", f"shape {list(self.masks.shape)}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def unlabeled(self) -> bool:
        """Whether no image has a class: every label is -1."""
        return bool((self.labels == -1).all())

    def subset(self, indices: Sequence[int] | Tensor) -> "ImageSet":
        """The images at these positions, in this order. Raises ``ValueError`` for none, or one outside 0..N-1."""
        indices = torch.as_tensor(indices)
        integers = indices.ndim == 1 and len(indices) > 0 and indices.dtype in (torch.int64, torch.int32)
        expect(integers, "indices", "at least one integer", f"{indices.dtype} of shape {list(indices.shape)}")
        expect_labels(indices, len(self), "indices")
        masks = None if self.masks is None else self.masks[indices]
        return dataclasses.replace(self, images=self.images[indices], labels=self.labels[indices], masks=masks)

    def only(self, classes: Sequence[str | int]) -> "ImageSet":
        """The images of these classes, by name or index; labels become positions in ``classes``.

        Raises ``ValueError`` for a class that the set does not have (naming the nearest), twice the same, or no image.
        """
        selected, labels = relabel(self.labels, self.classes, classes)
        renamed = tuple(self.classes[i] for i in class_indices(self.classes, classes))
        return dataclasses.replace(self.subset(selected), labels=labels, classes=renamed)

    def take(self, n: int, seed: int = 0) -> "ImageSet":
        """``n`` images, each class in proportion and at least once; the same for the same seed.

        Raises ``ValueError`` if there are fewer than ``n`` images, or more classes present than ``n``.
        """
        return self.subset(stratified(self.labels, n, seed))

    def checksum(self) -> str:
        """Hexadecimal SHA-256 over images, labels, masks and classes."""
        return self._checksum

    @functools.cached_property
    def _checksum(self) -> str:
        digest = hashlib.sha256(json.dumps([self.classes, list(self.images.shape), self.masks is not None]).encode())
        for tensor in (self.images, self.labels, self.masks):
            if tensor is not None:
                digest.update(tensor.contiguous().numpy())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Split:
    """A split of a source before its pixels are read: ``read`` maps positions [n] to images and masks (or None)."""

    labels: Tensor
    classes: tuple[str, ...]
    read: Callable[[Tensor], tuple[Tensor, Tensor | None]]

    def at(self, indices: Tensor, labels: Tensor | None = None, classes: tuple[str, ...] | None = None) -> "Split":
        """The part at these positions, with other labels and classes where given."""
        labels = self.labels[indices] if labels is None else labels
        return Split(labels, classes or self.classes, lambda chosen: self.read(indices[chosen]))


@dataclasses.dataclass(frozen=True)
class Source:
    """A set before it is read: the splits that it comes with, and how to open one of them."""

    name: str
    splits: tuple[str, ...]
    open: Callable[[str], Split]


def split_named(name: str) -> str | None:
    """The split that a folder's or file's name stands for: train(ing), val(id(ation)) or test(ing), in any case."""
    return _SPLIT_NAMES.get(name.lower())


def resize(images: Tensor, size: int) -> Tensor:
    """Scale the shorter side to ``size`` px and crop the centre: uint8 [N,C,size,size], or bool masks [N,size,size].

    Images: bilinear with antialiasing, rounded; masks: nearest.
    """
    height, width = images.shape[-2:]
    if height == width == size:
        return images
    *scaled, top, left = cover(height, width, size)
    out = torch.empty(*images.shape[:-2], size, size, dtype=images.dtype)
    for start in tqdm(range(0, len(images), _CHUNK), desc=f"resizing to {size} px", leave=False, delay=1):
        chunk = _scaled(images[start : start + _CHUNK], tuple(scaled))
        out[start : start + _CHUNK] = chunk[..., top : top + size, left : left + size]
    return out


def cover(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """Height and width once the shorter side is ``size`` px, and top and left of the centre crop."""
    height, width = (max(size, round(side * size / min(height, width))) for side in (height, width))
    return height, width, (height - size) // 2, (width - size) // 2


def stratified(labels: Tensor, n: int, seed: int, argument: str = "n") -> Tensor:
    """Sorted positions [n] of a random choice: every label in proportion, and at least once."""
    _, codes, counts = labels.unique(return_inverse=True, return_counts=True)
    expect(positive(n), argument, "a positive integer", repr(n))
    expect(n >= len(counts), argument, f"at least one image for each of the {len(counts)} classes present", n)
    expect(n <= len(labels), argument, f"at most the {len(labels)} images there are", n)
    wanted = counts * n / len(labels)
    quota = wanted.floor().long().clamp(min=1)
    while (short := n - int(quota.sum())) != 0:  # rounding left some over, or the minimum of one took too many
        gap = (wanted - quota).double()
        gap[(quota >= counts) if short > 0 else (quota <= 1)] = float("-inf") if short > 0 else float("inf")
        quota[gap.argmax() if short > 0 else gap.argmin()] += 1 if short > 0 else -1
    return choose_per_class(codes, quota, torch.Generator().manual_seed(seed))


def choose_per_class(labels: Tensor, quota: Tensor, generator: torch.Generator) -> Tensor:
    """Sorted positions of ``quota[k]`` random images of each class k (all of it, where it has fewer)."""
    shuffled = torch.randperm(len(labels), generator=generator)
    grouped = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.bincount(minlength=len(quota))
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[grouped]]
    return grouped[rank < quota[labels[grouped]]].sort().values


def at_most(images: ImageSet, limit: int | None) -> ImageSet:
    """A stratified choice of ``limit`` images, or all of them where there are no more."""
    return images if limit is None or limit >= len(images) else images.take(limit)


def others(count: int, chosen: Tensor) -> Tensor:
    """Sorted positions in 0..count-1 that were not chosen."""
    return torch.ones(count, dtype=torch.bool).index_fill(0, chosen, False).nonzero()[:, 0]


def class_indices(known: Sequence[str], classes: Sequence[str | int]) -> list[int]:
    """Indices of classes given by name or index; ``ValueError`` for unknown or repeated ones."""
    listed = isinstance(classes, Iterable) and not isinstance(classes, str)
    classes = list(classes) if listed else []
    expect(bool(classes), "classes", "a sequence of at least one class name or index", repr(classes))
    for entry in classes:
        known_class = entry in known if isinstance(entry, str) else isinstance(entry, int) and 0 <= entry < len(known)
        hint = nearest(entry, known) if isinstance(entry, str) else ""
        expect(known_class, "classes", f"names or indices among the {len(known)} classes{hint}", repr(entry))
    indices = [known.index(entry) if isinstance(entry, str) else entry for entry in classes]
    expect(len(set(indices)) == len(indices), "classes", "each class once", classes)
    return indices


def positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _expect_tensor(value: object, argument: str, dtype: torch.dtype, shape: str, ndim: int) -> None:
    got = f"{value.dtype} of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    fits = isinstance(value, Tensor) and value.dtype == dtype and value.ndim == ndim
    expect(fits, argument, f"a tensor of {dtype}, {shape}", got)


def relabel(labels: Tensor, known: tuple[str, ...], classes: Sequence[str | int]) -> tuple[Tensor, Tensor]:
    """Positions of the images of these classes, and their new labels: places in ``classes``."""
    table = torch.full((len(known),), -1)
    indices = class_indices(known, classes)
    table[indices] = torch.arange(len(indices))
    expect(bool((labels >= 0).all()), "classes", "a labeled set", "an unlabeled one")
    selected = (table[labels] >= 0).nonzero()[:, 0]
    expect(len(selected) > 0, "classes", "at least one image of these classes", "none")
    return selected, table[labels[selected]]


def _scaled(images: Tensor, side: tuple[int, int]) -> Tensor:
    if images.dtype == torch.bool:
        return functional.interpolate(images[:, None].float(), side, mode="nearest-exact")[:, 0] > 0.5
    scaled = functional.interpolate(images.float(), side, mode="bilinear", antialias=True)
    return scaled.round().clamp(0, 255).to(torch.uint8)
