"""Figures of the study of layer similarity: a Result in, a matplotlib Figure out."""

from collections.abc import Sequence

import numpy as np
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import NullLocator
from scipy.cluster import hierarchy

from sslnb.core.labels import label
from sslnb.core.result import Result
from sslnb.report import lines, styles
from sslnb.report.panels import COLOURS, MARKERS, PAGE, annotated, legend, panels
from sslnb.studies.cka.maps import across, between_seeds, lag, own, parities, stage
from sslnb.studies.cka.parameters import SUPERVISED

SHADES = "magma"
WITHIN = ("the same network", "another seed", "an untrained network")
PARITY_LABELS = ("all layers", "odd layers (residuals)", "even layers (sums)")


def _stages(layers: Sequence[str]) -> dict[str, list[int]]:
    """Positions of each stage's layers."""
    stages: dict[str, list[int]] = {}
    for i, name in enumerate(layers):
        stages.setdefault(stage(name), []).append(i)
    return stages


def _stage_ticks(layers: Sequence[str]) -> tuple[list[float], list[str]]:
    """Where stages of several layers have their middle, and their numbers: names of single layers would overlap."""
    stages = {name: places for name, places in _stages(layers).items() if len(places) > 1}
    return [float(np.mean(places)) for places in stages.values()], [name.removeprefix("layer") for name in stages]


def _said(group: str) -> str:
    """A group of layers in words: "stage 1" rather than torchvision's "layer1"."""
    return str(group).replace("layer", "stage ")


def _map(ax: Axes, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], *, dots: bool = False) -> AxesImage:
    """CKA of layers from the input (below, left) to the output; lines where stages begin, dots at the rows' maxima."""
    image = ax.imshow(values, vmin=0, vmax=1, cmap=SHADES, origin="lower", aspect="auto", interpolation="nearest")
    for set_ticks, names, line in ((ax.set_xticks, columns, ax.axvline), (ax.set_yticks, rows, ax.axhline)):
        set_ticks(*_stage_ticks(names), fontsize=7)
        for places in list(_stages(names).values())[1:]:
            line(places[0] - 0.5, color="white", linewidth=0.4, alpha=0.6)
    if dots:
        ax.plot(values.argmax(1), np.arange(len(values)), "o", color="white", markersize=2.5, markeredgecolor="black",
                markeredgewidth=0.4)  # fmt: skip
    return image


def _bar(figure: Figure, image: AxesImage, axes: np.ndarray) -> None:
    figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02).set_label("CKA")


def within(result: Result) -> Figure:
    """A method's layers against those of the same network, of another seed, and of an untrained network."""
    data = result.data["layer_similarity"]
    methods, layers, cka = list(data.objective.values), list(data.layer.values), data.cka.values
    figure, axes = panels(len(WITHIN), len(methods), height=2.3)
    for m, method in enumerate(methods):
        maps = own(cka, m).mean(0), between_seeds(cka, m).mean(0), data.untrained[m].mean("seed").values
        for ax, values, title in zip(axes[m], maps, WITHIN, strict=True):
            image = _map(ax, values, layers, layers)
            if m == 0:
                ax.set_title(f"against {title}")
        axes[m, 0].set_ylabel(f"{label(method)}, stage")
    for ax in axes[-1]:
        ax.set_xlabel("stage")
    _bar(figure, image, axes)
    return figure


def between(result: Result) -> Figure:
    """Supervised layers (rows) against self-supervised ones: all, odd, even, with the rows' maxima as dots."""
    data = result.data["layer_similarity"]
    methods, layers = list(data.objective.values), list(data.layer.values)
    odd, even = parities(layers)
    figure, axes = panels(3, len(methods) - 1, height=2.7)
    for m, method in enumerate(methods[1:], 1):
        maps = across(data.cka.values, m).mean(0)
        for ax, which, title in zip(axes[m - 1], (np.arange(len(layers)), odd, even), PARITY_LABELS, strict=True):
            names = [layers[i] for i in which]
            image = _map(ax, maps[which[:, None], which], names, names, dots=True)
            ax.set_xlabel(label(method))
            if m == 1:
                ax.set_title(title)
        axes[m - 1, 0].set_ylabel(label(methods[0]))
    _bar(figure, image, axes)
    return figure


def _band(ax: Axes, x: Sequence, values: np.ndarray, method: str) -> None:
    """Mean over the first axis of values [P,n], and their range, in the look of a method."""
    lines.band(ax, x, values, styles.colour(method), label(method), marker=styles.marker(method))


def lags(result: Result) -> Figure:
    """By how many layers the best matching self-supervised layer comes after each supervised one."""
    data = result.data["layer_similarity"]
    methods, layers = list(data.objective.values), list(data.layer.values)
    odd, even = parities(layers)
    figure, axes = panels(2, height=2.6, sharey=True)
    for ax, which, title in zip(axes[0], (odd, even), PARITY_LABELS[1:], strict=True):
        depth = np.arange(len(which))
        for m, method in enumerate(methods[1:], 1):
            _band(ax, depth, lag(across(data.cka.values, m), which), method)
        ax.axhline(0, color="0.6", linewidth=0.8)
        ax.set_title(title)
        ax.set_xticks(depth, [layers[i].removesuffix(".residual").removeprefix("layer") for i in which], fontsize=7)
        ax.set_xlabel("supervised block (stage.index)")
    axes[0, 0].set_ylabel("offset of the best match,\nin layers of that kind")
    legend(figure, axes[0, 0], 4)
    return figure


