"""Figures of the study of separability: a Result in, a matplotlib Figure out."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter, StrMethodFormatter
from numpy.typing import ArrayLike

from sslnb.core.labels import NORM_LABELS, label
from sslnb.core.result import Result
from sslnb.pool.pool import MATCHED
from sslnb.report import lines, styles
from sslnb.report.panels import COLOURS, MARKERS, annotated, leave_out, legend, mean_spread, panels, sentence
from sslnb.report.tables import set_label
from sslnb.studies.separability.claims import compared

PANEL_LETTERS = 18  # of a title above one of four panels
ROW = 0.14  # inches, of a line of small letters


def _objectives(result: Result) -> list[tuple[str, str, str, str]]:
    """Name, label, colour and marker of each objective."""
    names = result.data["pretraining"].objective.values
    return [(name, label(name), styles.colour(name), styles.marker(name)) for name in names]


def worked_example(
    points: ArrayLike, labels: ArrayLike, weight: ArrayLike, bias: ArrayLike, margins: ArrayLike
) -> Figure:
    """Points in the plane, the regions of a linear classifier, and each right point's l2 margin as a disc.

    points [N,2], labels [N], weight [K,2], bias [K], margins [N] with NaN for wrong points, which get a cross.
    """
    points, labels, weight, bias, margins = (np.asarray(a) for a in (points, labels, weight, bias, margins))
    figure, axes = panels(1, height=3.8)
    ax = axes[0, 0]
    low, high = points.min(0) - 0.8, points.max(0) + 0.8
    grid = np.stack(np.meshgrid(np.linspace(low[0], high[0], 300), np.linspace(low[1], high[1], 300)), -1)
    region = (grid @ weight.T + bias).argmax(-1)
    levels = np.arange(len(weight) + 1) - 0.5
    ax.contourf(grid[..., 0], grid[..., 1], region, levels=levels, colors=COLOURS[: len(weight)], alpha=0.12)
    ax.contour(grid[..., 0], grid[..., 1], region, levels=levels[1:-1], colors="0.35", linewidths=0.8)
    for point, which, margin in zip(points, labels, margins, strict=True):
        colour, right = COLOURS[which], math.isfinite(margin)
        if right:
            ax.add_patch(Circle(point, margin, facecolor=colour, alpha=0.18, edgecolor=colour))
        ax.plot(*point, marker=MARKERS[which] if right else "x", color=colour, markersize=6, linestyle="none")
    ax.set(aspect="equal", xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="feature 1", ylabel="feature 2")
    return figure


def training_curves(result: Result) -> Figure:
    """Pretraining loss per epoch, a panel for each objective that was trained to its end, a line for each seed."""
    loss = result.data["pretraining"].loss.drop_sel(objective=MATCHED, errors="ignore")
    trained = set(loss.objective.values[loss.notnull().any(("seed", "epoch")).values])
    rows = [row for row in _objectives(result) if row[0] in trained]
    if not rows:
        return sentence("no encoder was trained for this run")
    figure, axes = panels(min(4, len(rows)), -(-len(rows) // 4), height=1.9)
    leave_out(axes, len(rows))
    for ax, (name, text, colour, _) in zip(axes.flat, rows, strict=False):
        for s, curve in enumerate(loss.sel(objective=name)):
            style = ("-", "--", ":", "-.")[s % 4]
            ax.plot(curve.epoch, curve, style, color=colour, label=f"seed {int(curve.seed)}")
        ax.set_title(textwrap.fill(text, PANEL_LETTERS))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.supxlabel("epoch")
    figure.supylabel("training loss")
    return figure


def probe_grid(result: Result, *, scale: str | None = None) -> Figure:
    """Validation accuracy over learning rate and weight decay, per objective (first seed, first set); choice framed."""
    probed = result.data["probes"]
    grids = probed.validation.isel(seed=0, dataset=0).sel(scale=scale or probed.attrs["primary"])
    rows = _objectives(result)
    columns = min(4, len(rows))
    figure, axes = panels(columns, -(-len(rows) // columns), height=2.4, sharex=True, sharey=True)
    low, high = float(grids.min()), float(grids.max())
    decays = [f"{d:.0e}".replace("e-0", "e-") for d in grids.decay.values]
    for ax, (name, text, _, _) in zip(axes.flat, rows, strict=False):
        grid = grids.sel(objective=name).transpose("rate", "decay").values
        texts = [[f"{100 * value:.0f}" if math.isfinite(value) else "–" for value in row] for row in grid]
        image = annotated(ax, grid, texts, ~(grid >= (low + high) / 2), vmin=low, vmax=high, cmap="viridis")
        if np.isfinite(grid).any():
            row, column = np.unravel_index(np.nanargmax(grid), grid.shape)
            ax.add_patch(_frame(column, row))
        ax.set_title(textwrap.fill(text, PANEL_LETTERS))
        ax.set_xticks(range(len(decays)), decays)
        ax.set_yticks(range(grid.shape[0]), [f"{r:g}" for r in grids.rate.values])
    leave_out(axes, len(rows))
    figure.supxlabel("weight decay")
    figure.supylabel("learning rate")
    figure.colorbar(image, ax=axes, fraction=0.04, format=PercentFormatter(1, symbol=None)).set_label(
        "validation accuracy in %"
    )
    return figure


def _frame(x: float, y: float) -> Rectangle:
    return Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="#D55E00", linewidth=2.2)


def margin_distributions(result: Result) -> Figure:
    """Margins of correct test samples (first set and seed) on a logarithmic axis, a panel per norm; dashes: means."""
    data = result.data["separation"]
    name = data.dataset.values[0]
    margins = data.margin.isel(sample=(data.sample_dataset == name).values).astype(np.float64)
    figure, axes = panels(margins.sizes["norm"], height=2.9)
    for ax, norm in zip(axes[0], margins.norm.values, strict=True):
        values = margins.sel(norm=norm)
        values = values.where(values > 0)
        least, top = values.quantile([0.002, 0.998]).values if bool(values.notnull().any()) else (0.1, 1.0)
        edges = np.geomspace(least, top, 51)
        shown = lines.coloured(values.objective.values)
        for objective, text, colour, _ in _objectives(result):
            finite = values.sel(objective=objective).values
            finite = finite[np.isfinite(finite)]
            share = {"bins": edges, "weights": np.full(len(finite), 100 / max(len(finite), 1))}
            if len(finite) and objective not in shown:
                ax.hist(finite, **share, histtype="step", **lines.other(ax))
            elif len(finite):
                ax.hist(finite, **share, histtype="stepfilled", color=colour, alpha=0.25)
                ax.hist(finite, **share, histtype="step", color=colour, linewidth=1.4, label=text)
                ax.axvline(finite.mean(), color=colour, linestyle="--", linewidth=1)
        ax.set_title(NORM_LABELS[norm], fontsize=11)
        ax.set(xlabel="margin", xscale="log", xlim=(least, top))
    axes[0, 0].set_ylabel("share of the samples, %")
    legend(figure, axes[0, 0], 4)
    return figure


def mean_margins(result: Result, *, scale: str | None = None) -> Figure:
    """Mean margin of every objective, a panel for each norm and data set; bars span the seeds."""
    means = compared(result.data["probes"], result.data["separation"].mean_margin, scale)
    drawn = _objectives(result)
    high = 0.35 + ROW * len(drawn)  # a line of text for each objective
    figure, axes = panels(means.sizes["dataset"], means.sizes["norm"], height=high, sharey=True)
    for (n, d), ax in np.ndenumerate(axes):
        here = means.isel(norm=n, dataset=d, drop=True)
        for row, (name, _, colour, marker) in enumerate(drawn):
            mean, low, most = mean_spread(here.sel(objective=name).values[:, None])
            ax.errorbar(mean, [row], xerr=(mean - low, most - mean), fmt=marker, color=colour, markersize=5)
        if bool(here.notnull().any()):
            ax.set_xscale("log")  # on which equal ratios are equally far apart
            low, most = ax.get_xlim()
            few = MaxNLocator(3, steps=[1, 2, 5, 10])  # where 1, 2 and 5 are too far apart
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if most > 5 * low else few)
            ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(axis="x", linewidth=0.4)
        if not n:
            ax.set_title(set_label(str(means.dataset.values[d])), fontsize=10)
        if not d:
            ax.set_ylabel(f"mean margin in {NORM_LABELS[str(means.norm.values[n])]}")
    axes[0, 0].set_yticks(range(len(drawn)), [text for _, text, _, _ in drawn], fontsize=7)
    axes[0, 0].invert_yaxis()
    return figure


def accuracy_against_budget(result: Result, *, scale: str | None = None) -> Figure:
    """Exact accuracy against budget on the first set (lines: mean over seeds, band: their range), PGD's dots on it."""
    data, attacked = result.data["separation"], result.data["attacked"]
    curves = data.curve.isel(dataset=0).sel(scale=scale or result.data["probes"].attrs["primary"])
    figure, axes = panels(attacked.sizes["attacked"], height=3.3, sharey=True)
    for ax, norm in zip(axes[0], attacked.attacked.values, strict=True):
        _lines(ax, data.budget.sel(attacked=norm), curves.sel(attacked=norm, drop=True))
        for name in lines.coloured(attacked.objective.values):
            mean = 100 * attacked.pgd.sel(objective=name, attacked=norm).mean("seed")
            look = {"color": styles.colour(name), "markersize": 4, "label": f"{label(name)} (PGD)"}
            ax.plot(attacked.dot_budget.sel(attacked=norm), mean, styles.marker(name), **look)
        ax.set_xlabel(f"budget in {NORM_LABELS[norm]}")
    return _finished(figure, axes)


