"""Figures of the study of representation quality: a Result in, a matplotlib Figure out."""

import itertools
import math
import textwrap

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sslnb.core.labels import label
from sslnb.core.result import Result
from sslnb.report import lines, styles
from sslnb.report.panels import (
    COLOURS,
    MARKERS,
    PAGE,
    annotated,
    leave_out,
    legend,
    mean_spread,
    nothing,
    on_any_ground,
    panels,
    sentence,
)
from sslnb.report.tables import set_label
from sslnb.studies.qscore.findings import at_chosen_rate

SUBSET_LABELS = {"discriminative": "middle rates", "random": "random", "pca": "PCA"} | {
    "lower": "lowest rates",
    "upper": "highest rates",
}
KIND_LABELS = ("image", "discriminative", "regularized", "group", "PCA", "least active")
GAUGE_LABELS = {"highly": "highly activating features", "confidence": "confidence in %", "auroc": "AUROC in %"}
STAGE_LABELS = {"before": "before", "plain": "plain steps", "lasso": "lasso", "qscore": "Q-Score"}
NARROW = 14  # letters of a title over a fifth of the page
FAVOURED = 3  # classes of a feature, as bars
HEAT = 0.6  # opacity of a heatmap on its image


def look(method: str) -> dict[str, object]:
    """Colour and marker of a method."""
    return {"color": styles.colour(method), "marker": styles.marker(method)}


def measured(values: xr.DataArray) -> list[tuple[int, str]]:
    """Position and name of the objectives of which anything is known."""
    known = values.notnull().any([dim for dim in values.dims if dim != "objective"]).values
    return [(m, str(name)) for m, name in enumerate(values.objective.values) if known[m]]


def first_set(result: Result, step: str, name: str) -> xr.DataArray:
    """A quantity on the first data set."""
    return result.data[step][name].isel(dataset=0)


