"""Claims decided in code by one rule: gate, one primary comparison, a smallest effect of interest, six verdicts."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import xarray as xr
from scipy import optimize, stats

from sslnb.core.checks import expect
from sslnb.core.labels import CONTROLS

CONFIDENCE = 0.95  # of every interval, as is the custom
POWER = 0.8  # of the effect that is stated as detectable, the custom since Cohen 1988
LEAST_UNITS = 3  # two seeds give a t interval of 12.7 standard errors, which decides nothing
GATE = 0.05  # accuracy above raw pixels and the untrained twin: 3.5 standard errors of 1,000 images at 30 %


class Kind(StrEnum):
    """The six verdicts."""

    REPLICATED = "replicated"
    SMALL = "present but small"
    ABSENT = "absent"
    REVERSED = "reversed"
    UNDECIDED = "undecided"
    NOT_TESTED = "not tested"


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, where it stands there, its primary comparison and smallest effect of interest (SEI)."""

    id: str
    statement: str
    where: str
    effect: str  # what the comparison measures, with its unit; positive when the claim holds
    sei: float
    unit: str = "seed"  # what is independent: seed | objective | network
    evidence: str = ""  # the figure, or the section, of the chapter that shows the comparison


@dataclass(frozen=True)
class Part:
    """One part of a comparison; its interval is corrected by Holm's method for their number, and decides nothing."""

    name: str
    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """A decided claim: estimate with its 95 % interval over ``units``; the effect detectable with a power of 80 %."""

    claim: str
    kind: Kind
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    units: int = 0
    detectable: float = math.nan
    parts: tuple[Part, ...] = ()
    note: str = ""
    controls: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)


def decide(
    claim: Claim,
    effects: xr.DataArray,
    *,
    replicates: xr.DataArray | None = None,
    controls: Mapping[str, xr.DataArray] | None = None,
    note: str = "",
    least: bool = False,
) -> Verdict:
    """The verdict on a claim from effects with a dimension ``claim.unit``, all others being parts that are pooled.

    The estimate is the mean over units of each one's mean over parts, or with ``least`` of each one's least part, where
    a claim says several things. ``replicates`` (dimension ``replicate``, parts or not) are bootstraps over test samples
    of the mean over units, which all units share. NaN marks what was not measured: a unit with a gap in any part is
    left out, so that all parts weigh the same. ``controls`` are the same effects against other encoders: intervals are
    stated, and decide nothing.
    """
    expect(claim.unit in effects.dims, "effects", f"a dimension {claim.unit!r}", list(effects.dims))
    pooled, parts = _pooled(effects, claim.unit, least)
    spread = _deviation(replicates)
    beside = {
        name: mean_interval(_pooled(values, claim.unit, least)[0], 0.0) for name, values in (controls or {}).items()
    }
    if len(pooled) < LEAST_UNITS:
        short = f"{len(pooled)} of at least {LEAST_UNITS} {claim.unit}s"
        estimate = float(pooled.mean()) if len(pooled) else math.nan
        return Verdict(claim.id, Kind.NOT_TESTED, estimate, units=len(pooled), note=note or short, controls=beside)
    estimate, low, high = mean_interval(pooled, spread)
    return Verdict(
        claim.id,
        _kind(estimate, low, high, claim.sei),
        estimate,
        low,
        high,
        len(pooled),
        detectable(pooled, spread),
        _holm(parts),
        note,
        beside,
    )


def controls(
    have: Iterable[str], effect: Callable[[str], xr.DataArray], names: Mapping[str, str] = CONTROLS
) -> dict[str, xr.DataArray]:
    """An effect against each control among the objectives that there are, by what a page calls it."""
    have = set(have)
    return {text: effect(name) for name, text in names.items() if name in have}


def not_tested(claim: Claim, note: str) -> Verdict:
    """A claim that could not be put to the test, with the reason."""
    return Verdict(claim.id, Kind.NOT_TESTED, note=note)


def verdicts_of(
    claims: Mapping[str, Claim], comparisons: Mapping[str, Callable[..., Verdict]], *data: object, needs: str = ""
) -> list[Verdict]:
    """A study's verdicts: its comparison of each claim, called with the claim and the data.

    ``needs`` says what is missing, without which none can be tested. ``ValueError`` for claims without a comparison.
    """
    expect(claims.keys() == comparisons.keys(), "comparisons", f"one for each of {[*claims]}", [*comparisons])
    if needs:
        return [not_tested(claim, f"needs {needs}") for claim in claims.values()]
    return [comparisons[name](claim, *data) for name, claim in claims.items()]


