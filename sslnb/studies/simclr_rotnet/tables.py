"""Tables of the study of SimCLR against RotNet: a Result in, Markdown out."""

import itertools
import math
from collections.abc import Mapping

import numpy as np
from IPython.display import Markdown

from sslnb.core.labels import label
from sslnb.core.papers import reference
from sslnb.core.result import Result
from sslnb.report import verdict_of
from sslnb.report.tables import interval, percent, say, set_cell, set_label, spread, table
from sslnb.studies.simclr_rotnet import findings
from sslnb.studies.simclr_rotnet.claims import AS_ROBUST, PAPER, seen_by_all
from sslnb.studies.simclr_rotnet.figures import ATTACK_LABELS, begun_label, top1

# Fine-tuned SimCLR without attack, under FGSM and under PGD at the largest budget, by fraction of the labels: recorded
# output of the report's published notebooks, which its figure 3 draws.
REPORTED = {0.01: (0.653, 0.215, 0.063), 0.1: (0.822, 0.295, 0.096), 0.5: (0.870, 0.256, 0.071)}
PAPER_SETS = {"cifar10", "stl10"}
VARIANT_LABELS = {
    "plain": "none of these",
    "initialised": "begun from supervised weights",
    "per batch": "one augmentation for the whole batch",
    "unpadded stem": "3×3 stem of stride 1 without padding",
    "imagenet stem": "7×7 stem of stride 2 with pooling",
    "cut": "learning rate cut to a tenth after every fifth of the steps",
}
PAPER_ROWS = {"supervised": "Supervised (2000 steps)"}  # of its table 2a, where they are called otherwise


def ranking(result: Result) -> Markdown:
    """Whether SimCLR is above RotNet, and RotNet above raw pixels, by more than the spread of the seeds."""
    data = result.data["linear"]
    last = top1(data.accuracy).isel(step=-1, batch=-1)
    rows = {label(name): last.sel(objective=name).values for name in data.objective.values}
    if "pixels" in data.reference.values:
        rows["raw pixels"] = top1(data.references).sel(reference="pixels").values
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
    scale = f"after {int(last.step):,} steps with a batch of {int(last.batch)}"
    text = "; ".join(words)
    return Markdown(f"{text[0].upper()}{text[1:]}: {scale}, {last.sizes['seed']} seeds.")


def fractions(result: Result) -> Markdown:
    """The paper's table 1: scores of fine-tuned networks per fraction of the labels, each beside the paper's."""
    data, rows = result.data["fractions"].tuned, []
    wanted = {"top1": "top-1", "top2": "top-2", "auc": "AUC"}
    source = result.facts["parameters"]["dataset"]
    for fraction, method in itertools.product(data.fraction.values, data.begun.values):
        cells = []
        for metric in wanted:
            values = data.sel(begun=method, fraction=fraction, score=metric).values
            printed = reference(PAPER, f"{set_label(source)} {100 * fraction:g}%", label(method), metric)
            cells.append(spread(values) + _beside(printed))
        rows.append((f"{100 * fraction:g} %", begun_label(method), *cells))
    caption = "Fine-tuning on a share of the labels: scores on {:,} test images; in brackets what the report printed."
    return table(
        ("labels", "begun from", *(f"{name}, %{_paper(source)}" for name in wanted.values())),
        rows,
        caption.format(result.data["linear"].attrs["test_images"]),
    )


def _beside(printed: float) -> str:
    """The paper's number in brackets, where it has one."""
    return f" ({100 * printed:.1f})" if math.isfinite(printed) else ""


def _paper(dataset: str) -> str:
    return " (paper)" if dataset in PAPER_SETS else ""


def strongest(result: Result) -> Markdown:
    """Accuracy of every fine-tuned network without attack and under the strongest ones, beside the report's."""
    data, rows = result.data["attack"].accuracy.sel(unit="normalised"), []
    cifar = result.facts["parameters"]["dataset"] == "cifar10"
    for fraction, method in itertools.product(data.fraction.values, data.begun.values):
        own = data.sel(begun=method, fraction=fraction)
        clean = own.isel(attack=0, budget=0).values
        known = cifar and method == "simclr"
        printed = REPORTED.get(float(fraction), (math.nan,) * 3) if known else (math.nan,) * 3
        cells = (clean, *(own.isel(attack=a, budget=-1).values for a in range(own.sizes["attack"])))
        beside = (spread(cell) + _beside(value) for cell, value in zip(cells, printed, strict=True))
        rows.append((f"{100 * fraction:g} %", begun_label(method), *beside))
    budget = f"{255 * float(result.data['attack'].eps.sel(unit='pixel')[-1]):.1f}/255"
    count = result.data["attack"].attrs["attacked_images"]
    names = ("no attack", *(ATTACK_LABELS[kind] for kind in data.attack.values))
    return table(
        ("labels", "begun from", *(f"{name}, %" for name in names)),
        rows,
        f"Accuracy on {count} test images without attack and under the strongest, on average {budget} in a channel.",
    )


