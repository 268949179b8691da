"""How claims C1 to C7 are decided; their comparisons were written before any result but quick pilots was looked at.

Layers are those of the blocks: odd ones are residual branches, even ones the sums. Each self-supervised objective is a
comparison of its own. Effects are one number per seed; a comparison of pairs of networks gives a pseudo-value per seed
(:func:`per_seed`), whose mean is that of the pairs and whose spread is that of seeds, not of pairs, which share them.
It takes three seeds. The same functions give effects and their bootstrap replicates over minibatches of test images.
"""

from collections.abc import Callable, Iterator

import numpy as np

from sslnb.core.claims import Claim, Verdict, combine, decide
from sslnb.core.flat import Result
from sslnb.core.labels import label
from sslnb.studies.cka.maps import across, between_seeds, lag, own, pairs, parities

CLAIMS = {
    "C1": Claim(
        "C1",
        "Layer similarity within a network shows a checkerboard of odd and even layers, in SSL as in SL.",
        "panel 'Checkerboard All'",
        "mean CKA of layers of the same parity (other than themselves) minus that of odd with even ones",
    ),
    "C2": Claim(
        "C2",
        "It is stable across seeds: corresponding layers match.",
        "panel 'Diagonal Odd + Even'",
        "mean CKA between seeds of corresponding layers minus that of others of the same parity",
    ),
    "C3": Claim(
        "C3",
        "Residual (odd) representations are not shared between SSL and SL.",
        "panel 'Low Odd'",
        "CKA of corresponding odd layers between seeds (mean of SL and SSL) minus that between SL and SSL",
    ),
    "C4": Claim(
        "C4",
        "Post-residual (even) ones are shared along the diagonal, most in early layers.",
        "panels 'Diagonal Even', 'High early evens'",
        "CKA between SL and SSL: corresponding even layers minus others; minus corresponding odd ones; the first half "
        "of the corresponding even ones minus the second",
    ),
    "C5": Claim(
        "C5",
        "SSL lags SL: the best match of an SL layer is a later SSL layer.",
        "white dots",
        "mean offset, in blocks, of the best matching SSL layer of each SL layer among those of its parity",
    ),
    "C6": Claim(
        "C6",
        "SSL learns invariance to augmentation, SL does not.",
        "panel 'Left'",
        "CKA between two augmented views in the last group of blocks, SSL minus SL",
    ),
    "C7": Claim(
        "C7",
        "SL maps to the class simplex, SSL does not.",
        "panel 'Right'",
        "CKA with the one-hot labels in the last group of blocks, SL minus SSL",
    ),
}

Effects = Iterator[tuple[str, np.ndarray]]  # what is compared, effects [..., S]


def decide_all(result: Result) -> tuple[list[Verdict], list[dict]]:
    """Verdicts on C1 to C7, and the comparisons that they are made of."""
    verdicts, parts = [], []
    for name in CLAIMS:
        decided = []
        for what, effects in measured(name, result.scalars, result.arrays):
            replicates = result.arrays.get(f"drawn/{name}/{what}", ())
            decided.append(decide(CLAIMS[name], effects, replicates))
            parts.append({"of": what, **decided[-1].as_dict()})
        verdicts.append(combine(CLAIMS[name], decided))
    return verdicts, parts


def measured(claim: str, scalars: dict, arrays: dict[str, np.ndarray]) -> Effects:
    """Effects of a claim's comparisons, one per seed, from arrays that may have leading dimensions of replicates."""
    name, compare = COMPARISONS[claim]
    for m, method in enumerate(scalars["methods"]):
        if m or claim in OWN:
            for what, effects in compare(arrays[name], m, parities(scalars["layers"])):
                yield f"{label(method)}{what}", effects


def _matching(maps: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Mean over corresponding layers [...] of maps [..., L, L]."""
    return maps[..., which, which].mean(-1)


def _other(maps: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Mean over pairs of different layers of a parity."""
    part = maps[..., which[:, None], which]
    return part[..., ~np.eye(len(which), dtype=bool)].mean(-1)


def _checkerboard(cka: np.ndarray, m: int, parity: tuple[np.ndarray, np.ndarray]) -> Effects:
    odd, even = parity
    maps = own(cka, m)
    mixed = maps[..., odd[:, None], even].mean((-2, -1))
    yield "", (_other(maps, odd) + _other(maps, even)) / 2 - mixed


def per_seed(values: np.ndarray, seeds: int) -> np.ndarray:
    """Pseudo-values [..., S] of values [..., P] of all ordered pairs of different seeds; NaN with fewer than three.

    Jackknife: S times the mean over all pairs, minus S − 1 times that over the pairs without a seed. Their mean is the
    mean over pairs.
    """
    if seeds < 3:
        return np.full((*values.shape[:-1], seeds), np.nan)
    without = [[s not in pair for pair in pairs(seeds)] for s in range(seeds)]
    rest = np.stack([values[..., index].mean(-1) for index in without], -1)
    return seeds * values.mean(-1)[..., None] - (seeds - 1) * rest


def _stable(cka: np.ndarray, m: int, parity: tuple[np.ndarray, np.ndarray]) -> Effects:
    maps = between_seeds(cka, m)
    for name, which in zip(("odd", "even"), parity, strict=True):
        yield f", {name}", per_seed(_matching(maps, which) - _other(maps, which), cka.shape[-3])


def _residuals(cka: np.ndarray, m: int, parity: tuple[np.ndarray, np.ndarray]) -> Effects:
    odd, _ = parity
    same = (_matching(between_seeds(cka, 0), odd) + _matching(between_seeds(cka, m), odd)) / 2
    yield "", per_seed(same - _matching(across(cka, m), odd), cka.shape[-3])


def _sums(cka: np.ndarray, m: int, parity: tuple[np.ndarray, np.ndarray]) -> Effects:
    odd, even = parity
    maps, half, seeds = across(cka, m), len(even) // 2, cka.shape[-3]
    yield ", against other even layers", per_seed(_matching(maps, even) - _other(maps, even), seeds)
    yield ", against odd layers", per_seed(_matching(maps, even) - _matching(maps, odd), seeds)
    yield ", early against late", per_seed(_matching(maps, even[:half]) - _matching(maps, even[half:]), seeds)


def _lag(cka: np.ndarray, m: int, parity: tuple[np.ndarray, np.ndarray]) -> Effects:
    for name, which in zip(("odd", "even"), parity, strict=True):
        yield f", {name}", per_seed(lag(across(cka, m), which).mean(-1), cka.shape[-3])


def _invariance(views: np.ndarray, m: int, _: object) -> Effects:
    yield "", views[..., m, :, LAST] - views[..., 0, :, LAST]


def _simplex(simplex: np.ndarray, m: int, _: object) -> Effects:
    yield "", simplex[..., 0, :, LAST] - simplex[..., m, :, LAST]


LAST = -2  # among the groups, before the pooled features
OWN = ("C1", "C2")  # decided for supervised networks too
COMPARISONS: dict[str, tuple[str, Callable[[np.ndarray, int, tuple[np.ndarray, np.ndarray]], Effects]]] = {
    "C1": ("cka", _checkerboard),
    "C2": ("cka", _stable),
    "C3": ("cka", _residuals),
    "C4": ("cka", _sums),
    "C5": ("cka", _lag),
    "C6": ("views", _invariance),
    "C7": ("simplex", _simplex),
}
