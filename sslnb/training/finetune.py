"""Whole networks as classifiers: fine-tuned on a share of the labels, or with a fitted probe on top."""

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from sslnb.core import device
from sslnb.core.checks import expect
from sslnb.core.seeds import batches_of, seeded
from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import Encoder, evaluating
from sslnb.features.linear import LinearProbe
from sslnb.features.mlp import train_epoch
from sslnb.features.standardize import Standardizer
from sslnb.views.augment import Augmentation


class Classifier(nn.Module):
    """An encoder with a linear layer on its features: images [N,C,H,W] in [0, 1] → logits [N,K] in float32."""

    def __init__(self, encoder: Encoder, head: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x: Tensor) -> Tensor:
        features = self.encoder(x).float()
        with torch.autocast(x.device.type, enabled=False):  # in bf16 logits would often tie
            return self.head(features)


def with_head(encoder: Encoder, weight: Tensor, bias: Tensor, standardizer: Standardizer | None = None) -> Classifier:
    """The classifier that a linear layer, weight [K,d] and bias [K], makes of an encoder; both in evaluation mode.

    Where the layer is on standardized features, of unit variance, that is folded in. ``ValueError`` for a standardizer
    of another scale, which no linear layer can hold.
    """
    head = nn.Linear(*reversed(weight.shape))
    if standardizer is not None:
        expect(standardizer.scale == "unit_variance", "standardizer", "scale 'unit_variance'", standardizer.scale)
        weight = weight / standardizer.deviation  # nought for a constant feature, whose deviation counts as infinite
        bias = bias - weight @ standardizer.mean
    head.load_state_dict({"weight": weight, "bias": bias})
    return Classifier(encoder, head).eval()


def with_probe(encoder: Encoder, standardizer: Standardizer, probe: LinearProbe) -> Classifier:
    """:func:`with_head` of a linear probe on features of unit variance."""
    return with_head(encoder, probe.weight, probe.bias, standardizer)


def label_fraction(images: ImageSet, fraction: float, seed: int = 0) -> ImageSet:
    """A stratified share, in (0, 1], of a labelled set; ``ValueError`` where it would leave a class empty."""
    expect(0 < fraction <= 1, "fraction", "a share in (0, 1]", fraction)
    expect(not images.unlabeled, "images", "a labelled set", f"the unlabelled {images.name}")
    counts = images.labels.bincount(minlength=len(images.classes))
    least = int(counts.argmin())
    got = f"{fraction:g}, which leaves none of {images.classes[least]!r}"
    expect(round(fraction * int(counts[least])) >= 1, "fraction", "at least one image of every class", got)
    return images if fraction == 1 else images.take(round(fraction * len(images)), seed)


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned classifier in evaluation mode, with its mean loss per epoch."""

    model: Classifier
    losses: list[float]

    @property
    def converged(self) -> bool:
        """Whether the loss stayed finite."""
        return all(map(math.isfinite, self.losses))


def fine_tune(
    encoder: Encoder,
    images: ImageSet,
    *,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 0.05,
    crop_scale: float = 0.5,
    flip: float = 0.5,
    seed: int = 0,
    after_epoch: Callable[[Classifier], None] | None = None,
    on: torch.device | None = None,
    precision: str | None = None,
) -> FineTuned:
    """Train a copy of an encoder and a new linear layer on a labelled set; random crops and flips.

    SGD with Nesterov momentum 0.9, no weight decay, a constant rate of ``learning_rate`` per 256 images. The last
    incomplete batch of an epoch is left out; a smaller set is one batch. A loss that stops being finite ends the
    training, and is the last of the losses. ``after_epoch`` is shown the model after each epoch, and at the start, in
    evaluation mode. Source: Chen et al. 2020, appendix B.5.
    """
    expect(epochs >= 1, "epochs", "at least 1", epochs)
    expect(batch_size >= 2, "batch_size", "at least 2", batch_size)
    expect(not images.unlabeled, "images", "a labelled set", f"the unlabelled {images.name}")
    expect(len(images) >= 2, "images", "at least 2", len(images))
    expect(len(images.classes) >= 2, "images", "at least 2 classes", images.classes)
    on = on or device.best_device()
    precision = precision or device.best_precision(on)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(copy.deepcopy(encoder), nn.Linear(encoder.feature_dim, len(images.classes)))
    layout = device.training_layout(model, on)
    model.requires_grad_(True).to(on, memory_format=layout).train()
    batch_size = min(batch_size, len(images))
    rate = learning_rate * batch_size / 256
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True)
    pixels, labels = images.images.to(on), images.labels.to(on)
    view = Augmentation(scale=(crop_scale, 1.0), flip=flip)
    steps = itertools.count()

    def loss_of(index: Tensor) -> Tensor:
        x = view(pixels[index], seeded(seed, next(steps), on)).contiguous(memory_format=layout)
        with device.autocast(on, precision):
            return F.cross_entropy(model(x), labels[index])

    losses: list[float] = []
    _show(model, after_epoch)
    for epoch in tqdm(range(epochs), desc=f"fine-tuning on {len(images):,} images", leave=False, delay=1):
        batches = batches_of(epoch, len(images), batch_size, seed).to(on)
        losses.append(train_epoch(batches, loss_of, optimizer))
        if not math.isfinite(losses[-1]):
            break
        _show(model, after_epoch)
    return FineTuned(model.eval(), losses)


def _show(model: Classifier, after_epoch: Callable[[Classifier], None] | None) -> None:
    if after_epoch is not None:
        with evaluating(model):
            after_epoch(model)
