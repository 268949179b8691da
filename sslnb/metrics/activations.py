"""What activations tell about a representation, about classes, and about samples.

Kalibhat et al. 2024 (Q-Score), and the simple scores that it should be compared with. Features are [N,d] tensors.
"""

import math

import scipy
import torch
import torch.nn.functional as F
from torch import Tensor

from sslnb.core.checks import (
    expect,
    expect_count,
    expect_features,
    expect_finite,
    expect_floats,
    expect_labels,
    expect_one_device,
    expect_shape,
)
from sslnb.core.numerics import floats, lengths, rounding, rows_scaled, unit
from sslnb.metrics.qscore import highly_activating, q_score

NEAR_ZERO = 0.01  # of a sample's greatest magnitude: what counts as close to nought
CHUNK = 4096  # samples compared with the training set at a time


def near_zero_share(h: Tensor) -> float:
    """Share of all activations whose magnitude is under 1 % of the greatest one of their sample (figure A.1)."""
    _expect_features(h)
    magnitude = h.abs()
    return float((magnitude < NEAR_ZERO * magnitude.amax(1, keepdim=True)).double().mean())


def excess_kurtosis(h: Tensor) -> float:
    """Mean over samples of the fourth standardized moment of their features, minus 3: 0 for a normal distribution."""
    _expect_features(h)
    scaled_rows = rows_scaled(h.detach().double())[0]
    spread = scaled_rows.amax(1) - scaled_rows.amin(1)
    varied = scaled_rows[spread > rounding(h.dtype) * scaled_rows.abs().amax(1)]  # a constant sample has no shape
    return float(scipy.stats.kurtosis(varied.numpy(force=True), axis=1).mean()) if len(varied) else math.nan


def class_rates(h: Tensor, labels: Tensor, classes: int, epsilon: float = 4.0) -> Tensor:
    """Share [d,K] of each class's samples in which a feature is highly activating; NaN for a class without samples."""
    _expect_features(h)
    expect_shape(labels, "labels", len(h))
    expect_count(classes, "classes")
    labels = expect_labels(labels, classes)
    members = F.one_hot(labels, classes).double()
    return highly_activating(h, epsilon).double().T @ members / members.sum(0)


def mutual_information(rates: Tensor, labels: Tensor, *, relative: bool = False) -> Tensor:
    """Bits [d] that knowing whether a feature is highly activating tells about the class.

    From :func:`class_rates` [d,K] on samples with these labels [N]: H(active) − H(active | class). ``relative``: as a
    share of H(active), NaN where that is 0.
    """
    expect_shape(rates, "rates", "d", "K")
    expect_floats(rates, "rates")
    labels = expect_labels(labels, rates.shape[1])
    expect(labels.ndim == 1 and len(labels) > 0, "labels", "shape [N], at least one", f"shape {list(labels.shape)}")
    share = labels.bincount(minlength=rates.shape[1]).double() / len(labels)
    rates = torch.where(share > 0, rates.double(), 0.0)
    expect_finite(rates, "rates")
    expect(not rates.numel() or (rates.min() >= 0 and rates.max() <= 1), "rates", "shares in [0, 1]", "others")
    whole = _entropy(rates @ share)
    bits = (whole - _entropy(rates) @ share).clamp(min=0)
    return torch.where(whole > 0, bits / whole, torch.nan) if relative else bits


def _entropy(p: Tensor) -> Tensor:
    """Entropy in bits of a coin that shows heads with probability p."""
    return (torch.special.entr(p) + torch.special.entr(1 - p)) / torch.tensor(2.0, dtype=p.dtype).log()


def subsets(rate: Tensor, share: float, *, random: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Masks [d] (``random``: [random,d]) that keep a share of the features, by their activation rate [d].

    ``discriminative`` keeps the middle of the sorted rates, ``lower`` and ``upper`` one end, ``random`` any. Source:
    figures 2 and A.7.
    """
    expect_shape(rate, "rate", "d")
    expect_finite(rate, "rate")
    expect(0 < share <= 1, "share", "a value in (0, 1]", share)
    expect_count(random, "random")
    d = len(rate)
    count, order = max(1, round(share * d)), rate.argsort(stable=True)
    generator = torch.Generator().manual_seed(seed)
    random_masks = torch.stack([_mask(d, torch.randperm(d, generator=generator)[:count]) for _ in range(random)])
    low = (d - count) // 2
    ends = {"discriminative": order[low : low + count], "lower": order[:count], "upper": order[d - count :]}
    return {name: _mask(d, chosen) for name, chosen in ends.items()} | {"random": random_masks}


def _mask(d: int, chosen: Tensor) -> Tensor:
    return torch.zeros(d, dtype=torch.bool).index_fill(0, chosen, True)


def sample_scores(h: Tensor, train: Tensor, mask: Tensor | None, epsilon: float = 4.0) -> dict[str, Tensor]:
    """Scores [N] of samples that need no label, greater where a sample should be easier.

    ``qscore``, where there are discriminative features ``mask`` [d]; the trivial ones: the feature's ``norm``, its
    greatest activation (``max``), and ``neighbour``, the cosine similarity to the nearest of the ``train`` features
    [M,d], which is 1 minus the distance.
    """
    nearest = neighbour_similarity(h, train)
    h = floats(h)
    trivial = {"norm": lengths(h)[:, 0].to(h.dtype), "max": h.amax(1), "neighbour": nearest}
    return trivial if mask is None else {"qscore": q_score(h, mask, epsilon)} | trivial


def neighbour_similarity(h: Tensor, train: Tensor, *, k: int = 1) -> Tensor:
    """Cosine similarity [N] of features h [N,d] to the k-th nearest of the train features [M,d]: how dense it is there.

    1 minus half the square of the distance at unit length, by which Sun et al. 2022 tell samples that resemble no
    training sample. ``ValueError`` for shapes that do not fit, values that are not finite, or k outside 1..M.
    """
    _expect_features(h)
    expect_shape(train, "train", "M", h.shape[1])
    expect(len(train) > 0, "train", "at least one sample", "none")
    expect_floats(train, "train")
    expect_finite(train, "train")
    expect_one_device(h=h, train=train)
    expect_count(k, "k")
    expect(k <= len(train), "k", f"at most the {len(train)} training samples", k)
    bank = unit(floats(train))
    parts = unit(floats(h)).split(CHUNK)
    return torch.cat([(part.to(bank.dtype) @ bank.T).topk(k, dim=1).values[:, -1] for part in parts])


def view_agreement(views: Tensor) -> Tensor:
    """Mean cosine similarity [N] between the views of each sample, features [N,V,d]; 1 where all are alike.

    A view of length 0 is as far from the others as an independent one. ``ValueError`` for other shapes, fewer than 2
    views, or values that are not finite.
    """
    expect_floats(views, "views")
    expect_shape(views, "views", "N", "V", "d")
    n, v, d = views.shape
    expect(n > 0 and v >= 2 and d > 0, "views", "at least one sample with 2 views of some features", [n, v, d])
    expect_finite(views, "views")
    directions = unit(floats(views), 2)
    lengths_squared = directions.square().sum((1, 2))
    # The square of a sum is that of its terms, and each pair twice.
    return (directions.sum(1).square().sum(1) - lengths_squared) / (v * (v - 1))


def _expect_features(h: Tensor) -> None:
    expect_floats(h, "h")
    expect_features(h, "h")
