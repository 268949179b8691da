"""Distances between the predictions of many models, their progress, and their embedding."""

import concurrent.futures
import multiprocessing
import time

import numpy as np
import torch
from rows import peak_mib, row, seconds

from sslnb.metrics.trajectory import bhattacharyya, inpca, progress

RUNS, EPOCHS, SAMPLES, CLASSES = 48, 30, 500, 5  # 1,440 models
PAIRS = 20_000  # of 1,036,080 that the loop over pairs is timed on
GRID = 10_001  # positions between uniform and truth


def _models() -> tuple[torch.Tensor, torch.Tensor]:
    """Runs that go from uniform to confident and mostly right, each along a way of its own: [T,N,K], and labels [N].

    Runs share which samples are hard and what they are taken for, as heads on good features do; no affinity is below
    the floor, which the peer lacks.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    truth = torch.nn.functional.one_hot(labels, CLASSES).float()
    shared = 0.5 * torch.randn(SAMPLES, CLASSES, generator=generator)
    own = 0.15 * torch.randn(RUNS, 1, SAMPLES, CLASSES, generator=generator)
    speed = 2 * torch.rand(RUNS, 1, 1, 1, generator=generator) + 1
    epochs = torch.linspace(0, 3, EPOCHS)[None, :, None, None]
    return (speed * epochs * (truth + shared + own)).softmax(-1).reshape(-1, SAMPLES, CLASSES), labels


def _pairs(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs i < j drawn at random, and their distances from the loop that is the peer."""
    i, j = np.sort(np.random.default_rng(0).choice(len(p), (PAIRS, 2)), axis=1).T
    return i, j, np.array([-np.log(np.sqrt(p[a] * p[b]).sum(-1)).mean() for a, b in zip(i, j, strict=True)])


def _nearest_on_grid(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Progress [T] by trying every position of a dense grid, in float64."""
    position, angle = np.linspace(0, 1, GRID), np.arccos(CLASSES**-0.5)
    start = np.sin((1 - position) * angle)[:, None] / np.sin(angle)
    end = np.sin(position * angle)[:, None] / np.sin(angle)
    best = []
    for roots in np.sqrt(p.astype(np.float64)):
        affinity = start * roots.sum(1) * CLASSES**-0.5 + end * roots[np.arange(len(labels)), labels]
        best.append(position[np.log(affinity).mean(1).argmax()])
    return np.array(best)


def _measured() -> dict[str, float]:
    """All numbers, in a process of its own with one thread, so that both sides have the same."""
    torch.set_num_threads(1)
    p, labels = _models()
    distances = bhattacharyya(p, p)
    found = {"memory": peak_mib()}
    found["ours"] = seconds(lambda: bhattacharyya(p, p))
    share = PAIRS / (len(p) * (len(p) - 1) / 2)
    found["peer"] = seconds(lambda: _pairs(p.numpy()), repeats=3) / share
    i, j, theirs = _pairs(p.numpy())
    found["apart"] = float(np.abs(distances[i, j].numpy() - theirs).max())
    found["reconstruction"] = float((inpca(distances, len(p)).reconstruct() - distances).abs().max())
    found["progress"] = seconds(lambda: progress(p, labels))
    started = time.perf_counter()
    on_grid = _nearest_on_grid(p.numpy(), labels.numpy())
    found["grid"] = time.perf_counter() - started
    found["progress apart"] = float(np.abs(progress(p, labels).numpy() - on_grid).max())
    return found


def bhattacharyya_matrix() -> list[dict]:
    """Distances of all pairs of 1,440 models, against a loop over pairs; InPCA's inverse; progress against a grid."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        got = pool.submit(_measured).result()
    models = RUNS * EPOCHS
    what = f"distances of {models:,} models, {SAMPLES} samples, {CLASSES} classes, one thread"
    loop = f"NumPy, a loop over pairs i < j (timed on {PAIRS:,}, scaled)"
    ours, peer, grid = got["ours"], got["peer"], f"{GRID:,} positions tried for each"
    return [
        row(what, "s", ours, "at least 30×", peer / ours >= 30, peer, loop),
        row(f"{what}: apart, at most", "", got["apart"], "1e-5", got["apart"] <= 1e-5, None, loop),
        row(f"{what}: memory of the whole process", "MiB", got["memory"], "1024", got["memory"] <= 1024),
        row(
            f"distances of {models:,} models back from InPCA with all components: apart, at most",
            "",
            got["reconstruction"],
            "1e-4",
            got["reconstruction"] <= 1e-4,
        ),
        row(
            f"progress of {models:,} models: apart, at most",
            "",
            got["progress apart"],
            "1e-4",
            got["progress apart"] <= 1e-4,
            None,
            grid,
        ),
        row(
            f"progress of {models:,} models, one thread",
            "s",
            got["progress"],
            "at least as fast",
            got["progress"] <= got["grid"],
            got["grid"],
            grid,
        ),
    ]
