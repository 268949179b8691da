"""Measures every number that the project promises, both sides in one run on the same machine.

    python benchmarks/run.py [NAME …]

Rows go to ``benchmarks/results.json`` (one per name; a name that is run again replaces its row), which the book's
status page shows. Ratios are what counts: seconds depend on the machine and on what else it does.
"""

import argparse
import concurrent.futures
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import alignment
import growth
import labelfree
import numpy as np
import pages
import peers
import perturbation
import probes
import representation
import surfaces
import torch
import training
import trajectories
from rows import row, seconds
from sklearn.linear_model import LogisticRegression

from sslnb import data, metrics
from sslnb.book.verify import MEMBERS
from sslnb.core import device, files
from sslnb.data.digit_scenes import digit_scenes
from sslnb.features.extract import extract
from sslnb.features.linear import LEARNING_RATES, WEIGHT_DECAYS, LinearProbe, LinearProbeGrid
from sslnb.features.nearest import knn_predict
from sslnb.features.scores import top1
from sslnb.features.standardize import Standardizer
from sslnb.metrics import attacks
from sslnb.metrics.margins import NORMS
from sslnb.pool import members
from sslnb.training.loop import pretrain
from sslnb.views import augment

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results.json")
QUICK = members.scale("quick")


def scenes_features() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Standardized features of a briefly trained supervised encoder, with labels, per split."""
    encoder = pretrain(QUICK.member("supervised/0").config, data.load("digit-scenes", limit=5000)).encoder
    sets = {split: data.load("digit-scenes", split) for split in ("train", "val", "test")}
    raw = {split: extract(encoder, images) for split, images in sets.items()}
    standardize = Standardizer().fit(raw["train"]).transform
    return {split: (standardize(raw[split]), sets[split].labels) for split in sets}


def margins() -> list[dict]:
    """Margins in all three norms of 50,000 samples with 2,048 features and 1,000 classes."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(1000, 2048, generator=generator), torch.zeros(1000)
    features = torch.randn(50_000, 2048, generator=generator)
    started = time.perf_counter()
    for p in NORMS:
        metrics.margins(weight, bias, features, p=p)
    took = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    what = "margins, 3 norms, 50,000 × 2,048, 1,000 classes"
    return [
        row(f"{what}: time", "s", took, "under 30 s", took < 30),
        row(f"{what}: peak memory of the process, the input included", "GiB", peak, "under 2 GB", peak < 2e9 / 2**30),
    ]


def probe_grid() -> list[dict]:
    """The stacked grid of 28 probes against the same probes one after another, and against scikit-learn."""
    splits = scenes_features()
    x, y = splits["train"]
    grid = LinearProbeGrid(epochs=10)
    rates = torch.tensor(LEARNING_RATES).repeat_interleave(len(WEIGHT_DECAYS))
    decays = torch.tensor(WEIGHT_DECAYS).repeat(len(LEARNING_RATES))
    together = seconds(lambda: grid.train(x, y, rates, decays, 10), repeats=2)

    def one_by_one() -> None:
        for i in range(len(rates)):
            grid.train(x, y, rates[i : i + 1], decays[i : i + 1], 10)

    alone = seconds(one_by_one, repeats=1)
    bare = _products_of_a_grid(x, len(rates), int(y.max()) + 1)
    limit = f"its matrix products alone take {bare:.2f} s; one by one takes {alone / bare:.1f} times that"
    ours = LinearProbeGrid().fit(*splits["train"], *splits["val"]).accuracy(*splits["test"])
    peer = _tuned_logistic_regression(splits)
    return [
        row("grid of 28 probes", "s", together, "at least 5×", alone / together >= 5, alone, "the same, one by one",
            limit=limit),
        row(
            "accuracy of the chosen probe", "%", 100 * ours, "within 0.5 points", abs(ours - peer) <= 0.005, 100 * peer,
            "scikit-learn's LogisticRegression tuned over C",
        ),
    ]  # fmt: skip


def _products_of_a_grid(x: torch.Tensor, probes: int, classes: int, *, epochs: int = 10, batch: int = 256) -> float:
    """Seconds of the two products of every step, logits and gradient, that training a stacked grid is made of."""
    weight, logits = torch.randn(x.shape[1], probes * classes), torch.randn(batch, probes * classes)

    def products() -> None:
        for _ in range(epochs):
            for part in x.split(batch):
                part @ weight
                part.T @ logits[: len(part)]

    return seconds(products, repeats=2)