def activation_maps(result: Result) -> Figure:
    """Activations of the first test samples, as shares of each sample's greatest: a panel per method."""
    values = result.data["representations"].activations
    methods = measured(values)
    columns = min(5, len(methods))
    figure, axes = panels(columns, math.ceil(len(methods) / columns), height=1.9, sharex=True, sharey=True)
    for ax, (m, method) in zip(axes.flat, methods, strict=False):
        image = ax.imshow(values.values[m], aspect="auto", cmap="viridis", vmin=0, vmax=1)
        ax.set_title(textwrap.fill(label(method), NARROW))
    leave_out(axes, len(methods))
    for ax in axes[:, 0]:
        ax.set_ylabel("sample", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("feature", fontsize=8)
    figure.colorbar(image, ax=axes, fraction=0.03).set_label("activation / greatest", fontsize=8)
    return figure


def magnitudes(result: Result) -> Figure:
    """Distribution of magnitudes relative to each sample's greatest, on a logarithmic scale, a line per method."""
    figure, axes = panels(1, height=3.2)
    density = result.data["representations"].magnitudes
    centres = (np.arange(density.sizes["bin"]) + 0.5) / density.sizes["bin"]
    lines.of_objectives(axes[0, 0], centres, {name: 100 * density.values[m, None] for m, name in measured(density)})
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_xlabel("activation / greatest of its sample")
    axes[0, 0].set_ylabel("share of activations in %")
    legend(figure, axes[0, 0], 6)
    return figure


def rates(result: Result) -> Figure:
    """Activation rates of all features in ascending order, a line per method (first set and seed); the band is grey."""
    figure, axes = panels(1, height=3.2)
    ax, attrs = axes[0, 0], result.data["representations"].attrs
    values = first_set(result, "features", "rate").isel(seed=0)
    share = np.linspace(0, 1, 101)  # encoders differ in how many features they have
    ascending = {name: np.nanquantile(values.values[m], share)[None] for m, name in measured(values)}
    lines.of_objectives(ax, 100 * share, ascending)
    ax.axvspan(attrs["low"], attrs["high"], color="0.93", zorder=0)
    ax.set_xlabel("features in ascending order of their rate, percentile")
    ax.set_yscale("symlog", linthresh=1)  # most rates are a few percent, and an untrained network has 0 and 100
    ax.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    ax.set_ylabel("samples activated, %")
    legend(figure, ax, 6)
    return figure


def overlay(ax: Axes, image: np.ndarray, heat: np.ndarray | None = None) -> None:
    """An image uint8 [C,H,W], and on it its heatmap [H,W], from cold (dark) to its own greatest (bright)."""
    shown = image if heat is None else warmed(image, heat.astype(float))
    ax.imshow(shown.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def warmed(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """An image uint8 [C,H,W] under its heatmap [H,W], as a picture uint8 [3,H,W]."""
    colours = colormaps["inferno"](heat / max(float(np.nanmax(heat)), 1e-12))[..., :3].transpose(2, 0, 1)
    return (255 * HEAT * colours + (1 - HEAT) * image).round().astype(np.uint8)


def example(result: Result, which: int) -> Figure:
    """One feature: the images that activate it most, above as they are, below under its heatmap; its classes."""
    figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
    _example_rows(figure.subfigures(1, 1), result, [which])
    return figure


def examples(result: Result) -> Figure:
    """Features of the lower tail, the band and the upper tail: of each the first and the last that are kept."""
    groups = result.data["features"].get("example_group", xr.DataArray(np.zeros(0))).values
    if not len(groups):
        return sentence("no feature is discriminative")
    own = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    chosen = sorted({int(i) for members in own for i in (members[0], members[-1])})
    figure = Figure(figsize=(PAGE, 1.05 * len(chosen) + 0.3), layout="constrained")
    _example_rows(figure, result, chosen, whole=False)
    return on_any_ground(figure)


def _example_rows(figure: object, result: Result, chosen: list[int], *, whole: bool = True) -> None:
    """A row per feature: its top images under its heatmap (``whole``: and as they are, above), the classes it favours.

    Bars of all rows share a scale.
    """
    data = result.data["features"]
    a = {name: data[name].values for name in data.data_vars if str(name).startswith("example")}
    top, high = a["example_image"].shape[1], 2 if whole else 1
    grid = figure.add_gridspec(high * len(chosen), top + 3, width_ratios=[1.1, *[1] * top, 0.7, 1.5])
    shares = 100 * np.nan_to_num(a["example_class_rates"])
    for row, i in enumerate(chosen):
        rows = slice(high * row, high * (row + 1))
        told = figure.add_subplot(grid[rows, 0])
        group = data["band"].values[int(a["example_group"][i])]
        nothing(told, f"feature {a['example_feature'][i]}\n{group}\n{a['example_rate'][i]:.1f} % of images")
        for column, extra in itertools.product(range(top), range(high)):
            ax = figure.add_subplot(grid[high * row + extra, column + 1])
            overlay(ax, a["example_image"][i, column], a["example_heat"][i, column] if extra == high - 1 else None)
        bars, order = figure.add_subplot(grid[rows, top + 2]), np.argsort(-shares[i], kind="stable")[:FAVOURED]
        bars.barh(range(len(order)), shares[i, order], color=COLOURS[0])
        bars.set_yticks(range(len(order)), [data.attrs["classes"][k][:12] for k in order], fontsize=8)
        bars.invert_yaxis()
        bars.set_xlim(0, max(1.0, float(shares[chosen].max())))
        bars.spines[["top", "right"]].set_visible(False)
        bars.tick_params(labelbottom=row == len(chosen) - 1)
    bars.set_xlabel("% of the class", fontsize=8)


def grid_of(values: np.ndarray, rows: list, columns: list, names: tuple[str, str, str], notes: np.ndarray) -> Figure:
    """Values [rows,columns] in percent as colours with their numbers; a second line of ``notes`` in each cell."""
    figure, axes = panels(1, height=0.9 + 0.42 * len(rows))
    ax = axes[0, 0]
    low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0, 1)
    texts = np.full(values.shape, "–", object)
    for i, j in np.argwhere(np.isfinite(values)):
        texts[i, j] = f"{100 * values[i, j]:.1f}{notes[i, j]}"
    image = annotated(ax, 100 * values, texts, values < (low + high) / 2, cmap="viridis")
    ax.set_xticks(range(len(columns)), [f"{v:g}" for v in columns])
    ax.set_yticks(range(len(rows)), [f"{v:g}" for v in rows])
    ax.set_ylabel(names[0])
    ax.set_xlabel(names[1])
    figure.colorbar(image, ax=ax, fraction=0.04).set_label(names[2])
    return figure


def sensitivity(result: Result) -> Figure:
    """AUROC over epsilon and the band's lower end (pictured method, mean over seeds), and how often L ∩ D is empty."""
    data = result.data["features"].sel(objective=result.data["features"].attrs["pictured"]).isel(dataset=0)
    area, empty = (mean_spread(data[name].values)[0] for name in ("sensitivity", "empty"))
    notes = np.array([[f"\n{100 * e:.0f} % empty" if math.isfinite(e) else "" for e in row] for row in empty])
    names = "ε in deviations", "lower end of the band, percentile", "AUROC in %"
    return grid_of(area, data.epsilon.values, data.low.values, names, notes)


def subsets(result: Result, *, dataset: int = 0) -> Figure:
    """Accuracy of probes against the share of the features they keep: a panel per method, a line per choice."""
    accuracy = result.data["subset_probes"].accuracy.isel(dataset=dataset)
    methods = measured(accuracy)
    columns = min(4, max(1, len(methods)))
    figure, axes = panels(columns, max(1, math.ceil(len(methods) / columns)), height=2.1, sharex=True)
    leave_out(axes, len(methods))
    for ax, (_, method) in zip(axes.flat, methods, strict=False):
        for i, name in enumerate(accuracy.subset.values):
            own = accuracy.sel(objective=method, subset=name).values
            look = {"marker": MARKERS[i], "markersize": 3}
            lines.band(ax, 100 * accuracy.share.values, 100 * own, COLOURS[i], SUBSET_LABELS[name], **look)
        ax.set_title(label(method))
    figure.supxlabel("share of the features kept, %")
    figure.supylabel("accuracy in %")
    if methods:
        legend(figure, axes[0, 0], 5)
    return figure


def score_explorer(score: np.ndarray, right: np.ndarray, title: str) -> Figure:
    """Distribution of the Q-Score [N] over right and over wrong samples; nought is where L ∩ D is empty."""
    figure, axes = panels(1, height=2.6)
    ax = axes[0, 0]
    edges = np.linspace(0, max(float(score.max()), 1e-6), 41)
    for o, (name, chosen) in enumerate((("right", right), ("wrong", ~right))):
        style = {"color": COLOURS[o], "density": True, "alpha": 0.5, "label": f"classified {name}, {chosen.sum():,}"}
        if chosen.any():
            ax.hist(score[chosen], edges, **style)
    ax.set(xlabel="Q-Score", yticks=[])
    ax.set_ylabel("density")
    ax.set_title(title, fontsize=10, loc="left")
    ax.legend(fontsize=8)
    return figure


def outcomes(result: Result) -> Figure:
    """Mean activations of discriminative features per class: right samples at the left, wrong ones at the right."""
    data = result.data["outcomes"]
    values = data.by_class.values
    if not values.size:
        return sentence("no feature is discriminative")
    figure, axes = panels(2, height=0.9 + 0.16 * min(20, values.shape[1]), sharey=True)
    top = np.nanmax(values) if np.isfinite(values).any() else 1
    for ax, part, title in zip(axes[0], values[:, :20], ("right", "wrong"), strict=True):
        image = ax.imshow(part, aspect="auto", cmap="viridis", vmin=0, vmax=top)
        ax.set_title(f"classified {title}", fontsize=10)
        ax.set_xlabel("discriminative feature")
    names = data.attrs["classes"][:20]
    axes[0, 0].set_yticks(range(len(names)), names, fontsize=7)
    figure.colorbar(image, ax=axes, fraction=0.03).set_label("mean activation", fontsize=8)
    return figure


def curves(result: Result) -> Figure:
    """ROC and precision-recall curves of the Q-Score, a line per method (first set, mean over seeds)."""
    figure, axes = panels(2, height=3.2)
    drawn = first_set(result, "predict", "curves")
    methods = [method for _, method in measured(drawn)]
    for ax, kind in zip(axes[0], drawn.curve.values, strict=True):
        values = {m: drawn.sel(objective=m, curve=kind).transpose("seed", ...).values[:, 1:] for m in methods}
        lines.of_objectives(ax, drawn.x.values[1:], values)
    axes[0, 0].plot((0, 1), (0, 1), color="0.6", linestyle=":", linewidth=1)
    axes[0, 0].set(xlabel="false positive rate", ylabel="true positive rate")
    axes[0, 1].set(xlabel="recall", ylabel="precision", ylim=(0, 1))
    if methods:
        legend(figure, axes[0, 0], 6)
    return figure


def gauges(result: Result) -> Figure:
    """Highly activating features, confidence and AUROC before and after training on, per method on the first set."""
    data = result.data["regularize"].isel(dataset=0)
    after = at_chosen_rate(data)
    methods, stages = [name for _, name in measured(after)], ("before", *map(str, after.variant.values))
    figure, axes = panels(len(GAUGE_LABELS), height=2.9)
    for ax, (gauge, text) in zip(axes[0], GAUGE_LABELS.items(), strict=True):
        scale = 1 if gauge == "highly" else 100
        for m, method in enumerate(methods):
            at = {"objective": method, "gauge": gauge}
            values = [data.before.sel(at), *(after.sel(at | {"variant": name}) for name in stages[1:])]
            mean, low, high = mean_spread(scale * np.stack([v.values for v in values], 1))
            x = np.arange(len(stages)) + 0.12 * (m - (len(methods) - 1) / 2)
            style = {"fmt": styles.marker(method), "color": styles.colour(method), "markersize": 5, "capsize": 2}
            ax.errorbar(x, mean, (mean - low, high - mean), label=label(method), **style)
        ax.set_xticks(range(len(stages)), [STAGE_LABELS[stage] for stage in stages], rotation=30, ha="right")
        ax.set_xlim(-0.5, len(stages) - 0.5)
        ax.set_title(text)
    if methods:
        legend(figure, axes[0, 0], 5)
    return figure


def ablation(result: Result) -> Figure:
    """Accuracy over both weights of the penalty, mean over seeds, with the deviation beneath."""
    accuracy = result.data["ablation"].gauges.sel(gauge="accuracy").transpose("weight", "norm_weight", "seed")
    notes = np.array([[_deviation(values) for values in row] for row in accuracy.values])
    mean = mean_spread(np.moveaxis(accuracy.values, 2, 0))[0]
    names = "λ₁, of the Q-Score", "λ₂, of the norms", "accuracy in %"
    return grid_of(mean, accuracy.weight.values, accuracy.norm_weight.values, names, notes)


def _deviation(values: np.ndarray) -> str:
    """A second line for a cell: the deviation over seeds, where there are two."""
    values = values[np.isfinite(values)]
    return f"\n± {100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""


def samples(result: Result) -> Figure:
    """Heatmaps of a few samples, right ones above: their discriminative features, groups, components, least active."""
    data = result.data["heatmaps"]
    if "sample_image" not in data:
        return sentence("no sample has a highly activating discriminative feature")
    a = {name: data[name].values for name in data.data_vars if str(name).startswith("sample")}
    figure, axes = panels(len(KIND_LABELS), len(a["sample_image"]), height=1.15)
    for row, image in enumerate(a["sample_image"]):
        for column, text in enumerate(KIND_LABELS):
            heat = a["sample_heat"][row, column - 1] if column else None
            if heat is None or heat.max() > 0:  # neither missing nor without any heat
                overlay(axes[row, column], image, heat)
            else:
                nothing(axes[row, column], "–")
            if not row:
                axes[row, column].set_title(text)
        outcome = "right" if a["sample_right"][row] else "wrong"
        axes[row, 0].set_ylabel(f"{data.attrs['classes'][a['sample_label'][row]][:12]}\n{outcome}", fontsize=8)
    return on_any_ground(figure)


def overlaps(result: Result) -> Figure:
    """Overlap of heatmaps with the object, right and wrong samples, each stage: a panel per set, a row per encoder."""
    data = result.data["heatmaps"]
    sets, methods = data.masked.values, [method for _, method in measured(data.overlap)]
    figure, axes = panels(max(1, len(sets)), height=1.2 + 0.24 * max(4, len(methods)), sharey=True)
    stages = [stage for stage in data.stage.values if bool(data.overlap.sel(stage=stage).notnull().any())]
    marks = [(stage, outcome) for stage in stages for outcome in data.outcome.values]
    if not len(sets):
        nothing(axes[0, 0], "no set with masks was asked for")
        return figure
    for ax, name in zip(axes[0], sets, strict=True):
        core = 100 * data.overlap.sel(masked=name, region="core", objective=methods)
        for b, (stage, outcome) in enumerate(marks):
            values = core.sel(stage=stage, outcome=outcome).transpose("seed", "objective").values
            mean, low, high = mean_spread(values)
            y = np.arange(len(methods)) + 0.12 * (b - (len(marks) - 1) / 2)
            style = {"fmt": MARKERS[b], "color": COLOURS[b], "markersize": 4, "capsize": 2}
            ax.errorbar(mean, y, xerr=(mean - low, high - mean), label=f"{STAGE_LABELS[stage]}, {outcome}", **style)
        ax.axvline(100 * float(data.area.sel(masked=name)), color="0.4", linestyle=":", label="the object's area")
        ax.set_title(set_label(name))
    axes[0, 0].set_yticks(range(len(methods)), map(label, methods))
    axes[0, 0].set_ylim(len(methods) - 0.4, -0.6)
    figure.supxlabel("heat on the object, %")
    legend(figure, axes[0, 0], 3)
    return figure
