"""Scores of a classifier's outputs: top-k accuracy and area under the ROC curve."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_finite, expect_labels, expect_one_device, expect_real, expect_shape


def top1(predicted: Tensor, labels: Tensor, *, per_class: bool = False) -> float:
    """Accuracy of classes [N], or the mean of the classes' own accuracies; ``ValueError`` for no samples."""
    expect_shape(predicted, "predicted", "N")
    expect_shape(labels, "labels", len(predicted))
    expect(len(labels) > 0, "labels", "at least one sample", "none")
    expect_one_device(predicted=predicted, labels=labels)
    right = (predicted == labels).double()
    if not per_class:
        return float(right.mean())
    return float(torch.stack([right[labels == label].mean() for label in labels.unique()]).mean())


def above_chance(accuracy: float, labels: Tensor) -> bool:
    """Whether an accuracy is more than two standard errors above always naming the commonest class."""
    chance = float(labels.bincount().max()) / len(labels)
    return math.isfinite(accuracy) and accuracy > chance + 2 * math.sqrt(chance * (1 - chance) / len(labels))


def top_k(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    """Share of samples whose label is among the k largest of logits [N,K]; 1 ≤ k ≤ K.

    Labels [N] tied with others at the border count as wrong: equal logits say nothing.
    """
    labels = _checked(logits, labels)
    expect(1 <= k <= logits.shape[1], "k", f"a value in 1..{logits.shape[1]}", k)
    own = logits.gather(1, labels[:, None])
    ahead = (logits >= own).sum(1) - 1  # the label itself is not ahead of itself
    return float((ahead < k).double().mean())


def auc(logits: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve, one class against the rest, mean over the classes (scikit-learn's ``ovr``, macro).

    Of the softmax of logits [N,K] with labels [N], both with all K classes present; ``ValueError`` otherwise.
    """
    from sklearn.metrics import roc_auc_score  # a second of import, which most of what imports this can do without

    labels = _checked(logits, labels)
    present = len(labels.unique())
    expect(present == logits.shape[1] >= 2, "labels", f"all {logits.shape[1]} classes, at least 2", f"{present}")
    scores = logits.double().softmax(1).numpy(force=True)
    if scores.shape[1] == 2:
        return float(roc_auc_score(labels.numpy(force=True), scores[:, 1]))
    return float(roc_auc_score(labels.numpy(force=True), scores, multi_class="ovr", average="macro"))


def scores(logits: Tensor, labels: Tensor, ks: Sequence[int] = (1, 2, 3)) -> list[float]:
    """Top-k accuracy for every k, then the AUC; a k above the number of classes counts as all of them."""
    return [*(top_k(logits, labels, min(k, logits.shape[1])) for k in ks), auc(logits, labels)]


def _checked(logits: Tensor, labels: Tensor) -> Tensor:
    """The labels, as int64."""
    expect_shape(logits, "logits", "N", "K")
    expect_shape(labels, "labels", len(logits))
    expect(len(logits) > 0, "logits", "at least one sample", "none")
    expect_one_device(logits=logits, labels=labels)
    expect_real(logits, "logits")
    expect_finite(logits, "logits")
    return expect_labels(labels, logits.shape[1])
