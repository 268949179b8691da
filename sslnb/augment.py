"""Random views of a whole batch at once, on the batch's own device, with parameters drawn per sample.

Each transform has the distribution of torchvision's transform of the same name (same parameters, same marginals),
checked in the tests. Images are float [N,C,H,W] in [0, 1] unless said.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sslnb.core.checks import expect, expect_shape

GREY = (0.299, 0.587, 0.114)  # ITU-R 601-2 luma, torchvision's greyscale
CHUNK = 128  # images worked on at a time on a CPU, so that they stay in its cache; a GPU takes the whole batch


def chunk_size(images: Tensor) -> int:
    """How many images to work on at a time."""
    return CHUNK if images.device.type == "cpu" else max(1, len(images))


def _uniform(n: int, low: float, high: float, like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.empty(n, device=like.device).uniform_(low, high, generator=generator)


def crop_boxes(
    n: int,
    height: int,
    width: int,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    device: torch.device | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Crop boxes [N,4] (top, left, height, width in whole pixels) as torchvision's RandomResizedCrop draws them.

    Ten tries per sample of an area share in ``scale`` and a log-uniform aspect ``ratio``; the first that fits is
    taken, else the largest central crop of admissible aspect.
    """
    expect(0 < scale[0] <= scale[1] <= 1, "scale", "0 < low <= high <= 1", scale)
    expect(0 < ratio[0] <= ratio[1], "ratio", "0 < low <= high", ratio)
    draw = torch.empty(4, n, 10, device=device).uniform_(generator=generator)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draw[0])
    aspect = torch.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * draw[1])
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w >= 1) & (w <= width) & (h >= 1) & (h <= height)
    first = fits.int().argmax(1, keepdim=True)
    w, h, u, v = (t.gather(1, first).squeeze(1) for t in (w, h, draw[2], draw[3]))
    fallback_w, fallback_h = float(width), float(height)
    if width / height < ratio[0]:
        fallback_h = round(width / ratio[0])
    elif width / height > ratio[1]:
        fallback_w = round(height * ratio[1])
    any_fits = fits.any(1)
    w, h = torch.where(any_fits, w, fallback_w), torch.where(any_fits, h, fallback_h)
    top, left = (u * (height - h + 1)).floor(), (v * (width - w + 1)).floor()
    top = torch.where(any_fits, top, ((height - h) / 2).floor())
    left = torch.where(any_fits, left, ((width - w) / 2).floor())
    return torch.stack([top, left, h, w], 1)


def _resampling(start: Tensor, length: Tensor, size: int, out: int, flip: Tensor | None = None) -> Tensor:
    """Matrices [N,out,size] that resample [start, start + length) to ``out`` pixels, antialiased bilinear.

    A triangle filter that widens when shrinking, as in Pillow and in torchvision with ``antialias=True``.
    """
    step = (length / out)[:, None, None]
    target = torch.arange(out, device=start.device, dtype=torch.float32)[None, :, None]
    if flip is not None:
        target = torch.where(flip[:, None, None], out - 1 - target, target)
    centre = (target + 0.5) * step  # within the crop, so that nothing outside of it bleeds in
    source = torch.arange(size, device=start.device, dtype=torch.float32)[None, None, :] - start[:, None, None]
    weight = (1 - (source + 0.5 - centre).abs() / step.clamp(min=1)).clamp(min=0)
    weight = weight * ((source >= 0) & (source < length[:, None, None]))
    return weight / weight.sum(2, keepdim=True)


def resized_crop(images: Tensor, boxes: Tensor, size: int, *, flip: Tensor | None = None) -> Tensor:
    """Crop each image to its own box and resize to ``size`` × ``size``, mirrored where ``flip`` [N] is true.

    Both axes are one small matrix product per image: no gather, and mirroring costs nothing.
    """
    n, channels, height, width = images.shape
    rows = _resampling(boxes[:, 0], boxes[:, 2], height, size)
    columns = _resampling(boxes[:, 1], boxes[:, 3], width, size, flip)
    narrowed = images.reshape(n, channels * height, width) @ columns.transpose(1, 2)
    return rows[:, None] @ narrowed.view(n, channels, height, size)


