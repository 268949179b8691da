import re

import numpy as np
import pytest
import torch

from sslnb import report
from sslnb.book import pages
from sslnb.core.flat import Result
from sslnb.data import load
from sslnb.objectives.registry import OBJECTIVES
from sslnb.studies.objectives import examples, figures, tables
from sslnb.studies.objectives.parameters import Parameters
from sslnb.studies.objectives.steps import PARTS, run


def cells(markdown: str) -> list[list[str]]:
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in markdown.splitlines()]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Result:
    """A comparison of three objectives, too short to learn anything."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SSLNB_CACHE", str(tmp_path_factory.mktemp("cache")))
    tiny = {"width": 2, "epochs": 2, "limit": 64, "batch_size": 32, "probe_limit": 40, "probe_epochs": 2}
    parameters = Parameters.of("quick", objectives=("simclr", "cmc", "supervised"), **tiny)
    yield run(parameters)
    patch.undo()


def test_every_objective_has_its_row_of_equation_and_words():
    rows = cells(tables.equations().data)
    assert len(rows) == len(OBJECTIVES)
    for name, text in rows:
        kind = next(k for k in OBJECTIVES.values() if name.startswith(k.label + " {cite}"))
        words, *equations = text.split("<br>")
        assert words == kind.compares + ":" and equations
        for equation in equations:
            assert equation.startswith("$") and equation.endswith("$") and equation.count("{") == equation.count("}")
            assert not re.search(r"\\quad[A-Za-z]", equation)  # an unknown command


def test_cited_papers_are_in_the_bibliography():
    known = set(re.findall(r"^@\w+\{(\w+),", (pages._book_root() / "book/references.bib").read_text(), re.MULTILINE))
    cited = {key for kind in OBJECTIVES.values() for key in kind.reference.split(",")}
    assert cited <= known, cited - known


def test_each_objective_and_each_transform_has_its_row_of_pictures():
    images = load("digit-scenes", limit=20)
    rows = examples.views(images)
    assert next(iter(rows)) == "image" and sorted(list(rows)[1:]) == sorted(kind.label for kind in OBJECTIVES.values())
    transformed = examples.transforms(report.photograph(24), count=3)
    figure = report.mosaic(transformed, 4)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(examples.TRANSFORMS)
    assert len(figure.axes[0].images) == 4 * len(examples.TRANSFORMS)  # the photograph and three draws or channels


@pytest.mark.parametrize("name", sorted(examples.TRANSFORMS))
def test_a_transform_changes_the_picture_and_keeps_it_one(name):
    photograph = report.photograph(24)
    batch = photograph.expand(6, -1, -1, -1)
    views = examples.TRANSFORMS[name](batch, torch.Generator().manual_seed(0))
    assert views.shape[1] == 3 and views.shape[2] == views.shape[3]
    assert views.min() >= 0 and views.max() <= 1 + 1e-5
    assert any(view.shape != photograph.shape or not torch.allclose(view, photograph / 255) for view in views)


def test_the_comparison_measures_every_objective_and_two_references(result):
    methods = [*result.scalars["methods"], *result.scalars["references"]]
    assert methods == ["simclr", "cmc", "supervised", "random", "pixels"]
    assert np.isfinite(result.arrays["test_knn"]).all() and (result.arrays["test_knn"] >= 0).all()
    assert result.arrays["loss"].shape == (3, 1, 2) and np.isfinite(result.arrays["loss"]).all()
    for part in PARTS:
        assert (result.arrays[f"step_{part}"] > 0).all()
    assert result.scalars["reasons"] == {} and result.scalars["pretraining"]["trained"] == 3


def test_the_tables_hold_what_was_measured(result):
    rows = cells(tables.accuracies(result).data)
    assert {row[0] for row in rows} == {"SimCLR", "CMC", "Supervised", "Random weights", "Raw pixels"}
    assert [row[0] for row in rows[-2:]] == ["Random weights", "Raw pixels"] and rows[-1][4] == "–"
    knn = [float(row[1]) for row in rows[:3]]
    assert knn == sorted(knn, reverse=True)
    best = result.arrays["test_knn"][:3].max()
    assert knn[0] == pytest.approx(100 * best, abs=0.051)
    assert [row[0] for row in cells(tables.settings(result).data)] == ["SimCLR", "CMC", "Supervised"]
    steps = [float(row[1]) for row in cells(tables.costs(result).data)]
    assert steps == sorted(steps)


def test_the_summary_counts_and_names_runs_that_did_not_converge(result):
    assert "All runs converged." in tables.summary(result).data
    arrays = result.arrays | {"test_knn": np.array([[0.5], [0.2], [0.9], [0.1], [0.3]])}
    scalars = result.scalars | {"reasons": {"cmc, seed 0": "the features collapsed"}}
    told = tables.summary(Result("objectives", {}, scalars, arrays)).data
    assert "raw pixels reaches 30.0 %. 2 of 3 objectives are above it, 2 by 10 points or more" in told
    assert "Did not converge: CMC: the features collapsed." in told


def test_curves_have_a_panel_per_objective(result):
    figure = figures.curves(result)
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == ["SimCLR", "CMC", "Supervised"]


def test_the_result_survives_its_file(result, tmp_path):
    result.save(tmp_path / "objectives")
    again = Result.load(tmp_path / "objectives")
    assert tables.accuracies(again).data == tables.accuracies(result).data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": ("simclrr",)}, "objectives: expected one of .* did you mean 'simclr"),
        ({"objectives": ("cmc", "cmc")}, "objectives: expected distinct values"),
        ({"width": 3, "objectives": ("cmc",), "limit": 40}, "width: expected an even number"),
        ({"seeds": (-1,)}, "seeds: expected values of at least 0"),
        ({"epochs": 0}, "epochs: expected at least 1"),
        ({"optimizer": "lara"}, "optimizer: expected one of .*did you mean 'lars'"),
    ],
)
def test_what_can_not_be_run_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        run(Parameters.of("quick", **changes))
