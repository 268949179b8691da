"""Tables and numbers of the study of separability: a Result in, Markdown out."""

import itertools
import math

import numpy as np
from IPython.display import Markdown

from sslnb.core import labels
from sslnb.core.labels import NORM_LABELS, SCALE_LABELS
from sslnb.core.papers import references
from sslnb.core.result import Result
from sslnb.pool.pool import MATCHED, ON_VIEWS
from sslnb.report import verdict_of
from sslnb.report.tables import references_first, say, set_cell, spread, table
from sslnb.studies.separability.claims import HALF_GAP, PAPER, compared
from sslnb.studies.separability.findings import (
    SUPERVISED,
    TAUGHT,
    ahead,
    explained,
    gaps_on_first,
    half_gap,
    in_limit,
    matched_to_simclr,
    means,
    over_grid,
    printed_gaps,
    printed_headline,
    ratios,
    readings,
    told_apart,
)

PAPER_NAMES = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "caltech101": "Caltech101", "flowers102": "Flowers"} | {
    "aircraft": "Aircrafts",
    "cars": "Cars",
    "imagenet": "ImageNet",
}
ONE_DIGIT = 2  # factors above it are written with one decimal


def probes(result: Result) -> Markdown:
    """Benign accuracy, kNN accuracy and convergence of every objective on every data set."""
    data, rows = result.data["probes"], []
    accuracy = compared(data, data.accuracy.where(data.converged))
    for name in data.dataset.values:
        kind = " (mean per class)" if bool(data.per_class.sel(dataset=name)) else ""
        for objective in data.objective.values:
            cells = [values.sel(dataset=name, objective=objective).values for values in (accuracy, data.knn)]
            tried, converged = (int(np.isfinite(values).sum()) for values in reversed(cells))
            texts = spread(cells[0]) + kind, spread(cells[1])
            rows.append((set_cell(name), labels.label(objective), *texts, f"{converged} of {tried}"))
    return table(
        ("data set", "encoder", "linear probe, %", "kNN, %", "converged"),
        rows,
        "Test accuracy of linear probes and nearest neighbours; how many probes converged.",
    )


def effective(result: Result, norm: str, *, scale: str | None = None) -> Markdown:
    """Effective (benign) accuracy of each encoder on each set in one norm; the paper's supervised and SimCLR first."""
    printed = {(r.dataset, r.method, r.metric): r.value for r in references(PAPER)}
    scale = scale or result.data["probes"].attrs["primary"]
    values = compared(result.data["probes"], result.data["separation"].effective, scale).sel(attacked=norm)
    benign = compared(result.data["probes"], result.data["probes"].accuracy, scale)
    sets = values.dataset.values
    beside = ("Supervised", "SimCLR") if any(name in PAPER_NAMES for name in sets) else ()
    rows = [
        (f"Paper: {method}", *(_paper_cell(printed, PAPER_NAMES.get(name, ""), method, norm) for name in sets))
        for method in beside
    ]
    for objective in references_first(values.objective.values):
        cells = []
        for name in sets:
            at = {"dataset": name, "objective": objective}
            own = values.sel(at).values
            rest = spread(benign.sel(at).where(np.isfinite(own)).values)
            cells.append(f"{spread(own)} ({rest})" if np.isfinite(own).any() else "did not converge")
        rows.append((labels.label(objective), *cells))
    return table(
        (NORM_LABELS[norm], *map(set_cell, sets)),
        rows,
        f"Effective accuracy in {NORM_LABELS[norm]} with features of {SCALE_LABELS[scale]} "
        "(benign accuracy in brackets), in percent"
        f"{'; the first rows are the paper’s' if beside else ''}.",
    )


def other_effective(result: Result, norm: str) -> Markdown:
    """The same under the reading of "standardized" that is not the primary one."""
    return effective(result, norm, scale=_other_reading(result))


def _other_reading(result: Result) -> str:
    probed = result.data["probes"]
    return next(str(scale) for scale in probed.scale.values if scale != probed.attrs["primary"])


def _paper_cell(printed: dict, dataset: str, method: str, norm: str) -> str:
    value = printed.get((dataset, method, f"effective_accuracy_{norm}"), math.nan)
    benign = printed.get((dataset, method, "benign_accuracy"), math.nan)
    return f"{value:.1f} ({benign:.1f})" if math.isfinite(value) else "–"


