"""Image sets in one .npz file, with MedMNIST's keys."""

import contextlib
import math
import typing
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sslnb.core.checks import expect
from sslnb.data.images import SPLITS, Source, Split
from sslnb.data.labels import check_labels, classes_of, kind, of_names

_NEAR_WHITE = 128  # brightest value at least, of floats with fractions from 0 to 255; 0 to 1 with an overshoot has less
_MOST_SHRUNK = 1033  # times that deflate makes bytes fewer, at most; a file that claims more would only take memory
_CHUNK_BYTES = 2**22  # of images read at a time: some thousand of 32 px, 28 of 224 px
# Of the versions in which NumPy writes arrays of numbers.
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def source(path: Path) -> Source:
    """A MedMNIST-style file: ``{train,val,test}_images`` and ``_labels``, optional ``classes`` and ``_masks``.

    Images: [N,H,W] (grey: one channel), [N,H,W,C] or [N,C,H,W] with C 1 or 3, of bytes; other integers from 0 to 255
    are the same, and floats where they tell their scale (see :func:`read_images`). Labels: integers, booleans or text,
    [N] or [N,1]; several per image (ChestMNIST) are refused. Masks: bool (or 0 and 1) [N,H,W]. ``unlabeled_images``
    make the split "unlabeled". Without ``classes`` the values that occur in any split are the classes and name them;
    with it, labels are positions in it, or its names. Only the arrays asked for are read, and of images only those that
    are asked for are held, compressed or not: the others pass by some MB at a time (but for arrays in Fortran's order,
    which are read whole). Raises ``ValueError`` naming file and key.
    """
    expect(path.is_file(), "name", "a readable .npz file", repr(str(path)))
    keys = _read(path)
    splits = tuple(s for s in SPLITS if f"{s}_images" in keys)
    expect("train" in splits, f"{path}", "the key train_images", f"keys {', '.join(keys) or 'none'}")
    return Source(path.stem, splits, lambda split: _split(path, keys, split))


def _split(path: Path, keys: tuple[str, ...], split: str) -> Split:
    classes, labels = _classes(path, keys, [f"{s}_labels" for s in SPLITS[:3] if f"{s}_labels" in keys])
    if split == "unlabeled":
        key = "unlabeled_images"
        return Split(torch.full((_shape(path, key)[0],), -1), classes, lambda at: (read_images(path, key, at), None))
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
    key, masks_key = f"{split}_images", f"{split}_masks"
    shape = _shape(path, key)
    expect(shape[0] == count, f"{path}, {key}", f"{count} images, one per label", f"{shape[0]}")
    images = read_images(path, key, at)
    if masks_key not in keys:
        return images, None
    where, wanted = f"{path}, {masks_key}", (count, *images.shape[2:])
    got = _header(path, masks_key)[0]
    expect(got == wanted, where, f"shape {list(wanted)}", f"shape {list(got)}")
    masks = np.concatenate([chunk[rows] for chunk, rows, _ in _parts(path, masks_key, at.numpy())])
    binary = masks.dtype == bool or (masks.dtype.kind in "iu" and bool(((masks == 0) | (masks == 1)).all()))
    expect(binary, where, "booleans, or 0 and 1", f"dtype {masks.dtype} with other values")
    return images, torch.from_numpy(masks.astype(bool))


def read_images(path: Path, key: str, at: Tensor | None = None) -> Tensor:
    """Images under a key as uint8 [N,C,H,W], C 1 or 3: all, or those at ascending positions.

    Whole numbers from 0 to 255 are taken as bytes, whatever their dtype. Floats with fractions are from 0 to 1, or,
    if they come near 255, from 0 to 255, and are rounded. Any others could be either, or are standardised: refused.
    """
    shape, dtype = _shape(path, key), _header(path, key)[1]
    scale = 1 if dtype == np.uint8 else _scale(path, key)
    chosen = np.arange(shape[0]) if at is None else at.numpy()
    channels_last = len(shape) == 4 and shape[3] in (1, 3)
    sides = shape[1:3] if channels_last or len(shape) == 3 else shape[2:]
    channels = 1 if len(shape) == 3 else shape[3 if channels_last else 1]
    out = np.empty((len(chosen), channels, *sides), np.uint8)
    for chunk, rows, places in _parts(path, key, chosen):
        images = chunk[rows] if scale == 1 and dtype.kind != "f" else np.rint(chunk[rows] * scale)
        images = images if len(shape) == 4 else images[:, None]
        out[places] = images.transpose(0, 3, 1, 2) if channels_last else images
    return torch.from_numpy(out)


