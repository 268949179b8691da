"""How figures reach a page: as SVG where that is small, and with the numbers that they draw as CSV beside them."""

import io
from collections.abc import Iterator

import matplotlib
import numpy as np
import pandas as pd
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter

SMALL = 64_000  # bytes: about what a PNG of twice the resolution takes
COLORBAR = "<colorbar>"  # matplotlib's name of their axes
Row = dict[str, object]


def bundle(figure: Figure, *_: object) -> dict[str, str]:
    """What stands in a notebook beside a figure's PNG, by MIME type: numbers, and SVG where it is small."""
    found = {} if (frame := numbers(figure)).empty else {"text/csv": frame.to_csv(index=False, float_format="%.5g")}
    if any(ax.images for ax in figure.axes):  # pixels stay pixels
        return found
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "sslnb"}):  # the same figure is the same file
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawing = buffer.getvalue()
    return found | ({"image/svg+xml": drawing} if len(drawing) <= SMALL else {})


def numbers(figure: Figure) -> pd.DataFrame:
    """What a figure draws, a row for each point, interval, bar and cell of a heat map; places have their ticks' names.

    Panels are called by their titles, or counted. Photographs and guiding lines across a panel are left out.
    """
    axes = [ax for ax in figure.axes if ax.get_label() != COLORBAR]
    rows = [
        {"panel": ax.get_title() or ax.get_title("left") or number} | row
        for number, ax in enumerate(axes, 1)
        for row in _drawn(ax)
    ]
    return pd.DataFrame(rows).replace("", None).dropna(axis="columns", how="all")


def _drawn(ax: Axes) -> Iterator[Row]:
    """Rows of one panel."""
    names, parts = {"x": _names(ax.xaxis), "y": _names(ax.yaxis)}, set[int]()
    for container in ax.containers:
        parts |= {id(part) for part in _flat(container)}
        for row in _contained(container):
            yield _named(row, names)
    called = {to_hex(line.get_color()): _label(line) for line in ax.lines if _label(line)}
    for artist in (*ax.lines, *ax.collections, *ax.patches, *ax.images):
        if id(artist) not in parts:
            for row in _rows(artist, ax, called):
                yield _named(row, names)


def _contained(container: object) -> Iterator[Row]:
    """Rows of bars, or of points with their intervals."""
    series = _label(container)
    if isinstance(container, BarContainer):
        across = container.orientation == "horizontal"
        for bar in container:
            place = bar.get_y() + bar.get_height() / 2 if across else bar.get_x() + bar.get_width() / 2
            length = bar.get_width() if across else bar.get_height()
            yield {"series": series} | ({"x": length, "y": place} if across else {"x": place, "y": length})
    elif isinstance(container, ErrorbarContainer):
        line, _, bars = container
        upright = container.has_yerr
        found = [segment for part in bars[-1:] for segment in part.get_segments()]
        segments = [segment[:, int(upright)] if len(segment) else (np.nan, np.nan) for segment in found]
        points = np.column_stack(line.get_data()) if line is not None else np.empty((0, 2))
        ends = segments if len(segments) == len(points) else [(np.nan, np.nan)] * len(points)
        for (x, y), (low, high) in zip(points, ends, strict=True):
            yield {"series": series, "x": x, "y": y, "low": low, "high": high}


def _rows(artist: object, ax: Axes, called: dict[str, str]) -> Iterator[Row]:
    """Rows of a line, points, a band (``called`` as the line of its colour is), contours, an outline, or a heat map."""
    series = _label(artist)
    if artist in ax.images:
        values = np.ma.filled(np.ma.asarray(artist.get_array(), float), np.nan) if artist.get_array().ndim == 2 else ()
        for row, column in np.ndindex(np.shape(values)):
            yield {"series": series, "x": column, "y": row, "value": values[row, column]}
    elif isinstance(artist, PathCollection):
        for x, y in np.ma.filled(artist.get_offsets(), np.nan):
            yield {"series": series, "x": x, "y": y}
    elif isinstance(artist, PolyCollection) and ax.name == "rectilinear":
        series = series or called.get(to_hex(artist.get_facecolor()[0]), "") if len(artist.get_facecolor()) else series
        corners = np.concatenate([path.vertices for path in artist.get_paths()] or [np.empty((0, 2))])
        for x in np.unique(corners[:, 0]):
            heights = corners[corners[:, 0] == x, 1]
            yield {"series": f"{series} (range)".strip(), "x": x, "low": heights.min(), "high": heights.max()}
    elif isinstance(artist, ContourSet):
        for level, path in zip(artist.levels, artist.get_paths(), strict=False):
            for x, y in path.vertices:
                yield {"series": series, "x": x, "y": y, "value": level}
    elif isinstance(artist, Polygon) and series:
        for x, y in artist.get_xy():
            yield {"series": series, "x": x, "y": y}
    elif hasattr(artist, "get_xdata") and artist.get_transform() is ax.transData:
        for x, y in zip(artist.get_xdata(), artist.get_ydata(), strict=True):
            yield {"series": series, "x": x, "y": y}


def _names(axis: Axis) -> dict[float, str]:
    """The names of an axis's places, where somebody gave them names that are more than their numbers."""
    formatter, locator = axis.get_major_formatter(), axis.get_major_locator()
    named = isinstance(formatter, FixedFormatter | FuncFormatter) and isinstance(locator, FixedLocator)
    if not named or axis.get_scale() != "linear":
        return {}
    return {float(place): formatter(place, number) for number, place in enumerate(locator.locs)}


def _named(row: Row, names: dict[str, dict[float, str]]) -> Row:
    """A row with its places' names; what stands a little beside a place, among several, is called as the place."""
    return row | {axis: _name(row[axis], names[axis]) for axis in ("x", "y") if axis in row}


def _name(place: object, names: dict[float, str]) -> object:
    if isinstance(place, str) or place in names or not np.isfinite(place):
        return names.get(place, place)
    return names.get(float(round(place)), place)


def _flat(container: object) -> Iterator[object]:
    for part in container:
        yield from _flat(part) if isinstance(part, tuple | list) else (part,)


def _label(artist: object) -> str:
    text = artist.get_label() or ""
    return "" if str(text).startswith("_") else str(text)


if (shell := get_ipython()) is not None:
    shell.display_formatter.mimebundle_formatter.for_type(Figure, bundle)
