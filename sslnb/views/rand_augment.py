"""RandAugment (Cubuk et al. 2020, arXiv 1909.13719): a few operations per image, drawn out of fourteen.

The operations, their strengths and signs are those of torchvision's transform of the same name. Images are float
[N,C,H,W] in [0, 1] with 1 or 3 channels; what is only defined on bytes (posterize, equalize) counts in levels of 1/255.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sslnb.core.checks import expect, expect_labels, expect_shape
from sslnb.views.color import adjust_brightness_, adjust_contrast_, adjust_saturation_, solarize_

# In the order of torchvision; the five after the first are geometric, the nine after the first go both ways.
OPERATIONS = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast"),
    *("Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
)
GEOMETRIC, SIGNED = range(1, 6), range(1, 10)


def rand_augment(
    images: Tensor,
    *,
    num_ops: int = 2,
    magnitude: int = 9,
    num_magnitude_bins: int = 31,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Each image [N,C,H,W] changed by ``num_ops`` operations of its own, one after another.

    Operations are drawn uniformly and with replacement, signs by a fair coin; the strength is the same for all, number
    ``magnitude`` of ``num_magnitude_bins`` from none to the strongest (from 0). ``ValueError`` for images that are not
    floats with 1 or 3 channels and for a magnitude out of range.
    """
    expect(num_ops >= 0, "num_ops", "a value of at least 0", num_ops)
    shape, device = (num_ops, len(images)), images.device
    table = torch.tensor(list(strengths(magnitude, num_magnitude_bins, *images.shape[2:]).values()), device=device)
    operations = torch.randint(len(OPERATIONS), shape, device=device, generator=generator)
    negative = torch.rand(shape, device=device, generator=generator) < 0.5
    negative &= (operations >= SIGNED.start) & (operations < SIGNED.stop)
    magnitudes = torch.where(negative, -table[operations], table[operations])
    out = images if num_ops else images.clone()
    for operation, strength in zip(operations, magnitudes, strict=True):
        out = apply_operations(out, operation, strength)
    return out


def strengths(magnitude: int, num_magnitude_bins: int, height: int, width: int) -> dict[str, float]:
    """What a magnitude means for every operation, in torchvision's units; 0 where it has no meaning.

    Shear as a ratio, translation in pixels, rotation in degrees, a factor's distance from 1, bits, a threshold.
    """
    bins = num_magnitude_bins
    expect(bins >= 2, "num_magnitude_bins", "a value of at least 2", bins)
    expect(0 <= magnitude < bins, "magnitude", f"a value in 0..{bins - 1}", magnitude)
    ends = {"ShearX": 0.3, "ShearY": 0.3, "TranslateX": 150 / 331 * width, "TranslateY": 150 / 331 * height}
    ends |= {"Rotate": 30.0, "Brightness": 0.9, "Color": 0.9, "Contrast": 0.9, "Sharpness": 0.9}
    out = {name: float(torch.linspace(0.0, ends.get(name, 0.0), bins)[magnitude]) for name in OPERATIONS}
    out |= {name: float(int(out[name])) for name in ("TranslateX", "TranslateY")}
    out["Posterize"] = 8.0 - round(magnitude / ((bins - 1) / 4))
    out["Solarize"] = float(torch.linspace(1.0, 0.0, bins)[magnitude])
    return out


