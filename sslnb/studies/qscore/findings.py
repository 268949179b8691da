"""What the chapter's text says of its recorded result, and whether the result bears it out."""

import numpy as np
import xarray as xr

from sslnb.core.result import Result
from sslnb.pool.pool import MATCHED, ON_VIEWS
from sslnb.report import kinds, verdict_of
from sslnb.studies.qscore.claims import KEPT, RIVALS, SIZES
from sslnb.studies.study import UNTRAINED

DRAWN = ("confidence", "density", "agreement", "norm", "qscore")  # scores drawn as curves, at most five in a panel

MORE = 0.05  # of the heat on the object, corrected, by which a preference is more than an untrained network's
SUPERVISED = "supervised"
WITHOUT_LABELS = tuple(name for name in RIVALS if name != "confidence")
HEAT = (
    "of the nine only SimCLR's and MoCo v2's heat prefers the object on STL-10 clearly more than an untrained network's"
)
UNBIASED, BIASED = "digit-scenes", "digit-scenes:background_bias=0.95"


def means(result: Result) -> xr.Dataset:
    """What the text quotes of every encoder, by objective: means over seeds and data sets."""
    data = result.data
    known, areas = data["representations"], data["predict"].auroc
    excess = data["failure"].of_objectives.sel(quantity="share", drop=True)
    values = {name: known[name] for name in ("accuracy", "kurtosis", "near_zero")}
    values |= {f"{name}_auroc": areas.sel(predictor=name, drop=True) for name in areas.predictor.values}
    values |= {f"{name}_excess": excess.sel(predictor=name, drop=True) for name in excess.predictor.values}
    return xr.Dataset(
        {name: v.mean([dim for dim in ("seed", "dataset") if dim in v.dims]) for name, v in values.items()}
    )


def lost(result: Result) -> xr.DataArray:
    """Accuracy lost by objective and kind of subset with 60 % of the features kept: means over seeds and data sets."""
    accuracy = result.data["subset_probes"].accuracy.mean(("seed", "dataset"))
    return accuracy.sel(share=1, drop=True) - accuracy.sel(share=KEPT, method="nearest", drop=True)


def at_chosen_rate(regularized: xr.Dataset) -> xr.DataArray:
    """Gauges after training on at the learning rate that was chosen for the objective."""
    return regularized.after.where(regularized.rate == regularized.chosen_rate).max("rate")


def trained_on(result: Result) -> xr.DataArray:
    """Gauges [stage, gauge] of the encoders that were trained on, before it and after, at the chosen rate: means."""
    after = at_chosen_rate(result.data["regularize"])
    before = result.data["regularize"].before.where(after.notnull().all(("variant", "gauge")))
    stages = xr.concat([before.expand_dims(stage=["before"]), after.rename(variant="stage")], "stage")
    return stages.mean(("objective", "seed", "dataset"))


def on_object(result: Result) -> xr.DataArray:
    """How far the heat [objective, masked] of encoders as they are prefers the object, corrected: means over seeds."""
    return result.data["heatmaps"].lift.sel(stage="before", drop=True).mean("seed")


def without_labels(result: Result) -> list[str]:
    """The self-supervised objectives that learned."""
    known = result.data["representations"]
    return [str(name) for name in known.objective.values[(known.learned & known.self_supervised).values]]


def statements(result: Result) -> dict[str, bool]:
    """Every statement of the published text with its truth; the build stops at one that is false."""
    return (
        _on_pictures(result)
        | _on_features(result)
        | _on_prediction(result)
        | _on_training_on(result)
        | _on_heatmaps(result)
    )


def _on_pictures(result: Result) -> dict[str, bool]:
    known, names = result.data["representations"], without_labels(result)
    bright = (known.activations > 0.5).mean("row").max("feature")  # the share of images in which one and the same is
    near_zero = known.magnitudes.isel(bin=0)
    right, wrong = result.data["outcomes"].by_class
    fainter = right.std("class") / wrong.std("class")
    return {
        "an untrained network's brightest features are the same in every image, those of trained ones differ": float(
            bright.sel(objective=UNTRAINED)
        )
        > 0.99
        and float(bright.drop_sel(objective=UNTRAINED).max()) < 0.85,
        "networks that were trained with labels to the end have the most activations near zero": float(
            near_zero.sel(objective=[SUPERVISED, ON_VIEWS, "supcon"]).min()
        )
        > 1.5 * float(near_zero.sel(objective=[*names, MATCHED, UNTRAINED]).max()),
        "in images that are classified wrong the pattern is the same, and fainter": float(
            xr.corr(right - right.mean("class"), wrong - wrong.mean("class"))
        )
        > 0.75
        and float(fainter.min()) > 1
        and float(fainter.mean()) > 1.5,
    }


