"""How time and memory of each metric grow with the size of its input, and what ImageNet's validation set would cost.

Each metric runs at four sizes or more, over a factor of 16 or more, each in a process of its own. The exponent is the
slope of log time on log size, with its 95 % interval.
"""

import concurrent.futures
import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rows import peak_mib, row
from scipy import stats
from tqdm.auto import tqdm

from sslnb import metrics
from sslnb.core import files
from sslnb.features.nearest import knn_predict
from sslnb.metrics.cka import Source, similarity
from sslnb.metrics.margins import NORMS

POINTS = Path(__file__).with_name("growth.json")  # which the book's status page draws
LEAST_SECONDS = 0.3  # of a measurement: shorter calls are repeated
N, D, K, LAYERS, MODELS = 4096, 512, 64, 8, 16  # of what does not vary
IMAGENET = {"n": 50_000, "d": 2048, "k": 1000}  # its validation set, a ResNet-50's features
CHECKED = {"n": 20_000, "d": 2048, "k": 1000}  # where the formula is compared with a measurement
SMALL = (2000, 8000)  # samples, at which it is fitted


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _probabilities(models: int, n: int, k: int) -> torch.Tensor:
    return _normal(models, n, k).softmax(2)


def _margins(n: int = N, d: int = D, k: int = K, p: float = 2.0) -> Callable[[], object]:
    weight, bias, x = _normal(k, d), torch.zeros(k), _normal(n, d, seed=1)
    return lambda: metrics.margins(weight, bias, x, p=p)


def _q_scores(n: int = N, d: int = D) -> Callable[[], object]:
    h = _normal(n, d)
    mask = metrics.discriminative(metrics.activation_rate(h, 2.0))
    return lambda: metrics.q_score(h, mask, 2.0)


def _spectral(n: int = N, d: int = D) -> Callable[[], object]:
    h = _normal(n, d)
    return lambda: metrics.spectral(h)


def _nearest(n: int = N, d: int = D) -> Callable[[], object]:
    bank, x, labels = _normal(n, d), _normal(n, d, seed=1), torch.arange(n) % 10
    return lambda: knn_predict(bank, labels, x)


def _linear_cka(n: int = N, d: int = D) -> Callable[[], object]:
    x, y = _normal(n, d), _normal(n, d, seed=1)
    return lambda: metrics.linear_cka(x, y)


def _layers(layers: int = LAYERS, n: int = 2048, d: int = 128) -> Callable[[], object]:
    sources = [Source(str(i), _normal(n, d, seed=i)) for i in range(layers)]
    return lambda: similarity(sources, batch_size=256).values()


def _trajectories(models: int = MODELS, n: int = 1024, k: int = 10) -> Callable[[], object]:
    p = _probabilities(models, n, k)
    return lambda: metrics.bhattacharyya(p, p)


def _progress(models: int = MODELS, n: int = 1024, k: int = 10) -> Callable[[], object]:
    p, labels = _probabilities(models, n, k), torch.arange(n) % k
    return lambda: metrics.progress(p, labels)


def _inpca(models: int = MODELS) -> Callable[[], object]:
    x = _normal(models, 10, seed=2)
    return lambda: metrics.inpca(torch.cdist(x, x).square().double())


# metric: (what makes the call, the input that varies, its sizes, the exponent that its algorithm has at large sizes)
CASES: dict[str, tuple[Callable[..., Callable[[], object]], str, tuple[int, ...], float]] = {
    "margins, samples": (_margins, "n", (4096, 16_384, 32_768, 65_536), 1),
    "margins, features": (_margins, "d", (256, 1024, 2048, 4096, 8192), 1),
    "margins, classes": (_margins, "k", (64, 256, 512, 1024, 2048), 2),  # distances between all of their weights
    "Q-Score, samples": (_q_scores, "n", (4096, 16_384, 32_768, 65_536), 1),
    "Q-Score, features": (_q_scores, "d", (256, 1024, 2048, 4096, 8192), 1),
    "RankMe, α-ReQ and NESum, samples": (_spectral, "n", (4096, 16_384, 32_768, 65_536), 1),
    "RankMe, α-ReQ and NESum, features": (_spectral, "d", (128, 256, 512, 1024, 2048), 2),
    "kNN, samples of both sets": (_nearest, "n", (1024, 2048, 4096, 8192, 16_384), 2),
    "linear CKA, samples": (_linear_cka, "n", (4096, 16_384, 32_768, 65_536), 1),
    "linear CKA, features": (_linear_cka, "d", (128, 256, 512, 1024, 2048), 2),
    "CKA of all pairs of layers, layers": (_layers, "layers", (4, 8, 16, 32, 64), 2),
    "Bhattacharyya distances, models": (_trajectories, "models", (32, 64, 128, 256, 512), 2),
    "progress, models": (_progress, "models", (32, 128, 256, 512, 1024), 1),
    "InPCA, models": (_inpca, "models", (128, 256, 512, 1024, 2048), 3),
}


