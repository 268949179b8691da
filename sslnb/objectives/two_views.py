"""Objectives that compare two views of each image, and what those views are."""

import dataclasses

import torch
from torch import Tensor

from sslnb.core.checks import expect
from sslnb.encoders.encoder import Encoder
from sslnb.objectives.objective import Objective
from sslnb.objectives.parts import mlp
from sslnb.views.augment import Augmentation, MultiCrop


class TwoViews(Objective):
    """Two views of each image: crop, flip, colour jitter, greyscale, and where asked for blur and solarization.

    The defaults are those that SimCLR found for CIFAR-10 (Chen et al. 2020, appendix B.9): jitter of strength 0.5, no
    blur. ``blur`` and ``solarize`` are the probabilities in the first and second view.
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        images: int,
        *,
        jitter_strength: float = 0.5,
        greyscale: float = 0.2,
        blur: tuple[float, float] = (0.0, 0.0),
        solarize: tuple[float, float] = (0.0, 0.0),
        **views: object,
    ) -> None:
        super().__init__(encoder, classes, images, **views)
        expect(jitter_strength >= 0, "jitter_strength", "a value of at least 0", jitter_strength)
        for name, shares in {"greyscale": (greyscale,), "blur": blur, "solarize": solarize}.items():
            expect(all(0 <= share <= 1 for share in shares), name, "probabilities", shares)
        expect(
            len(blur) == len(solarize) == 2, "blur, solarize", "a probability for each of two views", (blur, solarize)
        )
        s = jitter_strength
        jitter = (0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s)
        same = self.shared | {"jitter": jitter, "greyscale": greyscale}
        self.augmentations = [Augmentation(**same, blur=blur[i], solarize=solarize[i]) for i in (0, 1)]

    def views(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        return [view(images, generator) for view in self.augmentations]


class ContrastiveViews(TwoViews):
    """Two views, a projection head d → d → ``projection_dim``, and the temperature of a loss that compares in it.

    SimCLR, MoCo v2 and SupCon share it; to change one, set ``self.head`` in its own constructor. Source of the head:
    Chen et al. 2020, section 2.1; the others took it over.
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        images: int,
        *,
        temperature: float,
        projection_dim: int = 128,
        **views: object,
    ) -> None:
        super().__init__(encoder, classes, images, **views)
        expect(temperature > 0, "temperature", "a value above 0", temperature)
        self.temperature = temperature
        self.head = mlp((encoder.feature_dim, encoder.feature_dim, projection_dim))


class MultiCropViews(TwoViews):
    """Two large crops and ``small_crops`` small ones, of half the side and up to the least share of a large crop.

    Caron et al. 2020 (SwAV), section 3.2. None by default: at 32 px solo-learn's settings have none either.
    """

    def __init__(self, encoder: Encoder, classes: int, images: int, *, small_crops: int = 0, **views: object) -> None:
        super().__init__(encoder, classes, images, **views)
        expect(small_crops >= 0, "small_crops", "at least 0", small_crops)
        self.small_crops = small_crops

    def views(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        least, side = self.crop_scale[0], max(1, (self.view_size or images.shape[-2]) // 2)
        small = dataclasses.replace(self.augmentations[0], scale=(least / 4, least), size=side)
        return MultiCrop(tuple(self.augmentations), small, self.small_crops)(images, generator)
