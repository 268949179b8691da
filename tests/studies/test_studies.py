import dataclasses
import json
import math
import re
from typing import ClassVar

import numpy as np
import pytest
import torch

from sslnb import studies
from sslnb.core.claims import NOT_REPLICATED, NOT_TESTED, REPLICATED, UNDECIDED
from sslnb.core.result import Result
from sslnb.encoders.load import save_encoder
from sslnb.encoders.resnet import resnet
from sslnb.features.linear import LinearProbeGrid
from sslnb.metrics.margins import accuracy_at, effective_accuracy
from sslnb.objectives.registry import OBJECTIVES
from sslnb.studies import study as base
from sslnb.studies.separability import steps
from sslnb.studies.separability.claims import CLAIMS, decide_all
from sslnb.studies.separability.parameters import Parameters
from sslnb.studies.separability.steps import BUDGETS, NORMS, Study, run
from sslnb.studies.study import PROFILES, BaseParameters, BaseStudy, step

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
def test_a_notebooks_first_cell_lists_every_parameter_of_its_study_with_a_comment(name):
    text = (base.RECORDED.parents[1] / "notebooks" / f"{name}.md").read_text()
    cell = text.split(":tags: [parameters]")[1].split("```")[0].strip().splitlines()
    listed = {line.partition(" = ")[0]: line.partition("#")[2].strip() for line in cell}
    fields = {field.name for field in dataclasses.fields(studies.get(name).Parameters)}
    assert set(listed) == fields | {"result_path"} and all(listed.values())


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
    assert studies.get("separability").Study is Study
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


# The separability study


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_of_the_separability_study_is_complete(profile):
    parameters = Parameters.of(profile)
    assert parameters.profile == profile and parameters.seeds and parameters.objectives
    assert json.dumps(parameters.as_dict())
    for objective in set(parameters.objectives) - {"random"}:
        config = parameters.config(objective, 3)
        epochs = parameters.supervised_epochs if objective == "supervised" else parameters.epochs
        assert (config.seed, config.width, config.epochs) == (3, parameters.width, epochs)
        assert config.options.get("temperature") == (parameters.temperature if objective == "simclr" else None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": "simclr,byoll"}, "objectives: expected names out of .*'random'.*got 'byoll'"),
        ({"objectives": "simclr,simclr"}, "objectives: expected distinct values"),
        ({"seeds": "0,0"}, "seeds: expected distinct values"),
        ({"datasets": ["digit-scenes", "digit-scenes"]}, "datasets: expected distinct values"),
        ({"temprature": 0.1}, "did you mean 'temperature'"),
    ],
)
def test_the_separability_study_refuses_what_it_can_not_run(changes, message):
    with pytest.raises(ValueError, match=message):
        Parameters.of(**changes)


EASY = "digit-scenes:backgrounds=10,background_bias=0.8"  # the background gives the class away, so that probes converge
TINY = {
    "dataset": EASY,
    "datasets": [EASY],
    "objectives": "supervised,simclr,random",
    "seeds": "0,1",
    "width": 4,
    "epochs": 1,
    "supervised_epochs": 1,
    "batch_size": 100,
    "limit": 300,
    "probe_limit": 300,
    "test_limit": 120,
    "probe_epochs": 5,
    "attack_limit": 40,
    "attack_steps": 3,
}


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Its own cache and no data of the user's."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSLNB_CACHE", str(folder / "cache"))
        patch.setenv("SSLNB_DATA", str(folder / "data"))
        yield folder


@pytest.fixture(scope="module")
def tiny(caches) -> Result:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_encoder(resnet(18, width=4), caches / "mine.pt")
    return run(Parameters.of(**TINY, encoder=f"checkpoint:{caches / 'mine.pt'}"))


def test_a_whole_study_fills_every_array_where_its_probe_converged(tiny):
    arrays, scalars = tiny.arrays, tiny.scalars
    assert scalars["methods"] == ["supervised", "simclr", "random", "encoder"]
    assert scalars["self_supervised"] == ["simclr"] and scalars["test_images"] == [120] and scalars["classes"] == [10]
    cells = (4, 2, 1, 2)
    shapes = {
        "loss": (4, 2, 1),
        "accuracy": cells,
        "converged": cells,
        "rate": cells,
        "decay": cells,
        "knn": cells[:3],
        "grid": (*cells, 7, 4),
        "mean_margin": (*cells, 3),
        "largest_margin": (*cells, 3),
        f"margins/{EASY}": (4, 2, 3, 120),
        f"labels/{EASY}": (120,),
        "curves": (*cells, 2, 501),
        "effective": (*cells, 2),
        "norm_auc": (*cells, 2),
        "pgd": (4, 2, 2, 9),
        "exact_at_dots": (4, 2, 2, 9),
        "mlp_accuracy": (4, 2),
        "mlp_pgd": (4, 2, 2, 9),
    }
    for name, shape in shapes.items():
        assert arrays[name].shape == shape, name
    good = arrays["converged"]
    assert good.any()
    for name in ("mean_margin", "largest_margin", "curves", "effective", "norm_auc"):
        finite = np.isfinite(arrays[name]).reshape(*cells, -1)
        assert finite[good].all() and not finite[~good].any(), name
    for name in ("pgd", "exact_at_dots"):
        assert (np.isfinite(arrays[name]).all((2, 3)) == good[:, :, 0, 0]).all(), name
    for name in ("accuracy", "knn", "rate", "decay"):
        assert np.isfinite(arrays[name]).all(), name
    assert np.isfinite(arrays["loss"][:2]).all() and np.isnan(arrays["loss"][2:]).all()
    measured = np.isfinite(arrays["mlp_accuracy"])
    assert (np.isfinite(arrays["mlp_pgd"]).all((2, 3)) == measured).all()


