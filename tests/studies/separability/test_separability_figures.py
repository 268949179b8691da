"""Figures, tables and widgets, drawn from the recorded result and from one in which nothing converged."""

import copy
import dataclasses
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
from matplotlib.figure import Figure

from sslnb import report
from sslnb.core import labels
from sslnb.core.result import Result
from sslnb.studies.separability import explorers, figures, tables
from sslnb.studies.separability.claims import CLAIMS, verdicts

DRAWN = ("training_curves", "probe_grid", "margin_distributions", "mean_margins", "accuracy_against_budget")


@pytest.fixture(scope="module")
def recorded() -> Result:
    return Result.load(Path(__file__).resolve().parents[3] / "book" / "results" / "separability")


@pytest.mark.parametrize("name", [*DRAWN, "multilayer_against_budget"])
def test_every_figure_is_drawn_from_the_recorded_result(recorded, name, tmp_path):
    figure = getattr(figures, name)(recorded)
    assert isinstance(figure, Figure) and all(ax.has_data() for ax in figure.axes)
    figure.savefig(tmp_path / "figure.png", dpi=40)


@pytest.mark.parametrize("name", ["margin_distributions", "mean_margins", "accuracy_against_budget"])
def test_figures_of_probes_that_did_not_converge_are_empty_not_broken(recorded, name, tmp_path):
    failed = copy.deepcopy(recorded)
    for data in failed.data.values():
        for key, array in data.data_vars.items():
            if array.dtype.kind == "f" and key not in ("budget", "dot_budget", "compared_decay"):
                array[...] = np.nan
    getattr(figures, name)(failed).savefig(tmp_path / "figure.png", dpi=40)


def test_a_run_without_training_has_a_figure_that_says_so(recorded):
    untrained = copy.deepcopy(recorded)
    untrained.data["pretraining"].loss[...] = np.nan
    assert "no encoder was trained" in figures.training_curves(untrained).axes[0].texts[0].get_text()


def test_tables_hold_every_method_and_claim(recorded):
    for name in ("probes", "effective", "bounds", "decays"):
        text = getattr(tables, name)(recorded).data
        assert all(labels.label(name) in text for name in recorded.data["probes"].objective.values)
    recorded.facts["verdicts"] = [dataclasses.asdict(verdict) for verdict in verdicts(recorded.data)]
    text = report.verdicts(recorded, CLAIMS).data
    assert all(f"| {claim} |" in text for claim in CLAIMS)
    assert "62.2 (76.1)" in tables.paper_effective("l2").data


def test_the_static_explorer_holds_a_different_picture_for_every_position(recorded):
    box = explorers.browse_margins(recorded)
    choice, slider, outer = box.children
    assert len(outer.children) == len(choice.options) == 3
    for stack in outer.children:
        assert isinstance(stack, ipywidgets.Stack) and len(stack.children) == slider.max + 1
        assert len({image.value for image in stack.children}) == slider.max + 1


def test_the_live_explorer_draws_again_when_a_control_moves(recorded):
    box = explorers.explore_margins(recorded)
    image = box.children[-1]
    for control, value in (
        (box.children[3], 0.7),
        (box.children[2], 3),
        (box.children[1], "linf"),
        (box.children[0], "cifar100"),
    ):
        before = image.value
        control.value = value
        assert image.value != before


def test_notes_are_shown_where_there_are_some_and_nothing_else_is() -> None:
    assert report.notes(Result("separability")) is None
    assert report.notes(Result("separability", {}, {"notes": ["a", "b"]})).data == "> a\n\n> b"
