"""How claims R1 to R8 are decided; written before any result was looked at.

Effects are paired by seed. Accuracy is top-1 of a linear probe, or of a fine-tuned network where the claim is of one.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sslnb.core.claims import Claim, Verdict, combine, decide
from sslnb.core.flat import Result

CLAIMS = {
    "R1": Claim(
        "R1",
        "Linear accuracy grows with the batch size of pretraining.",
        "figure 2",
        "accuracy gained per doubling of the batch size, at the last step",
    ),
    "R2": Claim(
        "R2",
        "Linear accuracy grows with the steps of pretraining.",
        "figure 2",
        "accuracy gained per doubling of the steps, mean over batch sizes",
    ),
    "R3": Claim(
        "R3",
        "SimCLR beats RotNet under the same conditions.",
        "section 4.1",
        "difference of linear accuracy at the last step, mean over batch sizes",
    ),
    "R4": Claim(
        "R4",
        "Fine-tuned, self-supervised encoders beat the supervised baseline on 1, 10 and 50 % of the labels.",
        "table 1",
        "difference of accuracy per fraction of the labels",
    ),
    "R5": Claim(
        "R5",
        "Fine-tuned SimCLR is not robust to small attacks, no more than the baseline.",
        "figure 3",
        "share of the clean accuracy that is lost beyond a half; baseline's kept share minus SimCLR's, plus 0.02",
    ),
    "R6": Claim(
        "R6",
        "Self-supervised encoders transfer better than supervised ones, and better from STL-10 than from CIFAR-10.",
        "table 2a, figure 4",
        "differences of linear accuracy on the other data set",
    ),
    "R7": Claim(
        "R7",
        "Transfer grows with the batch size and levels off near 2,000 steps.",
        "table 2b, figure 4",
        "accuracy per doubling of the batch; 1 minus the doublings between the fitted knee and 2,000 steps",
    ),
    "R8": Claim(
        "R8",
        "ResNet-18 learns worse representations than ResNet-50, with both objectives.",
        "section 5",
        "difference of linear accuracy, ResNet-50 minus ResNet-18",
    ),
}
LEVELS_OFF = 2000  # steps, R7
NO_KNEE = 3  # doublings that a curve without a knee counts as away from it
SMALL = 1 / 3  # of the largest budget: what counts as a small attack, R5
TOLERANCE = 0.02  # of kept accuracy, within which two models are equally robust, R5

Part = tuple[str, np.ndarray, str]  # what is compared, effects [S], a note


def decide_all(result: Result) -> tuple[list[Verdict], list[dict]]:
    """Verdicts on R1 to R8, and the comparisons that they are made of."""
    verdicts, parts = [], []
    for name, compare in COMPARISONS.items():
        decided = []
        for what, effects, note in compare(result):
            decided.append(decide(CLAIMS[name], effects, note=note, bound=1.0 - NO_KNEE))
            parts.append({"of": what, **decided[-1].as_dict()})
        verdicts.append(combine(CLAIMS[name], decided))
    return verdicts, parts


def slope(x: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Accuracy gained per doubling of x [n], from accuracies [n,S], by least squares per seed.

    Of the points that every seed has; NaN with fewer than two of them.
    """
    measured = np.isfinite(accuracy).all(1)
    if measured.sum() < 2:
        return np.full(accuracy.shape[1], np.nan)
    return np.polyfit(np.log2(np.asarray(x)[measured]), accuracy[measured], 1)[0]


def knee(steps: Sequence[int], accuracy: np.ndarray) -> float:
    """Number of steps at which accuracies [n] stop growing with the logarithm of the steps [n].

    The best of a line up to a knee and a constant behind it, by least squares over knees between the first step and the
    last. Infinite for accuracies that still grow at the last step, 0 for those that do not grow; NaN with fewer than
    four measurements.
    """
    measured = np.isfinite(accuracy)
    if measured.sum() < 4:
        return np.nan
    doublings, values = np.log2(np.asarray(steps, float)[measured]), accuracy[measured]
    fits = {}
    for at in np.linspace(doublings[0], doublings[-1], 201)[1:]:
        design = np.stack([np.ones_like(doublings), np.minimum(doublings, at)], 1)
        weights = np.linalg.lstsq(design, values, rcond=None)[0]
        fits[at] = float(((design @ weights - values) ** 2).sum()), weights[1]
    best = min(fits, key=lambda at: fits[at][0])
    if fits[best][1] <= 0:
        return 0.0
    return float(2**best) if best < doublings[-1] else np.inf


def common(accuracy: np.ndarray) -> np.ndarray:
    """Accuracies [B,S] of the rows that every seed has, so that no seed is judged on easier ones than another."""
    return accuracy[np.isfinite(accuracy).all(1)]


def rank_correlation(x: np.ndarray, accuracy: np.ndarray) -> str:
    """Spearman's correlation of x [n] with the mean accuracy over seeds of [n,S], in words."""
    from scipy import stats

    mean = np.nanmean(accuracy, 1) if np.isfinite(accuracy).any(1).all() else np.full(len(x), np.nan)
    if len(x) < 3 or not np.isfinite(mean).all() or not np.ptp(mean):
        return ""
    return f"rank correlation {stats.spearmanr(x, mean).statistic:.2f}"


def _mean(accuracy: np.ndarray) -> np.ndarray:
    """Mean over the rows of [B,S]; NaN where there is none."""
    return accuracy.mean(0) if len(accuracy) else np.full(accuracy.shape[1], np.nan)


