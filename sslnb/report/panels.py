"""Figures: a study's arrays in, a matplotlib Figure out. Nothing is computed here but what a plot needs."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

matplotlib.style.use(Path(__file__).with_name("sslnb.mplstyle"))

# Okabe and Ito's colours, told apart by colour-blind readers too; the markers repeat the distinction.
COLOURS = ("#0072B2", "#D55E00", "#767676", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
PAGE = 7.2  # inches: the width of the page's text, so that letters keep their size


def panels(columns: int, rows: int = 1, *, height: float = 2.6, **options: object) -> tuple[Figure, np.ndarray]:
    """A figure as wide as the page and its axes [rows,columns], each row ``height`` inches high."""
    figure = Figure(figsize=(PAGE, height * rows))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def remark(text: str) -> Figure:
    """A figure of one sentence, where there is nothing to draw."""
    figure, axes = panels(1, height=0.8)
    axes[0, 0].set_axis_off()
    axes[0, 0].text(0.5, 0.5, text, ha="center", va="center")
    return figure


def legend(figure: Figure, ax: Axes, columns: int) -> None:
    """One legend for all panels, above them."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def annotated(
    ax: Axes,
    values: np.ndarray,
    texts: Sequence[Sequence[str]],
    white: np.ndarray,
    *,
    size: int = 8,
    **settings: object,
) -> AxesImage:
    """A heat map of values [R,C] with a text in each cell, white where ``white`` [R,C] says that the cell is dark."""
    image = ax.imshow(values, **{"aspect": "auto"} | settings)
    for row, column in np.ndindex(*values.shape):
        colour = "white" if white[row, column] else "black"
        ax.text(column, row, texts[row][column], ha="center", va="center", fontsize=size, color=colour)
    return image


def mean_spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, least and greatest over seeds (axis 0), NaN left out; NaN where every seed is."""
    measured = np.isfinite(values).any(0)
    filled = np.where(measured, values, 0)
    with np.errstate(invalid="ignore"):
        parts = np.nanmean(filled, 0), np.nanmin(filled, 0), np.nanmax(filled, 0)
    return tuple(np.where(measured, part, np.nan) for part in parts)
