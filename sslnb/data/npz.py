"""Image sets in one .npz file, with MedMNIST's keys."""

import typing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sslnb.core.checks import expect
from sslnb.data.images import SPLITS, Source, Split


def source(path: Path) -> Source:
    """A MedMNIST-style file: ``{train,val,test}_images`` and ``_labels``, optional ``classes`` and ``_masks``.

    Images: uint8 [N,H,W] (grey: one channel), [N,H,W,C] or [N,C,H,W] with C 1 or 3. Labels: integers [N] or [N,1].
    Masks: bool (or 0 and 1) [N,H,W]. ``unlabeled_images`` make the split "unlabeled". Without ``classes`` they are
    "0", "1", …, up to the largest label. Only the arrays asked for are read. Raises ``ValueError`` naming file and key.
    """
    expect(path.is_file(), "name", "a readable .npz file", repr(str(path)))
    keys = _read(path)
    splits = tuple(s for s in SPLITS if f"{s}_images" in keys)
    expect("train" in splits, f"{path}", "the key train_images", f"keys {', '.join(keys) or 'none'}")
    return Source(path.stem, splits, lambda split: _split(path, keys, split))


def _split(path: Path, keys: tuple[str, ...], split: str) -> Split:
    present = [s for s in SPLITS[:3] if f"{s}_labels" in keys]
    labels = {s: _labels(path, f"{s}_labels") for s in present}
    count = 1 + max((int(part.max()) for part in labels.values()), default=0)
    classes = _classes(path) if "classes" in keys else tuple(str(i) for i in range(count))
    if split == "unlabeled":
        images = read_images(path, "unlabeled_images")
        return Split(torch.full((len(images),), -1), classes, lambda at: (images[at], None))
    key = f"{split}_labels"
    expect(split in labels, f"{path}", f"the key {key}", f"keys {', '.join(keys)}")
    check_labels(labels[split], classes, f"{path}, {key}", split)
    return Split(labels[split], classes, lambda at: _pixels(path, keys, split, len(labels[split]), at))


def check_labels(labels: Tensor, classes: tuple[str, ...], where: str, split: str) -> None:
    """Refuse labels outside the classes, and, except in val, a class without any image."""
    low, high = int(labels.min()), int(labels.max())
    wanted = f"labels in 0..{len(classes) - 1}, one of {len(classes)} classes"
    expect(low >= 0 and high < len(classes), where, wanted, f"labels from {low} to {high}")
    empty = [classes[i] for i in (labels.bincount(minlength=len(classes)) == 0).nonzero()[:, 0].tolist()]
    expect(not empty or split == "val", where, "an image of every class", f"none of {', '.join(empty[:5])}")


def _pixels(path: Path, keys: tuple[str, ...], split: str, count: int, at: Tensor) -> tuple[Tensor, Tensor | None]:
    images, key = read_images(path, f"{split}_images"), f"{split}_masks"
    expect(len(images) == count, f"{path}, {split}_images", f"{count} images, one per label", f"{len(images)}")
    if key not in keys:
        return images[at].contiguous(), None
    masks = _read(path, key)
    wanted = (count, *images.shape[2:])
    expect(masks.shape == wanted, f"{path}, {key}", f"shape {list(wanted)}", f"shape {list(masks.shape)}")
    binary = masks.dtype == bool or (masks.dtype.kind in "iu" and bool(((masks == 0) | (masks == 1)).all()))
    expect(binary, f"{path}, {key}", "booleans, or 0 and 1", f"dtype {masks.dtype} with other values")
    return images[at].contiguous(), torch.from_numpy(masks.astype(bool))[at]


def read_images(path: Path, key: str) -> Tensor:
    images = _read(path, key)
    where, shape = f"{path}, {key}", f"shape {list(images.shape)}"
    expect(images.dtype == np.uint8, where, "dtype uint8", f"dtype {images.dtype}")
    expect(images.ndim in (3, 4) and images.size > 0, where, "shape [N,H,W], [N,H,W,C] or [N,C,H,W]", shape)
    if images.ndim == 3:
        return torch.from_numpy(images)[:, None]
    last, first = images.shape[3] in (1, 3), images.shape[1] in (1, 3)
    expect(last != first, where, "1 or 3 channels, either second or last", shape)
    return torch.from_numpy(images).permute(0, 3, 1, 2) if last else torch.from_numpy(images)


def _labels(path: Path, key: str) -> Tensor:
    labels, where = _read(path, key), f"{path}, {key}"
    expect(labels.dtype.kind in "iu", where, "integers", f"dtype {labels.dtype}")
    single = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    expect(single and labels.size > 0, where, "shape [N] or [N,1] (one label per image)", f"shape {list(labels.shape)}")
    return torch.from_numpy(labels.reshape(-1).astype(np.int64))


def _classes(path: Path) -> tuple[str, ...]:
    classes = _read(path, "classes")
    named = classes.ndim == 1 and classes.dtype.kind == "U"
    expect(named, f"{path}, classes", "strings of shape [K]", f"dtype {classes.dtype} of shape {list(classes.shape)}")
    return tuple(classes.tolist())


def _read(path: Path, key: str = "") -> typing.Any:
    """The array under a key, or without one all keys; no pickle. Says which file and key could not be read."""
    where = f"{path}, {key}" if key else f"{path}"
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.lib.npyio.NpzFile):
            with archive:
                return archive[key] if key else tuple(archive.files)
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for damaged bytes
        raise ValueError(f"{where}: expected a whole .npz file without pickled objects, got {error!r}") from error
    raise ValueError(f"{where}: expected an .npz file, got a single array")
