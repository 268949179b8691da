"""Attacks against many budgets, beside torchattacks (``pip install --no-deps torchattacks``)."""

import subprocess
import sys
import time
from pathlib import Path

import torch
from rows import row
from torch import Tensor, nn

from sslnb import attacks, data, device
from sslnb.encoders import untrained
from sslnb.features import as_float, extract
from sslnb.finetune import Classifier, fine_tune

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


MEASURED = """
import resource, sys
import torch
sys.path.insert(0, sys.argv[1])
import perturbation
torch.set_num_threads(1)
model, x, y = perturbation._untrained_at_work()
perturbation._ours(model, x, y, [float(eps) for eps in sys.argv[2].split(",")])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def _untrained_at_work() -> tuple[Classifier, Tensor, Tensor]:
    """A network that attacks take as long with, and as many images: what it has learned costs no memory."""
    images = data.load("cifar10", "test", limit=IMAGES)
    model = Classifier(untrained(0, width=16), nn.Linear(128, 10)).eval()
    x = as_float(images.images)
    return model, x, extract(model, images).argmax(1)  # all of them right, so that all are attacked


def _peak(budgets: list[float]) -> float:
    """Greatest memory in MiB of a fresh process that attacks within these budgets.

    Started by exec from here: a forked child would inherit this process's own peak.
    """
    given = [str(Path(__file__).parent), ",".join(map(str, budgets))]
    command = ["/bin/sh", "-c", 'exec "$0" "$@"', sys.executable, "-c", MEASURED, *given]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


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
    few, many = _peak([BUDGETS[0], BUDGETS[-1]]), _peak(BUDGETS)
    what = f"10 budgets × PGD-10, {IMAGES:,} CIFAR-10 images, ResNet-18 of width 16"
    return [
        row(what, "s", took, "at least 1.3×", peer / took >= 1.3, peer, "torchattacks"),
        row(f"{what}: accuracies apart, at most", "points", apart, "1", apart <= 1, None, "torchattacks"),
        row(f"{what}: bf16 from float32, at most", "points", rounded, "0.5", rounded <= 0.5),
        row(f"{what}: memory, 10 budgets over 2", "×", many / few, "1.05", many <= 1.05 * few),
    ]