def _kind(estimate: float, low: float, high: float, sei: float) -> Kind:
    if low > 0:
        return Kind.REPLICATED if estimate >= sei else Kind.SMALL
    if low > -sei and high < sei:  # before "reversed": an effect against the claim, too small to be of interest
        return Kind.ABSENT
    return Kind.REVERSED if high < 0 else Kind.UNDECIDED


def _pooled(effects: xr.DataArray, unit: str, least: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Mean over parts [U], or the least of them, and every part [U], of the units that were measured in all parts."""
    others = sorted(dim for dim in effects.dims if dim != unit)
    stacked = effects.stack(_part=others) if others else effects.expand_dims("_part", -1)
    stacked = stacked.transpose(unit, "_part")
    values = stacked.values[np.isfinite(stacked.values).all(1)]
    names = [_name(label) for label in stacked["_part"].values] if others else [""]
    return values.min(1) if least else values.mean(1), dict(zip(names, values.T, strict=True)) if others else {}


def _name(label: Hashable) -> str:
    return ", ".join(map(str, label)) if isinstance(label, tuple) else str(label)


def _deviation(replicates: xr.DataArray | None) -> float:
    """Standard deviation of the pooled effect over the bootstrap's replicates; 0 without any."""
    if replicates is None:
        return 0.0
    pooled = replicates.mean([dim for dim in replicates.dims if dim != "replicate"])
    return float(pooled.std(ddof=1))


def mean_interval(values: np.ndarray, spread: float, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Mean with its interval from one value per unit [U], and the deviation of what all units share.

    Half-widths of Student's t over units and of the normal interval of ``spread`` add in quadrature, which keeps at
    least the confidence: the two errors are independent, and units that share a test set do not show its error.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return mean, math.nan, math.nan
    over_units = stats.t.ppf(0.5 + confidence / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n)
    half = math.hypot(over_units, stats.norm.ppf(0.5 + confidence / 2) * spread)
    return mean, mean - half, mean + half


def detectable(values: np.ndarray, spread: float = 0.0) -> float:
    """The true effect whose interval lies above 0 with a probability of 80 %, for so many units of such a spread."""
    n = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    if error == 0:
        return float(spread * (stats.norm.ppf(0.5 + CONFIDENCE / 2) + stats.norm.ppf(POWER)))
    bound = stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)
    shift = optimize.brentq(lambda delta: stats.nct.sf(bound, n - 1, delta) - POWER, 0, 100)
    return math.hypot(shift * error, spread * (stats.norm.ppf(0.5 + CONFIDENCE / 2) + stats.norm.ppf(POWER)))


def _holm(parts: Mapping[str, np.ndarray]) -> tuple[Part, ...]:
    """Intervals of the parts: the k-th most significant of m has the confidence 1 − 0.05 / (m − k + 1)."""
    p = {name: _p_value(values) for name, values in parts.items()}
    rank = {name: k for k, name in enumerate(sorted(p, key=lambda name: (p[name], name)))}
    m = len(parts)
    corrected = {name: 1 - (1 - CONFIDENCE) / (m - rank[name]) for name in parts}
    return tuple(Part(name, *mean_interval(values, 0.0, corrected[name])) for name, values in parts.items())


def _p_value(values: np.ndarray) -> float:
    return 0.0 if np.ptp(values) == 0 else float(stats.ttest_1samp(values, 0).pvalue)


def jackknife(leave_one_out: Sequence[float], whole: float) -> np.ndarray:
    """Pseudo-values [U] of a statistic over pairs of networks, from it without each network and with all of them.

    They stand for independent units whose mean is the statistic, less its bias. Source: Tukey 1958; Efron 1982, 2.
    """
    n = len(leave_one_out)
    return n * whole - (n - 1) * np.asarray(leave_one_out)


def gate(
    accuracy: Mapping[str, Sequence[float]], pixels: float, untrained: Sequence[float]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Which encoders have learned, and of the others the reason.

    ``accuracy`` of each objective's seeds on the set that it was trained on, in [0, 1], must exceed that of raw pixels
    and of the untrained twins by 5 points in every seed.
    """
    bar = max(pixels, *untrained) + GATE
    reasons = {
        name: f"{100 * min(values):.1f} % in its worst seed, of the {100 * bar:.1f} % that count as learning"
        for name, values in accuracy.items()
        if min(values) < bar
    }
    return tuple(name for name in accuracy if name not in reasons), reasons


def bootstrap_weights(n: int, *, rounds: int = 200, seed: int = 0) -> np.ndarray:
    """How often each of n samples is drawn in each round of a bootstrap: [rounds, n], rows summing to n.

    A weighted mean with a row's weights is one replicate of the mean.
    """
    expect(n >= 1 and rounds >= 2, "n and rounds", "at least 1 sample and 2 rounds", (n, rounds))
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=rounds)
