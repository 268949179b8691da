"""Tables of the study of contrastive geometry: a Result in, Markdown out."""

import math

import numpy as np
from IPython.display import Markdown

from sslnb.core.flat import Result
from sslnb.core.labels import label
from sslnb.core.papers import reference
from sslnb.report.tables import spread, table
from sslnb.studies.contrastive_geometry.claims import area
from sslnb.studies.contrastive_geometry.figures import SPLIT_LABELS, all_methods, of_method

PAPER = "cowlagi2022contrast"
PAPER_METHODS = {"simclr": "SimCLR", "supcon": "SupCon", "supervised": "SupCE"}


def spectra(result: Result) -> Markdown:
    """The greatest eigenvalues of every embedding, as shares of the sum of their sizes, with signs."""
    rows = []
    names = [(f"task {t + 1}, {SPLIT_LABELS[s]}", f"{s}/{t}") for t in range(len(result.scalars["tasks"])) for s in
             result.scalars["splits"]]  # fmt: skip
    names += [(f"all tasks, {SPLIT_LABELS[split]}", f"{split}/joint") for split in result.scalars["splits"]]
    for text, key in names:
        values = result.arrays[f"eigenvalues/{key}"]
        shares = 100 * values / np.abs(values).sum()
        rows.append((text, *(f"{share:+.1f}" for share in shares[:5]), int((values < 0).sum())))
    return table(("embedding", "1st, %", "2nd, %", "3rd, %", "4th, %", "5th, %", f"negative of {len(values)}"), rows)


def flat(result: Result) -> Markdown:
    """Flatness around the end of fine-tuning on the last task: means over seeds."""
    names = result.scalars["flatness"]
    rows = []
    for method in all_methods(result):
        values = result.arrays["flatness"][of_method(result, method)]
        cells = [_plain(values[:, names.index(k)]) for k in ("loss", "rise", "sharpness", "eigenvalue", "trace")]
        settled = values[:, names.index("residual")] <= 0.1 * np.abs(values[:, names.index("eigenvalue")])
        rows.append((label(method), *cells, f"{settled.sum()} of {len(settled)}"))
    head = ("method", "loss", "rise", "sharpness", "eigenvalue", "trace", "within 10 %")
    return table(head, rows)


def gaps(result: Result) -> Markdown:
    """How many points of the surfaces have no finite loss."""
    counts = dict(zip(result.scalars["methods"], result.scalars["gaps"], strict=True))
    if not any(counts.values()):
        return Markdown(f"The loss was finite at all {result.arrays['surfaces'][0].size:,} points of each surface.")
    words = ", ".join(f"{label(method)} {count:,}" for method, count in counts.items())
    return Markdown(f"Points without a finite loss, of {result.arrays['surfaces'][0].size:,}: {words}.")


def _plain(values: np.ndarray) -> str:
    """Mean over runs with the sample deviation, in three digits and one; large numbers in whole ones."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    mean, deviation = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan
    large = abs(mean) >= 100
    text = f"{mean:,.0f}" if large else f"{mean:.3g}"
    if math.isfinite(deviation):
        text += f"\u00a0±\u00a0{deviation:,.0f}" if large else f"\u00a0±\u00a0{deviation:.1g}"
    return text


def _numbered(result: Result, *before: str, unit: str = "") -> tuple[str, ...]:
    """The head of a table with a column for each task."""
    return (*before, *(f"task {t + 1}{unit}" for t in range(len(result.scalars["tasks"]))))


def accuracies(result: Result) -> Markdown:
    """The paper's table 1: accuracy at the end of fine-tuning on each task, the paper's in brackets.

    Of the objectives that are not compared with all seeds, validation images only.
    """
    rows = []
    for method in all_methods(result):
        runs = of_method(result, method)
        for i, split in reversed(list(enumerate(result.scalars["splits"]))):
            if split == "validation" or method in result.scalars["methods"]:
                cells = [spread(result.arrays["accuracy"][i, runs, t, -1]) for t in range(len(result.scalars["tasks"]))]
                if split == "validation":
                    cells = [cell + _printed(result, t, method) for t, cell in enumerate(cells)]
                rows.append((label(method), split, *cells))
    paper = " (paper)" if result.parameters["target"] == "cifar100" else ""
    return table(_numbered(result, "method", "images", unit=f", %{paper}"), rows)


def _printed(result: Result, t: int, method: str) -> str:
    """The paper's accuracy of a method on a task, in brackets, where it has one."""
    name = f"CIFAR-100 [{','.join(map(str, result.scalars['tasks'][t]))}]"
    known = result.parameters["target"] == "cifar100"
    value = reference(PAPER, name, PAPER_METHODS.get(method, ""), "validation_top1") if known else math.nan
    return f" ({value:.1f})" if math.isfinite(value) else ""


