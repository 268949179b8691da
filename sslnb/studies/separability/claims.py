"""How claims S1 to S5 are decided; written before any result was looked at.

Every comparison is paired by seed: an encoder that learned without labels against the supervised one of the same
seed, tested on the same images. The paper's text is followed for the standardization (unit norm); the verdict under
the other reading (unit variance) stands in the note.
"""

from collections.abc import Callable, Iterator

import numpy as np

from sslnb.core.claims import NOT_TESTED, Claim, Verdict, bootstrap_weights, combine, decide, decide_share
from sslnb.core.result import Result
from sslnb.metrics.margins import effective_accuracy

CLAIMS = {
    "S1": Claim(
        "S1",
        "Self-supervised features have smaller mean margins than supervised ones, in l1, l2 and l∞.",
        "section 3.1, figures 2 and 3",
        "relative difference of mean margins, (supervised − self-supervised) / supervised",
    ),
    "S2": Claim(
        "S2",
        "Supervised features keep the higher effective accuracy even where their benign accuracy is lower.",
        "table 1",
        "share of lower effective accuracy among the pairs where self-supervised benign accuracy is not lower",
        threshold=0.5,
    ),
    "S3": Claim(
        "S3",
        "The accuracy of self-supervised features falls faster with the attack budget.",
        "figure 4",
        "difference of norm-AUC, supervised − self-supervised",
    ),
    "S4": Claim(
        "S4",
        "Among self-supervised methods, gains in accuracy bring little gain in margin.",
        "section 3.1",
        "share of the supervised margin gap that the slope of margin on accuracy leaves unexplained",
        threshold=0.5,
    ),
    "S5": Claim(
        "S5",
        "The same (S3) holds for a multi-layer classifier.",
        "section 3.2",
        "difference of norm-AUC of the multi-layer probe under PGD, supervised − self-supervised",
    ),
}
SLOPE_METHODS = 3  # fewest self-supervised methods that a slope across methods can be fitted to


def decide_all(result: Result) -> tuple[list[Verdict], list[dict]]:
    """Verdicts on S1 to S5, and the comparisons that S1, S3 and S5 are made of."""
    verdicts, parts = [], []
    for claim, compare in (("S1", _margin), ("S2", None), ("S3", _norm_auc), ("S4", None), ("S5", _multilayer)):
        if compare is None:
            verdict = {"S2": _effective, "S4": _slope}[claim](result)
        else:
            verdict, comparisons = _by_parts(result, CLAIMS[claim], compare)
            parts += comparisons
        verdicts.append(verdict)
    return verdicts, parts


Comparison = tuple[str, np.ndarray, np.ndarray]  # what is compared, effects [S], bootstrap replicates [R]


def _by_parts(
    result: Result, claim: Claim, compare: Callable[[Result, int, int, int], Iterator[Comparison]]
) -> tuple[Verdict, list[dict]]:
    """Decide every comparison of a claim, then the claim by the first reading of the standardization."""
    pairs = list(_pairs(result))
    by_scale, parts = [], []
    for c, scale in enumerate(result.scalars["scales"]):
        decided = []
        for method, a, b in pairs:
            for what, effects, replicates in compare(result, a, b, c):
                decided.append(decide(claim, effects, replicates))
                parts.append({"scale": scale, "method": method, "of": what, **decided[-1].as_dict()})
        by_scale.append(combine(claim, decided))
    first, *others = by_scale
    notes = [first.note] if first.note else []
    notes += [f"with unit variance: {v.verdict}" for v in others if v.verdict != NOT_TESTED]
    return Verdict(**{**first.as_dict(), "note": "; ".join(notes)}), parts


def _pairs(result: Result) -> Iterator[tuple[str, int, int]]:
    """Each self-supervised method with its index and the supervised one's."""
    methods = result.scalars["methods"]
    if "supervised" in methods:
        for method in result.scalars["self_supervised"]:
            yield method, methods.index(method), methods.index("supervised")


def _margin(result: Result, ssl: int, supervised: int, c: int) -> Iterator[Comparison]:
    """Relative difference of mean margins, per data set and norm."""
    for d, name in enumerate(result.scalars["datasets"]):
        for i, norm in enumerate(result.scalars["norms"]):
            mean = result.arrays["mean_margin"][:, :, d, c, i]
            effects = 1 - mean[ssl] / mean[supervised]
            replicates = np.empty(0)
            if c == 0:
                resampled = _resampled(result.arrays[f"margins/{name}"][[ssl, supervised], :, i])
                replicates = _mean_over_seeds(1 - resampled[0] / resampled[1])
            yield f"{name}, {norm}", effects, replicates


