"""Fine-tuned classifiers are trained once, and come back as they were."""

from pathlib import Path

import pytest
import torch

from sslnb.data import load
from sslnb.encoders import resnet
from sslnb.features.extract import as_float
from sslnb.studies.simclr_rotnet import tuned
from sslnb.training.finetune import FineTuned, fine_tune

SETTINGS = {"epochs": 1, "batch_size": 16, "learning_rate": 0.05, "crop_scale": 0.5, "flip": 0.0, "seed": 0}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[FineTuned]:
    """What was really trained while a test runs, with a cache of its own."""
    made: list[FineTuned] = []

    def counted(*args: object, **settings: object) -> FineTuned:
        made.append(fine_tune(*args, **settings))
        return made[-1]

    counted.__module__ = fine_tune.__module__  # whose code decides
    monkeypatch.setattr(tuned, "fine_tune", counted)
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path))
    return made


def test_a_classifier_is_trained_once_for_its_encoder_images_and_settings(trained: list[FineTuned]) -> None:
    images, encoder, other = load("digit-scenes", "train").take(40), resnet(width=4), resnet(width=4)
    first, again = (tuned.classifier(encoder, images, **SETTINGS) for _ in range(2))
    assert len(trained) == 1
    x = as_float(images.images)
    with torch.no_grad():
        assert torch.equal(first(x), trained[0].model(x)) and torch.equal(again(x), first(x))
    assert not first.training and first is not again
    tuned.classifier(other, images, **SETTINGS)
    tuned.classifier(encoder, images.take(30), **SETTINGS)
    tuned.classifier(encoder, images, **SETTINGS | {"seed": 1})
    assert len(trained) == 4


def test_fine_tuning_that_diverged_is_remembered_as_none(trained: list[FineTuned]) -> None:
    images, encoder = load("digit-scenes", "train").take(40), resnet(width=4)
    for _ in range(2):
        assert tuned.classifier(encoder, images, **SETTINGS | {"learning_rate": 1e30, "epochs": 3}) is None
    assert len(trained) == 1
