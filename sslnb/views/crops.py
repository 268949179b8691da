"""Random crops of whole batches: boxes drawn per image, resampled in one product."""

import math

import torch
from torch import Tensor

from sslnb.core.checks import expect
from sslnb.views.chunks import chunk_size


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


def cropped(images: Tensor, boxes: Tensor, size: int, flip: Tensor) -> Tensor:
    """Crops of uint8 images as floats in [0, 1]; on a CPU a few at a time, to stay in its cache."""
    out = torch.empty(*images.shape[:2], size, size, device=images.device)
    chunk = chunk_size(images)
    for part, box, mirrored, target in zip(*(t.split(chunk) for t in (images, boxes, flip, out)), strict=True):
        target.copy_(resized_crop(part.float().div_(255), box, size, flip=mirrored))
    return out
