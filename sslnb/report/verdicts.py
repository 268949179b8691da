"""Verdicts and provenance of a Result as tables and as words for the prose."""

import math
import textwrap
from collections.abc import Mapping

from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from sslnb.core.checks import expect, expect_known
from sslnb.core.claims import Claim
from sslnb.core.labels import label
from sslnb.core.result import Result
from sslnb.pool.members import Scale
from sslnb.pool.scales import SCALES
from sslnb.report.html import render
from sslnb.report.tables import interval, minus, percent, say, set_label, spread, table

TITLE_SIZE, TITLE_LETTERS = 11, 84  # of a figure's title: points, and letters in a line as wide as the page
LINES_IN_SIGHT = 3  # of notes; more are folded
MACHINE = {"cpu": "{}", "gpu": "{}", "cores": "{} cores", "torch_threads": "torch threads: {}", "memory_gib": "{} GiB"}


def verdicts(result: Result, claims: Mapping[str, Claim]) -> Markdown:
    """Every claim with its statement, estimate, interval, smallest effect of interest and verdict."""
    rows = []
    for verdict in result.facts["verdicts"]:
        claim = claims[verdict["claim"]]
        note = f" ({verdict['note']})" if verdict["note"] else ""
        units = f"{verdict['units']} {claim.unit}s"
        cells = (claim.statement, claim.effect, estimate(verdict), f"{claim.sei:.3g}", units)
        rows.append((claim.id, f"**{verdict['kind']}**{note}", *cells))  # the verdict first: a telephone shows little
    return table(
        ("", "verdict", "claim", "effect", "estimate [95 % interval]", "smallest of interest", "n"),
        rows,
        "Claims and verdicts: the comparison, its 95 % interval, and the smallest effect that counts.",
    )


def answer(result: Result, claims: Mapping[str, Claim], *, paper: str) -> HTML:
    """A chip for each verdict, and what was measured in one line beside the ``paper``'s, in words."""
    chips = [(claims[v["claim"]], str(v["kind"])) for v in result.facts["verdicts"]]
    return render("answer.html", chips=chips, here=_scale(result), paper=paper)


def _scale(result: Result) -> str:
    """Network, training, seeds and objectives, in a line."""
    data, pool = result.data["pretraining"], result.facts["parameters"].get("pool")
    names = (str(name).partition("-")[0] for name in data.objective.values)  # a grid's variants are one objective
    trained = [name for name in dict.fromkeys(names) if name != "untrained"]
    seeds = f"up to {data.sizes['seed']} seeds" if data.sizes["seed"] > 1 else "one seed"
    return f"{_network(pool)}, {seeds}: {'; '.join(map(label, trained))}"


def _network(pool: str | None) -> str:
    """Of a pool that is trained here, what its encoders are and saw."""
    plan = SCALES.get(pool)
    if not isinstance(plan, Scale):  # published encoders, or a result of before there were pools
        return f"encoders of the pool {pool}" if pool else "encoders of the study's own"
    config = next(iter(plan.members.values())).config
    length = f"up to {plan.steps[-1]:,} steps" if plan.steps else f"{config.epochs:g} epochs"
    return f"ResNet-{config.depth} of width {config.width}, {length} on {set_label(plan.dataset)} (pool {pool})"


def estimate(verdict: Mapping) -> str:
    """Estimate with its interval; a dash for what was not measured, which JSON holds as null."""
    return minus(interval(*(verdict[key] for key in ("estimate", "low", "high"))))


def parts(result: Result, claim: str) -> Markdown:
    """The parts of a claim's comparison with intervals corrected by Holm's method, and its controls."""
    verdict = verdict_of(result, claim)
    rows = [("part", part["name"], estimate(part)) for part in verdict["parts"]]
    for name, (value, low, high) in verdict["controls"].items():
        rows.append(("control", name, estimate({"estimate": value, "low": low, "high": high})))
    if not rows:
        return Markdown(f"{claim} has neither parts nor controls here: {verdict['note']}.")
    return table(
        ("", claim, "estimate [interval]"),
        rows,
        f"{claim} in parts, with intervals corrected by Holm's method, and against its controls.",
    )


def glue_verdicts(result: Result) -> None:
    """Make every claim's numbers available to the prose: ``S1_verdict``, ``S1_words`` and ``S1_detectable``."""
    for verdict in result.facts["verdicts"]:
        name, detectable = verdict["claim"], verdict["detectable"]
        say(f"{name}_verdict", str(verdict["kind"]))
        say(f"{name}_words", estimate(verdict) if estimate(verdict) != "–" else "not measured")
        known = detectable is not None and math.isfinite(detectable)
        say(f"{name}_detectable", f"{detectable:.3f}" if known else "not known")


def learned(result: Result) -> Markdown:
    """Validation accuracy of every member beside raw pixels and the untrained twin, and which of them learned."""
    data = result.data["pretraining"]
    rows = [  # what they are judged by stands first, where no folding hides it
        ("Raw pixels", "", percent(float(data.pixels_accuracy)), "", "", ""),
        ("Untrained, best of its seeds", "", percent(float(data.untrained_accuracy)), "", "", ""),
    ]
    for name in data.objective.values:
        own = data.sel(objective=name)
        seeds = int((own.linear_accuracy.notnull() | own.knn_accuracy.notnull()).sum())
        if seeds:
            cells = [spread(values.values) for values in (own.linear_accuracy, own.knn_accuracy)]
            hours = float(own.hours.sum())
            rows.append((label(name), seeds, *cells, f"{hours:.2f}" if hours else "–", "yes" if own.learned else "no"))
    return table(
        ("encoder", "seeds", "linear, %", "kNN, %", "hours", "learned"),
        rows,
        "Validation accuracy of every encoder on the set that it was trained on; hours of one core.",
    )


def notes(result: Result) -> Markdown | None:
    """What has to be known before a result is read, folded where it is much; None, which shows nothing, for nothing."""
    said = result.facts.get("notes", [])
    if sum(len(note) // TITLE_LETTERS + 1 for note in said) <= LINES_IN_SIGHT:
        return Markdown("\n\n".join(f"> {note}" for note in said)) if said else None
    listed = "\n".join(f"- {note}" for note in said)
    return Markdown(f"<details>\n<summary>Notes on this run ({len(said)})</summary>\n\n{listed}\n\n</details>")


def ran(result: Result) -> Markdown:
    """The parameters that a result was made with, by their names."""
    rows = [(f"`{name}`", _value(value)) for name, value in result.facts["parameters"].items()]
    return table(("parameter", "value"), rows, "The parameters that this page was made with.")


def _value(value: object) -> str:
    """A parameter as the command line takes it."""
    if value is None:
        return "none given"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def verdict_of(result: Result, claim: str) -> Mapping:
    """A claim's verdict with its parts and controls, as a result has it."""
    return next(verdict for verdict in result.facts["verdicts"] if verdict["claim"] == claim)


def kinds(result: Result) -> dict[str, str]:
    """The verdict on every claim, by its name."""
    return {verdict["claim"]: str(verdict["kind"]) for verdict in result.facts["verdicts"]}


def holds(statement: str, *conditions: bool) -> None:
    """Stop the build where the text says of a result what it does not support.

    ``ValueError`` names the ``statement``, as the text has it, unless every condition is true.
    """
    failed = [i + 1 for i, condition in enumerate(conditions) if not bool(condition)]
    expect(bool(conditions) and not failed, "statement", repr(statement), f"a result against it (condition {failed})")


def all_hold(statements: Mapping[str, bool]) -> None:
    """Stop the build unless every statement of a chapter holds."""
    for statement, truth in statements.items():
        holds(statement, truth)


def titled(figure: Figure, statement: str, statements: Mapping[str, bool]) -> Figure:
    """The figure under one of the chapter's statements as its title; as it is where there are none, in a rerun.

    ``ValueError`` for a statement that the chapter does not make, and for one that its result does not support.
    """
    if statements:
        expect_known(statement, statements, "statement")
        holds(statement, statements[statement])
        title = _in_even_lines(statement[0].upper() + statement[1:])
        if figure.legends:  # which stands above the panels: matplotlib would set a title of the figure upon it
            figure.legends[0].set_title(title, {"size": TITLE_SIZE})
        else:
            figure.suptitle(title, fontsize=TITLE_SIZE)
    return figure


def _in_even_lines(text: str) -> str:
    """As few lines as a page's width allows, none of them much shorter than the others."""
    count = len(textwrap.wrap(text, TITLE_LETTERS))
    width = next(n for n in range(1, TITLE_LETTERS + 1) if len(textwrap.wrap(text, n)) <= count)
    return textwrap.fill(text, width)


def origin(result: Result) -> Markdown:
    """Where a result comes from: command, commit, encoders, data, versions, hardware, time, notes."""
    p, parameters = result.facts["provenance"], result.facts["parameters"]
    rows = [
        ("command", f"`{p['command']}`"),
        ("profile, pool", f"`{parameters['profile']}`, `{parameters.get('pool', '')}`"),
        ("encoders", f"{len(p.get('encoders', {}))} of the pool"),
        ("date", p["date"]),
        ("code", f"commit `{p['commit']}`"),
        ("data", "; ".join(f"{name} `{checksum[:12]}`" for name, checksum in p.get("data", {}).items())),
        ("versions", ", ".join(f"{name} {version}" for name, version in p["versions"].items())),
        ("machine", ", ".join(MACHINE.get(name, "{}").format(value) for name, value in p["hardware"].items())),
        ("seconds per step", ", ".join(f"{name} {seconds:.0f}" for name, seconds in p["seconds"].items())),
        *(("extended", _extended(later)) for later in p.get("extended", [])),
    ]
    return table(
        ("", ""),
        [*rows, *(("note", note) for note in result.facts.get("notes", []))],
        "Where the numbers of this page come from.",
    )


def _extended(later: Mapping) -> str:
    """Who joined a result after it was recorded, when, by which command and code, and who was measured again then."""
    who, seconds = ", ".join(f"`{name}`" for name in later["encoders"]), sum(later["seconds"].values())
    how = f"`{later['command']}` on {later['date'][:10]}, commit `{later['commit']}`, {seconds:,.0f} s"
    machine = ", ".join(MACHINE.get(name, "{}").format(value) for name, value in later["hardware"].items())
    return f"{who}, by {how}, on {machine}; `{later['measured_again']}`, measured again, agrees within tolerance"
