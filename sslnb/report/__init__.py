"""What figures, tables and explorers of all studies share."""

from sslnb.report.mosaic import mosaic, photograph
from sslnb.report.tables import claims, comparisons, glue_claims, provenance, table
from sslnb.report.verdicts import glue_verdicts, learned, origin, parts, verdicts

__all__ = [
    "claims",
    "comparisons",
    "glue_claims",
    "glue_verdicts",
    "learned",
    "mosaic",
    "origin",
    "parts",
    "photograph",
    "provenance",
    "table",
    "verdicts",
]
