"""Figures and tables of the study of SimCLR and RotNet: a Result in, a matplotlib Figure or Markdown out."""

import itertools
import math

import numpy as np
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from sslnb.core.result import Result, reference
from sslnb.figures import COLOURS, MARKERS, label, legend, mean_spread, panels
from sslnb.tables import brief, spread, table

ATTACK_LABELS = {"fgsm": "FGSM", "pgd": "PGD"}
UNIT_LABELS = {"normalised": "normalised units", "pixel": "255ths of the pixel range"}
REFERENCE_LABELS = {"pixels": "raw pixels", "random": "random weights", "encoder": "given encoder"}
# Fine-tuned SimCLR without attack, under FGSM and under PGD at the largest budget, by fraction of the labels: recorded
# output of the report's published notebooks, which its figure 3 draws.
REPORTED = {0.01: (0.653, 0.215, 0.063), 0.1: (0.822, 0.295, 0.096), 0.5: (0.870, 0.256, 0.071)}
VARIANT_LABELS = {
    "plain": "none of these",
    "initialised": "begun from supervised weights",
    "per batch": "one augmentation for the whole batch",
    "unpadded stem": "3×3 stem of stride 1 without padding",
    "imagenet stem": "7×7 stem of stride 2 with pooling",
    "cut": "learning rate cut to a tenth after every fifth of the steps",
}
PAPER = "002"
PAPER_SETS = {"cifar10": "CIFAR-10", "stl10": "STL-10"}  # as the paper's tables call them
PAPER_ROWS = {"supervised": "Supervised (2000 steps)"}  # of its table 2a, where they are called otherwise
STYLES = ("-", "--", ":", "-.")
METHODS = ("simclr", "rotnet", "supervised", "encoder")  # each has the same colour in every figure


def _band(ax: Axes, x: object, values: np.ndarray, colour: object, style: str, marker: str, text: str) -> None:
    """Mean over seeds of values [n,S] in percent, and their range."""
    mean, low, high = (100 * part for part in mean_spread(values.T))
    ax.plot(x, mean, style, color=colour, marker=marker, markersize=4, label=text)
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def _look(method: str, line: int = 0) -> tuple[str, str, str]:
    """Colour, line style and marker of a method."""
    m = METHODS.index(method)
    return COLOURS[m], STYLES[line % len(STYLES)], MARKERS[m]


def _doublings(ax: Axes, values: list[int], name: str) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks(values, [f"{v:,}" for v in values])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(name, fontsize=9)


def linear_over_steps(result: Result) -> Figure:
    """Linear accuracy against steps of pretraining: a panel per objective, a line per batch size."""
    names, sizes, steps = (result.scalars[k] for k in ("objectives", "batch_sizes", "steps"))
    figure, axes = panels(len(names), height=3.0, sharey=True)
    for o, (ax, name) in enumerate(zip(axes[0], names, strict=True)):
        for b, size in enumerate(sizes):
            accuracy = result.arrays["linear"][o, b, :, :, 0]
            _band(ax, steps, accuracy, COLOURS[b], "-", MARKERS[b], f"batch of {size}")
        ax.set_title(label(name), fontsize=10)
        _doublings(ax, steps, "steps of pretraining")
    _references(axes[0], result)
    axes[0, 0].set_ylabel("linear accuracy in %", fontsize=9)
    legend(figure, axes[0, 0], 4)
    return figure


def _references(axes: np.ndarray, result: Result) -> None:
    for r, name in enumerate(result.scalars["references"]):
        level = 100 * mean_spread(result.arrays["references"][r, :, 0])[0]
        for ax in axes:
            ax.axhline(level, color="0.45", linestyle=STYLES[r + 1], linewidth=1, label=REFERENCE_LABELS[name])


