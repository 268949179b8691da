"""Audits of probes with known answers."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

NAMES = ["supervised", "simclr", "moco", "pirl", "untrained"]
DECAYS, RATES = [1e-4, 1e-3, 1e-2], [0.1, 1.0]
NORMS, ATTACKED = ["l1", "l2", "linf"], ["l2", "linf"]


def audit_of(*, seeds: int = 3, encoder: float = 0.5, decay: float = 0.0, both: float = 0.0) -> xr.Dataset:
    """An audit in which supervised margins are e^encoder times others', and all grow with the weight decay.

    With ``both``, those of supervised encoders grow less with it. Validation tells the largest learning rate apart.
    """
    rng = np.random.default_rng(0)
    sizes = (len(NAMES), seeds, 2, len(DECAYS), len(RATES))
    grid = ("objective", "seed", "dataset", "decay", "rate")
    ahead = np.array([1.0, 0, 0, 0, 0])[:, None, None, None, None]
    level = np.arange(len(DECAYS))[:, None]
    log = rng.normal(0, 1e-3, sizes) + encoder * ahead + decay * level - both * level * ahead
    validation = np.full(sizes, 0.8) - 0.02 * (np.arange(len(RATES)) == 1)
    coordinates = {
        "objective": NAMES,
        "seed": range(seeds),
        "dataset": ["a", "b"],
        "decay": DECAYS,
        "rate": RATES,
        "norm": NORMS,
        "attacked": ATTACKED,
        "self_supervised": ("objective", [False, True, True, True, False]),
        "learned": ("objective", [True] * 4 + [False]),
    }
    return xr.Dataset(
        {
            "mean_margin": ((*grid, "norm"), np.exp(log)[..., None] * [3.0, 1.0, 0.1]),
            "norm_auc": ((*grid, "attacked"), 0.1 * np.exp(log)[..., None] * [1.0, 1.0]),
            "accuracy": (grid, np.full(sizes, 0.8)),
            "validation": (grid, validation),
            "converged": (grid, np.ones(sizes, bool)),
            "limit_mean_margin": ((*grid[:3], "norm"), np.ones((*sizes[:3], 3))),
            "limit_norm_auc": ((*grid[:3], "attacked"), np.ones((*sizes[:3], 2))),
            "limit_accuracy": (grid[:3], np.full(sizes[:3], 0.8)),
            "limit_validation": (grid[:3], np.full(sizes[:3], 0.8)),
        },
        coordinates,
    )


def study_of(audit: xr.Dataset) -> dict[str, xr.Dataset]:
    """What the study has of the same probes: the best learning rate for each weight decay."""
    best = audit.isel(rate=0, drop=True).expand_dims(scale=["unit_variance"])
    decays = xr.full_like(best.limit_accuracy, 1e-3)
    picked = decays.where(best.objective != "supervised", 1e-2)
    probes = best[["accuracy"]].assign(compared_decay=decays, picked_decay=picked)
    probes.attrs["primary"] = "unit_variance"
    return {"probes": probes, "separation": best[["mean_margin", "norm_auc"]]}


@pytest.fixture(scope="session")
def made_up() -> Callable[..., xr.Dataset]:
    return audit_of


@pytest.fixture(scope="session")
def of_study() -> Callable[[xr.Dataset], dict[str, xr.Dataset]]:
    return study_of