def _on_features(result: Result) -> dict[str, bool]:
    verdict, found, names = kinds(result), means(result).kurtosis, without_labels(result)
    information = result.data["features"].information.mean(("seed", "dataset")).drop_sel(objective=UNTRAINED)
    more = information.sel(band="upper tail") / information.sel(band="discriminative")
    kept = result.data["subset_probes"].accuracy.mean(("seed", "dataset")).sel(objective=names)
    kept = kept.sel(share=slice(SIZES[0] - 1e-9, SIZES[1] + 1e-9)).mean(("share", "objective"))
    heavier = [name for name in names if float(found.sel(objective=name)) > float(found.sel(objective=UNTRAINED))]
    parts = {part["name"]: part for part in verdict_of(result, "Q5")["parts"]}
    sensitivity = result.data["features"].sensitivity.sel(objective="simclr", dataset="cifar10", low=50).mean("seed")
    most = result.data["features"].rate.max("feature").mean("seed")
    return {
        "in untrained networks a few features stand out in every image, in trained ones none does": float(
            most.sel(objective=UNTRAINED).min()
        )
        > 99
        and float(most.drop_sel(objective=UNTRAINED).max()) < 50,
        "nine objectives without labels": len(names) == 9,
        "with the paper's band, SimCLR's score predicts somewhat better the lower the threshold": bool(
            (sensitivity.diff("epsilon") < 0).all()
        ),
        "of nine objectives only SimCLR and MoCo v2 have heavier tails than untrained networks": verdict["Q1"]
        == "reversed"
        and set(heavier) == {"simclr", "moco"},
        "above the band features tell two to seven times as much of the class": 1.9
        < float(more.min())
        < float(more.max())
        < 7,
        "by entropy the band tells less than both tails": verdict["Q2"] == "reversed",
        "features of middle rates serve a classifier as well as random ones, and no better": verdict["Q3"] == "absent",
        "the lowest rates are the worst choice, the highest the best of single features": verdict["Q5"] == "reversed"
        and parts["lower"]["low"] > 0 > parts["upper"]["high"]
        and all(0.005 < abs(part["estimate"]) < 0.015 for part in parts.values())
        and float(kept.sel(subset="lower")) == float(kept.min())
        and float(kept.sel(subset="upper")) == float(kept.drop_sel(subset="pca").max()),
        "not even 40 % of the features can go with little loss, and principal components lose the least": verdict["Q4"]
        == "reversed"
        and bool((lost(result).idxmin("subset").sel(objective=names) == "pca").all()),
    }


def _on_prediction(result: Result) -> dict[str, bool]:
    verdict, found, names = kinds(result), means(result), without_labels(result)
    areas = result.data["predict"].auroc.mean("seed")
    own = areas.sel(predictor="qscore")
    cifar100 = areas.sel(dataset="cifar100", objective=names)
    excess = result.data["failure"].of_objectives.sel(quantity="share", dataset="cifar10", objective=names)
    drawn = result.data["failure"].excess.sel(dataset="cifar10", predictor=list(DRAWN)).mean("seed")
    drawn = drawn.sel(objective=[name for name in drawn.objective.values if name != UNTRAINED])
    pooled = result.data["failure"].pooled.sel(quantity="share", statistic="mean")
    pooled = pooled.sel(predictor=[name for name in pooled.predictor.values if "confidence" not in name])

    def of(predictor: str, method: str) -> float:
        return float(found[f"{predictor}_auroc"].sel(objective=method))

    best = max(of("qscore", method) for method in names)
    middle, low, high = verdict_of(result, "Q10")["controls"]["supervised, as accurate"]
    accuracy = result.data["representations"].accuracy.sel(dataset="cifar10").mean("seed")
    return {
        "the score puts right images first little more often than chance where there were no labels": verdict["Q6"]
        == "present but small"
        and best < 0.58,
        "RotNet's right images have the lower scores on CIFAR-10 and STL-10, and its AUROC is the least": float(
            own.sel(objective="rotnet", dataset=["cifar10", "stl10"]).max()
        )
        < 0.5
        and min(names, key=lambda method: of("qscore", method)) == "rotnet",
        "on CIFAR-10 and STL-10 the nearest neighbour is a better guess for each of the nine": bool(
            (areas.sel(predictor="neighbour") > own).sel(objective=names, dataset=["cifar10", "stl10"]).all()
        ),
        "the norm, which needs no labels either, is ahead on average over the sets": all(
            of("norm", method) > of("qscore", method) for method in names
        ),
        "on CIFAR-10 the norm warns better of failures than the Q-Score": bool(
            (excess.sel(predictor="norm") < excess.sel(predictor="qscore")).all()
        ),
        "on CIFAR-10 the probe's confidence has the least excess for every encoder that learned": bool(
            (drawn.idxmin("predictor") == "confidence").all()
        ),
        "of the scores without labels the norm or the nearest neighbour has the least excess on each set": set(
            map(str, pooled.idxmin("predictor").values)
        )
        == {"norm", "neighbour"},
        "on CIFAR-100 they are little better than a random order": float(pooled.sel(dataset="cifar100").min()) > 0.8,
        "on CIFAR-100 no score without labels exceeds 61 %, and for five of nine the norm is behind": float(
            cifar100.sel(predictor=list(WITHOUT_LABELS)).max()
        )
        < 0.61
        and int((cifar100.sel(predictor="norm") < cifar100.sel(predictor="qscore")).sum()) == 5,
        "the confidence, which needs labels, is far ahead": verdict["Q6b"] == "reversed"
        and all(
            of("confidence", method) > max(of(other, method) for other in WITHOUT_LABELS) + 0.1 for method in names
        ),
        "the score works better on supervised features, less so where training stopped at SimCLR's accuracy": verdict[
            "Q10"
        ]
        == "reversed"
        and of("qscore", SUPERVISED) > of("qscore", MATCHED)
        and middle > 0.5 * verdict_of(result, "Q10")["estimate"]  # both are negative
        and low < high < 0  # against networks of SimCLR's accuracy
        and int((accuracy.sel(objective=names) > float(accuracy.sel(objective=MATCHED))).sum()) == 1,
        "agreement of views is no better than a random order": abs(
            float(found.agreement_excess.sel(objective="simclr")) - 1
        )
        < 0.1,
    }