def paper_effective(norm: str) -> Markdown:
    """The paper's table 1 for one norm: effective (benign) accuracy, seven data sets by six encoders."""
    metric = f"effective_accuracy_{norm}"
    numbers = [r for r in references(PAPER) if r.metric == metric]
    printed = {(r.dataset, r.method, r.metric): r.value for r in references(PAPER)}
    methods, datasets = (list(dict.fromkeys(getattr(r, k) for r in numbers)) for k in ("method", "dataset"))
    rows = [(d, *(_paper_cell(printed, d, m, norm) for m in methods)) for d in datasets]
    return table(
        (f"{NORM_LABELS[norm]}", *methods),
        rows,
        f"The paper's table 1 for {NORM_LABELS[norm]}: effective accuracy (benign accuracy in brackets), in percent.",
    )


def bounds(result: Result) -> Markdown:
    """Largest and mean l2 margin under both standardizations, against the paper's largest budget; first data set."""
    probed, data = result.data["probes"], result.data["separation"]
    budget, rows = float(data.budget.sel(attacked="l2")[-1]), []
    for scale in data.scale.values:
        mean, largest = (compared(probed, v, scale).isel(dataset=0) for v in (data.mean_margin, data.largest_margin))
        auc = compared(probed, data.norm_auc, scale).isel(dataset=0).sel(attacked="l2")
        for name in data.objective.values:
            values = mean.sel(objective=name, norm="l2").mean(), largest.sel(objective=name, norm="l2").max()
            if bool(values[0].notnull()):
                numbers = (f"{float(value):.2f}" for value in values)
                share = f"{float(auc.sel(objective=name).mean()):.3f}"
                rows.append((SCALE_LABELS[scale], labels.label(name), *numbers, share))
    head = ("features have", "encoder", "mean margin", "largest margin", f"norm-AUC up to {budget:g}")
    name = set_cell(str(data.dataset.values[0]))
    return table(
        head, rows, f"$\\ell_2$ margins on {name} by standardization, and norm-AUC up to the paper's largest budget."
    )


def decays(result: Result, *, scale: str | None = None) -> Markdown:
    """Mean l2 margin and accuracy for every weight decay on the first set: what the probe, not the encoder, decides."""
    probed = result.data["probes"].isel(dataset=0)
    scale = scale or probed.attrs["primary"]
    margin = result.data["separation"].mean_margin.isel(dataset=0).sel(scale=scale, norm="l2")
    accuracy, chosen = probed.accuracy.sel(scale=scale), set(probed.compared_decay.sel(scale=scale).values.ravel())
    rows = []
    for name in margin.objective.values:
        at = [{"objective": name, "decay": decay} for decay in margin.decay.values]
        means = [float(margin.sel(cell).mean()) for cell in at]
        texts = [f"{m:.2f} ({spread(accuracy.sel(cell).values)})" for m, cell in zip(means, at, strict=True)]
        shown = [text if math.isfinite(m) else "–" for m, text in zip(means, texts, strict=True)]
        rows.append((labels.label(name), *shown))
    heads = (f"weight decay {d:g}" + (" (compared)" if chosen == {d} else "") for d in margin.decay.values)
    return table(
        ("mean margin (accuracy, %)", *heads),
        rows,
        "Mean margin, and accuracy in brackets, of probes with every weight decay, on the first set.",
    )


def glue_headlines(result: Result) -> None:
    """Make the study's headline numbers available to the prose, each a mean over seeds on the first data set."""
    probed, data, attacked = (result.data[name] for name in ("probes", "separation", "attacked"))
    accuracy = compared(probed, probed.accuracy.where(probed.converged)).isel(dataset=0)
    margins = compared(probed, data.mean_margin).isel(dataset=0)
    for objective in probed.objective.values:
        say(f"{objective}_accuracy", spread(accuracy.sel(objective=objective).values) + " %")
        say(f"{objective}_knn", spread(probed.knn.isel(dataset=0).sel(objective=objective).values) + " %")
        for norm in margins.norm.values:
            mean = float(margins.sel(objective=objective, norm=norm).mean())
            say(f"{objective}_margin_{norm}", f"{mean:.3f}" if math.isfinite(mean) else "not measured")
    gaps = abs(attacked.pgd - attacked.exact).max(("objective", "seed", "dot"))
    for norm in gaps.attacked.values:
        say(f"pgd_gap_{norm}", f"{100 * float(gaps.sel(attacked=norm)):.1f}")
    say("pgd_below", str(int((attacked.pgd < attacked.exact - 1e-6).sum())))
    say("pgd_cells", str(int(attacked.pgd.notnull().sum())))
    say("seeds", str(probed.sizes["seed"]))
    say("primary", SCALE_LABELS[probed.attrs["primary"]])
    say("other_reading", SCALE_LABELS[_other_reading(result)])
    say("test_images", f"{int(probed.test_images[0]):,}")
    say("first_dataset", set_cell(str(probed.dataset.values[0])))
    effective, benign, norm_auc = printed_headline()
    say("paper_effective", f"{effective:.1f}")
    say("paper_benign", f"{benign:.1f}")
    say("paper_norm_auc", f"{norm_auc:.2f}")


