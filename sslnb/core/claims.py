"""Claims decided in code: effect, interval, verdict; the rule is fixed before results are seen."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

from sslnb.core.checks import expect

REPLICATED, NOT_REPLICATED = "replicated", "not replicated"
UNDECIDED, NOT_TESTED = "undecided", "not tested at this scale"


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, where it stands there, and the comparison that decides it: effect above threshold."""

    id: str
    statement: str
    where: str
    effect: str  # what the effect measures, positive when the claim holds
    threshold: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """A decided claim. The interval has 95 % confidence; ``seeds`` is the number of independent runs behind it."""

    claim: str
    effect: float
    low: float
    high: float
    seeds: int
    verdict: str
    note: str = ""

    def as_dict(self) -> dict:
        return asdict(self)


def interval(
    effects: Sequence[float], replicates: Sequence[float] = (), confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean effect with its interval (mean, low, high) from one effect per seed [S], S ≥ 2.

    The half-width adds two independent uncertainties in quadrature: Student's t over seeds, and, from bootstrap
    ``replicates`` [R] of the mean effect over test samples, the normal interval of their deviation (all seeds share
    one test set, so the spread over seeds does not contain it).
    """
    effects = np.asarray(effects, dtype=float)
    expect(effects.ndim == 1 and len(effects) >= 2, "effects", "one value per seed, at least two", effects.shape)
    expect(bool(np.isfinite(effects).all()), "effects", "finite values", effects.tolist())
    mean, n = float(effects.mean()), len(effects)
    over_seeds = stats.t.ppf(0.5 + confidence / 2, n - 1) * effects.std(ddof=1) / math.sqrt(n)
    deviation = float(np.std(np.asarray(replicates, dtype=float), ddof=1)) if len(replicates) > 1 else 0.0
    half = math.hypot(over_seeds, stats.norm.ppf(0.5 + confidence / 2) * deviation)
    return mean, mean - half, mean + half


def decide(
    claim: Claim, effects: Sequence[float], replicates: Sequence[float] = (), note: str = "", *, bound: float = math.nan
) -> Verdict:
    """Verdict on a claim from one effect per seed; NaN marks a seed without a measurement.

    *Replicated* when the whole interval is above the threshold, *not replicated* when it is wholly at or below,
    *undecided* when it spans it, *not tested at this scale* with fewer than two measured seeds. Equal effects say
    nothing about their spread and decide nothing, unless all are at a ``bound`` where such effects are cut.
    """
    measured = [float(e) for e in effects if math.isfinite(e)]
    if len(measured) < 2:
        effect = measured[0] if measured else math.nan
        return Verdict(claim.id, effect, math.nan, math.nan, len(measured), NOT_TESTED, note)
    mean, low, high = interval(measured, replicates)
    verdict = REPLICATED if low > claim.threshold else NOT_REPLICATED if high <= claim.threshold else UNDECIDED
    if low == high != bound:
        verdict = UNDECIDED
    return Verdict(claim.id, mean, low, high, len(measured), verdict, note)


def decide_share(claim: Claim, hits: int, trials: int, seeds: int, note: str = "") -> Verdict:
    """Verdict on a share of independent trials, with Clopper and Pearson's exact interval; no trial, no test."""
    if not trials:
        return Verdict(claim.id, math.nan, math.nan, math.nan, seeds, NOT_TESTED, note)
    low, high = stats.binomtest(hits, trials).proportion_ci(0.95, method="exact")
    verdict = REPLICATED if low > claim.threshold else NOT_REPLICATED if high <= claim.threshold else UNDECIDED
    return Verdict(claim.id, hits / trials, float(low), float(high), seeds, verdict, note)


def combine(claim: Claim, parts: Sequence[Verdict]) -> Verdict:
    """Verdict on a claim that is made of several comparisons (norms, data sets, methods), each decided by itself.

    It is not replicated if any part is not, replicated only if every part was measured and is, else undecided. Effect
    and interval are those of the part that decided: among the parts with the combined verdict the one with the least
    upper bound where the claim failed, the least lower bound otherwise. No correction is made for the number of parts.
    """
    tested = [part for part in parts if part.verdict != NOT_TESTED]
    if not tested:
        return Verdict(claim.id, math.nan, math.nan, math.nan, 0, NOT_TESTED)
    kinds = [part.verdict for part in tested]
    verdict = next(kind for kind in (NOT_REPLICATED, UNDECIDED, REPLICATED) if kind in kinds)
    bound = (lambda part: part.high) if verdict == NOT_REPLICATED else (lambda part: part.low)
    decisive = min((part for part in tested if part.verdict == verdict), key=bound)
    note = f"{kinds.count(REPLICATED)} of {len(parts)} comparisons replicated, {kinds.count(NOT_REPLICATED)} not"
    if len(tested) < len(parts):
        note += f", {len(parts) - len(tested)} not measured"
        verdict = UNDECIDED if verdict == REPLICATED else verdict
    return Verdict(claim.id, decisive.effect, decisive.low, decisive.high, decisive.seeds, verdict, note)
