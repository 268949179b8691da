"""Figures: a study's arrays in, a matplotlib Figure out. Nothing is computed here but what a plot needs."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage
from matplotlib.text import Text
from scipy.optimize import isotonic_regression

matplotlib.style.use(Path(__file__).with_name("sslnb.mplstyle"))

# For what is no objective (report.styles has those): Okabe and Ito's colours, told apart by colour-blind readers too,
# and four of Tol's muted ones. The markers, as many, repeat the distinction.
COLOURS = (
    *("#0072B2", "#D55E00", "#767676", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    *("#882255", "#44AA99", "#999933", "#332288"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h", "<", "p", ">")
LEGIBLE = "#757575"  # 4.6:1 on white, 4:1 on the theme's dark page
PAGE = 7.2  # inches: the width of the page's text, so that letters keep their size


def panels(columns: int, rows: int = 1, *, height: float = 2.6, **options: object) -> tuple[Figure, np.ndarray]:
    """A figure as wide as the page and its axes [rows,columns], each row ``height`` inches high."""
    figure = Figure(figsize=(PAGE, height * rows))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def leave_out(axes: np.ndarray, count: int) -> None:
    """Hide panels [rows,columns] after the first ``count``; those above them get the ticks that these would have."""
    for i, ax in enumerate(axes.flat):
        row, column = divmod(i, axes.shape[1])
        if i >= count:
            ax.set_axis_off()
            if row:
                axes[row - 1, column].tick_params(labelbottom=True)


def legend(figure: Figure, ax: Axes, columns: int) -> None:
    """One legend for all panels, above them."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def on_any_ground(figure: Figure) -> Figure:
    """A figure with photographs, without a ground and with letters that are legible on a white page and a dark one.

    Pages turn the lightness of other figures round in the dark; photographs would be negatives.
    """
    for part in figure.findobj(FigureBase):
        part.patch.set_alpha(0)
    for text in figure.findobj(Text):
        text.set_color(LEGIBLE)
    for ax in figure.axes:
        ax.patch.set_alpha(0)
        ax.tick_params(colors=LEGIBLE)
        ax.spines[:].set_color(LEGIBLE)
    return figure


def sentence(text: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure, axes = panels(1, height=1.2)
    nothing(axes[0, 0], text)
    return figure


def nothing(ax: Axes, text: str) -> None:
    """The same in one panel of several."""
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, fontsize=9)
    ax.set_axis_off()


def beside(ax: Axes, heights: Sequence[float], texts: Sequence[str], colours: Sequence[str], *, size: int = 7) -> None:
    """Names of curves at the right of a panel, each near where its curve ends, and none upon another."""
    inches = ax.get_position().height * ax.figure.get_size_inches()[1]
    gap = 1.15 * size / 72 / inches * np.ptp(ax.get_ylim())  # the height of a line of letters
    order, lines = np.argsort(heights, kind="stable"), gap * np.arange(len(heights))
    # As near to their curves as names one above another can be, by least squares.
    places = isotonic_regression(np.asarray(heights)[order] - lines).x + lines
    offset = {"xycoords": ax.get_yaxis_transform(), "xytext": (4, 0), "textcoords": "offset points"}
    for i, height in zip(order, places, strict=True):
        ax.annotate(texts[i], (1, height), va="center", fontsize=size, color=colours[i], **offset)


def at_points(ax: Axes, points: np.ndarray, texts: Sequence[str], colours: Sequence[str], *, size: int = 7) -> None:
    """Names of points [N,2] at the right of each, moved up or down where one would lie upon another.

    Called when everything else is drawn, since places are those of the panel as it is then.
    """
    ax.apply_aspect()
    corners = ax.transData.transform(points) * 72 / ax.figure.dpi + (5, 0)  # in points of type
    line, taken = 1.2 * size, [(left - 9, left - 1, middle) for left, middle in corners]  # the points themselves
    for i in np.argsort(-corners[:, 1], kind="stable"):
        left, middle = corners[i]
        right = left + 0.6 * size * len(texts[i])
        near = [height for start, end, height in taken if start < right and left < end]
        moves = sorted((sign * k * line / 2 for k in range(len(taken) * 2 + 1) for sign in (1, -1)), key=abs)
        rise = next(dy for dy in moves if all(abs(middle + dy - height) >= line for height in near))
        taken.append((left, right, middle + rise))
        offset = {"xytext": (5, rise), "textcoords": "offset points", "va": "center"}
        ax.annotate(texts[i], points[i], fontsize=size, color=colours[i], **offset)


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
