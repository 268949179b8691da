"""Tables of the study of contrastive geometry: a Result in, Markdown out."""

import math
from collections.abc import Callable, Collection, Mapping

import numpy as np
import xarray as xr
from IPython.display import Markdown

from sslnb.core.labels import label
from sslnb.core.papers import reference
from sslnb.core.result import Result
from sslnb.report.tables import interval, references_first, say, spread, table
from sslnb.studies.contrastive_geometry.claims import PAPER, area
from sslnb.studies.contrastive_geometry.figures import SPLIT_LABELS, all_methods, compared_methods, of_method
from sslnb.studies.contrastive_geometry.findings import (
    apart,
    decided_by_task,
    in_plane,
    means,
    slips,
    within_and_between,
)

SHARES = ("accuracy", "standardized_accuracy", "fgsm", "pgd")  # numbers of the text that are shares
QUOTED = (  # rank correlations of the text
    ("accuracy", "progress"),
    ("accuracy", "rise"),
    ("accuracy", "robustness"),
    ("progress", "robustness"),
    ("eigenvalue", "trace"),
)
PAPER_METHODS = {"simclr": "SimCLR", "supcon": "SupCon", "supervised": "SupCE"}


def spectra(result: Result) -> Markdown:
    """The greatest eigenvalues of every embedding, as shares of the sum of their sizes, with signs."""
    data, rows = result.data["embeddings"], []
    names = [f"task {t + 1}" for t in range(data.sizes["task"])] + ["all tasks"]
    for k, name in enumerate(names):
        for i, split in enumerate(data.split.values):
            values = data.eigenvalue.isel(split=i, of=k).values
            values = values[np.isfinite(values)]
            shares = [f"{100 * value / np.abs(values).sum():+.1f}" for value in values[:5]]
            shares += ["–"] * (5 - len(shares))
            rows.append((f"{name}, {SPLIT_LABELS[split]}", *shares, f"{(values < 0).sum()} of {len(values)}"))
    return table(
        ("embedding", "1st, %", "2nd, %", "3rd, %", "4th, %", "5th, %", "negative"),
        rows,
        "Greatest eigenvalues of every embedding, as signed shares of the sum of their sizes.",
    )


def flat(result: Result) -> Markdown:
    """Flatness around the end of fine-tuning on the last task: means over seeds."""
    data, rows = result.data["flat"], []
    for method in references_first(all_methods(result)):
        values = {name: of_method(data[name], method) for name in data.data_vars}
        cells = [_plain(values[name]) for name in ("loss", "rise", "sharpness", "eigenvalue", "trace")]
        settled = values["residual"] <= 0.1 * np.abs(values["eigenvalue"])
        rows.append((label(method), *cells, f"{settled.sum()} of {len(settled)}"))
    head = ("method", "loss", "rise", "sharpness", "eigenvalue", "trace", "within 10 %")
    return table(head, rows, "Flatness at the end of fine-tuning on the last task, means over seeds.")


def gaps(result: Result) -> Markdown:
    """How many points of the surfaces have no finite loss."""
    data = result.data["surfaces"]
    points = data.sizes["alpha"] * data.sizes["beta"]
    if not data.gaps.any():
        return Markdown(f"The loss was finite at all {points:,} points of each surface.")
    words = ", ".join(f"{label(m)} {count:,}" for m, count in zip(data.objective.values, data.gaps.values, strict=True))
    return Markdown(f"Points without a finite loss, of {points:,}: {words}.")


def _plain(values: np.ndarray) -> str:
    """Mean over runs with the sample deviation, in three digits and one; large numbers in whole ones."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    mean, deviation = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan
    text = f"{mean:,.0f}" if abs(mean) >= 100 else f"{mean:.3g}"
    if math.isfinite(deviation):
        text += "\u00a0±\u00a0" + (f"{deviation:,.0f}" if abs(mean) >= 100 or deviation >= 9.5 else f"{deviation:.1g}")
    return text


def _numbered(result: Result, *before: str, unit: str = "") -> tuple[str, ...]:
    """The head of a table with a column for each task."""
    return (*before, *(f"task {t + 1}{unit}" for t in range(result.data["fine_tuning"].sizes["task"])))


def _by_task(values: xr.DataArray, method: str, cell: object = spread) -> list[str]:
    """A cell for each task, over the runs of a method, of values over runs and tasks."""
    return [cell(of_method(values.isel(task=t), method)) for t in range(values.sizes["task"])]


def _kinds(
    result: Result, kinds: Mapping[str, xr.DataArray], of_all: Collection[str], cell: Callable[[np.ndarray], str]
) -> list[tuple[str, str, list[str]]]:
    """Method, kind of number and a cell for each task: one kind after the other, of all methods or of some."""
    return [
        (method, kind, _by_task(values, method, cell))
        for kind, values in kinds.items()
        for method in (references_first(all_methods(result)) if kind in of_all else compared_methods(result))
        if values.notnull().any()
    ]


def accuracies(result: Result) -> Markdown:
    """The paper's table 1: accuracy at the end of fine-tuning on each task, the paper's in brackets.

    On training images of the objectives alone whose single runs are shown.
    """
    data = result.data["fine_tuning"]
    printed = result.facts["parameters"]["target"] == "cifar100"
    end, names = data.accuracy.isel(epoch=-1), ("validation", "validation, standardized", "train")
    values = end.sel(split="validation"), data.standardized_accuracy, end.sel(split="train")
    rows = []
    for method, kind, cells in _kinds(result, dict(zip(names, values, strict=True)), names[:2], spread):
        if printed and kind == "validation":
            cells = [cell + _printed(name, method) for cell, name in zip(cells, data.task.values, strict=True)]
        rows.append((label(method), kind, *cells))
    return table(
        _numbered(result, "method", "images", unit=f", %{' (paper)' if printed else ''}"),
        rows,
        f"Accuracy at the end of fine-tuning, by task{', the paper’s in brackets' if printed else ''}.",
    )


def _printed(task: str, method: str) -> str:
    """The paper's accuracy of a method on a task of CIFAR-100, in brackets, where it has one."""
    name = f"CIFAR-100 [{task.replace(' ', ',')}]"
    value = reference(PAPER, name, PAPER_METHODS.get(method, ""), "validation_top1")
    return f" ({value:.1f})" if math.isfinite(value) else ""


