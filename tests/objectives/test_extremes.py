"""Losses of directions at lengths where squares vanish or overflow, and what losses refuse."""

import pytest
import torch
from torch import Tensor

from sslnb.objectives import barlow_twins, dino, info_nce, nce, negative_cosine, nt_xent, sup_con, swav, vicreg


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


OF_DIRECTIONS = {
    "nt_xent": nt_xent,
    "negative_cosine": negative_cosine,
    "info_nce": lambda a, b: info_nce(a, b, b.roll(1, 0)),
    "nce": lambda a, b: nce(a, b, b.roll(1, 0)),
    "sup_con": lambda a, b: sup_con(torch.stack([a, b], 1), torch.arange(len(a)) % 3),
}


@pytest.mark.parametrize("length", [1e-30, 1e-20, 1e-9, 1e9, 1e20])
@pytest.mark.parametrize("name", OF_DIRECTIONS)
def test_losses_of_directions_and_their_gradients_hold_at_any_length(name, length):
    sound = [draw(8, 6).requires_grad_(), draw(8, 6, seed=1).requires_grad_()]
    extreme = [(part.detach() * length).requires_grad_() for part in sound]
    wanted, found = OF_DIRECTIONS[name](*sound), OF_DIRECTIONS[name](*extreme)
    wanted.backward(), found.backward()
    torch.testing.assert_close(found, wanted)
    for a, b in zip(extreme, sound, strict=True):
        torch.testing.assert_close(a.grad.double() * length, b.grad.double(), rtol=1e-4, atol=1e-6)


def test_one_long_and_one_short_row_do_not_disturb_the_others():
    a, b = draw(8, 6), draw(8, 6, seed=1)
    scale = torch.tensor([1e-30, 1e20, 1, 1e-9, 1, 1, 1e9, 1])[:, None]
    for loss in OF_DIRECTIONS.values():
        torch.testing.assert_close(loss(a * scale, b / scale.clamp(1e-9, 1e9)), loss(a, b))


TWO = {
    **OF_DIRECTIONS,
    "barlow_twins": barlow_twins,
    "vicreg": vicreg,
    "swav": lambda a, b: swav([a, b]),
    "dino": lambda a, b: dino([a, b], [a], b[0] * 0),
}


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.float64])
@pytest.mark.parametrize("name", [name for name in TWO if name != "sup_con"])
def test_embeddings_are_floats_of_one_type(name, dtype):
    a, b = draw(8, 6), draw(8, 6, seed=1).to(dtype)
    with pytest.raises(ValueError, match=r"expected (floats|dtype torch.float)"):
        TWO[name](b, a)
    with pytest.raises(ValueError, match=r"expected (floats|dtype torch.float)"):
        TWO[name](a, b)


@pytest.mark.parametrize("name", TWO)
def test_embeddings_that_are_not_finite_give_a_loss_that_is_not(name):
    broken = draw(8, 6)
    broken[2, 3] = torch.nan
    assert not TWO[name](broken, draw(8, 6, seed=1)).isfinite()  # training watches for it
