"""Sets that Hugging Face's ``datasets`` wrote to disk: ``save_to_disk`` folders and Parquet files."""

import contextlib
import importlib
import typing
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from sslnb.core import files
from sslnb.core.checks import expect, expect_known, one_line
from sslnb.data import pictures
from sslnb.data.images import SPLITS, Source, Split, split_named
from sslnb.data.labels import check_labels, classes_of, of_names

if typing.TYPE_CHECKING:
    from datasets import Dataset

OPTIONS = ("image", "label")  # columns, where a set has several that could be meant
_UNLABELED = ("unlabeled", "unsupervised")
_MARKS = ("dataset_dict.json", "dataset_info.json", "state.json")  # what save_to_disk writes


def source(name: str, root: Path, size: int | None) -> Source:
    """``PATH?image=COLUMN&label=COLUMN``; what follows the question mark is needed where several columns would do.

    PATH: a folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote, a .parquet file, or a folder of
    these, whose splits are told by their names or folders (``data/train-00000-of-00002.parquet``). Images: the column
    of encoded pictures, read as ``pictures.read`` says; nothing is fetched. Labels: the column of ``ClassLabel``, or
    else the one called label or labels, of integers, booleans or text. Needs the package ``datasets``. Raises
    ``ValueError`` naming the path, and column, row or file in it, that does not fit.
    """
    at, _, asked = name.partition("?")
    path, options = files.home(at), dict(urllib.parse.parse_qsl(asked, keep_blank_values=True))
    for option in options:
        expect_known(option, OPTIONS, "name")
    expect(path.exists(), "name", "a folder that datasets wrote, or Parquet files", repr(at))
    path = path.resolve()
    parts = _splits(path)
    image, label = _columns(path, parts, options)
    stem = path.stem if path.is_file() else path.name
    return Source(
        stem,
        tuple(s for s in SPLITS if s in parts),
        lambda split: _split(path, parts, split, image, label, f"{stem}-{split}", root, size),
    )


def _split(
    path: Path,
    parts: Mapping[str, "Dataset"],
    split: str,
    image: str,
    label: str,
    stem: str,
    root: Path,
    size: int | None,
) -> Split:
    classes, labels = _labels(path, {s: part for s, part in parts.items() if s != "unlabeled"}, label)
    if split == "unlabeled":
        codes = torch.full((len(parts[split]),), -1)
    else:
        codes = labels[split]
        check_labels(codes, classes, f"{path}, {split}, {label}", split)
    column = parts[split].select_columns(image).with_format("arrow")

    def read(at: torch.Tensor) -> tuple[torch.Tensor, None]:
        values = column.select(at.tolist())[:].column(0).to_pylist()
        rows = zip(at.tolist(), values, strict=True)
        found = [_picture(value, path, f"{path}, {split}, {image}, row {row}") for row, value in rows]
        return pictures.decoded(stem, found, root, size), None

    return Split(codes, classes, read)


def _picture(value: object, path: Path, where: str) -> pictures.Picture:
    """Of encoded bytes, or of the file beside the data set that stands in their place."""
    content = value.get("bytes") if isinstance(value, dict) else value
    if content is None and isinstance(value, dict) and value.get("path"):
        file = path / value["path"]
        expect(file.is_file(), where, "the bytes of a picture, or a file that is there", repr(value["path"]))
        return pictures.Picture.at(file)
    expect(isinstance(content, bytes), where, "the bytes of a picture", "none")
    return pictures.Picture(where, content)


# --- splits -----------------------------------------------------------------------------------------------------------


def _splits(path: Path) -> dict[str, "Dataset"]:
    """The data sets at a path, by our names of their splits; a single one is train."""
    datasets = _library()
    if path.is_dir() and any((path / mark).is_file() for mark in _MARKS):
        with _naming(path):
            found = datasets.load_from_disk(str(path))
        named = dict(found) if isinstance(found, datasets.DatasetDict) else {"train": found}
    else:
        named = {name: _parquet(path, files) for name, files in _parquet_files(path).items()}
    ours = {name: _ours(name) for name in named}
    strange, known = [n for n in ours if ours[n] is None], [s for s in ours.values() if s]
    expect(not strange, str(path), "splits called train, validation or test (or unlabeled)", strange)
    expect(len(set(known)) == len(known), str(path), "each split once", [*named])
    empty = [name for name in named if not len(named[name])]
    expect(bool(named) and not empty, str(path), "splits of at least one row", empty or "none")
    return {ours[name]: part for name, part in named.items()}


def _library() -> typing.Any:
    try:
        return importlib.import_module("datasets")  # here, because it takes a second and is not required
    except ImportError as error:
        got = f"an error on import ({error})"
        raise ValueError(
            f"name: expected the package datasets for hf:PATH (pip install datasets), got {got}"
        ) from error


