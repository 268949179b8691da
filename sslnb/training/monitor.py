"""What a run watches while it trains: kNN and linear accuracy on held-out images, and the signs of collapse."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sslnb.core.checks import NonFiniteError, expect
from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import Encoder
from sslnb.features.extract import extract
from sslnb.features.nearest import knn_predict
from sslnb.features.scores import top1
from sslnb.metrics.labelfree import feature_deviation, rankme

BANK, HELD_OUT = 1000, 500  # images that are looked at, to 2 points: of the training set, and held out
NEIGHBOURS = 20  # of each image's own class there are 100 among the bank of a set of ten
COLLAPSED = 0.02  # feature deviation, as a share of an even spread, below which all images look the same


def ridge_accuracy(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, penalty: float = 1e-2) -> float:
    """Test accuracy of a linear classifier fitted to one-hot labels in closed form.

    ``penalty`` is the ridge as a share of the standardized features' covariance. No steps, no learning rate: the same
    features give the same number, at the cost of one d × d system.
    """
    mean, deviation = train.mean(0), train.std(0, correction=0).clamp(min=1e-6)
    x, z = ((part.double() - mean) / deviation for part in (train, test))
    targets = torch.nn.functional.one_hot(labels).double()
    gram = x.T @ x / len(x) + penalty * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(gram, x.T @ (targets - targets.mean(0)) / len(x))
    return top1((z @ weight + targets.mean(0)).argmax(1), test_labels)


@dataclass(frozen=True)
class Look:
    """One look at an encoder: accuracies in [0, 1], and how far it is from collapse; NaN for what was not seen."""

    knn: float = math.nan
    probe: float = math.nan
    rankme: float = math.nan
    deviation: float = math.nan

    @property
    def collapsed(self) -> bool:
        return not self.deviation >= COLLAPSED


class Monitor:
    """Looks at an encoder on a few training images and, where there are some, held-out ones; never at test images."""

    def __init__(self, train: ImageSet, held_out: ImageSet | None = None) -> None:
        self.train = _stratified(train, BANK)
        self.held_out = None if held_out is None else _stratified(held_out, HELD_OUT)
        labelled = self.held_out is not None and min(self.train.labels.min(), self.held_out.labels.min()) >= 0
        self.labelled = bool(labelled)
        if self.labelled:
            same = self.train.classes == self.held_out.classes
            expect(same, "held_out", "the classes of the training images", self.held_out.classes)

    def look(self, encoder: Encoder, precision: str) -> Look:
        """kNN and linear accuracy, effective rank and deviation of the encoder's features as it is now."""
        try:
            train = extract(encoder, self.train, precision=precision)
            test = extract(encoder, self.held_out, precision=precision) if self.labelled else train
        except NonFiniteError:
            return Look()
        spread = {"rankme": rankme(train), "deviation": feature_deviation(train)}
        if not self.labelled:
            return Look(**spread)
        neighbours = knn_predict(train, self.train.labels, test, k=NEIGHBOURS)
        knn = top1(neighbours, self.held_out.labels)
        return Look(knn, ridge_accuracy(train, self.train.labels, test, self.held_out.labels), **spread)


def _stratified(images: ImageSet, n: int) -> ImageSet:
    """A stratified choice of n images, more where there are more classes, all where there are fewer images."""
    return images.take(min(max(n, len(images.labels.unique())), len(images)))
