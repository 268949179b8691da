"""What figures, tables and explorers of all studies share."""

from sslnb.report.mosaic import mosaic, photograph
from sslnb.report.tables import table
from sslnb.report.verdicts import glue_verdicts, learned, notes, origin, parts, verdicts

__all__ = [
    "glue_verdicts",
    "learned",
    "mosaic",
    "notes",
    "origin",
    "parts",
    "photograph",
    "table",
    "verdicts",
]