def _resampled(margin: np.ndarray, cap: float = np.inf) -> np.ndarray:
    """Bootstrap replicates of the mean (clipped) margin of the right samples: [..., N] → [..., R]."""
    weights = bootstrap_weights(margin.shape[-1]).T
    right = ~np.isnan(margin)
    values = np.where(right, np.minimum(margin.astype(np.float64), cap), 0)
    with np.errstate(invalid="ignore"):
        return (values @ weights) / (right @ weights)


def _mean_over_seeds(replicates: np.ndarray) -> np.ndarray:
    """Replicates [S,R] → [R], seeds without a measurement left out."""
    measured = np.isfinite(replicates).all(1)
    return replicates[measured].mean(0) if measured.any() else np.empty(0)


def _norm_auc(result: Result, ssl: int, supervised: int, c: int) -> Iterator[Comparison]:
    """Difference of norm-AUC, per data set and norm.

    The area under accuracy against budget up to E is the mean of min(margin, E) over all samples (wrong ones 0), so
    norm-AUC is the clipped mean margin of the right ones over E: that is what is bootstrapped.
    """
    for d, name in enumerate(result.scalars["datasets"]):
        for i, norm in enumerate(result.scalars["attacked"]):
            auc = result.arrays["norm_auc"][:, :, d, c, i]
            replicates = np.empty(0)
            if c == 0:
                cap = result.arrays["budgets"][i, -1]
                margin = result.arrays[f"margins/{name}"][[ssl, supervised], :, result.scalars["norms"].index(norm)]
                resampled = _resampled(margin, cap) / cap
                replicates = _mean_over_seeds(resampled[1] - resampled[0])
            yield f"{name}, {norm}", auc[supervised] - auc[ssl], replicates


def _multilayer(result: Result, ssl: int, supervised: int, c: int) -> Iterator[Comparison]:
    """Difference of norm-AUC of the multi-layer probe: per norm, first data set and scale, up to the last dot."""
    if c:
        return
    dots, curves = result.arrays["dots"], result.arrays["mlp_pgd"]
    for i, norm in enumerate(result.scalars["attacked"]):
        auc = np.full(curves.shape[:2], np.nan)
        for at in np.ndindex(*curves.shape[:2]):
            if np.isfinite(curves[*at, i]).all():
                auc[at] = effective_accuracy(curves[*at, i], dots[i]).norm_auc
        yield f"{result.scalars['datasets'][0]}, {norm}", auc[supervised] - auc[ssl], np.empty(0)


def _effective(result: Result) -> Verdict:
    """S2: a pair is a method, a seed and a data set; it counts when effective accuracy is lower in every norm."""
    by_scale = []
    for c, _ in enumerate(result.scalars["scales"]):
        hits = []
        for _, a, b in _pairs(result):
            benign, effective = result.arrays["accuracy"][..., c], result.arrays["effective"][:, :, :, c]
            measured = np.isfinite(effective[[a, b]]).all((0, 3))
            hits.append((effective[a] < effective[b]).all(-1)[(benign[a] >= benign[b]) & measured])
        enough = len(result.scalars["seeds"]) > 1
        pairs = np.concatenate(hits) if hits and enough else np.empty(0)
        note = f"{int(pairs.sum())} of {len(pairs)} pairs" if len(pairs) else "no such pair"
        by_scale.append(decide_share(CLAIMS["S2"], int(pairs.sum()), len(pairs), len(result.scalars["seeds"]), note))
    first, *others = by_scale
    notes = [first.note, *(f"with unit variance: {v.verdict}, {v.note}" for v in others)]
    return Verdict(**{**first.as_dict(), "note": "; ".join(notes)})


def _slope(result: Result) -> Verdict:
    """S4: how much of the margin gap to supervised the accuracy gap would explain, l∞ margins, first data set."""
    methods, names = result.scalars["methods"], result.scalars["self_supervised"]
    if len(names) < SLOPE_METHODS or "supervised" not in methods:
        have = f"needs {SLOPE_METHODS} self-supervised methods, {len(names)} trained"
        return decide(CLAIMS["S4"], [], note=have)
    rows, reference = [methods.index(name) for name in names], methods.index("supervised")
    accuracy, margin = result.arrays["accuracy"][:, :, 0, 0], result.arrays["mean_margin"][:, :, 0, 0, 2]
    effects = []
    for s in range(accuracy.shape[1]):
        if np.ptp(accuracy[rows, s]) < 1e-6:
            effects.append(np.nan)  # equally accurate methods have no slope
            continue
        slope = np.polyfit(accuracy[rows, s], margin[rows, s], 1)[0]
        gap = margin[reference, s] - margin[rows, s].mean()
        explained = slope * (accuracy[reference, s] - accuracy[rows, s].mean())
        effects.append(1 - explained / gap if gap > 0 else np.nan)  # without a gap there is nothing to explain
    return decide(CLAIMS["S4"], effects, note="l∞, first data set")
