"""How claims C1 to C7 are decided; their comparisons were fixed before the pool's encoders were trained.

Layers are those of the blocks: odd ones are residual branches, even ones the sums. An effect is one number per seed; a
comparison of pairs of networks gives pseudo-values per seed (:func:`per_seed`), whose mean is that of the pairs and
whose spread is that of networks, not of pairs, which share them. The same functions give bootstrap replicates.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from sslnb.core.claims import Claim, Verdict, controls, decide, jackknife, verdicts_of
from sslnb.studies.cka.maps import across, between_seeds, lag, matched_checkerboard, own, pairs, parities

PAPER = "grigg2021cka"
MATCHED = "supervised_matched"
POOLED = -1  # among the groups: the pooled features

CLAIMS = {
    claim.id: claim
    for claim in (
        Claim(
            "C1",
            "Layer similarity within a network shows a checkerboard of odd and even layers, in SSL as in SL.",
            "panel 'Checkerboard All'",
            "CKA of layers of the same minus that of different parity, at equal distance; the smaller of SSL and SL",
            sei=0.02,
            evidence="fig-cka-within",
        ),
        Claim(
            "C2",
            "Layer similarity is stable across seeds: corresponding layers match.",
            "panel 'Diagonal Odd + Even'",
            "CKA between seeds of corresponding layers minus that of others of the same parity",
            sei=0.05,
            evidence="fig-cka-within",
        ),
        Claim(
            "C3",
            "Residual (odd) representations are not shared between SSL and SL.",
            "panel 'Low Odd'",
            "CKA of corresponding odd layers between seeds of SL minus that between SL and SSL",
            sei=0.1,
            evidence="fig-cka-between",
        ),
        Claim(
            "C4",
            "Post-residual (even) ones are shared along the diagonal, most in early layers.",
            "panels 'Diagonal Even', 'High early evens'",
            "CKA of corresponding even layers between SL and SSL: the first third minus the last",
            sei=0.1,
            evidence="fig-cka-between",
        ),
        Claim(
            "C5",
            "SSL lags SL: the best match of an SL layer is a later SSL layer.",
            "white dots",
            "mean offset, in blocks, of the best matching SSL layer of each SL layer among those of its parity",
            sei=0.25,
            evidence="fig-cka-lag",
        ),
        Claim(
            "C6",
            "SSL learns invariance to augmentation, SL does not.",
            "panel 'Left'",
            "CKA of pooled features between two augmented views, SSL minus SL (as accurate, where the pool has one)",
            sei=0.05,
            evidence="fig-cka-groups",
        ),
        Claim(
            "C7",
            "SL maps to the class simplex, SSL does not.",
            "panel 'Right'",
            "CKA of pooled features with the one-hot labels, SL minus SSL",
            sei=0.1,
            evidence="fig-cka-groups",
        ),
    )
}

Parity = tuple[np.ndarray, np.ndarray]  # positions of odd and even layers


def verdicts(data: Mapping[str, xr.Dataset]) -> list[Verdict]:
    """Verdicts on C1 to C7 for the first objective that is compared with supervised layer by layer."""
    similarity, views = data["layer_similarity"], data["invariance"]
    names, learned = list(similarity.objective.values), data["pretraining"].learned
    both = all(bool(learned.sel(objective=name)) for name in names[:2])
    arrays = {"cka": similarity.cka.values, "simplex": similarity.simplex.values, "views": views.views.values}
    layers = list(similarity.layer.values)

    def decided(claim: Claim) -> Verdict:
        """By its effect in COMPARISONS, the same for the estimate, its replicates and its controls."""

        def against(other: str) -> xr.DataArray:
            return xr.DataArray(effect(claim.id, arrays, names, layers, supervised=other), dims="seed")

        drawn = (views if claim.id == "C6" else similarity).get(f"drawn_{claim.id}")
        beside = controls(names if claim.id not in ("C1", "C2") else (), against)
        return decide(claim, against("supervised"), replicates=drawn, controls=beside)

    needs = "" if both else f"{names[0]} and {names[1]} that learned"
    return verdicts_of(CLAIMS, dict.fromkeys(COMPARISONS, decided), needs=needs)


def replicates_of(
    claims: Sequence[str], arrays: Mapping[str, np.ndarray], objectives: Sequence[str], layers: Sequence[str]
) -> dict[str, np.ndarray]:
    """Means over seeds [R] of claims' effects on bootstrap replicates; none where there are too few seeds."""
    drawn = {name: effect(name, arrays, objectives, layers) for name in claims}
    return {name: effects.mean(-1) for name, effects in drawn.items() if np.isfinite(effects).all()}


