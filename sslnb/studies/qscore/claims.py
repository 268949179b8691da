"""How claims Q1 to Q11 are decided: about self-supervised objectives in general, the objective is the unit.

Each is the mean over its seeds; data sets are parts. The penalty's effects are on the encoders that are trained on, and
the seed is their unit. Test images are bootstrapped where an effect is made of AUROCs, by draws that all encoders of a
set share.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from sslnb.core.claims import Claim, Verdict, controls, decide, not_tested, verdicts_of
from sslnb.core.papers import references

PAPER = "kalibhat2024qscore"
BASELINE, LASSO, REGULARIZED = (f"linear_top1_{name}" for name in ("baseline", "lasso", "qscore"))
KEPT = 0.6  # of the features, Q4
LITTLE = 0.01  # of accuracy, Q4
SIZES = (0.1, 0.6)  # of the features, between which subsets are compared, Q3 and Q5
RIVALS = ("norm", "max", "neighbour", "confidence")


def _printed_gain(table: str) -> float:
    """The paper's mean gain of the penalty over its baseline in a table, as a share."""
    values = {(r.dataset, r.method, r.metric): r.value for r in references(PAPER) if r.table.startswith(table)}
    gains = [values[(*key[:2], REGULARIZED)] - value for key, value in values.items() if key[2] == BASELINE]
    return float(np.mean(gains)) / 100


CLAIMS = {
    claim.id: claim
    for claim in (
        Claim(
            "Q1",
            "Self-supervised representations are nearly sparse, with few strong deviations.",
            "figure A.1",
            "excess kurtosis of activations within a sample, self-supervised minus untrained twin",
            sei=1.0,
            unit="objective",
            evidence="fig-magnitudes",
        ),
        Claim(
            "Q2",
            "Features that activate for a moderate share of samples are specific to classes.",
            "figure 1",
            "mutual information with the class ÷ the feature's entropy, the band minus the mean of both tails",
            sei=0.02,
            unit="objective",
            evidence="fig-rates",
        ),
        Claim(
            "Q3",
            "Discriminative features beat random ones of the same number.",
            "figure 2",
            "difference of probe accuracy, mean over 10 to 60 % of the features",
            sei=0.01,
            unit="objective",
            evidence="fig-subsets",
        ),
        Claim(
            "Q4",
            "Up to 40 % of the features can go with little loss.",
            "figures 2, A.5",
            "1 point minus the accuracy lost with 60 % kept",
            sei=0.0,
            unit="objective",
            evidence="fig-subsets",
        ),
        Claim(
            "Q5",
            "Features from the middle of the rates beat those from either tail.",
            "figure A.7",
            "the lesser of the two differences of probe accuracy, means over 10 to 60 % of the features",
            sei=0.01,
            unit="objective",
            evidence="fig-subsets",
        ),
        Claim(
            "Q6",
            "The Q-Score predicts which samples the probe gets right.",
            "figure 4",
            "AUROC − 0.5",
            sei=0.05,
            unit="objective",
            evidence="fig-curves",
        ),
        Claim(
            "Q6b",
            "(Ours.) The Q-Score predicts this better than the norm, the greatest activation, the nearest neighbour "
            "and the probe's own confidence.",
            "–",
            "AUROC minus that of the best of them",
            sei=0.0,
            unit="objective",
            evidence="fig-curves",
        ),
        Claim(
            "Q7",
            "The penalty raises probe accuracy beyond equally long plain training, and lasso does not.",
            "tables 1, A.1",
            "accuracy, Q-Score − plain, at the paper's weights",
            sei=_printed_gain("Table A.1") / 2,
            evidence="the-regularizer",
        ),
        Claim(
            "Q8",
            "The penalty raises the number of highly activating features and the confidence, and lowers the AUROC.",
            "figure A.10",
            "the least of three relative differences to plain training",
            sei=0.0,
            evidence="fig-gauges",
        ),
        Claim(
            "Q9",
            "Heatmaps overlap core regions more than spurious ones.",
            "figure 7",
            "core − spurious weighted IoU, corrected for the areas' sizes",
            sei=0.02,
            unit="objective",
            evidence="fig-overlaps",
        ),
        Claim(
            "Q10",
            "The Q-Score works less well on supervised features.",
            "figure A.9",
            "AUROC, self-supervised − supervised",
            sei=0.02,
            unit="objective",
            evidence="fig-curves",
        ),
        Claim(
            "Q11",
            "Regularized encoders transfer better on average.",
            "table A.2",
            "mean accuracy on other sets, Q-Score − plain",
            sei=_printed_gain("Table A.2") / 2,
            evidence="transfer",
        ),
    )
}

