"""Predictions of an encoder that has no classifier yet: by the nearest class mean of its features."""

import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_finite, expect_labels, expect_one_device, expect_real, expect_shape
from sslnb.core.numerics import floats, rounding, scale_of, unit
from sslnb.features.linear import CHUNK

SCALES = torch.logspace(-3, 4, 141, dtype=torch.double)  # of inverse squared distances, to choose one from


def nearest_class_mean(train: Tensor, labels: Tensor, x: Tensor) -> Tensor:
    """Class probabilities [N,K] of features x [N,d] by their squared distances to the class means of train [M,d].

    softmax(−s·‖x − μ_k‖²/v), v the mean squared distance of training features to their own mean, and s the scale that
    makes the training labels most likely; for both, each sample is left out of its own class's mean. Features that do
    not vary give equal probabilities. ``ValueError`` for shapes that do not fit, values that are not finite, labels [M]
    that are not of 0..K-1, or a class with fewer than two samples.
    """
    labels = _checked(train, labels, x, "labels")
    expect(len(train) > 0, "train", "at least one sample", "none")
    classes = int(labels.max()) + 1
    counts = labels.bincount(minlength=classes)
    expect(int(counts.min()) >= 2, "labels", "at least two samples of each class", counts.tolist())
    constant = rounding(train.dtype) ** 2  # of the mean squared length: what rounding leaves of such features
    scale = scale_of(train)
    train, x = train.detach().double() / scale, x.detach().double() / scale
    length, centre = float(train.square().sum(1).mean()), train.mean(0)
    train, x = train - centre, x - centre  # distances from products are right to rounding in the largest length
    means = (
        torch.zeros(classes, train.shape[1], dtype=torch.double, device=x.device).index_add_(0, labels, train)
        / counts[:, None]
    )
    own = torch.cdist(train, means).square()
    n = counts[labels].double()
    at = torch.arange(len(train), device=x.device)
    own[at, labels] *= (n / (n - 1)).square()  # the distance to the mean of the others
    spread = float(own[at, labels].mean())
    if spread <= constant * length:
        return torch.full((len(x), classes), 1 / classes, device=x.device)
    likely = torch.stack([torch.log_softmax(-scale * own / spread, 1)[at, labels].mean() for scale in SCALES])
    scale = SCALES[int(likely.argmax())]
    return torch.softmax(-scale * torch.cdist(x, means).square() / spread, 1).float()


def _checked(train: Tensor, labels: Tensor, x: Tensor, argument: str) -> Tensor:
    """The labels, as int64."""
    expect_shape(train, "train", "M", "d")
    expect_shape(labels, argument, len(train))
    expect_shape(x, "x", "N", train.shape[1])
    expect_one_device(**{"train": train, argument: labels, "x": x})
    for name, part in {"train": train, "x": x}.items():
        expect_real(part, name)
        expect_finite(part, name)
    return expect_labels(labels, torch.iinfo(torch.int32).max, argument)


def knn_predict(train: Tensor, train_labels: Tensor, x: Tensor, *, k: int = 200, temperature: float = 0.1) -> Tensor:
    """Classes [N] by weighted k nearest neighbours in cosine similarity.

    Features [M,d] and [N,d]; a neighbour of similarity s votes exp(s / temperature). With fewer than k training
    samples all of them vote. A sample of zeros is equally far from all. ``ValueError`` for shapes that do not fit,
    no training samples, values that are not finite, and labels that are not integers from 0. Source: Wu et al. 2018
    (instance discrimination), section 3.4.
    """
    train_labels = _checked(train, train_labels, x, "train_labels")
    enough = isinstance(k, int) and k >= 1 and len(train) > 0
    expect(enough, "k", "at least 1, and at least one training sample", f"{k} of {len(train)}")
    expect(temperature > 0, "temperature", "a positive value", temperature)
    kind = torch.promote_types(floats(train).dtype, floats(x).dtype)
    bank, classes = unit(train.to(kind)), int(train_labels.max()) + 1
    out = []
    for part in x.split(CHUNK):
        similarity, neighbour = (unit(part.to(kind)) @ bank.T).topk(min(k, len(bank)), dim=1)
        votes = torch.zeros(len(part), classes, device=x.device, dtype=kind)
        votes.scatter_add_(1, train_labels[neighbour], ((similarity - similarity[:, :1]) / temperature).exp())
        out.append(votes.argmax(1))
    return torch.cat(out)
