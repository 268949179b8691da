"""Image sets in one .npz file, with MedMNIST's keys."""

import typing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sslnb.core.checks import expect
from sslnb.data.images import SPLITS, Source, Split
from sslnb.data.labels import check_labels, classes_of, kind, of_names

_NEAR_WHITE = 128  # brightest value at least, of floats with fractions from 0 to 255; 0 to 1 with an overshoot has less
_CHUNK = 512  # images converted at a time


def source(path: Path) -> Source:
    """A MedMNIST-style file: ``{train,val,test}_images`` and ``_labels``, optional ``classes`` and ``_masks``.

    Images: [N,H,W] (grey: one channel), [N,H,W,C] or [N,C,H,W] with C 1 or 3, of bytes; other integers from 0 to 255
    are the same, and floats where they tell their scale (see :func:`read_images`). Labels: integers, booleans or text,
    [N] or [N,1]; several per image (ChestMNIST) are refused. Masks: bool (or 0 and 1) [N,H,W]. ``unlabeled_images``
    make the split "unlabeled". Without ``classes`` the values that occur in any split are the classes and name them;
    with it, labels are positions in it, or its names. Only the arrays asked for are read. Raises ``ValueError`` naming
    file and key.
    """
    expect(path.is_file(), "name", "a readable .npz file", repr(str(path)))
    keys = _read(path)
    splits = tuple(s for s in SPLITS if f"{s}_images" in keys)
    expect("train" in splits, f"{path}", "the key train_images", f"keys {', '.join(keys) or 'none'}")
    return Source(path.stem, splits, lambda split: _split(path, keys, split))


def _split(path: Path, keys: tuple[str, ...], split: str) -> Split:
    classes, labels = _classes(path, keys, [f"{s}_labels" for s in SPLITS[:3] if f"{s}_labels" in keys])
    if split == "unlabeled":
        images = read_images(path, "unlabeled_images")
        return Split(torch.full((len(images),), -1), classes, lambda at: (images[at], None))
    key = f"{split}_labels"
    expect(key in labels, f"{path}", f"the key {key}", f"keys {', '.join(keys)}")
    check_labels(labels[key], classes, f"{path}, {key}", split)
    return Split(labels[key], classes, lambda at: _pixels(path, keys, split, len(labels[key]), at))


def _classes(path: Path, keys: tuple[str, ...], wanted: list[str]) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Names of the classes, given or by value, and the labels of these keys as positions among them."""
    places = {key: f"{path}, {key}" for key in wanted}
    values = {where: _labels(path, key) for key, where in places.items()}
    if "classes" in keys:
        names = _read(path, "classes")
        got = f"dtype {names.dtype} of shape {list(names.shape)}"
        expect(names.ndim == 1 and names.dtype.kind == "U", f"{path}, classes", "strings of shape [K]", got)
        classes = tuple(names.tolist())
        return classes, {key: of_names(values[where], classes, where) for key, where in places.items()}
    if not values:
        return ("0",), {}
    classes, labels = classes_of(values)
    return classes, {key: labels[where] for key, where in places.items()}


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
    """Images under a key as uint8 [N,C,H,W], C 1 or 3.

    Whole numbers from 0 to 255 are taken as bytes, whatever their dtype. Floats with fractions are from 0 to 1, or,
    if they come near 255, from 0 to 255, and are rounded. Any others could be either, or are standardised: refused.
    """
    images = _read(path, key)
    where, shape = f"{path}, {key}", f"shape {list(images.shape)}"
    expect(images.ndim in (3, 4) and images.size > 0, where, "shape [N,H,W], [N,H,W,C] or [N,C,H,W]", shape)
    if images.ndim == 4:
        last, first = images.shape[3] in (1, 3), images.shape[1] in (1, 3)
        wanted = "1 or 3 channels, either second or last (volumes are not pictures)"
        expect(last != first, where, wanted, shape)
    pixels = torch.from_numpy(images if images.dtype == np.uint8 else _as_bytes(images, where))
    if images.ndim == 3:
        return pixels[:, None]
    return pixels.permute(0, 3, 1, 2) if last else pixels


def _as_bytes(images: np.ndarray, where: str) -> np.ndarray:
    scale = _scale(images, where)
    out = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part] = np.rint(images[part] * scale) if images.dtype.kind == "f" else images[part]
    return out


def _scale(images: np.ndarray, where: str) -> int:
    """What brings values to 0..255; ``ValueError`` unless the values tell."""
    wanted = "dtype uint8"
    expect(images.dtype.kind in "iuf", where, wanted, f"dtype {images.dtype}")
    low, high = images.min(), images.max()  # NaN if there is one
    got = f"dtype {images.dtype} with values from {low:g} to {high:g}"
    expect(bool(low >= 0 and high <= 255), where, f"{wanted}, or values from 0 to 255 or 0 to 1", got)
    if images.dtype.kind != "f":
        return 1
    whole = all(bool((chunk == np.rint(chunk)).all()) for chunk in np.array_split(images, -(-len(images) // _CHUNK)))
    if high > 1:
        expect(whole or high >= _NEAR_WHITE, where, wanted, f"{got} and fractions (0 to 255, or 0 to 1?)")
        return 1
    expect(not whole, where, wanted, f"{got} and no fractions (0 to 255, or 0 to 1?)")
    return 255


def _labels(path: Path, key: str) -> np.ndarray:
    labels, where = _read(path, key), f"{path}, {key}"
    wanted = "shape [N] or [N,1] (one label per image: no study takes several, as ChestMNIST has them)"
    single = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    expect(single and labels.size > 0, where, wanted, f"shape {list(labels.shape)}")
    kind(labels, where)
    return labels.reshape(-1)


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
