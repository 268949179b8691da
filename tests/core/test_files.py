import hashlib
import stat
from pathlib import Path

import pytest

from sslnb.core import files


def test_a_file_appears_whole_with_its_folders_and_ordinary_permissions(tmp_path):
    target = tmp_path / "a" / "b" / "weights.pt"
    with files.atomic(target) as partial:
        partial.write_bytes(b"whole")
        assert not target.exists()
        assert partial.parent == target.parent and partial.suffix == ".pt"
    assert target.read_bytes() == b"whole"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("interruption", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_previous_file_and_nothing_else(tmp_path, interruption):
    target = tmp_path / "result.json"
    target.write_text("old")
    with pytest.raises(type(interruption)), files.atomic(target) as partial:
        partial.write_text("ne")
        raise interruption
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_whoever_reads_the_previous_file_goes_on_reading_it(tmp_path):
    target = tmp_path / "result.json"
    target.write_text("the old one")
    with target.open() as reader:
        with files.atomic(target) as partial:
            partial.write_text("the new one")
        assert reader.read() == "the old one" and target.read_text() == "the new one"


def test_two_writers_of_one_file_do_not_share_a_temporary_name(tmp_path):
    target = tmp_path / "shared.pt"
    with files.atomic(target) as first, files.atomic(target) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() in ("first", "second")


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 1000)
    assert files.sha256(tmp_path / "x") == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_folders_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SSLNB_DATA", str(tmp_path / "data"))
    assert files.cache_root() == tmp_path / "cache" and files.data_root() == tmp_path / "data"
    monkeypatch.setattr(files.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    for empty in (lambda n: monkeypatch.delenv(n), lambda n: monkeypatch.setenv(n, "")):
        for name in ("SSLNB_CACHE", "SSLNB_DATA"):
            empty(name)
        assert files.cache_root() == tmp_path / "sslnb"
        assert files.data_root() == tmp_path / "sslnb" / "data"
    assert isinstance(files.data_root(), Path)
