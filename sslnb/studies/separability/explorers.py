"""Explorers of margins: a live one, and a chart that the page draws by itself."""

from collections.abc import Sequence

import altair as alt
import ipywidgets as w
import numpy as np
import pandas as pd
from IPython.display import Markdown

from sslnb.core.labels import NORM_NAMES, label
from sslnb.core.result import Result
from sslnb.report import charts
from sslnb.report.explorers import picture
from sslnb.studies.separability import figures

STEP, BINS = 2, 30  # percent of the largest budget between two of the chart's; bars of a histogram


def _margins(result: Result, dataset: str, norm: str, digit: int | None = None) -> list[np.ndarray]:
    """Margins [N] of each objective, first seed; of one class only, if asked."""
    data = result.data["separation"]
    chosen = (data.sample_dataset == dataset).values
    if digit is not None:
        chosen &= (data.sample_label == digit).values
    return list(data.margin.isel(sample=chosen).sel(norm=norm).values.astype(np.float64))


def _reach(margins: Sequence[np.ndarray]) -> float:
    """Budget by which nearly every sample is lost."""
    finite = np.concatenate([m[np.isfinite(m)] for m in margins])
    return float(np.quantile(finite, 0.99)) if len(finite) else 1.0


def explore_margins(result: Result, classes: Sequence[str] = ()) -> w.VBox:
    """Live: choose data set, norm, class and budget; margins and the accuracy that is left are drawn again."""
    probed = result.data["probes"]
    dataset = w.Dropdown(options=list(probed.dataset.values), description="data set")
    norm = w.ToggleButtons(options=[(text, n) for n, text in NORM_NAMES.items()], value="l2", description="norm")
    which = w.Dropdown(options=[("all", None)], description="class")
    share = w.FloatSlider(value=0.3, min=0, max=1, step=0.02, description="budget", readout_format=".0%")
    image = w.Image(format="png")

    def offer_classes(*_: object) -> None:
        count = int(probed.classes.sel(dataset=dataset.value))
        known = classes if len(classes) == count else range(count)
        which.options = [("all", None), *((str(name), k) for k, name in enumerate(known))]

    def draw(*_: object) -> None:
        all_margins = _margins(result, dataset.value, norm.value)
        margins = _margins(result, dataset.value, norm.value, which.value)
        budget = share.value * _reach(all_margins)
        figure = figures.margin_explorer(margins, list(probed.objective.values), budget, norm.value)
        image.value = picture(figure)

    offer_classes()
    dataset.observe(offer_classes, "value")
    for control in (dataset, norm, which, share):
        control.observe(draw, "value")
    draw()
    return w.VBox([dataset, norm, which, share, image])


def browse_margins(result: Result) -> charts.Explorer | Markdown:
    """On the page: choose data set, norm and budget; which margins lie below it, and the accuracy that is left."""
    if not bool(result.data["separation"].margin.notnull().any()):
        return Markdown("There are no margins to choose from: no probe has converged.")
    margins, kept = _tables(result)
    names = list(result.data["probes"].objective.values)
    controls = (
        charts.choice("dataset", "data set", list(result.data["probes"].dataset.values)),
        charts.choice("norm", "norm", list(NORM_NAMES.values()), NORM_NAMES["l2"]),
        charts.slider("share", "budget, % of the largest", 0, 100, STEP, 30),
    )
    chosen = "datum.dataset == dataset && datum.norm == norm"
    colour = charts.colours("encoder", names)
    lines = (
        alt.Chart(charts.table("margins", margins), title="Share of test images by margin")
        .transform_filter(chosen)
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("margin:Q", title="margin, in the norm chosen"),
            y=alt.Y("share:Q", title="% of images"),
            color=colour,
            tooltip=["encoder:N", "margin:Q", alt.Tooltip("share:Q", title="% of images")],
        )
    )
    data = charts.table("accuracy", kept)
    cut = (
        alt.Chart(charts.table("budgets", kept[["dataset", "norm", "percent", "budget"]].drop_duplicates()))
        .transform_filter(f"{chosen} && datum.percent == share")
        .mark_rule(strokeDash=[4, 3], color=charts.INK_NOW)
        .encode(x=alt.X("budget:Q", title="margin, in the norm chosen"), tooltip="budget:Q")
    )
    rows = alt.Y("encoder:N", title=None, sort=[label(name) for name in names])
    left = alt.Chart(data, title="Accuracy left at the budget; pale: without one").transform_filter(chosen)
    text = {"x": alt.X("accuracy:Q", title="accuracy, %", scale=alt.Scale(domain=[0, 100])), "y": rows}
    tips = ["encoder:N", alt.Tooltip("budget:Q"), alt.Tooltip("accuracy:Q", title="accuracy, %")]
    before = left.transform_filter("datum.percent == 0").mark_bar(opacity=0.25).encode(color=colour, **text)
    after = left.transform_filter("datum.percent == share").mark_bar().encode(color=colour, tooltip=tips, **text)
    panels = charts.beside(lines + cut, before + after, controls)
    return charts.Explorer(panels, "Margins of test images for each encoder, and the accuracy left at a chosen budget.")


def _tables(result: Result) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Histograms of margins, and accuracies in percent over budgets; of each objective's first seed."""
    data = result.data["separation"].sel(scale=result.data["probes"].attrs.get("primary"), drop=True)
    margins, kept = [], []
    for dataset in result.data["probes"].dataset.values:
        at = data.margin.isel(sample=(data.sample_dataset == dataset).values)
        for norm, norm_name in NORM_NAMES.items():
            own = {
                str(name): at.sel(objective=name, norm=norm).values.astype(np.float64) for name in data.objective.values
            }
            reach = _reach(list(own.values()))
            budgets, edges = reach * np.arange(0, 101, STEP) / 100, np.linspace(0, reach, BINS + 1)
            for name, values in own.items():
                if not np.isfinite(values).any():
                    continue
                cell = {"dataset": dataset, "norm": norm_name, "encoder": label(name)}
                left = [100 * (values > budget).mean() for budget in budgets]  # NaN, a wrong one, is never greater
                percents = np.arange(0, 101, STEP)
                kept.append(pd.DataFrame(cell | {"percent": percents, "budget": budgets, "accuracy": left}))
                counts = np.histogram(values[np.isfinite(values)], edges)[0]
                margins.append(pd.DataFrame(cell | {"margin": edges[:-1], "share": 100 * counts / values.size}))
    return pd.concat(margins), pd.concat(kept)
