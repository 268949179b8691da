"""Tables of the study of SimCLR against RotNet: a Result in, Markdown out."""

import itertools
import math

import numpy as np
from IPython.display import Markdown

from sslnb.core.flat import Result
from sslnb.core.labels import brief, label
from sslnb.core.papers import reference
from sslnb.report.tables import spread, table
from sslnb.studies.simclr_rotnet.figures import ATTACK_LABELS

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
PAPER = "chen2023simclrrotnet"
PAPER_SETS = {"cifar10": "CIFAR-10", "stl10": "STL-10"}  # as the paper's tables call them
PAPER_ROWS = {"supervised": "Supervised (2000 steps)"}  # of its table 2a, where they are called otherwise


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
        relation = "above" if gap > error else "not above"
        words.append(
            f"{above} is {relation} {below} by more than the spread over seeds ({gap:+.1f} ± {error:.1f} points)"
        )
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
                    *(
                        spread(cell) + _beside(printed_value)
                        for cell, printed_value in zip(cells, printed, strict=True)
                    ),
                )
            )
    names = ("no attack", *(ATTACK_LABELS[kind] for kind in result.scalars["attacks"]))
    return table(("labels", "begun from", *(f"{name}, %" for name in names)), rows)


def transfers(result: Result) -> Markdown:
    """The paper's table 2: top-1, 2, 3 and AUC of each transfer at the last step, with the paper's legible cells."""
    rows = []
    sets = result.scalars["pretraining"]["dataset"], result.scalars["target"]
    for way, ends in enumerate((sets, sets[::-1])):
        name = " to ".join(PAPER_SETS.get(end, end) for end in ends)
        for m, method in enumerate(result.scalars["transferred"]):
            values = result.arrays["transfer_steps"][way, m, -1]
            cells = []
            for i, metric in enumerate(result.scalars["scores"]):
                printed = reference(PAPER, name, PAPER_ROWS.get(method, label(method)), metric)
                cells.append(spread(values[:, i]) + _beside(printed))
            rows.append((" → ".join(f"`{brief(end)}`" for end in ends), label(method), *cells))
    paper = " (paper, at 96 px)" if set(sets) <= set(PAPER_SETS) else ""
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
