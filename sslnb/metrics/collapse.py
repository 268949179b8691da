"""Neural collapse: how far features have become one point per class, with the points as far apart as can be."""

from typing import NamedTuple

import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_features, expect_finite, expect_labels, expect_real, expect_shape

ROWS = 4096  # read at a time
FLOOR = torch.finfo(torch.float32).eps  # of the greatest singular value of class means: below is rounding


class NeuralCollapse(NamedTuple):
    """All 0 where collapse is complete; NC3 and NC4 are NaN without a classifier."""

    nc1: float  # variability within classes
    equinorm: float  # NC2: spread of the lengths of class means, as a share of their mean
    equiangle: float  # NC2: spread of the cosines between class means
    max_angle: float  # NC2: mean distance of these cosines from −1/(K − 1), the simplex's
    nc3: float  # squared distance of the classifier's weights from the class means, both of norm 1
    nc4: float  # share of samples that classifier and nearest class mean do not put in the same class


def neural_collapse(
    h: Tensor, labels: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
) -> NeuralCollapse:
    """Neural collapse of features h [N,d] with labels [N] of 0..K−1, and of a linear classifier [K,d], [K] of them.

    NC1 = Tr(Σ_W Σ_B^†) / K, with Σ_W the covariance of features about their class's mean and Σ_B that of class means
    about the mean of all features. In float64; h is read a few rows at a time. ``ValueError`` for shapes that do not
    fit, fewer than 2 classes, a class without samples, or class means that do not differ.
    Source: Papyan, Han and Donoho 2020, "Prevalence of neural collapse", figures 2–7.
    """
    means, mean = _class_means(h, labels)
    h, labels = h.detach(), labels.long()
    classes = len(means)
    m = means - mean  # K×d
    lengths, (rows, columns) = m.norm(dim=1), torch.triu_indices(classes, classes, 1)
    least = FLOOR * torch.maximum(means.norm(dim=1).max(), mean.norm())
    expect(bool((lengths > least).all()), "h", "class means that differ from the mean of all", lengths.min().item())
    unit = m / lengths[:, None]
    cosines = (unit @ unit.T)[rows, columns]
    nc3 = nc4 = torch.tensor(torch.nan)
    if weight is not None:
        weight, bias = _classifier(weight, bias, m)
        nc3 = (weight / weight.norm() - m / m.norm()).square().sum()
        nc4 = _mismatch(h, means, weight, bias)
    numbers = (
        _variability(h, labels, means, m),
        lengths.std(correction=0) / lengths.mean(),
        cosines.std(correction=0),
        (cosines + 1 / (classes - 1)).abs().mean(),
        nc3,
        nc4,
    )
    return NeuralCollapse(*(float(number) for number in numbers))


def _class_means(h: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the classes [K,d] and of all features [d]."""
    expect_features(h, "h")
    expect_real(labels, "labels")
    expect_shape(labels, "labels", len(h))
    expect_labels(labels, len(h))  # more classes than samples leave one without
    classes = int(labels.max()) + 1
    expect(classes >= 2, "labels", "at least 2 classes", classes)
    counts = labels.long().bincount(minlength=classes)
    expect(int(counts.min()) >= 1, "labels", "samples of each class", counts.tolist())
    sums = torch.zeros(classes, h.shape[1], dtype=torch.double, device=h.device)
    for part, label in zip(h.split(ROWS), labels.split(ROWS), strict=True):
        sums.index_add_(0, label.long(), part.detach().double())
    return sums / counts[:, None], sums.sum(0) / len(h)


def _variability(h: Tensor, labels: Tensor, means: Tensor, m: Tensor) -> Tensor:
    """Tr(Σ_W Σ_B^†) / K by the directions v of Σ_B = MᵀM / K: the sum of vᵀ Σ_W v / s², with no d×d matrix."""
    _, s, v = torch.linalg.svd(m, full_matrices=False)
    v, s = v[s > FLOOR * s[0]], s[s > FLOOR * s[0]]
    within = torch.zeros_like(s)
    for part, label in zip(h.split(ROWS), labels.split(ROWS), strict=True):
        within += ((part.double() - means[label]) @ v.T).square().sum(0)
    return (within / len(h) / s.square()).sum()


def _classifier(weight: Tensor, bias: Tensor | None, m: Tensor) -> tuple[Tensor, Tensor]:
    expect_real(weight, "weight")
    expect_shape(weight, "weight", *m.shape)
    bias = torch.zeros(len(m), device=m.device) if bias is None else bias
    expect_real(bias, "bias")
    expect_shape(bias, "bias", len(m))
    for name, part in {"weight": weight, "bias": bias}.items():
        expect_finite(part, name)
    expect(bool(weight.any()), "weight", "weights that are not all 0", "zeros")
    return weight.detach().double(), bias.detach().double()


def _mismatch(h: Tensor, means: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Share of samples on which argmax ⟨w, h⟩ + b and argmin ‖h − μ‖ differ."""
    half = means.square().sum(1) / 2
    different = [
        (part.double() @ weight.T + bias).argmax(1) != (part.double() @ means.T - half).argmax(1)
        for part in h.split(ROWS)
    ]
    return torch.cat(different).double().mean()
