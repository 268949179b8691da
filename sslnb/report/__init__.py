"""What figures, tables and explorers of all studies share."""

from sslnb.report.mosaic import mosaic, photograph
from sslnb.report.shown import numbers
from sslnb.report.tables import table
from sslnb.report.verdicts import (
    all_hold,
    answer,
    glue_verdicts,
    holds,
    kinds,
    learned,
    notes,
    origin,
    parts,
    ran,
    titled,
    verdict_of,
    verdicts,
)

__all__ = [
    "all_hold",
    "answer",
    "glue_verdicts",
    "holds",
    "kinds",
    "learned",
    "mosaic",
    "notes",
    "numbers",
    "origin",
    "parts",
    "photograph",
    "ran",
    "table",
    "titled",
    "verdict_of",
    "verdicts",
]
