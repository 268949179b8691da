"""Figures of the study of contrastive geometry: a Result in, a matplotlib Figure out."""

import math
from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sslnb.core.labels import label
from sslnb.core.result import Result
from sslnb.report import lines, styles
from sslnb.report.panels import COLOURS, PAGE, annotated, legend, panels, sentence
from sslnb.studies.contrastive_geometry.claims import area
from sslnb.studies.contrastive_geometry.findings import ends

SPLIT_LABELS = {"train": "training images", "validation": "validation images"}
QUANTITY_LABELS = {
    "accuracy": "accuracy",
    "progress": "progress $t_w$",
    "margin": "margin",
    "robustness": "robustness (FGSM)",
    "rise": "rise of the loss",
    "eigenvalue": "top eigenvalue",
    "trace": "trace",
}
POINTS = (("ignorance", "s", "0.4"), ("truth", "*", "black"))  # behind the models of every embedding


def all_methods(result: Result) -> list[str]:
    """Every method that has a run, in the order of the runs."""
    return list(dict.fromkeys(result.data["fine_tuning"].objective.values))


def compared_methods(result: Result) -> list[str]:
    """Methods whose single runs are shown, of those that have any."""
    return [name for name in result.data["fine_tuning"].attrs["compared"] if name in all_methods(result)]


def task_names(result: Result) -> list[str]:
    """Tasks with their classes."""
    return [f"task {t + 1}: {name.replace(' ', ', ')}" for t, name in enumerate(result.data["fine_tuning"].task.values)]


def of_method(values: xr.DataArray, method: str) -> np.ndarray:
    """The runs of a method, of values over runs, with the run as the first dimension."""
    return values.transpose("run", ...).values[values.objective.values == method]


def _bands(ax: Axes, result: Result, x: object, values: xr.DataArray, scale: float = 1.0) -> None:
    """Mean and range over seeds of values over runs and one more dimension, a line per compared method."""
    for method in compared_methods(result):
        lines.band(ax, x, scale * of_method(values, method), styles.colour(method), label(method))


def progress(result: Result) -> Figure:
    """Progress towards the truth over the epochs of fine-tuning: tasks by training and validation images."""
    data, names = result.data["trajectories"], task_names(result)
    figure, axes = panels(len(names), data.sizes["split"], height=2.1, sharex=True, sharey=True)
    for i, split in enumerate(data.split.values):
        for t, name in enumerate(names):
            _bands(axes[i, t], result, np.arange(data.sizes["epoch"]), data.progress.isel(split=i, task=t))
            axes[0, t].set_title(name.replace(": ", "\n"), fontsize=8)
            axes[-1, t].set_xlabel("epoch")
        axes[i, 0].set_ylabel(f"$t_w$, {SPLIT_LABELS[split]}", fontsize=8)
        lines.named(axes[i, -1])
    return figure


def progress_against_accuracy(result: Result) -> Figure:
    """Progress against accuracy of all validation models, with square roots and with raw probabilities."""
    figure, axes = panels(1, height=3.0)
    accuracy = 100 * result.data["fine_tuning"].accuracy.sel(split="validation").values.reshape(-1)
    progressed = result.data["trajectories"].sel(split="validation")
    for name, text, colour in (
        ("raw_progress", "raw $p$ (the slip)", COLOURS[1]),
        ("progress", "$\\sqrt{p}$", COLOURS[0]),
    ):
        axes[0, 0].plot(accuracy, progressed[name].values.reshape(-1), ".", color=colour, markersize=2.5, label=text)
    axes[0, 0].set_xlabel("validation accuracy in %")
    axes[0, 0].set_ylabel("$t_w$")
    axes[0, 0].legend(markerscale=4)
    return figure


def _trace(ax: Axes, result: Result, coordinates: np.ndarray, tasks: int = 1) -> None:
    """Trajectories of the compared methods' runs in two dimensions, in the order run, task, epoch."""
    epochs, methods = result.data["fine_tuning"].sizes["epoch"], result.data["embeddings"].objective.values
    paths = coordinates[:-2].reshape(len(methods), tasks, epochs, -1)
    for method in compared_methods(result):
        colour = styles.colour(method)
        for path in paths[methods == method].reshape(-1, epochs, coordinates.shape[1]):
            ax.plot(path[:, 0], path[:, 1], "-", color=colour, linewidth=0.8, alpha=0.8)
            ax.plot(path[-1, 0], path[-1, 1], ".", color=colour, markersize=5)
    for point, (name, marker, colour) in zip(coordinates[-2:], POINTS, strict=True):
        ax.plot(point[0], point[1], marker, color=colour, markersize=8, linestyle="none", label=name)


