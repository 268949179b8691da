"""A table of labels beside pictures: which column names the files, which the classes, and that both fit."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

from sslnb.core.checks import expect, nearest
from sslnb.data.images import split_named
from sslnb.data.pictures import suffixes

LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target")  # the first that is there counts
SPLIT_COLUMN = "split"
_SHOWN = 5  # rows named in a message


@dataclasses.dataclass(frozen=True)
class Row:
    """A picture's file, label and, where the table has that column, split."""

    path: Path
    label: str
    split: str | None


def read(table: Path, tree: Path, pictures: Sequence[Path]) -> list[Row]:
    """One row per picture, in the pictures' order.

    The column of files is the one whose values name pictures: by path from the folder, or by file name where only one
    picture has it, with or without suffix. The column of labels is the first of ``LABEL_COLUMNS``, or the only one
    that is left. A column ``split`` holds train, val or test; others are not used. Separated by commas, semicolons or
    tabs; a header may be missing. Raises ``ValueError`` naming rows without picture or label, and pictures named twice.
    """
    index = _index(tree, pictures)
    header, rows = _cells(table, index)
    files = _file_column(table, header, rows, index)
    splits = [name.lower() for name in header].index(SPLIT_COLUMN) if SPLIT_COLUMN in map(str.lower, header) else None
    labels = _label_column(table, header, {files, splits})
    found: dict[Path, Row] = {}
    for number, row in rows.items():
        where, path = f"{table}, row {number}", index[row[files]][0]
        expect(path not in found, where, "each picture once", f"{row[files]!r} again")
        expect(row[labels] != "", where, "a label", f"none for {row[files]!r}")
        split = split_named(row[splits]) if splits is not None else None
        expect(splits is None or split is not None, where, "train, val or test as split", repr(row[splits or 0]))
        found[path] = Row(path, row[labels], split)
    return [found[path] for path in pictures if path in found]


def _index(tree: Path, pictures: Sequence[Path]) -> dict[str, list[Path]]:
    """Pictures by what a table may call them: a path from the folder stands for that one, other names for all."""
    index: dict[str, list[Path]] = {}
    for path in pictures:
        relative = path.relative_to(tree)
        for key in {relative.with_suffix("").as_posix(), path.name, path.stem}:
            index.setdefault(key, []).append(path)
    return index | {path.relative_to(tree).as_posix(): [path] for path in pictures}


def _cells(table: Path, index: dict[str, list[Path]]) -> tuple[list[str], dict[int, list[str]]]:
    """Names of the columns (numbers where there is no header), and the other rows by their number in the file."""
    try:
        text = table.read_text(encoding="utf-8-sig")
        start = text.partition("\n")[0]
        delimiter = max(",;\t", key=start.count)  # the comma where none occurs
        rows = {
            i: [*map(str.strip, r)]
            for i, r in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), 1)
        }
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table}: expected a readable table, got {error}") from error
    rows = {i: row for i, row in rows.items() if any(row)}
    expect(bool(rows), str(table), "at least one row", "none")
    first = next(iter(rows))
    headed = not any(cell in index or Path(cell).suffix.lower() in suffixes() for cell in rows[first])
    header = rows.pop(first) if headed else [str(i) for i in range(1, len(rows[first]) + 1)]
    expect(bool(rows), str(table), "at least one row below its header", "none")
    for number, row in rows.items():
        expect(len(row) == len(header), f"{table}, row {number}", f"{len(header)} cells", len(row))
    return header, rows


def _file_column(table: Path, header: list[str], rows: dict[int, list[str]], index: dict[str, list[Path]]) -> int:
    """The column that names most pictures, if each of its values names one.

    With suffix they count first: labels 0 and 1 may well be names of pictures without it.
    """

    def score(column: int) -> tuple[int, int]:
        named = {row[column] for row in rows.values()} & index.keys()
        return sum(Path(name).suffix.lower() in suffixes() for name in named), len(named)

    column = max(range(len(header)), key=score)
    example = next(iter(rows.values()))
    expect(score(column) > (0, 0), str(table), f"a column that names pictures of {table.parent}", f"a row {example}")
    missing = {number: row[column] for number, row in rows.items() if row[column] not in index}
    shown = ", ".join(f"{value!r} in row {number}" for number, value in [*missing.items()][:_SHOWN])
    hint = nearest(next(iter(missing.values())), list(index)[:1000]) if missing else ""
    expect(not missing, str(table), f"names of pictures in the folder{hint}", f"{len(missing)} that are not: {shown}")
    several = {number: row[column] for number, row in rows.items() if len(index[row[column]]) > 1}
    shown = ", ".join(f"{value!r} in row {number}" for number, value in [*several.items()][:_SHOWN])
    expect(not several, str(table), "paths that stand for one picture each", f"names of several: {shown}")
    return column


def _label_column(table: Path, header: list[str], taken: set[int | None]) -> int:
    named = {name.lower(): column for column, name in reversed([*enumerate(header)]) if column not in taken}
    left = [column for column in range(len(header)) if column not in taken]
    wanted = f"one column of labels, called {', '.join(LABEL_COLUMNS)} (several are of several labels per picture)"
    known = [named[name] for name in LABEL_COLUMNS if name in named] or (left if len(left) == 1 else [])
    expect(bool(known), str(table), wanted, f"columns {', '.join(header)}")
    return known[0]
