"""The page on training objectives: equations, pictures of views, and what the members of a pool have learned."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sslnb import report
from sslnb.book import pages
from sslnb.core.result import Result
from sslnb.data import load
from sslnb.objectives.registry import OBJECTIVES
from sslnb.pool.members import Scale, Variant
from sslnb.studies.objectives import STUDY, examples, figures, findings, tables
from sslnb.studies.study import Run

SHARED = {"width": 2, "stem": "imagenet", "epochs": 2, "batch_size": 32, "flip": 0.0, "crop_scale": 0.6}


def cells(markdown: str) -> list[list[str]]:
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.fixture(scope="module")
def study(train_pool: Callable[[Scale], Path]) -> Run:
    """Three objectives in a pool too small to learn anything."""
    variants = {"simclr": Variant(2), "cmc": Variant(1), "supervised": Variant(1)}
    train_pool(Scale("tiny", "digit-scenes", SHARED, variants, limit=64, halvings=0))
    run = STUDY.start(STUDY.parameters.of(pool="tiny", probe_limit=40, test_limit=100, probe_epochs=2))
    run.all()
    return run


def test_every_objective_has_its_row_of_equation_and_words() -> None:
    rows = cells(tables.equations().data)
    assert len(rows) == len(OBJECTIVES)
    for name, text in rows:
        kind = next(k for k in OBJECTIVES.values() if name.startswith(k.label + " {cite}"))
        words, *equations = text.split("<br>")
        assert words == kind.compares + ":" and equations
        for equation in equations:
            assert equation.startswith("$") and equation.endswith("$") and equation.count("{") == equation.count("}")
            assert not re.search(r"\\quad[A-Za-z]", equation)  # an unknown command


def test_cited_papers_are_in_the_bibliography() -> None:
    known = set(re.findall(r"^@\w+\{(\w+),", (pages.book_root() / "book/references.bib").read_text(), re.MULTILINE))
    cited = {key for kind in OBJECTIVES.values() for key in kind.reference.split(",")}
    assert cited <= known, cited - known


def test_each_objective_and_each_transform_has_its_row_of_pictures() -> None:
    images = load("digit-scenes", limit=20)
    rows = examples.views(images)
    assert next(iter(rows)) == "image" and sorted(list(rows)[1:]) == sorted(kind.label for kind in OBJECTIVES.values())
    transformed = examples.transforms(report.photograph(24), count=3)
    figure = report.mosaic(transformed, 4)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(examples.TRANSFORMS)
    assert len(figure.axes[0].images) == 4 * len(examples.TRANSFORMS)  # the photograph and three draws or channels


@pytest.mark.parametrize("name", sorted(examples.TRANSFORMS))
def test_a_transform_changes_the_picture_and_keeps_it_one(name: str) -> None:
    photograph = report.photograph(24)
    batch = photograph.expand(6, -1, -1, -1)
    views = examples.TRANSFORMS[name](batch, torch.Generator().manual_seed(0))
    assert views.shape[1] == 3 and views.shape[2] == views.shape[3]
    assert views.min() >= 0 and views.max() <= 1 + 1e-5
    assert any(view.shape != photograph.shape or not torch.allclose(view, photograph / 255) for view in views)


def test_the_page_measures_every_member_and_two_references(study: Run) -> None:
    data = study.result.data
    assert list(data["evaluation"].objective.values) == ["simclr", "cmc", "supervised", "untrained", "pixels"]
    assert data["evaluation"].knn.notnull().sum() == 2 + 1 + 1 + 2 + 1
    assert data["pretraining"].loss.sel(objective="simclr").notnull().all()
    for part in ("seconds", "views", "memory"):
        assert bool((data["step_cost"][part] > 0).all())
    assert study.result.facts["verdicts"] == []


def test_the_tables_hold_what_was_measured(study: Run) -> None:
    rows = cells(tables.accuracies(study.result).data)
    assert {row[0] for row in rows} == {"SimCLR", "CMC", "Supervised", "Untrained", "Raw pixels"}
    assert [row[0] for row in rows[:2]] == ["Untrained", "Raw pixels"] and rows[1][4] == "–"  # always in sight
    knn = [float(row[1].partition("\u00a0")[0]) for row in rows[2:]]
    assert knn == sorted(knn, reverse=True)
    best = float(study.result.data["evaluation"].knn.isel(objective=slice(0, 3)).mean("seed").max())
    assert knn[0] == pytest.approx(100 * best, abs=0.051)
    assert [row[0] for row in cells(tables.settings(study.result).data)] == ["SimCLR", "CMC", "Supervised"]
    steps = [float(row[1]) for row in cells(tables.costs(study.result).data)]
    assert steps == sorted(steps)


def test_the_summary_counts_who_is_above_raw_pixels(study: Run) -> None:
    evaluation = study.result.data["evaluation"].copy(deep=True)
    evaluation["knn"][:] = np.array([0.5, 0.2, 0.9, 0.1, 0.3])[:, None]
    told = tables.summary(Result("", study.result.data | {"evaluation": evaluation}, {})).data
    assert "raw pixels reaches 30.0 %. 2 of 3 objectives are above it, 2 by 10 points or more" in told
    without = study.result.data["evaluation"].isel(objective=slice(0, 4))
    assert "no raw pixels" in tables.summary(Result("", study.result.data | {"evaluation": without}, {})).data


def test_curves_have_a_panel_per_objective(study: Run) -> None:
    figure = figures.curves(study.result)
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == ["SimCLR", "CMC", "Supervised"]


def test_the_result_survives_its_file(study: Run, tmp_path) -> None:
    again = Result.load(study.result.save(tmp_path / "objectives"))
    for name in ("accuracies", "settings", "costs", "summary"):
        assert getattr(tables, name)(again).data == getattr(tables, name)(study.result).data


def test_a_recorded_result_is_one_of_the_page() -> None:
    result = STUDY.start(STUDY.parameters.of("published")).claims()
    assert all(findings.statements(result).values())
    rows = cells(tables.accuracies(result).data)
    assert len(rows) >= result.data["evaluation"].sizes["objective"] > 6 and figures.curves(result).axes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": "smal"}, "did you mean 'small'"),
        ({"probe_epochs": 0}, "probe_epochs: expected at least 1"),
        ({"epochs": 5}, "did you mean 'probe_epochs'"),
    ],
)
def test_what_can_not_be_run_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        STUDY.parameters.of("quick", **changes)