def _shape(path: Path, key: str) -> tuple[int, ...]:
    """Shape of images under a key, if it is one of images."""
    shape = _header(path, key)[0]
    where, got = f"{path}, {key}", f"shape {list(shape)}"
    whole = len(shape) in (3, 4) and 0 not in shape
    expect(whole, where, "shape [N,H,W], [N,H,W,C] or [N,C,H,W]", got)
    if len(shape) == 4:
        wanted = "1 or 3 channels, either second or last (volumes are not pictures)"
        expect((shape[3] in (1, 3)) != (shape[1] in (1, 3)), where, wanted, got)
    return shape


def _scale(path: Path, key: str) -> int:
    """What brings all values under a key to 0..255; ``ValueError`` unless the values tell."""
    dtype, where, wanted = _header(path, key)[1], f"{path}, {key}", "dtype uint8"
    expect(dtype.kind in "iuf", where, wanted, f"dtype {dtype}")
    low, high, whole = np.inf, -np.inf, True
    for chunk in _chunks(path, key):
        low, high = np.minimum(low, chunk.min()), np.maximum(high, chunk.max())  # NaN if there is one
        whole = whole and (dtype.kind != "f" or bool((chunk == np.rint(chunk)).all()))
    got = f"dtype {dtype} with values from {low:g} to {high:g}"
    expect(bool(low >= 0 and high <= 255), where, f"{wanted}, or values from 0 to 255 or 0 to 1", got)
    if dtype.kind != "f":
        return 1
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


def _parts(path: Path, key: str, at: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, slice]]:
    """Rows at ascending positions, chunk by chunk: the chunk, the rows in it, and their places among all of them."""
    start = 0
    for chunk in _chunks(path, key):
        places = slice(*np.searchsorted(at, [start, start + len(chunk)]))
        yield chunk, at[places] - start, places
        start += len(chunk)


def _chunks(path: Path, key: str) -> Iterator[np.ndarray]:
    """All rows under a key, some MB at a time; read to the end, where the file's checksum is compared."""
    with _reading(path, key), zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
        shape, in_columns, dtype = _HEADERS[np.lib.format.read_magic(member)](member)
        if in_columns:
            yield _read(path, key)
            return
        row = math.prod(shape[1:]) * dtype.itemsize
        step = max(1, _CHUNK_BYTES // row)
        for start in range(0, shape[0], step):
            rows = min(step, shape[0] - start)
            yield np.frombuffer(member.read(rows * row), dtype).reshape(rows, *shape[1:])
        expect(member.read(1) == b"", key, f"{shape[0]} rows", "more")


def _header(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array, of which nothing else is read."""
    with _reading(path, key), zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
        shape, _, dtype = _HEADERS[np.lib.format.read_magic(member)](member)
        expect(not dtype.hasobject, key, "numbers", "pickled objects")
        size, bound = archive.getinfo(member.name).file_size, _MOST_SHRUNK * path.stat().st_size
        whole = min(shape, default=0) >= 0 and size == member.tell() + math.prod(shape) * dtype.itemsize <= bound
        expect(whole, key, "as many bytes as its shape takes", f"{size:,} for {list(shape)}")
    return shape, dtype


@contextlib.contextmanager
def _reading(path: Path, key: str = "") -> Iterator[None]:
    """``ValueError`` that says which file and key could not be read."""
    try:
        yield
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for damaged bytes
        where = f"{path}, {key}" if key else f"{path}"
        raise ValueError(f"{where}: expected a whole .npz file without pickled objects, got {error!r}") from error


def _read(path: Path, key: str = "") -> typing.Any:
    """The array under a key, or without one all keys; no pickle."""
    with _reading(path, key):
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.lib.npyio.NpzFile):
            with archive:
                return archive[key] if key else tuple(archive.files)
    raise ValueError(f"{path}{f', {key}' if key else ''}: expected an .npz file, got a single array")