TRAINED_ON = "needs encoders that learned and were trained on with the penalty"

Data = Mapping[str, xr.Dataset]


def verdicts(data: Data) -> list[Verdict]:
    """Verdicts on Q1 to Q11, of the self-supervised encoders that learned."""
    known = data["representations"]
    learned = [str(name) for name in known.objective.values[known.learned.values & known.self_supervised.values]]
    needs = "" if learned else "self-supervised encoders that learned"
    return verdicts_of(CLAIMS, COMPARISONS, data, learned, needs=needs)


def _of(values: xr.DataArray, names: Sequence[str]) -> xr.DataArray:
    """Means over seeds, of some objectives."""
    return values.sel(objective=list(names)).mean("seed")


def _one(values: xr.DataArray, name: str) -> xr.DataArray:
    """Mean over seeds, of one objective."""
    return values.sel(objective=name, drop=True).mean("seed")


def _sparse(claim: Claim, data: Data, learned: list[str]) -> Verdict:
    kurtosis = data["representations"].kurtosis
    if "untrained" not in kurtosis.objective.values:
        return not_tested(claim, "needs the untrained twin")
    return decide(claim, _of(kurtosis, learned) - _one(kurtosis, "untrained"))


def _information(claim: Claim, data: Data, learned: list[str]) -> Verdict:
    share = _of(data["features"].relative_information, learned)
    tails = share.sel(band=["lower tail", "upper tail"]).mean("band")
    return decide(claim, share.sel(band="discriminative", drop=True) - tails)


def _subsets(data: Data, learned: list[str]) -> xr.DataArray:
    accuracy = _of(data["subset_probes"].accuracy, learned)
    return accuracy.sel(share=slice(SIZES[0] - 1e-9, SIZES[1] + 1e-9)).mean("share", skipna=False)


def _random(claim: Claim, data: Data, learned: list[str]) -> Verdict:
    accuracy = _subsets(data, learned)
    return decide(claim, accuracy.sel(subset="discriminative", drop=True) - accuracy.sel(subset="random", drop=True))


def _tails(claim: Claim, data: Data, learned: list[str]) -> Verdict:
    accuracy = _subsets(data, learned).mean("dataset")
    middle = accuracy.sel(subset="discriminative", drop=True)
    return decide(claim, middle - accuracy.sel(subset=["lower", "upper"]), least=True)


def _compression(claim: Claim, data: Data, learned: list[str]) -> Verdict:
    accuracy = _of(data["subset_probes"].accuracy, learned).sel(subset="discriminative", drop=True)
    lost = accuracy.sel(share=1, drop=True) - accuracy.sel(share=KEPT, method="nearest", drop=True)
    return decide(claim, LITTLE - lost)


def _pooled(drawn: xr.DataArray) -> xr.DataArray:
    """Replicates of the mean over objectives and sets."""
    return drawn.mean([dim for dim in drawn.dims if dim != "round"]).rename(round="replicate")


def _prediction(claim: Claim, data: Data, learned: list[str]) -> Verdict:
    own, drawn = (
        _of(data["predict"][name], learned).sel(predictor="qscore", drop=True) for name in ("auroc", "auroc_drawn")
    )
    return decide(claim, own - 0.5, replicates=_pooled(drawn))


def _rivals(claim: Claim, data: Data, learned: list[str]) -> Verdict:
    """The best rival is that of each objective, by its mean over sets."""
    whole, drawn = (_of(data["predict"][name], learned) for name in ("auroc", "auroc_drawn"))

    def gap(areas: xr.DataArray) -> xr.DataArray:
        return areas.sel(predictor="qscore", drop=True) - areas.sel(predictor=list(RIVALS))

    best = whole.sel(predictor=list(RIVALS)).mean("dataset").fillna(-1).idxmax("predictor")
    ahead = gap(whole).sel(predictor=best).drop_vars("predictor")
    note = f"best: {', '.join(sorted(set(map(str, best.values))))}"
    return decide(claim, ahead, replicates=_pooled(gap(drawn).sel(predictor=best).drop_vars("predictor")), note=note)


