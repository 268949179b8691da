import itertools

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from scipy import stats
from torch import Tensor

from sslnb.views.patches import jigsaw, joined, rotate90, rotation_labels, rotations


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distinct(n: int, channels: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Images in which no pixel has the value of another one."""
    return torch.arange(n * channels * height * width).view(n, channels, height, width).to(dtype)


# Rotations


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize(("n", "channels", "side"), [(5, 3, 8), (1, 1, 7), (4, 2, 1), (0, 3, 4)])
def test_all_four_rotations_are_those_of_torchvision_rotation_major(n, channels, side, dtype):
    images = distinct(n, channels, side, side).remainder(251).to(dtype)
    found, labels = rotations(images), rotation_labels(n)
    assert found.shape == (4 * n, channels, side, side) and found.dtype == dtype
    assert labels.tolist() == [0] * n + [1] * n + [2] * n + [3] * n
    for i, (turned, label) in enumerate(zip(found, labels.tolist(), strict=True)):
        assert torch.equal(turned, reference.rotate(images[i % n], 90.0 * label))


def test_rotations_turn_counterclockwise():
    image = torch.tensor([[1, 2], [3, 4]]).view(1, 1, 2, 2)
    assert rotations(image).flatten(1).tolist() == [[1, 2, 3, 4], [2, 4, 1, 3], [4, 3, 2, 1], [3, 1, 4, 2]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_each_image_is_turned_by_its_own_number_of_quarters(dtype):
    images = distinct(20, 3, 5, 5).remainder(251).to(dtype)
    before, turns = images.clone(), torch.randint(4, (20,), generator=seeded())
    found = rotate90(images, turns)
    assert torch.equal(images, before) and found.dtype == dtype
    for image, quarters, turned in zip(images, turns.tolist(), found, strict=True):
        assert torch.equal(turned, reference.rotate(image, 90.0 * quarters))
    assert torch.equal(rotate90(found, (4 - turns) % 4), images)
    assert torch.equal(rotations(images), rotate90(images.repeat(4, 1, 1, 1), rotation_labels(20)))
    strided = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(rotate90(strided, turns), found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rotations(torch.zeros(2, 3, 4, 5)), "images: expected square images, got 4 × 5"),
        (lambda: rotations(torch.zeros(3, 4, 4)), r"images: expected \[N,C,H,W\], got shape \[3, 4, 4\]"),
        (lambda: rotate90(torch.zeros(2, 3, 4, 5), torch.zeros(2).long()), "images: expected square images"),
        (lambda: rotate90(torch.zeros(2, 3, 4, 4), torch.zeros(3).long()), r"quarter_turns: expected shape \[2\]"),
        (lambda: rotate90(torch.zeros(2, 3, 4, 4), torch.zeros(2)), "quarter_turns: expected integers"),
        (lambda: rotate90(torch.zeros(1, 3, 4, 4), torch.tensor([4])), r"quarter_turns: expected values in 0\.\.3"),
        (lambda: rotate90(torch.zeros(1, 3, 4, 4), torch.tensor([-1])), r"quarter_turns: expected values in 0\.\.3"),
    ],
)
def test_what_can_not_be_turned_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Jigsaw


def places(tiles: Tensor, order: Tensor, side: tuple[int, int], grid: int) -> Tensor:
    """Where each tile of ``distinct`` one-channel images was cut: shifts [N,grid²,2] from its cell's corner.

    Checks on the way that it is one square piece of its own image, out of the cell that ``order`` says.
    """
    n, (height, width), tile = len(tiles), side, tiles.shape[-1]
    cell = min(side) // grid
    corner = tiles[:, :, 0, 0, 0].long() - height * width * torch.arange(n)[:, None]
    y, x = corner // width, corner % width
    inside = torch.arange(tile)
    piece = corner[..., None, None] + inside[:, None] * width + inside
    assert torch.equal(tiles[:, :, 0].long(), piece + height * width * torch.arange(n)[:, None, None, None])
    shift_y = y - (height - grid * cell) // 2 - cell * (order // grid)
    shift_x = x - (width - grid * cell) // 2 - cell * (order % grid)
    for shift in (shift_y, shift_x):
        assert shift.min() >= 0 and shift.max() <= cell - tile
    return torch.stack([shift_y, shift_x], 2)


@pytest.mark.parametrize(
    ("height", "width", "grid", "tile", "default"),
    [
        (32, 32, 3, None, 8),
        (225, 225, 3, None, 64),
        (20, 31, 2, 7, 8),
        (9, 9, 3, 3, 2),
        (5, 5, 5, None, 1),
        (6, 8, 1, 2, 5),
    ],
)
def test_tiles_are_pieces_of_the_cells_that_the_order_names(height, width, grid, tile, default):
    images = distinct(6, 1, height, width)
    before = images.clone()
    tiles, order = jigsaw(images, grid=grid, tile=tile, generator=seeded(1))
    side = default if tile is None else tile
    assert tiles.shape == (6, grid**2, 1, side, side) and tiles.is_contiguous()
    assert torch.equal(order.sort(1).values, torch.arange(grid**2).expand(6, -1))  # every cell exactly once
    places(tiles, order, (height, width), grid)
    assert torch.equal(images, before)


def test_whole_cells_in_order_make_up_the_image():
    images = distinct(4, 3, 13, 12)
    tiles, order = jigsaw(images, grid=4, tile=3, generator=seeded(2))
    sorted_ = tiles.gather(1, order.argsort(1).view(4, 16, 1, 1, 1).expand_as(tiles))
    whole = sorted_.view(4, 4, 4, 3, 3, 3).permute(0, 3, 1, 4, 2, 5).reshape(4, 3, 12, 12)
    assert torch.equal(whole, images[:, :, :12])  # 13 rows: the crop of 12 begins at the first


def test_tiles_joined_row_by_row_are_the_picture():
    images = distinct(4, 3, 12, 12)
    tiles, order = jigsaw(images, grid=4, tile=3, generator=seeded(2))
    straight = tiles.gather(1, order.argsort(1).view(4, 16, 1, 1, 1).expand_as(tiles))
    assert torch.equal(joined(straight), images) and joined(tiles).shape == images.shape


def test_all_channels_of_a_tile_are_cut_alike_and_bytes_stay_bytes():
    images = torch.randint(256, (10, 1, 16, 16), dtype=torch.uint8, generator=seeded())
    tiles, order = jigsaw(images.repeat(1, 3, 1, 1), generator=seeded(3))
    assert tiles.dtype == torch.uint8 and order.dtype == torch.int64
    same, _ = jigsaw(images, generator=seeded(3))
    assert torch.equal(tiles, same.expand_as(tiles))


def test_shifts_and_orders_are_uniform_and_drawn_per_sample():
    images = distinct(4000, 1, 10, 10, torch.float64)
    tiles, order = jigsaw(images, grid=2, tile=3, generator=seeded(4))
    permutations = {p: i for i, p in enumerate(itertools.permutations(range(4)))}
    drawn = torch.tensor([permutations[tuple(row)] for row in order.tolist()])
    assert stats.chisquare(torch.bincount(drawn, minlength=24).numpy()).pvalue > 1e-3
    assert (drawn[1:] == drawn[:-1]).double().mean() < 0.07  # neighbours in the batch: alike 1 in 24
    shift = places(tiles, order, (10, 10), 2)
    for k in range(4):  # in every place, all 3 × 3 shifts
        counts = torch.bincount(3 * shift[:, k, 0] + shift[:, k, 1], minlength=9)
        assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    correlation = torch.corrcoef(shift.flatten(1).double().T) - torch.eye(8)
    assert correlation.abs().max() < 0.07  # tiles are shifted independently of each other


def test_a_jigsaw_comes_from_the_generator_alone():
    images, state = distinct(20, 3, 12, 12), torch.get_rng_state()
    (tiles, order), again = jigsaw(images, generator=seeded(5)), jigsaw(images, generator=seeded(5))
    assert torch.equal(tiles, again[0]) and torch.equal(order, again[1])
    assert not torch.equal(order, jigsaw(images, generator=seeded(6))[1])
    assert torch.equal(torch.get_rng_state(), state)
    assert jigsaw(images[:0])[0].shape == (0, 9, 3, 3, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": 0}, r"grid: expected a value in 1\.\.8, got 0"),
        ({"grid": 9}, r"grid: expected a value in 1\.\.8, got 9"),
        ({"tile": 3}, r"tile: expected a value in 1\.\.2, the side of a cell, got 3"),
        ({"tile": 0}, r"tile: expected a value in 1\.\.2"),
    ],
)
def test_impossible_jigsaws_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        jigsaw(torch.zeros(2, 3, 8, 10), **options)
