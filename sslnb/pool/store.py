"""Where a pool's encoders are: exported files with their provenance, and finished runs in the cache.

An exported encoder is a fact: it stays valid when the code changes. A run in the cache is valid for the code that
made it, whose import graph is part of its key.
"""

import math
import os
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from sslnb.core.checks import expect, one_line
from sslnb.core.files import atomic, sha256
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.load import build

FORMAT = 1
MANIFEST = "pool.json"


class Entry(BaseModel):
    """One encoder with where it comes from; ``file`` is None for a run that ended badly, for the ``reason``."""

    file: str | None = None
    sha256: str | None = None
    spec: dict
    config: dict
    step: int
    data: dict
    provenance: dict
    seconds: float  # of the run up to here
    history: dict[str, list[float | None]]
    accuracy: dict[str, float]  # on validation images, in [0, 1]
    reason: str | None = None


class Manifest(BaseModel):
    """Contents of ``pool.json``."""

    format: Literal[1]
    scale: str
    entries: dict[str, Entry]


def export_root() -> Path:
    """Folder of the exported pools: ``$SSLNB_POOL``, else ``book/encoders`` of the checkout."""
    return Path(os.environ.get("SSLNB_POOL") or Path(__file__).resolve().parents[2] / "book" / "encoders")


def read_manifest(folder: Path) -> Manifest | None:
    """What a folder's ``pool.json`` says, None without one; ``ValueError`` for a damaged one or another format."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, problem["loc"])) or "its text"
        raise ValueError(f"{path}: expected a pool of format {FORMAT}, got {where}: {problem['msg']}") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    with atomic(folder / MANIFEST) as partial:
        partial.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def rounded(encoder: Encoder) -> Encoder:
    """The same encoder with its weights as the exported files hold them, in evaluation mode."""
    encoder.load_state_dict({name: _halved(value).to(value.dtype) for name, value in encoder.state_dict().items()})
    return encoder.eval()


def _halved(value: Tensor) -> Tensor:
    """In float16, where its range holds the value: batch norm's variances can exceed 65,504, as Barlow Twins' do."""
    half = value.half() if value.is_floating_point() else value
    return half if torch.equal(half.isfinite(), value.isfinite()) else value


def write_weights(encoder: Encoder, path: Path) -> str:
    """The weights as safetensors, in float16 where that holds them, whole or not at all; returns the SHA-256."""
    state = {name: _halved(value).contiguous() for name, value in encoder.state_dict().items()}
    with atomic(path) as partial:
        safetensors.torch.save_file(state, partial)
        return sha256(partial)


def read_weights(folder: Path, name: str, entry: Entry) -> Encoder:
    """An exported encoder; ``ValueError`` where its file is missing or is not the one that ``pool.json`` describes."""
    path = folder / str(entry.file)
    expect(path.is_file(), f"pool: {name}", "its file", f"none at {path}")
    expect(
        sha256(path) == entry.sha256,
        f"pool: {name}",
        f"the file with SHA-256 {entry.sha256[:12]}…",
        f"another at {path}",
    )
    try:
        encoder = build(entry.spec)
        state = encoder.state_dict()
        encoder.load_state_dict({k: v.to(state[k].dtype) for k, v in safetensors.torch.load_file(path).items()})
    except (KeyError, RuntimeError, TypeError, safetensors.SafetensorError) as error:
        raise ValueError(f"pool: {name}: expected weights of {entry.spec}, got: {one_line(error)}") from error
    return encoder.eval()


def plain_history(history: dict[str, list[float]]) -> dict[str, list[float | None]]:
    """Without NaN, which JSON lacks, in five digits."""
    return {name: [float(f"{v:.5g}") if math.isfinite(v) else None for v in values] for name, values in history.items()}
