"""Artifacts keyed by everything that determines them: parameters, data, and the code that made them."""

import hashlib
import importlib
import json
from pathlib import Path

from sslnb.core.files import cache_root


def code_version(*modules: str) -> str:
    """SHA-256 over the source text of the named modules of this package."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        digest.update(Path(importlib.import_module(name).__file__).read_bytes())
    return digest.hexdigest()


def key(**determinants: object) -> str:
    """Sixteen hexadecimal digits that change whenever any of the (JSON-able) determinants does."""
    text = json.dumps(determinants, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def path(kind: str, name: str, **determinants: object) -> Path:
    """Where the artifact with these determinants lives, whether or not it exists yet."""
    return cache_root() / kind / f"{name}-{key(**determinants)}.pt"
