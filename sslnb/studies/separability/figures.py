"""Figures of the study of separability: a Result in, a matplotlib Figure out."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from sslnb.core.labels import NORM_LABELS, label, short
from sslnb.core.result import Result
from sslnb.features.linear import LEARNING_RATES, WEIGHT_DECAYS
from sslnb.report.panels import COLOURS, MARKERS, annotated, legend, mean_spread, panels


def _methods(result: Result) -> list[tuple[int, str, str, str]]:
    """Index, label, colour and marker of each method."""
    names = result.scalars["methods"]
    n = len(COLOURS)  # after which colours come again, with other markers
    return [(m, label(name), COLOURS[m % n], MARKERS[(m + m // n) % n]) for m, name in enumerate(names)]


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
    """Pretraining loss per epoch, one panel per trained method, one line per seed."""
    rows = [row for row in _methods(result) if np.isfinite(result.arrays["loss"][row[0]]).any()]
    figure, axes = panels(max(1, len(rows)), height=2.4)
    if not rows:
        axes[0, 0].text(0.5, 0.5, "no encoder was trained in this run", ha="center", va="center")
        axes[0, 0].set_axis_off()
        return figure
    for ax, (m, name, colour, _) in zip(axes[0], rows, strict=True):
        for s, seed in enumerate(result.scalars["seeds"]):
            loss = result.arrays["loss"][m, s]
            loss = loss[np.isfinite(loss)]
            style = ("-", "--", ":", "-.")[s % 4]
            ax.plot(np.arange(1, len(loss) + 1), loss, style, color=colour, label=f"seed {seed}", marker=".")
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(fontsize=8)
    axes[0, 0].set_ylabel("training loss")
    return figure


def probe_grid(result: Result, *, dataset: int = 0, scale: int = 0) -> Figure:
    """Validation accuracy over learning rate and weight decay, per method (first seed); the choice is framed."""
    rows = _methods(result)
    figure, axes = panels(len(rows), height=3.1, sharey=True)
    grids = result.arrays["grid"][:, 0, dataset, scale]
    low, high = np.nanmin(grids), np.nanmax(grids)
    rates, decays = (f"{r:g}" for r in LEARNING_RATES), [f"{d:.0e}".replace("e-0", "e-") for d in WEIGHT_DECAYS]
    for ax, (m, name, _, _) in zip(axes[0], rows, strict=True):
        texts = [[f"{100 * value:.0f}" if math.isfinite(value) else "–" for value in row] for row in grids[m]]
        dark = ~(grids[m] >= (low + high) / 2)
        image = annotated(ax, grids[m], texts, dark, vmin=low, vmax=high, cmap="viridis")
        best = np.unravel_index(np.nanargmax(grids[m]), grids[m].shape)
        ax.add_patch(_frame(best[1], best[0]))
        ax.set_title(name, fontsize=10)
        ax.set_xticks(range(len(decays)), decays)
        ax.set_xlabel("weight decay")
    axes[0, 0].set_yticks(range(len(LEARNING_RATES)), rates)
    axes[0, 0].set_ylabel("learning rate")
    bar = figure.colorbar(image, ax=axes, fraction=0.04)
    bar.set_label("validation accuracy")
    return figure


def _frame(x: float, y: float) -> Rectangle:
    return Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="#D55E00", linewidth=2.2)


def margin_distributions(result: Result, *, dataset: int = 0) -> Figure:
    """Density of margins over right test samples (all seeds pooled), one panel per norm; dashes mark the means."""
    name = result.scalars["datasets"][dataset]
    margins = result.arrays[f"margins/{name}"].astype(np.float64)  # [M,S,P,N]
    figure, axes = panels(margins.shape[2], height=2.9)
    for i, ax in enumerate(axes[0]):
        measured = margins[:, :, i][np.isfinite(margins[:, :, i])]
        top = np.quantile(measured, 0.995) if len(measured) else 1.0
        edges = np.linspace(0, top, 61)
        for m, text, colour, _ in _methods(result):
            values = margins[m, :, i]
            values = values[np.isfinite(values)]
            if len(values):
                ax.hist(values, edges, density=True, histtype="stepfilled", color=colour, alpha=0.25)
                ax.hist(values, edges, density=True, histtype="step", color=colour, linewidth=1.4, label=text)
                ax.axvline(values.mean(), color=colour, linestyle="--", linewidth=1)
        ax.set_title(NORM_LABELS[result.scalars["norms"][i]], fontsize=11)
        ax.set(xlabel="margin", yticks=[], xlim=(0, top))
    axes[0, 0].set_ylabel("density")
    legend(figure, axes[0, 0], len(result.scalars["methods"]))
    return figure


def mean_margins(result: Result, *, scale: int = 0) -> Figure:
    """Mean margin per data set and method, one panel per norm; bars span the seeds."""
    means = result.arrays["mean_margin"][:, :, :, scale]  # [M,S,D,P]
    figure, axes = panels(means.shape[3], height=3.2)
    positions = np.arange(means.shape[2])
    for i, ax in enumerate(axes[0]):
        for m, text, colour, marker in _methods(result):
            mean, low, high = mean_spread(means[m, :, :, i])
            x = positions + 0.16 * (m - (means.shape[0] - 1) / 2)
            ax.errorbar(x, mean, (mean - low, high - mean), fmt=marker, color=colour, capsize=3, label=text)
        ax.set_title(NORM_LABELS[result.scalars["norms"][i]], fontsize=11)
        ax.set_xticks(positions, [short(d) for d in result.scalars["datasets"]], fontsize=7, rotation=35, ha="right")
        ax.set_ylim(bottom=0)
    axes[0, 0].set_ylabel("mean margin")
    legend(figure, axes[0, 0], means.shape[0])
    return figure


def accuracy_against_budget(result: Result, *, dataset: int = 0) -> Figure:
    """Exact accuracy against budget (lines: mean over seeds, band: their range), PGD's dots on it where it was run."""
    budgets, curves = result.arrays["budgets"], result.arrays["curves"][:, :, dataset, 0]

    def lines(ax: Axes, i: int, m: int) -> tuple[np.ndarray, np.ndarray]:
        return budgets[i], curves[m, :, i]

    dots = result.arrays["pgd"] if dataset == 0 else None
    return _curves(result, lines, dots, "exact")