def glue_findings(result: Result) -> None:
    """Make what the text says of the recorded result available: room and leads by set, and what the probe explains."""
    for prefix, other in {"room": SUPERVISED, "views": ON_VIEWS, "matched": MATCHED, "supcon": "supcon"}.items():
        room = ahead(result, other)
        for name in room.dataset.values:
            value, low, high = (_factor(factor) for factor in room.sel(dataset=name).values)
            say(f"{prefix}_{name}", value)
            say(f"{prefix}_{name}_words", f"{value} times [{low}, {high}]")
    say("room_simclr", _factor(ratios(result).sel(objective="simclr", dataset="cifar10")))
    value, low, high = (_factor(factor) for factor in matched_to_simclr(result).values)
    say("matched_simclr", f"{value} times [{low}, {high}]")
    gaps = {tuple(part["name"].split(", ")): part["estimate"] for part in verdict_of(result, "S3")["parts"]}
    for (norm, name), gap in gaps.items():
        say(f"auc_{norm}_{name}", f"{gap:.2f}")
    say("auc_away", f"{max(gap for (_, name), gap in gaps.items() if name not in TAUGHT):.2f}")
    limit = in_limit(result)
    for name in limit.dataset.values:
        say(f"limit_{name}", _factor(limit.sel(dataset=name)))
    accuracy = 100 * means(result).accuracy
    lead = accuracy.sel(objective=SUPERVISED) - accuracy.sel(objective="simclr")
    for name, points in zip(lead.dataset.values, lead.values, strict=True):
        say(f"lead_{name}", f"{points:.1f}")
    for objective in (SUPERVISED, "vicreg"):
        for name, percents in zip(accuracy.dataset.values, accuracy.sel(objective=objective).values, strict=True):
            say(f"{objective}_{name}", f"{percents:.1f}")
    say("S2_pair", f"{verdict_of(result, 'S2')['estimate']:.3f}")
    for probe, gap in gaps_on_first(result).items():
        for norm in gap.attacked.values:
            say(f"{probe}_gap_{norm}", f"{float(gap.sel(attacked=norm)):.2f}")
    for where, gaps in printed_gaps().items():
        say(f"printed_{where}", f"{gaps.min():.2f} to {gaps.max():.2f}")
    for reading, area in readings(result).items():
        say(reading, f"{area:.2f}")
    _glue_probes(result)


def _factor(value: float) -> str:
    return f"{value:.1f}" if value > ONE_DIGIT else f"{value:.2f}"


def _glue_probes(result: Result) -> None:
    for prefix, shares in (("", explained(result)), ("choice_", explained(result, "choice_share"))):
        for part, name in itertools.product(shares.part.values, shares.dataset.values):
            say(f"{prefix}{part}_{name}", f"{100 * float(shares.sel(part=part, dataset=name)):.0f} %")
    choice = result.data["probe_choice"]
    tested = choice.estimate.sel(claim="S2")
    close = tested.where(choice.admissible == 1)
    say("S2_tested", str(int(tested.count())))
    say("S2_close", f"{int(close.count())}")
    say("S2_close_range", f"{float(close.min()):.3f} to {float(close.max()):.3f}")
    for claim in ("S1", "S3"):
        for word, value in zip(("least", "most"), over_grid(result, claim), strict=True):
            say(f"grid_{claim}_{word}", f"{value:.2f}")
        by_rule = choice.rule_estimate.sel(claim=claim)
        for rule in by_rule.rule.values:
            say(f"{rule}_{claim}", f"{float(by_rule.sel(rule=rule)):.2f}")
        say(f"left_{claim}", f"{100 * float(by_rule.sel(rule='limit') / by_rule.sel(rule='compared')):.0f} %")
    say("probes", str(choice.sizes["decay"] * choice.sizes["rate"]))
    say("told_apart", f"{100 * float(told_apart(result).max()):.1f}")
    say("sei", f"{HALF_GAP:.3f}")
    say("sei_without", f"{half_gap():.3f}")