def test_what_a_study_recorded_fits_together(tiny):
    arrays = tiny.arrays
    for at in map(tuple, np.argwhere(arrays["converged"])):
        assert arrays["curves"][*at, :, 0] == pytest.approx([arrays["accuracy"][at]] * 2)  # at budget 0, all images
    converged = np.argwhere(arrays["converged"][:, :, 0, 0])
    assert len(converged) >= 4
    for m, s in converged:
        margin = arrays[f"margins/{EASY}"][m, s].astype(np.float64)
        accuracy = arrays["accuracy"][m, s, 0, 0]
        assert np.isfinite(margin).mean(1) == pytest.approx([accuracy] * 3)
        assert np.nanmean(margin, 1) == pytest.approx(arrays["mean_margin"][m, s, 0, 0], rel=1e-2)
        assert (np.diff(arrays["curves"][m, s, 0, 0]) <= 0).all()
        for i, norm in enumerate(("l2", "linf")):
            area = np.minimum(margin[list(NORMS).index(norm)], BUDGETS[norm])
            expected = np.nansum(area) / 120 / BUDGETS[norm] / accuracy
            assert arrays["norm_auc"][m, s, 0, 0, i] == pytest.approx(expected, abs=5e-3)
            assert arrays["effective"][m, s, 0, 0, i] == pytest.approx(accuracy * expected, abs=5e-3)
        assert (arrays["pgd"][m, s] >= arrays["exact_at_dots"][m, s] - 1e-6).all()
        assert arrays["pgd"][m, s, :, 0] == pytest.approx(arrays["exact_at_dots"][m, s, :, 0])


def test_what_rests_on_a_probe_that_did_not_converge_is_nan(caches, monkeypatch):
    class Failing(LinearProbeGrid):
        def fit(self, *splits):
            return dataclasses.replace(super().fit(*splits), converged=self.seed == 0)

    monkeypatch.setattr(steps, "LinearProbeGrid", Failing)
    study = Study(Parameters.of(**{**TINY, "objectives": "random", "probe_epochs": 1, "probe_limit": 100}))
    study.robustness()
    monkeypatch.setattr(Study, "multilayer", lambda self: None)
    arrays = study.effective().arrays
    assert arrays["converged"][0, :, 0].tolist() == [[True, True], [False, False]]
    for name in ("mean_margin", "largest_margin", "curves", "pgd", "effective", "norm_auc", f"margins/{EASY}"):
        lost = np.isnan(arrays[name][0])
        assert lost[1].all(), name
        assert not lost[0].all(), name
    assert np.isfinite(arrays["accuracy"]).all()  # what it did reach is still reported


def test_a_given_encoder_is_the_same_for_every_seed_and_random_ones_differ(tiny):
    knn = dict(zip(tiny.scalars["methods"], tiny.arrays["knn"], strict=True))
    assert knn["encoder"][0] == knn["encoder"][1]
    margin = tiny.arrays["grid"][2, :, 0, 0]
    assert not np.array_equal(margin[0], margin[1])


def test_a_study_says_what_it_did_and_survives_a_file(tiny, tmp_path):
    assert list(tiny.provenance["seconds"]) == Study.steps()
    assert set(tiny.provenance["data"]) == {EASY, f"{EASY} (test)"}
    assert tiny.scalars["pretraining"] == {"dataset": EASY, "images": 300, "trained": 4}
    assert [claim["claim"] for claim in tiny.scalars["claims"]] == list(CLAIMS)
    assert all(part["scale"] in ("unit_norm", "unit_variance") for part in tiny.scalars["claim_parts"])
    found = Result.load(tiny.save(tmp_path / "separability"))
    for name, array in tiny.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
    assert found.parameters["width"] == 4 and found.parameters["seeds"] == [0, 1]


