"""Picture files as RGB bytes: what is read, how, and what was decoded once kept for the next time."""

import contextlib
import dataclasses
import hashlib
import io
import json
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from sslnb.core import files
from sslnb.core.checks import expect
from sslnb.data import npz
from sslnb.data.images import Split, cover

# By Pillow's names. No other format is tried, whatever a file is called: EPS, for one, would start a program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "HEIF")
# fmt: off
_SUFFIXES = (  # of pictures that are read where Pillow can: AVIF depends on its build, HEIF on the package pillow-heif
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif",
)
_OTHER_PICTURES = (
    ".jp2", ".j2k", ".jxl", ".svg", ".ico", ".tga", ".psd", ".eps", ".exr", ".hdr", ".pfm", ".pcx", ".qoi", ".dcm",
    ".mpo", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw",
)
# fmt: on
_DECODER = 2  # part of the cache's key: count up when the same bytes come to give other pixels
MOST_PIXELS = 2**26  # of a picture: 200 MB decoded, where a damaged header may ask for all memory
_BITS_PER_SAMPLE = 258  # TIFF's tag


@dataclasses.dataclass(frozen=True)
class Picture:
    """An encoded picture, in a file of its own or as bytes; ``where`` names it in messages."""

    where: str
    content: Path | bytes

    @classmethod
    def at(cls, path: Path) -> "Picture":
        return cls(str(path), path)

    def digest(self) -> str:
        """Hexadecimal SHA-256 of the encoded bytes."""
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        try:
            return files.sha256(self.content)
        except OSError as error:
            raise ValueError(f"{self.where}: expected a readable picture, got {error}") from error


def suffixes() -> tuple[str, ...]:
    """Suffixes of the pictures that are read on this machine, in lower case."""
    readable = Image.registered_extensions()
    return tuple(s for s in _SUFFIXES if readable.get(s) in Image.OPEN)


def _formats() -> tuple[str, ...]:
    """Those of the formats that Pillow has a reader for."""
    Image.init()
    return tuple(f for f in FORMATS if f in Image.OPEN)


def unsupported() -> tuple[str, ...]:
    """Suffixes of pictures in formats that are not read on this machine."""
    return tuple(s for s in (*_SUFFIXES, *_OTHER_PICTURES) if s not in suffixes())


def split_of(
    stem: str, pictures: Sequence[Picture], labels: Tensor, classes: tuple[str, ...], root: Path, size: int | None
) -> Split:
    """A split whose pictures are decoded when it is read, and kept under ``<root>/.decoded``."""
    return Split(labels, classes, lambda at: (decoded(stem, [pictures[i] for i in at.tolist()], root, size), None))


def decoded(stem: str, pictures: Sequence[Picture], root: Path, size: int | None) -> Tensor:
    """Pixels [n,3,H,W] of pictures, from the cache if it was made from the same bytes in the same order."""
    with ThreadPoolExecutor() as pool:  # reading and hashing happen outside Python's lock
        digests = list(pool.map(Picture.digest, pictures))
    key = hashlib.sha256(json.dumps([PIL.__version__, _DECODER, size, digests]).encode()).hexdigest()[:16]
    cache = root / ".decoded" / f"{stem}-{size or 'native'}-{key}.npz"
    with contextlib.suppress(ValueError):  # absent or damaged: decode again
        return npz.read_images(cache, "images")
    images = decode(pictures, size)
    try:
        with files.atomic(cache) as partial:
            np.savez(partial, images=images.numpy())
    except OSError as error:
        warnings.warn(f"{stem}: decoded, but not kept for the next time ({error})", stacklevel=2)
    return images


def decode(pictures: Sequence[Picture], size: int | None) -> Tensor:
    """Pixels [n,3,H,W]; ``ValueError`` naming the first picture that can't be read or differs in size."""
    first = read(pictures[0], size).shape
    images = np.empty((len(pictures), *first), np.uint8)
    with ThreadPoolExecutor() as pool, contextlib.closing(pool.map(lambda p: read(p, size), pictures)) as arrays:
        for i, pixels in enumerate(tqdm(arrays, "decoding", len(pictures), leave=False, delay=1, unit="image")):
            wanted = f"the {first[2]}×{first[1]} px of {pictures[0].where} (or size=…, which brings all to one size)"
            expect(pixels.shape == first, pictures[i].where, wanted, f"{pixels.shape[2]}×{pixels.shape[1]} px")
            images[i] = pixels
    return torch.from_numpy(images)


def read(picture: Picture, size: int | None) -> np.ndarray:
    """One picture as uint8 [3,H,W], upright, on white where it is transparent, scaled as ``data.resize`` does.

    Of 16 bits the upper 8 are kept. Of an animation the first frame is read. Colour profiles are not applied. Raises
    ``ValueError`` naming a picture that is damaged, too large to be safe (:data:`MOST_PIXELS`), has several pages, or
    values without a defined white (32-bit integers, floats).
    """
    content = picture.content
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=_formats()) as image:
            problem = _problem(image)
            rgb = None if problem else _rgb(image)
    except PIL.UnidentifiedImageError as error:
        wanted = f"a readable picture ({', '.join(_formats())})"
        raise ValueError(f"{picture.where}: expected {wanted}, got other or damaged bytes") from error
    except Exception as error:  # Pillow lets all kinds through for damaged bytes: struct.error, IndexError, zlib.error
        raise ValueError(f"{picture.where}: expected a readable picture, got {str(error) or repr(error)}") from error
    expect(rgb is not None, picture.where, *(problem or ("", "")))
    if size is not None:
        height, width, top, left = cover(rgb.height, rgb.width, size)
        wanted = f"a picture of at most {MOST_PIXELS / 1e6:.0f} million pixels at size={size}"
        expect(height * width <= MOST_PIXELS, picture.where, wanted, f"{rgb.width}×{rgb.height}")
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
        rgb = rgb.crop((left, top, left + size, top + size))
    return np.asarray(rgb).transpose(2, 0, 1)


def _problem(image: Image.Image) -> tuple[str, str] | None:
    """What is expected of a picture, and what it has instead, if that can't be read without a guess."""
    if image.width * image.height > MOST_PIXELS:
        return f"at most {MOST_PIXELS / 1e6:.0f} million pixels", f"{image.width}×{image.height}"
    if image.format == "TIFF" and image.n_frames > 1:  # pages are pictures of their own, unlike an animation's frames
        return "one picture per file", f"a TIFF of {image.n_frames} pages"
    if image.mode[0] in "IF" and not _sixteen_bits(image):
        return "8 or 16 bits per channel", f"mode {image.mode} (32 bits, of which none is white)"
    return None


def _sixteen_bits(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I")  # Pillow scales PGM to 65535


def _rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB on white, turned as EXIF says."""
    bits = _bits(image)
    image = ImageOps.exif_transpose(image)
    if bits > 8:
        return _upper_byte(image, bits).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _bits(image: Image.Image) -> int:
    """Bits of a grey value; colours come from Pillow with their upper 8."""
    if not _sixteen_bits(image):
        return 8
    return image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0] if image.format == "TIFF" else 16


def _upper_byte(image: Image.Image, bits: int) -> Image.Image:
    """Grey of more than 8 bits as 8: Pillow's own conversion would clip at 255. A transparent value becomes white."""
    values = np.asarray(image).astype(np.int64)
    grey = values >> (bits - 8)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey.astype(np.uint8))
