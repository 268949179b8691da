"""Figures of the synthesis: a Result in, a matplotlib Figure out."""

import itertools
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from sslnb.core.labels import CONTROLS, label
from sslnb.core.result import Result
from sslnb.report import styles
from sslnb.report.panels import COLOURS, MARKERS, PAGE, annotated, at_points
from sslnb.studies.measures import MEASURES, turned_means
from sslnb.studies.synthesis.findings import LEVEL

TARGET_LABELS = {"accuracy": "linear accuracy", "transfer": "transfer", "effective": "effective accuracy"}
NAMED = 5  # runs that are drawn in colour on the map; the others are grey
AMONG, RUNS = ("black", "0.45"), "0.65"  # of encoders without labels, of all, and of checkpoints: no objective's
UNDEFINED = "0.85"


def _written(name: str, value: float) -> str:
    """A measure's value in four characters or fewer."""
    if not np.isfinite(value):
        return "–"
    if MEASURES[name].share:
        return f"{100 * value:.0f}"
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"


def _with_spread(name: str, value: float, spread: float) -> str:
    """The value, with its deviation over seeds on a second line."""
    return _written(name, value) + (f"\n± {_written(name, spread)}" if np.isfinite(spread) else "")


def _order(result: Result) -> list[str]:
    """Objectives from the most accurate to the least; those without an accuracy last."""
    means = result.data["matrix"].value.mean("seed")
    accuracy = means.sel(measure="accuracy") if "accuracy" in means.measure.values else means.isel(measure=0)
    return [str(name) for name in accuracy.sortby(-accuracy.fillna(-np.inf)).objective.values]


def matrix(result: Result) -> Figure:
    """Every measure of every encoder, coloured by its rank among the encoders, from worst to best.

    A cell has the mean over seeds, and below it the sample deviation where there are two or more.
    """
    value, objectives = result.data["matrix"].value, _order(result)
    means, deviations = value.mean("seed"), value.std("seed", ddof=1).where(value.count("seed") > 1)
    names = [str(name) for name in means.measure.values]
    values, spreads = (part.sel(objective=objectives).values for part in (means, deviations))
    better = turned_means(result.data["matrix"].value.sel(objective=objectives)).values
    ranks = stats.rankdata(better, axis=1, nan_policy="omit") - 1
    standing = ranks / np.maximum(np.nanmax(ranks, 1, keepdims=True), 1)
    figure = Figure(figsize=(PAGE, 0.3 * len(names) + 1.2))
    ax = figure.subplots()
    texts = [
        [_with_spread(name, *cell) for cell in zip(*row, strict=True)]
        for name, *row in zip(names, values, spreads, strict=True)
    ]
    annotated(ax, standing, texts, standing > 0.6, size=6, cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(len(objectives)), [label(name) for name in objectives], rotation=40, ha="right", fontsize=7)
    ax.set_yticks(range(len(names)), [with_unit(name) for name in names], fontsize=7)
    for place in _between_kinds(names):
        ax.axhline(place, color="white", linewidth=2)
    return figure


def _between_kinds(names: Sequence[str]) -> list[float]:
    """Where rows of one kind of measure end and those of the next begin."""
    kinds = [MEASURES[name].kind for name in names]
    return [i + 0.5 for i, (one, other) in enumerate(itertools.pairwise(kinds)) if one != other]


def with_unit(name: str) -> str:
    """How a measure is called, in percent where it is a share."""
    return MEASURES[name].label + (", %" if MEASURES[name].share else "")


def agreement(result: Result) -> Figure:
    """Rank correlations, raw below the diagonal, with accuracy held fixed above; a dot where p is below 0.05."""
    data = result.data["agreement"]
    names = [str(name) for name in data.measure.values]
    raw, partial = data.correlation.sel(bound="value").values
    lower = np.tri(len(names), k=-1, dtype=bool)
    shown = np.where(lower, raw, partial)
    apart = np.where(lower, *data.p.values) < LEVEL
    figure = Figure(figsize=(PAGE, PAGE * 0.9))
    ax = figure.subplots()
    texts = [["" if not np.isfinite(v) else "•" if dot else "" for v, dot in zip(*rows, strict=True)]
             for rows in zip(shown, apart, strict=True)]  # fmt: skip
    image = annotated(ax, shown, texts, np.abs(shown) > 0.6, cmap="RdBu", vmin=-1, vmax=1)
    ax.set_facecolor(UNDEFINED)
    for place in _between_kinds(names):
        ax.axhline(place, color="white", linewidth=2)
        ax.axvline(place, color="white", linewidth=2)
    ticks = range(len(names))
    ax.set_xticks(ticks, [MEASURES[name].label for name in names], rotation=90, fontsize=7)
    ax.set_yticks(ticks, [MEASURES[name].label for name in names], fontsize=7)
    figure.colorbar(image, ax=ax, fraction=0.03, pad=0.02).set_label("Spearman's ρ of what counts as better")
    return figure