def linear_over_batches(result: Result) -> Figure:
    """Linear accuracy at the last step against the batch size, both objectives, beside references."""
    sizes = result.scalars["batch_sizes"]
    figure, axes = panels(1, height=3.0)
    for o, name in enumerate(result.scalars["objectives"]):
        accuracy = result.arrays["linear"][o, :, -1, :, 0]
        _band(axes[0, 0], sizes, accuracy, *_look(name), label(name))
    _references(axes[0], result)
    _doublings(axes[0, 0], sizes, f"batch size, after {result.scalars['steps'][-1]:,} steps")
    axes[0, 0].set_ylabel("linear accuracy in %", fontsize=9)
    legend(figure, axes[0, 0], 4)
    return figure


def ranking(result: Result) -> Markdown:
    """Whether SimCLR is above RotNet, and RotNet above raw pixels, by more than the spread of the seeds."""
    names, steps = result.scalars["objectives"], result.scalars["steps"]
    if not {"simclr", "rotnet"} <= set(names):
        return Markdown("One objective was trained.")
    last, pixels = result.arrays["linear"][:, -1, -1, :, 0], result.scalars["references"].index("pixels")
    rows = {"SimCLR": last[names.index("simclr")], "RotNet": last[names.index("rotnet")]}
    rows["raw pixels"] = result.arrays["references"][pixels, :, 0]
    words = []
    for above, below in itertools.pairwise(rows):
        gaps = 100 * (rows[above] - rows[below])
        gaps = gaps[np.isfinite(gaps)]
        if len(gaps) < 2:
            words.append(f"whether {above} is above {below} takes two seeds that converged")
            continue
        gap, error = gaps.mean(), gaps.std(ddof=1)
        how = "above" if gap > error else "not above"
        words.append(f"{above} is {how} {below} by more than the spread over seeds ({gap:+.1f} ± {error:.1f} points)")
    scale = f"after {steps[-1]:,} steps with a batch of {result.scalars['batch_sizes'][-1]}"
    text = "; ".join(words)
    return Markdown(f"{text[0].upper()}{text[1:]}: {scale}, {len(result.scalars['seeds'])} seeds.")


def fractions(result: Result) -> Markdown:
    """The paper's table 1: scores of fine-tuned networks per fraction of the labels, each beside the paper's."""
    rows = []
    wanted = (("top1", "top-1"), ("top2", "top-2"), ("auc", "AUC"))
    source = PAPER_SETS.get(result.scalars["pretraining"]["dataset"])
    for f, fraction in enumerate(result.scalars["fractions"]):
        for m, method in enumerate(result.scalars["tuned"]):
            cells = []
            for metric, _ in wanted:
                values = result.arrays["fractions"][m, f, :, result.scalars["scores"].index(metric)]
                printed = reference(PAPER, f"{source} {100 * fraction:g}%", label(method), metric)
                cells.append(spread(values) + _beside(printed))
            rows.append((f"{100 * fraction:g} %", label(method), *cells))
    return table(("labels", "begun from", *(f"{name}, %{_paper(source)}" for _, name in wanted)), rows)


def _beside(printed: float) -> str:
    """The paper's number in brackets, where it has one."""
    return f" ({100 * printed:.1f})" if math.isfinite(printed) else ""


def _paper(known: str | None) -> str:
    return " (paper)" if known else ""


def attacks(result: Result) -> Figure:
    """Accuracy against budget: FGSM and PGD by the report's units and pixels, a line per method and fraction."""
    kinds, units = result.scalars["attacks"], result.scalars["units"]
    figure, axes = panels(len(kinds), len(units), height=2.7, sharey=True)
    for u, unit in enumerate(units):
        x = result.arrays["budgets"][u] * (255 if unit == "pixel" else 1)
        for a, kind in enumerate(kinds):
            ax = axes[u, a]
            for m, method in enumerate(result.scalars["tuned"]):
                for f, fraction in enumerate(result.scalars["fractions"]):
                    text = f"{label(method)}, {100 * fraction:g} %"
                    values = result.arrays["robust"][a, u, m, f]
                    _band(ax, x, values, *_look(method, f), text)
            ax.set_title(ATTACK_LABELS[kind], fontsize=10)
            ax.set_xlabel(f"budget in {UNIT_LABELS[unit]}", fontsize=9)
            ax.set_ylim(bottom=0)
        axes[u, 0].set_ylabel("accuracy in %", fontsize=9)
    legend(figure, axes[0, 0], 3)
    return figure


