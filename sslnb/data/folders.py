"""Pictures in folders: one folder per class, or one folder with a table of labels; nothing is left aside in silence."""

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from sslnb.core.checks import expect, nearest
from sslnb.data import pictures, tables
from sslnb.data.images import SPLITS, Source, Split, split_named
from sslnb.data.labels import check_labels, classes_of

_NAMED = 3  # files named in a warning, of each kind
_HIDDEN, _UNSUPPORTED = "hidden", "in picture formats that are not read"
_OTHER, _OUTSIDE, _SPECIAL = "with other suffixes", "outside class folders", "neither file nor folder"


def folder(path: Path, root: Path, size: int | None) -> Source:
    """Pictures in class folders, or beside a table of labels; read as RGB. Other files are counted in one warning.

    Layouts:
        ``DIR/class/**``: the classes are DIR's subfolders, and all pictures below one are its own, as in torchvision's
            ``ImageFolder``, and in its order.
        ``DIR/*`` and one .csv (or a ``labels.csv`` among several): one row per picture, see ``tables.read``. Pictures
            without a row are left aside.
        ``DIR/{train,val,test}/…``: either of these per split. The folders may also be called training, valid,
            validation and testing, in any case; without ``val`` or ``test``, ``load`` takes them from train.

    Formats: those of ``pictures.suffixes()`` (PNG, JPEG, WebP, BMP, GIF, TIFF, PPM, PGM, PBM; AVIF and HEIC where
    Pillow can), read as ``pictures.read`` says: turned as EXIF says, transparency on white, palettes and CMYK
    converted, of 16 bits the upper 8. Pictures of several sizes need ``size``.

    What is left aside (hidden files and folders, other suffixes, formats that are not read, pictures outside class
    folders or without a row) is counted and named by reason in one warning. Raises ``ValueError`` naming a picture that
    can't be read, a broken link, a link to a folder that holds it, two pictures that differ in size, a class folder
    without pictures, or a row of the table that does not fit. What was decoded is kept under ``<root>/.decoded``.
    """
    expect(path.is_dir(), "name", "a folder of class folders", repr(str(path)))
    path = path.resolve()
    named = [(split_named(p.name), p) for p in _subfolders(path)]
    splits = {split: p for split, p in named if split}
    # "train" may be a class beside others, if it holds pictures alone.
    a_class = len(splits) == 1 < len(named) and not _subfolders(*splits.values())
    if not splits or _table(path) or a_class:
        return trees(path.name, {"train": path}, root, size)
    expect(len(named) == len(splits), str(path), "one folder per split and no others", [p.name for _, p in named])
    outside = Aside(path)
    _leave_top(path, outside)
    return trees(path.name, {s: splits[s] for s in SPLITS if s in splits}, root, size, outside)


def trees(name: str, trees: dict[str, Path], root: Path, size: int | None, outside: "Aside | None" = None) -> Source:
    """A source whose splits are folders of class folders, or of pictures with a table of labels.

    outside: what was left aside above these folders already.
    """
    if _table(next(iter(trees.values()))):
        return _tabled(name, trees, root, size, outside)

    def read(split: str) -> Split:
        tree, classes = trees[split], tuple(p.name for p in _subfolders(next(iter(trees.values()))))
        aside = outside.copy() if outside else Aside(tree)
        found = _by_class(tree, classes, split, aside)
        aside.warn(name)
        labels = torch.tensor([k for _, k in found])
        check_labels(labels, classes, str(tree), split)
        read = [pictures.Picture.at(path) for path, _ in found]
        return pictures.split_of(f"{name}-{split}", read, labels, classes, root, size)

    return Source(name, tuple(trees), read)


def _by_class(tree: Path, classes: tuple[str, ...], split: str, aside: "Aside") -> list[tuple[Path, int]]:
    """Every picture with its class, in ImageFolder's order: by class, folder, and name."""
    _leave_top(tree, aside)
    wanted = "one folder per class, or pictures and one .csv of labels"
    expect(bool(classes), str(tree), wanted, aside.below(tree) or "none")
    strange = [p.name for p in _subfolders(tree) if p.name not in classes]
    expect(not strange, str(tree), f"the classes of train{nearest(strange[:1], classes)}", strange)
    found = []
    for k, part in enumerate(tree / c for c in classes):
        inside = _pictures(part, aside) if part.is_dir() else []
        wanted = f"at least one picture ({', '.join(pictures.suffixes())})"
        expect(bool(inside) or not part.is_dir(), str(part), wanted, aside.below(part) or "none")
        found += [(path, k) for path in inside]
    _suspect(tree, [path for path, _ in found])
    return found


def _leave_top(path: Path, aside: "Aside") -> None:
    """Leave aside the files that lie beside folders, in none of them."""
    for entry in _entries(path):
        if not aside.sort(entry) and not entry.is_dir():
            aside.add(_OUTSIDE, entry)


def _suspect(tree: Path, found: list[Path]) -> None:
    """Warn of a single class that has the looks of a folder too many."""
    parents = {path.relative_to(tree).parts[:2] if len(path.relative_to(tree).parts) > 2 else () for path in found}
    if () not in parents and len({p[0] for p in parents}) == 1 < len(parents):
        (top, *_), names = min(parents), ", ".join(sorted(p[1] for p in parents)[:_NAMED])
        say = f"folder {tree.name}: one class, {top!r}; if its folders ({names}, …) are the classes, name {tree / top}"
        warnings.warn(say, stacklevel=4)


