"""Results: arrays, numbers and where they came from, in one .npz and one .json; and the papers' numbers beside them."""

import csv
import datetime
import importlib.metadata
import importlib.resources
import json
import math
import os
import platform
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sslnb.core import device
from sslnb.core.checks import expect, expect_known
from sslnb.core.files import atomic, sha256

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "matplotlib")


def _git_commit() -> str:
    """Commit of the source tree that runs, with ``+changes`` when it differs; ``unknown`` outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit[:12] + ("+changes" if changed.strip() else "")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def command() -> str:
    """The command that is running, without folders of this machine; a notebook knows the one that started it."""
    started = Path(sys.argv[0])
    words = [started.name if started.name != "__main__.py" else f"python -m {started.parent.name}", *sys.argv[1:]]
    if "ipykernel" in words[0]:
        return os.environ.get("SSLNB_COMMAND", "notebook")
    return " ".join(re.sub(r"(^|[:=])/\S*/", r"\1", word) for word in words)


def provenance(**more: object) -> dict:
    """Where a result comes from: command, date, commit, versions, hardware; with ``more`` facts of the study."""
    return {
        "command": command(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git_commit(),
        "versions": versions(),
        "hardware": device.describe(),
        **more,
    }


@dataclass
class Result:
    """What a study found. ``arrays`` go to ``PATH.npz``, everything else (JSON-able) to ``PATH.json``."""

    study: str
    parameters: dict
    scalars: dict = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    provenance: dict = field(default_factory=dict)

    def save(self, path: Path | str) -> Path:
        """Write both files, each whole or not at all; a pair that does not belong together is refused by :meth:`load`.

        ``path`` is taken without suffix. NaN and infinity survive. ``ValueError`` for arrays of objects, ``TypeError``
        for values that JSON can't hold; then nothing is written.
        """
        npz, described = _files(path)
        for name, array in self.arrays.items():
            expect(not np.asarray(array).dtype.hasobject, f"arrays[{name!r}]", "numbers or strings", "objects")
        facts = {key: getattr(self, key) for key in FACTS}
        json.dumps(facts, default=_plain)
        with atomic(described) as json_partial, atomic(npz) as npz_partial:
            _write_arrays(npz_partial, self.arrays)
            text = json.dumps(facts | {"arrays": sha256(npz_partial)}, indent=1, ensure_ascii=False, default=_plain)
            json_partial.write_text(text + "\n", encoding="utf-8")
        return npz.with_name(npz.name.removesuffix(".npz"))

    @staticmethod
    def load(path: Path | str) -> "Result":
        """Read what :meth:`save` wrote; ``ValueError`` names the file that is missing or damaged."""
        npz, described = _files(path)
        try:
            facts = json.loads(described.read_text(encoding="utf-8"))
            whole = isinstance(facts, dict) and set(facts) == {*FACTS, "arrays"}
            expect(whole, f"path: {described}", f"keys {[*FACTS, 'arrays']}", "others")
            expect(
                facts.pop("arrays") == sha256(npz), f"path: {npz}", f"the arrays that {described.name} is of", "others"
            )
            with np.load(npz, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except FileNotFoundError as error:
            raise ValueError(f"path: expected a saved Result, got no file {error.filename}") from error
        except (ValueError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise ValueError(f"path: expected a whole Result at {described} and {npz.name}, got: {error}") from error
        return Result(**facts, arrays=arrays)


FACTS = ("study", "parameters", "scalars", "provenance")


def _files(path: Path | str) -> tuple[Path, Path]:
    """The .npz and .json of a result; a dot in its name is part of the name."""
    path = Path(path)
    stem = path.stem if path.suffix in (".npz", ".json") else path.name
    return path.with_name(f"{stem}.npz"), path.with_name(f"{stem}.json")


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """What ``numpy.savez_compressed`` writes, for arrays of any name."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def _plain(value: object) -> object:
    """NumPy scalars and tensors of one element as plain numbers."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"scalars and parameters: expected JSON-able values, got {type(value).__name__}")


@dataclass(frozen=True)
class Reference:
    """A number that a paper prints: its table or section, what it is of, and any caveat."""

    paper: str
    table: str
    dataset: str
    method: str
    metric: str
    value: float
    note: str


def references(paper: str) -> list[Reference]:
    """The printed numbers of one paper; ``paper`` is the start of its file name, such as ``"000"``."""
    expect_known(paper, ("000", "001", "002", "003", "004"), "paper")
    text = importlib.resources.files("sslnb.core").joinpath("reference_values.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["paper_file"].startswith(paper)]
    keys = ("table", "dataset", "method", "metric")
    return [Reference(row["paper_file"], *(row[k] for k in keys), float(row["value"]), row["note"]) for row in rows]


def reference(paper: str, dataset: str, method: str, metric: str) -> float:
    """One printed number, NaN where the paper has none."""
    key = (dataset.lower(), method.lower(), metric)
    found = [r.value for r in references(paper) if (r.dataset.lower(), r.method.lower(), r.metric) == key]
    return found[0] if found else math.nan
