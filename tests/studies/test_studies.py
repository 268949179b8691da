"""Every study keeps the same house rules: parameters with presets, a short notebook cell, labels, steps."""

import importlib
import re

import jupytext
import numpy as np
import pytest
import xarray as xr

from sslnb import studies
from sslnb.core.claims import Kind
from sslnb.core.result import Result
from sslnb.studies.presets import PROFILES
from sslnb.studies.study import RECORDED, pretraining

CLAIMING = [name for name in studies.NAMES if studies.get(name).claims]
DECIDED = [name for name in CLAIMING if (RECORDED / f"{name}.json").is_file()]  # a new study has nothing recorded yet
NOTEBOOKS = RECORDED.parents[1] / "notebooks"
SHOWN = 20  # parameters in a notebook's cell, at most: the dozen that people change, and where things are


@pytest.mark.parametrize("name", studies.ALL)
def test_a_notebooks_first_cell_lists_parameters_of_its_study_with_a_comment_each(name: str) -> None:
    text = (NOTEBOOKS / f"{name}.md").read_text()
    cell = text.split(":tags: [parameters]")[1].split("```")[0].strip().splitlines()
    listed = {line.partition(" = ")[0]: line.partition("#")[2].strip() for line in cell}
    assert set(listed) <= set(studies.parameters(name).as_dict()) | {"result_path"} and all(listed.values())
    assert len(listed) <= SHOWN


@pytest.mark.parametrize("name", studies.ALL)
def test_a_notebooks_own_names_are_none_of_its_parameters(name: str) -> None:
    """Else its first cell, run again after the others, would take them for values that somebody asks for."""
    cells = jupytext.read(NOTEBOOKS / f"{name}.md").cells
    own = [
        cell.source for cell in cells if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
    ]
    assigned = set(re.findall(r"^(\w+)(?:, *\w+)* = ", "\n".join(own), re.MULTILINE))
    assert assigned and not assigned & set(studies.parameters(name).as_dict())


@pytest.mark.parametrize("name", studies.ALL)
def test_a_study_has_the_title_of_its_page(name: str) -> None:
    heading = re.search(r"^# (.*)$", (NOTEBOOKS / f"{name}.md").read_text(), re.MULTILINE)
    assert studies.get(name).title == heading[1]


@pytest.mark.parametrize("name", studies.ALL)
def test_headlines_are_recorded_and_what_they_spare_are_parameters(name: str) -> None:
    study = studies.get(name)
    assert set(study.headlines) <= {step.__name__ for step in study.steps}
    assert study.parameters.of("small", **study.spared)  # which refuses others
    if study.headlines:
        recorded = Result.load(RECORDED / name).data
        assert all(variable in recorded[step] for step, known in study.headlines.items() for variable in known)


@pytest.mark.parametrize("name", studies.ALL)
def test_labels_of_a_notebook_are_where_its_editions_can_tell_them_apart(name: str) -> None:
    """A book holds every notebook twice: the runner renames labels that stand on a line of their own."""
    lines = (NOTEBOOKS / f"{name}.md").read_text().splitlines()
    labelled = [line for line in lines if re.search(r"\$\$ *\([\w-]+\)$", line)]
    assert all(re.fullmatch(r"\$\$ \([\w-]+\)", line) for line in labelled)


@pytest.mark.parametrize("name", studies.ALL)
@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_complete_and_says_what_it_costs(name: str, profile: str) -> None:
    kind = studies.get(name).parameters
    assert kind.of(profile).profile == profile
    preset = kind.PRESETS["small" if profile == "published" else profile]
    assert preset.minutes > 0 and preset.hardware and preset.reaches


@pytest.mark.parametrize("name", studies.ALL)
def test_a_study_begins_with_its_encoders_and_its_claims_are_its_papers(name: str) -> None:
    study = studies.get(name)
    assert study.name == name and study.title and pretraining not in study.steps[1:]
    assert all(step.__doc__ for step in study.steps)
    assert bool(study.paper) == bool(study.claims)
    for key, claim in study.claims.items():
        assert claim.id == key and claim.statement.endswith(".") and claim.effect and np.isfinite(claim.sei)


@pytest.mark.parametrize("name", CLAIMING)
def test_where_a_claim_is_decided_has_the_same_answer_in_every_study(name: str, monkeypatch) -> None:
    """In COMPARISONS of its claims.py, which is all that its verdicts come from."""
    claims = importlib.import_module(f"sslnb.studies.{name}.claims")
    assert claims.COMPARISONS.keys() == claims.CLAIMS.keys() == studies.get(name).claims.keys()
    decided = []
    monkeypatch.setattr(claims, "verdicts_of", lambda *given, **_: decided.append(given[1].keys()))
    claims.verdicts(Result.load(RECORDED / name).data if name in DECIDED else {})
    assert decided == [claims.COMPARISONS.keys()]


