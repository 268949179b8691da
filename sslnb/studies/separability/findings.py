"""What the chapter's text says of its recorded result, and whether the result bears it out."""

import math

import numpy as np
import xarray as xr
from scipy import stats

from sslnb.core.papers import reference
from sslnb.core.result import Result
from sslnb.pool.pool import MATCHED, ON_VIEWS
from sslnb.report import kinds, verdict_of
from sslnb.studies.separability.choices import ENCODER, PROBE, SOURCES, of_encoders
from sslnb.studies.separability.claims import (
    CLAIMS,
    OBJECTIVES,
    PAPER,
    PAPER_SETS,
    compared,
    compared_measures,
    learned_in,
)

SUPERVISED = "supervised"
TAUGHT = ["cifar10", "stl10"]  # sets of the classes that supervised training was given; nine of STL-10's ten are
ROOM = "supervised features have far more room between classes of their training; elsewhere four objectives cannot tell"
CONVERGED = 5  # percent; below it the paper's probes did not converge
PRINTED = {"infomin": "InfoMin", "moco": "MoCo", "simclr": "SimCLR", "pirl": "PIRL", "cmc": "CMC"}
BOUNDS = ["value", "low", "high"]
PAPER_HEADLINE = ("effective_accuracy_l2", "benign_accuracy")


def of_paper(result: Result) -> list[str]:
    """The paper's objectives that learned."""
    learned = learned_in(result.data["probes"])
    return [name for name in OBJECTIVES if name in learned]


def ratios(result: Result, other: str = SUPERVISED) -> xr.DataArray:
    """Another encoder's margins over every objective's [objective, dataset]: geometric means over seeds and norms."""
    margins = np.log(compared_measures(result.data)[0]).mean("seed")
    return np.exp((margins.sel(objective=other, drop=True) - margins).mean("norm"))


def ahead(result: Result, other: str = SUPERVISED) -> xr.DataArray:
    """Factor [bound, dataset] by which an encoder's margins exceed those of the paper's objectives: geometric means.

    The 95 % interval is Student's over these objectives, without the error of the test images.
    """
    return _factors(np.log(ratios(result, other).sel(objective=of_paper(result))), "objective")


def matched_to_simclr(result: Result) -> xr.DataArray:
    """Factor [bound] between margins of supervised networks stopped at SimCLR's accuracy and SimCLR's, first set.

    The 95 % interval is Student's over pairs of one seed.
    """
    logs = np.log(compared_measures(result.data)[0]).isel(dataset=0, drop=True).mean("norm")
    return _factors((logs.sel(objective=MATCHED) - logs.sel(objective="simclr")).dropna("seed"), "seed")


def _factors(logs: xr.DataArray, unit: str) -> xr.DataArray:
    mean, n = logs.mean(unit), logs.sizes[unit]
    half = stats.t.ppf(0.975, n - 1) * logs.std(unit, ddof=1) / math.sqrt(n)
    return np.exp(xr.concat([mean, mean - half, mean + half], "bound").assign_coords(bound=BOUNDS))


def in_limit(result: Result) -> xr.DataArray:
    """The same factor [dataset] for probes with next to no weight decay."""
    margins = np.log(result.data["audit"].limit_mean_margin).mean(("seed", "norm"))
    others = margins.sel(objective=of_paper(result)).mean("objective")
    return np.exp(margins.sel(objective=SUPERVISED, drop=True) - others)


def by_probe(result: Result) -> xr.DataArray:
    """Log mean margins [objective, dataset, decay, rate] of supervised features and the paper's, for every probe."""
    margins = np.log(result.data["audit"].mean_margin).mean(("seed", "norm"))
    return margins.sel(objective=[SUPERVISED, *of_paper(result)])


def means(result: Result) -> xr.Dataset:
    """What the text quotes of every encoder on each set [objective, dataset]: means over seeds."""
    _, accuracy, auc = compared_measures(result.data)
    return xr.Dataset({"accuracy": accuracy, "norm_auc": auc}).mean("seed")


def without_labels(result: Result) -> list[str]:
    """The objectives without labels that learned, the paper's and others."""
    others = {SUPERVISED, ON_VIEWS, MATCHED, "supcon"}
    return [name for name in learned_in(result.data["probes"]) if name not in others]