def tasks(result: Result) -> Markdown:
    """The classes of every task."""
    data = result.data["fine_tuning"]
    rows = [
        (t + 1, name.replace(" ", ", "), ", ".join(data.class_name.values[t]))
        for t, name in enumerate(data.task.values)
    ]
    images = f"{int(data.train_images[0]):,} training, {int(data.validation_images[0]):,} validation images"
    return table(("task", "classes", f"names ({images} in the first)"), rows, "The classes of every task.")


def ends(result: Result) -> Markdown:
    """Progress at the end of fine-tuning, by task: square roots on validation and training images; the slip.

    Of the objectives whose single runs are not shown, the first of these.
    """
    data = result.data["trajectories"]
    end = data.isel(epoch=-1)
    kinds = {
        "√p, validation": end.progress.sel(split="validation"),
        "√p, training": end.progress.sel(split="train"),
        "raw p, validation": end.raw_progress.sel(split="validation"),
        "√p, validation, standardized features": data.standardized_progress,
    }
    rows = [(label(method), kind, *cells) for method, kind, cells in _kinds(result, kinds, [*kinds][:1], _plain)]
    return table(_numbered(result, "method", "$t_w$ by"), rows, "Progress at the end of fine-tuning, by task.")


def areas(result: Result) -> Markdown:
    """Mean accuracy over the budgets of every attack, by task.

    Of the objectives whose single runs are not shown, FGSM and PGD on validation images.
    """
    data = result.data["robustness"]
    kinds = {
        "FGSM": area(data.fgsm.sel(split="validation")),
        "PGD": area(data.pgd, "pgd_budget"),
        "FGSM on training images": area(data.fgsm.sel(split="train")),
        "FGSM, normalised": area(data.fgsm_normalised),
    }
    rows = [(label(method), kind, *cells) for method, kind, cells in _kinds(result, kinds, [*kinds][:2], spread)]
    return table(
        _numbered(result, "method", "attack", unit=", %"),
        rows,
        "Mean accuracy over the budgets of every attack, by task.",
    )


def distances_between_runs(result: Result) -> Markdown:
    """Mean Bhattacharyya distance between runs of different seeds at equal epochs, over tasks."""
    distances, methods, rows = apart(result), compared_methods(result), []
    for method in methods:
        for split in distances.split.values:
            found = distances.sel(split=split, objective=method, objective_b=methods).values
            cells = (f"{value:.4f}" if math.isfinite(value) else "–" for value in found)
            rows.append((label(method), SPLIT_LABELS[split], *cells))
    return table(
        ("distance of", "on", *(f"to {label(m)}" for m in methods)),
        rows,
        "Mean distance between runs of different seeds after equally many epochs, over tasks.",
    )


def glue_headlines(result: Result) -> None:
    """Make means over seeds and tasks available to the prose, such as ``simclr_progress`` and ``pixels_fgsm``."""
    found = means(result)
    for method in found.objective.values:
        for name, value in found.sel(objective=method).items():
            share = name in SHARES
            number = 100 * float(value) if share else float(value)
            say(f"{method}_{name}", f"{number:.1f} %" if share else f"{number:.2f}")
    for name, distance in zip(("within_paths", "between_paths"), within_and_between(result), strict=True):
        say(name, f"{distance:.3f}")
    for name, value in slips(result).items():
        say(f"slip_{name}", f"{value:.2f}")
    say("eigenvalues", str(result.data["embeddings"].sizes["rank"]))
    for name, share in (("in_plane", in_plane(result)), ("decided_by_task", decided_by_task(result))):
        say(name, f"{100 * share:.0f} %")
    together = result.data["relations"].correlation.transpose("quantity", "quantity_b", "bound")
    for a, b in QUOTED:
        say(f"{a}_{b}", interval(*together.sel(quantity=a, quantity_b=b).values, ".2f"))


def scale(result: Result) -> Markdown:
    """How large the samples behind the page's numbers are."""
    attrs = result.data["fine_tuning"].attrs
    return Markdown(
        f"Models are compared over {attrs['compared_images']:,} images of each task, surfaces and curvatures are over "
        f"{attrs['surface_images']:,} training images, attacks over {attrs['attacked_images']:,}."
    )


def units(result: Result) -> Markdown:
    """What the largest budget in normalised units is in pixels."""
    data = result.data["robustness"]
    largest = int(data.budget.max())
    pixels = largest * float(data["std"].mean())
    return Markdown(f"A budget of {largest}/255 in normalised units is {pixels:.1f}/255 in pixels here.")
