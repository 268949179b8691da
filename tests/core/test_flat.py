import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sslnb import studies
from sslnb.core import flat as result
from sslnb.core.files import sha256
from sslnb.core.flat import Result
from sslnb.core.papers import reference, references
from sslnb.core.provenance import provenance, versions


def whole() -> Result:
    arrays = {
        "accuracy": np.array([[0.5, math.nan], [math.inf, -math.inf]]),
        "margins/digit-scenes:contrast=0.2": np.array([[1.5, math.nan]], np.float16),
        "labels": np.arange(300, dtype=np.int16),
        "converged": np.array([True, False]),
        "names": np.array(["simclr", "überwacht"]),
        "empty": np.zeros((0, 3), np.float32),
        "number": np.float64(0.1),
    }
    scalars = {"claims": [{"low": math.nan, "high": math.inf}], "methods": ["simclr"], "l∞": 1, "none": None}
    return Result("separability", {"seeds": (0, 1), "limit": None}, scalars, arrays, {"commit": "abc"})


def test_a_result_comes_back_as_it_was(tmp_path):
    path = whole().save(tmp_path / "deep" / "separability")
    found, expected = Result.load(path), whole()
    assert found.study == "separability" and found.provenance == {"commit": "abc"}
    assert found.parameters == {"seeds": [0, 1], "limit": None}
    assert str(found.scalars) == str(expected.scalars)  # NaN and infinity included
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert found.arrays[name].dtype == np.asarray(array).dtype
        np.testing.assert_array_equal(found.arrays[name], array)
    assert sorted(p.name for p in path.parent.iterdir()) == ["separability.json", "separability.npz"]


def test_either_files_name_stands_for_the_result(tmp_path):
    whole().save(tmp_path / "one.json")
    for name in ("one", "one.json", "one.npz"):
        assert Result.load(tmp_path / name).study == "separability"


def test_names_with_a_dot_stay_apart(tmp_path):
    for rate in ("0.1", "0.2"):
        Result("separability", {"rate": rate}).save(tmp_path / f"rate{rate}")
    assert len(list(tmp_path.iterdir())) == 4
    assert Result.load(tmp_path / "rate0.1").parameters == {"rate": "0.1"}


def test_numpy_and_torch_numbers_are_written_as_plain_ones(tmp_path):
    scalars = {"a": np.float32(0.5), "b": np.int64(3), "c": torch.tensor(0.25), "d": np.bool_(True)}
    path = Result("s", {}, scalars).save(tmp_path / "s")
    assert Result.load(path).scalars == {"a": 0.5, "b": 3, "c": 0.25, "d": True}


def test_a_result_may_hold_an_array_of_any_name(tmp_path):
    path = Result("s", {}, arrays={"file": np.arange(3), "arr_0": np.arange(2)}).save(tmp_path / "s")
    assert Result.load(path).arrays["file"].tolist() == [0, 1, 2]


STRUCTURED = np.zeros(2, dtype=[("a", float), ("b", object)])


@pytest.mark.parametrize("array", [np.array([{"a": 1}, None]), np.array([[1], [1, 2]], dtype=object), STRUCTURED])
def test_arrays_of_objects_are_refused_before_anything_is_written(tmp_path, array):
    with pytest.raises(ValueError, match=r"arrays\['bad'\]: expected numbers or strings, got objects"):
        Result("s", {}, arrays={"bad": array}).save(tmp_path / "s")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failing", ["npz", "json"])
def test_an_interrupted_save_leaves_the_old_result_whole(tmp_path, monkeypatch, failing):
    path = whole().save(tmp_path / "s")

    def full(*_, **__) -> None:
        raise OSError(28, "No space left on device")

    if failing == "npz":
        monkeypatch.setattr(np.lib.format, "write_array", full)
    else:
        monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        Result("other", {}, {}, {"new": np.zeros(3)}).save(path)
    monkeypatch.undo()
    found = Result.load(path)
    assert found.study == "separability" and found.arrays.keys() == whole().arrays.keys()
    assert len(list(tmp_path.iterdir())) == 2


def test_values_that_json_can_not_hold_are_refused_and_leave_the_old_result_whole(tmp_path):
    path = whole().save(tmp_path / "s")
    with pytest.raises((TypeError, ValueError), match=r"expected JSON-able values, got Path|got PosixPath"):
        Result("other", {"root": Path()}, {}, {"new": np.zeros(3)}).save(path)
    assert Result.load(path).arrays.keys() == whole().arrays.keys()


@pytest.mark.parametrize("suffix", [".npz", ".json"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_result_is_refused_by_name(tmp_path, suffix, share):
    path = whole().save(tmp_path / "s")
    file = path.with_suffix(suffix)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf"path: expected a whole Result at {re.escape(str(path))}"):
        Result.load(path)


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7])
def test_a_result_with_damaged_bytes_is_refused_by_name(tmp_path, at):
    arrays = {"x": np.random.default_rng(0).normal(size=2000)}
    path = Result("s", {}, {}, arrays).save(tmp_path / "s")
    content = bytearray(path.with_suffix(".npz").read_bytes())
    start = int(at * len(content))
    content[start : start + 40] = bytes(40)
    path.with_suffix(".npz").write_bytes(content)
    with pytest.raises(ValueError, match="path: expected a whole Result"):
        Result.load(path)