def effect(
    claim: str,
    arrays: Mapping[str, np.ndarray],
    objectives: Sequence[str],
    layers: Sequence[str],
    *,
    supervised: str = "supervised",
) -> np.ndarray:
    """Effects [..., S] of a claim, one per seed, from arrays that may have leading dimensions of replicates."""
    name, compare = COMPARISONS[claim]
    if claim == "C6" and supervised == "supervised" and MATCHED in objectives:
        supervised = MATCHED
    return compare(arrays[name], list(objectives).index(supervised), 1, parities(layers))


def _matching(maps: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Mean over corresponding layers [...] of maps [..., L, L]."""
    return maps[..., which, which].mean(-1)


def _other(maps: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Mean over pairs of different layers of a parity."""
    part = maps[..., which[:, None], which]
    return part[..., ~np.eye(len(which), dtype=bool)].mean(-1)


def per_seed(values: np.ndarray, seeds: int) -> np.ndarray:
    """Pseudo-values [..., S] of values [..., P] of all ordered pairs of different seeds; NaN with fewer than three."""
    if seeds < 3:
        return np.full((*values.shape[:-1], seeds), np.nan)
    kept = [[s not in pair for pair in pairs(seeds)] for s in range(seeds)]
    without = np.stack([values[..., index].mean(-1) for index in kept])  # S×…
    return np.moveaxis(jackknife(without, values.mean(-1)), 0, -1)


def _checkerboard(cka: np.ndarray, sl: int, ssl: int, parity: Parity) -> np.ndarray:
    blocks = np.sort(np.concatenate(parity))
    return np.minimum(*(matched_checkerboard(own(cka, m), blocks) for m in (sl, ssl)))


def _stable(cka: np.ndarray, sl: int, ssl: int, parity: Parity) -> np.ndarray:
    maps = [between_seeds(cka, m) for m in (sl, ssl)]
    values = [_matching(part, which) - _other(part, which) for part in maps for which in parity]
    return per_seed(np.mean(values, 0), cka.shape[-3])


def _residuals(cka: np.ndarray, sl: int, ssl: int, parity: Parity) -> np.ndarray:
    odd, _ = parity
    return per_seed(_matching(between_seeds(cka, sl), odd) - _matching(across(cka, ssl, sl), odd), cka.shape[-3])


def _sums(cka: np.ndarray, sl: int, ssl: int, parity: Parity) -> np.ndarray:
    _, even = parity
    maps, third = across(cka, ssl, sl), len(even) // 3
    return per_seed(_matching(maps, even[:third]) - _matching(maps, even[-third:]), cka.shape[-3])


def _lag(cka: np.ndarray, sl: int, ssl: int, parity: Parity) -> np.ndarray:
    offsets = [lag(across(cka, ssl, sl), which).mean(-1) for which in parity]
    return per_seed(np.mean(offsets, 0), cka.shape[-3])


def _invariance(views: np.ndarray, sl: int, ssl: int, _: Parity) -> np.ndarray:
    return views[..., ssl, :, POOLED] - views[..., sl, :, POOLED]


def _simplex(simplex: np.ndarray, sl: int, ssl: int, _: Parity) -> np.ndarray:
    return simplex[..., sl, :, POOLED] - simplex[..., ssl, :, POOLED]


COMPARISONS: dict[str, tuple[str, Callable[[np.ndarray, int, int, Parity], np.ndarray]]] = {
    "C1": ("cka", _checkerboard),
    "C2": ("cka", _stable),
    "C3": ("cka", _residuals),
    "C4": ("cka", _sums),
    "C5": ("cka", _lag),
    "C6": ("views", _invariance),
    "C7": ("simplex", _simplex),
}