def _gated(data: Data, values: xr.Dataset | xr.DataArray) -> xr.Dataset | xr.DataArray:
    """Of the objectives that learned."""
    known = data["representations"]
    return values.sel(objective=values.objective.isin(known.objective[known.learned.values]).values)


def _trained_on(data: Data, gauge: str) -> xr.DataArray:
    """A gauge after each kind of training on, at the chosen rate, of every objective and set that has any."""
    regularized = _gated(data, data["regularize"])
    after = regularized.after.sel(gauge=gauge, drop=True)
    chosen = after.where(after.rate == regularized.chosen_rate).max("rate")  # of one rate
    return chosen.stack(cell=("objective", "dataset")).dropna("cell", how="all")


def _gain(values: xr.DataArray, variant: str) -> xr.DataArray:
    """Over plain training, by seed, NaN where a seed has not all of the cells."""
    return (values.sel(variant=variant, drop=True) - values.sel(variant="plain", drop=True)).mean("cell", skipna=False)


def _regularized(claim: Claim, data: Data, learned: list[str]) -> Verdict:
    accuracy = _trained_on(data, "accuracy")
    if not accuracy.sizes["cell"]:
        return not_tested(claim, TRAINED_ON)
    return decide(claim, _gain(accuracy, "qscore"), controls={"lasso − plain": _gain(accuracy, "lasso")})


def _effects(claim: Claim, data: Data, learned: list[str]) -> Verdict:
    signs = {"highly": 1, "confidence": 1, "auroc": -1}
    changes = []
    for gauge, sign in signs.items():
        values = _trained_on(data, gauge)
        if not values.sizes["cell"]:
            return not_tested(claim, TRAINED_ON)
        changes.append(sign * _gain(values / values.sel(variant="plain", drop=True), "qscore"))
    names = ["more highly activating features", "more confidence", "less AUROC"]
    return decide(claim, xr.concat(changes, "gauge").assign_coords(gauge=names), least=True)


def _overlaps(claim: Claim, data: Data, learned: list[str]) -> Verdict:
    before = _of(data["heatmaps"].lift.sel(stage="before", drop=True), learned).dropna("masked", how="all")
    if not before.sizes["masked"]:
        return not_tested(claim, "needs sets with masks")
    return decide(claim, before)


def _supervision(claim: Claim, data: Data, learned: list[str]) -> Verdict:
    areas, drawn = (data["predict"][name].sel(predictor="qscore", drop=True) for name in ("auroc", "auroc_drawn"))
    areas, drawn = _gated(data, areas), _gated(data, drawn)
    if "supervised" not in areas.objective.values:
        return not_tested(claim, "needs supervised encoders that learned")

    def against(values: xr.DataArray, name: str) -> xr.DataArray:
        return _of(values, learned) - _one(values, name)

    beside = controls(areas.objective.values, lambda name: against(areas, name))
    if "robust" in areas.objective.values:
        beside["robust − supervised"] = _of(areas, ["robust"]) - _one(areas, "supervised")
    replicates = _pooled(against(drawn, "supervised"))
    return decide(claim, against(areas, "supervised"), replicates=replicates, controls=beside)


def _transfer(claim: Claim, data: Data, learned: list[str]) -> Verdict:
    accuracy = _gated(data, data["transfer"].accuracy).dropna("objective", how="all")
    if not accuracy.sizes["objective"]:
        return not_tested(claim, TRAINED_ON)
    gain = accuracy.sel(stage="qscore", drop=True) - accuracy.sel(stage="plain", drop=True)
    return decide(claim, gain.mean("objective", skipna=False))


COMPARISONS: dict[str, Callable[[Claim, Data, list[str]], Verdict]] = {
    "Q1": _sparse,
    "Q2": _information,
    "Q3": _random,
    "Q4": _compression,
    "Q5": _tails,
    "Q6": _prediction,
    "Q6b": _rivals,
    "Q7": _regularized,
    "Q8": _effects,
    "Q9": _overlaps,
    "Q10": _supervision,
    "Q11": _transfer,
}