def tasks(result: Result) -> Markdown:
    """The classes of every task."""
    names = result.scalars["task_classes"]
    rows = [
        (t + 1, ", ".join(map(str, c)), ", ".join(n))
        for t, (c, n) in enumerate(zip(result.scalars["tasks"], names, strict=True))
    ]
    train, validation = result.scalars["task_images"]
    return table(
        ("task", "classes", f"names ({train:,} training, {validation:,} validation images in the first)"), rows
    )


def ends(result: Result) -> Markdown:
    """Progress at the end of fine-tuning, by task: square roots on validation and training images; the slip.

    Of the objectives that are not compared with all seeds, the first of these.
    """
    rows = []
    kinds = (
        ("√p, validation", "progress", 1),
        ("√p, training", "progress", 0),
        ("raw p, validation", "raw_progress", 1),
    )
    for method in all_methods(result):
        runs = of_method(result, method)
        for name, key, split in kinds if method in result.scalars["methods"] else kinds[:1]:
            cells = [_plain(result.arrays[key][split, runs, t, -1]) for t in range(len(result.scalars["tasks"]))]
            rows.append((label(method), name, *cells))
    return table(_numbered(result, "method", "$t_w$ by"), rows)


def areas(result: Result) -> Markdown:
    """Mean accuracy over the budgets of every attack, by task.

    Of the objectives that are not compared with all seeds, FGSM and PGD on validation images.
    """
    a = result.arrays
    kinds = (
        ("FGSM", a["fgsm"][1], "budgets"),
        ("PGD", a["pgd"], "pgd_budgets"),
        ("FGSM on training images", a["fgsm"][0], "budgets"),
        ("FGSM, normalised", a["fgsm_normalised"], "budgets"),
    )
    rows = []
    for method in all_methods(result):
        runs = of_method(result, method)
        for text, values, budgets in kinds if method in result.scalars["methods"] else kinds[:2]:
            under = area(values[runs], result.scalars[budgets])
            rows.append((label(method), text, *(spread(under[:, t]) for t in range(under.shape[1]))))
    return table(_numbered(result, "method", "attack", unit=", %"), rows)


def distances_between_runs(result: Result) -> Markdown:
    """Mean Bhattacharyya distance between runs at equal epochs, over tasks: other seeds, other methods."""
    distances = result.arrays["apart"].mean(1)  # over tasks, [split,R,R]
    methods = [m for m in result.scalars["methods"] if of_method(result, m)]
    rows = []
    for method in methods:
        own = of_method(result, method)
        for i, split in enumerate(result.scalars["splits"]):
            cells = []
            for other in methods:
                pairs = [distances[i, r, q] for r in own for q in of_method(result, other) if r != q]
                cells.append(f"{np.mean(pairs):.4f}" if pairs else "–")
            rows.append((label(method), SPLIT_LABELS[split], *cells))
    return table(("distance of", "on", *(f"to {label(m)}" for m in methods)), rows)


def scale(result: Result) -> Markdown:
    """How large the samples behind the page's numbers are."""
    s = result.scalars
    text = (
        f"Models are compared over {s['compared_images']:,} images of each task, surfaces and curvatures are over "
        f"{s['surface_images']:,} training images, attacks over {s['attacked_images']:,}, "
        f"with {len(s['seeds'])} seeds."
    )
    if s["reasons"]:
        text += " Left out: " + "; ".join(f"{name} ({why})" for name, why in s["reasons"].items()) + "."
    return Markdown(text)


def units(result: Result) -> Markdown:
    """What the largest budget in normalised units is in pixels."""
    largest = result.scalars["budgets"][-1]
    pixels = largest * float(np.mean(result.scalars["std"]))
    return Markdown(f"A budget of {largest}/255 in normalised units is {pixels:.1f}/255 in pixels here.")
