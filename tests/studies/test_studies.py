import dataclasses
import re
from typing import ClassVar

import numpy as np
import pytest
import torch

from sslnb import studies
from sslnb.core.flat import Result
from sslnb.studies import base
from sslnb.studies.base import PROFILES, BaseParameters, BaseStudy, step

# Parameters


@dataclasses.dataclass(frozen=True)
class Toy(BaseParameters):
    """One field of every kind that a study may have."""

    count: int
    rate: float
    name: str
    fast: bool
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    names: tuple[str, ...]
    limit: int | None

    PRESETS: ClassVar[dict[str, dict]] = {
        profile: {
            "count": 3,
            "rate": 0.5,
            "name": "a",
            "fast": True,
            "seeds": (0, 1),
            "rates": (0.1,),
            "names": ("x", "y"),
            "limit": None,
        }
        for profile in PROFILES
    }


def test_a_preset_is_taken_and_single_fields_overridden():
    assert Toy.of().as_dict() == {"profile": "quick", **Toy.PRESETS["quick"]}
    changed = Toy.of("small", count=7, name="b")
    assert (changed.profile, changed.count, changed.name, changed.rate) == ("small", 7, "b", 0.5)
    assert Toy.of(count=7).count == 7 and Toy.of().count == 3  # the preset is not changed


def test_none_keeps_the_presets_value():
    assert Toy.of(count=None, seeds=None, limit=None) == Toy.of()
    assert Toy.of(limit=5).limit == 5


@pytest.mark.parametrize(
    ("field", "given", "expected"),
    [
        ("seeds", "0,1,2", (0, 1, 2)),
        ("seeds", " 3 , 4 ", (3, 4)),
        ("seeds", [5, 6], (5, 6)),
        ("seeds", (7,), (7,)),
        ("seeds", 8, (8,)),
        ("seeds", "9", (9,)),
        ("rates", "1,0.5", (1.0, 0.5)),
        ("rates", [1, 2], (1.0, 2.0)),
        ("rates", "1e-3", (0.001,)),
        ("names", "a,b", ("a", "b")),
        ("names", "1,2", ("1", "2")),
        ("names", ["a", "b:c=1,d=2"], ("a", "b:c=1,d=2")),
        ("names", "a;b:c=1,d=2", ("a", "b:c=1,d=2")),
        ("rate", 2, 2.0),
        ("limit", 4, 4),
        ("fast", False, False),
    ],
)
def test_lists_comma_lists_and_wider_numbers_become_the_fields_type(field, given, expected):
    found = getattr(Toy.of(**{field: given}), field)
    assert found == expected and type(found) is type(expected)
    if isinstance(found, tuple):
        assert [type(v) for v in found] == [type(v) for v in expected]


@pytest.mark.parametrize(
    ("field", "given", "message"),
    [
        ("count", "3", "count: expected a value of type int, got '3' of type str"),
        ("count", 3.0, "count: expected a value of type int"),
        ("count", True, "count: expected a value of type int"),
        ("rate", "0.1", "rate: expected a value of type float"),
        ("rate", True, "rate: expected a value of type float"),
        ("name", 3, "name: expected a value of type str"),
        ("fast", 1, "fast: expected a value of type bool"),
        ("fast", "true", "fast: expected a value of type bool"),
        ("seeds", "0,x", "seeds: expected a value of type int, got 'x'"),
        ("seeds", [0, 1.5], "seeds: expected a value of type int"),
        ("seeds", "", "seeds: expected values of type int"),
        ("seeds", "1,,2", "seeds: expected values of type int"),
        ("seeds", [], "seeds: expected values of type int"),
        ("seeds", {"a": 1}, "seeds: expected a value of type int"),
        ("names", [1, 2], "names: expected a value of type str"),
        ("limit", "all", "limit: expected a value of type int"),
    ],
)
def test_a_value_of_the_wrong_type_names_the_field_and_its_type(field, given, message):
    with pytest.raises(ValueError, match=message):
        Toy.of(**{field: given})


def test_unknown_names_and_profiles_name_the_nearest():
    with pytest.raises(ValueError, match=r"parameter: expected one of .*got 'cuont'; did you mean 'count'"):
        Toy.of(cuont=3)
    with pytest.raises(ValueError, match=r"profile: expected one of .*got 'quik'; did you mean 'quick'"):
        Toy.of("quik")
    with pytest.raises(ValueError, match=r"parameter: expected one of .*got 'zzz'$"):
        Toy.of(zzz=1)


