"""Explorer of the synthesis: a chart that the page draws by itself."""

import altair as alt
import numpy as np
import pandas as pd

from sslnb.core.labels import label
from sslnb.core.result import Result
from sslnb.report import charts
from sslnb.studies.measures import MEASURES
from sslnb.studies.synthesis.figures import with_unit


def browse_measures(result: Result) -> charts.Explorer:
    """On the page: two measures of all encoders against each other, and the map of encoders and checkpoints."""
    numbers, places = _numbers(result), _places(result)
    named = [with_unit(str(name)) for name in result.data["matrix"].measure.values]
    controls = (
        charts.choice("across", "across", named[1:] + named[:1]),
        charts.choice("up", "up", named),
    )
    objectives = [name for step in ("matrix", "embedding") for name in result.data[step].objective.values]
    legend = charts.ABOVE.copy()
    legend.columns, legend.symbolSize = 2, 60  # more columns would be wider than a panel
    colour = charts.colours("encoder", objectives, legend=legend, title=None)
    pairs = (
        alt.Chart(charts.table("measures", numbers), title=alt.TitleParams(alt.ExprRef("up + ' against ' + across")))
        .transform_filter("datum.measure == across || datum.measure == up")
        .transform_calculate(
            x="datum.measure == across ? datum.value : null", y="datum.measure == up ? datum.value : null"
        )
        .transform_aggregate(x="max(x)", y="max(y)", groupby=["encoder", "seed"])
        .mark_point(filled=True, size=70, opacity=0.9)
        .encode(
            x=alt.X("x:Q", title=" ", scale=alt.Scale(zero=False)),  # named by what was chosen: _named
            y=alt.Y("y:Q", title=" ", scale=alt.Scale(zero=False)),
            color=colour,
            tooltip=["encoder:N", "seed:N", alt.Tooltip("x:Q", title="across"), alt.Tooltip("y:Q", title="up")],
        )
    )
    plane = alt.Chart(charts.table("map", places), title="Map of all encoders; lines follow a training")
    titles = {"x": "first coordinate", "y": "second coordinate"}
    place = {k: kind(f"{k}:Q", title=titles[k], scale=_equal(places, k)) for k, kind in (("x", alt.X), ("y", alt.Y))}
    place["color"] = colour
    tips = ["encoder:N", "point:N"]
    lines = plane.transform_filter("datum.order >= 0").mark_line(opacity=0.6).encode(
        order="order:Q", detail="encoder:N", **place
    )  # fmt: skip
    ends = plane.transform_filter("datum.order < 0").mark_point(filled=True, size=70).encode(tooltip=tips, **place)
    along = plane.transform_filter("datum.order > 0").mark_point(size=18).encode(tooltip=tips, **place)
    panels = charts.beside(pairs + _named("across") + _named("up"), lines + along + ends, controls)
    return charts.Explorer(panels, "Two measures of all encoders against each other, and the map of their similarity.")


def _named(control: str) -> alt.Chart:
    """The title of an axis that a control chooses: Vega-Lite's own can not change."""
    width, height = charts.PANEL, charts.SHAPE * charts.PANEL
    along = {"across": (width / 2, height + 30, 0), "up": (-45, height / 2, -90)}
    x, y, angle = along[control]
    mark = {"text": alt.ExprRef(control), "color": charts.INK_NOW, "baseline": "middle", "aria": False, "clip": False}
    return alt.Chart(alt.InlineData([{}])).mark_text(angle=angle % 360, **mark).encode(x=alt.value(x), y=alt.value(y))


def _equal(places: pd.DataFrame, axis: str) -> alt.Scale:
    """The scale of one axis of the map, on which a unit is as long as on the other."""
    low, high = places[["x", "y"]].min(), places[["x", "y"]].max()
    half = 0.55 * max(high.x - low.x, (high.y - low.y) / charts.SHAPE) * (1 if axis == "x" else charts.SHAPE)
    middle = (low[axis] + high[axis]) / 2
    return alt.Scale(domain=[middle - half, middle + half], nice=False)


def _numbers(result: Result) -> pd.DataFrame:
    """Every measure of every encoder, shares in percent."""
    frame = result.data["matrix"].value.to_dataframe("value").dropna().reset_index()
    shares = np.array([MEASURES[name].share for name in frame.measure])
    measure = [with_unit(name) for name in frame.measure]
    values = frame.value * np.where(shares, 100, 1)
    encoder = [label(name) for name in frame.objective]
    return pd.DataFrame({"measure": measure, "encoder": encoder, "seed": frame.seed, "value": values})


def _places(result: Result) -> pd.DataFrame:
    """Points of the map: ``order`` is -1 for the ends, 0 for the untrained start of a line, then its steps."""
    data = result.data["embedding"]
    frame = pd.DataFrame({"encoder": data.objective.values, "point": data.point.values, "order": data.step.values})
    frame[["x", "y"]] = data.coordinate.values
    start = frame[frame.encoder == "untrained"].head(1)
    own = set(frame.encoder[frame.order == 0])  # which have a beginning of their own
    begun = [start.assign(encoder=name, order=0) for name in frame.encoder[frame.order > 0].unique() if name not in own]
    frame = pd.concat([frame, *begun])
    return frame.assign(encoder=[label(name) for name in frame.encoder])
