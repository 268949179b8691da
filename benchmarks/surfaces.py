"""Loss surfaces beside those of the public library loss-landscapes."""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rows import row
from torch import nn

from sslnb import data
from sslnb.encoders.resnet import untrained
from sslnb.features.extract import as_float
from sslnb.metrics.surface import loss_surface
from sslnb.training.finetune import Classifier

POINTS, IMAGES, CLASSES = 51, 512, 5
# Points of a side that are timed for each stem, of the POINTS that the time is for, and how often.
TIMED = {"imagenet": (15, 6), "cifar": (5, 4)}


def loss_surfaces() -> list[dict]:
    """A surface of 51×51 points of a narrow ResNet-18, against the same by ``pip install loss-landscapes``.

    Both on this process's threads; fewer points are timed, both sides in turn, and the least time counts.
    """
    return [found for stem in TIMED for found in _surface(stem)]


def _surface(stem: str) -> list[dict]:
    import loss_landscapes
    from loss_landscapes.metrics import Loss

    scenes = data.load("digit-scenes", limit=IMAGES)
    labels, model = scenes.labels % CLASSES, _classifier(stem)
    metric = Loss(F.cross_entropy, as_float(scenes.images), labels)
    points, rounds = TIMED[stem]
    peer = {"distance": 2, "steps": points, "normalization": "filter", "deepcopy_model": True}
    own, theirs = _in_turn(
        lambda: loss_surface(model, scenes.images, labels, points=points),
        lambda: loss_landscapes.random_plane(model, metric, **peer),
        rounds,
    )
    took, peers = (seconds * (POINTS / points) ** 2 for seconds in (own, theirs))
    surface = loss_surface(model, scenes.images, labels, points=3)
    apart = abs(float(surface.losses[1, 1]) - loss_landscapes.point(model, metric))
    size = f"{POINTS}×{POINTS}, from the time of {points}×{points}, {IMAGES} images"
    what = f"loss surface {size}, ResNet-18 of width 16 with the stem {stem!r}"
    return [
        row(what, "s", took, "at least 1.3×", peers / took >= 1.3, peers, "loss-landscapes"),
        row(f"{what}: apart in the middle, at most", "", apart, "1e-4", apart <= 1e-4, None, "loss-landscapes"),
    ]


def _classifier(stem: str) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(untrained(0, width=16, stem=stem), nn.Linear(128, CLASSES)).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 1:  # the library divides by each bias, so none can be nought
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def _in_turn(first: Callable[[], object], second: Callable[[], object], rounds: int) -> list[float]:
    """Least seconds of each: in turn, so that what else the machine does hits both."""
    times = []
    for _ in range(rounds):
        for function in (first, second):
            started = time.perf_counter()
            function()
            times.append(time.perf_counter() - started)
    return [min(times[0::2]), min(times[1::2])]