def greyscale(images: Tensor) -> Tensor:
    """Luma [N,1,H,W] of RGB images; one-channel images as they are."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return torch.add(GREY[0] * red, green, alpha=GREY[1]).add_(blue, alpha=GREY[2]).unsqueeze(1)


def _blend_(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """factor · images + (1 − factor) · other, cut to [0, 1]."""
    factor = factor.view(-1, 1, 1, 1)
    return images.mul_(factor).add_((1 - factor) * other).clamp_(0, 1)


def adjust_brightness_(images: Tensor, factor: Tensor) -> Tensor:
    """Scale towards black by ``factor`` [N], in place."""
    return images.mul_(factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_contrast_(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with each image's mean luma by ``factor`` [N], in place."""
    return _blend_(images, greyscale(images).mean((1, 2, 3), keepdim=True), factor)


def adjust_saturation_(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with each pixel's luma by ``factor`` [N], in place."""
    return _blend_(images, greyscale(images), factor)


def adjust_hue_(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` [N] in [−0.5, 0.5] of the colour circle, in place; value and saturation (HSV) stay."""
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - low
    # sign() and lerp() choose the branch of the maximal channel: on a CPU they are vectorised, where() is not.
    not_red, not_green = (value - red).sign_(), (value - green).sign_()
    sector = torch.lerp(2 * chroma + blue - red, 4 * chroma + red - green, not_green)
    sector = torch.lerp(green - blue, sector, not_red)
    hue = sector.div_(chroma.clamp(min=1e-8))  # a grey pixel has no hue: it gets one, times a chroma of nought
    hue += 6 * shift.view(-1, 1, 1)
    hue -= 6 * (hue / 6).floor_()
    # Each channel is a trapezium in the hue, which is now in units of 60° within [0, 6].
    torch.addcmul(low, chroma, (hue - 3).abs_().sub_(1).clamp_(0, 1), out=red)
    torch.addcmul(low, chroma, (hue - 2).abs_().neg_().add_(2).clamp_(0, 1), out=green)
    torch.addcmul(low, chroma, (hue - 4).abs_().neg_().add_(2).clamp_(0, 1), out=blue)
    return images


Adjustment = Callable[[Tensor, Tensor], Tensor]


def _in_random_order_(images: Tensor, adjustments: dict[Adjustment, Tensor], order: random.Random) -> None:
    """Apply every adjustment in place, each order to an equal share of the (shuffled) images.

    The first adjustment is dealt out over contiguous shares, and so on down: no gathering, no masks.
    """
    first = list(adjustments)
    order.shuffle(first)  # where shares can't be equal, no order is favoured
    starts = [round(i * len(images) / len(first)) for i in range(len(first) + 1)]
    for adjust, start, stop in zip(first, starts, starts[1:], strict=False):
        if start == stop:
            continue
        share = images[start:stop]
        adjust(share, adjustments[adjust][start:stop])
        rest = {other: factor[start:stop] for other, factor in adjustments.items() if other is not adjust}
        if rest:
            _in_random_order_(share, rest, order)


def color_jitter(
    images: Tensor,
    *,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    probability: float = 1.0,
    per_batch: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Brightness, contrast, saturation and hue changed in an order and by factors drawn per sample.

    Factors are uniform in [max(0, 1 − strength), 1 + strength], the hue shift in [−hue, hue], as torchvision's
    ColorJitter has them; ``probability`` is per sample. One-channel images keep saturation and hue. With ``per_batch``
    everything is drawn once for all images.
    """
    expect(images.shape[1] in (1, 3), "images", "1 or 3 channels", f"{images.shape[1]} channels")
    expect(0 <= hue <= 0.5, "hue", "a value in [0, 0.5]", hue)
    n = 1 if per_batch else len(images)
    hit = torch.rand(n, device=images.device, generator=generator) < probability
    factors = {}
    strengths = {adjust_brightness_: brightness, adjust_contrast_: contrast, adjust_saturation_: saturation}
    for adjust, strength in strengths.items():
        expect(strength >= 0, adjust.__name__.split("_")[1], "a value of at least 0", strength)
        factor = _uniform(n, max(0.0, 1 - strength), 1 + strength, images, generator)
        factors[adjust] = torch.where(hit, factor, 1.0)
    factors[adjust_hue_] = torch.where(hit, _uniform(n, -hue, hue, images, generator), 0.0)
    if images.shape[1] == 1:
        del factors[adjust_saturation_], factors[adjust_hue_]
    shuffled = torch.randperm(n, device=images.device, generator=generator)
    order = random.Random(int(torch.randint(2**31, (), device=images.device, generator=generator)))
    if per_batch:
        out = images.clone()
        for adjust in order.sample(list(factors), len(factors)):
            adjust(out, factors[adjust].expand(len(images)))
        return out
    out = images.index_select(0, shuffled)
    _in_random_order_(out, {adjust: factor[shuffled] for adjust, factor in factors.items()}, order)
    return out.index_select(0, shuffled.argsort())


def _hits(images: Tensor, probability: float, generator: torch.Generator | None, per_batch: bool = False) -> Tensor:
    """Which images [N] are changed: each by its own draw, or all by one."""
    draws = torch.rand(1 if per_batch else len(images), device=images.device, generator=generator)
    return (draws < probability).expand(len(images))


def random_greyscale_(
    images: Tensor, probability: float, generator: torch.Generator | None = None, *, per_batch: bool = False
) -> Tensor:
    """Each image replaced by its luma, in all channels, with the given probability; in place."""
    hit = _hits(images, probability, generator, per_batch)
    return images.lerp_(greyscale(images), hit.to(images.dtype).view(-1, 1, 1, 1))


def default_kernel_size(side: int) -> int:
    """Width in pixels of the blur for images of this side: a tenth of it, made odd, at least 3.

    Source: Chen et al. 2020 (SimCLR), appendix A.
    """
    return max(3, side // 10 | 1)


def gaussian_blur(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Images [N,C,H,W] blurred by Gaussians of standard deviation ``sigma`` [N] > 0 in pixels, as torchvision does it.

    The kernel has ``kernel_size`` taps per axis and the images are mirrored at their edges. ``ValueError`` for an even
    kernel, one that reaches beyond the mirror image, or another shape of ``sigma``.
    """
    n, _, height, width = images.shape
    expect(kernel_size % 2 == 1 and kernel_size > 0, "kernel_size", "an odd positive number", kernel_size)
    reach = kernel_size // 2
    expect(reach < min(height, width), "kernel_size", f"at most {2 * min(height, width) - 1}", kernel_size)
    expect_shape(sigma, "sigma", n)
    taps = torch.arange(reach + 1, device=images.device, dtype=images.dtype)
    weight = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)
    weight = weight / (2 * weight.sum(1, keepdim=True) - 1)  # the middle tap, which is 1, counts once
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    for part, taps, target in zip(*(t.split(chunk_size(images)) for t in (images, weight, out)), strict=True):
        padded = F.pad(part, (reach,) * 4, mode="reflect")
        _blur_axis(_blur_axis(padded, taps, 3), taps, 2, out=target)
    return out


def _blur_axis(images: Tensor, weight: Tensor, axis: int, out: Tensor | None = None) -> Tensor:
    """Weighted sum of shifted images along one axis; weights [N,taps] from the middle tap outwards, symmetric.

    For the few taps of small images this is faster than convolutions that differ per sample, or than banded matrices.
    """
    reach = weight.shape[1] - 1
    length = images.shape[axis] - 2 * reach
    weight = weight[:, :, None, None, None]
    out = torch.mul(images.narrow(axis, reach, length), weight[:, 0], out=out)
    for tap in range(1, reach + 1):
        pair = images.narrow(axis, reach - tap, length) + images.narrow(axis, reach + tap, length)
        out.addcmul_(pair, weight[:, tap])
    return out


def random_gaussian_blur(
    images: Tensor,
    probability: float,
    *,
    sigma: tuple[float, float] = (0.1, 2.0),
    kernel_size: int | None = None,
    per_batch: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Each image blurred with the given probability, by a standard deviation drawn uniformly from ``sigma``.

    ``kernel_size`` None takes SimCLR's (``default_kernel_size`` of the shorter side). Only the images that are hit are
    worked on.
    """
    expect(0 <= probability <= 1, "probability", "a value in [0, 1]", probability)
    expect(0 < sigma[0] <= sigma[1], "sigma", "0 < low <= high", sigma)
    hit = _hits(images, probability, generator, per_batch)
    strength = _uniform(1 if per_batch else len(images), *sigma, images, generator).expand(len(images))
    index = hit.nonzero().squeeze(1)
    kernel_size = kernel_size or default_kernel_size(min(images.shape[2:]))
    return images.index_copy(0, index, gaussian_blur(images[index], strength[index], kernel_size))


def solarize_(images: Tensor, threshold: Tensor | float = 0.5) -> Tensor:
    """Invert the values that reach the threshold (one, or one per image: [N]), in place.

    An image with a threshold above 1 stays as it is.
    """
    if isinstance(threshold, Tensor):
        threshold = threshold.view(-1, 1, 1, 1)
    inverted = torch.ge(images, threshold, out=torch.empty_like(images))
    return images.sub_(inverted).abs_()  # x − 1 without its sign is 1 − x; vectorised on a CPU, unlike where()


def random_solarize_(
    images: Tensor,
    probability: float,
    generator: torch.Generator | None = None,
    *,
    threshold: float = 0.5,
    per_batch: bool = False,
) -> Tensor:
    """Each image solarised with the given probability; in place."""
    expect(0 <= probability <= 1, "probability", "a value in [0, 1]", probability)
    hit = _hits(images, probability, generator, per_batch)
    return solarize_(images, torch.where(hit, threshold, 2.0))


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
        draws, together = 1 if self.per_batch else n, {"per_batch": self.per_batch}
        boxes = crop_boxes(draws, height, width, scale=self.scale, ratio=self.ratio, device=device, generator=generator)
        boxes, flip = boxes.expand(n, -1), _hits(images, self.flip, generator, self.per_batch)
        view = _cropped(images, boxes, self.size or height, flip)
        if self.jitter is not None:
            names = ("brightness", "contrast", "saturation", "hue")
            strengths = dict(zip(names, self.jitter, strict=True))
            strengths |= {"probability": self.jitter_probability} | together
            view = color_jitter(view, **strengths, generator=generator)
        if self.greyscale and channels == 3:
            random_greyscale_(view, self.greyscale, generator, **together)
        if self.blur:
            view = random_gaussian_blur(view, self.blur, sigma=self.blur_sigma, **together, generator=generator)
        if self.solarize:
            random_solarize_(view, self.solarize, generator, **together)
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


def _cropped(images: Tensor, boxes: Tensor, size: int, flip: Tensor) -> Tensor:
    """Crops of uint8 images as floats in [0, 1]; on a CPU a few at a time, to stay in its cache."""
    out = torch.empty(*images.shape[:2], size, size, device=images.device)
    chunk = chunk_size(images)
    for part, box, mirrored, target in zip(*(t.split(chunk) for t in (images, boxes, flip, out)), strict=True):
        target.copy_(resized_crop(part.float().div_(255), box, size, flip=mirrored))
    return out


def _describe(images: Tensor) -> str:
    return f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}"
