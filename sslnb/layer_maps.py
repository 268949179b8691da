"""Parts of the similarities of all layers of several networks: which layers, which networks.

``cka`` is [..., M,S,M,S,L,L] over M methods (supervised first), S seeds and L layers, with any leading dimensions.
"""

from collections.abc import Sequence

import numpy as np


def parities(layers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of odd (residual branches) and even (sums) layers, block by block."""
    odd = [i for i, name in enumerate(layers) if name.endswith(".residual")]
    return np.array(odd), np.array([list(layers).index(layers[i].removesuffix(".residual")) for i in odd])


def own(cka: np.ndarray, m: int) -> np.ndarray:
    """CKA [..., S, L, L] within each network of a method."""
    return np.stack([cka[..., m, s, m, s, :, :] for s in range(cka.shape[-3])], -3)


def between_seeds(cka: np.ndarray, m: int) -> np.ndarray:
    """CKA [..., S, L, L] of each network of a method with those of its other seeds, their mean; NaN with one seed."""
    seeds = range(cka.shape[-3])
    others = [[cka[..., m, s, m, t, :, :] for t in seeds if t != s] for s in seeds]
    nothing = np.full_like(cka[..., m, 0, m, 0, :, :], np.nan)
    return np.stack([np.mean(each, 0) if each else nothing for each in others], -3)


def across(cka: np.ndarray, m: int) -> np.ndarray:
    """CKA [..., S, L, L] of each supervised network (rows) with all networks of a method (columns), their mean."""
    return cka[..., 0, :, m, :, :, :].mean(-3)


def lag(maps: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Offset [..., n] of each row's greatest entry from the diagonal, among the layers ``which`` [n]."""
    return maps[..., which[:, None], which].argmax(-1) - np.arange(len(which))
