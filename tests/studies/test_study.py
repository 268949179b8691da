"""What all studies share: pydantic parameters, contexts that cut to what there is, runs that compute once or load."""

import typing

import numpy as np
import pytest
import xarray as xr
from pydantic import field_validator

from sslnb import studies
from sslnb.core.claims import Claim, decide
from sslnb.core.result import Result
from sslnb.studies import study as module
from sslnb.studies.presets import Count, Names, Parameters, Preset, distinct
from sslnb.studies.study import Context, Study


class Toy(Parameters):
    count: Count = 3
    rate: float = 0.5
    sets: Names = ("a", "b")
    limit: Count | None = 10

    PRESETS: typing.ClassVar = {
        "quick": Preset(1, "two cores", "something", {}),
        "small": Preset(60, "two cores", "more", {"count": 30, "limit": None}),
        "paper": Preset(600, "a GPU", "all", {"count": 300}),
    }
    _distinct = field_validator("sets")(distinct)


def test_presets_change_defaults_and_users_change_both() -> None:
    assert Toy.of().as_dict()["count"] == 3 and Toy.of("small").count == 30 and Toy.of("published").count == 30
    changed = Toy.of("small", count=7, limit=None, encoder="resnet18")
    assert (changed.count, changed.limit, changed.encoder, changed.profile) == (7, None, "resnet18", "small")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("x,y", ("x", "y")), (" x ; y:k=1,l=2 ", ("x", "y:k=1,l=2")), (["x"], ("x",)), ("x", ("x",)), ("x,y;", ("x,y",))],
)
def test_lists_come_as_lists_or_as_text(value, expected) -> None:
    assert Toy.of(sets=value).sets == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cuont": 1}, "parameter: expected one of .*did you mean 'count'"),
        ({"objectives": "simcr"}, "^objectives: expected one of .*did you mean 'simclr'"),
        ({"sets": "folder:/no/such"}, "^sets: expected folder: and a path that exists, got folder:/no/such$"),
        ({"sets": "npz:no.npz"}, "^sets: expected npz: and a path that exists, got npz:no.npz$"),
        ({"sets": "a,hf:/no/such?label=x"}, r"^sets: expected hf: and a path that exists, got hf:/no/such\?label=x$"),
        (
            {"encoder": "checkpoint:my.pt"},
            "^encoder: expected checkpoint: and a path that exists, got checkpoint:my.pt$",
        ),
        ({"count": 0}, "^count: expected at least 1, got 0$"),
        ({"count": "three"}, "^count: expected a valid integer, got 'three'$"),
        ({"rate": [1]}, r"^rate: expected a valid number, got \[1\]$"),
        ({"sets": "a,a"}, "^sets: expected distinct values, got"),
        ({"sets": "a,,b"}, "sets: expected"),
        ({"pool": "smal"}, "^pool: expected one of .*got 'smal'; did you mean 'small'"),
        ({"profile": "quik"}, "profile: expected one of .*did you mean 'quick'"),
        ({"profile": "published", "count": 3}, r"no other parameter with 'published', got \['count'\]"),
    ],
)
def test_what_can_not_be_is_refused_in_one_line(changes, message) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Toy.of(**changes)
    assert "\n" not in str(error.value)


def test_a_notebooks_own_globals_are_no_parameters_but_injected_names_are() -> None:
    own = {"count": 5, "my_table": [1, 2], "In": ["count = None"], "rate": None}
    assert Toy.from_notebook(own).count == 5
    listed = own | {"In": ["profile = None\ncount = None", "%matplotlib inline", "rate = 'a tide table'"], "rate": "x"}
    assert Toy.from_notebook(listed).rate == 0.5  # which the cell of parameters does not list
    injected = own | {"cuont": 4, "In": ["count = None", '# Parameters\ncuont = 4\nresult_path = "x"\n']}
    with pytest.raises(ValueError, match="got 'cuont'; did you mean 'count'"):
        Toy.from_notebook(injected)


@pytest.mark.parametrize("name", studies.NAMES)
def test_every_list_can_be_given_on_the_command_line(name: str) -> None:
    given = studies.get(name).parameters.of("small")
    lists = {field: value for field, value in given if isinstance(value, tuple)}
    asked = {field: ",".join(map(str, value)) for field, value in lists.items() if value}
    assert {field: getattr(given.of("small", **asked), field) for field in asked} == {f: lists[f] for f in asked}


def first(context: Context) -> xr.Dataset:
    """The first step."""
    context.memory["calls"] = [*context.memory.get("calls", []), "first"]
    return xr.Dataset({"score": ("seed", [1.0, 1.1, 1.2])}, {"seed": [0, 1, 2]})


def second(context: Context) -> xr.Dataset:
    context.memory["calls"].append("second")
    if context.parameters.count == 13 and context.memory["calls"].count("second") == 1:
        raise RuntimeError("interrupted")
    return 2 * context.data["first"]


CLAIM = Claim("T1", "It is so.", "section 1", "score", sei=0.5)
TOY = Study(
    "toy", "A toy", "nobody", Toy, (first, second), {"T1": CLAIM}, lambda data: [decide(CLAIM, data["second"].score)]
)


def test_steps_run_once_and_in_their_order() -> None:
    run = TOY.start(Toy.of())
    assert run.step("first").score.sum() == pytest.approx(3.3) and run.context.memory["calls"] == ["first"]
    run.step("second")
    result = run.all()
    assert run.context.memory["calls"] == ["first", "second"]
    assert list(result.facts["provenance"]["seconds"]) == ["first", "second"]
    assert result.facts["verdicts"][0]["kind"] == "replicated"
    with pytest.raises(ValueError, match=r"step: expected one of .*did you mean 'second'"):
        run.step("secnd")