def _batch_sizes(result: Result) -> Iterator[Part]:
    for o, objective in enumerate(result.scalars["objectives"]):
        accuracy, sizes = result.arrays["linear"][o, :, -1, :, 0], result.scalars["batch_sizes"]
        yield objective, slope(sizes, accuracy), rank_correlation(sizes, accuracy)


def _steps(result: Result) -> Iterator[Part]:
    for o, objective in enumerate(result.scalars["objectives"]):
        runs, steps = result.arrays["linear"][o, ..., 0], result.scalars["steps"]
        accuracy = np.stack([_mean(common(runs[:, t])) for t in range(len(steps))])
        yield objective, slope(steps, accuracy), rank_correlation(steps, accuracy)


def _between(result: Result) -> Iterator[Part]:
    names = result.scalars["objectives"]
    if {"simclr", "rotnet"} <= set(names):
        last = result.arrays["linear"][:, :, -1, :, 0]
        yield "SimCLR − RotNet", _mean(common(last[names.index("simclr")] - last[names.index("rotnet")])), ""


def _fractions(result: Result) -> Iterator[Part]:
    methods, fractions = result.scalars["tuned"], result.scalars["fractions"]
    plain = result.arrays["fractions"][..., 0]
    for objective in result.scalars["objectives"]:
        for f, fraction in enumerate(fractions):
            effects = plain[methods.index(objective), f] - plain[methods.index("supervised"), f]
            yield f"{objective}, {100 * fraction:g} % of the labels", effects, ""
    begun = result.arrays["initialised"][..., 0]
    for o, objective in enumerate(result.scalars["objectives"] if "initialised" in result.scalars["variants"] else []):
        for f, fraction in enumerate(fractions):
            what = f"{objective}, {100 * fraction:g} % of the labels, both from given weights"
            yield what, begun[o + 1, f] - begun[0, f], ""
            alone = (
                f"{objective}, {100 * fraction:g} % of the labels, from given weights, the baseline from random ones"
            )
            yield alone, begun[o + 1, f] - plain[methods.index("supervised"), f], "as in the report's code"


def _robustness(result: Result) -> Iterator[Part]:
    methods = result.scalars["tuned"]
    if "simclr" not in methods:
        return
    pgd, pixels = result.scalars["attacks"].index("pgd"), result.scalars["units"].index("pixel")
    budgets = result.arrays["budgets"][pixels]
    e = max(1, round(SMALL * (len(budgets) - 1)))
    chance = 1 / len(result.scalars["classes"])
    above = chance + 2 * np.sqrt(chance * (1 - chance) / result.scalars["attacked_images"])
    for f, fraction in enumerate(result.scalars["fractions"]):
        accuracy = result.arrays["robust"][pgd, pixels, :, f]
        # What knows nothing loses nothing.
        share = np.where(accuracy[:, 0] > above, accuracy[:, e] / accuracy[:, 0].clip(1e-9), np.nan)
        simclr, baseline = share[methods.index("simclr")], share[methods.index("supervised")]
        small = f"{100 * fraction:g} % of the labels, budget {255 * budgets[e]:.1f}/255"
        yield f"lost by SimCLR, {small}", 0.5 - simclr, ""
        yield f"SimCLR against the baseline, {small}", baseline - simclr + TOLERANCE, ""


def _transfer(result: Result) -> Iterator[Part]:
    last = result.arrays["transfer_steps"][:, :, -1, :, 0]
    for way, name in enumerate(("from the source to the target", "from the target to the source")):
        yield f"self-supervised − supervised, {name}", last[way, 0] - last[way, 1], ""
    note = "two test sets, one of which may be the harder"
    yield "pretrained on the target − on the source, each judged on the other", last[1, 0] - last[0, 0], note


def _levelling(result: Result) -> Iterator[Part]:
    batches, steps = result.arrays["transfer_batches"][0, ..., 0], result.scalars["steps"]
    sizes = result.scalars["batch_sizes"]
    yield "batch size", slope(sizes, batches), rank_correlation(sizes, batches)
    yield "knee", *_knees(steps, result.arrays["transfer_steps"][0, 0, ..., 0])
    if "cut" in result.scalars["variants"]:
        yield "knee, with the learning rate cut", *_knees(steps, result.arrays["transfer_cut"][..., 0])


def _knees(steps: list[int], curves: np.ndarray) -> tuple[np.ndarray, str]:
    """How near the knees of curves [n,S] are to the report's, in doublings below 1; what has none is far away."""
    if steps[-1] <= LEVELS_OFF:
        return np.full(curves.shape[1], np.nan), f"needs more than {LEVELS_OFF:,} steps"
    knees = np.array([knee(steps, curve) for curve in curves.T])
    with np.errstate(divide="ignore"):
        distance = np.abs(np.log2(knees / LEVELS_OFF)).clip(max=NO_KNEE)
    names = {0.0: "no growth", np.inf: "still growing"}
    words = ", ".join(names.get(at, f"{at:,.0f} steps") for at in knees if not np.isnan(at))
    return 1 - distance, f"knees: {words or 'none measured'}"


def _depths(result: Result) -> Iterator[Part]:
    depths, accuracy = result.scalars["depths"], result.arrays["architectures"][..., 0]
    for o, objective in enumerate(result.scalars["objectives"]):
        if set(depths) == {18, 50}:
            yield objective, accuracy[o, depths.index(50)] - accuracy[o, depths.index(18)], ""


COMPARISONS: dict[str, Callable[[Result], Iterator[Part]]] = {
    "R1": _batch_sizes,
    "R2": _steps,
    "R3": _between,
    "R4": _fractions,
    "R5": _robustness,
    "R6": _transfer,
    "R7": _levelling,
    "R8": _depths,
}