@pytest.mark.parametrize("facts", [{}, [], {"study": "s"}, {"study": "s", "parameters": {}, "more": 1}, 3])
def test_a_json_of_something_else_is_refused_by_name(tmp_path, facts):
    path = whole().save(tmp_path / "s")
    path.with_suffix(".json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="path: expected a whole Result"):
        Result.load(path)


def test_a_missing_half_is_refused_by_name(tmp_path):
    for suffix in (".json", ".npz"):
        path = whole().save(tmp_path / "s")
        path.with_suffix(suffix).unlink()
        with pytest.raises(ValueError, match=rf"path: expected a saved Result, got no file .*s\{suffix}"):
            Result.load(path)


def test_a_pickle_in_a_result_is_not_opened(tmp_path):
    path = whole().save(tmp_path / "s")
    np.savez(path.with_suffix(".npz"), bad=np.array([{"a": 1}]))  # an array of objects, which NumPy pickles
    described = path.with_suffix(".json")
    facts = json.loads(described.read_text()) | {"arrays": sha256(path.with_suffix(".npz"))}  # past the checksum
    described.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"path: expected a whole Result .*Object arrays cannot be loaded"):
        Result.load(path)


# Provenance


def test_provenance_says_what_ran_where(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/opt/tools/bin/sslnb", "run", "separability", "-p", "width=8"])
    found = provenance(seconds={"probe": 1.5})
    assert found["command"] == "sslnb run separability -p width=8"
    assert found["seconds"] == {"probe": 1.5}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found["date"])
    assert {"python", "torch", "numpy"} <= set(found["versions"]) and found["versions"] == versions()
    assert found["hardware"]["cores"] >= 1
    assert found["commit"]
    json.dumps(found)


def test_a_notebook_is_called_a_notebook(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/opt/x/site-packages/ipykernel_launcher.py", "-f", "/home/ada/kernel.json"])
    assert provenance()["command"] == "notebook"


def test_provenance_holds_no_absolute_path(monkeypatch):
    arguments = ["run", "all", "-p", "encoder=checkpoint:/home/ada/my.pt", "--out", "/home/ada/out", "npz:/data/x.npz"]
    monkeypatch.setattr(sys, "argv", ["/home/ada/.venv/bin/sslnb", *arguments])
    text = json.dumps(provenance())
    assert "/home/ada" not in text and "/data/" not in text
    assert str(Path(result.__file__).parents[1]) not in text and str(Path.home()) not in text
    assert "my.pt" in text  # the file's own name may stay


def test_outside_a_checkout_the_commit_is_unknown(monkeypatch):
    def failing(*_, **__):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(subprocess, "run", failing)
    assert provenance()["commit"] == "unknown"


def test_a_changed_tree_is_marked(monkeypatch):
    answers = {"rev-parse": "0123456789abcdef\n", "status": ""}

    def git(command, **_):
        return subprocess.CompletedProcess(command, 0, answers[command[3]], "")

    monkeypatch.setattr(subprocess, "run", git)
    assert provenance()["commit"] == "0123456789ab"
    answers["status"] = " M sslnb/probe.py\n"
    assert provenance()["commit"] == "0123456789ab+changes"


# The papers' numbers


def test_printed_numbers_are_found():
    assert reference("sehwag2020separability", "ImageNet", "Supervised", "effective_accuracy_l2") == 62.2
    assert reference("sehwag2020separability", "imagenet", "SUPERVISED", "benign_accuracy") == 76.1
    assert reference("sehwag2020separability", "ImageNet", "InfoMin", "effective_accuracy_l2") == 27.6
    assert math.isnan(reference("sehwag2020separability", "ImageNet", "NoSuchMethod", "benign_accuracy"))
    found = references("sehwag2020separability")
    assert (
        found[0].value == 62.2
        and found[0].table == "Table 1 (l2)"
        and all(r.paper == "sehwag2020separability" for r in found)
    )


@pytest.mark.parametrize(
    "paper", ["sehwag2020separability", "kalibhat2024qscore", "chen2023simclrrotnet", "cowlagi2022contrast"]
)
def test_every_papers_printed_numbers_are_finite(paper):
    found = references(paper)
    assert found and all(math.isfinite(r.value) and r.metric for r in found)


def test_a_paper_that_prints_no_numbers_has_none():
    assert references("grigg2021cka") == [] and math.isnan(
        reference("grigg2021cka", "CIFAR-10", "SimCLR", "linear_cka")
    )


def test_an_unknown_paper_is_refused():
    with pytest.raises(ValueError, match=r"paper: expected one of .*, got 'grigg2021'; did you mean 'grigg2021cka'"):
        references("grigg2021")


def test_recorded_results_load_and_name_parameters_that_exist():
    recorded = sorted((Path(__file__).resolve().parents[2] / "book" / "results").glob("*.npz"))
    assert recorded
    for path in recorded:
        found = Result.load(path)
        module = studies.get(found.study)
        assert set(found.parameters) <= set(module.Parameters.of("quick").as_dict())
        assert "+changes" not in found.provenance["commit"]
        assert found.scalars["claims"] if found.study in studies.NAMES else found.study in studies.BESIDES
