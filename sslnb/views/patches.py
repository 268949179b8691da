"""Rotated images and shuffled tiles: the inputs of pretext tasks. A whole batch at once, on its own device.

Images are [N,C,H,W] of any dtype: the pixels are moved, never computed with.
"""

import math

import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_labels, expect_shape


def rotations(images: Tensor) -> Tensor:
    """All four rotations [4N,C,H,W] of square images, by 0°, 90°, 180° and 270° counterclockwise.

    Rotation-major: first all N as they are, then all N by 90°, and so on; ``rotation_labels`` gives the classes.
    ``ValueError`` for images that are not square. Source: Gidaris et al. 2018 (RotNet), section 2.2.
    """
    _expect_square(images)
    return torch.cat([images, *(images.rot90(turns, (2, 3)) for turns in (1, 2, 3))])


def rotation_labels(n: int, device: torch.device | None = None) -> Tensor:
    """Quarter turns [4N], 0 to 3, of what ``rotations`` makes of N images."""
    return torch.arange(4, device=device).repeat_interleave(n)


def rotate90(images: Tensor, quarter_turns: Tensor) -> Tensor:
    """Square images, each turned counterclockwise by its own number of quarter turns: [N], integers 0 to 3.

    ``ValueError`` for images that are not square and for other numbers.
    """
    _expect_square(images)
    expect_shape(quarter_turns, "quarter_turns", len(images))
    expect_labels(quarter_turns, 4, "quarter_turns")
    out = images.clone(memory_format=torch.contiguous_format)
    for turns in (1, 2, 3):
        index = (quarter_turns == turns).nonzero().squeeze(1)
        out.index_copy_(0, index, images.index_select(0, index).rot90(turns, (2, 3)))
    return out


def jigsaw(
    images: Tensor, *, grid: int = 3, tile: int | None = None, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Each image cut into tiles and those shuffled: tiles [N,grid²,C,tile,tile], order [N,grid²].

    The middle of the image is divided into grid × grid square cells; every cell gives a crop of ``tile`` pixels (None:
    64/75 of the cell, as in the papers, rounded down) at a place of its own, so that no edge runs on from one tile to
    the next. Tile k shows the cell ``order[:, k]``, counted row by row; each order is an independent permutation.
    ``ValueError`` for a grid that is finer than the pixels and a tile larger than its cell.
    Source: Misra and van der Maaten 2020 (PIRL), section 3; Noroozi and Favaro 2016, section 3.
    """
    n, channels, height, width = images.shape
    expect(1 <= grid <= min(height, width), "grid", f"a value in 1..{min(height, width)}", grid)
    cell = min(height, width) // grid
    tile = max(1, cell * 64 // 75) if tile is None else tile
    expect(1 <= tile <= cell, "tile", f"a value in 1..{cell}, the side of a cell", tile)
    order = torch.rand(n, grid * grid, device=images.device, generator=generator).argsort(1)
    shift = torch.randint(cell - tile + 1, (2, n, grid * grid), device=images.device, generator=generator)
    top = (height - grid * cell) // 2 + cell * (order // grid) + shift[0]
    left = (width - grid * cell) // 2 + cell * (order % grid) + shift[1]
    inside = torch.arange(tile, device=images.device)
    pixel = (top * width + left)[:, :, None, None] + inside[:, None] * width + inside  # N×grid²×tile×tile
    pixel = pixel.flatten(1)[:, None].expand(-1, channels, -1)
    tiles = images.flatten(2).gather(2, pixel).view(n, channels, grid * grid, tile, tile)
    return tiles.transpose(1, 2).contiguous(), order


def joined(tiles: Tensor) -> Tensor:
    """Pictures [N,C,g·t,g·t] of tiles [N,g²,C,t,t], laid out row by row."""
    grid = math.isqrt(tiles.shape[1])
    rows = tiles.unflatten(1, (grid, grid)).permute(0, 3, 1, 4, 2, 5)  # N×C×g×t×g×t
    return rows.flatten(4, 5).flatten(2, 3)


def _expect_square(images: Tensor) -> None:
    expect(images.ndim == 4, "images", "[N,C,H,W]", f"shape {list(images.shape)}")
    expect(images.shape[2] == images.shape[3], "images", "square images", f"{images.shape[2]} × {images.shape[3]}")