def test_an_interrupted_step_runs_again_alone() -> None:
    run = TOY.start(Toy.of(count=13))
    with pytest.raises(RuntimeError, match="interrupted"):
        run.all()
    run.all()
    assert run.context.memory["calls"] == ["first", "second", "second"]


def test_the_published_profile_loads_what_is_recorded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "RECORDED", tmp_path)
    TOY.start(Toy.of()).all().save(tmp_path / "toy")
    run = TOY.start(Toy.of("published"))
    assert run.context is None and run.step("second").score.values.tolist() == [2.0, 2.2, 2.4]
    assert run.claims().facts["verdicts"][0]["claim"] == "T1"
    older = Result.load(tmp_path / "toy")
    del older.data["second"]
    older.save(tmp_path / "toy")
    run = TOY.start(Toy.of("published"))  # recorded before there was a second step
    assert not run.step("second") and run.step("first").score.sum() > 3 and "second" not in run.result.data
    assert run.claims().facts["verdicts"][0]["claim"] == "T1"
    (tmp_path / "toy.json").unlink()
    with pytest.raises(ValueError, match="path: expected a saved Result"):
        TOY.start(Toy.of("published"))


def test_what_a_preset_asks_is_cut_to_what_there_is_and_said(tmp_path) -> None:
    context = Context(Toy.of())
    assert len(context.images("digit-scenes", "val", 10_000_000)) == len(context.images("digit-scenes", "val"))
    (note,) = context.notes
    assert note.startswith("digit-scenes, val: ") and note.endswith("where 10,000,000 were asked for")
    assert set(context.checksums) == {"digit-scenes, val"}
    asked = Context(Toy.of(limit=10_000_000))
    assert len(asked.images("digit-scenes", "val", asked.parameters.limit)) < 10_000_000 and len(asked.notes) == 1
    with pytest.raises(ValueError, match=r"^limit: expected at most 5, as many as there are, got 10000000$"):
        asked.at_most("limit", 5)
    assert asked.at_most("limit", 10_000_000) == 10_000_000 and Context(Toy.of("small")).at_most("limit", 5) is None


def test_results_survive_their_files_with_names_and_gaps(tmp_path) -> None:
    values = np.array([[1.0, np.nan], [np.inf, 2.0]])
    data = {
        "a": xr.Dataset({"x": (("objective", "seed"), values)}, {"objective": ["simclr", "byol"], "seed": [0, 5]}),
        "b": xr.Dataset(
            {"flag": ("n", [True, False]), "half": ("n", np.float16([0.5, np.nan]))}, attrs={"primary": "l2"}
        ),
    }
    facts = {"tuple": (1, 2), "number": np.float32(0.5), "missing": float("nan")}
    path = Result("toy", data, facts).save(tmp_path / "toy.v1")
    again = Result.load(path)
    assert again.data["a"].identical(data["a"]) and again.data["b"].identical(data["b"])
    assert again.facts == {"tuple": [1, 2], "number": 0.5, "missing": None} and again.study == "toy"
    assert float(again.data["a"].x.sel(objective="byol", seed=5)) == 2.0


def test_long_columns_of_texts_take_no_room_and_survive_twice(tmp_path) -> None:
    texts = np.array(["cifar10", "größer", ""] * 5000)
    path = Result("toy", {"a": xr.Dataset({"name": ("sample", texts)})}).save(tmp_path / "first")
    for _ in range(2):
        again = Result.load(path)
        assert again.data["a"].name.values.tolist() == texts.tolist()
        path = again.save(tmp_path / "again")
        assert path.with_suffix(".nc").stat().st_size < 20_000  # 15,000 texts


def test_damaged_mismatched_and_unwritable_results_are_refused(tmp_path) -> None:
    data = {"a": xr.Dataset({"x": ("n", [1.0])})}
    Result("toy", data).save(tmp_path / "one")
    Result("toy", {"a": data["a"] + 1}).save(tmp_path / "two")
    (tmp_path / "two.nc").replace(tmp_path / "one.nc")
    with pytest.raises(ValueError, match=r"expected the data that one\.json is of"):
        Result.load(tmp_path / "one")
    (tmp_path / "one.json").write_text("{")
    with pytest.raises(ValueError, match="path: expected a whole Result"):
        Result.load(tmp_path / "one")
    with pytest.raises(TypeError, match="facts: expected JSON-able values, got set"):
        Result("toy", data, {"a": {1}}).save(tmp_path / "three")
    assert not list(tmp_path.glob("three*"))


def test_one_word_for_the_images_in_every_study_also_beside_a_notebooks_own() -> None:
    class Several(Toy):
        IMAGES = "sets"

    assert Several.of(dataset="x,y").sets == ("x", "y") == Several.of(dataset="x,y", sets=None).sets
    injected = {"sets": None, "dataset": "x", "In": ["sets = None", '# Parameters\ndataset = "x"\n']}
    assert Several.from_notebook(injected).sets == ("x",) and Several.of(sets="a", dataset=None).sets == ("a",)
    assert Several.of(dataset="x", sets="x").sets == ("x",)
    with pytest.raises(ValueError, match=r"^dataset: expected either this or sets, got both$"):
        Several.of(dataset="x", sets="y")