WITHOUT_ACCURACY = {"R9"}  # what a step costs, which asks for no encoder that has learned


@pytest.mark.parametrize("name", DECIDED)
@pytest.mark.parametrize("which", ["every encoder", "supervised", "simclr"])
def test_an_encoder_that_has_not_learned_decides_no_claim(name: str, which: str) -> None:
    def gated(data: xr.Dataset) -> xr.Dataset:
        if "learned" not in data.coords:
            return data
        kept = [not (which == "every encoder" or str(o).startswith(which)) for o in data.objective.values]
        return data.assign_coords(learned=data.learned & xr.DataArray(kept, dims="objective"))

    study, recorded = studies.get(name), Result.load(RECORDED / name)
    before = {v.claim: v for v in study.decide(recorded.data)}
    after = {v.claim: v for v in study.decide({step: gated(data) for step, data in recorded.data.items()})}
    if which == "every encoder":
        assert {v.kind for v in after.values() if v.claim not in WITHOUT_ACCURACY} == {Kind.NOT_TESTED}
    needed = {"supervised": NEED_SUPERVISED, "simclr": NEED_SIMCLR}.get(which, set()) & set(before)
    assert {claim for claim in needed if after[claim].kind is not Kind.NOT_TESTED} == set()


# Comparisons with supervised training, and those of which SimCLR is a side by itself.
NEED_SUPERVISED = {"S1", "S2", "S3", "S5", "Q10", "C2", "C3", "C4", "C5", "C6", "C7", "G1", "G2", "G3", "R6"}
NEED_SIMCLR = {"Q7", "Q8", "Q11", "C2", "C3", "C4", "C5", "C6", "C7", "G1", "G2", "G3", "R3", "R5", "R6", "R7"}


@pytest.mark.parametrize("name", DECIDED)
def test_a_claim_names_the_sets_that_its_parts_are_of(name: str) -> None:
    study, result = studies.get(name), studies.get(name).start(studies.parameters(name, profile="published")).result
    asked = study.parameters.model_construct(**result.facts["parameters"])
    known = {images for claim in study.claims for images in asked.images_of(claim)}
    assert known
    for verdict in result.facts["verdicts"]:
        parts = {word for part in verdict["parts"] for word in part["name"].split(", ")} & known
        assert not parts or parts == set(asked.images_of(verdict["claim"])), verdict["claim"]


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("separability", {"S1": ("a", "b"), "S5": ("a",)}),
        ("qscore", {"Q1": ("a", "b"), "Q7": ("a",), "Q8": ("a",), "Q9": ("m",), "Q11": ("t",)}),
        ("simclr_rotnet", {"R1": ("a",), "R6": ("a", "t"), "R7": ("t",)}),
        ("contrastive_geometry", {"G1": ("t",)}),
    ],
)
def test_claims_that_are_not_about_all_sets_name_theirs(name: str, claims: dict) -> None:
    given = {"datasets": ("a", "b"), "dataset": "a", "masked": ("m",), "targets": ("a", "t"), "target": "t"}
    fields = studies.get(name).parameters.model_fields
    asked = studies.get(name).parameters.model_construct(**{key: given[key] for key in given.keys() & fields.keys()})
    assert {claim: asked.images_of(claim) for claim in claims} == claims


@pytest.mark.parametrize("name", DECIDED)
def test_the_present_code_decides_what_is_recorded_as_it_was(name: str) -> None:
    recorded = Result.load(RECORDED / name)
    again = {verdict.claim: verdict for verdict in studies.get(name).decide(recorded.data)}
    assert again.keys() == {verdict["claim"] for verdict in recorded.facts["verdicts"]}
    for verdict in recorded.facts["verdicts"]:
        found = again[verdict["claim"]]
        assert str(found.kind) == verdict["kind"], verdict["claim"]
        if verdict["estimate"] is not None:
            assert found.estimate == pytest.approx(verdict["estimate"], nan_ok=True), verdict["claim"]


def test_claims_of_all_studies_have_different_names() -> None:
    ids = [claim for name in studies.NAMES for claim in studies.get(name).claims]
    assert len(set(ids)) == len(ids) > 0


def test_an_unknown_study_names_the_nearest() -> None:
    assert studies.get("separability").name == "separability"
    with pytest.raises(ValueError, match=r"study: expected one of .*got 'separabilty'; did you mean 'separability'"):
        studies.get("separabilty")
