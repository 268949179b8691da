"""Curves over an axis: a mean with its range, each objective in its look, five in colour at most."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from sslnb.core.labels import CONTROLS, label
from sslnb.report import styles
from sslnb.report.panels import beside, mean_spread

MOST = 5  # curves in colour in one panel
FIRST = ("encoder", "supervised", "simclr", "untrained")  # what a reader looks for
OTHERS = {"color": "0.7", "linewidth": 0.8, "zorder": 1}


def coloured(names: Iterable[str]) -> list[str]:
    """The names of at most five curves in colour: what a reader looks for, the others in their order, controls."""
    ranks = {name: i for i, name in enumerate(FIRST)} | {name: len(FIRST) + 1 for name in CONTROLS}
    return sorted(map(str, names), key=lambda name: ranks.get(name, len(FIRST)))[:MOST]


def band(
    ax: Axes,
    x: Sequence,
    values: np.ndarray,
    colour: str,
    text: str,
    *,
    marker: str = "",
    style: str = "-",
    markersize: float = 4,
) -> None:
    """Mean over the first axis of values [S,n], and their range; NaN is left out."""
    mean, low, high = mean_spread(np.asarray(values))
    ax.plot(x, mean, style, color=colour, marker=marker, markersize=markersize, linewidth=1.3, label=text)
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def other(ax: Axes) -> dict[str, object]:
    """The look of a curve that is not in colour; named once in a panel."""
    return OTHERS | {"label": None if "others" in ax.get_legend_handles_labels()[1] else "others"}


def of_objectives(ax: Axes, x: Sequence, values: Mapping[str, np.ndarray]) -> None:
    """A band for each objective's values [S,n]; those that are not in colour are grey lines behind the others."""
    shown = coloured(values)
    for name, own in values.items():
        if name in shown:
            band(ax, x, own, styles.colour(name), label(name))
        else:
            ax.plot(x, mean_spread(np.asarray(own))[0], **other(ax))


def named(ax: Axes) -> None:
    """Write the name of each curve of a panel where it ends, in place of a legend."""
    lines, ends = [], []
    for line in ax.lines:
        known = np.asarray(line.get_ydata(), float)
        known = known[np.isfinite(known)]
        if len(known) and not str(line.get_label()).startswith("_"):
            lines.append(line)
            ends.append(known[-1])
    beside(ax, ends, [line.get_label() for line in lines], [line.get_color() for line in lines])
