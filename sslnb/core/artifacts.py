"""Artifacts keyed by everything that determines them: parameters, data, and the code that made them."""

import ast
import functools
import hashlib
import importlib.util
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sslnb.core.files import atomic, cache_root


def code_version(*modules: str) -> str:
    """SHA-256 over the code of these modules and of all that they import from their own package, at any depth.

    Comments, docstrings and layout do not count: they change no number. A package counts when it is imported by name,
    not when one of its modules is. Modules that are found at run time, by a registry, have to be named.
    """
    digest = hashlib.sha256()
    for name in sorted(import_closure(*modules)):
        digest.update(name.encode() + _code(_source(name)))
    return digest.hexdigest()


def package_version() -> str:
    """SHA-256 over all code of this package."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + _code(path))
    return digest.hexdigest()


def import_closure(*modules: str) -> set[str]:
    """The modules, and those that they import from their own top-level package, directly or not."""
    closure, waiting = set(), set(modules)
    while waiting:
        name = waiting.pop()
        closure.add(name)
        waiting |= set(_imported(_source(name), name.partition(".")[0])) - closure
    return closure


@functools.cache
def _source(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ValueError(f"modules: expected the name of a module with source code, got {name!r}")
    return Path(spec.origin)


def _imported(path: Path, package: str) -> Iterator[str]:
    """Names of the package's modules that a file imports; ``from a import b`` is a.b where that is a module, else a."""
    for name, alias in _read(path, path.stat().st_mtime_ns).imports:
        if name.partition(".")[0] == package:
            yield f"{name}.{alias}" if alias and _is_module(f"{name}.{alias}") else name


def _is_module(name: str) -> bool:
    parent, _, child = name.rpartition(".")
    folder = _source(parent).parent
    package = _source(parent).name == "__init__.py"
    return package and ((folder / f"{child}.py").is_file() or (folder / child / "__init__.py").is_file())


def _code(path: Path) -> bytes:
    """A file's syntax tree without its docstrings, as text."""
    return _read(path, path.stat().st_mtime_ns).code


class _Read(NamedTuple):
    """What a file says: modules that it imports, with what it takes from each, and its code."""

    imports: tuple[tuple[str, str], ...]
    code: bytes


@functools.cache  # a command asks for the code of dozens of objectives, most of which they share
def _read(path: Path, modified: int) -> _Read:  # read again once the file has changed
    tree, imports = ast.parse(path.read_bytes()), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports += [(node.module, alias.name) for alias in node.names]
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            first.value.value = ""
    return _Read(tuple(imports), ast.dump(tree).encode())


def key(**determinants: object) -> str:
    """Sixteen hexadecimal digits that change whenever any of the (JSON-able) determinants does."""
    text = json.dumps(determinants, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def path(kind: str, name: str, **determinants: object) -> Path:
    """Where the artifact with these determinants lives, whether or not it exists yet."""
    return cache_root() / kind / f"{name}-{key(**determinants)}.pt"


def once(
    name: str, compute: Callable[[], Mapping[str, object]], *, code: tuple[str, ...], **determinants: object
) -> dict[str, np.ndarray]:
    """The arrays that ``compute`` gives, kept: measured once for these determinants and the code of these modules.

    So a measurement of hours can be interrupted, and one more encoder costs its own share alone. A damaged file is
    measured again.
    """
    target = path("measured", name, code=code_version(*code), **determinants).with_suffix(".npz")
    if target.is_file():
        try:
            with np.load(target, allow_pickle=False) as kept:
                return dict(kept)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            target.unlink()
    values = {key: np.asarray(value) for key, value in compute().items()}
    with atomic(target) as partial, partial.open("wb") as file:
        np.savez(file, **values)
    return values