def _once(name: str, size: int) -> tuple[float, float]:
    """Seconds of one call, the least of several, and MiB that the process grew by; in a process of its own."""
    make, varied, _, _ = CASES[name]
    call = make(**{varied: size})
    before = peak_mib()
    call()
    grown = peak_mib() - before
    times: list[float] = []
    while sum(times) < LEAST_SECONDS:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times), grown


def _apart(function: Callable[..., object], *arguments: object) -> object:
    """A function's value, computed in a fresh process: memory at its height is then its own."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()


def exponent(sizes: list[int], took: list[float]) -> tuple[float, float, float]:
    """Slope of log time on log size, with its 95 % interval (Student's t over the sizes)."""
    fit = stats.linregress(np.log(sizes), np.log(took))
    half = stats.t.ppf(0.975, len(sizes) - 2) * fit.stderr
    return float(fit.slope), float(fit.slope - half), float(fit.slope + half)


def growth() -> list[dict]:
    """Time and memory of every metric over the size of its input: the exponent, and the points that it is fitted to."""
    rows, points = [], []
    for name, (_, varied, sizes, expected) in CASES.items():
        measured = [_apart(_once, name, size) for size in tqdm(sizes, desc=name)]
        took, grown = [seconds for seconds, _ in measured], [mib for _, mib in measured]
        value, low, high = exponent(list(sizes), took)
        points.append({"name": name, "varied": varied, "sizes": sizes, "seconds": took, "mib": grown}
                      | {"exponent": value, "low": low, "high": high, "expected": expected})  # fmt: skip
        text = f"{name}: time grows with the power [{low:.2f}, {high:.2f}], from {sizes[0]:,} to {sizes[-1]:,}"
        rows.append(row(text, "exponent", value, f"at most {expected}, within 0.3", value <= expected + 0.3))
    with files.atomic(POINTS) as partial:
        partial.write_text(json.dumps(points, indent=1, ensure_ascii=False) + "\n")
    return rows


def _margins_seconds(n: int, d: int, k: int) -> float:
    """Seconds of margins in three norms."""
    weight, bias, x = _normal(k, d), torch.zeros(k), _normal(n, d, seed=1)
    started = time.perf_counter()
    for p in NORMS:
        metrics.margins(weight, bias, x, p=p)
    return time.perf_counter() - started


def imagenet() -> list[dict]:
    """What margins of ImageNet's validation set with a ResNet-50 cost, by a formula fitted at two small sizes.

    Logits take 2·n·d·k operations for each norm, distances between weights 2·k²·d in l1 and l∞, which are no matrix
    products and have a rate of their own. Checked at 20,000 × 2,048.
    """
    d, k = CHECKED["d"], CHECKED["k"]
    _margins_seconds(SMALL[0], d, k)  # what only the first call pays
    took = [min(_margins_seconds(n, d, k) for _ in range(3)) for n in SMALL]
    per_sample = (took[1] - took[0]) / (SMALL[1] - SMALL[0])
    product, distance = per_sample / (6.0 * d * k), (took[0] - per_sample * SMALL[0]) / (4.0 * k**2 * d)

    def predicted(n: int, d: int, k: int) -> float:
        return product * 6.0 * n * d * k + distance * 4.0 * k**2 * d

    ratio = _margins_seconds(**CHECKED) / predicted(**CHECKED)
    formula = f"{product:.2e} s × 6·n·d·k + {distance:.2e} s × 4·k²·d"
    return [
        row(f"margins in three norms by formula, {formula}, for ImageNet's validation set with a ResNet-50", "s",
            predicted(**IMAGENET), "stated", product > 0 and distance > 0),
        row("the formula's error at 20,000 × 2,048 with 1,000 classes, measured ÷ predicted", "ratio", ratio,
            "0.7 to 1.4", 0.7 <= ratio <= 1.4),
    ]  # fmt: skip