def overtaken(result: Result) -> list[tuple[str, str]]:
    """Objectives without labels, and sets, of which a seed is as accurate as supervised training's of that number."""
    _, accuracy, _ = compared_measures(result.data)
    ahead = accuracy.sel(objective=without_labels(result)) >= accuracy.sel(objective=SUPERVISED, drop=True)
    found = ahead.any("seed").stack(cell=("objective", "dataset"))
    return [(str(objective), str(dataset)) for objective, dataset in found.cell.values[found.values]]


def gaps_on_first(result: Result) -> dict[str, xr.DataArray]:
    """Norm-AUC [attacked] of supervised features less that of the paper's objectives on the first set, by probe."""
    deep = verdict_of(result, "S5")["parts"]
    linear = means(result).norm_auc.isel(dataset=0, drop=True)
    own = linear.sel(objective=SUPERVISED) - linear.sel(objective=of_paper(result)).mean("objective")
    names = [part["name"] for part in deep]
    hidden = xr.DataArray([part["estimate"] for part in deep], {"attacked": names}, ("attacked",))
    return {"linear": own.drop_vars("objective"), "hidden": hidden}


def printed_gaps() -> dict[str, np.ndarray]:
    """The paper's lead of supervised norm-AUC (l2) over each of its methods: on ImageNet, and the mean of other sets.

    Without the cells whose probe did not converge.
    """
    gaps = np.array([[_printed_gap(name, method) for name in PAPER_SETS] for method in PRINTED.values()])
    home = np.array(PAPER_SETS) == "ImageNet"
    return {"home": gaps[:, home][:, 0], "away": np.nanmean(gaps[:, ~home], 1)}


def half_gap() -> float:
    """The smallest effect of S2, S3 and S5 as it would be without the set on which SimCLR's probe did not converge."""
    gaps = [[_printed_gap(name, "SimCLR", norm) for norm in ("l2", "linf")] for name in PAPER_SETS]
    return float(np.nanmean(gaps)) / 2


def _printed_gap(name: str, method: str, norm: str = "l2") -> float:
    if reference(PAPER, name, method, "benign_accuracy") < CONVERGED:
        return math.nan
    supervised, other = (
        reference(PAPER, name, m, f"effective_accuracy_{norm}") / reference(PAPER, name, m, "benign_accuracy")
        for m in ("Supervised", method)
    )
    return supervised - other


def explained(result: Result, prefix: str = "share") -> xr.DataArray:
    """Shares [part, dataset] of the variance of log margins, means over norms: encoder, probe and both."""
    share = result.data["probe_choice"][prefix].mean("norm")
    parts = {"encoder": list(ENCODER), "probe": list(PROBE), "both": [SOURCES[-1]]}
    rows = [share.sel(source=names).sum("source").expand_dims(part=[part]) for part, names in parts.items()]
    return xr.concat(rows, "part")


def readings(result: Result) -> dict[str, float]:
    """Norm-AUC (l2) on the first set: the greatest with features of unit norm, supervised with unit variance."""
    probed, areas = result.data["probes"], result.data["separation"].norm_auc
    norm, variance = (
        compared(probed, areas, scale).isel(dataset=0).sel(attacked="l2").mean("seed")
        for scale in ("unit_norm", "unit_variance")
    )
    return {"unit_norm_most": float(norm.max()), "unit_variance_supervised": float(variance.sel(objective=SUPERVISED))}


def printed_headline() -> tuple[float, float, float]:
    """The paper's effective (l2) and benign accuracy of supervised features on ImageNet, and their norm-AUC."""
    effective, benign = (reference(PAPER, "ImageNet", SUPERVISED.title(), m) for m in PAPER_HEADLINE)
    return effective, benign, effective / benign


def told_apart(result: Result) -> xr.DataArray:
    """By how much validation accuracy [dataset], mean over encoders, of an admissible probe is below the set's best."""
    audit, inside = result.data["audit"], result.data["probe_choice"].admissible == 1
    accuracy = of_encoders(audit.validation, audit).mean("encoder")
    return accuracy.max(("decay", "rate")) - accuracy.where(inside).min(("decay", "rate"))


def over_grid(result: Result, claim: str) -> tuple[float, float]:
    """The least and the greatest effect of a claim over all probes of the grid."""
    values = result.data["probe_choice"].estimate.sel(claim=claim)
    return float(values.min()), float(values.max())


