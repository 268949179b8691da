"""Examples for the page on training objectives: what each one, and each transform, makes of a few images."""

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sslnb.data.images import ImageSet
from sslnb.objectives.registry import OBJECTIVES
from sslnb.training.loop import PretrainConfig, objective_from
from sslnb.views import augment, color_spaces, patches
from sslnb.views.rand_augment import rand_augment

Transform = Callable[[Tensor, torch.Generator], Tensor]


def in_order() -> list[type]:
    """Supervised methods first, then by name."""
    return sorted(OBJECTIVES.values(), key=lambda kind: (not kind.uses_labels, kind.label.lower()))


def views(images: ImageSet, *, count: int = 3, seed: int = 0) -> dict[str, list[Tensor | None]]:
    """What each objective makes of the first images, four pictures of each: one draw of four views, two of two, …

    A row for each objective, of 5 · count − 1 pictures; None leaves a gap between images.
    """
    subset = dataclasses.replace(images, images=images.images[:count], labels=images.labels[:count], masks=None)
    rows = {"image": [picture for image in subset.images for picture in (image, *[None] * 4)]}
    generator = torch.Generator().manual_seed(seed)
    for kind in in_order():
        objective = objective_from(PretrainConfig(kind.name, width=2, crop_scale=0.3), subset)
        pictures: list[Tensor] = []
        while len(pictures) < 4:
            pictures += map(_bytes, objective.pictures(subset.images, generator))
        rows[kind.label] = [picture for i in range(count) for picture in (*(view[i] for view in pictures[:4]), None)]
    return rows


def _bytes(view: Tensor) -> Tensor:
    return (255 * view.detach().float()).round().clamp(0, 255).to(torch.uint8)


def transforms(picture: Tensor, *, count: int = 8, seed: int = 0) -> dict[str, list[Tensor]]:
    """Random draws of every transform from one uint8 picture [3,H,W]: a row each, the picture itself at the left."""
    generator = torch.Generator().manual_seed(seed)
    batch = picture.expand(count, -1, -1, -1)
    return {name: [picture, *_bytes(draw(batch, generator))] for name, draw in TRANSFORMS.items()}


def _view(**settings: object) -> Transform:
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0}
    return lambda batch, generator: augment.Augmentation(**whole | settings)(batch, generator)


def _jigsaw(batch: Tensor, generator: torch.Generator) -> Tensor:
    tiles, _ = patches.jigsaw(batch.float() / 255, generator=generator)
    return patches.joined(tiles)


def _turned(batch: Tensor, generator: torch.Generator) -> Tensor:
    return patches.rotate90(batch.float() / 255, torch.randint(4, (len(batch),), generator=generator))


def _channels(convert: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Transform:
    """The three channels of a colour space as grey pictures."""

    def split(batch: Tensor, _: torch.Generator) -> Tensor:
        scaled = (convert(batch[:1].float() / 255) - low.view(1, 3, 1, 1)) / (high - low).view(1, 3, 1, 1)
        return scaled.transpose(0, 1).expand(-1, 3, -1, -1)

    return split


TRANSFORMS: Mapping[str, Transform] = {
    "crop": _view(scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3)),
    "small crop": _view(scale=(0.05, 0.2), ratio=(3 / 4, 4 / 3)),
    "flip": _view(flip=0.5),
    "colour jitter": _view(jitter=(0.8, 0.8, 0.8, 0.2), jitter_probability=1.0),
    "greyscale": _view(greyscale=0.5),
    "blur": _view(blur=1.0),
    "solarize": _view(solarize=0.5),
    "rotation": _turned,
    "jigsaw": _jigsaw,
    "RandAugment": lambda batch, generator: rand_augment(batch.float() / 255, generator=generator),
    "L, a, b": _channels(color_spaces.rgb_to_lab, torch.tensor([0.0, -50, -50]), torch.tensor([100.0, 50, 50])),
    "Y, Db, Dr": _channels(color_spaces.rgb_to_ydbdr, torch.tensor([0.0, -0.7, -0.7]), torch.tensor([1.0, 0.7, 0.7])),
}
