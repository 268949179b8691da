"""What becomes of the pixels of each kind of picture, and which files are refused by name."""

import io
import os
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from sslnb.data import pictures
from sslnb.data.pictures import Picture


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(image: Image.Image, form: str = "PNG", **options: object) -> np.ndarray:
    """[H,W,3] after a turn through a file."""
    return pictures.read(Picture("x", encoded(image, form, **options)), None).transpose(1, 2, 0)


def grey16(*values: int) -> Image.Image:
    return Image.fromarray(np.array([values], np.uint16))


def palette(**options: object) -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    return image


RED, BLUE, WHITE, BLACK = [255, 0, 0], [0, 0, 255], [255] * 3, [0] * 3


@pytest.mark.parametrize(
    ("image", "form", "options", "wanted"),
    [
        (grey16(0, 300, 40_000, 65_535), "PNG", {}, [[v] * 3 for v in (0, 1, 156, 255)]),
        (grey16(0, 300, 40_000, 65_535), "TIFF", {}, [[v] * 3 for v in (0, 1, 156, 255)]),
        (grey16(0, 300, 40_000, 65_535), "PPM", {}, [[v] * 3 for v in (0, 1, 156, 255)]),
        (grey16(0, 300), "PNG", {"transparency": 0}, [WHITE, [1] * 3]),
        (palette(), "PNG", {}, [RED, BLUE]),
        (palette(), "PNG", {"transparency": 1}, [RED, WHITE]),
        (palette(), "PNG", {"transparency": b"\xff\x00"}, [RED, WHITE]),
        (palette(), "GIF", {"transparency": 0}, [WHITE, BLUE]),
        (Image.new("RGB", (1, 1), "red"), "PNG", {"transparency": (255, 0, 0)}, [WHITE]),
        (Image.new("RGBA", (1, 1), (255, 0, 0, 255)), "PNG", {}, [RED]),
        (Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "PNG", {}, [WHITE]),
        (Image.new("RGBA", (1, 1), (0, 0, 0, 128)), "PNG", {}, [[127] * 3]),
        (Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "WEBP", {"lossless": True}, [WHITE]),
        (Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "TIFF", {}, [WHITE]),
        (Image.new("LA", (1, 1), (0, 0)), "PNG", {}, [WHITE]),
        (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF", {}, [RED]),
        (Image.new("CMYK", (1, 1), (0, 0, 0, 255)), "JPEG", {}, [BLACK]),
        (Image.new("1", (1, 1), 1), "PNG", {}, [WHITE]),
        (Image.new("1", (1, 1), 0), "PPM", {}, [BLACK]),
        (Image.new("L", (1, 1), 7), "BMP", {}, [[7] * 3]),
    ],
)
def test_every_kind_of_pixel_becomes_rgb_as_the_documentation_says(image, form, options, wanted):
    assert pixels(image, form, **options)[0].tolist() == wanted


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_pictures_are_turned_as_exif_says(form, orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255
    stored = np.rot90(upright, {1: 0, 3: 2, 6: 1, 8: 3}[orientation])  # 6: the camera lay on its side
    exif = Image.Exif()
    exif[0x112] = orientation
    turned = pixels(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif)
    assert turned.shape == upright.shape and np.abs(turned.astype(int) - upright).mean() < 9


def test_of_an_animation_the_first_frame_is_read_and_pages_are_refused():
    frames = [Image.new("L", (3, 3), shade) for shade in (0, 255)]
    for form in ("GIF", "WEBP", "PNG"):
        assert pixels(frames[0], form, save_all=True, append_images=frames[1:]).max() < 3
    with pytest.raises(ValueError, match=r"^x: expected one picture per file, got a TIFF of 2 pages$"):
        pixels(frames[0], "TIFF", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_white_are_refused_rather_than_clipped(mode):
    with pytest.raises(ValueError, match=f"^x: expected 8 or 16 bits per channel, got mode {mode}"):
        pixels(Image.new(mode, (2, 2)), "TIFF")


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


NOISE = Image.effect_noise((40, 40), 90)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a picture",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",  # would start Ghostscript
        *(
            encoded(NOISE, form) for form in ("ICO", "TGA", "PDF")
        ),  # Pillow knows them: what is no photograph is not tried
        png_header(20_000, 20_000),
        b"P6 20000 20000 255\n",
        *(encoded(NOISE, form)[:-600] for form in ("PNG", "JPEG", "BMP", "WEBP", "AVIF")),
        *(encoded(NOISE, form)[:9] for form in ("PNG", "JPEG", "GIF", "TIFF")),
        encoded(NOISE)[:20] + b"\xff\xff" + encoded(NOISE)[22:],
    ],
    ids=range(18),
)
def test_bytes_that_are_no_whole_picture_are_refused_by_name(content):
    with pytest.raises(ValueError, match=r"^a/b\.png: expected a readable picture.*, got [^\n]+$"):
        pictures.read(Picture("a/b.png", content), None)


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.png: expected a readable picture, got .*No such file"):
        pictures.decoded("x", [Picture.at(tmp_path / "gone.png")], tmp_path, None)


def test_avif_and_heic_are_either_read_or_named_as_not_read():
    for suffix in (".avif", ".heic", ".heif"):
        assert (suffix in pictures.suffixes()) != (suffix in pictures.unsupported())
    assert {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"} < set(pictures.suffixes())
    assert {".ppm", ".pgm", ".pbm"} < set(pictures.suffixes())


def write(path, shade: int) -> os.stat_result:
    Image.new("L", (4, 4), shade).save(path)
    os.utime(path, (1, 1))
    return path.stat()


def test_a_picture_replaced_by_one_of_the_same_size_and_time_is_noticed(tmp_path):
    file = tmp_path / "a.bmp"
    before = write(file, 10)
    assert pictures.decoded("x", [Picture.at(file)], tmp_path, None).unique().tolist() == [10]
    after = write(file, 20)
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    assert pictures.decoded("x", [Picture.at(file)], tmp_path, None).unique().tolist() == [20]


def test_what_was_decoded_serves_the_same_pictures_elsewhere_but_no_other_order(tmp_path, monkeypatch):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for shade in (10, 20):
            write(tmp_path / folder / f"{shade}.bmp", shade)
    one, two = ([Picture.at(tmp_path / f / f"{s}.bmp") for s in (10, 20)] for f in ("one", "two"))
    first = pictures.decoded("x", one, tmp_path, None)
    assert pictures.decoded("x", one[::-1], tmp_path, None)[:, 0, 0, 0].tolist() == [20, 10]
    monkeypatch.setattr(pictures, "decode", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(pictures.decoded("x", two, tmp_path, None), first)
