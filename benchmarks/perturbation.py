"""Attacks against many budgets, beside torchattacks (``pip install --no-deps torchattacks``)."""

import concurrent.futures
import multiprocessing
import time

import torch
from rows import peak_mib, row
from torch import Tensor, nn

from sslnb import data
from sslnb.core import device
from sslnb.encoders.resnet import untrained
from sslnb.features.extract import as_float
from sslnb.metrics import attacks
from sslnb.training.finetune import Classifier, fine_tune

IMAGES = 1000  # of the 10,000 of CIFAR-10's test split: the ratio does not depend on how many batches there are
BUDGETS = [0.0611 * i / 9 for i in range(10)]  # pixels; as far as the report's 0.275 in normalised units
STEPS, STEP = 10, 1.85 / 10  # of PGD, and its length as a share of the budget
BATCH = 256


def _trained() -> Classifier:
    """A ResNet-18 of width 16 after an epoch with labels."""
    images = data.load("cifar10", limit=20_000)
    return fine_tune(untrained(0, width=16), images, epochs=1, learning_rate=0.1).model


def _ours(model: Classifier, x: Tensor, y: Tensor, budgets: list[float]) -> Tensor:
    on = device.best_device()
    with device.autocast(on, device.best_precision(on)):
        x = x.to(memory_format=torch.channels_last)
        how = {"steps": STEPS, "relative_step": STEP, "batch_size": BATCH}
        return attacks.pgd_accuracy(model, x, y, budgets, **how, generator=torch.Generator().manual_seed(0))


def _theirs(model: nn.Module, x: Tensor, y: Tensor, budgets: list[float]) -> Tensor:
    import torchattacks

    right = []
    for eps in budgets:
        attack = torchattacks.PGD(model, eps=eps, alpha=STEP * eps, steps=STEPS)
        found = [attack(a, b) if eps else a for a, b in zip(x.split(BATCH), y.split(BATCH), strict=True)]
        with torch.no_grad():
            right.append((torch.cat([model(part) for part in found]).argmax(1) == y).double().mean())
    return torch.stack(right)


def _added(budgets: list[float]) -> float:
    """Memory in MiB that attacking within these budgets adds to a process of its own.

    Random weights and images cost as much as others; all are taken for right, so that all are attacked.
    """
    torch.set_num_threads(1)
    model = Classifier(untrained(0, width=16), nn.Linear(128, 10)).eval()
    x = torch.rand(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    y = torch.cat([model(part).argmax(1) for part in x.split(8)])  # in small parts, whose memory is none to speak of
    before = peak_mib()
    _ours(model, x, y, budgets)
    return peak_mib() - before


def pixel_attacks() -> list[dict]:
    """Ten budgets × PGD of ten steps: time, accuracies and memory."""
    model = _trained()
    test = data.load("cifar10", "test", limit=IMAGES)
    x, y = as_float(test.images), test.labels
    torch.manual_seed(0)
    started = time.perf_counter()
    ours = _ours(model, x, y, BUDGETS)
    took = time.perf_counter() - started
    started = time.perf_counter()
    theirs = _theirs(model.float(), x, y, BUDGETS)
    peer = time.perf_counter() - started
    apart = 100 * float((ours - theirs).abs().max())
    how = {"steps": STEPS, "relative_step": STEP, "batch_size": BATCH}
    exact = attacks.pgd_accuracy(model, x, y, BUDGETS, **how, generator=torch.Generator().manual_seed(0))
    rounded = 100 * float((ours - exact).abs().max())
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        few, many = pool.map(_added, ([BUDGETS[0], BUDGETS[-1]], BUDGETS))
    what = f"10 budgets × PGD-10, {IMAGES:,} CIFAR-10 images, ResNet-18 of width 16"
    return [
        row(what, "s", took, "at least 1.3×", peer / took >= 1.3, peer, "torchattacks"),
        row(f"{what}: accuracies apart, at most", "points", apart, "1", apart <= 1, None, "torchattacks"),
        row(f"{what}: bf16 from float32, at most", "points", rounded, "0.5", rounded <= 0.5),
        row(f"{what}: memory added, 10 budgets over 2", "×", many / few, "1.05", many <= 1.05 * few),
    ]
