"""How claims Q1 to Q11 are decided; the comparisons were fixed before any result of a recorded run was looked at.

Effects are paired by seed, each a mean over the data sets and self-supervised methods that have both sides, unless a
method is named. Accuracy is top-1 of a linear probe on the test split.
"""

import warnings
from collections.abc import Callable, Iterator

import numpy as np

from sslnb.claims import Claim, Verdict, combine, decide
from sslnb.results import Result

CLAIMS = {
    "Q1": Claim(
        "Q1",
        "Self-supervised representations are nearly sparse, with few strong deviations.",
        "figure A.1",
        "share of activations under 1 % of their sample's greatest, minus a half; excess kurtosis",
    ),
    "Q2": Claim(
        "Q2",
        "Features that activate for a moderate share of samples are specific to classes.",
        "figure 1",
        "mutual information with the class in bits, features of the band minus those of each tail",
    ),
    "Q3": Claim(
        "Q3",
        "Discriminative features beat random ones of the same number.",
        "figure 2",
        "difference of accuracy, mean over shares below 1 and random draws",
    ),
    "Q4": Claim(
        "Q4",
        "Up to 40 % of the features can go with little loss, about as with PCA.",
        "figures 2, A.5",
        "0.01 minus the accuracy lost at the share nearest to 60 % kept; 0.01 minus what PCA has more",
    ),
    "Q5": Claim(
        "Q5",
        "Features from the middle of the rates beat those from either tail.",
        "figure A.7",
        "difference of accuracy, mean over shares below 1",
    ),
    "Q6": Claim(
        "Q6",
        "The Q-Score predicts which samples the probe gets right.",
        "figure 4",
        "AUROC minus 0.5; AUROC minus that of each trivial predictor",
    ),
    "Q7": Claim(
        "Q7",
        "Regularization by the Q-Score raises the probe's accuracy, and lasso does not.",
        "tables 1, A.1",
        "accuracy minus that after as many plain steps; gain over plain steps minus lasso's",
    ),
    "Q8": Claim(
        "Q8",
        "It raises the number of highly activating features and the confidence, and lowers the AUROC.",
        "figure A.10",
        "three differences to as many plain steps, positive where the claim holds",
    ),
    "Q9": Claim(
        "Q9",
        "Heatmaps overlap core regions more than spurious ones, more so for right predictions, and more after "
        "regularization.",
        "figure 7",
        "three differences of mean overlap",
    ),
    "Q10": Claim(
        "Q10",
        "The Q-Score works less well on supervised features, and better on robust ones than on plain ones.",
        "figure A.9",
        "AUROC, self-supervised minus supervised; robust minus supervised",
    ),
    "Q11": Claim(
        "Q11",
        "Regularized encoders transfer better on average.",
        "table A.2",
        "accuracy minus that after as many plain steps, mean over methods and unseen sets",
    ),
}
KEPT = 0.6  # of the features, Q4
LITTLE = 0.01  # of accuracy, Q4
TRIVIAL = ("norm", "max", "neighbour")

Part = tuple[str, np.ndarray]  # what is compared, effects [S]


def decide_all(result: Result) -> tuple[list[Verdict], list[dict]]:
    """Verdicts on Q1 to Q11, and the comparisons that they are made of."""
    verdicts, parts = [], []
    for name, compare in COMPARISONS.items():
        decided = []
        for what, effects in compare(result):
            decided.append(decide(CLAIMS[name], effects))
            parts.append({"of": what, **decided[-1].as_dict()})
        verdicts.append(combine(CLAIMS[name], decided))
    return verdicts, parts


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean [S] over data sets and methods of values [D,M,S,…], NaN left out; NaN where a seed has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a mean of nothing
        return np.nanmean(np.moveaxis(values, 2, 0).reshape(values.shape[2], -1), axis=1)


def _learned(result: Result) -> list[int]:
    """Positions of the self-supervised methods."""
    return [result.scalars["methods"].index(m) for m in result.scalars["self_supervised"]]


def _sparse(result: Result) -> Iterator[Part]:
    own = _learned(result)
    yield "near zero", _mean(result.arrays["near_zero"][:, own]) - 0.5
    yield "excess kurtosis", _mean(result.arrays["kurtosis"][:, own])


