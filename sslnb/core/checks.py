"""One way to refuse bad input: the argument's name, what was expected, and what came."""

import difflib
from collections.abc import Iterable
from numbers import Integral

import torch

LONGEST = 300  # characters of what another library says, in a message of ours


def expect(condition: bool, argument: str, expected: str, got: object) -> None:
    """Raise ``ValueError`` naming the argument unless the condition holds."""
    if not condition:
        raise ValueError(f"{argument}: expected {expected}, got {got}")


def expect_tensor(value: object, argument: str) -> None:
    """Refuse what is no tensor, and one of the device ``meta``, which has no values."""
    expect(isinstance(value, torch.Tensor), argument, "a tensor", type(value).__name__)
    expect(not value.is_meta, argument, "a tensor with values", "one on the device 'meta'")


def expect_real(tensor: torch.Tensor, argument: str) -> None:
    """Refuse what is no tensor of real numbers: complex ones would lose their imaginary part without a word."""
    expect_tensor(tensor, argument)
    expect(not tensor.is_complex(), argument, "real numbers", f"dtype {tensor.dtype}")


def expect_floats(tensor: torch.Tensor, argument: str) -> None:
    """Refuse what is no tensor of floating point numbers."""
    expect_tensor(tensor, argument)
    expect(tensor.is_floating_point(), argument, "floats", f"dtype {tensor.dtype}")


def expect_one_device(**tensors: torch.Tensor) -> None:
    """Refuse tensors that are not all where the first one is."""
    first, *others = tensors
    for name, tensor in tensors.items():
        expect_tensor(tensor, name)
    for name in others:
        have, want = tensors[name].device, tensors[first].device
        expect(have == want, name, f"the device of {first}, {want}", have)


def one_line(error: object) -> str:
    """What somebody else's exception says, in one line of moderate length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


class NonFiniteError(ValueError):
    """Values that should be finite and are not."""


def expect_finite(tensor: torch.Tensor, argument: str) -> None:
    """Refuse NaN and infinity, saying how many entries are affected and where the first one is."""
    expect_tensor(tensor, argument)
    parts = tensor.reshape(-1).split(2**20)  # in parts: a mask as large as the tensor is memory for nothing
    if not all(bool(torch.isfinite(part).all()) for part in parts):
        bad = ~torch.isfinite(tensor)
        first = tuple(bad.nonzero()[0].tolist())
        raise NonFiniteError(
            f"{argument}: expected finite values, got {int(bad.sum())} non-finite, the first at {first}"
        )


def as_values(values: object, argument: str) -> torch.Tensor:
    """Numbers, a list of them or a tensor, as a float64 tensor; ``ValueError`` for what holds no real numbers."""
    try:
        tensor = values if isinstance(values, torch.Tensor) else torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{argument}: expected numbers, got {type(values).__name__}") from error
    expect_real(tensor, argument)
    return tensor.detach().double()


def expect_shape(tensor: torch.Tensor, argument: str, *shape: int | str) -> None:
    """Refuse a tensor whose shape differs; a string in ``shape`` names a free dimension, as in ``"N", "d"``."""
    expect_tensor(tensor, argument)
    fits = tensor.ndim == len(shape) and all(
        isinstance(want, str) or want == have for want, have in zip(shape, tensor.shape, strict=True)
    )
    wanted = ", ".join(str(s) for s in shape)
    expect(fits, argument, f"shape [{wanted}]", f"shape {list(tensor.shape)}")


def expect_integers(tensor: torch.Tensor, argument: str) -> torch.Tensor:
    """Refuse what is no tensor of integers; returns them as int64, since uint8 selects where it is meant to index."""
    expect_tensor(tensor, argument)
    whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    expect(whole, argument, "integers", f"dtype {tensor.dtype}")
    return tensor.long()


def expect_labels(labels: torch.Tensor, classes: int, argument: str = "labels") -> torch.Tensor:
    """Refuse labels that are not integers in [0, classes); returns them as int64."""
    labels = expect_integers(labels, argument)
    if labels.numel():
        low, high = int(labels.min()), int(labels.max())
        expect(low >= 0 and high < classes, argument, f"values in 0..{classes - 1}", f"values from {low} to {high}")
    return labels


def expect_count(value: object, argument: str, least: int = 1) -> None:
    """Refuse what is no whole number of at least ``least``."""
    expect(isinstance(value, Integral), argument, f"a whole number of at least {least}", repr(value))
    expect(value >= least, argument, f"at least {least}", value)


def closest(name: object, known: Iterable[object]) -> str | None:
    """The known name that resembles this one most, if any does."""
    matches = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.4)
    return matches[0] if matches else None


def nearest(name: object, known: Iterable[object]) -> str:
    """``" (nearest: 'x')"`` for the middle of an error message, or nothing."""
    match = closest(name, known)
    return f" (nearest: {match!r})" if match else ""


def expect_known(name: object, known: Iterable[object], argument: str) -> None:
    """Refuse a name that is not among the known ones, naming the nearest."""
    known = list(known)
    if name not in known:
        match = closest(name, known)
        hint = f"; did you mean {match!r}?" if match else ""
        raise ValueError(f"{argument}: expected one of {known}, got {name!r}{hint}")


def expect_features(h: torch.Tensor, argument: str) -> None:
    """Refuse what is no tensor [N,d] of real, finite numbers with at least one sample and feature."""
    expect_real(h, argument)
    expect_shape(h, argument, "N", "d")
    expect(h.numel() > 0, argument, "at least one sample and feature", f"shape {list(h.shape)}")
    expect_finite(h, argument)
