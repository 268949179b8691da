"""Figures, tables and widgets, drawn from the recorded result and from one in which nothing converged."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy import stats

from sslnb import report
from sslnb.core import labels
from sslnb.core.result import Result
from sslnb.studies.separability import STUDY, audit_figures, audit_tables, choices, explorers, figures, findings, tables
from sslnb.studies.separability.claims import CLAIMS, HALF_GAP, verdicts

DRAWN = ("training_curves", "probe_grid", "margin_distributions", "mean_margins", "accuracy_against_budget")


@pytest.fixture(scope="module")
def recorded() -> Result:
    return Result.load(Path(__file__).resolve().parents[3] / "book" / "results" / "separability")


@pytest.mark.parametrize("name", [*DRAWN, "multilayer_against_budget"])
def test_every_figure_is_drawn_from_the_recorded_result(recorded, name, tmp_path):
    figure = getattr(figures, name)(recorded)
    assert isinstance(figure, Figure) and all(ax.has_data() for ax in figure.axes if ax.axison)
    figure.savefig(tmp_path / "figure.png", dpi=40)


def test_the_chapter_says_what_its_result_supports(recorded):
    verdicts = STUDY.decided(recorded).facts["verdicts"]
    assert [verdict["claim"] for verdict in verdicts] == list(CLAIMS)
    assert recorded.facts["parameters"]["pool"] == "small"
    said = findings.statements(recorded)
    assert said and all(said.values())


def test_another_result_is_not_called_the_same(recorded):
    equal = copy.deepcopy(recorded)
    for name in ("mean_margin", "norm_auc"):
        equal.data["separation"][name][...] = 0.5
    said = findings.statements(equal)
    assert not said[findings.ROOM] and np.allclose(findings.ahead(equal), 1)


def test_room_is_the_ratio_of_geometric_means(recorded):
    data, names = recorded.data, ["infomin", "moco", "simclr", "cmc"]
    decay = float(data["probes"].compared_decay.sel(scale="unit_variance", dataset="stl10").values.flat[0])
    margins = np.log(data["separation"].mean_margin.sel(scale="unit_variance", dataset="stl10", decay=decay))
    by_seed = margins.mean("norm").mean("seed")
    expected = np.exp(float(by_seed.sel(objective="supervised")) - float(by_seed.sel(objective=names).mean()))
    assert findings.of_paper(recorded) == names
    room = findings.ahead(recorded).sel(dataset="stl10")
    assert float(room.sel(bound="value")) == pytest.approx(expected)
    logs = by_seed.sel(objective="supervised", drop=True) - by_seed.sel(objective=names)
    low, high = stats.t.interval(0.95, 3, float(logs.mean()), stats.sem(logs.values))
    assert np.allclose(np.log(room.sel(bound=["low", "high"])), (low, high))
    assert (room.sel(bound="low") < expected) and (room.sel(bound="high") > expected)


def test_the_papers_gaps_leave_out_probes_that_did_not_converge():
    gaps = findings.printed_gaps()
    simclr = list(findings.PRINTED).index("simclr")
    cells = {"Flowers": (76.2 / 91.1, 67.6 / 86.9), "Caltech101": (80.7 / 91.5, 76.8 / 90.0)}
    cells |= {"CIFAR10": (64.7 / 91.5, 54.8 / 90.6), "Cars": (17.4 / 49.8, 11.2 / 43.2)}
    assert gaps["away"][simclr] == pytest.approx(np.mean([a - b for a, b in cells.values()]))
    assert gaps["home"][simclr] == pytest.approx(62.2 / 76.1 - 23.6 / 67.9)
    assert findings.half_gap() > HALF_GAP


def test_shares_of_variance_are_whole(recorded):
    assert np.allclose(findings.explained(recorded).sum("part"), 1)
    low, high = findings.over_grid(recorded, "S1")
    assert 0 < low < high


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
    texts = [getattr(tables, name)(recorded).data for name in ("probes", "bounds", "decays")]
    for text in (*texts, *(tables.effective(recorded, norm).data for norm in ("l2", "linf"))):
        assert all(labels.label(name) in text for name in recorded.data["probes"].objective.values)
    recorded.facts["verdicts"] = [dataclasses.asdict(verdict) for verdict in verdicts(recorded.data)]
    text = report.verdicts(recorded, CLAIMS).data
    assert all(f"| {claim} |" in text for claim in CLAIMS)
    assert "62.2 (76.1)" in tables.paper_effective("l2").data


def test_the_page_explorer_holds_the_accuracy_that_margins_leave(recorded, tables_of):
    kept = tables_of(explorers.browse_margins(recorded))["accuracy"]
    data = recorded.data["separation"]
    dataset = str(recorded.data["probes"].dataset.values[0])
    margin = data.margin.sel(norm="l2", objective="simclr").isel(sample=(data.sample_dataset == dataset).values)
    own = kept[(kept.dataset == dataset) & (kept.norm == "l2") & (kept.encoder == "SimCLR")]
    for budget, accuracy in zip(own.budget, own.accuracy, strict=True):
        assert accuracy == pytest.approx(100 * float((margin > budget).mean()), abs=0.5)
    assert own.accuracy.is_monotonic_decreasing and own.percent.tolist() == list(range(0, 101, explorers.STEP))


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
    assert report.notes(Result("separability", {}, {"notes": ["long " * 80]})).data.startswith("<details>")
    folded = report.notes(Result("separability", {}, {"notes": list("abcd")})).data
    assert folded.startswith("<details>") and "(4)" in folded and "\n- d\n" in folded


# --- the audit of probes ----------------------------------------------------------------------------------------------

AUDIT_FIGURES = ("shares_of_variance", "claims_by_probe")
AUDIT_TABLES = ("variance", "claims", "edges")


@pytest.fixture(scope="module")
def audited(made_up, of_study) -> Result:
    audit = made_up(both=0.2)
    audit["separable"] = xr.zeros_like(audit.limit_accuracy, bool)
    parts = choices.variance(audit), choices.claims_by_choice(audit, of_study(audit)), choices.edges(audit)
    return Result("separability", {"audit": audit, "probe_choice": xr.merge(parts)})


def test_the_audit_is_drawn_with_all_sources_probes_and_rules(audited, tmp_path):
    shares, claims = (getattr(audit_figures, name)(audited) for name in AUDIT_FIGURES)
    for number, figure in enumerate((shares, claims)):
        assert all(ax.has_data() for ax in figure.axes if ax.axison)
        figure.savefig(tmp_path / f"{number}.png", dpi=40)
    widths = [bar.get_width() for bar in shares.axes[0].patches]
    assert sum(widths) == pytest.approx(100 * audited.data["audit"].sizes["dataset"])
    rows = [text.get_text() for text in claims.axes[0].get_yticklabels()]
    assert rows[0] == "weight decay 0.0001" and rows[-1] == "limit of small decay"
    dots = [len(line.get_xdata()) for line in claims.axes[0].lines if line.get_marker() == "o"]
    assert sorted(dots) == [3, 3]  # half of the probes can be told apart from the best


def test_tables_of_the_audit_hold_every_set_claim_and_edge(audited):
    variance, claims, edges = (getattr(audit_tables, name)(audited).data for name in AUDIT_TABLES)
    assert "12 × 3 × 2" in variance and variance.count("`a`") == 3
    assert all(f"| {claim} |" in claims for claim in ("S1", "S2", "S3")) and "0.100 to 0.500 (3)" in claims
    assert "| `a` | 100 (0) | 0 (0) | 100 (100) | 0 (0) |" in edges


def test_a_result_older_than_the_audit_says_so(recorded):
    older = Result("separability", {name: recorded.data[name] for name in ("probes", "separation")})
    for name in AUDIT_TABLES:
        assert "not recorded" in getattr(audit_tables, name)(older).data
    for name in AUDIT_FIGURES:
        assert "not recorded" in getattr(audit_figures, name)(older).axes[0].texts[0].get_text()


def test_an_audit_of_encoders_that_learned_nothing_is_shown_as_such(audited, tmp_path):
    audit = audited.data["audit"].copy()
    audit["learned"] = "objective", np.zeros(audit.sizes["objective"], bool)
    parts = choices.variance(audit), choices.claims_by_choice(audit, {}), choices.edges(audit)
    empty = Result("separability", {"audit": audit, "probe_choice": xr.merge(parts)})
    for name in AUDIT_TABLES:
        assert "–" in getattr(audit_tables, name)(empty).data
    for name in AUDIT_FIGURES:
        getattr(audit_figures, name)(empty).savefig(tmp_path / f"{name}.png", dpi=40)


def test_the_prose_has_the_audits_numbers_whether_it_was_recorded_or_not(audited, recorded, monkeypatch):
    said = {}
    monkeypatch.setattr(audit_tables, "say", said.__setitem__)
    audit_tables.glue_audit(audited)
    assert said["audit_admissible"] == "3" and said["audit_S1"] == "0.100 to 0.500 (3)"
    names = set(said)
    said.clear()
    audit_tables.glue_audit(Result("separability", {"probes": recorded.data["probes"]}))
    assert set(said) == names and all("recorded" in text for text in said.values())
