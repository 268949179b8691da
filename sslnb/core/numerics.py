"""What rounding does to numbers, and how to keep it out of results: scale, offset, length."""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor

# What rounding leaves of a value, as a share of it. Float32: 8 units in the last place; float64: 450, since sums of
# thousands of values and decompositions of their matrices go through it.
ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-13}
# Magnitudes whose squares, and sums of a million of them, are far from the ends of float32.
SMALLEST, LARGEST = 2.0**-20, 2.0**20


def rounding(dtype: torch.dtype) -> float:
    """What rounding leaves of a value of this type, as a share of it; lower precision is computed in float32."""
    return ROUNDING[torch.float64 if dtype == torch.float64 else torch.float32]


def floats(x: Tensor) -> Tensor:
    """As it is computed with: float64 stays, everything else becomes float32."""
    return x if x.dtype == torch.float64 else x.float()


def scale_of(x: Tensor) -> float:
    """A power of two near the largest magnitude of x where squares of that are not safe, else 1."""
    if not x.numel():
        return 1.0
    low, high = x.detach().aminmax()
    largest = max(-float(low), float(high))
    ordinary = largest == 0 or SMALLEST <= largest <= LARGEST or not math.isfinite(largest)
    return 1.0 if ordinary else 2.0 ** max(-1000, min(1000, math.frexp(largest)[1]))


def scaled(x: Tensor, scale: float | None = None) -> Tensor:
    """x divided by its :func:`scale_of`, so that squares neither overflow nor vanish; most often x itself."""
    scale = scale_of(x) if scale is None else scale
    return x if scale == 1 else (x.double() / scale).to(x.dtype)


def rows_scaled(x: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
    """x [..., d] with every row of extreme magnitude divided by a power of two, and those exponents [..., 1].

    They take no gradient. Rows of ordinary magnitude have 0 and stay as they are, bit for bit.
    """
    if not x.numel():
        return x, x.new_zeros([1] * x.ndim)
    largest = x.detach().abs().amax(dim, keepdim=True)
    extreme = (largest > 0) & ((largest < SMALLEST) | (largest > LARGEST))
    exponent = torch.where(extreme, largest.log2().round(), 0.0)
    if x.device.type == "cpu" and not bool(extreme.any()):  # an accelerator would have to be waited for
        return x, exponent
    half = (exponent / 2).round()  # in two steps: the inverse of the whole may be more than float32 holds
    return x / half.exp2() / (exponent - half).exp2(), exponent


def unit(x: Tensor, dim: int = 1) -> Tensor:
    """Vectors of unit length whatever their length; zero stays zero."""
    return torch.nn.functional.normalize(rows_scaled(x, dim)[0], dim=dim)


def centred(x: Tensor) -> Tensor:
    """Features [N,d] with a mean of 0 each, in float64, up to a common power of two; 0 where they do not vary.

    They do not vary where what is left is no more than rounding, in x's own type, leaves of the mean.
    """
    double = scaled(x.double())
    mean = double.mean(0)
    rest = double - mean
    varies = rest.square().sum() > rounding(x.dtype) ** 2 * len(x) * mean.square().sum()
    return rest if varies else torch.zeros_like(rest)


def lengths(x: Tensor, dim: int = -1) -> Tensor:
    """Lengths [..., 1] of vectors, float64, where their squares overflow or vanish too."""
    rows, exponent = rows_scaled(x, dim)
    return rows.norm(dim=dim, keepdim=True).double() * exponent.double().exp2()


@contextlib.contextmanager
def gradients() -> Iterator[None]:
    """Gradients inside, whatever ``no_grad`` or ``inference_mode`` is on around it.

    Tensors made in inference mode have none: they have to be cloned inside.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield
