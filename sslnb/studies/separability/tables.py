"""Tables and numbers of the study of separability: a Result in, Markdown out."""

import math

import numpy as np
from IPython.display import Markdown

from sslnb.core import labels
from sslnb.core.labels import NORM_LABELS, SCALE_LABELS
from sslnb.core.papers import reference, references
from sslnb.core.result import Result
from sslnb.report.tables import effect_cell, say, spread, table

PAPER_NAMES = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "caltech101": "Caltech101", "flowers102": "Flowers"} | {
    "aircraft": "Aircrafts",
    "cars": "Cars",
    "imagenet": "ImageNet",
}
PAPER = "sehwag2020separability"
PAPER_HEADLINE = ("effective_accuracy_l2", "benign_accuracy")


def probes(result: Result) -> Markdown:
    """Benign accuracy, kNN accuracy and convergence of every method on every data set."""
    rows = []
    for d, name in enumerate(result.scalars["datasets"]):
        for m, method in enumerate(result.scalars["methods"]):
            converged = result.arrays["converged"][m, :, d, 0]
            accuracy = np.where(converged, result.arrays["accuracy"][m, :, d, 0], np.nan)
            kind = " (mean per class)" if result.scalars["per_class"][d] else ""
            cells = spread(accuracy) + kind, spread(result.arrays["knn"][m, :, d])
            rows.append((f"`{name}`", labels.label(method), *cells, f"{converged.sum()} of {len(converged)}"))
    return table(("data set", "encoder", "linear probe, %", "kNN, %", "converged"), rows)


def effective(result: Result, *, scale: int = 0) -> Markdown:
    """Effective (benign) accuracy of each method beside the paper's supervised and SimCLR cells."""
    printed = {(r.dataset, r.method, r.metric): r.value for r in references(PAPER)}
    names = result.scalars["datasets"]
    compared = ("Supervised", "SimCLR") if any(name in PAPER_NAMES for name in names) else ()
    rows = []
    for d, name in enumerate(names):
        for i, norm in enumerate(result.scalars["attacked"]):
            ours = [_effective_cell(result, m, d, scale, i) for m in range(len(result.scalars["methods"]))]
            paper = [_paper_cell(printed, PAPER_NAMES.get(name, ""), m, norm) for m in compared]
            rows.append((f"`{name}`", NORM_LABELS[norm], *ours, *paper))
    methods = [labels.label(m) for m in result.scalars["methods"]]
    return table(("data set", "norm", *methods, *(f"paper: {m}" for m in compared)), rows)


def _effective_cell(result: Result, m: int, d: int, scale: int, norm: int) -> str:
    text = spread(result.arrays["effective"][m, :, d, scale, norm])
    benign = result.arrays["accuracy"][m, :, d, scale]
    converged = result.arrays["converged"][m, :, d, scale]
    return f"{text} ({spread(np.where(converged, benign, np.nan))})" if converged.any() else "did not converge"


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
    return table((f"{NORM_LABELS[norm]}", *methods), rows)


def bounds(result: Result) -> Markdown:
    """Largest and mean l2 margin under both standardizations, against the paper's largest budget."""
    i, budget = result.scalars["norms"].index("l2"), result.arrays["budgets"][0, -1]
    rows = []
    for c, scale in enumerate(result.scalars["scales"]):
        for m, method in enumerate(result.scalars["methods"]):
            mean = result.arrays["mean_margin"][m, :, 0, c, i]
            largest = result.arrays["largest_margin"][m, :, 0, c, i]
            auc = result.arrays["norm_auc"][m, :, 0, c, 0]
            if np.isfinite(mean).any():
                numbers = f"{np.nanmean(mean):.2f}", f"{np.nanmax(largest):.2f}", f"{np.nanmean(auc):.3f}"
                rows.append((SCALE_LABELS[scale], labels.label(method), *numbers))
    head = ("features have", "encoder", "mean margin", "largest margin", f"norm-AUC up to {budget:g}")
    return table(head, rows)


def claim_parts(result: Result, claim: str) -> Markdown:
    """The comparisons that a claim is made of, under both standardizations."""
    rows = []
    for part in result.scalars["claim_parts"]:
        if part["claim"] == claim:
            who = labels.label(part["method"]), part["of"].replace("linf", "l∞"), SCALE_LABELS[part["scale"]]
            rows.append((*who, effect_cell(part), part["seeds"], part["verdict"]))
    return table(("method", "data set, norm", "features have", "effect [95 % interval]", "seeds", "verdict"), rows)


def glue_headlines(result: Result) -> None:
    """Make the study's headline numbers available to the prose, each a mean over seeds on the first data set."""
    methods = result.scalars["methods"]
    for method in methods:
        m = methods.index(method)
        converged = result.arrays["converged"][m, :, 0, 0]
        accuracy = np.where(converged, result.arrays["accuracy"][m, :, 0, 0], np.nan)
        say(f"{method}_accuracy", spread(accuracy) + " %")
        say(f"{method}_knn", spread(result.arrays["knn"][m, :, 0]) + " %")
        for i, norm in enumerate(result.scalars["norms"]):
            means = result.arrays["mean_margin"][m, :, 0, 0, i]
            means = means[np.isfinite(means)]
            say(f"{method}_margin_{norm}", f"{means.mean():.3f}" if len(means) else "not measured")
    above_exact = np.abs(result.arrays["pgd"] - result.arrays["exact_at_dots"])[:, :, 0]
    gap = above_exact[np.isfinite(above_exact)].max(initial=0)
    below = int((result.arrays["pgd"] < result.arrays["exact_at_dots"] - 1e-6).sum())
    say("pgd_gap", f"{100 * gap:.1f}")
    say("pgd_below", str(below))
    say("pgd_cells", str(int(np.isfinite(result.arrays["pgd"]).sum())))
    say("seeds", str(len(result.scalars["seeds"])))
    say("test_images", f"{result.scalars['test_images'][0]:,}")
    say("first_dataset", f"`{result.scalars['datasets'][0]}`")
    effective, benign = (reference(PAPER, "ImageNet", "Supervised", m) for m in PAPER_HEADLINE)
    say("paper_effective", f"{effective:.1f}")
    say("paper_benign", f"{benign:.1f}")
    say("paper_norm_auc", f"{effective / benign:.2f}")
