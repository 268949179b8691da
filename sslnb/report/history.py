"""Curves of training runs."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sslnb.report.panels import COLOURS, PAGE


def training_history(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Loss per epoch, and on an axis of its own the accuracies that a monitor saw: one panel per run, by its name."""
    columns = min(4, len(histories))
    rows = math.ceil(len(histories) / columns)
    figure = Figure(figsize=(PAGE if columns > 1 else 0.7 * PAGE, 0.5 + 1.7 * rows), layout="constrained")
    for place, (name, history) in enumerate(histories.items()):
        ax = figure.add_subplot(rows, columns, place + 1)
        ax.spines["top"].set_visible(False)
        epochs = np.arange(1, len(history["loss"]) + 1)
        lines = ax.plot(epochs, history["loss"], color="0.45", linewidth=1.2, label="training loss, left")
        right = ax.twinx()
        right.spines["top"].set_visible(False)
        for what, text, colour in (("knn", "kNN", COLOURS[0]), ("probe", "linear", COLOURS[1])):
            values = 100 * np.asarray(history[what], float)
            measured = np.isfinite(values)
            lines += right.plot(
                epochs[measured], values[measured], color=colour, marker=".", label=f"{text} accuracy in %, right"
            )
        right.set(ylim=(0, 100), yticks=(0, 50, 100))
        if (place + 1) % columns and place + 1 < len(histories):
            right.set_yticklabels([])
        ax.set_title(name)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        ax.set_xlim(0.5, len(epochs) + 0.5)
        for side in (ax, right):
            side.tick_params(labelsize=7)
    figure.supxlabel("epoch")
    figure.legend(handles=lines, loc="outside upper center", ncols=3, fontsize=8)
    return figure