def bounds(result: Result) -> Figure:
    """CKA of corresponding layers with a bootstrap interval, beside the band that unrelated images give."""
    data = result.data["layer_similarity"]
    methods, layers, values = list(data.objective.values), list(data.layer.values), data.cka.values
    figure, axes = panels(len(methods) - 1, height=2.8, sharey=True)
    depth = np.arange(len(layers))
    for m, ax in enumerate(axes[0], 1):
        low, high = (bound.values.diagonal() for bound in data.interval[m])
        null = [bound.values.diagonal() for bound in data.null[m]]
        ax.fill_between(depth, *null, color="0.5", alpha=0.35, linewidth=0, label="unrelated images")
        centre = values[0, 0, m, min(1, values.shape[1] - 1)].diagonal()
        # Resampled minibatches need not contain the value itself where it is at its bound.
        ends = np.clip(centre - low, 0, None), np.clip(high - centre, 0, None)
        style = {"fmt": styles.marker(methods[m]), "color": styles.colour(methods[m]), "markersize": 4, "capsize": 2}
        ax.errorbar(depth, centre, ends, **style, label="supervised and the other, 95 %")
        ax.plot(
            depth,
            between_seeds(values, 0).mean(0).diagonal(),
            color=styles.colour("supervised"),
            linewidth=1,
            label="supervised, another seed",
        )
        ax.set_xticks(*_stage_ticks(layers), fontsize=7)
        ax.set_xlabel("stage of the layer")
        ax.set_title(label(methods[m]))
    axes[0, 0].set_ylabel("CKA of corresponding layers")
    legend(figure, axes[0, 0], 3)
    return figure


def groups(result: Result) -> Figure:
    """Per group of blocks: CKA between two augmented views (left) and with the one-hot labels (right)."""
    views, simplex = result.data["invariance"].views, result.data["layer_similarity"].simplex
    figure, axes = panels(2, height=2.7, sharey=True)
    for ax, values, title in zip(axes[0], (views, simplex), ("two augmented views", "one-hot labels"), strict=True):
        for m, method in enumerate(values.objective.values):
            _band(ax, list(map(_said, values.group.values)), values[m].values, method)
        ax.set_title(title)
        ax.tick_params(axis="x", labelsize=7)
    axes[0, 0].set_ylabel("CKA")
    axes[0, 0].set_ylim(-0.02, 1.02)
    lines.named(axes[0, 1])
    return figure


def objectives(result: Result) -> Figure:
    """Pooled features of every objective against each other, in the order in which they cluster."""
    data = result.data["objectives_map"]
    names, values, linkage = list(data.network.values), data["map"].values, data.linkage.values
    order = [*(1 + i for i in hierarchy.leaves_list(linkage)), 0, len(names) - 1]
    figure = Figure(figsize=(PAGE, PAGE * 0.86), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=(1, 6))
    tree, ax = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    tree.set_axis_off()
    hierarchy.dendrogram(linkage, ax=tree, no_labels=True, color_threshold=0, above_threshold_color="0.35")
    tree.set_xlim(0, 10 * len(order))  # a leaf is ten wide
    part = values[np.ix_(order, order)]
    texts = [[f"{value:.2f}" for value in row] for row in part]
    image = annotated(ax, part, texts, ~(part > 0.6), size=6, vmin=0, vmax=1, cmap=SHADES, interpolation="nearest")
    labels = [label(names[i]) for i in order]
    ax.set_xticks(range(len(order)), labels, rotation=45, ha="right")
    ax.set_yticks(range(len(order)), labels)
    figure.colorbar(image, ax=ax, fraction=0.03, pad=0.02).set_label("CKA")
    return figure


def training(result: Result) -> Figure:
    """A run's last group of blocks at every checkpoint against every other, and all groups against their end."""
    data = result.data["training"]
    methods, steps, names = (list(data[name].values) for name in ("objective", "step", "group"))
    last = len(names) - 2
    figure, axes = panels(2 * len(methods) - 1, 2, height=2.5)
    ends = [*data.own.isel(step_b=-1).values, *data.to_supervised.values[1:]]
    titles = [*(f"{label(m)}: to its end" for m in methods), *(f"Supervised to {label(m)}" for m in methods[1:])]
    at = np.arange(len(steps))
    for m, method in enumerate(methods):
        ax = axes[0, m]
        image = ax.imshow(data.own[m, :, :, last].values, vmin=0, vmax=1, cmap=SHADES, origin="lower", aspect="auto")
        ax.set_title(f"{label(method)}, {_said(names[last])}")
        ax.set_xticks(at, steps, fontsize=7)
        ax.set_yticks(at, steps, fontsize=7)
    for ax in axes[0, len(methods) :]:
        ax.set_axis_off()
    figure.colorbar(image, ax=axes[0, -1], fraction=0.3, location="left").set_label("CKA")
    for ax, values, title in zip(axes[1], ends, titles, strict=True):
        for g, name in enumerate(names):
            ax.plot(
                at, values[:, g], color=COLOURS[g], marker=MARKERS[g], markersize=3.5, linewidth=1, label=_said(name)
            )
        ax.set_title(title)
        ax.set_xticks(at, steps, fontsize=7)
        ax.set_ylim(-0.02, 1.02)
        ax.set_xlabel("steps")
    axes[1, 0].set_ylabel("CKA")
    axes[0, 0].set_ylabel("steps")
    legend(figure, axes[1, 0], 6)
    return figure