def transfers(result: Result) -> Markdown:
    """The paper's table 2: top-1, 2, 3 and AUC of each transfer at the last step, with the paper's legible cells."""
    data, rows = result.data["transfer"], []
    sets = data.attrs["source"], data.attrs["target"]
    for way, ends in zip(data.way.values, (sets, sets[::-1]), strict=True):
        name = " to ".join(set_label(end) for end in ends)
        for method in data.begun.values:
            values, cells = data.over_steps.sel(way=way, begun=method).isel(step=-1), []
            for metric in data.score.values:
                printed = reference(PAPER, name, PAPER_ROWS.get(method, label(method)), metric)
                cells.append(spread(values.sel(score=metric).values) + _beside(printed))
            rows.append((" → ".join(map(set_cell, ends)), label(method), *cells))
    known = set(sets) <= PAPER_SETS
    paper, beside = (" (paper)", "; in brackets the report's legible numbers, at 96 px") if known else ("", "")
    head = (f"{name}, %{paper}" for name in ("top-1", "top-2", "top-3", "AUC"))
    return table(
        ("transfer", "pretraining", *head),
        rows,
        f"Transfer after {int(data.step[-1]):,} steps, {set_cell(sets[1])} at {int(data.side[0])} px{beside}.",
    )


def transfer_batches(result: Result) -> Markdown:
    """The paper's table 2b: accuracy on the target by the batch size of pretraining."""
    data, rows = result.data["transfer"], []
    values, ends = top1(data.over_batches), (data.attrs["source"], data.attrs["target"])
    known = set(ends) <= PAPER_SETS
    name = " to ".join(set_label(end) for end in ends)
    for size in data.batch.values:
        printed = reference(PAPER, name, f"{label(data.begun.values[0])} batch {size}", "top1")
        ours = [spread(values.sel(side=side, batch=size).values) for side in data.side.values]
        rows.append((size, *ours, *([f"{100 * printed:.1f}" if math.isfinite(printed) else "–"] if known else [])))
    head = [f"top-1 at {side} px, %" for side in data.side.values]
    return table(
        ("batch size", *head, *(["paper (96 px)"] if known else [])),
        rows,
        "Accuracy on the other set by the batch size of pretraining, in percent.",
    )


def architectures(result: Result) -> Markdown:
    """Accuracy of both objectives with both networks, and what a step costs."""
    data, rows = result.data["architectures"], []
    for objective, depth in itertools.product(data.objective.values, data.depth.values):
        own = data.sel(objective=objective, depth=depth)
        seconds, views, memory = (float(own.cost.sel(quantity=k).median()) for k in ("seconds", "views", "memory"))
        cells = spread(top1(own.accuracy).values), f"{1e3 * seconds:.0f}", f"{100 * views / seconds:.0f}"
        rows.append((label(objective), f"ResNet-{depth}", *cells, f"{memory / 2**20:.0f}"))
    return table(
        ("objective", "network", "linear, %", "ms per step", "share for views, %", "memory, MiB"),
        rows,
        f"Two objectives with two networks: linear accuracy, and what a step costs (median of {data.sizes['repeat']} "
        "timings).",
    )


def variants(result: Result) -> Markdown:
    """Effect of each departure of the published code on linear accuracy, paired by seed."""
    data, rows = top1(result.data["published_code"].accuracy), []
    plain = data.sel(departure="plain")
    if not bool(data.drop_sel(departure="plain").notnull().any()):
        return Markdown("*None of these departures has been trained yet.*")
    for name in data.departure.values:
        cells = []
        for objective in data.objective.values:
            own, without = (part.sel(objective=objective).values for part in (data.sel(departure=name), plain))
            cells += [spread(own), "" if name == "plain" else spread(own - without)]
        rows.append((VARIANT_LABELS[name], *cells))
    head = [text for o in data.objective.values for text in (f"{label(o)}, %", "change")]
    return table(
        ("what the code did", *head),
        rows,
        "What each departure of the published code does to linear accuracy, in points, paired by seed.",
    )


def initialised(result: Result) -> Markdown:
    """Fine-tuning from supervised weights: directly, and after self-supervised training that began from them."""
    data, rows = top1(result.data["published_code"].initialised), []
    if not bool(data.notnull().any()):
        return Markdown("This pool has no encoders that began from given weights.")
    for method in data.begun.values:
        name = "supervised weights alone" if method == "supervised" else f"then {label(method)}"
        rows.append((name, *(spread(data.sel(begun=method, fraction=f).values) for f in data.fraction.values)))
    return table(
        ("begun from", *(f"{100 * f:g} % of the labels" for f in data.fraction.values)),
        rows,
        "Accuracy, in percent, after fine-tuning from supervised weights, and from what was trained on from them.",
    )