def _tuned_logistic_regression(splits: dict) -> float:
    (x, y), (vx, vy), (tx, ty) = (tuple(t.numpy() for t in splits[k]) for k in ("train", "val", "test"))
    fits = {c: LogisticRegression(C=c, max_iter=2000).fit(x, y) for c in 10.0 ** np.arange(-2, 5)}
    best = max(fits, key=lambda c: fits[c].score(vx, vy))
    final = LogisticRegression(C=best, max_iter=2000).fit(np.concatenate([x, vx]), np.concatenate([y, vy]))
    return float(final.score(tx, ty))


def robust_accuracy() -> list[dict]:
    """Exact robust accuracy at 20 budgets against 50-step PGD on the same probe and features, in l2."""
    splits = scenes_features()
    probe = LinearProbeGrid(epochs=10).fit(*splits["train"], *splits["val"])
    x, y = splits["test"]
    budgets = torch.linspace(0, 1, 20)
    exactly = lambda: metrics.robust_accuracy(probe.weight, probe.bias, x, y, budgets, p=2)  # noqa: E731
    ours, exact = seconds(exactly), exactly()
    model = torch.nn.Linear(x.shape[1], 10)
    model.load_state_dict({"weight": probe.weight, "bias": probe.bias})

    started, attacked = time.perf_counter(), []
    for budget in budgets.tolist():
        found = attacks.pgd(model, x, y, budget, norm="l2", steps=50, step_size=4 * budget, bounds=None)
        attacked.append(float((model(found).argmax(1) == y).double().mean()))
    peer = time.perf_counter() - started
    gap = torch.tensor(attacked) - exact
    beaten = 100 * _beaten_at_the_margin(probe, x)
    limit = (
        "PGD raises the cross-entropy, whose maximum need not be a wrong answer; "
        f"a step of 1.001 margins towards the nearest class changes {beaten:.2f} % of the predictions"
    )
    name = "exact robust accuracy, 20 budgets, l2"
    met = peer / ours >= 500
    product = seconds(lambda: x @ probe.weight.T)
    bound = (
        f"one product of features and weights takes {1e3 * product:.2f} ms; PGD, which leaves beaten samples alone, "
        f"{peer / product:.0f} times that"
    )
    return [
        row(name, "s", ours, "at least 500×", met, peer, "50-step PGD", limit=bound),
        row("PGD above the exact curve, at most", "points", 100 * float(gap.max()), "at most 1", gap.max() <= 0.01,
            limit=limit),
        row("PGD above the exact curve, at least", "points", 100 * float(gap.min()), "at least 0", gap.min() >= -1e-6),
    ]  # fmt: skip


def _beaten_at_the_margin(probe: LinearProbe, x: torch.Tensor) -> float:
    """Share of the predictions that change by a step of 1.001 l2 margins towards the nearest boundary."""
    margin, logits = metrics.margins(probe.weight, probe.bias, x, p=2), probe(x)
    top, predicted = logits.max(1)
    towards = probe.weight[None] - probe.weight[predicted][:, None]  # N×K×d
    reach = (top[:, None] - logits) / towards.norm(dim=2)
    direction = towards[torch.arange(len(x)), reach.nan_to_num(nan=torch.inf).argmin(1)]
    moved = x + 1.001 * margin[:, None] * torch.nn.functional.normalize(direction, dim=1)
    return float((probe(moved).argmax(1) != predicted).double().mean())


def augmentation() -> list[dict]:
    """512 views of 32-pixel images, all at once, against torchvision's transforms per image on the same cores."""
    images = data.load("digit-scenes", limit=512).images
    view = augment.Augmentation(scale=(0.2, 1.0), jitter=(0.8, 0.8, 0.8, 0.2), greyscale=0.2)
    ours = seconds(lambda: view(images), repeats=20)
    cores = os.cpu_count() or 1
    with concurrent.futures.ProcessPoolExecutor(cores, initializer=_single_thread) as pool:
        parts = images.chunk(cores)
        peer = seconds(lambda: list(pool.map(_per_image, parts)), repeats=5)
    name = "512 views of 32 px: crop, flip, jitter, grey"
    return [row(name, "ms", 1e3 * ours, "at least 8×", peer / ours >= 8, 1e3 * peer, f"torchvision, {cores} processes")]


def _single_thread() -> None:
    torch.set_num_threads(1)


