"""Artifacts keyed by everything that determines them: parameters, data, and the code that made them."""

import ast
import functools
import hashlib
import importlib.util
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

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


def _source(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ValueError(f"modules: expected the name of a module with source code, got {name!r}")
    return Path(spec.origin)


@functools.cache
def _parsed(path: Path, modified: int) -> ast.Module:
    return ast.parse(path.read_bytes())


def _tree(path: Path) -> ast.Module:
    return _parsed(path, path.stat().st_mtime_ns)  # parsed again once the file has changed


def _imported(path: Path, package: str) -> Iterator[str]:
    """Names of the package's modules that a file imports; ``from a import b`` is a.b where that is a module, else a."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == package)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == package:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if _is_module(inner) else node.module


def _is_module(name: str) -> bool:
    parent, _, child = name.rpartition(".")
    folder = _source(parent).parent
    package = _source(parent).name == "__init__.py"
    return package and ((folder / f"{child}.py").is_file() or (folder / child / "__init__.py").is_file())


def _code(path: Path) -> bytes:
    """A file's syntax tree without its docstrings, as text."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0].value.value = ""
    return ast.dump(tree).encode()


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
