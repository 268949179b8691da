"""What the chapter's text says of its recorded result, and whether the result bears it out."""

import numpy as np
import xarray as xr

from sslnb.core.labels import CONTROLS
from sslnb.core.papers import reference
from sslnb.core.result import Result
from sslnb.report import kinds
from sslnb.studies.separability.choices import ENCODER, PROBE, SOURCES
from sslnb.studies.separability.claims import OBJECTIVES, PAPER, PAPER_SETS, compared_measures, learned_in

SUPERVISED = "supervised"
TAUGHT = ["cifar10", "stl10"]  # sets of the classes that supervised training was given; nine of STL-10's ten are
ROOM = "supervised features have far more room between classes they were trained on, and hardly more between others"
CONVERGED = 5  # percent; the paper's probes on SimCLR's features of two sets did not
POOLED = ("S1", "S3", "S5")  # claims that have controls


def of_paper(result: Result) -> list[str]:
    """The paper's objectives that learned."""
    learned = learned_in(result.data["probes"])
    return [name for name in OBJECTIVES if name in learned]


def ratios(result: Result, other: str = SUPERVISED) -> xr.DataArray:
    """Another encoder's margins over every objective's [objective, dataset]: geometric means over seeds and norms."""
    margins = np.log(compared_measures(result.data)[0]).mean("seed")
    return np.exp((margins.sel(objective=other, drop=True) - margins).mean("norm"))


def ahead(result: Result, other: str = SUPERVISED) -> xr.DataArray:
    """Factor [dataset] by which another encoder's margins exceed those of the paper's objectives, geometric means."""
    return np.exp(np.log(ratios(result, other).sel(objective=of_paper(result))).mean("objective"))


def means(result: Result) -> xr.Dataset:
    """What the text quotes of every encoder on each set [objective, dataset]: means over seeds, and over both norms."""
    _, accuracy, auc = compared_measures(result.data)
    return xr.Dataset({"accuracy": accuracy, "norm_auc": auc.mean("attacked")}).mean("seed")


def printed_gaps() -> dict[str, float]:
    """The paper's lead of supervised over SimCLR's norm-AUC in l2: on ImageNet, the set of training, and on others."""
    usable = [name for name in PAPER_SETS if reference(PAPER, name, "SimCLR", "benign_accuracy") > CONVERGED]
    gaps = {name: _printed_auc(name, "Supervised") - _printed_auc(name, "SimCLR") for name in usable}
    return {"home": gaps.pop("ImageNet"), "away": float(np.mean(list(gaps.values())))}


def _printed_auc(name: str, method: str) -> float:
    return reference(PAPER, name, method, "effective_accuracy_l2") / reference(PAPER, name, method, "benign_accuracy")


def explained(result: Result, prefix: str = "share") -> xr.DataArray:
    """Shares [source, dataset] of the variance of log margins, means over norms: encoder, probe and both."""
    share = result.data["probe_choice"][prefix].mean("norm")
    parts = {"encoder": list(ENCODER), "probe": list(PROBE), "both": [SOURCES[-1]]}
    rows = [share.sel(source=names).sum("source").expand_dims(part=[part]) for part, names in parts.items()]
    return xr.concat(rows, "part")


def over_grid(result: Result, claim: str) -> tuple[float, float]:
    """The least and the greatest effect of a claim over all probes of the grid."""
    values = result.data["probe_choice"].estimate.sel(claim=claim)
    return float(values.min()), float(values.max())


def statements(result: Result) -> dict[str, bool]:
    """Every statement of the published text with its truth; the build stops at one that is false."""
    return _on_margins(result) | _on_controls(result) | _on_probes(result)


def _on_margins(result: Result) -> dict[str, bool]:
    verdict, room, found = kinds(result), ahead(result), means(result)
    names = of_paper(result)
    lead = found.sel(objective=SUPERVISED) - found.sel(objective=names).max("objective")
    gap = found.norm_auc.sel(objective=SUPERVISED) - found.norm_auc.sel(objective=names)
    kept = result.data["attacked"].multilayer.mean("seed").isel(dot=-1).sel(attacked="l2")
    return {
        ROOM: verdict["S1"] == "replicated"
        and float(room.sel(dataset=TAUGHT).min()) > 2.5
        and float(room.drop_sel(dataset=TAUGHT).min()) > 0.95
        and float(room.drop_sel(dataset=TAUGHT).max()) < 1.1,
        "supervised accuracy falls the slowest with the budget where the classes are those of training": verdict["S3"]
        == "replicated"
        and float(gap.sel(dataset=TAUGHT).min()) > 0.1
        and float(abs(gap.drop_sel(dataset=TAUGHT).mean("objective")).max()) < 0.02,
        "a curved boundary changes nothing": verdict["S5"] == "replicated"
        and float(kept.sel(objective=SUPERVISED)) > 0.2
        and float(kept.sel(objective=names).max()) < 0.01,
        "in the paper's own table the gap is the largest where the classes are those of training": printed_gaps()[
            "home"
        ]
        > 3 * printed_gaps()["away"]
        > 0,
        "no self-supervised encoder is as accurate as the supervised one on any set": verdict["S2"] == "not tested"
        and float(lead.accuracy.min()) > 0,
        "SupCon, which sees labels, has as much room as supervised training": bool(
            (abs(np.log(ratios(result).sel(objective="supcon", dataset=TAUGHT))) < np.log(1.2)).all()
        ),
    }


def _on_controls(result: Result) -> dict[str, bool]:
    beside = {v["claim"]: {"estimate": v["estimate"]} | v["controls"] for v in result.facts["verdicts"]}
    views, matched = ({name: beside[name][control] for name in POOLED} for control in CONTROLS.values())
    return {
        "SimCLR's views take nothing of the effects": all(
            views[name][1] > 0 and views[name][0] > 0.9 * beside[name]["estimate"] for name in POOLED
        ),
        "at equal accuracy a quarter of the effects or less is left, too little to tell it from none": all(
            matched[name][1] < 0 < matched[name][0] < 0.25 * beside[name]["estimate"] for name in POOLED
        ),
    }


def _on_probes(result: Result) -> dict[str, bool]:
    shares, chosen = explained(result), explained(result, "choice_share")
    rules = result.data["probe_choice"].rule_estimate.sel(claim=["S1", "S3"])
    return {
        "on CIFAR-10 the encoder decides the margin, elsewhere the probe": float(
            shares.sel(part="encoder", dataset="cifar10")
        )
        > 0.5
        and float(shares.sel(part="probe").drop_sel(dataset="cifar10").min()) > 0.5,
        "of probes that validation cannot tell apart the same holds on CIFAR-100 and Caltech-101": float(
            chosen.sel(part="probe").drop_sel(dataset=TAUGHT).min()
        )
        > 0.8
        and float(chosen.sel(part="encoder", dataset=TAUGHT).min()) > 0.6,
        "every probe of the grid gives S1 and S3 the same sign": all(
            over_grid(result, name)[0] > 0 for name in ("S1", "S3")
        ),
        "without weight decay half of the effects is left": bool(
            ((rules.sel(rule="limit") / rules.sel(rule="compared") - 0.45).pipe(abs) < 0.1).all()
        ),
        "next to no encoder wants a larger grid": float(result.data["probe_choice"].edge_ahead.max()) < 0.1,
    }