def multilayer_against_budget(result: Result) -> Figure:
    """Accuracy of the multi-layer probe under PGD against budget; bands span the seeds."""
    data = result.data["attacked"].rename(dot="step")
    figure, axes = panels(data.sizes["attacked"], height=3.3, sharey=True)
    for ax, norm in zip(axes[0], data.attacked.values, strict=True):
        at = {"attacked": norm, "drop": True}
        _lines(ax, data.dot_budget.sel(**at), data.multilayer.sel(**at))
        ax.set_xlabel(f"budget in {NORM_LABELS[norm]}")
    return _finished(figure, axes)


def _lines(ax: Axes, budgets: xr.DataArray, curves: xr.DataArray) -> None:
    """A line for each objective, mean over seeds, and a band of their range; up to where the last one ends."""
    curves = 100 * curves.transpose("objective", "seed", "step")
    values = dict(zip(curves.objective.values, curves.values, strict=True))
    lines.of_objectives(ax, budgets.values, values)
    ends = [budgets.values[np.nan_to_num(mean_spread(own)[2]) > 0.5].max(initial=0) for own in values.values()]
    # Where every curve has come down to nothing, there is nothing to see.
    ax.set(xlim=(0, min(1.25 * max(ends), float(budgets[-1])) or float(budgets[-1])), ylim=(0, 100))


