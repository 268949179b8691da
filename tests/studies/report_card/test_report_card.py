"""A report card measures what it can of any encoder on any images, and says in words what to make of it."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sslnb import studies
from sslnb.core.result import Result
from sslnb.encoders import resnet, save_encoder
from sslnb.pool.members import Scale, Variant
from sslnb.studies.measures import MEASURES
from sslnb.studies.report_card import figures, tables
from sslnb.studies.report_card.steps import standing

TINY = Scale(
    "quick",
    dataset="digit-scenes",
    limit=300,
    shared={"width": 4, "stem": "imagenet", "steps": 4, "epochs": 2, "batch_size": 64, "crop_scale": 0.6, "flip": 0.0},
    variants={"supervised": Variant(2), "simclr": Variant(1)},
)
FEW = {"probe_limit": 100, "test_limit": 60, "probe_epochs": 2, "head_epochs": 2}
FEW |= {"attack_limit": 20, "attack_steps": 2, "views": 2, "view_images": 30}
MADE = """
import torch
from sslnb.encoders import Encoder

class Mine(Encoder):
    def __init__(self, width, channels=3, kind="linear"):
        super().__init__(width, (), {{"family": "mine"}}, (0.0,) * channels, (1.0,) * channels)
        self.kind, self.weight = kind, torch.nn.Parameter(torch.randn(width, channels * 16))
    def embed(self, x):
        h = torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1) @ self.weight.T
        if self.kind == "constant":
            return torch.ones_like(h)
        if self.kind == "nan":
            smooth = x.flatten(1).std(1, keepdim=True) < 0.2  # as some scenes are, and no noise
            return torch.where(smooth, float("nan"), h)
        return h.round() if self.kind == "no gradient" else h

def made():
    torch.manual_seed(0)
    return Mine({arguments}).eval()
"""


@pytest.fixture(scope="module")
def folder(train_pool: Callable[[Scale], Path]) -> Path:
    return train_pool(TINY)


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], str]:
    """The name of an encoder of the user's own."""
    count = itertools.count()

    def write(arguments: str) -> str:
        path = tmp_path / f"mine{next(count)}.py"
        path.write_text(MADE.format(arguments=arguments))
        return f"python:{path}:made"

    return write


def card(encoder: str, **changes: object) -> Result:
    parameters = studies.parameters("report_card", encoder=encoder, **FEW | changes)
    return studies.get("report_card").start(parameters).all()


def drawn(result: Result) -> None:
    """Everything on the page."""
    for draw in (figures.standing, figures.curves, figures.layers):
        draw(result).canvas.draw()
    for write in (tables.summary, tables.warnings, tables.missing, tables.identity):
        assert write(result).data


def npz(path: Path, labels: dict[str, Tensor], channels: int = 3, **more: np.ndarray) -> str:
    generator = np.random.default_rng(0)
    arrays = {}
    for split, values in labels.items():
        shape = (len(values), 32, 32, channels) if channels > 1 else (len(values), 32, 32)
        arrays[f"{split}_images"] = generator.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{split}_labels"] = np.asarray(values)
    np.savez(path, **arrays, **more)
    return f"npz:{path}"


def test_two_encoders_stand_side_by_side_beside_the_pool(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_encoder(resnet(width=8, stem="imagenet"), tmp_path / "a.pt")
    enough = {"probe_limit": 300, "probe_epochs": 10}  # for a probe that beats chance, and so has margins
    result = card(f"{tmp_path / 'a.pt'},pool:quick/simclr/0", **enough)
    data = result.data["card"]
    assert list(data.encoder.values[data.given.values]) == [f"checkpoint:{tmp_path / 'a.pt'}", "pool:quick/simclr/0"]
    assert list(data.encoder.values[data.trained.values]) == ["supervised/0", "simclr/0"]
    assert {"untrained/0", "pixels"} <= set(data.encoder.values)
    assert set(data.measure.values) >= {"margin", "cka_supervised", "progress", "pgd", "rankme"}
    twice = data.value.sel(encoder=["pool:quick/simclr/0", "simclr/0"])
    assert np.allclose(twice[:, 0], twice[:, 1], equal_nan=True)  # the same weights, measured in the same way
    assert sorted(result.data["layers"].data_vars) == ["cka_0", "cka_1"]
    drawn(result)


def test_standing_is_the_share_of_the_others_that_an_encoder_is_at_least_as_good_as() -> None:
    turned = np.array([[2.0, 1, 2, 3], [np.nan, 1, 2, 3], [1, np.nan, np.nan, np.nan]])
    shares = standing(turned, np.array([False, True, True, True]), ["a", "b", "c", "d"])
    assert shares[0] == pytest.approx([2 / 3, 0, 1 / 2, 1])
    assert math.isnan(shares[1, 0]) and shares[1, 3] == 1
    assert np.isnan(shares[2]).all()
    twice = standing(turned, np.array([False, True, True, True]), ["c", "b", "c", "d"])
    assert twice[0, 0] == 1 / 2  # of the other two: the third is itself


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("8", "does not beat chance"),
        ("8, kind='constant'", "collapsed"),
        ("2000", ""),  # features of any number
        ("8, kind='no gradient'", ""),
    ],
)
def test_any_encoder_gets_a_card(folder: Path, own: Callable[[str], str], arguments: str, said: str) -> None:
    result = card(own(arguments))
    assert any(said in note for note in result.facts["notes"]) or not said
    drawn(result)


def test_an_encoder_that_is_not_finite_on_some_image_has_no_measures_and_says_so(
    folder: Path, own: Callable[[str], str]
) -> None:
    name = own("8, kind='nan'")
    result = card(name)
    assert bool(result.data["card"].value.sel(encoder=name).isnull().all())
    assert any("finite" in note and name in note for note in result.facts["notes"])
    assert "nothing could be measured" in tables.warnings(result).data
    drawn(result)


def test_images_of_other_channels_are_refused_before_anything_is_measured(
    folder: Path, own: Callable[[str], str]
) -> None:
    with pytest.raises(ValueError, match="encoder: expected images of 1"):
        card(own("8, channels=1"))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"train": [0] * 40, "val": [0] * 20, "test": [0] * 30}, "at least two classes"),
        ({"train": [0, 0, 1, 1], "val": [0, 1], "test": [0, 0, 1, 1]}, "2 images in the smallest class"),
    ],
)
def test_images_that_no_probe_can_learn_from_still_give_what_needs_no_labels(
    folder: Path, tmp_path: Path, labels: dict, said: str
) -> None:
    result = card("pool:quick/simclr/0", dataset=npz(tmp_path / "few.npz", labels))
    data = result.data["card"]
    assert any(said in note or "a class has" in note for note in result.facts["notes"])
    if "at least two" in said:
        assert all(not MEASURES[name].needs_labels or name == "cka_supervised" for name in data.measure.values)
    drawn(result)


def test_without_an_encoder_it_says_what_to_give(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"encoder: expected one to measure, such as -p encoder=checkpoint:my\.pt"):
        studies.get("report_card").start(studies.parameters("report_card", profile="small", pool="quick", **FEW))