def selection(result: Result) -> Figure:
    """Of each number without labels: Kendall's τ with each target, and the regret of choosing by it."""
    data = result.data["selection"]
    rows = [n for n in data.measure.values if bool(np.isfinite(data.runs_tau.sel(measure=n)).any())]
    figure = Figure(figsize=(PAGE, 2 * (0.19 * len(rows) + 0.8)))
    axes = figure.subplots(2, len(data.target), sharey=True, squeeze=False)
    for column, target in zip(axes.T, data.target.values, strict=True):
        at = data.sel(target=target, measure=rows)
        _dots(column[0], at.encoders_tau, at.runs_tau)
        _dots(column[1], 100 * at.encoders_regret, 100 * at.runs_regret)
        column[0].axvline(0, color=COLOURS[2], linewidth=0.8)
        chance = [*zip(at.blind_encoders_regret.values, AMONG, strict=False), (at.blind_runs_regret.mean(), RUNS)]
        for blind, colour in chance:
            column[1].axvline(100 * float(blind), color=colour, linewidth=0.8, linestyle=":")
        column[0].set_title(TARGET_LABELS[target])
        column[0].set_xlabel("Kendall's τ")
        column[0].set_xlim(-1.05, 1.05)
        column[1].set_xlabel("regret, points")
    for ax in axes[:, 0]:
        ax.set_yticks(range(len(rows)), [MEASURES[name].label for name in rows], fontsize=7)
    axes[0, 0].invert_yaxis()
    handles, texts = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper center", ncols=3)
    return figure


def _dots(ax: Axes, encoders: xr.DataArray, runs: xr.DataArray) -> None:
    """One number over encoders [among, measure], and the mean and range over runs of that over checkpoints."""
    y = np.arange(encoders.sizes["measure"])
    mean = runs.mean("objective")
    reach = np.maximum([mean - runs.min("objective"), runs.max("objective") - mean], 0)  # but for rounding
    style = {"linestyle": "", "markersize": 4}
    for among, marker, colour in zip(encoders.among.values, (MARKERS[0], MARKERS[2]), AMONG, strict=True):
        ax.plot(encoders.sel(among=among), y - 0.15, marker, color=colour, label=str(among), **style)
    bars = {"fmt": MARKERS[1], "color": RUNS, "elinewidth": 0.6, "markersize": 3}
    ax.errorbar(mean, y + 0.15, xerr=reach, label="checkpoints: mean and range of runs", **bars)


def embedding(result: Result) -> Figure:
    """All encoders and checkpoints in the plane of their similarities; lines follow training from the start."""
    data = result.data["embedding"]
    x, y = data.coordinate.values.T
    owner, step = data.objective.values, data.step.values
    coloured = [name for name in _order(result) if name in owner and name not in CONTROLS][:NAMED]
    figure = Figure(figsize=(PAGE, 0.75 * PAGE))
    ax = figure.subplots()
    start, names = owner == "untrained", {}
    for name in dict.fromkeys(owner[~start]):
        ours = owner == name
        colour, marker = (styles.colour(name), styles.marker(name)) if name in coloured else ("#999999", ".")
        along = np.flatnonzero(ours & (step >= 0))
        if len(along):
            along = along[step[along].argsort()]
            first = np.flatnonzero(start)[: int(step[along[0]] > 0)]  # but where a run has a beginning of its own
            path = np.concatenate([first, along])
            ax.plot(x[path], y[path], color=colour, linewidth=1, alpha=0.7, zorder=1)
        ends = ours & (step < 0)
        known = label(name) if name in coloured else None
        ax.plot(x[ends], y[ends], marker, color=colour, markersize=6, zorder=2, label=known)
        names[label(name)] = (x[ends].mean(), y[ends].mean()), colour if name in coloured else "#555555"
    ax.plot(x[start], y[start], "k*", markersize=8)
    names["untrained"] = (x[start][0], y[start][0]), "black"
    shares = [f"{100 * float(share):.0f} %" for share in data.explained.values]
    ax.set_xlabel(f"first principal coordinate ({shares[0]} of the variance)")
    ax.set_ylabel(f"second principal coordinate ({shares[1]})")
    ax.set_aspect("equal", "datalim")
    points, colours = zip(*names.values(), strict=True)
    at_points(ax, np.array(points), list(names), colours)
    return figure