def _ours(name: str) -> str | None:
    return "unlabeled" if name.lower() in _UNLABELED else split_named(name)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of ``datasets`` and ``pyarrow`` become ``ValueError`` that name the path, in one line."""
    try:
        yield
    except Exception as error:  # whatever they make of files that are missing or damaged
        words = one_line(error)
        raise ValueError(f"{path}: expected what datasets wrote, whole, got {words}") from error


def _parquet_files(path: Path) -> dict[str, list[Path]]:
    """Parquet files by split: what their names begin with, else the nearest folder's name; train where none tells."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*.parquet") if not p.name.startswith("."))
    wanted = "a folder that datasets' save_to_disk wrote, or .parquet files"
    expect(bool(files) and all(p.suffix == ".parquet" for p in files), str(path), wanted, path.name)
    told = {file: _told(file, path) for file in files}
    if not any(told.values()):
        return {"train": files}
    untold = [file.name for file in files if not told[file]]
    expect(not untold, str(path), "a split in each file's name, as in train-00000.parquet", untold[:3])
    return {split: [file for file in files if told[file] == split] for split in dict.fromkeys(told.values())}


def _told(file: Path, top: Path) -> str | None:
    folders = [parent.name for parent in file.parents if parent.is_relative_to(top) and parent != top]
    for name in (file.stem, *folders):
        for separator in "-_.":
            if split := _ours(name.partition(separator)[0]):
                return split
    return None


def _parquet(path: Path, files: list[Path]) -> "Dataset":
    """One data set of files that lie in memory: ``datasets`` itself would leave a copy in its cache."""
    import pyarrow

    tables = []
    for file in files:
        with _naming(file):
            tables.append(importlib.import_module("pyarrow.parquet").read_table(file))
    with _naming(path):
        return _library().Dataset(pyarrow.concat_tables(tables))


# --- columns ----------------------------------------------------------------------------------------------------------


def _columns(path: Path, parts: Mapping[str, "Dataset"], options: Mapping[str, str]) -> tuple[str, str]:
    """The columns of images and labels, the same in every split."""
    features = next(iter(parts.values())).features
    for part in parts.values():
        for option in options.values():
            expect_known(option, tuple(part.features), f"{path}")
    images = [name for name, feature in features.items() if _is_image(feature)]
    labels = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    labels = labels or [name for name in features if name.lower() in ("label", "labels")]
    image = options.get("image") or _only(path, images, "image", features, ("image", "img"))
    label = options.get("label") or _only(path, labels, "label", features, ("label", "labels"))
    expect(_is_image(features[image]), f"{path}, {image}", "encoded pictures", features[image])
    return image, label


def _only(path: Path, found: list[str], kind: str, features: Mapping[str, object], names: tuple[str, ...]) -> str:
    """The column of a kind: the only one, or of several the one that bears its name."""
    chosen = found if len(found) == 1 else [name for name in found if name.lower() in names]
    wanted = f"one column of {kind}s (or hf:PATH?{kind}=COLUMN)"
    expect(len(chosen) == 1, str(path), wanted, f"{', '.join(found) or 'none'} among {', '.join(features)}")
    return chosen[0]


def _is_image(feature: object) -> bool:
    """Whether a column holds encoded pictures: as ``datasets`` declares them, as bytes and path, or as plain bytes."""
    if isinstance(feature, Mapping):
        return set(feature) == {"bytes", "path"}
    return type(feature).__name__ == "Image" or getattr(feature, "dtype", None) in ("binary", "large_binary")


def _labels(path: Path, parts: Mapping[str, "Dataset"], label: str) -> tuple[tuple[str, ...], dict[str, torch.Tensor]]:
    """Names of the classes, given or by value, and each split's labels as positions among them."""
    values = {split: _values(part, label, f"{path}, {split}, {label}") for split, part in parts.items()}
    names = {split: getattr(part.features[label], "names", None) for split, part in parts.items()}
    given = next(iter(names.values()))
    for split, others in names.items():
        expect(others == given, f"{path}, {split}, {label}", "the classes of the other splits", others)
    if given is None:
        classes, codes = classes_of({f"{path}, {split}, {label}": part for split, part in values.items()})
        return classes, {split: codes[f"{path}, {split}, {label}"] for split in values}
    return tuple(given), {s: of_names(part, tuple(given), f"{path}, {s}, {label}") for s, part in values.items()}


def _values(part: "Dataset", label: str, where: str) -> np.ndarray:
    values = part.select_columns(label).with_format("arrow")[:].column(0).to_pylist()
    missing = next((row for row, value in enumerate(values) if value is None), None)
    expect(missing is None, where, "a label in every row", f"none in row {missing}")
    kinds = sorted({type(value).__name__ for value in values})
    single = kinds in (["int"], ["bool"], ["str"])
    expect(single, where, "integers, booleans or text, one label per image", ", ".join(kinds))
    return np.array(values, dtype=object if kinds == ["str"] else None)  # memory by the text there is
