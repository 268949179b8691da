"""What the chapter's text says of its recorded result, and whether the result bears it out."""

import xarray as xr

from sslnb.core.result import Result
from sslnb.pool.pool import MATCHED
from sslnb.report import kinds
from sslnb.studies.qscore.claims import KEPT, RIVALS, SIZES
from sslnb.studies.study import UNTRAINED

SUPERVISED = "supervised"


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


def trained_on(result: Result) -> xr.DataArray:
    """Gauges [stage, gauge] of the encoders that were trained on, before it and after, at the chosen rate: means."""
    regularized = result.data["regularize"]
    after = regularized.after.where(regularized.after.rate == regularized.chosen_rate).max("rate")
    whole = after.notnull().all(("variant", "gauge"))
    before = regularized.before.where(whole).expand_dims(stage=["before"])
    return xr.concat([before, after.rename(variant="stage")], "stage").mean(("objective", "seed", "dataset"))


def statements(result: Result) -> dict[str, bool]:
    """Every statement of the published text with its truth; the build stops at one that is false."""
    verdict, found, losses, after = kinds(result), means(result), lost(result), trained_on(result)
    known = result.data["representations"]
    unlabelled = known.objective.values[(known.learned & known.self_supervised).values]
    information = result.data["features"].information.mean(("seed", "dataset")).drop_sel(objective=UNTRAINED)
    kept = result.data["subset_probes"].accuracy.mean(("seed", "dataset")).sel(objective=unlabelled)
    kept = kept.sel(share=slice(SIZES[0] - 1e-9, SIZES[1] + 1e-9)).mean(("share", "objective"))

    on_object = result.data["heatmaps"].lift.sel(stage="before", objective=unlabelled).mean("seed")
    shares = result.data["failure"].of_objectives.sel(quantity="share", dataset="cifar10", objective=unlabelled)
    there = result.data["predict"].auroc.sel(dataset="cifar100", objective=["simclr", "moco"]).mean("seed")
    shift = result.data["heatmaps"].shifted.sel(masked="digit-scenes:background_bias=0.95", objective=unlabelled)
    shift = shift.mean("seed")
    fell = 1 - shift.sel(masked_b="digit-scenes") / shift.sel(masked_b="digit-scenes:background_bias=0.95")
    pooled = result.data["failure"].pooled.sel(quantity="share", statistic="mean")
    pooled = pooled.sel(predictor=[name for name in pooled.predictor.values if "confidence" not in name])
    weighed = result.data["ablation"].gauges.sel(gauge="accuracy").mean("seed")

    def of(name: str, method: str) -> float:
        return float(found[name].sel(objective=method))

    def ahead(name: str, other: str) -> bool:
        """Whether a score's AUROC is the greater, for every objective without labels."""
        return all(of(f"{name}_auroc", method) > of(f"{other}_auroc", method) for method in unlabelled)

    def gauge(stage: str, name: str) -> float:
        return float(after.sel(stage=stage, gauge=name))

    return {
        "the score puts right images first little more often than chance where there were no labels": max(
            of("qscore_auroc", method) for method in unlabelled
        )
        < 0.56
        and of("qscore_auroc", "rotnet") < 0.5,
        "the norm and the nearest neighbour, which need no labels either, are ahead on average over the sets": ahead(
            "norm", "qscore"
        )
        and ahead("neighbour", "qscore"),
        "on CIFAR-10 the norm and the nearest neighbour warn better of failures than the Q-Score": all(
            bool((shares.sel(predictor=name) < shares.sel(predictor="qscore")).all()) for name in ("norm", "neighbour")
        ),
        "of the scores without labels the nearest neighbour has the least excess on each set": bool(
            (pooled.idxmin("predictor") == "neighbour").all()
        ),
        "on CIFAR-100 the norm is behind the score for SimCLR and MoCo v2": bool(
            (there.sel(predictor="norm") < there.sel(predictor="qscore")).all()
        ),
        "classifiers that were fitted to biased backgrounds fall by more than half, and scores stay": bool(
            (fell.sel(measure="accuracy") > 0.5).all() and (abs(fell.sel(measure="score")) < 0.1).all()
        ),
        "the confidence, which needs labels, is far ahead": all(
            of("confidence_auroc", method) > max(of(f"{name}_auroc", method) for name in RIVALS[:-1]) + 0.1
            for method in unlabelled
        ),
        "the score works better on supervised features": of("qscore_auroc", SUPERVISED)
        > of("qscore_auroc", MATCHED)
        > max(of("qscore_auroc", method) for method in unlabelled),
        "untrained networks have tails as heavy": verdict["Q1"] != "replicated"
        and of("kurtosis", UNTRAINED) > of("kurtosis", "simclr") - 1,
        "features above the band tell the most of the class": bool(
            (information.sel(band="upper tail") > 1.9 * information.sel(band="discriminative")).all()
        ),
        "features of middle rates serve a classifier about as well as random ones": verdict["Q3"] != "replicated"
        and abs(float(kept.sel(subset="discriminative") - kept.sel(subset="random"))) < 0.02,
        "the lowest rates are the worst choice, the highest among the best": float(kept.sel(subset="lower"))
        == float(kept.min())
        and float(kept.sel(subset="upper")) > float(kept.sel(subset="discriminative")),
        "principal components lose the least": bool((losses.idxmin("subset").sel(objective=unlabelled) == "pca").all()),
        "the penalty leaves the accuracy where plain training leaves it": verdict["Q7"] != "replicated"
        and abs(gauge("qscore", "accuracy") - gauge("plain", "accuracy")) < 0.005,
        "with the penalty more features stand out, confidence and AUROC hardly change": verdict["Q8"] != "replicated"
        and gauge("qscore", "highly") > gauge("plain", "highly") + 0.3
        and max(abs(gauge("qscore", name) - gauge("plain", name)) for name in ("confidence", "auroc")) < 0.02,
        "no pair of weights is better than none": float(weighed.max()) == float(weighed.sel(weight=0, norm_weight=0)),
        "encoders with the penalty transfer worse": verdict["Q11"] == "reversed",
        "not even 40 % of the features can go with little loss": verdict["Q4"] == "reversed",
        "heat prefers the object in photographs of STL-10, and not among digits": float(
            on_object.isel(masked=0).sel(objective=["simclr", "moco"]).min()
        )
        > 0.2
        and float(abs(on_object.isel(masked=slice(1, None)).mean("objective")).max()) < 0.03,
        "agreement of views is no better than a random order": abs(of("agreement_excess", "simclr") - 1) < 0.1,
    }