def _on_training_on(result: Result) -> dict[str, bool]:
    verdict, after = {v["claim"]: v for v in result.facts["verdicts"]}, trained_on(result)
    parts = {part["name"]: part for part in verdict["Q8"]["parts"]}
    accuracy = at_chosen_rate(result.data["regularize"]).sel(gauge="accuracy")
    to_lasso = (accuracy.sel(variant="lasso") - accuracy.sel(variant="plain")).values
    to_lasso = to_lasso[np.isfinite(to_lasso)]
    weighed = result.data["ablation"].gauges.sel(gauge="accuracy").mean("seed")
    none = weighed.sel(weight=0, norm_weight=0)
    small = weighed.sel(weight=slice(0, 1), norm_weight=slice(0, 1e-4))
    transfer = result.data["transfer"].accuracy.mean(("objective", "seed"))
    gain = transfer.sel(stage="qscore") - transfer.sel(stage="plain")

    def change(gauge: str, stage: str = "qscore") -> float:
        return float(after.sel(stage=stage, gauge=gauge) - after.sel(stage="plain", gauge=gauge))

    return {
        "the penalty ends within a point of plain training": verdict["Q7"]["kind"] == "undecided"
        and verdict["Q7"]["high"] < 0.01
        and abs(change("accuracy")) < 0.005,
        "lasso loses equally much in each seed": np.ptp(to_lasso) < 1e-9 and to_lasso[0] < 0,
        "with the penalty more features stand out, confidence and AUROC hardly change": verdict["Q8"]["kind"]
        == "undecided"
        and min(change("highly"), change("highly", "lasso")) > 0.3
        and all(
            abs(change(gauge)) < 0.02 and parts[name]["low"] < 0 < parts[name]["high"]
            for gauge, name in {"confidence": "more confidence", "auroc": "less AUROC"}.items()
        ),
        "no pair of weights is better than none; those of the norms cost, that of the score does little": float(none)
        == float(weighed.max())
        and float(weighed.sel(norm_weight=1e-3).max()) < float(none) - 0.03
        and float(small.min()) > float(none) - 0.004,
        "encoders with the penalty transfer a point worse, on CIFAR-100 and Caltech-101": verdict["Q11"]["kind"]
        == "reversed"
        and float(gain.sel(target=["cifar100", "caltech101"]).max()) < -0.01
        and abs(float(gain.sel(target="stl10"))) < 0.01,
    }


def _on_heatmaps(result: Result) -> dict[str, bool]:
    names, heat = without_labels(result), on_object(result)
    shift = result.data["heatmaps"].shifted.sel(masked=BIASED, objective=names).mean("seed")
    fell = 1 - shift.sel(masked_b=UNBIASED) / shift.sel(masked_b=BIASED)
    digits = heat.sel(masked=[UNBIASED, BIASED], objective=names)
    photographs = heat.sel(masked="stl10")
    more = [
        name for name in names if float(photographs.sel(objective=name) - photographs.sel(objective=UNTRAINED)) > MORE
    ]
    others = photographs.sel(objective=[name for name in names if name not in more])
    return {
        HEAT: kinds(result)["Q9"] == "undecided"
        and set(more) == {"simclr", "moco"}
        and int(result.data["heatmaps"].lift.sel(stage="before", masked="stl10", objective=UNTRAINED).count()) == 1,
        "of the seven others CMC has the least and BYOL the most": str(others.idxmin().item()) == "cmc"
        and str(others.idxmax().item()) == "byol"
        and len(others) == 7,
        "among digits objectives show no common preference": float(abs(digits.mean("objective")).max()) < 0.03
        and bool((digits.min("objective") < -0.05).all() and (digits.max("objective") > 0.05).all()),
        "classifiers that were fitted to biased backgrounds fall by more than half": bool(
            (fell.sel(measure="accuracy") > 0.5).all()
        ),
        "mean scores change by an eighth at most": bool((abs(fell.sel(measure="score")) < 1 / 8).all()),
    }
