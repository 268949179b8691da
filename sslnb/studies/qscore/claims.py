"""How claims Q1 to Q11 are decided; the comparisons were fixed before the recorded result was there.

Pilot and quick results had been seen by then.

Effects are paired by seed, each a mean over the data sets and self-supervised methods that have both sides, unless a
method is named. Accuracy is top-1 of a linear probe on the test split. Comparisons with the regularizer are at the last
of the learning rates: at the paper's, with LARS, next to nothing moves. Intervals of areas under curves contain the
choice of test images too, by draws that all encoders of a set share; the others are over seeds only.
"""

import warnings
from collections.abc import Callable, Iterator

import numpy as np

from sslnb.core.claims import Claim, Verdict, combine, decide
from sslnb.core.flat import Result

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
        "accuracy minus that after as many plain steps; 0.005 minus lasso's gain over plain steps",
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
        "share of the heat on the object minus the object's area; right minus wrong; Q-Score minus plain steps",
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
GAIN = 0.005  # of accuracy, up to which lasso counts as not raising it, Q7
TRIVIAL = ("norm", "max", "neighbour")

Part = tuple[str, np.ndarray, np.ndarray | tuple]  # what is compared, effects [S], replicates of their mean [R] or none


def decide_all(result: Result) -> tuple[list[Verdict], list[dict]]:
    """Verdicts on Q1 to Q11, and the comparisons that they are made of."""
    verdicts, parts = [], []
    for name, compare in COMPARISONS.items():
        decided = []
        for what, effects, replicates in compare(result):
            decided.append(decide(CLAIMS[name], effects, replicates))
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
    yield "near zero", _mean(result.arrays["near_zero"][:, own]) - 0.5, ()
    yield "excess kurtosis", _mean(result.arrays["kurtosis"][:, own]), ()


def _information(result: Result) -> Iterator[Part]:
    information = result.arrays["information"][:, _learned(result)]
    lower, band, upper = np.moveaxis(information, -1, 0)
    yield "against the lower tail", _mean(band - lower), ()
    yield "against the upper tail", _mean(band - upper), ()


def _subsets(result: Result, *against: str) -> Iterator[Part]:
    names, shares = result.scalars["subsets"], np.array(result.scalars["shares"])
    accuracy = result.arrays["subsets"][:, _learned(result)][..., shares < 1]
    own = accuracy[..., names.index("discriminative"), :]
    for other in against:
        yield f"against {other}", _mean(own - accuracy[..., names.index(other), :]), ()


def _random(result: Result) -> Iterator[Part]:
    yield from _subsets(result, "random")


def _tails(result: Result) -> Iterator[Part]:
    yield from _subsets(result, "lower", "upper")


def _compression(result: Result) -> Iterator[Part]:
    names, shares = result.scalars["subsets"], np.array(result.scalars["shares"])
    accuracy, at = result.arrays["subsets"][:, _learned(result)], int(np.abs(shares - KEPT).argmin())
    own, pca = (accuracy[..., names.index(name), :] for name in ("discriminative", "pca"))
    share_text = f"{100 * shares[at]:g} % kept"
    yield f"against all features, {share_text}", LITTLE - _mean(own[..., -1] - own[..., at]), ()
    yield f"against PCA, {share_text}", LITTLE - _mean(pca[..., at] - own[..., at]), ()


def _prediction(result: Result) -> Iterator[Part]:
    names, own = result.scalars["predictors"], _learned(result)
    areas, replicates = (result.arrays[name][:, own] for name in ("auroc", "auroc_drawn"))
    at = names.index("qscore")
    yield "against chance", _mean(areas[..., at]) - 0.5, _replicates(replicates[..., at, :])
    for name in TRIVIAL:
        other = names.index(name)
        differences = areas[..., at] - areas[..., other], replicates[..., at, :] - replicates[..., other, :]
        yield f"against {name}", _mean(differences[0]), _replicates(differences[1])


def _replicates(replicates: np.ndarray) -> np.ndarray:
    """Means over data sets, methods and seeds of effects [D,M,S,R], one per draw of test images."""
    measured = replicates[np.isfinite(replicates).all(-1)]
    return measured.mean(0) if len(measured) else np.zeros(0)


def _gained(result: Result, gauge: str, variant: str, over: str) -> np.ndarray:
    """Differences [S] of a gauge after two kinds of training on."""
    at, variants = result.scalars["gauges"].index(gauge), result.scalars["variants"]
    after = result.arrays["after"][:, _learned(result), :, -1, :, at]
    return _mean(after[..., variants.index(variant)] - after[..., variants.index(over)])


def _regularized(result: Result) -> Iterator[Part]:
    yield "Q-Score against plain steps", _gained(result, "accuracy", "qscore", "plain"), ()
    yield "lasso does not gain", GAIN - _gained(result, "accuracy", "lasso", "plain"), ()


def _effects(result: Result) -> Iterator[Part]:
    yield "more highly activating features", _gained(result, "highly", "qscore", "plain"), ()
    yield "more confidence", _gained(result, "confidence", "qscore", "plain"), ()
    yield "less AUROC", -_gained(result, "auroc", "qscore", "plain"), ()


def _overlaps(result: Result) -> Iterator[Part]:
    before, plain, regularized = (result.scalars["stages"].index(stage) for stage in ("before", "plain", "qscore"))
    for i, name in enumerate(result.scalars["masked"]):
        core = result.arrays["overlap"][i : i + 1][:, _learned(result)][..., 0, :]
        area = result.arrays["mask_area"][i]
        yield f"{name}: heat on the object beyond its area", _mean(core[..., before, :]) - area, ()
        yield f"{name}: right minus wrong", _mean(core[..., before, 0] - core[..., before, 1]), ()
        if name in result.scalars["datasets"]:  # on the others nothing is trained on
            yield f"{name}: Q-Score against plain steps", _mean(core[..., regularized, :] - core[..., plain, :]), ()


def _supervision(result: Result) -> Iterator[Part]:
    areas, area_replicates, at = (
        result.arrays["auroc"],
        result.arrays["auroc_drawn"],
        result.scalars["predictors"].index("qscore"),
    )
    groups = {"self-supervised": _learned(result)} | {name: _named(result, name) for name in ("robust", "supervised")}
    plain = groups.pop("supervised")
    for name, methods in groups.items():
        known = bool(methods and plain)
        nothing = np.full(areas.shape[2], np.nan)
        effects = _mean(areas[:, methods, :, at] - areas[:, plain, :, at]) if known else nothing
        replicates = _replicates(area_replicates[:, methods, :, at] - area_replicates[:, plain, :, at]) if known else ()
        yield f"{name} minus supervised", effects, replicates


def _named(result: Result, method: str) -> list[int]:
    return [m for m, name in enumerate(result.scalars["methods"]) if name == method]


def _transfer(result: Result) -> Iterator[Part]:
    plain, regularized = (result.scalars["stages"].index(stage) for stage in ("plain", "qscore"))
    accuracy = result.arrays["transfer"]
    yield "Q-Score against plain steps", _mean(accuracy[..., regularized] - accuracy[..., plain]), ()


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
