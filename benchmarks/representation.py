"""The quality score streamed from disk, and heatmaps of features beside captum's."""

import concurrent.futures
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rows import peak_mib, row, seconds

from sslnb import data
from sslnb.encoders.resnet import untrained
from sslnb.features.extract import as_float, extract
from sslnb.metrics import qscore
from sslnb.metrics.heatmaps import feature_heatmaps

SAMPLES, FEATURES = 128_000, 2048  # a tenth of ImageNet, of a ResNet-50's width: 1 GB
BATCH = 256


def _read_and_sum(path: Path) -> float:
    total, buffer = 0.0, np.empty((128, FEATURES), np.float32)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            total += float(buffer.sum())
    return total


def _plainest(path: Path) -> float:
    """Mean, deviation, comparison and count in parts that stay in the cache: what rates are made of, unchecked."""
    h, counts = np.memmap(path, np.float32, "r", shape=(SAMPLES, FEATURES)), torch.zeros(FEATURES)
    for start in range(0, SAMPLES, 128):
        part = torch.from_numpy(np.array(h[start : start + 128]))
        deviation, mean = torch.std_mean(part, 1, correction=0, keepdim=True)
        counts += (part > mean + 4 * deviation).sum(0)
    return float(counts.sum())


def _streamed(path: Path) -> tuple[float, float, float]:
    """Seconds for rates, seconds for scores, and MiB of memory at the height, in a process of its own."""
    h = np.memmap(path, np.float32, "r", shape=(SAMPLES, FEATURES))
    rates = seconds(lambda: qscore.activation_rate(h), repeats=3)
    mask = qscore.discriminative(qscore.activation_rate(h))
    scores = seconds(lambda: qscore.q_score(h, mask), repeats=3)
    return rates, scores, peak_mib()


def qscore_stream() -> list[dict]:
    """Activation rates and quality scores of 1 GB of features, against reading and summing the same file."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features"
        with path.open("wb") as file:
            for _ in range(0, SAMPLES, 8000):
                file.write(np.maximum(generator.standard_normal((8000, FEATURES), np.float32), 0) ** 2)
        summed = seconds(lambda: _read_and_sum(path), repeats=3)
        plainest = seconds(lambda: _plainest(path), repeats=3)
        spawn = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
            rates, scores, memory = pool.submit(_streamed, path).result()
    what = f"of {SAMPLES:,} × {FEATURES:,} features on disk"
    peer, target = (summed, "read and sum"), "a third of the speed"
    limit = f"mean, deviation, comparison and count in plain torch, with nothing checked, take {plainest:.2f} s"
    return [
        row(f"activation rates {what}", "s", rates, target, rates <= 3 * summed, *peer, limit=limit),
        row(f"quality scores {what}", "s", scores, target, scores <= 3 * summed, *peer, limit=limit),
        row(f"memory for both {what}", "MiB", memory, "1024", memory <= 1024),
    ]


def heatmaps() -> list[dict]:
    """50 features of 1,000 images at once, against captum once per feature, and per image and feature."""
    from captum.attr import LayerGradCam

    encoder = untrained(0, width=16)
    images = data.load("digit-scenes", limit=1000).images
    features = list(range(0, encoder.feature_dim, 2))[:50]
    peer = LayerGradCam(encoder, encoder.layer4)

    def captum(x: torch.Tensor, feature: int) -> torch.Tensor:
        found = peer.attribute(x, target=feature, relu_attributions=True)
        return torch.nn.functional.interpolate(found, x.shape[-2:], mode="bilinear")[:, 0].detach()

    batches = [part.contiguous(memory_format=torch.channels_last) for part in as_float(images).split(BATCH)]
    started = time.perf_counter()
    ours = feature_heatmaps(encoder, images, features, batch_size=BATCH)
    took = time.perf_counter() - started
    started = time.perf_counter()
    theirs = torch.stack([torch.cat([captum(x, feature) for x in batches]) for feature in features], 1)
    batched = time.perf_counter() - started
    few = [(image, feature) for image in range(5) for feature in features[:5]]
    started = time.perf_counter()
    for image, feature in few:
        captum(batches[0][image : image + 1], feature)
    single = (time.perf_counter() - started) / len(few) * len(images) * len(features)
    forward = seconds(lambda: extract(encoder, images, batch_size=BATCH), repeats=2)
    limit = f"the encoder's forward pass alone takes {forward:.2f} s; the peer needs {single / forward:.0f} times that"
    apart = float((ours - theirs).abs().max())
    what = f"heatmaps of {len(features)} features of {len(images):,} images, ResNet-18 of width 16"
    return [
        row(what, "s", took, "at least 30×", batched / took >= 30, batched, "captum, once per feature"),
        row(f"{what}: apart, at most", "", apart, "1e-4", apart <= 1e-4, None, "captum"),
        row(
            f"{what}, one by one",
            "s",
            took,
            "at least 500×",
            single / took >= 500,
            single,
            "captum, each alone",
            limit=limit,
        ),
    ]