def strongest(result: Result) -> Markdown:
    """Accuracy of every fine-tuned network without attack and under the strongest ones, beside the report's."""
    unit = result.scalars["units"].index("normalised")
    rows = []
    for f, fraction in enumerate(result.scalars["fractions"]):
        for m, method in enumerate(result.scalars["tuned"]):
            robust = result.arrays["robust"][:, unit, m, f]
            known = result.scalars["pretraining"]["dataset"] == "cifar10" and method == "simclr"
            printed = REPORTED.get(fraction, (math.nan,) * 3) if known else (math.nan,) * 3
            cells = (robust[0, 0], *robust[:, -1])
            rows.append(
                (
                    f"{100 * fraction:g} %",
                    label(method),
                    *(spread(cell) + _beside(one) for cell, one in zip(cells, printed, strict=True)),
                )
            )
    names = ("no attack", *(ATTACK_LABELS[kind] for kind in result.scalars["attacks"]))
    return table(("labels", "begun from", *(f"{name}, %" for name in names)), rows)


def transfer(result: Result) -> Figure:
    """Accuracy on the other data set against steps of pretraining, both ways, and against the batch size."""
    steps, sizes = result.scalars["steps"], result.scalars["batch_sizes"]
    figure, axes = panels(3, height=3.0, sharey=True)
    source, target = result.scalars["pretraining"]["dataset"], result.scalars["target"]
    for way, title in enumerate((f"to {brief(target)}", f"back to {brief(source)}")):
        for m, method in enumerate(result.scalars["transferred"]):
            values = result.arrays["transfer_steps"][way, m, :, :, 0]
            _band(axes[0, way], steps, values, *_look(method), label(method))
        axes[0, way].set_title(title, fontsize=10)
        _doublings(axes[0, way], steps, "steps of pretraining")
        axes[0, way].tick_params(axis="x", labelsize=6)
    first = label(result.scalars["transferred"][0])
    for i, side in enumerate(result.scalars["sizes"]):
        values = result.arrays["transfer_batches"][i, :, :, 0]
        _band(axes[0, 2], sizes, values, COLOURS[3 + i], "-", MARKERS[3 + i], f"{first}, seen at {side} px")
    axes[0, 2].set_title(f"to {brief(target)}", fontsize=10)
    _doublings(axes[0, 2], sizes, "batch size")
    axes[0, 0].set_ylabel("linear accuracy in %", fontsize=9)
    handles = [h for ax in (axes[0, 0], axes[0, 2]) for h in ax.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


def transfers(result: Result) -> Markdown:
    """The paper's table 2: top-1, 2, 3 and AUC of each transfer at the last step, with the paper's legible cells."""
    rows = []
    there = result.scalars["pretraining"]["dataset"], result.scalars["target"]
    for way, ends in enumerate((there, there[::-1])):
        name = " to ".join(PAPER_SETS.get(end, end) for end in ends)
        for m, method in enumerate(result.scalars["transferred"]):
            values = result.arrays["transfer_steps"][way, m, -1]
            cells = []
            for i, metric in enumerate(result.scalars["scores"]):
                printed = reference(PAPER, name, PAPER_ROWS.get(method, label(method)), metric)
                cells.append(spread(values[:, i]) + _beside(printed))
            rows.append((" → ".join(f"`{brief(end)}`" for end in ends), label(method), *cells))
    paper = " (paper, at 96 px)" if set(there) <= set(PAPER_SETS) else ""
    head = (f"{name}, %{paper}" for name in ("top-1", "top-2", "top-3", "AUC"))
    return table(("transfer", "pretraining", *head), rows)


def transfer_batches(result: Result) -> Markdown:
    """The paper's table 2b: accuracy on the target by the batch size of pretraining."""
    rows = []
    ends = result.scalars["pretraining"]["dataset"], result.scalars["target"]
    known = set(ends) <= set(PAPER_SETS)
    name = " to ".join(PAPER_SETS.get(end, end) for end in ends)
    for b, size in enumerate(result.scalars["batch_sizes"]):
        printed = reference(PAPER, name, f"{label(result.scalars['transferred'][0])} batch {size}", "top1")
        ours = [spread(result.arrays["transfer_batches"][i, b, :, 0]) for i in range(len(result.scalars["sizes"]))]
        rows.append((size, *ours, *([f"{100 * printed:.1f}" if math.isfinite(printed) else "–"] if known else [])))
    head = [f"top-1 at {side} px, %" for side in result.scalars["sizes"]]
    return table(("batch size", *head, *(["paper (96 px)"] if known else [])), rows)


def architectures(result: Result) -> Markdown:
    """Accuracy of both objectives with both networks, and what a step costs."""
    rows = []
    for o, objective in enumerate(result.scalars["objectives"]):
        for d, depth in enumerate(result.scalars["depths"]):
            seconds, views, memory = result.arrays["step_cost"][o, d]
            cells = spread(result.arrays["architectures"][o, d, :, 0]), f"{1e3 * seconds:.0f}"
            rows.append(
                (label(objective), f"ResNet-{depth}", *cells, f"{100 * views / seconds:.0f}", f"{memory / 2**20:.0f}")
            )
    return table(("objective", "network", "linear, %", "ms per step", "of it for views, %", "memory, MiB"), rows)


def variants(result: Result) -> Markdown:
    """Effect of each departure of the published code on linear accuracy, paired by seed."""
    rows = []
    for v, variant in enumerate(result.scalars["variants"]):
        cells = []
        for o in range(len(result.scalars["objectives"])):
            accuracy = result.arrays["variants"][:, o, :, 0]
            cells += [spread(accuracy[v]), "" if v == 0 else spread(accuracy[v] - accuracy[0])]
        rows.append((VARIANT_LABELS[variant], *cells))
    head = [text for o in result.scalars["objectives"] for text in (f"{label(o)}, %", "change")]
    return table(("what the code did", *head), rows)


def initialised(result: Result) -> Markdown:
    """Fine-tuning from supervised weights: directly, and after self-supervised training that began from them."""
    if "initialised" not in result.scalars["variants"]:
        return Markdown("This run did not begin any from given weights.")
    names = ("supervised weights alone", *(f"then {label(o)}" for o in result.scalars["objectives"]))
    rows = []
    for m, name in enumerate(names):
        cells = [spread(result.arrays["initialised"][m, f, :, 0]) for f in range(len(result.scalars["fractions"]))]
        rows.append((name, *cells))
    return table(("begun from", *(f"{100 * f:g} % of the labels" for f in result.scalars["fractions"])), rows)


def attack_example(
    image: np.ndarray, found: np.ndarray, believed: np.ndarray, true: int, classes: list[str], budget: float
) -> Figure:
    """An image, what the attack added (enlarged to the full range), the sum, and the classes believed before and after.

    ``image`` and ``found`` uint8 [C,H,W], ``believed`` [2,K] probabilities before and after, ``budget`` in pixels.
    """
    figure, axes = panels(4, height=2.1, gridspec_kw={"width_ratios": (1, 1, 1, 1.5)})
    added = (found.astype(float) - image) / 255
    shown = 0.5 + added / (2 * max(budget, 1 / 255))
    for ax, picture, title in zip(
        axes[0],
        (image / 255, shown.clip(0, 1), found / 255),
        ("image", f"added, × {0.5 / max(budget, 1 / 255):.0f}", "attacked"),
        strict=False,
    ):
        ax.imshow(picture.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(title, fontsize=9)
        ax.set_axis_off()
    bars, rows = axes[0, 3], np.arange(len(classes))
    for i, (name, colour) in enumerate((("image", COLOURS[0]), ("attacked", COLOURS[1]))):
        bars.barh(rows + 0.2 * (2 * i - 1), 100 * believed[i], height=0.4, color=colour, label=name)
    bars.set_yticks(rows, [f"{c} (true)" if k == true else c for k, c in enumerate(classes)], fontsize=7)
    bars.invert_yaxis()
    bars.set_xlim(0, 100)
    bars.set_xlabel("probability in %", fontsize=8)
    bars.legend(frameon=False, fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure
