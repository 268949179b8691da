"""Charts that a page draws by itself: Altair's, compiled when they are shown, with native controls and no kernel.

A chart holds the numbers that it shows, which a reader can save as CSV; where scripts are off, a picture stands in its
place. In JupyterLab the same chart is live.
"""

import base64
import html
import io
import json
from collections.abc import Callable, Sequence
from urllib.parse import quote

import altair as alt
import numpy as np
import pandas as pd
import vl_convert
from PIL import Image

from sslnb.core.labels import label
from sslnb.report.panels import COLOURS
from sslnb.report.pictures import light
from sslnb.report.styles import colour

VEGA_LITE = alt.SCHEMA_VERSION.removeprefix("v").rpartition(".")[0]  # as vl_convert counts versions: 6.4
LAB = "application/vnd.vegalite.v5+json"  # the newest that JupyterLab draws
LAB_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
PANEL = 310  # pixels: two panels stand beside each other on the page, one below the other on a telephone
SHAPE = 0.8  # height of a panel over its width
INK = alt.param(name="ink", value="#222222")  # of letters and lines: the page sets it to its theme's
INK_NOW = alt.expr("ink")
ABOVE = alt.Legend(orient="top", symbolLimit=30, columns=5, symbolOpacity=1)  # though a band is pale


class Explorer:
    """A chart with its controls. ``described`` says what it shows, for who does not see it."""

    def __init__(self, chart: alt.TopLevelMixin, described: str) -> None:
        ink, faint = alt.expr("ink"), 0.25
        lines = {"domainColor": ink, "gridColor": ink, "gridOpacity": faint, "tickColor": ink, "domainOpacity": 0.6}
        self.chart = (
            chart.add_params(INK)
            .configure(background="transparent", font="sans-serif")
            .configure_axis(labelColor=ink, titleColor=ink, titleFontWeight="normal", labelLimit=220, **lines)
            .configure_legend(labelColor=ink, titleColor=ink, titleFontWeight="normal")
            .configure_title(color=ink, fontWeight="normal", anchor="start")
            .configure_header(labelColor=ink, titleColor=ink)
            .configure_view(stroke=None)
        )
        self.described = described

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        live = self.chart.to_dict() | {"$schema": LAB_SCHEMA}
        return {LAB: live, "text/html": self.html(), "text/plain": self.described}

    def html(self) -> str:
        """The part of a page: controls, chart, a picture until scripts run, and the data as links to CSV."""
        written = self.chart.to_json()
        spec = vl_convert.vegalite_to_vega(written, vl_version=VEGA_LITE)
        png = vl_convert.vegalite_to_png(written, vl_version=VEGA_LITE)
        picture = light(base64.b64encode(png).decode(), on="white")
        links = [_link(one["name"], one.pop("values")) for one in spec["data"] if isinstance(one.get("values"), str)]
        said, text = html.escape(self.described), json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c")
        return (
            f'<div class="explorer" role="group" aria-label="{said}">'
            f'<script type="application/json">{text}</script><div class="explorer-controls"></div>'
            f'<div class="explorer-chart"><img src="data:image/png;base64,{picture}" alt="{said}"></div>'
            f'<p class="explorer-data">Data: {", ".join(links)}</p></div>'
        )


def _link(name: str, text: str) -> str:
    data = quote(text, safe=" ,:;/+=.'()[]")
    return f'<a download="{name}.csv" data-table="{name}" href="data:text/csv;charset=utf-8,{data}">{name}.csv</a>'


def table(name: str, frame: pd.DataFrame, *, digits: int = 4) -> alt.InlineData:
    """Rows that charts refer to by ``name``, held as CSV with so many significant digits."""
    text = frame.to_csv(index=False, float_format=f"%.{digits}g", lineterminator="\n")
    # Else they are text, of which 3500 comes before 875. A dot in a column's name would be taken for a path.
    numbers = {column.replace(".", "\\."): "number" for column in frame.select_dtypes("number").columns}
    return alt.InlineData(text, format=alt.CsvDataFormat(type="csv", parse=numbers), name=name)


def choice(name: str, label: str, options: Sequence[object], value: object = None) -> alt.Parameter:
    """A menu; the chart's expressions know its value by ``name``."""
    options = [option.item() if isinstance(option, np.generic) else option for option in options]
    bound = alt.binding_select(options=options, name=label)
    return alt.param(name=name, value=options[0] if value is None else value, bind=bound)


def slider(name: str, label: str, low: float, high: float, step: float, value: float) -> alt.Parameter:
    """A slider; ``label`` says the unit, as a screen reader reads the value alone."""
    return alt.param(name=name, value=value, bind=alt.binding_range(min=low, max=high, step=step, name=label))


def encoded(pixels: np.ndarray, kind: str = "jpeg") -> str:
    """A picture uint8 [C,H,W] as base64, to stand in a table: ``jpeg``, or ``png`` where every pixel counts."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0).squeeze()).save(buffer, format=kind, quality=85, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def address(column: str, kind: str = "jpeg") -> str:
    """The expression for a mark's picture, from a column of :func:`encoded` ones."""
    return f"'data:image/{kind};base64,' + datum.{column}"


def colours(field: str, names: Sequence[str], said: Callable[[str], str] = label, **more: object) -> alt.Color:
    """Colour by a column that holds what objectives are ``said`` to be, each in its own."""
    names = list(dict.fromkeys(map(str, names)))
    scale = alt.Scale(domain=[said(name) for name in names], range=[colour(name) for name in names])
    return alt.Color(f"{field}:N", scale=scale, **({"legend": None} | more))


def pair(field: str, one: str, other: str) -> alt.Color:
    """Colour by a column of two values that are no objectives."""
    scale = alt.Scale(domain=[one, other], range=[COLOURS[0], COLOURS[1]])
    return alt.Color(f"{field}:N", title=None, scale=scale, legend=ABOVE)


def names(field: str) -> alt.X:
    """Places of pictures in a row, their names above them."""
    axis = alt.Axis(orient="top", labelAngle=0, domain=False, ticks=False)
    return alt.X(f"{field}:N", title=None, sort=None, axis=axis)


def beside(left: alt.TopLevelMixin, right: alt.TopLevelMixin, controls: Sequence[alt.Parameter]) -> alt.HConcatChart:
    """Two panels of the same size with the controls of both."""
    sized = [panel.properties(width=PANEL, height=SHAPE * PANEL) for panel in (left, right)]
    return alt.hconcat(*sized).add_params(*controls).resolve_scale(color="independent")
