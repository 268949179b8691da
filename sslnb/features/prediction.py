"""How well a score of samples predicts which of them a classifier gets right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from sslnb.core.checks import expect, expect_tensor, one_line


@dataclass(frozen=True)
class Prediction:
    """Areas under the ROC and the precision-recall curve with 95 % bootstrap intervals over samples.

    ``auroc`` and ``auprc`` are (value, low, high); ``undefined`` says why they are NaN, where they are; ``base_rate``
    is the share of right samples, which is the precision of a score that knows nothing.
    """

    auroc: tuple[float, float, float]
    auprc: tuple[float, float, float]
    base_rate: float
    drawn: np.ndarray  # both areas [rounds, 2] of each draw of samples; the same draws for the same seed and N
    undefined: str | None = None


def predicts(score: ArrayLike, right: ArrayLike, *, rounds: int = 200, seed: int = 0) -> Prediction:
    """How well a score [N], greater for better samples, predicts which are right, bool [N] (scikit-learn).

    Where all samples are right, or none is, nothing can be told apart. ``ValueError`` for other shapes, scores that are
    not finite, no samples, or fewer than two rounds.
    """
    score, right = _checked(score, right)
    expect(rounds >= 2, "rounds", "at least 2", rounds)
    base = float(right.mean())
    if base in (0.0, 1.0):
        missing = (math.nan,) * 3
        nothing = np.full((rounds, 2), math.nan)
        return Prediction(missing, missing, base, nothing, f"{'all' if base else 'no'} samples are right")
    generator = np.random.default_rng(seed)
    estimates = np.array([_areas(score, right), *_resampled(score, right, rounds, generator)])
    low, high = np.quantile(estimates[1:], (0.025, 0.975), axis=0)
    auroc, auprc = ((float(estimates[0, i]), float(low[i]), float(high[i])) for i in (0, 1))
    return Prediction(auroc, auprc, base, estimates[1:])


def auroc(score: ArrayLike, right: ArrayLike) -> float:
    """Area under the ROC curve of a score alone; NaN where all samples are right, or none is (scikit-learn)."""
    from sklearn import metrics  # a second of import, which most of what imports this can do without

    score, right = _checked(score, right)
    return float(metrics.roc_auc_score(right, score)) if 0 < right.mean() < 1 else math.nan


def curves(score: ArrayLike, right: ArrayLike) -> dict[str, np.ndarray]:
    """ROC curve (``fpr``, ``tpr``) and precision-recall curve (``recall``, ``precision``) of a score (scikit-learn)."""
    from sklearn import metrics

    score, right = _checked(score, right)
    expect(
        0 < right.mean() < 1, "right", "samples that are right and others that are wrong", f"{right.mean():.0%} right"
    )
    fpr, tpr, _ = metrics.roc_curve(right, score)
    precision, recall, _ = metrics.precision_recall_curve(right, score)
    return {"fpr": fpr, "tpr": tpr, "recall": recall, "precision": precision}


def _resampled(
    score: np.ndarray, right: np.ndarray, rounds: int, generator: np.random.Generator
) -> Sequence[tuple[float, float]]:
    """Areas of samples drawn with replacement; draws in which all or none are right are drawn again."""
    areas: list[tuple[float, float]] = []
    while len(areas) < rounds:
        index = generator.integers(len(score), size=len(score))
        if 0 < right[index].sum() < len(index):
            areas.append(_areas(score[index], right[index]))
    return areas


def _areas(score: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    from sklearn import metrics

    return float(metrics.roc_auc_score(right, score)), float(metrics.average_precision_score(right, score))


def _checked(score: ArrayLike, right: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    score, right = _array(score, "score"), _array(right, "right")
    expect(not np.iscomplexobj(score), "score", "real numbers", "complex ones")
    try:
        score, right = np.asarray(score, dtype=float), np.asarray(right)
    except (TypeError, ValueError) as error:
        raise ValueError(f"score: expected numbers, got {type(score).__name__} ({one_line(error)})") from error
    expect(right.dtype == bool and right.ndim == 1, "right", "bool, shape [N]", f"{right.dtype} {list(right.shape)}")
    expect(score.shape == right.shape and len(score) > 0, "score", f"shape [{len(right)}], N > 0", list(score.shape))
    expect(bool(np.isfinite(score).all()), "score", "finite values", "others")
    return score, right


def _array(values: ArrayLike | Tensor, argument: str) -> ArrayLike:
    """A tensor's values as an array, wherever it is; anything else as it came."""
    if not isinstance(values, Tensor):
        return values
    expect_tensor(values, argument)
    values = values.detach().cpu()
    return (values.double() if values.is_floating_point() else values).numpy()
