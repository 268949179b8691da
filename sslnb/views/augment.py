"""A random view of every image of a batch: crop, flip, colour, blur, solarization, in one call."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sslnb.core.checks import expect
from sslnb.views.color import color_jitter, hits, random_gaussian_blur, random_greyscale_, random_solarize_
from sslnb.views.crops import crop_boxes, cropped


@dataclass(frozen=True)
class Augmentation:
    """A random view of each image: crop, flip, colour jitter, greyscale, blur, solarisation, in this order.

    Every random parameter is drawn for each image, or with ``per_batch`` once for all of them. Called on uint8 images
    [N,C,H,W], gives float32 views [N,C,size,size] in [0, 1]. The order is that of Grill et al. 2020 (BYOL), appendix B.
    """

    scale: tuple[float, float] = (0.2, 1.0)
    flip: float = 0.5  # probability; 0 for digits, which have a handedness
    jitter: tuple[float, float, float, float] | None = None  # brightness, contrast, saturation, hue
    jitter_probability: float = 0.8
    greyscale: float = 0.0  # probability
    size: int | None = None  # side of the view; None keeps the images' own
    blur: float = 0.0  # probability
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # range of its standard deviation in pixels of the view
    solarize: float = 0.0  # probability
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # range of the crop's aspect
    per_batch: bool = False

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        expect(images.dtype == torch.uint8 and images.ndim == 4, "images", "uint8 [N,C,H,W]", _describe(images))
        n, channels, height, width = images.shape
        device = images.device
        draws, shared = 1 if self.per_batch else n, {"per_batch": self.per_batch}
        boxes = crop_boxes(draws, height, width, scale=self.scale, ratio=self.ratio, device=device, generator=generator)
        boxes, flip = boxes.expand(n, -1), hits(images, self.flip, generator, self.per_batch)
        view = cropped(images, boxes, self.size or height, flip)
        if self.jitter is not None:
            names = ("brightness", "contrast", "saturation", "hue")
            strengths = dict(zip(names, self.jitter, strict=True))
            strengths |= {"probability": self.jitter_probability} | shared
            view = color_jitter(view, **strengths, generator=generator)
        if self.greyscale and channels == 3:
            random_greyscale_(view, self.greyscale, generator, **shared)
        if self.blur:
            view = random_gaussian_blur(view, self.blur, sigma=self.blur_sigma, **shared, generator=generator)
        if self.solarize:
            random_solarize_(view, self.solarize, generator, **shared)
        return view


@dataclass(frozen=True)
class MultiCrop:
    """Several random views of each image: one per entry of ``large``, then ``small_crops`` views of ``small``.

    The small views have a lower ``size``, so that they cost little, and usually a lower ``scale``. ``ValueError`` for
    small crops without their augmentation. Source: Caron et al. 2020 (SwAV), section 3.2.
    """

    large: tuple[Augmentation, ...]
    small: Augmentation | None = None
    small_crops: int = 0

    def __post_init__(self) -> None:
        expect(len(self.large) > 0, "large", "at least one augmentation", self.large)
        expect(self.small_crops >= 0, "small_crops", "a value of at least 0", self.small_crops)
        wanted = f"an augmentation for the {self.small_crops} small crops"
        expect(self.small is not None or self.small_crops == 0, "small", wanted, self.small)

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> list[Tensor]:
        """Views [N,C,size,size] of uint8 images [N,C,H,W], large ones first."""
        return [view(images, generator) for view in (*self.large, *[self.small] * self.small_crops)]


def _describe(images: Tensor) -> str:
    return f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}"
