import math

import pytest
import torch
from torch import Tensor

from sslnb.views.color_spaces import lab_to_rgb, rgb_to_lab, rgb_to_ydbdr

# Published CIELAB values (D65, 2°) of sRGB colours, to two digits
KNOWN = {
    (0.0, 0.0, 0.0): (0.0, 0.0, 0.0),
    (1.0, 1.0, 1.0): (100.0, 0.0, 0.0),
    (0.5, 0.5, 0.5): (53.39, 0.0, 0.0),
    (1.0, 0.0, 0.0): (53.24, 80.09, 67.20),
    (0.0, 1.0, 0.0): (87.73, -86.18, 83.18),
    (0.0, 0.0, 1.0): (32.30, 79.19, -107.86),
    (1.0, 1.0, 0.0): (97.14, -21.55, 94.48),
    (0.0, 1.0, 1.0): (91.11, -48.09, -14.13),
    (1.0, 0.0, 1.0): (60.32, 98.23, -60.82),
}


def noise(n: int, height: int = 6, width: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(n), dtype=dtype)


def colours(*values: tuple[float, float, float]) -> Tensor:
    """One image [1,3,1,len] with the given pixels."""
    return torch.tensor(values).T.reshape(1, 3, 1, -1)


def lab_of(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """One pixel, step by step as the standards write it."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue))
    x = (0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047
    y = 0.2126729 * r + 0.7151522 * g + 0.0721750 * b
    z = (0.0193339 * r + 0.1191920 * g + 0.9503041 * b) / 1.08883

    def f(t: float) -> float:
        return math.cbrt(t) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29

    return 116 * f(y) - 16, 500 * (f(x) - f(y)), 200 * (f(y) - f(z))


def test_known_colours_have_their_published_lab_values():
    found = rgb_to_lab(colours(*KNOWN))
    torch.testing.assert_close(found, colours(*KNOWN.values()), atol=0.006, rtol=0)


@pytest.mark.parametrize("darkening", [1.0, 0.05])  # the second is on the straight parts of both curves
def test_lab_is_the_standards_formula_in_every_pixel(darkening):
    images = noise(3, dtype=torch.float64) * darkening
    before = images.clone()
    found = rgb_to_lab(images)
    assert torch.equal(images, before) and found.shape == images.shape and found.dtype == torch.float64
    for image, lab in zip(images.flatten(2), found.flatten(2), strict=True):
        expected = torch.tensor([lab_of(*pixel) for pixel in image.T.tolist()], dtype=torch.float64).T
        torch.testing.assert_close(lab, expected, atol=2e-5, rtol=0)  # ours has white of Y 1, not 1.0000001


def test_float32_loses_less_than_an_eye_can_see():
    images = noise(20, 16, 16)
    torch.testing.assert_close(rgb_to_lab(images).double(), rgb_to_lab(images.double()), atol=5e-4, rtol=0)


def test_greys_have_no_colour_and_a_rising_lightness():
    lightness, a, b = rgb_to_lab(torch.linspace(0, 1, 256).expand(1, 3, 1, -1))[0, :, 0]
    assert a.abs().max() < 1e-3 and b.abs().max() < 1e-3
    assert lightness[0].abs() < 1e-4 and (lightness[-1] - 100).abs() < 1e-4 and (lightness.diff() > 0).all()


def test_lab_stays_within_its_range():
    levels = torch.linspace(0, 1, 12)
    lab = rgb_to_lab(torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 12, 144))
    low, high = lab.amin((0, 2, 3)), lab.amax((0, 2, 3))
    torch.testing.assert_close(low, torch.tensor([0.0, -86.18, -107.86]), atol=0.01, rtol=0)
    torch.testing.assert_close(high, torch.tensor([100.0, 98.23, 94.48]), atol=0.01, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_back_and_forth_gives_the_same_colours(dtype):
    levels = torch.linspace(0, 1, 17, dtype=dtype) ** 2  # many dark ones, on the straight parts
    images = torch.cat(
        [noise(200, dtype=dtype).view(-1, 3, 1), torch.cartesian_prod(levels, levels, levels)[..., None]]
    )
    images = images[..., None]
    tolerance = 1e-5 if dtype == torch.float32 else 1e-6  # the two parts of sRGB's curve don't quite meet
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(images)), images, atol=tolerance, rtol=0)


def test_colours_that_rgb_lacks_are_cut():
    found = lab_to_rgb(colours((50.0, 127.0, 127.0), (120.0, 0.0, 0.0), (50.0, -128.0, -128.0), (-5.0, 0.0, 0.0)))
    assert found.min() == 0 and found.max() == 1 and found.isfinite().all()
    torch.testing.assert_close(found[..., 1], torch.ones(1, 3, 1))
    torch.testing.assert_close(found[..., 3], torch.zeros(1, 3, 1))


@pytest.mark.parametrize(
    ("rgb", "ydbdr"),
    [
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 1.0, 1.0), (1.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (0.299, -0.450, -1.333)),
        ((0.0, 1.0, 0.0), (0.587, -0.883, 1.116)),
        ((0.0, 0.0, 1.0), (0.114, 1.333, 0.217)),
    ],
)
def test_ydbdr_of_known_colours(rgb, ydbdr):
    torch.testing.assert_close(rgb_to_ydbdr(colours(rgb)), colours(ydbdr), atol=1e-6, rtol=0)


def test_ydbdr_is_the_luma_and_what_blue_and_red_differ_from_it():
    images = noise(4, dtype=torch.float64)
    y, db, dr = rgb_to_ydbdr(images).unbind(1)
    red, green, blue = images.unbind(1)
    torch.testing.assert_close(y, 0.299 * red + 0.587 * green + 0.114 * blue)
    torch.testing.assert_close(db, 1.505 * (blue - y), atol=2e-3, rtol=0)  # the standard's matrix has three digits
    torch.testing.assert_close(dr, -1.902 * (red - y), atol=2e-3, rtol=0)


@pytest.mark.parametrize("convert", [rgb_to_lab, lab_to_rgb, rgb_to_ydbdr])
def test_batches_longer_than_a_chunk_and_strided_ones_are_converted_alike(convert):
    images = noise(300)
    before, found = images.clone(), convert(images)
    assert torch.equal(images, before)
    for i in (0, 127, 128, 299):
        torch.testing.assert_close(found[i : i + 1], convert(images[i : i + 1]))
    torch.testing.assert_close(convert(images.contiguous(memory_format=torch.channels_last)), found)
    assert convert(images[:0]).shape == (0, 3, 6, 5)


@pytest.mark.parametrize("convert", [rgb_to_lab, lab_to_rgb, rgb_to_ydbdr])
def test_only_floats_of_three_channels_are_converted(convert):
    with pytest.raises(ValueError, match=r"images: expected shape \[N, 3, H, W\], got shape \[2, 1, 4, 4\]"):
        convert(torch.zeros(2, 1, 4, 4))
    with pytest.raises(ValueError, match=r"images: expected shape \[N, 3, H, W\], got shape \[3, 4, 4\]"):
        convert(torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match=r"images: expected a float tensor, got dtype torch\.uint8"):
        convert(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