def _information(result: Result) -> Iterator[Part]:
    told = result.arrays["information"][:, _learned(result)]
    lower, band, upper = np.moveaxis(told, -1, 0)
    yield "against the lower tail", _mean(band - lower)
    yield "against the upper tail", _mean(band - upper)


def _subsets(result: Result, *against: str) -> Iterator[Part]:
    names, shares = result.scalars["subsets"], np.array(result.scalars["shares"])
    accuracy = result.arrays["subsets"][:, _learned(result)][..., shares < 1]
    own = accuracy[..., names.index("discriminative"), :]
    for other in against:
        yield f"against {other}", _mean(own - accuracy[..., names.index(other), :])


def _random(result: Result) -> Iterator[Part]:
    yield from _subsets(result, "random")


def _tails(result: Result) -> Iterator[Part]:
    yield from _subsets(result, "lower", "upper")


def _compression(result: Result) -> Iterator[Part]:
    names, shares = result.scalars["subsets"], np.array(result.scalars["shares"])
    accuracy, at = result.arrays["subsets"][:, _learned(result)], int(np.abs(shares - KEPT).argmin())
    own, pca = (accuracy[..., names.index(name), :] for name in ("discriminative", "pca"))
    kept = f"{100 * shares[at]:g} % kept"
    yield f"against all features, {kept}", LITTLE - _mean(own[..., -1] - own[..., at])
    yield f"against PCA, {kept}", LITTLE - _mean(pca[..., at] - own[..., at])


def _prediction(result: Result) -> Iterator[Part]:
    names, areas = result.scalars["predictors"], result.arrays["auroc"][:, _learned(result), :, :, 0]
    own = areas[..., names.index("qscore")]
    yield "against chance", _mean(own) - 0.5
    for name in TRIVIAL:
        yield f"against {name}", _mean(own - areas[..., names.index(name)])


def _gained(result: Result, gauge: str, variant: str) -> Iterator[Part]:
    """Differences to plain steps, at each learning rate."""
    at, own = result.scalars["gauges"].index(gauge), _learned(result)
    variants = result.scalars["variants"]
    for r, rate in enumerate(result.scalars["rates"]):
        after = result.arrays["after"][:, own, :, r, :, at]
        yield (
            f"{gauge}, rate {rate:g}",
            _mean(after[..., variants.index("qscore")] - after[..., variants.index(variant)]),
        )


def _regularized(result: Result) -> Iterator[Part]:
    for variant in ("plain", "lasso"):
        for what, effects in _gained(result, "accuracy", variant):
            yield f"{what}, against {variant}", effects


def _effects(result: Result) -> Iterator[Part]:
    for gauge, sign in (("highly", 1), ("confidence", 1), ("auroc", -1)):
        for what, effects in _gained(result, gauge, "plain"):
            yield what, sign * effects


def _overlaps(result: Result) -> Iterator[Part]:
    for i, name in enumerate(result.scalars["masked"]):
        overlap = result.arrays["overlap"][i : i + 1][:, _learned(result)]
        core, spurious = overlap[..., 0, :], overlap[..., 1, :]
        yield f"{name}: core minus spurious", _mean((core - spurious)[..., 0, :])
        yield f"{name}: right minus wrong", _mean(core[..., 0, 0] - core[..., 0, 1])
        yield f"{name}: after minus before", _mean(core[..., 1, :] - core[..., 0, :])


def _supervision(result: Result) -> Iterator[Part]:
    methods, areas = result.scalars["methods"], result.arrays["auroc"][:, :, :, 0, 0]
    if "supervised" in methods:
        supervised = areas[:, [methods.index("supervised")]]
        yield "self-supervised minus supervised", _mean(areas[:, _learned(result)] - supervised)
        if "robust" in methods:
            yield "robust minus supervised", _mean(areas[:, [methods.index("robust")]] - supervised)


def _transfer(result: Result) -> Iterator[Part]:
    accuracy = result.arrays["transfer"]
    yield "against plain steps", _mean(accuracy[..., 2] - accuracy[..., 1])


COMPARISONS: dict[str, Callable[[Result], Iterator[Part]]] = {
    "Q1": _sparse,
    "Q2": _information,
    "Q3": _random,
    "Q4": _compression,
    "Q5": _tails,
    "Q6": _prediction,
    "Q7": _regularized,
    "Q8": _effects,
    "Q9": _overlaps,
    "Q10": _supervision,
    "Q11": _transfer,
}