def test_the_same_study_again_reuses_its_encoders_and_finds_the_same(tiny, caches):
    again = Study(Parameters.of(**TINY, encoder=f"checkpoint:{caches / 'mine.pt'}")).margins()
    assert again.scalars["pretraining"]["trained"] == 0
    assert "curves" not in again.arrays
    for name, array in again.arrays.items():
        np.testing.assert_array_equal(array, tiny.arrays[name], err_msg=name)


def test_a_diverged_pretraining_stops_the_study(caches, monkeypatch):
    study = Study(Parameters.of(**{**TINY, "objectives": "simclr", "seeds": 5}))
    original = OBJECTIVES["simclr"].forward
    monkeypatch.setattr(OBJECTIVES["simclr"], "forward", lambda self, *batch: math.nan * original(self, *batch))
    with pytest.raises(ValueError, match="pretraining of simclr, seed 5: expected a finite loss"):
        study.run()


# Claims of the separability study, on results made up so that the answer is known

METHODS = ["supervised", "a", "b", "c", "random"]


def made_up(
    supervised: float,
    others: tuple[float, float, float],
    *,
    accuracy: tuple[float, ...] = (0.8, 0.8, 0.85, 0.9, 0.3),
    seeds: int = 3,
    images: int = 400,
    noise: float = 0.02,
    unconverged: tuple[tuple[int, int], ...] = (),
) -> Result:
    """A result with the given mean l2 margins (l1 twice, l∞ a tenth of them) and accuracies per method."""
    rng = np.random.default_rng(0)
    budgets = np.stack([np.linspace(0, BUDGETS[n], 501) for n in ("l2", "linf")])
    dots = np.stack([np.linspace(0, 1.0, 9), np.linspace(0, 0.1, 9)])
    cells = (len(METHODS), seeds, 1, 2)
    arrays = {"budgets": budgets, "dots": dots, "accuracy": np.zeros(cells), "converged": np.ones(cells, bool)}
    arrays |= {"mean_margin": np.full((*cells, 3), np.nan), "mlp_pgd": np.full((*cells[:2], 2, 9), np.nan)}
    arrays |= {name: np.full((*cells, 2), np.nan) for name in ("norm_auc", "effective")}
    arrays["margins/toy"] = np.full((*cells[:2], 3, images), np.nan, np.float16)
    for m, level in enumerate((supervised, *others, 0.05)):
        for s in range(seeds):
            right = np.arange(images) < round(accuracy[m] * images)
            arrays["accuracy"][m, s] = right.mean()
            if (m, s) in unconverged:
                arrays["converged"][m, s] = False
                continue
            l2 = level * (1 + noise * rng.normal()) * rng.uniform(0.8, 1.2, images)
            margin = np.where(right, np.stack([2 * l2, l2, l2 / 10]), np.nan)
            arrays["margins/toy"][m, s] = margin
            arrays["mean_margin"][m, s, 0] = np.nanmean(margin, 1)
            for i, row in enumerate((1, 2)):
                curve = accuracy_at(torch.tensor(margin[row]), torch.tensor(budgets[i]))
                found = effective_accuracy(curve, budgets[i])
                arrays["norm_auc"][m, s, 0, :, i], arrays["effective"][m, s, 0, :, i] = found.norm_auc, found.effective
                arrays["mlp_pgd"][m, s, i] = accuracy_at(torch.tensor(margin[row]), torch.tensor(dots[i]))
    scalars = {
        "methods": METHODS,
        "self_supervised": ["a", "b", "c"],
        "seeds": list(range(seeds)),
        "datasets": ["toy"],
        "norms": list(NORMS),
        "attacked": ["l2", "linf"],
        "scales": ["unit_norm", "unit_variance"],
    }
    return Result("separability", {}, scalars, arrays)


def verdicts(result: Result) -> dict[str, str]:
    decided, parts = decide_all(result)
    assert [v.claim for v in decided] == list(CLAIMS)
    assert all(part["method"] in ("a", "b", "c") for part in parts)  # never the random encoder
    return {v.claim: v.verdict for v in decided}


def test_larger_supervised_margins_replicate_the_paper():
    found = verdicts(made_up(0.6, (0.2, 0.2, 0.2)))
    assert found == dict.fromkeys(CLAIMS, REPLICATED)


def test_larger_self_supervised_margins_do_not():
    found = verdicts(made_up(0.2, (0.6, 0.6, 0.6)))
    assert {found[claim] for claim in ("S1", "S2", "S3", "S5")} == {NOT_REPLICATED}


def test_equal_margins_leave_the_claims_undecided():
    found = verdicts(made_up(0.4, (0.4, 0.4, 0.4), noise=0.1))
    assert found["S1"] == found["S3"] == found["S5"] == UNDECIDED