def _finished(figure: Figure, axes: np.ndarray) -> Figure:
    axes[0, 0].set_ylabel("accuracy in %")
    handles = [line for line in axes[0, 0].get_legend_handles_labels()[0] if line.get_linestyle() != "None"]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def margin_explorer(margins: Sequence[np.ndarray], names: Sequence[str], budget: float, norm: str) -> Figure:
    """Margins of several methods (each [N], NaN where wrong), with the samples that a budget flips shaded."""
    figure, axes = panels(1, len(names), height=1.5, sharex=True)
    pooled = np.concatenate([m[np.isfinite(m)] for m in margins] or [np.zeros(1)])
    top = max(np.quantile(pooled, 0.995), budget) if len(pooled) else 1.0
    edges = np.linspace(0, top * 1.02, 61)
    for ax, name, margin in zip(axes[:, 0], names, margins, strict=True):
        right = margin[np.isfinite(margin)]
        _, _, bars = ax.hist(right, edges, color=styles.colour(name), alpha=0.85)
        for bar, edge in zip(bars, edges, strict=False):
            bar.set_alpha(0.25 if edge < budget else 0.85)
        share = 100 * float((right > budget).sum()) / max(1, len(margin))
        clean = 100 * len(right) / max(1, len(margin))
        ax.axvline(budget, color="k", linewidth=1)
        text = f"{label(name)}: {clean:.1f} % right, {share:.1f} % right at this budget"
        ax.set_title(text, loc="left")
        ax.set_yticks([])
    axes[-1, 0].set_xlabel(f"margin in {NORM_LABELS[norm]}; budget {budget:.3g}")
    return figure