@pytest.mark.parametrize("name", [*studies.NAMES, *studies.BESIDES])
def test_a_notebooks_first_cell_lists_parameters_of_its_study_with_a_comment_each(name):
    text = (base.RECORDED.parents[1] / "notebooks" / f"{name}.md").read_text()
    cell = text.split(":tags: [parameters]")[1].split("```")[0].strip().splitlines()
    listed = {line.partition(" = ")[0]: line.partition("#")[2].strip() for line in cell}
    assert set(listed) <= set(studies.parameters(name).as_dict()) | {"result_path"} and all(listed.values())


@pytest.mark.parametrize("name", [*studies.NAMES, *studies.BESIDES])
def test_labels_of_a_notebook_are_where_its_editions_can_tell_them_apart(name):
    """A book holds every notebook twice: the runner renames labels that stand on a line of their own."""
    lines = (base.RECORDED.parents[1] / "notebooks" / f"{name}.md").read_text().splitlines()
    labelled = [line for line in lines if re.search(r"\$\$ *\([\w-]+\)$", line)]
    assert all(re.fullmatch(r"\$\$ \([\w-]+\)", line) for line in labelled)


def test_a_notebooks_globals_become_parameters_and_a_stray_plain_value_is_refused():
    import math as module

    ordinary = {"math": module, "torch": torch, "Toy": Toy, "f": len, "_": 3, "_i1": "x", "In": ["a"], "Out": {}}
    found = Toy.from_notebook({**ordinary, "profile": "small", "count": 4, "seeds": "1,2", "limit": None})
    assert found == Toy.of("small", count=4, seeds=(1, 2))
    for stray in ("wdith", "cuont"):
        with pytest.raises(ValueError, match=f"parameter: expected one of .*got '{stray}'"):
            Toy.from_notebook({**ordinary, "profile": "small", stray: 4})
    with pytest.raises(ValueError, match="did you mean 'count'"):
        Toy.from_notebook({"cuont": None})  # papermill's way to say null


def test_an_unknown_study_names_the_nearest():
    assert studies.get("separability").STUDY.name == "separability"
    with pytest.raises(ValueError, match=r"study: expected one of .*got 'separabilty'; did you mean 'separability'"):
        studies.get("separabilty")


# Steps


class Counted(BaseStudy):
    name = "counted"

    def __init__(self, parameters: BaseParameters) -> None:
        super().__init__(parameters)
        self.calls: list[str] = []

    @step
    def first(self) -> Result:
        """The first."""
        self.calls.append("first")

    @step
    def second(self) -> Result:
        self.calls.append("second")
        if self.parameters.count == 13 and self.calls.count("second") == 1:
            raise RuntimeError("interrupted")

    @step
    def third(self) -> Result:
        self.calls.append("third")

    def helper(self) -> None:
        """Not a step."""


def test_steps_are_listed_in_their_order():
    assert Counted.steps() == ["first", "second", "third"]
    assert Counted.first.__doc__ == "The first." and Counted.first.__name__ == "first"


def test_asking_for_a_late_step_runs_the_earlier_ones_and_none_twice():
    study = Counted(Toy.of())
    assert study.second() is study.result and study.calls == ["first", "second"]
    study.first()
    study.second()
    assert study.calls == ["first", "second"]
    study.run()
    study.run()
    study.third()
    assert study.calls == ["first", "second", "third"]
    assert list(study.result.provenance["seconds"]) == ["first", "second", "third"]
    assert study.result.parameters == Toy.of().as_dict() and study.result.study == "counted"


def test_an_interrupted_step_runs_again_and_the_ones_before_it_do_not():
    study = Counted(Toy.of(count=13))
    with pytest.raises(RuntimeError, match="interrupted"):
        study.run()
    assert "second" not in study.result.provenance["seconds"]
    study.run()
    assert study.calls == ["first", "second", "second", "third"]


def test_the_published_profile_loads_what_is_recorded_and_computes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "RECORDED", tmp_path)
    Result("counted", {"count": 5}, {"score": 1}, {"x": np.arange(3)}).save(tmp_path / "counted")
    study = Counted(Toy.of("published"))
    found = study.run()
    assert study.third() is found and study.calls == []
    assert (
        found.scalars == {"score": 1} and found.parameters == {"count": 5} and found.arrays["x"].tolist() == [0, 1, 2]
    )
    (tmp_path / "counted.json").unlink()
    with pytest.raises(ValueError, match="path: expected a saved Result"):
        Counted(Toy.of("published"))
