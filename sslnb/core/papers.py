"""The numbers that the papers print."""

import csv
import importlib.metadata
import importlib.resources
import math
from dataclasses import dataclass

from sslnb.core.checks import expect_known

# Keys in references.bib, in the order of the chapters.
PAPERS = ("sehwag2020separability", "chen2023simclrrotnet", "kalibhat2024qscore", "grigg2021cka", "cowlagi2022contrast")


@dataclass(frozen=True)
class Reference:
    """A number that a paper prints: its table or section, what it is of, and any caveat."""

    paper: str
    table: str
    dataset: str
    method: str
    metric: str
    value: float
    note: str


def references(paper: str) -> list[Reference]:
    """The printed numbers of one of the five papers, by its key in ``references.bib``; the poster on CKA has none."""
    expect_known(paper, PAPERS, "paper")
    text = importlib.resources.files("sslnb.core").joinpath("reference_values.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["paper"] == paper]
    keys = ("table", "dataset", "method", "metric")
    return [Reference(paper, *(row[k] for k in keys), float(row["value"]), row["note"]) for row in rows]


def reference(paper: str, dataset: str, method: str, metric: str) -> float:
    """One printed number, NaN where the paper has none."""
    key = (dataset.lower(), method.lower(), metric)
    values = [r.value for r in references(paper) if (r.dataset.lower(), r.method.lower(), r.metric) == key]
    return values[0] if values else math.nan