def _methods_legend(figure: Figure, result: Result) -> None:
    handles = [Line2D([], [], color=styles.colour(m), label=label(m)) for m in compared_methods(result)]
    handles += [Line2D([], [], marker=m, color=c, linestyle="none", label=name) for name, m, c in POINTS]
    figure.legend(handles=handles, loc="outside upper center", ncols=5)


def embeddings(result: Result) -> Figure:
    """InPCA of every task's trajectories: training images above, validation images below."""
    data = result.data["embeddings"]
    figure, axes = panels(data.sizes["task"], data.sizes["split"], height=2.1)
    for i, split in enumerate(data.split.values):
        for t in range(data.sizes["task"]):
            _trace(axes[i, t], result, data.embedding.isel(split=i, task=t).values)
            axes[i, t].tick_params(labelsize=6)
            axes[0, t].set_title(f"task {t + 1}")
        axes[i, 0].set_ylabel(f"second component,\n{SPLIT_LABELS[split]}", fontsize=8)
    figure.supxlabel("first component")
    _methods_legend(figure, result)
    return figure


def joint(result: Result) -> Figure:
    """All tasks in one embedding, for each split, and the sizes of its greatest eigenvalues with their signs."""
    data = result.data["embeddings"]
    figure, axes = panels(data.sizes["split"], 2, height=2.6)
    for i, split in enumerate(data.split.values):
        _trace(axes[0, i], result, data.joint.isel(split=i).values, data.sizes["task"])
        axes[0, i].set_title(SPLIT_LABELS[split])
        axes[0, i].set_xlabel("first component")
        values = data.eigenvalue.isel(split=i, of=-1).values[:10]
        for sign, colour, text in ((1, COLOURS[0], "positive"), (-1, COLOURS[1], "negative")):
            of_sign = np.sign(values) == sign
            if of_sign.any():  # no legend for what is not there
                axes[1, i].bar(np.flatnonzero(of_sign) + 1, np.abs(values[of_sign]), color=colour, label=text)
        axes[1, i].set_xlabel("component")
    axes[0, 0].set_ylabel("second component")
    axes[1, 0].set_ylabel("size of the eigenvalue")
    axes[1, 1].legend(fontsize=8)
    _methods_legend(figure, result)
    return figure


# --- surfaces and robustness ------------------------------------------------------------------------------------------


def heights(result: Result) -> np.ndarray:
    """Logarithm to base 10 of the loss: a filter moved by its own length can raise the loss a thousandfold."""
    losses = result.data["surfaces"].loss.values
    return np.log10(np.where(losses > 0, losses, np.nan))


def _surfaces(result: Result) -> Iterator[tuple[str, np.ndarray]]:
    yield from zip(result.data["surfaces"].objective.values, heights(result), strict=True)


def contours(result: Result) -> Figure:
    """Contours of the loss around the fine-tuned weights; what is not finite stays white."""
    figure, axes = panels(result.data["surfaces"].sizes["objective"], height=2.7, sharey=True)
    at, values = result.data["surfaces"].alpha.values, heights(result)
    levels = np.linspace(np.nanmin(values), np.nanmax(values) + 1e-6, 17)  # also where all are equal
    for ax, (method, height) in zip(axes[0], _surfaces(result), strict=True):
        contour = ax.contourf(at, at, height.T, levels=levels, cmap="viridis")
        ax.contour(at, at, height.T, levels=levels, colors="white", linewidths=0.4)
        ax.plot(0, 0, "+", color="white", markersize=7)
        ax.set_title(label(method))
        ax.set_xlabel("first direction")
        ax.set_aspect("equal")
    axes[0, 0].set_ylabel("second direction")
    ticks = levels[::4]
    bar = figure.colorbar(contour, ax=axes, fraction=0.03, ticks=ticks)
    words = [np.format_float_positional(10**tick, precision=2, fractional=False, trim="-") for tick in ticks]
    bar.ax.set_yticklabels(words, fontsize=7)
    bar.set_label("loss")
    return figure


def reliefs(result: Result) -> Figure:
    """The same as surfaces in three dimensions, on one scale."""
    figure = Figure(figsize=(PAGE, 2.9), layout="constrained")
    for i, (method, height) in enumerate(_surfaces(result)):
        ax = figure.add_subplot(1, result.data["surfaces"].sizes["objective"], i + 1, projection="3d")
        relief(ax, result, height)
        ax.set_title(label(method))
    return figure


def relief(ax: Axes, result: Result, height: np.ndarray) -> None:
    """One surface on three-dimensional axes, its height logarithmic and common to all methods."""
    at, values = result.data["surfaces"].alpha.values, heights(result)
    low, high = float(np.nanmin(values)), float(np.nanmax(values)) + 1e-6
    x, y = np.meshgrid(at, at, indexing="ij")
    ax.plot_surface(x, y, height, cmap="viridis", vmin=low, vmax=high, rcount=60, ccount=60, linewidth=0)
    ticks = np.arange(math.ceil(low), math.floor(high) + 1)
    ax.set_zticks(ticks, [f"$10^{{{tick}}}$" for tick in ticks])
    ax.set_zlim(low, high)
    ax.set_xticks([-1, 0, 1])
    ax.set_yticks([-1, 0, 1])
    ax.tick_params(labelsize=6, pad=-2)
    ax.set_box_aspect((1, 1, 0.8), zoom=0.85)


