"""Figures and tables on images that a probe gets wrong: a Result in, a matplotlib Figure or Markdown out."""

import math

import numpy as np
import xarray as xr
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sslnb.core.labels import PREDICTOR_LABELS, label
from sslnb.core.result import Result
from sslnb.report import lines
from sslnb.report.panels import COLOURS, beside, leave_out, legend, mean_spread, panels, sentence
from sslnb.report.tables import not_recorded, percent, set_cell, spread, table
from sslnb.studies.qscore.figures import look
from sslnb.studies.qscore.findings import DRAWN
from sslnb.studies.qscore.tables import rows_of, with_interval

GREY = COLOURS[2]
LINES = dict(zip(DRAWN, (colour for colour in COLOURS if colour != GREY), strict=False))
QUANTITY_LABELS = {"excess": "area above the best order's, points", "share": "the same, % of a random order's"}
BASELINES = {"random": "random order", "optimum": "best order"}  # in grey
SHOWN = 3  # encoders that learned, beside an untrained one
LEAST = 0.1  # coverage from which curves are drawn: fewer images are mostly noise
NONE_LEARNED = "No encoder has learned."


def _shown(data: xr.Dataset) -> list[str]:
    """Encoders to show: three that learned, as figures colour them, and the untrained one; any where none learned."""
    measured = data.optimum.notnull().any(["seed", "coverage"])
    learned = [str(name) for name in data.objective.values[(measured & data.learned).values]]
    others = [str(name) for name in data.objective.values[(measured & ~data.learned).values]]
    shown = lines.coloured(learned)[:SHOWN]
    return shown + others[::-1][: SHOWN + 1 if not learned else 1]


def risk_curves(result: Result) -> Figure:
    """Error among the images that are answered, against their share: a panel per encoder, a line per score."""
    if missing := not_recorded(result, "failure"):
        return sentence(missing)
    data = result.data["failure"].isel(dataset=0)
    methods = _shown(data)
    if not methods:
        return sentence("No probe has converged.")
    columns = min(2, len(methods))
    figure, axes = panels(columns, math.ceil(len(methods) / columns), height=2.5)
    leave_out(axes, len(methods))
    for ax, method in zip(axes.flat, methods, strict=False):
        _risk_panel(ax, data.sel(objective=method, coverage=slice(LEAST, 1)))
        ax.set_title(label(method))
    figure.supxlabel("coverage: images that are answered, %")
    figure.supylabel("error among them, %")
    return figure


def _risk_panel(ax: Axes, data: xr.Dataset) -> None:
    """One encoder's curves, named at their ends, between those of the best and of a random order."""
    coverage = 100 * data.coverage.values
    curves = {"optimum": data.optimum.values}  # named below a curve that reaches it
    curves |= {name: data.curves.sel(predictor=name).values for name in (*DRAWN, "random")}
    curves = {name: 100 * mean_spread(values)[0] for name, values in curves.items()}
    curves = {name: line for name, line in curves.items() if np.isfinite(line).all()}  # no Q-Score without features
    for name, line in curves.items():
        ax.plot(coverage, line, ":" if name in BASELINES else "-", linewidth=1.4, color=LINES.get(name, GREY))
    ax.set(xlim=(100, 100 * LEAST), ylim=(0, None))
    texts = [(PREDICTOR_LABELS | BASELINES)[name] for name in curves]
    beside(ax, [line[0] for line in curves.values()], texts, [LINES.get(name, GREY) for name in curves])


def excess_areas(result: Result) -> Figure:
    """Excess areas of every score, and as shares of a random order's: a dot per objective, their mean and interval."""
    if missing := not_recorded(result, "failure"):
        return sentence(missing)
    data = result.data["failure"].isel(dataset=0)
    learned = np.flatnonzero(data.learned.values & data.of_objectives.notnull().any(["predictor", "quantity"]).values)
    if not len(learned):
        return sentence(NONE_LEARNED)
    mean = data.pooled.sel(quantity="excess", statistic="mean").dropna("predictor")
    names = list(map(str, mean.sortby(mean, ascending=False).predictor.values))  # the best at the top
    figure, axes = panels(2, height=0.9 + 0.3 * len(names), sharey=True)
    for ax, (quantity, text) in zip(axes[0], QUANTITY_LABELS.items(), strict=True):
        _dots(ax, data.sel(quantity=quantity, predictor=names), learned)
        ax.set_xlabel(text)
        ax.set_xlim(0, None)
    axes[0, 0].set_yticks(range(len(names)), [PREDICTOR_LABELS[name] for name in names])
    legend(figure, axes[0, 0], 4)
    return figure


def _dots(ax: Axes, data: xr.Dataset, learned: np.ndarray) -> None:
    """Values of the objectives that learned, over them their mean with its interval."""
    y = np.arange(data.sizes["predictor"])
    for m in learned:
        style = look(name := str(data.objective.values[m])) | {"linestyle": "none", "label": label(name)}
        ax.plot(100 * data.of_objectives.isel(objective=int(m)).values, y, markersize=4, alpha=0.7, **style)
    mean, low, high = (100 * data.pooled.sel(statistic=name).values for name in ("mean", "low", "high"))
    ax.errorbar(mean, y, xerr=(mean - low, high - mean), fmt="|", color="black", markersize=9, capsize=2, zorder=3)


def by_score(result: Result) -> Markdown:
    """Areas of every score over the objectives that learned, means with 95 % intervals, and risks at coverages."""
    if missing := not_recorded(result, "failure"):
        return Markdown(missing)
    data = result.data["failure"]
    risks, rows = data.risk.isel(objective=data.learned.values).mean("seed").mean("objective"), []
    for dataset in data.dataset.values:
        for name in data.predictor.values:
            own = data.pooled.sel(dataset=dataset, predictor=name)
            if bool(own.notnull().any()):
                cells = [_interval(own.sel(quantity=quantity)) for quantity in ("excess", "share", "behind")]
                at = [percent(float(value)) for value in risks.sel(dataset=dataset, predictor=name)]
                area = percent(float(own.sel(quantity="area", statistic="mean")))
                rows.append((set_cell(dataset), PREDICTOR_LABELS[name], area, *cells, *at))
    if not rows:
        return Markdown(NONE_LEARNED)
    answered = [f"error at {100 * share:.0f} %" for share in data.answered.values]
    head = ("data set", "score", "area", "excess", "% of a random order's", "excess − the confidence's", *answered)
    return table(head, rows, "Failure prediction by every score, over the objectives that learned.")


def _interval(values: xr.DataArray) -> str:
    """A mean with its interval, where there are two objectives to take one from."""
    mean, low, high = (float(values.sel(statistic=name)) for name in ("mean", "low", "high"))
    return percent(mean) + (f" [{percent(low)}, {percent(high)}]" if math.isfinite(low) else "")


def by_encoder(result: Result) -> Markdown:
    """Excess areas of the drawn scores for every encoder, means over seeds with intervals over test images."""
    if missing := not_recorded(result, "failure"):
        return Markdown(missing)
    data = result.data["failure"]
    rows = []
    for dataset, method in rows_of(data.area):
        own = data.sel(dataset=dataset, objective=method)
        cells = [with_interval(own.sel(predictor=name), "excess") for name in DRAWN]
        chance = (spread(own[quantity].sel(predictor="random").values) for quantity in ("area", "excess"))
        rows.append((set_cell(dataset), label(method), *chance, *cells))
    return table(
        ("data set", "encoder", "error, %", "random order", *(PREDICTOR_LABELS[name] for name in DRAWN)),
        rows,
        "Excess area under the risk–coverage curve for every encoder, in points; smaller is better.",
    )