def shapes(result: Result) -> Figure:
    """A network's layers (rows) against those of another seed, depth and width of the same objective."""
    data = result.data["shapes"]
    pairs = {name: tuple(str(name).split(", ")) for name in data.data_vars}
    methods, variants = (list(dict.fromkeys(parts)) for parts in zip(*pairs.values(), strict=True))
    figure, axes = panels(len(variants), len(methods), height=2.3)
    for name, (method, variant) in pairs.items():
        ax, values = axes[methods.index(method), variants.index(variant)], data[name]
        image = _map(ax, values.values, list(data.layer.values), list(data[values.dims[1]].values), dots=True)
        ax.set_title(f"{label(method)}, {variant}", fontsize=8)
    for ax in axes[:, 0]:
        ax.set_ylabel("stage")
    _bar(figure, image, axes)
    return figure


def estimates(result: Result) -> Figure:
    """Estimates from minibatches against their size: values and null, and the distance from the exact value."""
    data = result.data["estimates"]
    sizes, values, null = list(data["size"].values), data.estimate.values, data.null.values
    exact = values[1, -1]
    figure, axes = panels(2, height=2.9)
    for u, text in enumerate(("biased", "unbiased")):
        mean = values[u].diagonal(axis1=-2, axis2=-1).mean(-1)
        axes[0, 0].plot(sizes, mean, color=COLOURS[u], marker=MARKERS[u], markersize=4, label=f"{text}")
        axes[0, 0].plot(sizes, null[u].mean(-1), "--", color=COLOURS[u], linewidth=1, label=f"{text}, unrelated images")
        error = np.abs(values[u, :-1] - exact).reshape(len(sizes) - 1, -1)
        axes[0, 1].plot(sizes[:-1], error.max(1), color=COLOURS[u], marker=MARKERS[u], markersize=4)
        axes[0, 1].plot(sizes[:-1], error.mean(1), ":", color=COLOURS[u], marker=MARKERS[u], markersize=3)
    axes[0, 1].axhline(0.01, color="0.6", linewidth=0.8)
    axes[0, 1].set_yscale("log")
    axes[0, 0].set_ylabel("mean CKA of\ncorresponding layers")
    axes[0, 1].set_ylabel("distance from\nthe exact value")
    for ax in axes[0]:
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [f"{n:,}" for n in sizes], fontsize=7, rotation=45)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("images per minibatch")
    legend(figure, axes[0, 0], 4)
    return figure


def indices(result: Result) -> Figure | Markdown:
    """Every index of corresponding even layers, of another seed and of each self-supervised method."""
    data = result.data["indices"]
    if not data.sizes["block"]:
        return Markdown("Every block has as many channels as there are images, or more: indices would say nothing.")
    pairs, names, layers = (list(data[name].values) for name in ("objective", "index", "block"))
    figure, axes = panels(len(pairs), height=2.8, sharey=True)
    for ax, pair, values in zip(axes[0], pairs, data.similarity.values, strict=True):
        for i, name in enumerate(names):
            ax.plot(
                range(len(layers)),
                values[i],
                color=COLOURS[i],
                marker=MARKERS[i],
                markersize=4,
                linewidth=1,
                label=name,
            )
        ax.set_title(f"supervised and\n{'another seed' if pair == SUPERVISED else label(pair)}")
        ax.set_xticks(range(len(layers)), [n.removeprefix("layer") for n in layers], fontsize=7)
        ax.set_xlabel("block (stage.index), pooled features")
        ax.set_ylim(-0.02, 1.02)
    axes[0, 0].set_ylabel("index of similarity")
    legend(figure, axes[0, 0], 6)
    return figure


def supplied_encoder(result: Result) -> Figure | Markdown:
    """A given encoder's layers against those of the first seed's networks."""
    data = result.data["layer_similarity"]
    if "own" not in data:
        return Markdown("This run was given no encoder of its own (`-p encoder=…`).")
    methods, layers = list(data.objective.values), list(data.layer.values)
    figure, axes = panels(len(methods), height=3.2)
    for m, ax in enumerate(axes[0]):
        image = _map(ax, data.own[m].values, list(data.own_layer.values), layers, dots=True)
        ax.set_xlabel(label(methods[m]))
    axes[0, 0].set_ylabel("given encoder")
    _bar(figure, image, axes)
    return figure
