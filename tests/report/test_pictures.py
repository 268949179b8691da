"""Pictures on pages weigh little and look as they did."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from sslnb.report.pictures import light


def written(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def read(picture: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGBA"))


@pytest.fixture
def photograph() -> np.ndarray:
    """A picture with far more than 256 colours, its left half transparent."""
    y, x = np.mgrid[:128, :128]
    noise = np.random.default_rng(0).integers(0, 12, (128, 128, 4))
    pixels = (np.stack([x, y, 240 - x, np.full_like(x, 243)], axis=-1) + noise).astype(np.uint8)
    pixels[..., 3] = 255 * (x >= 64)
    return pixels


def test_what_is_transparent_stays_so_and_colours_stay_near(photograph: np.ndarray) -> None:
    picture = written(photograph)
    lighter = light(picture)
    assert len(lighter) < len(picture) / 2
    shown = read(lighter)
    assert (shown[..., 3] == photograph[..., 3]).all()
    off = shown[:, 64:].astype(float) - photograph[:, 64:]
    assert np.abs(off).mean() < 8


@pytest.mark.parametrize("on", ["white", "#121212"])
def test_a_ground_shows_where_the_picture_does_not(photograph: np.ndarray, on: str) -> None:
    shown = read(light(written(photograph), on=on))
    assert (shown[..., 3] == 255).all()
    ground = Image.new("RGB", (1, 1), on).getpixel((0, 0))
    assert np.abs(shown[:, :64, :3].astype(int) - ground).max() <= 8


def test_a_picture_that_would_grow_stays_as_it_is() -> None:
    picture = written(np.zeros((1, 1, 3), np.uint8))
    assert light(picture) == picture
