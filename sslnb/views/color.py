"""Random views of a whole batch at once, on the batch's own device, with parameters drawn per sample.

Each transform has the distribution of torchvision's transform of the same name (same parameters, same marginals),
checked in the tests. Images are float [N,C,H,W] in [0, 1] unless said.
"""

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sslnb.core.checks import expect, expect_shape
from sslnb.views.chunks import chunk_size

GREY = (0.299, 0.587, 0.114)  # ITU-R 601-2 luma, torchvision's greyscale


def _uniform(n: int, low: float, high: float, like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.empty(n, device=like.device).uniform_(low, high, generator=generator)


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


def hits(images: Tensor, probability: float, generator: torch.Generator | None, per_batch: bool = False) -> Tensor:
    """Which images [N] are changed: each by its own draw, or all by one."""
    draws = torch.rand(1 if per_batch else len(images), device=images.device, generator=generator)
    return (draws < probability).expand(len(images))


def random_greyscale_(
    images: Tensor, probability: float, generator: torch.Generator | None = None, *, per_batch: bool = False
) -> Tensor:
    """Each image replaced by its luma, in all channels, with the given probability; in place."""
    hit = hits(images, probability, generator, per_batch)
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
    hit = hits(images, probability, generator, per_batch)
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
    hit = hits(images, probability, generator, per_batch)
    return solarize_(images, torch.where(hit, threshold, 2.0))
