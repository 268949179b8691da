"""How far features are from the decision boundary: margins, robust accuracy, effective accuracy.

Source of everything here: Sehwag, Chiang and Mittal 2020, "On Separability of Self-Supervised Representations",
section 2. Tensors in, tensors out; results are on the device of the features.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sslnb.core.checks import (
    as_values,
    expect,
    expect_finite,
    expect_floats,
    expect_labels,
    expect_one_device,
    expect_shape,
)
from sslnb.core.numerics import floats, scale_of

NORMS = (1, 2, math.inf)
DUAL = {1: math.inf, 2: 2.0, math.inf: 1.0}  # 1/p + 1/q = 1
CHUNK = 1024  # samples whose logits are held at a time
STACKED = 2**20  # logits of stacked classifiers that are held at a time


class EffectiveAccuracy(NamedTuple):
    """Benign accuracy, normalised area under accuracy against budget, and their product."""

    benign: float
    norm_auc: float
    effective: float


def margins(weight: Tensor, bias: Tensor, features: Tensor, *, p: float, labels: Tensor | None = None) -> Tensor:
    """Distance [N] of each sample, in the L_p norm, to the decision boundary of a linear classifier.

    m_p(x) = min over i ≠ t of (f_t(x) − f_i(x)) / ‖w_t − w_i‖_q, with t the predicted class, weight [K,d], bias [K],
    features [N,d] and 1/p + 1/q = 1. With ``labels`` [N], NaN where the prediction is wrong. A class whose weights
    equal the predicted one's is never reached, so it does not count; where none can be reached the margin is infinite,
    and where one is tied with the predicted class it is 0. Memory: a few times K² + 1024 · K values besides the input.
    Float32 logits, distances between weights exact to float32 (no cancellation); float64 where an argument is, and
    where magnitudes are extreme. ``ValueError`` for p outside
    {1, 2, inf}, fewer than two classes, shapes that do not fit, and values that are not finite.
    """
    _check_classifier(weight, bias, features, p)
    if labels is not None:
        expect_shape(labels, "labels", len(features))
        expect_one_device(features=features, labels=labels)
        labels = expect_labels(labels, len(weight))
    result_type = floats(features).dtype
    weight, bias, features = _in_one_type(weight, bias, features)
    distance = _class_distances(weight, p)  # K×K
    out = torch.empty(len(features), dtype=features.dtype, device=features.device)
    for start in range(0, len(features), CHUNK):
        part = slice(start, start + CHUNK)
        margin, predicted = _nearest(features[part] @ weight.T + bias, bias, distance)
        out[part] = margin if labels is None else margin.where(predicted == labels[part], math.nan)
    return out.to(result_type)


def stacked_margins(
    weight: Tensor,
    bias: Tensor,
    features: Tensor,
    *,
    orders: Sequence[float] = NORMS,
    labels: Tensor | None = None,
) -> Tensor:
    """:func:`margins` [P,G,N] of G linear classifiers on the same features, in the norms L_p of ``orders`` [P].

    Weight [G,K,d], bias [G,K], features [N,d]; the logits of a sample are computed once for all of them. Memory: the
    result, P · G · K² distances, and a few times 2²⁰ values. Types, infinities, NaN and ``ValueError`` as there.
    """
    expect_shape(weight, "weight", "G", "K", "d")
    expect_shape(bias, "bias", *weight.shape[:2])
    expect(len(weight) > 0 and len(orders) > 0, "weight and orders", "at least one each", "none")
    groups, classes, _ = weight.shape
    for p in orders:
        _check_classifier(weight.flatten(0, 1), bias.flatten(), features, p)
    expect(classes >= 2, "weight", "at least two classes", classes)
    if labels is not None:
        expect_shape(labels, "labels", len(features))
        expect_one_device(features=features, labels=labels)
        labels = expect_labels(labels, classes)
    result_type = floats(features).dtype
    weight, bias, features = _in_one_type(weight, bias, features)
    distances = [_class_distances(weight, p) for p in orders]  # G×K×K each
    out = torch.empty(len(orders), groups, len(features), dtype=features.dtype, device=features.device)
    samples = max(1, STACKED // (groups * classes))
    for start in range(0, len(features), samples):
        part = slice(start, start + samples)
        logits = torch.einsum("nd,gkd->gnk", features[part], weight) + bias[:, None]
        for norm, distance in enumerate(distances):
            margin, predicted = _nearest(logits, bias, distance)
            out[norm, :, part] = margin if labels is None else margin.where(predicted == labels[part], math.nan)
    return out.to(result_type)


def _nearest(logits: Tensor, bias: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Margins and predicted classes [..., n] from logits [..., n, K], biases [..., K] and distances [..., K, K]."""
    top, predicted = logits.max(-1)
    of_classes = predicted[..., None].expand(logits.shape)
    distance_to_own = distance.gather(-2, of_classes)
    ratio = (top[..., None] - logits) / distance_to_own
    # Of classes with equal weights the biases alone decide, everywhere; logits may differ by rounding.
    never = torch.where(bias.gather(-1, predicted)[..., None] > bias[..., None, :], math.inf, 0.0)
    ratio = torch.where(distance_to_own == 0, never.to(ratio), ratio)
    ratio.scatter_(-1, predicted[..., None], math.inf)
    return ratio.amin(-1), predicted


