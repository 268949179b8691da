"""Label-free measures of many features: time, memory, and how far they are from naive float64 versions."""

import concurrent.futures
import multiprocessing
import time

import numpy as np
import torch
from rows import peak_mib, row
from scipy.linalg import eigh
from scipy.spatial.distance import pdist

from sslnb import metrics

SAMPLES, FEATURES = 50_000, 2048  # CIFAR-10's training images, a ResNet-50's width
IMAGES, VIEWS = 1000, 50  # LiDAR's, as its paper has them
ONE = ("spectral", "uniformity", "clid", "feature_deviation", "mean_q_score")
TWO = ("alignment", "knn_agreement")


def _features(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """Features as after a ReLU, whose variances fall over directions."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator) * torch.arange(1, d + 1).pow(-0.5)
    return torch.relu(torch.randn(n, d, generator=generator) @ mixing.T)


def _measured() -> tuple[dict[str, float], float, float]:
    """Seconds of each measure, CPU seconds of all, and MiB of memory at the height; in a process of its own."""
    h = _features(SAMPLES, FEATURES)
    calls = dict.fromkeys(ONE, (h,)) | dict.fromkeys(TWO, (h, h.flip(1)))
    took, busy = {}, time.process_time()
    for name, arguments in calls.items():
        started = time.perf_counter()
        getattr(metrics, name)(*arguments, **({"epsilon": 2.0} if name == "mean_q_score" else {}))
        took[name] = time.perf_counter() - started
    calls.clear()
    views = h.view(IMAGES, VIEWS, FEATURES)
    started = time.perf_counter()
    metrics.lidar(views)
    took["lidar"] = time.perf_counter() - started
    return took, time.process_time() - busy, peak_mib()


def _naive(h: np.ndarray, views: np.ndarray) -> dict[str, float]:
    """The papers' equations in float64, by singular values and all pairs."""

    def effective(values: np.ndarray) -> float:
        shares = values[values > 0] / values[values > 0].sum()
        return np.exp(-(shares * np.log(shares)).sum())

    values = np.linalg.eigvalsh(np.cov(h.T))[::-1]
    unit = h / np.linalg.norm(h, axis=1, keepdims=True)
    means, (n, v, d) = views.mean(1), views.shape
    about = (views - means[:, None]).reshape(-1, d)
    within = about.T @ about / (n * (v - 1)) + 1e-4 * np.eye(d)
    return {
        "rankme": effective(np.linalg.svd(h, compute_uv=False)),
        "alpha_req": -np.polyfit(np.log(np.arange(len(values)) + 1), np.log(values), 1)[0],
        "nesum": values.sum() / values[0],
        "uniformity": np.log(np.exp(-2 * pdist(unit, "sqeuclidean")).mean()),
        "alignment": ((unit - unit[:, ::-1]) ** 2).sum(1).mean(),
        "lidar": effective(eigh(np.cov(means.T), within, eigvals_only=True)),
    }


def label_free() -> list[dict]:
    """All label-free measures of 50,000 × 2,048 features, LiDAR of 1,000 × 50 views of them, and their exactness."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        took, busy, memory = pool.submit(_measured).result()
    h = _features(2000, 128)
    views = _features(2000, 128, seed=1).view(200, 10, 128)
    exact = _naive(h.double().numpy(), views.double().numpy())
    inputs = dict.fromkeys(exact, (h,)) | {"alignment": (h, h.flip(1)), "lidar": (views,)}
    apart = max(abs(getattr(metrics, name)(*inputs[name]) / value - 1) for name, value in exact.items())
    what = f"label-free measures of {SAMPLES:,} × {FEATURES:,} features"
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in took.items())
    total = sum(took.values())
    return [
        row(f"{what} ({parts})", "s", total, "under 60 s", total < 60),
        row(f"{what}: CPU time of all threads, which others on the machine lengthen less", "s", busy, "under 120 s",
            busy < 120),
        row(f"{what}: peak memory of the process, the input included", "GiB", memory / 1024, "under 3 GB",
            memory * 2**20 < 3e9),
        row("label-free measures apart from naive float64 ones, at most", "share", apart, "1e-4", apart <= 1e-4),
    ]  # fmt: skip
