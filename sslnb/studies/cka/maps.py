"""Parts of the similarities of all layers of several networks: which layers, which networks.

``cka`` is [..., M,S,M,S,L,L] over M objectives (supervised first), S seeds and L layers, with any leading dimensions.
Networks of one seed begin from the same weights, whatever their objective, and are more alike for it: where there is
more than one seed, networks of different objectives are compared between different seeds only.
"""

from collections.abc import Sequence

import numpy as np


def parities(layers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of odd (residual branches) and even (sums) layers, block by block."""
    odd = [i for i, name in enumerate(layers) if name.endswith(".residual")]
    return np.array(odd), np.array([list(layers).index(layers[i].removesuffix(".residual")) for i in odd])


def own(cka: np.ndarray, m: int) -> np.ndarray:
    """CKA [..., S,L,L] within each network of an objective."""
    return np.stack([cka[..., m, s, m, s, :, :] for s in range(cka.shape[-3])], -3)


def pairs(seeds: int) -> list[tuple[int, int]]:
    """Pairs of different seeds, both ways; the only one where there is no other."""
    return [(s, t) for s in range(seeds) for t in range(seeds) if s != t] or [(0, 0)]


def between_seeds(cka: np.ndarray, m: int) -> np.ndarray:
    """CKA [..., P,L,L] of networks of an objective with those of its other seeds, all :func:`pairs`; NaN with one."""
    seeds = cka.shape[-3]
    if seeds < 2:
        return np.full_like(own(cka, m), np.nan)
    return np.stack([cka[..., m, s, m, t, :, :] for s, t in pairs(seeds)], -3)


def across(cka: np.ndarray, m: int, supervised: int = 0) -> np.ndarray:
    """CKA [..., P,L,L] of supervised networks (rows) with those of an objective (columns), for all :func:`pairs`."""
    return np.stack([cka[..., supervised, s, m, t, :, :] for s, t in pairs(cka.shape[-3])], -3)


def lag(maps: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Offset [..., n] of each row's greatest entry from the diagonal, among the layers ``which`` [n]."""
    return maps[..., which[:, None], which].argmax(-1) - np.arange(len(which))


def matched_checkerboard(maps: np.ndarray, which: np.ndarray) -> np.ndarray:
    """CKA [...] of layers two apart, which share their parity, minus the mean of that one and three apart.

    Of maps [..., L, L] and the blocks' layers ``which`` [n] in order: unlike means over all pairs, this compares layers
    that are equally far from each other on average.
    """
    along = maps[..., which[:, None], which]
    one, two, three = (np.diagonal(along, offset, -2, -1).mean(-1) for offset in (1, 2, 3))
    return two - (one + three) / 2


def stage(layer: str) -> str:
    """The stage of the network that a layer belongs to, whatever it is wrapped in."""
    parts = [part for part in layer.split(".") if part not in ("model", "first", "second")]
    return parts[0] if parts else layer


def group_ends(layers: Sequence[str]) -> tuple[list[str], list[int]]:
    """Names of the stages with the positions of their last layers, residual branches apart."""
    sums = [i for i, name in enumerate(layers) if not name.endswith(".residual")]
    last = {stage(layers[i]): i for i in sums}
    return list(last), list(last.values())