def _tabled(name: str, trees: dict[str, Path], root: Path, size: int | None, outside: "Aside | None") -> Source:
    """A source whose labels stand in tables, one per folder; a ``split`` column divides a single one further."""
    opened = {split: _rows(trees[split], outside.copy() if outside else Aside(trees[split])) for split in trees}
    (first, *_) = opened
    rows, aside = opened[first]
    if any(row.split for row in rows):
        expect(len(trees) == 1, str(trees[first]), "no column split in a folder that is a split itself", "one")
        opened = {s: ([r for r in rows if r.split == s], aside) for s in SPLITS if any(r.split == s for r in rows)}
    classes, labels = classes_of(
        {s: np.array([row.label for row in part], dtype=object) for s, (part, _) in opened.items()}
    )

    def read(split: str) -> Split:
        part, aside = opened[split]
        aside.warn(name)
        check_labels(labels[split], classes, f"{name}, {split}", split)
        read = [pictures.Picture.at(row.path) for row in part]
        return pictures.split_of(f"{name}-{split}", read, labels[split], classes, root, size)

    return Source(name, tuple(opened), read)


def _rows(tree: Path, aside: "Aside") -> tuple[list[tables.Row], "Aside"]:
    table = _table(tree)
    expect(table is not None, str(tree), "pictures beside one .csv of labels, as in the folder of train", "none")
    found = _pictures(tree, aside, table)
    rows = tables.read(table, tree, found)
    labelled = {row.path for row in rows}
    for path in found:
        if path not in labelled:
            aside.add(f"without a row in {table.name}", path)
    return rows, aside


def _table(tree: Path) -> Path | None:
    """The .csv that labels a folder's pictures, if that is how it is laid out.

    Beside class folders a table is only a table, so there have to be pictures, or at most one folder for all of them.
    """
    here = _entries(tree)
    found = [p for p in here if p.suffix.lower() == ".csv" and not _hidden(p)]
    flat = any(p.suffix.lower() in pictures.suffixes() and not _hidden(p) for p in here)
    parts = _subfolders(tree)
    if not found or not (flat or (len(parts) == 1 and not split_named(parts[0].name))):
        return None
    named = [p for p in found if p.name.lower() == "labels.csv"] or found
    expect(len(named) == 1, str(tree), "one .csv of labels, or one called labels.csv", [p.name for p in named])
    return named[0]


# --- what lies in a folder --------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Aside:
    """Files and hidden folders that are not read, by reason."""

    root: Path
    paths: dict[str, list[Path]] = dataclasses.field(default_factory=dict)

    def copy(self) -> "Aside":
        return Aside(self.root, {reason: [*paths] for reason, paths in self.paths.items()})

    def add(self, reason: str, path: Path) -> None:
        self.paths.setdefault(reason, []).append(path)

    def sort(self, path: Path) -> bool:
        """Whether a path is of a kind that is never read; then it is added."""
        suffix = path.suffix.lower()
        if _hidden(path):
            self.add(_HIDDEN, path)
        elif not (path.is_file() or path.is_dir()):  # reading a pipe would wait for ever
            self.add(_SPECIAL, path)
        elif path.is_dir() or suffix in pictures.suffixes():
            return False
        else:
            self.add(_UNSUPPORTED if suffix in pictures.unsupported() else _OTHER, path)
        return True

    def below(self, part: Path) -> str:
        """What of it lies below a folder, in words."""
        return self._words({r: [p for p in paths if part in p.parents] for r, paths in self.paths.items()})

    def warn(self, name: str) -> None:
        """Say in one line what was left aside, if anything was."""
        count = sum(len(paths) for paths in self.paths.values())
        if count:
            warnings.warn(
                f"folder {name}: left aside {count} file{'s' * (count > 1)}: {self._words(self.paths)}", stacklevel=4
            )

    def _words(self, paths: dict[str, list[Path]]) -> str:
        return ", ".join(f"{len(found)} {reason} ({self._names(found)})" for reason, found in paths.items() if found)

    def _names(self, paths: list[Path]) -> str:
        names = [f"{path.relative_to(self.root)}{'/' * path.is_dir()}" for path in paths[:_NAMED]]
        return ", ".join(names + ["…"] * (len(paths) > _NAMED))


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__MACOSX"  # what macOS adds to archives


def _subfolders(path: Path) -> list[Path]:
    return [p for p in _entries(path) if p.is_dir() and not _hidden(p)]


def _entries(path: Path) -> list[Path]:
    """What lies in a folder, by name; ``ValueError`` for a folder that can't be listed, and a link to nothing."""
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        raise ValueError(f"{path}: expected a readable folder, got {error}") from error
    for entry in entries:
        if entry.is_symlink() and not entry.exists() and not _hidden(entry):
            raise ValueError(f"{entry}: expected a file or folder, got a broken link to {entry.readlink()}")
    return entries


def _pictures(path: Path, aside: Aside, table: Path | None = None) -> list[Path]:
    """All pictures at and below a folder, by folder and name as ``ImageFolder`` has them; others go aside."""
    return sorted(_walk(path, aside, table), key=lambda found: (str(found.parent), found.name))


def _walk(path: Path, aside: Aside, table: Path | None) -> Iterator[Path]:
    for entry in _entries(path):
        if entry == table or aside.sort(entry):
            continue
        if not entry.is_dir():
            yield entry
        else:
            loop = entry.resolve() in (path.resolve(), *path.resolve().parents)
            expect(not loop, str(entry), "a folder of its own", "a link to one that holds it")
            yield from _walk(entry, aside, table)
