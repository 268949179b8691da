import math

import pytest
import torch

from sslnb.data import load
from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import weights_checksum
from sslnb.encoders.resnet import resnet, untrained
from sslnb.features.extract import as_float, extract
from sslnb.features.linear import LinearProbeGrid
from sslnb.features.scores import top_k
from sslnb.features.standardize import Standardizer
from sslnb.training.finetune import fine_tune, label_fraction, with_probe

CPU = torch.device("cpu")


def toy(n: int = 60, *, labelled: bool = True) -> ImageSet:
    """Images [n,3,8,8] of three classes, each bright in a channel of its own."""
    labels = torch.arange(n) % 3
    images = torch.randint(90, (n, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    images[torch.arange(n), labels] += 120
    return ImageSet(images.to(torch.uint8), labels if labelled else -torch.ones_like(labels), tuple("abc"), None, "toy")


def tuned(encoder=None, images=None, **changes):
    # Of eight seeds each gets all right; at a rate of 1 half of them end where the last steps threw them.
    how = {"epochs": 16, "batch_size": 12, "learning_rate": 0.3, "on": CPU, "precision": "float32"} | changes
    return fine_tune(encoder or untrained(0, width=4), images or toy(), **how)


def test_fine_tuning_learns_what_random_weights_do_not_know():
    images = toy()
    found = tuned()
    assert found.converged and len(found.losses) == 16 and found.losses[-1] < found.losses[0]
    assert top_k(extract(found.model, images), images.labels) > 0.9


def test_the_encoder_that_was_given_is_not_changed_and_its_copy_is():
    encoder = untrained(0, width=4)
    before = weights_checksum(encoder)
    found = tuned(encoder, epochs=1)
    assert weights_checksum(encoder) == before != weights_checksum(found.model.encoder)
    assert not encoder.training and not found.model.training


def test_the_seed_decides_the_result():
    first, same, other = (tuned(epochs=2, seed=seed).model for seed in (0, 0, 1))
    assert weights_checksum(first) == weights_checksum(same) != weights_checksum(other)


def test_the_rate_is_per_256_images_and_there_is_no_decay(monkeypatch):
    seen = []
    plain = torch.optim.SGD

    def spy(parameters, **options):
        seen.append(options)
        return plain(parameters, **options)

    monkeypatch.setattr(torch.optim, "SGD", spy)
    tuned(epochs=1, batch_size=64, learning_rate=0.05, images=toy(130))
    assert seen == [{"lr": pytest.approx(0.0125), "momentum": 0.9, "nesterov": True}]


def test_a_loss_that_is_not_finite_ends_it_and_is_said():
    found = tuned(learning_rate=1e30)
    assert not found.converged and len(found.losses) < 8 and not math.isfinite(found.losses[-1])


def test_a_probe_folded_into_a_layer_says_what_the_probe_says():
    sets = {split: load("digit-scenes", split, limit=200) for split in ("train", "val", "test")}
    encoder = untrained(0, width=4, stem="imagenet")
    raw = {split: extract(encoder, images) for split, images in sets.items()}
    raw["train"][:, 0] = 1.0  # a feature without deviation must not divide by nought
    standardizer = Standardizer("unit_variance").fit(raw["train"])
    x = {split: standardizer.transform(part) for split, part in raw.items()}
    probe = LinearProbeGrid(epochs=2).fit(x["train"], sets["train"].labels, x["val"], sets["val"].labels)
    model = with_probe(encoder, standardizer, probe)
    with torch.no_grad():
        torch.testing.assert_close(model(as_float(sets["test"].images)), probe(x["test"]), atol=2e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="standardizer: expected scale 'unit_variance', got unit_norm"):
        with_probe(encoder, Standardizer("unit_norm").fit(raw["train"]), probe)


def test_a_fraction_is_stratified_and_its_own_for_each_seed():
    images = toy(300)
    part = label_fraction(images, 0.1, seed=1)
    assert part.labels.bincount().tolist() == [10, 10, 10]
    assert not torch.equal(part.images, label_fraction(images, 0.1, seed=2).images)
    assert label_fraction(images, 1.0) is images


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: label_fraction(toy(60), 0.02), r"fraction: expected at least one image of every class, .*none of 'a'"),
        (lambda: label_fraction(toy(), 0.0), r"fraction: expected a share in \(0, 1\], got 0.0"),
        (lambda: label_fraction(toy(labelled=False), 0.5), "images: expected a labelled set"),
        (lambda: tuned(images=toy(labelled=False)), "images: expected a labelled set, got the unlabelled toy"),
        (lambda: tuned(epochs=0), "epochs: expected at least 1, got 0"),
        (lambda: tuned(batch_size=1), "batch_size: expected at least 2, got 1"),
        (lambda: tuned(resnet(18, width=4, in_channels=1)), r"x: expected shape \[N, 1, H, W\]"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_epoch_can_be_seen_from_the_start_on_in_evaluation_mode():
    images = load("digit-scenes", limit=60)
    seen = []

    def look(model):
        assert not model.training and not model.encoder.stem[1].training
        seen.append(model.head.weight.detach().clone())

    how = {"epochs": 3, "batch_size": 20}
    tuned = fine_tune(untrained(0, width=4, stem="imagenet"), images, **how, after_epoch=look)
    plain = fine_tune(untrained(0, width=4, stem="imagenet"), images, **how)
    assert len(seen) == 4 and not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[-1], tuned.model.head.weight)
    assert torch.equal(plain.model.head.weight, tuned.model.head.weight)  # looking changes nothing