def _per_image(images: torch.Tensor) -> float:
    """torchvision on PIL images, as its training scripts use it; only a checksum travels back."""
    from PIL import Image
    from torchvision import transforms

    view = transforms.Compose(
        [
            transforms.RandomResizedCrop(32, scale=(0.2, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            transforms.RandomGrayscale(0.2),
            transforms.ToTensor(),
        ]
    )
    return float(torch.stack([view(Image.fromarray(i.permute(1, 2, 0).numpy())) for i in images]).sum())


def simclr() -> list[dict]:
    """kNN on SimCLR's features of digit-scenes against kNN on raw pixels, and the seconds that training took."""
    train, test = data.load("digit-scenes", "train", limit=QUICK.limit), data.load("digit-scenes", "test")
    started = time.perf_counter()
    encoder = pretrain(QUICK.member("simclr/0").config, train).encoder
    took = time.perf_counter() - started

    def knn(one: Callable[[data.ImageSet], torch.Tensor]) -> float:
        return 100 * top1(knn_predict(one(train), train.labels, one(test)), test.labels)

    ours, raw = knn(lambda s: extract(encoder, s)), knn(lambda s: s.images.float().flatten(1) / 255)
    met = ours - raw >= 15 and took <= 90
    what = f"SimCLR's kNN on digit-scenes after {took:.0f} s of training"
    return [row(what, "%", ours, "15 points more, within 90 s", met, raw, "kNN on raw pixels")]


def scenes() -> list[dict]:
    """20,000 digit scenes with their masks."""
    took = seconds(lambda: digit_scenes("train", scenes=20_000), repeats=3)
    return [row("20,000 digit scenes", "s", took, "under 2 s", took < 2)]


def book() -> list[dict]:
    """The whole book from nothing but installed packages: both editions, pages, browser scripts, site."""
    with tempfile.TemporaryDirectory() as cache:
        env = os.environ | {"SSLNB_CACHE": cache}
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "sslnb", "book", "--force"], cwd=ROOT, env=env, check=True)
        took = (time.perf_counter() - started) / 60
    return [row("sslnb book --force with an empty cache", "min", took, "under 6 min", took < 6)]


def verify() -> list[dict]:
    """Recorded numbers measured again from the shipped encoders and the images in $SSLNB_DATA, nothing kept before."""
    what = f"sslnb verify, {' and '.join(MEMBERS)}"
    with tempfile.TemporaryDirectory() as cache:
        env = os.environ | {"SSLNB_CACHE": cache}
        started = time.perf_counter()
        command = [sys.executable, "-m", "sslnb", "verify"]
        found = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        took = (time.perf_counter() - started) / 60
    print(found.stdout + found.stderr[-1000:], file=sys.stderr)
    same, different = (found.stdout.count(f": {word}") for word in ("same", "DIFFERENT"))
    return [
        row(f"{what}: time", "min", took, "under 10 min", took < 10),
        row(f"{what}: kinds of numbers that are not as recorded, of {same + different}", "", different, "none",
            found.returncode == 0 and same > 0),
    ]  # fmt: skip


FUNCTIONS = (
    scenes,
    margins,
    probe_grid,
    robust_accuracy,
    augmentation,
    simclr,
    perturbation.pixel_attacks,
)
REPRESENTATION = (
    representation.qscore_stream,
    representation.heatmaps,
    alignment.layer_similarity,
    labelfree.label_free,
    growth.growth,
    growth.imagenet,
    probes.probe_audit,
)
BOOK = (book, pages.pages, verify)
GEOMETRY = (trajectories.bhattacharyya_matrix, surfaces.loss_surfaces)
TRAINING = (training.simclr_step, training.pool, training.against_lightly, training.looking, training.epoch_on_gpu)
PEERS = (peers.against_stable_pretraining,)
BENCHMARKS = {
    function.__name__: function for function in (*FUNCTIONS, *BOOK, *REPRESENTATION, *GEOMETRY, *TRAINING, *PEERS)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    chosen = parser.parse_args().names or list(BENCHMARKS)
    unknown = [name for name in chosen if name not in BENCHMARKS]
    if unknown:
        parser.error(f"NAME: expected names of {', '.join(BENCHMARKS)}, got {unknown[0]!r}")
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for name in chosen:
        origin = {
            "benchmark": name,
            "command": f"python benchmarks/run.py {name}",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "hardware": device.describe(),
        }
        rows = [found | origin for found in BENCHMARKS[name]()]
        kept = [old for old in kept if old["benchmark"] != name] + rows
        for found in rows:
            print(
                json.dumps({k: found[k] for k in ("name", "ours", "peer", "ratio", "unit", "target", "met")}),
                flush=True,
            )
        with files.atomic(RESULTS) as partial:
            partial.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
