"""Figures of the study of SimCLR and RotNet: a Result in, a matplotlib Figure out."""

import itertools
from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from sslnb.core.labels import label
from sslnb.core.result import Result
from sslnb.report import lines, styles
from sslnb.report.panels import COLOURS, MARKERS, legend, mean_spread, panels
from sslnb.report.tables import set_label
from sslnb.studies.simclr_rotnet.claims import at_images, seen_by_all

ATTACK_LABELS = {"fgsm": "FGSM", "pgd": "PGD"}
REFERENCE_LABELS = {"pixels": "raw pixels", "untrained": "random weights", "encoder": "given encoder"}
REFERENCE_STYLES = {"pixels": "--", "untrained": ":", "encoder": "-."}
SHADES = (0.1, 0.65)  # of the colour map: neither end is lost on a light page or on a dark one


def begun_label(name: str) -> str:
    """What fine-tuning began from: here the supervised baseline has had no training before."""
    return "random weights" if name == "supervised" else label(name)


def top1(values: xr.DataArray) -> xr.DataArray:
    """Accuracies out of scores."""
    return values.sel(score="top1", drop=True)


def _band(ax: Axes, x: object, values: xr.DataArray, colour: str, marker: str, text: str, *, style: str = "-") -> None:
    """Mean over seeds of values over seeds and one more dimension in percent, and their range."""
    lines.band(ax, x, 100 * values.transpose("seed", ...).values, colour, text, marker=marker, style=style)


def _look(method: str) -> tuple[str, str]:
    """Colour and marker of a method."""
    return styles.colour(method), styles.marker(method)


def _doublings(ax: Axes, values: np.ndarray, name: str) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks(values, [f"{v:,}" for v in values])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(name)


def linear_over_steps(result: Result) -> Figure:
    """Linear accuracy against steps of pretraining: a panel per objective, a line per batch size."""
    accuracy = top1(result.data["linear"].accuracy)
    shades = colormaps["viridis"](np.linspace(*SHADES, accuracy.sizes["batch"]))  # the larger the batch, the lighter
    figure, axes = panels(accuracy.sizes["objective"], height=3.0, sharey=True)
    for ax, name in zip(axes[0], accuracy.objective.values, strict=True):
        for b, size in enumerate(accuracy.batch.values):
            own = accuracy.sel(objective=name, batch=size)
            _band(ax, accuracy.step.values, own, shades[b], MARKERS[b], f"batch of {size}")
        ax.set_title(label(name), fontsize=10)
        _doublings(ax, accuracy.step.values, "steps of pretraining")
    _references(axes[0], result.data["linear"].references)
    axes[0, 0].set_ylabel("linear accuracy in %")
    legend(figure, axes[0, 0], 3)
    return figure


def _references(axes: Iterable[Axes], references: xr.DataArray) -> None:
    values = top1(references).dropna("reference", how="all")
    for name in values.reference.values:
        level = 100 * mean_spread(values.sel(reference=name).values)[0]
        for ax in axes:
            style = {"color": "0.45", "linestyle": REFERENCE_STYLES[name], "linewidth": 1}
            ax.axhline(level, label=REFERENCE_LABELS[name], **style)


def linear_over_batches(result: Result) -> Figure:
    """Linear accuracy against the batch size, beside references: after equally many steps, and equally many images.

    These are as many as the smallest batch has seen in the end; between steps accuracy is interpolated over their
    logarithm.
    """
    accuracy = top1(result.data["linear"].accuracy)
    images = seen_by_all(accuracy)
    compared = {f"after {int(accuracy.step[-1]):,} steps": accuracy.isel(step=-1)}
    compared[f"after {images:,} images"] = at_images(accuracy, images)
    figure, axes = panels(len(compared), height=3.0, sharey=True)
    for ax, (title, values) in zip(axes[0], compared.items(), strict=True):
        for name in values.objective.values:
            _band(ax, values.batch.values, values.sel(objective=name), *_look(name), label(name))
        ax.set_title(title, fontsize=10)
        _doublings(ax, values.batch.values, "batch size")
    _references(axes[0], result.data["linear"].references)
    axes[0, 0].set_ylabel("linear accuracy in %")
    legend(figure, axes[0, 0], 4)
    return figure


def attacks(result: Result) -> Figure:
    """Accuracy against the budget in pixels: FGSM above PGD, a column for each fraction, a line for each beginning."""
    data = result.data["attack"].sel(unit="pixel")
    kinds, shares = data.attack.values, data.fraction.values
    figure, axes = panels(len(shares), len(kinds), height=2.4, sharex=True, sharey=True)
    for a, f in itertools.product(range(len(kinds)), range(len(shares))):
        ax = axes[a, f]
        for method in data.begun.values:
            values = data.accuracy.sel(attack=kinds[a], begun=method, fraction=shares[f])
            _band(ax, 255 * data.eps.values, values, *_look(method), begun_label(method))
        ax.axhline(100 / len(data.attrs["classes"]), label="chance", color="0.45", linestyle=":", linewidth=1)
        ax.set_title(f"{ATTACK_LABELS[kinds[a]]}, {100 * shares[f]:g} % of the labels", fontsize=10)
    axes[0, 0].set_ylim(bottom=0)  # of all panels, now that all have their lines
    for ax in axes[-1]:
        ax.set_xlabel("budget in 1/255")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy in %")
    legend(figure, axes[0, 0], 4)
    return figure


def transfer(result: Result) -> Figure:
    """Accuracy on the other data set against steps of pretraining, both ways, and against the batch size."""
    data = result.data["transfer"]
    over_steps, over_batches = top1(data.over_steps), top1(data.over_batches)
    figure, axes = panels(3, height=3.0, sharey=True)
    ends = [set_label(data.attrs[end]) for end in ("source", "target")]
    titles = [" → ".join(pair) for pair in (ends, ends[::-1])]
    for ax, way, title in zip(axes[0], data.way.values, titles, strict=False):
        for method in data.begun.values:
            values = over_steps.sel(way=way, begun=method)
            _band(ax, data.step.values, values, *_look(method), label(method))
        ax.set_title(title, fontsize=10)
        _doublings(ax, data.step.values, "steps of pretraining")
        ax.tick_params(axis="x", labelsize=7, rotation=45)
    for i, side in enumerate(data.side.values):
        text = f"{label(data.begun.values[0])}, images of {side} px"
        values, look = over_batches.sel(side=side), (styles.colour("simclr"), MARKERS[3 + i])
        _band(axes[0, 2], data.batch.values, values, *look, text, style=("-", "--")[i % 2])
    axes[0, 2].set_title(titles[0], fontsize=10)
    _doublings(axes[0, 2], data.batch.values, "batch size")
    beaten = data.references.sel(side=data.side[0])
    for ax, values in zip(axes[0], (beaten, result.data["linear"].references, beaten), strict=True):
        _references([ax], values)
    axes[0, 0].set_ylabel("linear accuracy in %")
    known = {text: h for ax in axes[0] for h, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=3)
    return figure


def added(image: np.ndarray, example: np.ndarray, budget: float) -> np.ndarray:
    """What an attack added to a picture uint8 [C,H,W], enlarged to the full range [0, 1]; grey is nothing."""
    return (0.5 + (example.astype(float) - image) / 255 / (2 * max(budget, 1 / 255))).clip(0, 1)


def attack_example(
    image: np.ndarray, example: np.ndarray, believed: np.ndarray, true: int, classes: list[str], budget: float
) -> Figure:
    """An image, what the attack added (enlarged to the full range), the sum, and the classes believed before and after.

    ``image`` and ``example`` uint8 [C,H,W], ``believed`` [2,K] probabilities before and after, ``budget`` in pixels.
    """
    figure, axes = panels(4, height=2.1, gridspec_kw={"width_ratios": (1, 1, 1, 1.5)})
    for ax, picture, title in zip(
        axes[0],
        (image / 255, added(image, example, budget), example / 255),
        ("image", f"added, × {0.5 / max(budget, 1 / 255):.0f}", "attacked"),
        strict=False,
    ):
        ax.imshow(picture.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(title)
        ax.set_axis_off()
    bars, rows = axes[0, 3], np.arange(len(classes))
    for i, (name, colour) in enumerate((("image", COLOURS[0]), ("attacked", COLOURS[1]))):
        bars.barh(rows + 0.2 * (2 * i - 1), 100 * believed[i], height=0.4, color=colour, label=name)
    bars.set_yticks(rows, [f"{c} (true)" if k == true else c for k, c in enumerate(classes)], fontsize=7)
    bars.invert_yaxis()
    bars.set_xlim(0, 100)
    bars.set_xlabel("probability in %", fontsize=8)
    bars.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure
