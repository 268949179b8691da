"""All claims of all papers in one place: a scoreboard, a table with forest plots, the rerun beside what is recorded."""

import math
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from IPython.display import HTML, Markdown

from sslnb import studies
from sslnb.core.claims import Claim, Kind
from sslnb.core.result import Result
from sslnb.report.html import render
from sslnb.report.tables import set_label
from sslnb.report.verdicts import estimate

FROZEN = "54a3637"  # the last commit that could change what decides a claim, before test images of `small` were used
DECIDING = (
    *("sslnb/core/claims.py", "sslnb/studies/*/claims.py"),
    *("sslnb/core/papers.py", "sslnb/core/reference_values.csv"),  # of which some smallest effects are halves
    *("sslnb/studies/cka/maps.py", "sslnb/metrics/margins.py"),  # effects that claims.py computes there
)


@dataclass(frozen=True)
class Row:
    """A claim as one run decided it."""

    study: str
    title: str
    claim: Claim
    verdict: Mapping
    scale: str  # what it was measured at, in words

    @property
    def slug(self) -> str:
        return str(self.verdict["kind"]).replace(" ", "-")

    @property
    def said(self) -> str:
        return estimate(self.verdict)

    @property
    def sei(self) -> str:
        return f"{self.claim.sei:.3g}"

    @property
    def controls(self) -> dict[str, str]:
        """The same effect against each control, in words."""
        names = ("estimate", "low", "high")
        return {k: estimate(dict(zip(names, v, strict=True))) for k, v in self.verdict["controls"].items()}

    @property
    def forest(self) -> dict[str, float | None] | None:
        """Places in [-1, 1] of estimate, interval and smallest effect of interest; None where nothing was measured."""
        values = {key: self.verdict[key] for key in ("estimate", "low", "high")}
        known = {key: v for key, v in values.items() if v is not None and math.isfinite(v)}
        if "estimate" not in known:
            return None
        sei = abs(self.claim.sei)
        reach = 1.1 * max(sei, *map(abs, known.values())) or 1.0
        placed = {key: round(known[key] / reach, 4) if key in known else None for key in values}
        return placed | {"sei": round(sei / reach, 4)}

    def href(self, edition: str = "published") -> str:
        """The figure or section of the chapter's page, seen from the book's own pages."""
        prefix = f"{edition}-" if self.claim.evidence.startswith("fig-") else ""
        return f"../{edition}/{self.study}.html#{prefix}{self.claim.evidence}"


def rows(folder: Path) -> list[Row]:
    """Every claim of the Results in a folder, in the order of the studies and of their claims."""
    return [row for name in studies.NAMES if (folder / f"{name}.json").is_file() for row in _of(name, folder)]


def _of(name: str, folder: Path) -> Iterator[Row]:
    study, result = studies.get(name), Result.load(folder / name)
    asked = study.parameters.model_construct(**result.facts["parameters"])  # as recorded: paths need not exist here
    for verdict in study.decided(result).facts["verdicts"]:
        sets = ", ".join(set_label(images) for images in asked.images_of(verdict["claim"]))
        yield Row(name, study.title, study.claims[verdict["claim"]], verdict, f"pool {asked.pool}; {sets}")


def scoreboard(folder: Path) -> HTML:
    """A line for each study, a linked chip for each claim; the chip says the verdict in words and by its colour."""
    return render("scoreboard.html", studies=_grouped(rows(folder)))


def counts(folder: Path) -> Markdown:
    """How many claims have each verdict, in a sentence."""
    kinds = [str(row.verdict["kind"]) for row in rows(folder)]
    said = [f"{count} {'is' if count == 1 else 'are'} {kind}" for kind in Kind if (count := kinds.count(kind))]
    return Markdown(f"Of {len(kinds)} claims, {', '.join(said)}.")


def claims_table(folder: Path) -> HTML:
    """Every claim: verdict, statement, forest plot, scale and controls; filters work without scripts."""
    every = rows(folder)
    facts = {
        "rows": every,
        "studies": _grouped(every),
        "kinds": {str(kind).replace(" ", "-"): str(kind) for kind in Kind},
        "csv": quote(_frame(every).to_csv(index=False), safe=" ,:;/+=.'()[]"),
    }
    return render("claims.html", **facts)


def _frame(every: Iterable[Row]) -> pd.DataFrame:
    kept = ("estimate", "low", "high", "units", "kind", "note")
    facts = ("id", "statement", "effect", "sei", "unit")
    cells = [
        {"study": row.study, **{k: getattr(row.claim, k) for k in facts}, **{k: row.verdict[k] for k in kept}}
        for row in every
    ]
    return pd.DataFrame(cells)


def beside(recorded: Path, rerun: Path) -> HTML:
    """Each claim as recorded and as this build's rerun decides it; they can agree where both could test it."""
    again = {row.claim.id: row for row in rows(rerun)}
    pairs = [(row, again.get(row.claim.id)) for row in rows(recorded)]
    return render("beside.html", rows=[(*pair, _agreement(*pair)) for pair in pairs])


def _agreement(row: Row, other: Row | None) -> str:
    """Whether both verdicts are the same; empty where one of them could not be reached."""
    kinds = [str(one.verdict["kind"]) for one in (row, other) if one is not None]
    if len(kinds) < 2 or str(Kind.NOT_TESTED) in kinds:
        return ""
    return "yes" if kinds[0] == kinds[1] else "no"


def since_frozen(root: Path) -> Markdown:
    """Which commits since the frozen one changed what decides claims."""
    git = ["git", "-C", str(root), "log", "--format=%h %s", f"{FROZEN}..HEAD", "--", *DECIDING]
    try:
        found = subprocess.run(git, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return Markdown(f"The history of this copy, in which commit `{FROZEN}` could be looked up, is not at hand.")
    if not found:
        return Markdown(f"No commit since `{FROZEN}` has changed what decides a claim.")
    lines = "\n".join(f"- `{line}`" for line in found)
    return Markdown(f"Commits since `{FROZEN}` that touched this code:\n\n{lines}")


def _grouped(every: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in every:
        groups.setdefault(row.study, []).append(row)
    return groups
