"""Tables and sentences of the book: recorded numbers in, Markdown out. No number in the prose is typed by hand."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from IPython.display import Markdown
from myst_nb import glue

from sslnb.core.claims import Claim
from sslnb.core.flat import Result


def table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> Markdown:
    """A Markdown table; bars in cells are escaped."""
    lines = [[str(cell).replace("|", "\\|") for cell in line] for line in (head, ["---"] * len(head), *rows)]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def percent(value: float) -> str:
    """0.7612 as ``76.1``; a dash for what was not measured."""
    return f"{100 * value:.1f}" if math.isfinite(value) else "–"


def spread(values: np.ndarray) -> str:
    """Mean over seeds with the sample deviation: ``76.1 ± 0.4``."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    deviation = f"\u00a0±\u00a0{100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""  # never broken over lines
    return percent(float(values.mean())) + deviation


def claims(result: Result, statements: dict[str, Claim]) -> Markdown:
    """Every claim with its statement, effect, interval and verdict."""
    rows = []
    for verdict in result.scalars["claims"]:
        claim = statements[verdict["claim"]]
        rows.append((claim.id, claim.statement, claim.effect, effect_cell(verdict), _verdict(verdict)))
    return table(("", "claim", "effect", "measured [95 % interval]", "verdict"), rows)


def comparisons(result: Result) -> Markdown:
    """The comparisons that the claims of a study are made of."""
    rows = []
    for part in result.scalars["claim_parts"]:
        rows.append((part["claim"], part["of"], effect_cell(part), part["verdict"], part["note"]))
    noted = any(row[-1] for row in rows)
    head = ("", "comparison", "effect [95 % interval]", "verdict", "")
    return table(head if noted else head[:-1], rows if noted else (row[:-1] for row in rows))


def effect_cell(verdict: dict) -> str:
    if not math.isfinite(verdict["effect"]):
        return "–"
    interval = f" [{verdict['low']:.3f}, {verdict['high']:.3f}]" if math.isfinite(verdict["low"]) else ""
    return f"{verdict['effect']:.3f}{interval}"


def _verdict(verdict: dict) -> str:
    note = f" ({verdict['note']})" if verdict["note"] else ""
    return f"**{verdict['verdict']}**{note}"


def _lengths(parameters: dict) -> list[tuple[str, object]]:
    """Every number of epochs or steps among a study's parameters."""
    rows = []
    for name, value in parameters.items():
        if name.endswith(("epochs", "steps")):
            values = value if isinstance(value, list | tuple) else [value]
            text = ", ".join(f"{v:,}" for v in values if v is not None) or "each objective its own, as listed above"
            rows.append((name.replace("_", " "), text))
    return rows


def provenance(result: Result) -> Markdown:
    """Where a result comes from: scale, command, commit, versions, hardware, time."""
    p, hardware = result.provenance, result.provenance["hardware"]
    source = result.scalars["pretraining"]
    machine = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in hardware.items())
    rows = [
        ("profile", f"`{result.parameters['profile']}`"),
        ("encoders", "ResNet-{depth}, width {width}, {stem} stem".format(**{"stem": "cifar"} | result.parameters)),
        ("pretrained on", f"{source['images']:,} images of `{source['dataset']}`"),
        *_lengths(result.parameters),
        ("seeds", len(result.scalars["seeds"])),
        ("encoders trained in this run", f"{source['trained']}; the others came from the cache"),
        ("date", p["date"]),
        ("code", f"commit `{p['commit']}`"),
        ("versions", ", ".join(f"{name} {version}" for name, version in p["versions"].items())),
        ("machine", machine),
        ("seconds per step", ", ".join(f"{name} {seconds:.0f}" for name, seconds in p["seconds"].items())),
    ]
    return table(("", ""), rows)


def say(name: str, text: str) -> None:
    glue(name, Markdown(text), display=False)


def glue_claims(result: Result) -> None:
    """Make every claim's numbers available to the prose: ``S1_verdict`` and ``S1_words`` (effect and interval)."""
    for verdict in result.scalars["claims"]:
        words = f"{verdict['effect']:.3f}" if math.isfinite(verdict["effect"]) else "not measured"
        words += f" ({verdict['low']:.3f} to {verdict['high']:.3f})" if math.isfinite(verdict["low"]) else ""
        say(f"{verdict['claim']}_verdict", verdict["verdict"])
        say(f"{verdict['claim']}_words", words)