def test_one_method_against_the_claim_is_enough_to_refuse_it():
    decided, parts = decide_all(made_up(0.4, (0.2, 0.2, 0.8)))
    assert {v.claim: v.verdict for v in decided}["S1"] == NOT_REPLICATED
    of = {(p["method"], p["claim"]): p["verdict"] for p in parts if p["scale"] == "unit_norm"}
    assert of["a", "S1"] == REPLICATED and of["c", "S1"] == NOT_REPLICATED


def test_effects_have_the_size_that_the_claims_name():
    _, parts = decide_all(made_up(0.6, (0.3, 0.3, 0.3), noise=0.0, images=2000))
    margin = [p for p in parts if p["claim"] == "S1"]
    assert {p["of"] for p in margin} == {"toy, l1", "toy, l2", "toy, linf"}
    assert [p["effect"] for p in margin] == pytest.approx([0.5] * len(margin), abs=0.02)
    auc = [p["effect"] for p in parts if p["claim"] == "S3" and p["of"] == "toy, l2"]
    assert auc == pytest.approx([(0.6 - 0.3) / BUDGETS["l2"]] * len(auc), rel=0.05)
    assert all(p["low"] < p["effect"] < p["high"] for p in parts if p["claim"] in ("S1", "S3"))


def test_s2_counts_only_pairs_whose_self_supervised_accuracy_is_not_lower():
    worse = made_up(0.6, (0.2, 0.2, 0.2), accuracy=(0.9, 0.5, 0.6, 0.7, 0.3))
    assert verdicts(worse)["S2"] == NOT_TESTED
    one = made_up(0.6, (0.2, 0.2, 0.2), accuracy=(0.8, 0.5, 0.6, 0.8, 0.3))
    s2 = next(v for v in decide_all(one)[0] if v.claim == "S2")
    assert s2.effect == 1 and s2.verdict == UNDECIDED  # a pair per seed is too few
    assert verdicts(made_up(0.6, (0.2, 0.2, 0.2), accuracy=(0.8, 0.8, 0.8, 0.8, 0.3)))["S2"] == REPLICATED


def test_s4_asks_whether_accuracy_explains_the_margins():
    explained = made_up(0.6, (0.3, 0.4, 0.5), accuracy=(0.9, 0.6, 0.7, 0.8, 0.3), noise=0.005)
    assert verdicts(explained)["S4"] == NOT_REPLICATED
    flat = made_up(0.6, (0.3, 0.3, 0.3), accuracy=(0.9, 0.6, 0.7, 0.8, 0.3), noise=0.005)
    assert verdicts(flat)["S4"] == REPLICATED
    few = made_up(0.6, (0.3, 0.3, 0.3))
    few.scalars["self_supervised"] = ["a", "b"]
    decided = {v.claim: v for v in decide_all(few)[0]}
    assert decided["S4"].verdict == NOT_TESTED and "needs 3" in decided["S4"].note


def test_s4_has_no_slope_where_all_methods_are_equally_accurate():
    level = made_up(0.6, (0.3, 0.35, 0.4), accuracy=(0.9, 0.7, 0.7, 0.7, 0.3))
    assert verdicts(level)["S4"] == NOT_TESTED


def test_one_seed_is_not_tested_and_no_supervised_encoder_neither():
    assert set(verdicts(made_up(0.6, (0.2, 0.2, 0.2), seeds=1)).values()) == {NOT_TESTED}
    alone = made_up(0.6, (0.2, 0.2, 0.2))
    alone.scalars["methods"] = ["other", *METHODS[1:]]
    assert set(verdicts(alone).values()) == {NOT_TESTED}


def test_a_seed_whose_probe_did_not_converge_is_left_out_and_the_others_still_decide():
    unconverged = ((1, 2), (0, 3))
    found = decide_all(made_up(0.6, (0.2, 0.2, 0.2), seeds=4, unconverged=unconverged))
    assert {v.claim: v.verdict for v in found[0]} == dict.fromkeys(CLAIMS, REPLICATED)
    seeds = {p["method"]: p["seeds"] for p in found[1] if p["claim"] == "S1"}
    assert seeds == {"a": 2, "b": 3, "c": 3}
    assert all(math.isfinite(p["low"]) for p in found[1] if p["seeds"] >= 2)


def test_the_other_reading_of_the_standardization_stands_in_the_note():
    decided, parts = decide_all(made_up(0.6, (0.2, 0.2, 0.2)))
    assert all("with unit variance: replicated" in v.note for v in decided if v.claim in ("S1", "S2", "S3"))
    assert {p["scale"] for p in parts if p["claim"] == "S1"} == {"unit_norm", "unit_variance"}
    assert {p["scale"] for p in parts if p["claim"] == "S5"} == {"unit_norm"}
