"""Tables and sentences of the book: recorded numbers in, Markdown out. No number in the prose is typed by hand."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from IPython.display import Markdown
from myst_nb import glue

from sslnb import figures
from sslnb.core.claims import Claim
from sslnb.core.result import Result, reference, references

PAPER_NAMES = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "caltech101": "Caltech101", "flowers102": "Flowers"} | {
    "aircraft": "Aircrafts",
    "cars": "Cars",
    "imagenet": "ImageNet",
}
NORMS = {"l1": "$\\ell_1$", "l2": "$\\ell_2$", "linf": "$\\ell_\\infty$"}
PAPER_HEADLINE = ("effective_accuracy_l2", "benign_accuracy")
SCALES = {"unit_norm": "unit norm", "unit_variance": "unit variance"}


def table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> Markdown:
    """A Markdown table; bars in cells are escaped."""
    lines = [[str(cell).replace("|", "\\|") for cell in line] for line in (head, ["---"] * len(head), *rows)]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def brief(dataset: str) -> str:
    """A generated set's parameters alone: what tells it from the others."""
    return dataset.partition(":")[2] or dataset


def percent(value: float) -> str:
    """0.7612 as ``76.1``; a dash for what was not measured."""
    return f"{100 * value:.1f}" if math.isfinite(value) else "–"


def spread(values: np.ndarray) -> str:
    """Mean over seeds with the sample deviation: ``76.1 ± 0.4``."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    deviation = f"\u00a0±\u00a0{100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""  # never broken over lines
    return percent(float(values.mean())) + deviation


def probes(result: Result) -> Markdown:
    """Benign accuracy, kNN accuracy and convergence of every method on every data set."""
    rows = []
    for d, name in enumerate(result.scalars["datasets"]):
        for m, method in enumerate(result.scalars["methods"]):
            converged = result.arrays["converged"][m, :, d, 0]
            accuracy = np.where(converged, result.arrays["accuracy"][m, :, d, 0], np.nan)
            kind = " (mean per class)" if result.scalars["per_class"][d] else ""
            cells = spread(accuracy) + kind, spread(result.arrays["knn"][m, :, d])
            rows.append((f"`{name}`", figures.label(method), *cells, f"{converged.sum()} of {len(converged)}"))
    return table(("data set", "encoder", "linear probe, %", "kNN, %", "converged"), rows)


def effective(result: Result, *, scale: int = 0) -> Markdown:
    """Effective (benign) accuracy of each method beside the paper's supervised and SimCLR cells."""
    printed = {(r.dataset, r.method, r.metric): r.value for r in references("000")}
    names = result.scalars["datasets"]
    compared = ("Supervised", "SimCLR") if any(name in PAPER_NAMES for name in names) else ()
    rows = []
    for d, name in enumerate(names):
        for i, norm in enumerate(result.scalars["attacked"]):
            ours = [_effective_cell(result, m, d, scale, i) for m in range(len(result.scalars["methods"]))]
            paper = [_paper_cell(printed, PAPER_NAMES.get(name, ""), m, norm) for m in compared]
            rows.append((f"`{name}`", NORMS[norm], *ours, *paper))
    methods = [figures.label(m) for m in result.scalars["methods"]]
    return table(("data set", "norm", *methods, *(f"paper: {m}" for m in compared)), rows)


def _effective_cell(result: Result, m: int, d: int, scale: int, norm: int) -> str:
    found = spread(result.arrays["effective"][m, :, d, scale, norm])
    benign = result.arrays["accuracy"][m, :, d, scale]
    converged = result.arrays["converged"][m, :, d, scale]
    return f"{found} ({spread(np.where(converged, benign, np.nan))})" if converged.any() else "did not converge"


def _paper_cell(printed: dict, dataset: str, method: str, norm: str) -> str:
    value = printed.get((dataset, method, f"effective_accuracy_{norm}"), math.nan)
    benign = printed.get((dataset, method, "benign_accuracy"), math.nan)
    return f"{value:.1f} ({benign:.1f})" if math.isfinite(value) else "–"


def paper_effective(norm: str) -> Markdown:
    """The paper's table 1 for one norm: effective (benign) accuracy, seven data sets by six encoders."""
    metric = f"effective_accuracy_{norm}"
    numbers = [r for r in references("000") if r.metric == metric]
    printed = {(r.dataset, r.method, r.metric): r.value for r in references("000")}
    methods, datasets = (list(dict.fromkeys(getattr(r, k) for r in numbers)) for k in ("method", "dataset"))
    rows = [(d, *(_paper_cell(printed, d, m, norm) for m in methods)) for d in datasets]
    return table((f"{NORMS[norm]}", *methods), rows)


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
                rows.append((SCALES[scale], figures.label(method), *numbers))
    head = ("features have", "encoder", "mean margin", "largest margin", f"norm-AUC up to {budget:g}")
    return table(head, rows)


def claims(result: Result, statements: dict[str, Claim]) -> Markdown:
    """Every claim with its statement, effect, interval and verdict."""
    rows = []
    for verdict in result.scalars["claims"]:
        claim = statements[verdict["claim"]]
        rows.append((claim.id, claim.statement, claim.effect, _effect(verdict), _verdict(verdict)))
    return table(("", "claim", "effect", "measured [95 % interval]", "verdict"), rows)