def statements(result: Result) -> dict[str, bool]:
    """Every statement of the published text with its truth; the build stops at one that is false."""
    return _on_margins(result) | _on_controls(result) | _on_probes(result)


def _on_margins(result: Result) -> dict[str, bool]:
    verdict, room, found = kinds(result), ahead(result), means(result)
    names, printed = of_paper(result), printed_gaps()
    estimate = {v["claim"]: v["estimate"] for v in result.facts["verdicts"]}
    lead = found.sel(objective=SUPERVISED) - found.sel(objective=names)
    low, high = (room.sel(bound=bound) for bound in ("low", "high"))
    matters = math.exp(CLAIMS["S1"].sei)
    separation = result.data["separation"]
    shown = separation.margin.isel(sample=(separation.sample_dataset == "cifar10").values)
    tenth = shown.sel(objective=SUPERVISED).quantile(0.1, "sample")
    median = shown.sel(objective="simclr").median("sample")
    kept = result.data["attacked"].multilayer.mean("seed").isel(dot=-1).sel(attacked="l2")
    effective = (found.accuracy * found.norm_auc).sel(attacked="l2").drop_sel(dataset=TAUGHT)
    supcon = 1 / ratios(result, "supcon").sel(objective=SUPERVISED, dataset=TAUGHT)
    loss = result.data["pretraining"].loss.mean("seed").dropna("objective")  # of the runs that went to their end
    later = (loss.isel(epoch=3 * loss.sizes["epoch"] // 4 - 1) - loss.isel(epoch=-1)) / (
        loss.isel(epoch=0) - loss.isel(epoch=-1)
    )
    return {
        ROOM: verdict["S1"] == "replicated"
        and float(low.sel(dataset=TAUGHT).min()) > 1.9
        and float(high.drop_sel(dataset=TAUGHT).min()) > matters
        and float(low.drop_sel(dataset=TAUGHT).max()) < 1,
        "where the classes are those of training, supervised accuracy falls more slowly with the budget": verdict["S3"]
        == "replicated"
        and all(
            (part["low"] > 0) == (part["name"].split(", ")[1] in TAUGHT) for part in verdict_of(result, "S3")["parts"]
        )
        and float(lead.norm_auc.sel(dataset=TAUGHT).min()) > 0.1,
        "nine in ten of the supervised margins are above SimCLR's median": bool((tenth > median).all()),
        "the last quarter of the epochs brings less than an eighth of the fall of each loss": float(later.max())
        < 1 / 8,
        "with a hidden layer the gap remains": verdict["S5"] == "replicated"
        and float(kept.sel(objective=SUPERVISED)) > 0.25
        and float(kept.sel(objective=names).max()) < 0.01,
        "the paper's gap is the largest on ImageNet, where its encoders were trained": printed["home"].min()
        > 2 * printed["away"].max()
        and printed["away"].min() > 0,
        "the corrected smallest effect changes no verdict": min(estimate["S3"], estimate["S5"]) > half_gap(),
        "none of the paper's objectives is as accurate as supervised training, VICReg is on Caltech-101": verdict["S2"]
        == "not tested"
        and overtaken(result) == [("vicreg", "caltech101")]
        and verdict_of(result, "S2")["units"] == 1
        and abs(estimate["S2"]) < 0.005,
        "of all objectives without labels VICReg has the largest margins on every set": all(
            name == "vicreg" for name in ratios(result).sel(objective=without_labels(result)).idxmin("objective").values
        ),
        "on CIFAR-100 and Caltech-101 effective accuracies are small and close": float(
            effective.sel(objective=names).max()
        )
        < 0.07
        and float(abs(effective.sel(objective=SUPERVISED) - effective.sel(objective=names)).max()) < 0.03,
        "SupCon, which sees labels, has about as much room as supervised training": float(abs(np.log(supcon)).max())
        < math.log(1.2),
    }


def _on_controls(result: Result) -> dict[str, bool]:
    views, matched = ahead(result, ON_VIEWS), ahead(result, MATCHED).sel(dataset="cifar10")
    accuracy, room = means(result).accuracy, ahead(result).sel(bound="value", dataset="cifar10")
    behind = (accuracy.sel(objective="simclr") - accuracy.sel(objective=MATCHED)).drop_sel(dataset="cifar10")
    away = views.drop_sel(dataset=TAUGHT)
    _, low, high = matched_to_simclr(result).values
    return {
        "with SimCLR's views supervised training keeps its room, and has more between other classes": float(
            views.sel(bound="low", dataset=TAUGHT).min()
        )
        > 1.8
        and float(away.sel(bound="low").min()) > 1
        and float(away.sel(bound="value").min()) > 1.2,
        "stopped at SimCLR's accuracy it keeps less than two fifths of its room on CIFAR-10": float(
            matched.sel(bound="low")
        )
        > 1
        and float(matched.sel(bound="value")) < 0.4 * float(room),
        "against SimCLR alone the difference is not clear of none": low < 1 < high,
        "three of the four are less accurate than the networks that were stopped": int(
            (accuracy.sel(objective=of_paper(result)) < accuracy.sel(objective=MATCHED)).sel(dataset="cifar10").sum()
        )
        == 3,
        "on other sets it is five to eight points less accurate than SimCLR": float(behind.min()) > 0.045
        and float(behind.max()) < 0.085,
    }


def _on_probes(result: Result) -> dict[str, bool]:
    shares, chosen = explained(result), explained(result, "choice_share")
    choice, limit, room = result.data["probe_choice"], in_limit(result), ahead(result).sel(bound="value")
    margins = by_probe(result)
    lead = margins.sel(objective=SUPERVISED) - margins.drop_sel(objective=SUPERVISED)
    first = margins.drop_sel(dataset=TAUGHT).argmax("objective")
    grids = {name: over_grid(result, name) for name in ("S1", "S3")}
    read, (*_, printed) = readings(result), printed_headline()
    data = result.data["probes"]
    grid = data.validation.sel(scale=data.attrs["primary"]).isel(seed=0, dataset=0)  # as drawn
    close = (grid > grid.max(("decay", "rate")) - 0.01).mean(("decay", "rate"))
    rules = choice.rule_estimate.sel(rule=["compared", "own"])
    s2 = choice.estimate.sel(claim="S2")
    left = choice.rule_estimate.sel(claim=list(grids), rule="limit") / rules.sel(claim=list(grids), rule="compared")
    home, away = explained(result).sel(dataset="cifar10"), shares.drop_sel(dataset="cifar10")
    return {
        "over the whole grid the encoder decides the margin on CIFAR-10, the probe on other sets": float(
            home.sel(part="encoder") - home.sel(part="probe")
        )
        > 0.2
        and float((away.sel(part="probe") - away.sel(part="encoder")).min()) > 0.2,
        "of probes that are equally good on average the encoder explains most on STL-10, too": float(
            chosen.sel(part="encoder", dataset=TAUGHT).min()
        )
        > 0.6
        and float(chosen.sel(part="probe").drop_sel(dataset=TAUGHT).min()) > 0.8
        and float(told_apart(result).sel(dataset="caltech101")) > 0.02,
        "every probe of the grid gives S1 and S3 the same sign": min(grid[0] for grid in grids.values()) > 0,
        "the claims' probes lie above all probes of the grid": all(
            float(rules.sel(claim=name).min()) > grid[1] for name, grid in grids.items()
        ),
        "on CIFAR-10 and STL-10 supervised features are ahead with every probe": bool(
            (lead.sel(dataset=TAUGHT) > 0).all()
        ),
        "on CIFAR-100 and Caltech-101 it depends on the probe who is ahead": all(
            len(np.unique(first.sel(dataset=name))) > 1 for name in first.dataset.values
        ),
        "without weight decay less than half of the effects is left, lost where classes are those of training": bool(
            ((left > 0.35) & (left < 0.5)).all()
        )
        and float((limit / room).sel(dataset=TAUGHT).max()) < 0.6
        and float((limit / room).drop_sel(dataset=TAUGHT).min()) > 1,
        "only unit variance comes near the paper's norm-AUC": read["unit_norm_most"] < printed / 10
        and read["unit_variance_supervised"] > 0.7 * printed,
        "with probes within a point of the best the effect of S2 is a quarter of the smallest at most": float(
            abs(s2.where(choice.admissible == 1)).max()
        )
        < CLAIMS["S2"].sei / 4
        < CLAIMS["S2"].sei * 0.99
        < float(s2.max()),
        "next to no encoder wants a larger grid": float(choice.edge_ahead.max()) < 0.06,
        "with every encoder two fifths of the probes or more are within a point of the best": float(close.min()) >= 0.4,
    }