def multilayer_against_budget(result: Result) -> Figure:
    """Accuracy of the multi-layer probe under PGD against budget; bands span the seeds."""
    dots, curves = result.arrays["dots"], result.arrays["mlp_pgd"]
    return _curves(result, lambda ax, i, m: (dots[i], curves[m, :, i]), None, "PGD")


def _curves(result: Result, lines: Callable, dots: np.ndarray | None, what: str) -> Figure:
    norms, reach = result.scalars["attacked"], result.arrays["dots"][:, -1]
    figure, axes = panels(len(norms), height=3.3, sharey=True)
    for i, ax in enumerate(axes[0]):
        top = 0.0
        for m, text, colour, marker in _methods(result):
            budgets, values = lines(ax, i, m)
            mean, low, high = mean_spread(values)
            top = max(top, budgets[np.nan_to_num(high) > 0.005].max(initial=0))
            ax.plot(budgets, 100 * mean, color=colour, label=f"{text} ({what})")
            ax.fill_between(budgets, 100 * low, 100 * high, color=colour, alpha=0.2, linewidth=0)
            if dots is not None:
                attacked = 100 * mean_spread(dots[m, :, i])[0]
                ax.plot(result.arrays["dots"][i], attacked, marker, color=colour, markersize=5, label=f"{text} (PGD)")
        # Where every curve has come down to nothing, there is nothing to see.
        ax.set(xlim=(0, min(1.25 * top, reach[i]) or reach[i]), ylim=(0, 100))
        ax.set_xlabel(f"budget in {NORM_LABELS[norms[i]]}")
    axes[0, 0].set_ylabel("accuracy in %")
    legend(figure, axes[0, 0], 3)
    return figure


def margin_explorer(margins: Sequence[np.ndarray], names: Sequence[str], budget: float, norm: str) -> Figure:
    """Margins of several methods (each [N], NaN where wrong), with the samples that a budget flips shaded."""
    figure, axes = panels(1, len(names), height=1.5, sharex=True)
    pooled = np.concatenate([m[np.isfinite(m)] for m in margins] or [np.zeros(1)])
    top = max(np.quantile(pooled, 0.995), budget) if len(pooled) else 1.0
    edges = np.linspace(0, top * 1.02, 61)
    for ax, name, margin, colour in zip(axes[:, 0], names, margins, COLOURS, strict=False):
        right = margin[np.isfinite(margin)]
        _, _, bars = ax.hist(right, edges, color=colour, alpha=0.85)
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
