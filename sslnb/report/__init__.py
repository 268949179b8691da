"""What figures, tables and explorers of all studies share."""

from sslnb.report.mosaic import mosaic, photograph
from sslnb.report.tables import claims, comparisons, glue_claims, provenance, table

__all__ = ["claims", "comparisons", "glue_claims", "mosaic", "photograph", "provenance", "table"]
