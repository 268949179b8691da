"""Rank correlations between measures, raw and with a third held fixed, and what choosing by a measure costs.

Units are objectives. NumPy in, numbers out.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
from scipy import stats

LEAST = 5  # units, below which a correlation gets no interval: at 4 its standard error is 1
TINY = 1e-9  # of lengths of centred ranks, which are at least 1 where there is anything
PAIRINGS = 9_999  # that are drawn at random where there are more; of up to seven units all are taken


class Correlation(NamedTuple):
    """Spearman's ρ with its 95 % interval over n units; NaN where it is not defined."""

    value: float
    low: float
    high: float
    n: int


def spearman(x: np.ndarray, y: np.ndarray, given: np.ndarray | None = None) -> Correlation:
    """Rank correlation of x [n] and y [n], with the ranks of ``given`` [n] held fixed; units with a gap are left out.

    Partial: the correlation of what a regression of ranks on the ranks of ``given`` leaves. The interval is Fisher's,
    with the variance (1 + ρ²/2) / (n − 3 − k) for k variables held fixed. Source: Bonett and Wright 2000, section 2.
    """
    columns = np.stack([x, y] if given is None else [x, y, given])
    known = columns[:, np.isfinite(columns).all(0)]
    n = known.shape[1]
    if n < 3 or (np.ptp(known, axis=1) == 0).any():
        return Correlation(math.nan, math.nan, math.nan, n)
    ranks = stats.rankdata(known, axis=1)
    r = np.corrcoef(ranks)
    value = r[0, 1] if given is None else _partial(r)
    free = n - 3 - (given is not None)
    if n < LEAST or free < 1 or not math.isfinite(value):
        return Correlation(float(value), math.nan, math.nan, n)
    # The interval of ±1 would have no length: it is that of one exchange of neighbouring ranks, and reaches ±1.
    largest = 1 - 12 / (n * (n**2 - 1))
    nearest = float(np.clip(value, -largest, largest))
    half = stats.norm.ppf(0.975) * math.sqrt((1 + nearest**2 / 2) / free)
    low, high = np.tanh(np.arctanh(nearest) - half), np.tanh(np.arctanh(nearest) + half)
    return Correlation(float(value), min(float(low), value), max(float(high), value), n)


def _partial(r: np.ndarray) -> float:
    """Correlation of the first two of three variables with the third held fixed; NaN where that explains one whole."""
    left = (1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)
    return (r[0, 1] - r[0, 2] * r[1, 2]) / math.sqrt(left) if left > 1e-12 else math.nan


def p_value(x: np.ndarray, y: np.ndarray, given: np.ndarray | None = None) -> float:
    """Two-sided p of :func:`spearman` when every pairing of x [n] with y [n] is as likely as another.

    Exact for up to seven units; at five, where an interval always holds 0, equal orders have 0.017. With ``given`` [n]
    what its ranks leave of x is exchanged. NaN where the correlation has none. Source: Freedman and Lane 1983.
    """
    columns = np.stack([x, y] if given is None else [x, y, given])
    known = columns[:, np.isfinite(columns).all(0)]
    if known.shape[1] < LEAST or (np.ptp(known, axis=1) == 0).any():
        return math.nan
    ranks = stats.rankdata(known, axis=1)
    first, second, *held = ranks - ranks.mean(1, keepdims=True)

    def left(values: np.ndarray) -> np.ndarray:
        for one in held:
            values = values - np.multiply.outer(values @ one, one) / (one @ one)
        return values

    rest = left(second)
    if min(np.linalg.norm(left(first)), np.linalg.norm(rest)) < TINY:
        return math.nan

    def correlation(values: np.ndarray, axis: int) -> np.ndarray:
        values = left(np.moveaxis(values, axis, -1))
        return values @ rest / np.maximum(np.linalg.norm(values, axis=-1) * np.linalg.norm(rest), TINY)

    settings = {"permutation_type": "pairings", "n_resamples": PAIRINGS, "vectorized": True, "random_state": 0}
    return float(stats.permutation_test((left(first),), correlation, **settings).pvalue)


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's τ_b of x [n] and y [n] over units without a gap; NaN for fewer than three, or where one is constant."""
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 3:
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return float(stats.kendalltau(x[known], y[known]).statistic)


def regret(preference: np.ndarray, target: np.ndarray) -> float:
    """How much of the target [n] is lost by the unit that a preference [n] puts first, against the best unit.

    The mean over units that share the first place. NaN where nothing is known of the two together.
    """
    known = np.isfinite(preference) & np.isfinite(target)
    if not known.any():
        return math.nan
    preference, target = preference[known], target[known]
    return float(target.max() - target[preference == preference.max()].mean())


def blind_regret(target: np.ndarray) -> float:
    """The expected :func:`regret` of a unit that is drawn at random."""
    known = target[np.isfinite(target)]
    return float(known.max() - known.mean()) if len(known) else math.nan
