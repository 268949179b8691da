"""One way to refuse bad input: the argument's name, what was expected, and what came."""

import difflib
from collections.abc import Iterable

import torch


def expect(condition: bool, argument: str, expected: str, got: object) -> None:
    """Raise ``ValueError`` naming the argument unless the condition holds."""
    if not condition:
        raise ValueError(f"{argument}: expected {expected}, got {got}")


class NonFiniteError(ValueError):
    """Values that should be finite and are not."""


def expect_finite(tensor: torch.Tensor, argument: str) -> None:
    """Refuse NaN and infinity, saying how many entries are affected and where the first one is."""
    parts = tensor.reshape(-1).split(2**20)  # in parts: a mask as large as the tensor is memory for nothing
    if not all(bool(torch.isfinite(part).all()) for part in parts):
        bad = ~torch.isfinite(tensor)
        first = tuple(bad.nonzero()[0].tolist())
        raise NonFiniteError(
            f"{argument}: expected finite values, got {int(bad.sum())} non-finite, the first at {first}"
        )


def expect_shape(tensor: torch.Tensor, argument: str, *shape: int | str) -> None:
    """Refuse a tensor whose shape differs; a string in ``shape`` names a free dimension, as in ``"N", "d"``."""
    fits = tensor.ndim == len(shape) and all(
        isinstance(want, str) or want == have for want, have in zip(shape, tensor.shape, strict=True)
    )
    wanted = ", ".join(str(s) for s in shape)
    expect(fits, argument, f"shape [{wanted}]", f"shape {list(tensor.shape)}")


def expect_labels(labels: torch.Tensor, classes: int, argument: str = "labels") -> None:
    """Refuse labels that are not integers in [0, classes)."""
    expect(not labels.is_floating_point(), argument, "integers", f"dtype {labels.dtype}")
    if labels.numel():
        low, high = int(labels.min()), int(labels.max())
        expect(low >= 0 and high < classes, argument, f"values in 0..{classes - 1}", f"values from {low} to {high}")


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
