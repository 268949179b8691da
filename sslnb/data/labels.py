"""Classes of labels that come as values: any integers, booleans or text, in one or several splits."""

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from sslnb.core.checks import expect, nearest

_KINDS = {"i": "integers", "u": "integers", "b": "booleans", "U": "text", "O": "text"}  # O: of lists
_INTEGER = re.compile(r"[+-]?\d+")


def classes_of(parts: Mapping[str, np.ndarray]) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Classes named by the values that occur, in order, and each part's labels as positions among them: int64 [N].

    parts: arrays [N], by the words that name them in messages, all integers, all booleans or all text (as objects too:
    then one long text costs no more). Numbers are in numerical order, in text too. Memory follows the number of values,
    never their size.
    """
    kinds = {where: kind(values, where) for where, values in parts.items()}
    first = next(iter(kinds))
    for where in kinds:
        expect(kinds[where] == kinds[first], where, f"{kinds[first]}, as {first}", kinds[where])
    values = _ordered(set().union(*(np.unique(part).tolist() for part in parts.values())))
    classes = tuple(str(value) for value in values)
    return classes, {where: positions(part, values) for where, part in parts.items()}


def of_names(part: np.ndarray, classes: tuple[str, ...], where: str) -> Tensor:
    """Positions among names that are given: of the name for text, the value itself for integers and booleans."""
    if kind(part, where) != "text":
        low, high = int(part.min()), int(part.max())
        wanted = f"labels in 0..{len(classes) - 1}, one of {len(classes)} classes"
        expect(low >= 0 and high < len(classes), where, wanted, f"labels from {low} to {high}")
        return torch.from_numpy(part.astype(np.int64))
    strange = [name for name in np.unique(part).tolist() if name not in classes]
    expect(not strange, where, f"names among the {len(classes)} classes{nearest(strange[:1], classes)}", strange[:5])
    return positions(part, classes)


def kind(part: np.ndarray, where: str) -> str:
    """What the labels are, in words; ``ValueError`` unless they are integers, booleans or text of at least one sign."""
    expect(part.dtype.kind in _KINDS, where, "text, booleans or integers", f"dtype {part.dtype}")
    expect(part.size > 0, where, "at least one label", "none")
    empty = np.flatnonzero(part == "") if part.dtype.kind in "UO" else []
    expect(len(empty) == 0, where, "a label for every image", f"empty text at position {[*empty, 0][0]}")
    return _KINDS[part.dtype.kind]


def check_labels(labels: Tensor, classes: tuple[str, ...], where: str, split: str) -> None:
    """Refuse, except in val, a class without any image."""
    empty = [classes[i] for i in (labels.bincount(minlength=len(classes)) == 0).nonzero()[:, 0].tolist()]
    expect(not empty or split == "val", where, "an image of every class", f"none of {', '.join(empty[:5])}")


def positions(part: np.ndarray, values: tuple) -> Tensor:
    """Where each entry stands among the values: int64 [N]."""
    index = {value: i for i, value in enumerate(values)}
    present, inverse = np.unique(part, return_inverse=True)
    return torch.tensor([index[value] for value in present.tolist()])[torch.from_numpy(inverse.reshape(-1))]


def _ordered(values: set) -> tuple:
    numbers = all(isinstance(value, str) and _INTEGER.fullmatch(value) for value in values)
    return tuple(sorted(values, key=(lambda text: (int(text), text)) if numbers else None))
