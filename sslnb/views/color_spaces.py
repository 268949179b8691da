"""Colour spaces other than RGB, for views that split luminance from colour. Whole batches, on their own device.

RGB is float [N,3,H,W] in [0, 1] with the transfer curve of sRGB.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_shape
from sslnb.views.chunks import chunk_size
from sslnb.views.color import GREY

# Linear RGB to XYZ: IEC 61966-2-1 with white D65, to seven digits. The rows' sums are white's own X, Y and Z.
RGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
RGB_TO_YDBDR = (GREY, (-0.450, -0.883, 1.333), (-1.333, 1.116, 0.217))  # SECAM
KINK = 6 / 29  # CIE 1976: below it, the cube root is replaced by a straight line


def rgb_to_lab(images: Tensor) -> Tensor:
    """CIELAB [N,3,H,W] of RGB images: L in [0, 100], a in about [−86, 98], b in about [−108, 94]; white is D65.

    ``ValueError`` for other than three channels or whole numbers. Source: IEC 61966-2-1 and CIE 1976; views L and ab as
    in Tian, Krishnan and Isola 2020 (CMC), section 4.
    """
    return _in_chunks(_lab, images)


def _lab(images: Tensor) -> Tensor:
    curved = ((images + 0.055) / 1.055).clamp_(min=0).pow_(2.4)
    linear = _above(0.04045, images, curved, images / 12.92)
    f = _mixed(linear, _to_white())
    line = f / (3 * KINK**2) + 4 / 29
    x, y, z = _above(KINK**3, f, f.clamp(min=KINK**3).pow_(1 / 3), line).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def lab_to_rgb(images: Tensor) -> Tensor:
    """The inverse of ``rgb_to_lab``; colours that RGB lacks are cut to [0, 1]."""
    return _in_chunks(_from_lab, images)


def _from_lab(images: Tensor) -> Tensor:
    lightness, a, b = images.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], 1)
    linear = _mixed(_above(KINK, f, f**3, 3 * KINK**2 * (f - 4 / 29)), _to_white().inverse())
    curved = 1.055 * linear.clamp(min=0).pow_(1 / 2.4) - 0.055
    return _above(0.04045 / 12.92, linear, curved, 12.92 * linear).clamp_(0, 1)


def rgb_to_ydbdr(images: Tensor) -> Tensor:
    """YDbDr [N,3,H,W] of RGB images: luma in [0, 1], the colour differences in [−1.333, 1.333].

    ``ValueError`` for other than three channels or whole numbers. Source: the SECAM standard; views Y and DbDr as in
    Tian et al. 2020 (What makes for good views for contrastive learning), section 4.
    """
    return _in_chunks(_ydbdr, images)


def _ydbdr(images: Tensor) -> Tensor:
    return _mixed(images, torch.tensor(RGB_TO_YDBDR, dtype=torch.float64))


def _to_white() -> Tensor:
    """Linear RGB to XYZ in units of white's: every row sums to 1, so that greys stay exactly grey."""
    matrix = torch.tensor(RGB_TO_XYZ, dtype=torch.float64)
    return matrix / matrix.sum(1, keepdim=True)


def _mixed(images: Tensor, matrix: Tensor) -> Tensor:
    """Channels mixed by a 3×3 matrix, as plain sums: no matrix product, which would round to TF32 on some devices."""
    channels = images.unbind(1)
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    for target, weights in zip(out.unbind(1), matrix.tolist(), strict=True):
        torch.mul(channels[0], weights[0], out=target)
        for channel, weight in zip(channels[1:], weights[1:], strict=True):
            target.add_(channel, alpha=weight)
    return out


def _above(threshold: float, values: Tensor, high: Tensor, low: Tensor) -> Tensor:
    """``high`` where the values are above the threshold, else ``low``; vectorised on a CPU, unlike where()."""
    return torch.lerp(low, high, torch.gt(values, threshold, out=torch.empty_like(values)))


def _in_chunks(convert: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    expect(images.is_floating_point(), "images", "a float tensor", f"dtype {images.dtype}")
    expect_shape(images, "images", "N", 3, "H", "W")
    return torch.cat([convert(part) for part in images.split(chunk_size(images))])