def apply_operations(images: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    """Each image changed by its own operation: [N] indices into ``OPERATIONS``, [N] strengths as in ``strengths``.

    The images are sorted by operation, so that each works on one slice, and the geometric ones on one together.
    ``ValueError`` for images that are not floats with 1 or 3 channels, and for other operations or shapes.
    """
    n, channels, _, _ = images.shape
    expect(images.is_floating_point(), "images", "a float tensor", f"dtype {images.dtype}")
    expect(channels in (1, 3), "images", "1 or 3 channels", f"{channels} channels")
    expect_shape(operation, "operation", n)
    expect_shape(strength, "strength", n)
    expect_labels(operation, len(OPERATIONS), "operation")
    order = operation.argsort()
    work, strength, operation = images.index_select(0, order), strength[order], operation[order]
    starts = [0, *torch.bincount(operation, minlength=len(OPERATIONS)).cumsum(0).tolist()]
    moved = slice(starts[GEOMETRIC.start], starts[GEOMETRIC.stop])
    work[moved] = _resampled(work[moved], _inverse_maps(operation[moved], strength[moved], *images.shape[2:]))
    for name, change_ in COLOUR.items():
        i = OPERATIONS.index(name)
        if starts[i] < starts[i + 1]:
            share = slice(starts[i], starts[i + 1])
            change_(work[share], strength[share])
    return torch.empty_like(work).index_copy_(0, order, work)


def _inverse_maps(operation: Tensor, strength: Tensor, height: int, width: int) -> Tensor:
    """Matrices [N,2,3] from a pixel to its source, in pixels from the image's centre, of geometric operations.

    Shears leave the upper left corner in its place, as torchvision's RandAugment has them.
    """
    strength = strength.double()  # float32 would put some pixels on the other side of an edge

    def of(name: str) -> Tensor:
        return torch.where(operation == OPERATIONS.index(name), strength, 0.0)

    shear_x, shear_y, turn = of("ShearX"), of("ShearY"), of("Rotate").deg2rad()
    x = [turn.cos(), shear_x - turn.sin(), shear_x * height / 2 - of("TranslateX")]
    y = [shear_y + turn.sin(), turn.cos(), shear_y * width / 2 - of("TranslateY")]
    return torch.stack([torch.stack(x, 1), torch.stack(y, 1)], 1)


def _resampled(images: Tensor, maps: Tensor) -> Tensor:
    """Images whose pixels are the nearest to their sources; black where the source lies outside."""
    height, width = images.shape[2:]
    maps = maps.to(images.dtype)[..., None, None]  # N×2×3×1×1
    y = torch.arange(height, device=images.device, dtype=images.dtype)[:, None] - (height - 1) / 2
    x = torch.arange(width, device=images.device, dtype=images.dtype) - (width - 1) / 2
    source = maps[:, :, 0] * x + maps[:, :, 1] * y + maps[:, :, 2]  # no matrix product, which may round to TF32
    grid = torch.stack([source[:, 0] / (0.5 * width), source[:, 1] / (0.5 * height)], 3)
    return F.grid_sample(images, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def adjust_sharpness_(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with a smoothed image by ``factor`` [N], in place; the outermost pixels stay, as in Pillow."""
    if min(images.shape[2:]) <= 2:
        return images
    inner = images[:, :, 1:-1, 1:-1]
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    smooth = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]).add_(inner, alpha=4).div_(13)
    factor = factor.view(-1, 1, 1, 1)
    inner.mul_(factor).add_(smooth.mul_(1 - factor)).clamp_(0, 1)
    return images


def _levels(images: Tensor) -> Tensor:
    """Bytes as floats: torchvision's conversion of [0, 1] to uint8."""
    return (images * (256 - 1e-3)).floor_()


def posterize_(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest ``bits`` [N] of each byte, in place."""
    step = torch.exp2(8 - bits).view(-1, 1, 1, 1)
    return images.copy_(_levels(images).div_(step).floor_().mul_(step).div_(255))


def autocontrast_(images: Tensor) -> Tensor:
    """Stretch each channel of each image to [0, 1], in place; a constant one stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = high == low
    images.sub_(low.masked_fill(flat, 0)).div_((high - low).masked_fill(flat, 1))
    return images.clamp_(0, 1)


def equalize_(images: Tensor) -> Tensor:
    """Flatten the histogram of each channel of each image, in place, as Pillow does it on bytes."""
    levels = _levels(images).long().flatten(0, 1).flatten(1)  # NC×HW
    counts = levels.new_zeros(len(levels), 256).scatter_add_(1, levels, torch.ones_like(levels))
    brightest = counts.gather(1, levels.amax(1, keepdim=True))
    step = (levels.shape[1] - brightest) // 255
    below = counts.cumsum(1) - counts
    equalized = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255).gather(1, levels)
    equalized = torch.where(step > 0, equalized, levels)  # too few pixels to spread: left alone
    return images.copy_(equalized.view(images.shape)).div_(255)


def _saturate_(images: Tensor, factor: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else adjust_saturation_(images, factor)


COLOUR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Brightness": lambda images, strength: adjust_brightness_(images, 1 + strength),
    "Color": lambda images, strength: _saturate_(images, 1 + strength),
    "Contrast": lambda images, strength: adjust_contrast_(images, 1 + strength),
    "Sharpness": lambda images, strength: adjust_sharpness_(images, 1 + strength),
    "Posterize": posterize_,
    "Solarize": solarize_,
    "AutoContrast": lambda images, strength: autocontrast_(images),
    "Equalize": lambda images, strength: equalize_(images),
}
