"""Results: arrays, numbers and where they came from, in one .npz and one .json; and the papers' numbers beside them."""

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sslnb.core.checks import expect
from sslnb.core.files import atomic, sha256


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
