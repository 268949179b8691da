import re
from types import SimpleNamespace

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


def test_the_code_version_changes_with_any_source_file(monkeypatch, tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(f"x = {name!r}\n")
    module = lambda name: SimpleNamespace(__file__=str(tmp_path / f"{name}.py"))  # noqa: E731
    monkeypatch.setattr(artifacts.importlib, "import_module", module)
    before = artifacts.code_version("one", "two")
    assert artifacts.code_version("two", "one") == before
    (tmp_path / "two.py").write_text("x = 2\n")
    assert artifacts.code_version("one", "two") != before


def test_an_artifact_lives_in_the_cache_under_its_kind_name_and_key(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path))
    path = artifacts.path("encoders", "simclr", seed=1)
    assert path == tmp_path / "encoders" / f"simclr-{artifacts.key(seed=1)}.pt"
    assert not path.exists()