def _in_one_type(*tensors: Tensor) -> list[Tensor]:
    """All in float32; in float64 where one is, or where products of their magnitudes may leave float32."""
    double = any(tensor.dtype == torch.float64 or scale_of(tensor) != 1 for tensor in tensors)
    return [tensor.double() if double else tensor.float() for tensor in tensors]


def _class_distances(weight: Tensor, p: float) -> Tensor:
    """Dual-norm distances [..., K, K] between the rows of the weights [..., K, d]."""
    return torch.cdist(weight, weight, p=DUAL[p], compute_mode="donot_use_mm_for_euclid_dist")


def _check_classifier(weight: Tensor, bias: Tensor, features: Tensor, p: float) -> None:
    expect(p in NORMS, "p", "1, 2 or inf", p)
    expect_shape(weight, "weight", "K", "d")
    expect(len(weight) >= 2, "weight", "at least two classes", len(weight))
    expect_shape(bias, "bias", len(weight))
    expect_shape(features, "features", "N", weight.shape[1])
    for tensor, name in ((weight, "weight"), (bias, "bias"), (features, "features")):
        expect_floats(tensor, name)
        expect_finite(tensor, name)
    expect_one_device(features=features, weight=weight, bias=bias)


def robust_accuracy(
    weight: Tensor,
    bias: Tensor,
    features: Tensor,
    labels: Tensor,
    budgets: Tensor | Sequence[float],
    *,
    p: float,
    per_class: bool = False,
) -> Tensor:
    """Accuracy [B] under the strongest attack of each budget in the L_p norm: exact, no attack is run.

    A linear classifier's prediction can be changed within a budget exactly when the sample's margin is not above it,
    so the accuracy is the share of samples that are right and further than the budget from the boundary; at budget 0
    it is the clean accuracy. With ``per_class`` the mean of the classes' own accuracies. Budgets are non-negative, in
    any order. ``ValueError`` otherwise, and as in :func:`margins`.
    """
    margin = margins(weight, bias, features, p=p, labels=labels)
    return accuracy_at(margin, budgets, groups=labels if per_class else None)


def accuracy_at(margin: Tensor, budgets: Tensor | Sequence[float], *, groups: Tensor | None = None) -> Tensor:
    """Share of samples [B] whose margin [N] (NaN where wrong) is above each budget; at 0, share of right ones.

    With ``groups`` [N] (class labels, say) the mean over groups of each group's own share.
    """
    expect_floats(margin, "margin")
    budgets = as_values(budgets, "budgets").to(margin)
    expect_shape(budgets, "budgets", "B")
    expect_shape(margin, "margin", "N")
    expect(len(budgets) > 0 and len(margin) > 0, "budgets and margins", "at least one each", "none")
    expect_finite(budgets, "budgets")
    expect(bool((budgets >= 0).all()), "budgets", "values of at least 0", float(budgets.min()))
    if groups is not None:
        expect_shape(groups, "groups", len(margin))
        curves = [accuracy_at(margin[groups == group], budgets) for group in groups.unique()]
        return torch.stack(curves).mean(0)
    right = margin[~margin.isnan()].sort().values
    beaten = torch.searchsorted(right, budgets, right=True)  # margins at most the budget
    beaten[budgets == 0] = 0
    return (len(right) - beaten).to(margin.dtype) / len(margin)


def effective_accuracy(accuracies: Tensor | Sequence[float], budgets: Tensor | Sequence[float]) -> EffectiveAccuracy:
    """Effective accuracy of a curve: accuracies [B] in [0, 1] at increasing budgets [B] that start at 0.

    norm-AUC is the trapezoid area divided by the largest accuracy and the largest budget; effective accuracy is
    benign accuracy times norm-AUC. A classifier that is never right has both 0. ``ValueError`` for budgets that are
    unsorted, repeated, negative or don't start at 0, and for accuracies outside [0, 1].
    """
    accuracies, budgets = as_values(accuracies, "accuracies").cpu(), as_values(budgets, "budgets").cpu()
    expect_shape(budgets, "budgets", "B")
    expect(len(budgets) >= 2, "budgets", "at least two", len(budgets))
    expect_shape(accuracies, "accuracies", len(budgets))
    expect_finite(accuracies, "accuracies")
    expect_finite(budgets, "budgets")
    expect(float(budgets[0]) == 0, "budgets", "a first budget of 0", float(budgets[0]))
    expect(bool((budgets.diff() > 0).all()), "budgets", "increasing values", budgets.tolist())
    low, high = float(accuracies.min()), float(accuracies.max())
    expect(low >= 0 and high <= 1, "accuracies", "values in [0, 1]", f"values from {low} to {high}")
    area = float(torch.trapezoid(accuracies, budgets))
    norm_auc = area / (high * float(budgets[-1])) if high else 0.0
    benign = float(accuracies[0])
    return EffectiveAccuracy(benign, norm_auc, benign * norm_auc)
