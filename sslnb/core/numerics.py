"""What rounding does to numbers, and how to keep it out of results: scale, offset, length."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

# What rounding leaves of a value, as a share of it. Float32: 8 units in the last place; float64: 450, since sums of
# thousands of values and decompositions of their matrices go through it.
ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-13}
# Magnitudes whose squares, and sums of a million of them, are far from the ends of float32.
SMALLEST, LARGEST = 2.0**-20, 2.0**20
EXPONENTS = 1000  # of two, within which a power is a normal float64


def rounding(dtype: torch.dtype) -> float:
    """What rounding leaves of a value of this type, as a share of it; lower precision is computed in float32."""
    return ROUNDING[torch.float64 if dtype == torch.float64 else torch.float32]


def floats(x: Tensor) -> Tensor:
    """As it is computed with: float64 stays, everything else becomes float32."""
    return x if x.dtype == torch.float64 else x.float()


@torch.no_grad()
def _power(magnitude: Tensor) -> Tensor:
    """The power of two, float64, that magnitudes are to be divided by; 1 for those that are safe to square, and 0.

    Division by a power of two is exact, so it changes nothing but the scale.
    """
    exponent = magnitude.double().frexp().exponent.clamp(-EXPONENTS, EXPONENTS)
    extreme = (magnitude > 0) & ((magnitude < SMALLEST) | (magnitude > LARGEST))
    return torch.where(extreme, torch.exp2(exponent.double()), 1.0)


def scale_of(x: Tensor) -> float:
    """A power of two near the largest magnitude of x where that is extreme, else 1."""
    low, high = x.aminmax() if x.numel() else (x.new_zeros(()), x.new_zeros(()))
    return float(_power(torch.maximum(-low.double(), high.double())))


def scaled(x: Tensor, scale: float | None = None) -> Tensor:
    """x divided by its :func:`scale_of`, so that squares neither overflow nor vanish; most often x itself."""
    scale = scale_of(x) if scale is None else scale
    return x if scale == 1 else (x.double() / scale).to(x.dtype)


def rows_scaled(x: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
    """x [..., d] with every row of extreme magnitude divided by a power of two, and those powers [..., 1], float64.

    The powers take no gradient. Rows of ordinary magnitude stay as they are, bit for bit.
    """
    if not x.numel():
        return x, x.new_ones([1] * x.ndim, dtype=torch.double)
    power = _power(x.detach().abs().amax(dim, keepdim=True))
    if x.device.type == "cpu" and bool((power == 1).all()):  # an accelerator would have to be waited for
        return x, power
    # In two steps: 1/power alone may be more than float32 holds.
    half = torch.exp2((power.log2() / 2).round())
    return x / half.to(x.dtype) / (power / half).to(x.dtype), power


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
    rows, power = rows_scaled(x, dim)
    return rows.norm(dim=dim, keepdim=True) * power


@contextlib.contextmanager
def gradients() -> Iterator[None]:
    """Gradients inside, whatever ``no_grad`` or ``inference_mode`` is on around it.

    Tensors made in inference mode have none: they have to be cloned inside.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield
