"""Figures and tables of the study of SimCLR and RotNet: a Result in, a matplotlib Figure or Markdown out."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from sslnb.core.flat import Result
from sslnb.core.labels import brief, label
from sslnb.report.panels import COLOURS, MARKERS, legend, mean_spread, panels

ATTACK_LABELS = {"fgsm": "FGSM", "pgd": "PGD"}
UNIT_LABELS = {"normalised": "normalised units", "pixel": "255ths of the pixel range"}
REFERENCE_LABELS = {"pixels": "raw pixels", "random": "random weights", "encoder": "given encoder"}
STYLES = ("-", "--", ":", "-.")
METHODS = ("simclr", "rotnet", "supervised", "encoder")  # each has the same colour in every figure


def _band(ax: Axes, x: object, values: np.ndarray, colour: object, style: str, marker: str, text: str) -> None:
    """Mean over seeds of values [n,S] in percent, and their range."""
    mean, low, high = (100 * part for part in mean_spread(values.T))
    ax.plot(x, mean, style, color=colour, marker=marker, markersize=4, label=text)
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def _look(method: str, line: int = 0) -> tuple[str, str, str]:
    """Colour, line style and marker of a method."""
    m = METHODS.index(method)
    return COLOURS[m], STYLES[line % len(STYLES)], MARKERS[m]


def _doublings(ax: Axes, values: list[int], name: str) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks(values, [f"{v:,}" for v in values])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(name)


def linear_over_steps(result: Result) -> Figure:
    """Linear accuracy against steps of pretraining: a panel per objective, a line per batch size."""
    names, sizes, steps = (result.scalars[k] for k in ("objectives", "batch_sizes", "steps"))
    figure, axes = panels(len(names), height=3.0, sharey=True)
    for o, (ax, name) in enumerate(zip(axes[0], names, strict=True)):
        for b, size in enumerate(sizes):
            accuracy = result.arrays["linear"][o, b, :, :, 0]
            _band(ax, steps, accuracy, COLOURS[b], "-", MARKERS[b], f"batch of {size}")
        ax.set_title(label(name), fontsize=10)
        _doublings(ax, steps, "steps of pretraining")
    _references(axes[0], result)
    axes[0, 0].set_ylabel("linear accuracy in %")
    legend(figure, axes[0, 0], 4)
    return figure


def _references(axes: np.ndarray, result: Result) -> None:
    for r, name in enumerate(result.scalars["references"]):
        level = 100 * mean_spread(result.arrays["references"][r, :, 0])[0]
        for ax in axes:
            ax.axhline(level, color="0.45", linestyle=STYLES[r + 1], linewidth=1, label=REFERENCE_LABELS[name])


def linear_over_batches(result: Result) -> Figure:
    """Linear accuracy at the last step against the batch size, both objectives, beside references."""
    sizes = result.scalars["batch_sizes"]
    figure, axes = panels(1, height=3.0)
    for o, name in enumerate(result.scalars["objectives"]):
        accuracy = result.arrays["linear"][o, :, -1, :, 0]
        _band(axes[0, 0], sizes, accuracy, *_look(name), label(name))
    _references(axes[0], result)
    _doublings(axes[0, 0], sizes, f"batch size, after {result.scalars['steps'][-1]:,} steps")
    axes[0, 0].set_ylabel("linear accuracy in %")
    legend(figure, axes[0, 0], 4)
    return figure


def attacks(result: Result) -> Figure:
    """Accuracy against budget: FGSM and PGD by the report's units and pixels, a line per method and fraction."""
    kinds, units = result.scalars["attacks"], result.scalars["units"]
    figure, axes = panels(len(kinds), len(units), height=2.7, sharey=True)
    for u, unit in enumerate(units):
        x = result.arrays["budgets"][u] * (255 if unit == "pixel" else 1)
        for a, kind in enumerate(kinds):
            ax = axes[u, a]
            for m, method in enumerate(result.scalars["tuned"]):
                for f, fraction in enumerate(result.scalars["fractions"]):
                    text = f"{label(method)}, {100 * fraction:g} %"
                    values = result.arrays["robust"][a, u, m, f]
                    _band(ax, x, values, *_look(method, f), text)
            ax.set_title(ATTACK_LABELS[kind], fontsize=10)
            ax.set_xlabel(f"budget in {UNIT_LABELS[unit]}")
            ax.set_ylim(bottom=0)
        axes[u, 0].set_ylabel("accuracy in %")
    legend(figure, axes[0, 0], 3)
    return figure


def transfer(result: Result) -> Figure:
    """Accuracy on the other data set against steps of pretraining, both ways, and against the batch size."""
    steps, sizes = result.scalars["steps"], result.scalars["batch_sizes"]
    figure, axes = panels(3, height=3.0, sharey=True)
    source, target = result.scalars["pretraining"]["dataset"], result.scalars["target"]
    for way, title in enumerate((f"to {brief(target)}", f"back to {brief(source)}")):
        for m, method in enumerate(result.scalars["transferred"]):
            values = result.arrays["transfer_steps"][way, m, :, :, 0]
            _band(axes[0, way], steps, values, *_look(method), label(method))
        axes[0, way].set_title(title, fontsize=10)
        _doublings(axes[0, way], steps, "steps of pretraining")
        axes[0, way].tick_params(axis="x", labelsize=6)
    first = label(result.scalars["transferred"][0])
    for i, side in enumerate(result.scalars["sizes"]):
        values = result.arrays["transfer_batches"][i, :, :, 0]
        _band(axes[0, 2], sizes, values, COLOURS[3 + i], "-", MARKERS[3 + i], f"{first}, seen at {side} px")
    axes[0, 2].set_title(f"to {brief(target)}", fontsize=10)
    _doublings(axes[0, 2], sizes, "batch size")
    axes[0, 0].set_ylabel("linear accuracy in %")
    handles = [h for ax in (axes[0, 0], axes[0, 2]) for h in ax.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


def attack_example(
    image: np.ndarray, example: np.ndarray, believed: np.ndarray, true: int, classes: list[str], budget: float
) -> Figure:
    """An image, what the attack added (enlarged to the full range), the sum, and the classes believed before and after.

    ``image`` and ``found`` uint8 [C,H,W], ``believed`` [2,K] probabilities before and after, ``budget`` in pixels.
    """
    figure, axes = panels(4, height=2.1, gridspec_kw={"width_ratios": (1, 1, 1, 1.5)})
    added = (example.astype(float) - image) / 255
    perturbation = 0.5 + added / (2 * max(budget, 1 / 255))
    for ax, picture, title in zip(
        axes[0],
        (image / 255, perturbation.clip(0, 1), example / 255),
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
