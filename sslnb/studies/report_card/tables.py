"""Tables of a report card: a Result in, Markdown out."""

import html
import math

import numpy as np
from IPython.display import Markdown

from sslnb.core.result import Result
from sslnb.report.tables import table
from sslnb.studies.measures import MEASURES
from sslnb.studies.report_card.figures import shown


def summary(result: Result) -> Markdown:
    """Every measure of the given encoders, where it stands among the pool's, and the pool's range and floors."""
    data = result.data["card"]
    given = [str(name) for name in data.encoder.values[data.given.values]]
    pool = data.encoder.values[data.trained.values]
    floors = [str(name) for name in data.encoder.values if str(name).partition("/")[0] in ("untrained", "pixels")]
    rows = []
    for name in map(str, data.measure.values):
        at = data.sel(measure=name)
        cells = []
        for encoder in given:
            share = float(at.standing.sel(encoder=encoder))
            place = f" ({100 * share:.0f} %)" if math.isfinite(share) else ""
            cells.append(_written(name, at.value.sel(encoder=encoder)) + place)
        known = at.value.sel(encoder=pool).values
        known = known[np.isfinite(known)]
        ends = [_written(name, value) for value in (np.quantile(known, [0, 0.5, 1]) if len(known) else [math.nan] * 3)]
        rows.append((_label(name), *cells, f"{ends[0]} – {ends[1]} – {ends[2]}",
                     *(_written(name, at.value.sel(encoder=floor)) for floor in floors)))  # fmt: skip
    return table(
        ("measure", *map(shown, given), "pool: least – median – greatest", *map(shown, floors)),
        rows,
        "Every measure of the given encoder, beside the pool's encoders on the same images.",
    )


def _label(name: str) -> str:
    return MEASURES[name].label + (", %" if MEASURES[name].share else "")


def _written(name: str, value: object) -> str:
    value = float(value) * (100 if MEASURES[name].share else 1)
    return f"{value:.3g}" if math.isfinite(value) else "–"


def warnings(result: Result) -> Markdown:
    """What has to be known before the numbers are believed."""
    said = [note.removeprefix("Warning: ") for note in result.facts["notes"] if note.startswith("Warning: ")]
    text = "\n".join(f"- {html.escape(note)}" for note in said)
    return Markdown(f"**Warnings**\n\n{text}" if said else "No warnings.")


def missing(result: Result) -> Markdown:
    """What else was noted: measures that are not defined for an encoder, presets that were cut."""
    said = [note for note in result.facts["notes"] if not note.startswith("Warning: ")]
    return Markdown("\n".join(f"- {html.escape(note)}" for note in said) if said else "Nothing was left out.")


def identity(result: Result) -> Markdown:
    """The encoders that were given: name, features, checksum of the weights."""
    data = result.data["card"]
    mine = data.sel(encoder=data.encoder.values[data.given.values])
    rows = [
        (f"`{name}`", int(mine.features.sel(encoder=name)), f"`{str(mine.checksum.sel(encoder=name).values)[:16]}`")
        for name in mine.encoder.values
    ]
    return table(("encoder", "features", "weights"), rows, "The encoders that were given.")
