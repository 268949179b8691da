"""InfoMin (Tian et al. 2020, arXiv 2005.10243): views that share no more than the task needs.

``infomin`` is its augmentation under MoCo v2 (section 4.3 and appendix: random crop, flip, colour jitter of strength 1,
greyscale, blur with probability 0.5, RandAugment of two operations). ``infomin_color`` is its study of colour views
(section 4.1): the luma Y and the colour differences Db, Dr of an image as two views, contrasted as in CMC. Defaults
otherwise as in those two files. Expected on CIFAR-10: linear 92.4 with a ResNet-50 pretrained on ImageNet (Sehwag et
al. 2020, table 1); a source that pretrains on CIFAR-10 was not found.
"""

import torch
from torch import Tensor

from sslnb.objectives.cmc import CMC
from sslnb.objectives.moco import MoCo
from sslnb.views.rand_augment import rand_augment

__all__ = ["InfoMin", "InfoMinColor"]


class InfoMin(MoCo):
    """MoCo v2 on views of less mutual information."""

    name, label = "infomin", "InfoMin"
    colour, marker = "#661100", ">"
    reference = "tian2020infomin"
    compares = "what MoCo v2 compares, on views so different that they share little but the object"

    def __init__(
        self,
        *parts: object,
        jitter_strength: float = 1.0,
        blur: tuple[float, float] = (0.5, 0.5),
        operations: int = 2,
        magnitude: int = 9,
        **views: object,
    ) -> None:
        super().__init__(*parts, jitter_strength=jitter_strength, blur=blur, **views)
        self.policy = {"num_ops": operations, "magnitude": magnitude}

    def views(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        return [rand_augment(view, **self.policy, generator=generator) for view in super().views(images, generator)]


class InfoMinColor(CMC):
    """CMC between luma and colour differences."""

    name, label = "infomin_color", "InfoMin (colour)"
    colour, marker = "#9B6A3B", "|"
    reference = "tian2020infomin"
    compares = "the luma of an image with its colour differences, against those of other images"

    def __init__(self, *parts: object, color: str = "ydbdr", **options: object) -> None:
        super().__init__(*parts, color=color, **options)

    @classmethod
    def build_encoder(cls, depth: int, *, color: str = "ydbdr", **rest: object) -> torch.nn.Module:
        return super().build_encoder(depth, color=color, **rest)
