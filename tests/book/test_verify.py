"""Recorded numbers are measured again: the same encoders give them, others are not compared, differences are found."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sslnb.book.verify import Comparison, verify
from sslnb.core.result import Result
from sslnb.pool import runs, scales
from sslnb.pool.members import Scale, Variant
from sslnb.studies import get

SHARED = {"width": 8, "stem": "imagenet", "epochs": 1, "batch_size": 50, "flip": 0.0, "crop_scale": 0.5}
PLAN = Scale("tiny", "digit-scenes", SHARED, {"supervised": Variant(2), "simclr": Variant(2)}, limit=200, halvings=1)
# Enough for probes that beat chance, without which there are no margins to compare.
FEW = {"probe_limit": 200, "test_limit": 60, "probe_epochs": 15, "attack_limit": 20, "attack_steps": 2}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a recorded study of two sets, from a pool of two members."""
    folder = tmp_path_factory.mktemp("verify")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSLNB_CACHE", str(folder / "cache"))
        patch.setenv("SSLNB_POOL", str(folder / "none"))
        patch.setitem(scales.SCALES, "tiny", PLAN)
        for member in PLAN.members.values():
            runs.run(member)
        study = get("separability")
        study.start(study.parameters.of(pool="tiny", **FEW)).all().save(folder / "separability")
        yield folder


def _all(folder: Path, *members: str) -> dict[str, Comparison]:
    return {one.name: one for one in verify(["separability"], members or ("supervised/0", "simclr/0"), folder=folder)}


def _changed(folder: Path) -> Result:
    result = Result.load(folder / "separability")
    result.data = {name: data.load() for name, data in result.data.items()}
    return Result(result.study, result.data, result.facts)


def test_the_same_encoders_give_the_recorded_numbers(recorded: Path) -> None:
    found = _all(recorded)
    assert set(found) == {"accuracy", "knn", "mean_margin", "norm_auc", "effective"}
    for one in found.values():
        assert one.same and not one.note and one.cells > 0 and one.difference < 1e-6


def test_one_encoder_alone_gives_its_recorded_numbers(recorded: Path) -> None:
    both, alone = _all(recorded), _all(recorded, "simclr/0")
    for name, one in alone.items():
        assert one.same and 0 < one.cells < both[name].cells


def test_members_of_different_seeds_are_compared_with_their_own(recorded: Path) -> None:
    found = _all(recorded, "supervised/0", "simclr/1")
    assert all(one.same and one.cells > 0 and one.difference < 1e-6 for one in found.values())


def test_a_number_that_is_not_as_recorded_is_found(recorded: Path, tmp_path: Path) -> None:
    result = _changed(recorded)
    result.data["separation"]["mean_margin"].loc[{"objective": "simclr"}] += 0.2
    result.save(tmp_path / "separability")
    found = _all(tmp_path)
    assert not found["mean_margin"].same and found["mean_margin"].difference == pytest.approx(0.2)
    assert found["norm_auc"].same
    assert _all(tmp_path, "supervised/0")["mean_margin"].same


def test_a_number_on_one_side_alone_is_a_difference(recorded: Path, tmp_path: Path) -> None:
    result = _changed(recorded)
    result.data["probes"]["knn"].loc[{"objective": "supervised"}] = float("nan")
    result.save(tmp_path / "separability")
    found = _all(tmp_path)
    assert not found["knn"].same and found["accuracy"].same


def test_results_of_other_encoders_are_left_out_and_alone_an_error(recorded: Path, tmp_path: Path) -> None:
    result = _changed(recorded)
    result.facts["provenance"]["encoders"]["simclr/0"] = "0" * 64
    result.save(tmp_path / "separability")
    with pytest.raises(
        ValueError, match=r"results: expected some of .* recorded from the encoders that ship, got none"
    ):
        list(verify(["separability"], folder=tmp_path))
    with pytest.raises(ValueError, match="results: expected some"):
        list(verify(["qscore"], folder=tmp_path))
    assert next(verify(["separability"], folder=tmp_path)).note == "recorded with other weights of simclr/0"
    assert next(verify(["separability"], ("byol/0",), folder=tmp_path)).note == "recorded without byol/0 of a pool"


def test_a_study_without_headline_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="study: expected one with headline numbers, got"):
        list(verify(["synthesis"], folder=tmp_path))
