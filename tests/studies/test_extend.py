"""A result that new members are joined to is the one that all of them at once give; what no longer fits is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sslnb.book.extend import extend
from sslnb.core.result import Result
from sslnb.pool.members import Scale, Variant
from sslnb.studies import get

SHARED = {"width": 8, "stem": "imagenet", "epochs": 2, "batch_size": 64, "flip": 0.0, "crop_scale": 0.6}
VARIANTS = {"supervised": Variant(2), "simclr": Variant(1), "byol": Variant(1)}
PLAN = Scale("tiny", "digit-scenes", SHARED, VARIANTS, limit=400)
FEW = {
    "pool": "tiny",
    "epsilon": 2.0,
    "probe_limit": 400,
    "test_limit": 120,
    "probe_epochs": 10,
    "regularized": ("simclr",),
    "further_steps": 1,
    "further_rates": (1e-3,),
    "rounds": 3,
    "heatmap_images": 20,
    "shares": (0.1, 0.6, 1.0),
    "weights": (0.0,),
    "norm_weights": (1e-4,),
}
STUDY = get("qscore")


@pytest.fixture(scope="module")
def whole(train_pool: Callable[[Scale], Path]) -> Result:
    """Every member at once."""
    train_pool(PLAN)
    return STUDY.start(STUDY.parameters.of(**FEW)).all()


@pytest.fixture(scope="module")
def part(whole: Result) -> Result:
    """One seed of supervised training, and SimCLR."""
    return STUDY.start(STUDY.parameters.of(**FEW), only=["supervised/0", "simclr/0"]).all()


@pytest.fixture
def folder(part: Result, tmp_path: Path) -> Path:
    """A folder with the result of some members."""
    part.save(tmp_path / "qscore")
    return tmp_path


def test_it_is_the_result_of_all_at_once_but_for_what_is_trained_on(whole: Result, folder: Path) -> None:
    found = extend("qscore", folder=folder)
    for step in ("pretraining", "representations", "features", "subset_probes", "outcomes", "predict", "failure"):
        xr.testing.assert_allclose(found.data[step], whole.data[step], rtol=1e-4, atol=1e-5)
        assert found.data[step].attrs == whole.data[step].attrs
    for step in ("regularize", "transfer"):
        assert list(found.data[step].objective) == list(whole.data[step].objective)
    decided = {verdict["claim"]: verdict for verdict in whole.facts["verdicts"]}
    for verdict in found.facts["verdicts"]:
        assert verdict["kind"] == decided[verdict["claim"]]["kind"]
        assert verdict["estimate"] == pytest.approx(decided[verdict["claim"]]["estimate"], abs=1e-3, nan_ok=True)


def test_it_says_who_was_measured_when_and_what_was_measured_again(whole: Result, folder: Path) -> None:
    first = Result.load(folder / "qscore").facts["provenance"]
    found = extend("qscore", folder=folder).facts["provenance"]
    assert found["encoders"] == whole.facts["provenance"]["encoders"] and found["command"] == first["command"]
    (added,) = found["extended"]
    assert set(added["encoders"]) == set(found["encoders"]) - set(first["encoders"])
    assert added["measured_again"] in first["encoders"]


def _changed(folder: Path, change: Callable[[Result], None]) -> None:
    result = Result.load(folder / "qscore")
    change(result)
    result.save(folder / "qscore")


def _other_weights(result: Result) -> None:
    result.facts["provenance"]["encoders"]["simclr/0"] = "0" * 64


def _other_images(result: Result) -> None:
    data = result.facts["provenance"]["data"]
    data[next(iter(data))] = "0" * 64


def _of_other_images(result: Result) -> None:
    _other_images(result)
    result.data["heatmaps"]["lift"] += 0.1


def _other_numbers(result: Result) -> None:
    result.data["representations"]["accuracy"] += 0.1


def _another_threshold(result: Result) -> None:
    result.data["representations"].attrs["epsilon"] = np.float64(3.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_weights, "weights that the pool has, got others of simclr/0"),
        (_of_other_images, "heatmaps.lift 0.1 apart: record the study as a whole"),
        (_other_numbers, "representations.accuracy 0.1 apart: record the study as a whole"),
        (_another_threshold, "the recorded .*'epsilon': 3.0"),
    ],
)
def test_what_no_longer_fits_is_refused(
    whole: Result, folder: Path, change: Callable[[Result], None], message: str
) -> None:
    _changed(folder, change)
    with pytest.raises(ValueError, match=message):
        extend("qscore", folder=folder)


def test_images_that_differ_are_named_where_numbers_do_not(whole: Result, folder: Path) -> None:
    _changed(folder, _other_images)
    (said,) = [note for note in extend("qscore", folder=folder).facts["notes"] if "images of another machine" in note]
    assert "of supervised/0 no number differs by more than 0" in said


def test_where_nothing_is_new_or_members_are_compared_at_once_it_is_refused(whole: Result, tmp_path: Path) -> None:
    whole.save(tmp_path / "qscore")
    with pytest.raises(ValueError, match="a member of tiny that its result lacks, got none"):
        extend("qscore", folder=tmp_path)
    with pytest.raises(ValueError, match="measures each encoder by itself, got cka"):
        extend("cka", folder=tmp_path)


def test_a_further_seed_of_what_is_trained_on_joins_with_the_whole_alone(whole: Result, folder: Path) -> None:
    def trained_on(result: Result) -> None:
        result.facts["parameters"]["regularized"] = ["supervised"]

    _changed(folder, trained_on)
    with pytest.raises(ValueError, match="measured by themselves, got supervised/1, which train on"):
        extend("qscore", folder=folder)


def test_parameters_that_can_not_be_had_again_are_refused(whole: Result, folder: Path) -> None:
    def without_limit(result: Result) -> None:
        result.facts["parameters"]["probe_limit"] = None

    _changed(folder, without_limit)
    with pytest.raises(ValueError, match="parameters that can be had again, got others for probe_limit"):
        extend("qscore", folder=folder)


def test_only_objectives_that_the_recording_asked_for_join(whole: Result, folder: Path) -> None:
    def asked(result: Result) -> None:
        result.facts["parameters"]["objectives"] = ["supervised", "simclr"]

    _changed(folder, asked)
    assert extend("qscore", folder=folder).facts["provenance"]["extended"][-1]["encoders"] == ["supervised/1"]
