"""What pages say of a result: the parameters that ran, and statements that stop the build when it does not hold."""

import pytest
from matplotlib.figure import Figure

from sslnb import report, studies
from sslnb.core.result import Result


def test_a_statement_that_its_result_does_not_support_stops_the_build() -> None:
    report.holds("margins are smaller", 1 < 2, True)
    with pytest.raises(ValueError, match=r"statement: expected 'margins are smaller', got .* \(condition \[2\]\)"):
        report.holds("margins are smaller", True, 2 < 1)
    with pytest.raises(ValueError, match="statement"):
        report.holds("nothing is checked")


def test_every_statement_of_a_chapter_is_checked() -> None:
    report.all_hold({"margins are smaller": True, "probes converge": True})
    with pytest.raises(ValueError, match="'probes converge'"):
        report.all_hold({"margins are smaller": True, "probes converge": False})


def test_verdicts_are_found_by_the_claim() -> None:
    facts = {"verdicts": [{"claim": "S1", "kind": "replicated"}, {"claim": "S2", "kind": "undecided"}]}
    assert report.kinds(Result("separability", {}, facts)) == {"S1": "replicated", "S2": "undecided"}


def test_the_parameters_that_ran_are_listed_as_the_command_line_takes_them() -> None:
    facts = {"parameters": {"profile": "small", "datasets": ["cifar10", "stl10"], "encoder": None, "probe_epochs": 30}}
    said = report.ran(Result("separability", {}, facts)).data
    assert "| `datasets` | cifar10, stl10 |" in said and "| `encoder` | none given |" in said
    assert "| `probe_epochs` | 30 |" in said


def test_an_answer_has_a_chip_for_each_verdict_and_the_papers_scale() -> None:
    study = studies.get("cka")
    run = study.start(study.parameters.of("published"))
    text = report.answer(run.claims(), study.claims, paper="ResNet-50 <of a poster>").data
    assert all(f">{name} <span>" in text for name in study.claims)
    assert "ResNet-50 &lt;of a poster&gt;" in text and "<li>C6, " in text
    assert (
        "ResNet-18 of width 16, 40 epochs on CIFAR-10 (pool small), up to 3 seeds: Supervised; SupCon; SimCLR" in text
    )


def test_a_figures_title_is_a_statement_that_its_result_supports() -> None:
    said = {"margins are smaller": True, "probes converge": False}
    assert report.titled(Figure(), "margins are smaller", said).get_suptitle() == "Margins are smaller"
    with_legend = Figure()
    with_legend.legend(handles=with_legend.subplots().plot([0, 1]), labels=["a"], loc="outside upper center")
    report.titled(with_legend, "margins are smaller", said)
    assert with_legend.legends[0].get_title().get_text() == "Margins are smaller"  # above the legend, not upon it
    assert not report.titled(Figure(), "probes converge", {}).get_suptitle()  # a rerun says what it draws, not more
    with pytest.raises(ValueError, match="statement: expected 'probes converge'"):
        report.titled(Figure(), "probes converge", said)
    with pytest.raises(ValueError, match="did you mean 'margins are smaller'"):
        report.titled(Figure(), "margins are small", said)


def test_a_long_title_has_lines_of_like_length() -> None:
    statement = "both objectives still gain at the last step, and SimCLR is ahead with every batch size"
    lines = report.titled(Figure(), statement, {statement: True}).get_suptitle().split("\n")
    assert len(lines) == 2 and abs(len(lines[0]) - len(lines[1])) < 15
