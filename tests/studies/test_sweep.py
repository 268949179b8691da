"""A point of a sweep is measured again exactly when something that decides it is another."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sslnb import studies
from sslnb.book.sweep import _grid_point
from sslnb.core.result import Result
from sslnb.pool.members import Scale, Variant

SHARED = {"width": 4, "stem": "imagenet", "epochs": 1, "batch_size": 50, "flip": 0.0, "crop_scale": 0.5}


def test_a_point_is_reused_until_its_pool_has_gained_an_encoder(
    train_pool: Callable[[Scale], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Scale("tiny", "digit-scenes", SHARED, {"supervised": Variant(1)}, limit=100, halvings=0)
    train_pool(plan)
    monkeypatch.setattr(studies, "run", lambda name, _: Result(name))

    def reused(**parameters: object) -> bool:
        return _grid_point("separability", {"pool": "tiny"} | parameters, str(tmp_path), 1)["reused"]

    assert [reused(), reused(), reused(probe_epochs=3)] == [False, True, False]
    grown = Scale("tiny", "digit-scenes", SHARED, {"supervised": Variant(2)}, limit=100, halvings=0)
    train_pool(grown)
    assert [reused(), reused()] == [False, True]
