"""Readers of files meet damaged ones: a ValueError in one line, or what is still sound; never another exception.

``SSLNB_FUZZ=10000 pytest tests/test_damaged_files.py`` tries ten thousand of them.
"""

import os
import resource
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import xarray as xr
from PIL import Image

from sslnb import data
from sslnb.core.result import Result
from sslnb.encoders import load_encoder, save_encoder
from sslnb.encoders.load import read_checkpoint
from sslnb.encoders.resnet import untrained
from sslnb.pool import store

COUNT = int(os.environ.get("SSLNB_FUZZ", "280"))
MOST_MEMORY = 1.0  # GiB, by which a reader may let the process grow


def picture_folder(at: Path, suffix: str) -> tuple[Path, Callable[[], object]]:
    for k in range(4):
        path = at / "photos" / "ab"[k % 2] / f"{k}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(k).integers(0, 255, (12, 12, 3), np.uint8)
        Image.fromarray(values).save(path)
    return at / "photos" / "a" / f"0{suffix}", lambda: data.load(f"folder:{at / 'photos'}", root=at / "root", size=12)


def archive(at: Path) -> tuple[Path, Callable[[], object]]:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (20, 8, 8, 3), np.uint8), rng.integers(0, 3, (20, 1))
    np.savez(at / "set.npz", train_images=images, train_labels=labels)
    return at / "set.npz", lambda: data.load(f"npz:{at / 'set.npz'}")


def checkpoint(at: Path) -> tuple[Path, Callable[[], object]]:
    save_encoder(untrained(0, width=2), at / "own.pt")
    return at / "own.pt", lambda: load_encoder(f"checkpoint:{at / 'own.pt'}")


def tensors(at: Path) -> tuple[Path, Callable[[], object]]:
    safetensors.torch.save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, at / "theirs.safetensors")
    return at / "theirs.safetensors", lambda: read_checkpoint(at / "theirs.safetensors")


def manifest(at: Path) -> tuple[Path, Callable[[], object]]:
    entry = {"spec": {"family": "resnet"}, "config": {}, "step": 3, "data": {}, "provenance": {}, "seconds": 1.0}
    entry |= {"history": {"loss": [1.0, None]}, "accuracy": {"linear": 0.5}, "file": "a.safetensors", "sha256": "0"}
    content = store.Manifest(format=1, scale="small", entries={"simclr/0": store.Entry(**entry)})
    store.write_manifest(at, content)
    return at / store.MANIFEST, lambda: store.read_manifest(at)


def result(at: Path, suffix: str) -> tuple[Path, Callable[[], object]]:
    dataset = xr.Dataset({"accuracy": ("seed", np.arange(3.0))}, {"seed": range(3)})
    Result("toy", {"probes": dataset}, {"parameters": {"size": 3}, "verdicts": []}).save(at / "toy")
    path = next(path for path in sorted(at.iterdir()) if path.suffix == suffix)
    return path, lambda: Result.load(at / "toy").data["probes"].load()


KINDS: dict[str, Callable[[Path], tuple[Path, Callable[[], object]]]] = {
    **{suffix: lambda at, s=suffix: picture_folder(at, s) for suffix in (".png", ".jpg", ".gif", ".tif", ".webp")},
    "npz": archive,
    "checkpoint": checkpoint,
    "safetensors": tensors,
    "pool.json": manifest,
    "result, netCDF": lambda at: result(at, ".nc"),
    "result, JSON": lambda at: result(at, ".json"),
}


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """Cut short, with bytes changed, cut out, put in twice, or filled with one value."""
    content, size = bytearray(whole), len(whole)
    a, b = sorted(rng.integers(0, size, 2).tolist())
    b = min(b, a + 64)
    kind = rng.integers(6)
    if kind == 0:
        return bytes(content[:a])
    if kind == 1:
        for at in rng.integers(0, size, rng.integers(1, 9)):
            content[at] = rng.integers(256)
    elif kind == 2:
        for at in rng.integers(0, min(size, 512), rng.integers(1, 5)):  # where headers are
            content[at] = rng.integers(256)
    elif kind == 3:
        del content[a:b]
    elif kind == 4:
        content[a:a] = content[a:b]
    else:
        content[a:b] = bytes([255 if rng.integers(2) else 0]) * (b - a)
    return bytes(content)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_give_one_kind_of_error(kind: str, tmp_path, recwarn) -> None:
    path, read = KINDS[kind](tmp_path)
    read()
    whole, rng, before = path.read_bytes(), np.random.default_rng(0), peak()
    refused = 0
    for _ in range(-(-COUNT // len(KINDS))):
        path.write_bytes(damaged(whole, rng))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read()
            except ValueError as error:
                refused += 1
                assert "\n" not in str(error) and str(error)
    assert refused > 0
    assert peak() - before < MOST_MEMORY
