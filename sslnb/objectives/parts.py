"""Parts that several objectives share: heads, momentum copies, memory banks, losses in float32."""

import copy
import functools
import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sslnb.core.checks import expect, expect_floats, expect_one_device, expect_shape


def by_size(model: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of each view, those of one size together in one pass."""
    outputs: list[Tensor] = []
    for _, group in itertools.groupby(views, key=lambda view: view.shape[-1]):
        group = list(group)
        outputs += model(torch.cat(group)).chunk(len(group))
    return outputs


def in_float32(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss that computes in float32, or float64, whatever it is given, and whatever autocast is on around it.

    Embeddings that are not finite give a loss that is not: training watches for it, and stops.
    """

    def raised(value: object) -> object:
        if isinstance(value, list | tuple):
            return [raised(item) for item in value]
        low = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
        return value.float() if low else value

    @functools.wraps(loss)
    def run(*args: object, **kwargs: object) -> Tensor:
        first = next(iter((*args, *kwargs.values())), None)
        first = first[0] if isinstance(first, list | tuple) and first else first
        on = first.device.type if isinstance(first, Tensor) and not first.is_meta else "cpu"
        with torch.autocast(on, enabled=False):
            return loss(*map(raised, args), **{name: raised(value) for name, value in kwargs.items()})

    return run


def expect_embeddings(z: Tensor, argument: str, *shape: int | str, like: Tensor | None = None) -> None:
    """Refuse what is no tensor of floats of a shape, or of another type or device than ``like``."""
    expect_shape(z, argument, *shape)
    expect_floats(z, argument)
    expect(z.shape[-1] > 0, argument, "at least one dimension", f"shape {list(z.shape)}")
    if like is not None:
        same = f"dtype {like.dtype} on {like.device}, as the first"
        expect((z.dtype, z.device) == (like.dtype, like.device), argument, same, f"{z.dtype} on {z.device}")


def expect_views(views: Sequence[Tensor], argument: str, least: int, *, like: Tensor | None = None) -> None:
    """Refuse what is no list of at least so many outputs [N,K], all alike."""
    expect(isinstance(views, list | tuple), argument, "a list of tensors", type(views).__name__)
    expect(len(views) >= least, argument, f"at least {least} view{'s' * (least > 1)}", len(views))
    for i, view in enumerate(views):
        shape = ("N", "K") if like is None else like.shape
        expect_embeddings(view, f"{argument}[{i}]", *shape, like=like)
        like = view if like is None else like


def expect_left_out(mask: Tensor | None, z: Tensor, negatives: Tensor) -> None:
    """Refuse a mask of negatives that is not bool [N,M]."""
    if mask is not None:
        expect_shape(mask, "leave_out", len(z), len(negatives))
        expect(mask.dtype == torch.bool, "leave_out", "bool", f"dtype {mask.dtype}")
        expect_one_device(z=z, leave_out=mask)


def mlp(widths: Sequence[int], *, norm: bool = False, last_norm: bool = False) -> nn.Sequential:
    """Linear layers with ReLU between them; ``norm``: batch norm before each ReLU, ``last_norm``: one at the end.

    The batch norm at the end has no scale and shift of its own, as in SimSiam's projector.
    """
    expect(min(widths) >= 1, "widths", "at least 1", tuple(widths))
    head = nn.Sequential()
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        last = i == len(widths) - 2
        normed = last_norm if last else norm
        head.append(nn.Linear(a, b, bias=not normed))
        if normed:
            head.append(nn.BatchNorm1d(b, affine=not last))
        if not last:
            head.append(nn.ReLU(inplace=True))
    return head


class Momentum(nn.Module):
    """A copy of modules that takes no gradient and follows them: w' ← m·w' + (1 − m)·w."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, copy.deepcopy(module).requires_grad_(False))

    @torch.no_grad()
    def follow(self, momentum: float, **modules: nn.Module) -> None:
        """One step towards the modules; buffers such as batch statistics are its own."""
        for name, module in modules.items():
            mine = list(self.get_submodule(name).parameters())
            torch._foreach_lerp_(mine, [p.detach() for p in module.parameters()], 1 - momentum)


def rising(start: float, progress: float) -> float:
    """Momentum that rises from ``start`` to 1 by half a cosine: Grill et al. 2020 (BYOL), section 3.3."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


class MemoryBank(nn.Module):
    """One remembered unit vector per training image, and a moving window of others to contrast with.

    ``entries`` [images,d] start at random; an update is a running mean of weight ``momentum``, normalised again.
    The window runs through the images in a fixed random order, so that negatives are random, the same on every rank,
    and no random state has to be kept. Source: Wu et al. 2018, section 3; Misra and van der Maaten 2020, section 3.1.
    """

    def __init__(self, images: int, d: int, *, momentum: float = 0.5, negatives: int = 4096) -> None:
        super().__init__()
        expect(images >= 2, "images", "at least 2 to tell apart", images)
        expect(0 <= momentum < 1, "bank momentum", "a value in [0, 1)", momentum)
        self.momentum, self.count = momentum, min(negatives, images)
        self.register_buffer("entries", nn.functional.normalize(torch.randn(images, d), dim=1))
        self.register_buffer("order", torch.randperm(images))
        self.register_buffer("start", torch.zeros((), dtype=torch.long))

    def negatives(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Entries [M,d] of the window, which moves on, and a mask [N,M] of those that are the images' own."""
        window = (self.start + torch.arange(self.count, device=self.start.device)) % len(self.order)
        chosen = self.order[window]
        self.start.add_(self.count).remainder_(len(self.order))
        return self.entries[chosen], index[:, None] == chosen

    @torch.no_grad()
    def update(self, index: Tensor, z: Tensor) -> None:
        """Move the images' entries towards their new embeddings z [N,d]."""
        mixed = self.momentum * self.entries[index] + (1 - self.momentum) * z.detach().float()
        self.entries[index] = nn.functional.normalize(mixed, dim=1)