def glue_findings(result: Result) -> None:
    """Make what the text says of the recorded result available: points of claims, and accuracies by encoder."""
    for verdict in result.facts["verdicts"]:
        say(f"{verdict['claim']}_points", _points(*_bounds(verdict)))
        for part in verdict["parts"]:
            say(f"{verdict['claim']}_{part['name'].replace(' ', '_')}", _points(*_bounds(part)))
    value, low, high = verdict_of(result, "R1")["controls"][findings.SEEN]
    say("R1_images", _points(-value, -high, -low))  # as what a doubling costs
    say("R3_cells", verdict_of(result, "R3")["note"].split()[0])
    say("images_seen", f"{seen_by_all(findings.linear(result)):,}")
    ends = findings.linear(result).isel(step=-1).mean("seed")
    equal = findings.after_images(result).mean("seed")
    for objective, batch in itertools.product(ends.objective.values, ends.batch.values):
        at = {"objective": objective, "batch": batch}
        say(f"end_{objective}_{batch}", percent(float(ends.sel(at))))
        say(f"seen_{objective}_{batch}", percent(float(equal.sel(at))))
    for name in result.data["linear"].reference.values:
        say(f"level_{name}", percent(findings.reference(result, str(name))))
    for name, gain in zip(ends.objective.values, findings.last_gain(result).values, strict=True):
        say(f"last_{name}", percent(float(gain)))
    _glue_compared(result)
    _glue_tuned(result)


def _glue_compared(result: Result) -> None:
    """What batch sizes and the lead are for each objective, over all cells, and under a stricter gate."""
    for at, slopes in findings.per_doubling(result).items():
        for name in slopes.objective.values:
            say(f"{at}_{name}", _points(*findings.interval(slopes.sel(objective=name))))
        say(f"{at}_more", _points(*findings.interval(findings.ahead(slopes))))
    lead = findings.ahead(findings.linear(result))
    say("lead_all", _points(*findings.interval(lead.mean(("batch", "step")))))
    for name, cell in (("least", lead.mean("seed").min()), ("most", lead.mean("seed").max())):
        say(f"lead_{name}", percent(float(cell)))
    over = findings.linear(result).isel(step=-1).mean("seed").sel(objective="rotnet")
    for batch in over.batch.values:
        say(f"over_pixels_{batch}", percent(float(over.sel(batch=batch)) - findings.reference(result, "pixels")))
    say("gate_pixels", percent(float(result.data["pretraining"].pixels_accuracy)))
    for claim, effect in findings.with_a_stricter_gate(result).items():
        say(f"{claim}_strict", _points(*effect))
    first = findings.fine_tuned_from(result)
    for name in first.objective.values:
        say(f"begins_{name}", percent(float(first.sel(objective=name))))


def _glue_tuned(result: Result) -> None:
    leads = findings.leads(result)
    for begun, fraction in itertools.product(leads.begun.values, leads.fraction.values):
        say(f"lead_{begun}_{100 * fraction:g}", _points(*findings.lead(result, begun, fraction)))
    for (way, begun), accuracy in findings.moved(result).items():
        say(f"{way}_{begun}", percent(accuracy))
    value, low, high = _bounds(verdict_of(result, "R6"))
    say("R6_behind", _points(-value, -high, -low))
    for (begun, fraction), part in findings.corrected_leads(result).items():
        say(f"corrected_{begun}_{100 * fraction:g}", _points(*_bounds(part)))
    kept, first = findings.kept(result).mean("seed"), findings.first_budget(result).mean("seed")
    for attack, begun, fraction in itertools.product(kept.attack.values, kept.begun.values, kept.fraction.values):
        at = {"attack": attack, "begun": begun, "fraction": fraction}
        say(f"kept_{attack}_{begun}_{100 * fraction:g}", percent(float(kept.sel(at))))
    for attack in first.attack.values:
        left = first.sel(attack=attack)
        say(f"left_{attack}", f"{percent(float(left.min()))} to {percent(float(left.max()))}")
    say("rotnet_keeps", _points(*findings.interval(findings.kept_against_baseline(result).sel(begun="rotnet"))))
    between = findings.between_objectives(result)
    for fraction in between.fraction.values:
        say(f"between_{100 * fraction:g}", _points(*findings.interval(between.sel(fraction=fraction))))
    usual, left = findings.usual_budget(result)
    say("usual_budget", f"{255 * usual:.1f}")
    for attack in left.attack.values:
        say(f"usual_{attack}", percent(float(left.sel(attack=attack).max())))
    say("first_budget", f"{255 * float(result.data['attack'].eps.sel(unit='pixel')[1]):.1f}")
    say("behind_baseline", _points(*(v - AS_ROBUST for v in _bounds(verdict_of(result, "R5")))))
    price = findings.price(result)
    for name in price.objective.values:
        say(f"ms_{name}", f"{1e3 * float(price.sel(objective=name, quantity='seconds')):.0f}")
    sides = top1(result.data["transfer"].over_batches)
    say("enlarged", _points(*findings.interval(sides.diff("side").isel(side=-1).mean("batch"))))
    moved = sides.mean("seed")
    for side, batch in itertools.product(moved.side.values, moved.batch.values):
        say(f"moved_{side}_{batch}", percent(float(moved.sel(side=side, batch=batch))))


def _bounds(verdict: Mapping) -> tuple[float, float, float]:
    return verdict["estimate"], verdict["low"], verdict["high"]


def _points(value: float, low: float, high: float) -> str:
    """An effect and its interval in points."""
    known = value is not None and math.isfinite(value)
    return interval(100 * value, 100 * low, 100 * high, ".1f") if known else "not measured"
