import pytest
import torch

from sslnb.data import ImageSet
from sslnb.training import cost
from sslnb.training.loop import PretrainConfig


@pytest.fixture
def images() -> ImageSet:
    pixels = torch.randint(256, (32, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, torch.arange(32) % 4, tuple("abcd"), None, "toy")


def of(images: ImageSet, objective: str = "simclr", **changes: object) -> cost.StepCost:
    config = {"width": 4, "batch_size": 16, "epochs": 1, "precision": "float32"} | changes
    return cost.of_step(PretrainConfig(objective, **config), images, steps=1)


def test_a_step_costs_time_of_which_views_are_a_part(images):
    found = of(images)
    assert 0 < found.views < found.seconds


def test_memory_grows_with_the_batch_by_its_activations(images):
    small, large = of(images, batch_size=8).memory, of(images, batch_size=16).memory
    weights = of(images, batch_size=2).memory
    assert weights < small < large
    per_image = (small - weights) / 6
    assert 8 * per_image <= large - small < 10 * per_image  # linear, but for the similarities of all pairs


def test_memory_counts_queues_and_momentum_encoders(images):
    short, long = (of(images, "moco", options={"queue_size": size}).memory for size in (16, 4096))
    queue = 4080 * 128 * 4
    assert 2 * queue <= long - short < 2.2 * queue  # it, and the copy that the loss keeps with its similarities


def test_memory_of_a_linear_layer_is_what_can_be_counted_by_hand():
    tensors = [torch.zeros(10, 10), torch.zeros(5)]
    assert sum(cost._storages([*tensors, tensors[0].view(-1)]).values()) == 4 * 105  # a view counts once
