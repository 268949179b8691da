import re

import numpy as np
import pytest

from sslnb.core import artifacts


@pytest.mark.parametrize(
    "other",
    [{"epochs": 2, "data": "a"}, {"epochs": 1, "data": "b"}, {"epochs": 1}, {"epochs": 1.5, "data": "a"}],
)
def test_a_key_changes_with_every_determinant(other):
    key = artifacts.key(epochs=1, data="a")
    assert re.fullmatch("[0-9a-f]{16}", key)
    assert artifacts.key(data="a", epochs=1) == key
    assert artifacts.key(**other) != key


def test_a_key_sees_into_nested_parameters_but_not_their_order():
    key = artifacts.key(config={"a": 1, "b": {"c": 2, "d": 3}})
    assert artifacts.key(config={"b": {"d": 3, "c": 2}, "a": 1}) == key
    assert artifacts.key(config={"a": 1, "b": {"c": 2, "d": 4}}) != key


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a name of its own: ``top`` imports ``part`` by way of ``middle``, and nothing imports ``apart``."""
    name = f"made_{tmp_path.name}".replace("-", "_")
    root = tmp_path / name
    (root / "sub").mkdir(parents=True)
    texts = {
        "__init__": "",
        "sub/__init__": "",
        "top": f"import json\nfrom {name} import middle\nx = middle.x\n",
        "middle": f'def x():\n    """Old."""\n    from {name}.sub.part import value\n    return value\n',
        "sub/part": "value = 1\n",
        "sub/apart": "value = 2\n",
    }
    for file, text in texts.items():
        (root / f"{file}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return root


def test_the_import_closure_follows_imports_of_the_own_package_wherever_they_stand(package):
    name = package.name
    assert artifacts.import_closure(f"{name}.top") == {f"{name}.{m}" for m in ("top", "middle", "sub.part")}
    assert artifacts.import_closure(f"{name}.sub.apart") == {f"{name}.sub.apart"}
    with pytest.raises(ValueError, match="modules: expected the name of a module with source code, got 'made_"):
        artifacts.import_closure(f"{name}.absent")


@pytest.mark.parametrize("changed", ["top", "middle", "sub/part"])
def test_the_code_version_changes_with_code_that_is_imported_at_any_depth(package, changed):
    before = artifacts.code_version(f"{package.name}.top")
    file = package / f"{changed}.py"
    file.write_text(file.read_text() + "y = 1\n")
    assert artifacts.code_version(f"{package.name}.top") != before


def test_the_code_version_does_not_change_with_comments_docstrings_layout_or_other_files(package):
    before = artifacts.code_version(f"{package.name}.top")
    (package / "middle.py").write_text("# why\n\n" + (package / "middle.py").read_text().replace("Old", "New"))
    (package / "sub" / "apart.py").write_text("value = 3\n")
    assert artifacts.code_version(f"{package.name}.top") == before


def test_an_artifact_lives_in_the_cache_under_its_kind_name_and_key(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path))
    path = artifacts.path("encoders", "simclr", seed=1)
    assert path == tmp_path / "encoders" / f"simclr-{artifacts.key(seed=1)}.pt"
    assert not path.exists()


def test_a_measurement_is_made_once_for_what_determines_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path))
    calls = []

    def measure() -> dict[str, object]:
        calls.append(1)
        return {"rise": 0.5, "curve": np.arange(3)}

    code = ("sslnb.core.checks",)
    first = artifacts.once("flat", measure, code=code, encoder="a")
    again = artifacts.once("flat", measure, code=code, encoder="a")
    assert len(calls) == 1 and float(again["rise"]) == 0.5 and list(again["curve"]) == list(first["curve"])
    artifacts.once("flat", measure, code=code, encoder="b")
    artifacts.once("flat", measure, code=("sslnb.core.files",), encoder="a")
    assert len(calls) == 3


def test_a_damaged_measurement_is_made_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path))
    artifacts.once("flat", lambda: {"rise": 1.0}, code=("sslnb.core.checks",))
    (kept,) = (tmp_path / "measured").iterdir()
    kept.write_bytes(kept.read_bytes()[:-20])
    assert float(artifacts.once("flat", lambda: {"rise": 2.0}, code=("sslnb.core.checks",))["rise"]) == 2.0