def robustness(result: Result) -> Figure:
    """Accuracy against budget on every task, for the three attacks, on validation images."""
    data, names = result.data["robustness"], task_names(result)
    kinds = {
        "FGSM in pixels": data.fgsm.sel(split="validation"),
        "FGSM, normalised units,\nno bounds (paper's code)": data.fgsm_normalised,
        "PGD in pixels": data.pgd,
    }
    figure, axes = panels(len(names), len(kinds), height=1.9, sharex=True, sharey=True)
    for i, (text, values) in enumerate(kinds.items()):
        for t, name in enumerate(names):
            _bands(axes[i, t], result, values[values.dims[-1]].values, values.isel(task=t), 100)
            axes[0, t].set_title(name.replace(": ", "\n"), fontsize=8)
            axes[-1, t].set_xlabel("budget in 255ths", fontsize=8)
        axes[i, 0].set_ylabel(f"accuracy in %\n{text}", fontsize=7)
    axes[0, 0].set_ylim(bottom=0)
    legend(figure, axes[0, 0], 4)
    return figure


def along_pretraining(result: Result) -> Figure:
    """Trajectories of pretraining: progress on the pretraining set's classes, and their embedding."""
    data = result.data["along_pretraining"]
    if "ends" not in data:
        return sentence("The result is older than the way in which this is drawn.")
    figure, axes = panels(2, height=3.4)
    shown = lines.coloured(data.objective.values)
    for method in data.objective.values:
        own, look = data.sel(objective=method).dropna("step"), lines.OTHERS
        if method in shown:
            look = {"color": styles.colour(method), "marker": styles.marker(method), "markersize": 3, "linewidth": 1}
        axes[0, 0].plot(own.step, own.progress, label=label(method), **look)
        axes[0, 1].plot(own.embedding.isel(component=0), own.embedding.isel(component=1), **look)
    for point, (name, marker, colour) in zip(data.ends.values, POINTS, strict=True):
        axes[0, 1].plot(point[0], point[1], marker, color=colour, markersize=8, linestyle="none", label=name)
    axes[0, 1].legend(fontsize=8)
    axes[0, 0].set_xscale("symlog", linthresh=100)
    axes[0, 0].set_xlabel("steps of pretraining")
    axes[0, 0].set_ylabel("$t_w$")
    axes[0, 1].set_xlabel("first component")
    axes[0, 1].set_ylabel("second component")
    lines.named(axes[0, 0])
    return figure


def all_runs(result: Result) -> Figure:
    """Every run of every objective: progress and robustness against accuracy, means over tasks."""
    figure, axes = panels(2, height=3.4)
    accuracy = 100 * ends(result, "fine_tuning", "accuracy").mean("task")
    robust = 100 * area(result.data["robustness"].fgsm.sel(split="validation")).mean("task")
    for ax, values, text in (
        (axes[0, 0], ends(result, "trajectories", "progress").mean("task"), "progress $t_w$ at the end"),
        (axes[0, 1], robust, "mean accuracy under FGSM in %"),
    ):
        for method in all_methods(result):
            colour, marker = styles.colour(method), styles.marker(method)
            x, y = of_method(accuracy, method), of_method(values, method)
            ax.plot(x, y, marker, color=colour, markersize=5, label=label(method))
        ax.set_xlabel("validation accuracy in %")
        ax.set_ylabel(text)
    legend(figure, axes[0, 0], 5)
    return figure


def relations(result: Result) -> Figure:
    """Spearman's correlation of flatness, progress, margin and robustness across runs, with 95 % intervals."""
    data = result.data["relations"]
    names = [QUANTITY_LABELS[name] for name in data.quantity.values]
    value, low, high = data.correlation.values
    figure, axes = panels(1, height=4.6)
    ax = axes[0, 0]
    measured = np.isfinite(value) & ~np.eye(len(names), dtype=bool)
    texts = np.full(value.shape, "", object)
    for i, j in np.argwhere(measured):
        texts[i, j] = f"{value[i, j]:.2f}\n[{low[i, j]:.2f}, {high[i, j]:.2f}]"
    image = annotated(ax, value, texts, np.abs(value) > 0.6, size=6, vmin=-1, vmax=1, cmap="RdBu")
    ax.set_xticks(range(len(names)), names, rotation=30, ha="right")
    ax.set_yticks(range(len(names)), names)
    figure.colorbar(image, ax=ax, fraction=0.04).set_label("rank correlation")
    return figure