def claim_parts(result: Result, claim: str) -> Markdown:
    """The comparisons that a claim is made of, under both standardizations."""
    rows = []
    for part in result.scalars["claim_parts"]:
        if part["claim"] == claim:
            who = figures.label(part["method"]), part["of"].replace("linf", "l∞"), SCALES[part["scale"]]
            rows.append((*who, _effect(part), part["seeds"], part["verdict"]))
    return table(("method", "data set, norm", "features have", "effect [95 % interval]", "seeds", "verdict"), rows)


def comparisons(result: Result) -> Markdown:
    """The comparisons that the claims of a study are made of."""
    rows = []
    for part in result.scalars["claim_parts"]:
        rows.append((part["claim"], part["of"], _effect(part), part["verdict"], part["note"]))
    noted = any(row[-1] for row in rows)
    head = ("", "comparison", "effect [95 % interval]", "verdict", "")
    return table(head if noted else head[:-1], rows if noted else (row[:-1] for row in rows))


def _effect(verdict: dict) -> str:
    if not math.isfinite(verdict["effect"]):
        return "–"
    interval = f" [{verdict['low']:.3f}, {verdict['high']:.3f}]" if math.isfinite(verdict["low"]) else ""
    return f"{verdict['effect']:.3f}{interval}"


def _verdict(verdict: dict) -> str:
    note = f" ({verdict['note']})" if verdict["note"] else ""
    return f"**{verdict['verdict']}**{note}"


def _lengths(parameters: dict) -> list[tuple[str, object]]:
    """Every number of epochs or steps among a study's parameters."""
    rows = []
    for name, value in parameters.items():
        if name.endswith(("epochs", "steps")):
            values = value if isinstance(value, list | tuple) else [value]
            text = ", ".join(f"{v:,}" for v in values if v is not None) or "each objective its own, as listed above"
            rows.append((name.replace("_", " "), text))
    return rows


def provenance(result: Result) -> Markdown:
    """Where a result comes from: scale, command, commit, versions, hardware, time."""
    p, hardware = result.provenance, result.provenance["hardware"]
    source = result.scalars["pretraining"]
    machine = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in hardware.items())
    rows = [
        ("profile", f"`{result.parameters['profile']}`"),
        ("encoders", "ResNet-{depth}, width {width}, {stem} stem".format(**{"stem": "cifar"} | result.parameters)),
        ("pretrained on", f"{source['images']:,} images of `{source['dataset']}`"),
        *_lengths(result.parameters),
        ("seeds", len(result.scalars["seeds"])),
        ("encoders trained in this run", f"{source['trained']}; the others came from the cache"),
        ("date", p["date"]),
        ("code", f"commit `{p['commit']}`"),
        ("versions", ", ".join(f"{name} {version}" for name, version in p["versions"].items())),
        ("machine", machine),
        ("seconds per step", ", ".join(f"{name} {seconds:.0f}" for name, seconds in p["seconds"].items())),
    ]
    return table(("", ""), rows)


def _say(name: str, text: str) -> None:
    glue(name, Markdown(text), display=False)


def glue_claims(result: Result) -> None:
    """Make every claim's numbers available to the prose: ``S1_verdict`` and ``S1_words`` (effect and interval)."""
    for verdict in result.scalars["claims"]:
        words = f"{verdict['effect']:.3f}" if math.isfinite(verdict["effect"]) else "not measured"
        words += f" ({verdict['low']:.3f} to {verdict['high']:.3f})" if math.isfinite(verdict["low"]) else ""
        _say(f"{verdict['claim']}_verdict", verdict["verdict"])
        _say(f"{verdict['claim']}_words", words)


def glue_headlines(result: Result) -> None:
    """Make the study's headline numbers available to the prose, each a mean over seeds on the first data set."""
    methods = result.scalars["methods"]
    for method in methods:
        m = methods.index(method)
        converged = result.arrays["converged"][m, :, 0, 0]
        accuracy = np.where(converged, result.arrays["accuracy"][m, :, 0, 0], np.nan)
        _say(f"{method}_accuracy", spread(accuracy) + " %")
        _say(f"{method}_knn", spread(result.arrays["knn"][m, :, 0]) + " %")
        for i, norm in enumerate(result.scalars["norms"]):
            means = result.arrays["mean_margin"][m, :, 0, 0, i]
            means = means[np.isfinite(means)]
            _say(f"{method}_margin_{norm}", f"{means.mean():.3f}" if len(means) else "not measured")
    apart = np.abs(result.arrays["pgd"] - result.arrays["exact_at_dots"])[:, :, 0]
    gap = apart[np.isfinite(apart)].max(initial=0)
    below = int((result.arrays["pgd"] < result.arrays["exact_at_dots"] - 1e-6).sum())
    _say("pgd_gap", f"{100 * gap:.1f}")
    _say("pgd_below", str(below))
    _say("pgd_cells", str(int(np.isfinite(result.arrays["pgd"]).sum())))
    _say("seeds", str(len(result.scalars["seeds"])))
    _say("test_images", f"{result.scalars['test_images'][0]:,}")
    _say("first_dataset", f"`{result.scalars['datasets'][0]}`")
    effective, benign = (reference("000", "ImageNet", "Supervised", m) for m in PAPER_HEADLINE)
    _say("paper_effective", f"{effective:.1f}")
    _say("paper_benign", f"{benign:.1f}")
    _say("paper_norm_auc", f"{effective / benign:.2f}")
