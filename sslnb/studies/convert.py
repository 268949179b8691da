"""Results recorded before encoders came from the pool, as named datasets; goes with the last of them."""

from pathlib import Path

import numpy as np
import xarray as xr

from sslnb.core import flat
from sslnb.core.decisions import GATE
from sslnb.core.result import Result
from sslnb.features.linear import LEARNING_RATES, WEIGHT_DECAYS


def separability(path: Path) -> Result:
    """The recorded study of separability; an encoder counts as learned where its probe beats the untrained one's."""
    old = flat.Result.load(path)
    s, a = old.scalars, dict(old.arrays)
    objectives = [{"random": "untrained"}.get(name, name) for name in s["methods"]]
    accuracy = a["accuracy"][:, :, s["datasets"].index(s["pretraining"]["dataset"]), 0]  # [objective, seed]
    learned = accuracy.min(1) >= accuracy[s["methods"].index("random")].max() + GATE
    shared = {
        "objective": objectives,
        "seed": s["seeds"],
        "self_supervised": ("objective", [name in s["self_supervised"] for name in s["methods"]]),
        "learned": ("objective", learned),
    }
    grid = shared | {"dataset": s["datasets"], "scale": s["scales"], "decay": list(WEIGHT_DECAYS)}
    cell = ("objective", "seed", "dataset", "scale")
    # Each probe had the weight decay that validation picked: it stands there, and the others are gaps.
    picked = a["decay"][..., None] == np.array(WEIGHT_DECAYS)  # [objective, seed, dataset, scale, decay]

    def at_decay(values: np.ndarray) -> np.ndarray:
        spread = picked.reshape(*picked.shape, *[1] * (values.ndim - 4))
        return np.where(spread, np.expand_dims(values, 4), np.nan)

    probes = xr.Dataset(
        {
            "accuracy": ((*cell, "decay"), at_decay(a["accuracy"])),
            "validation": ((*cell, "rate", "decay"), a["grid"]),
            "learning_rate": ((*cell, "decay"), at_decay(a["rate"])),
            "converged": ((*cell, "decay"), picked & a["converged"][..., None]),
            "knn": (cell[:3], a["knn"]),
            "classes": ("dataset", s["classes"]),
            "test_images": ("dataset", s["test_images"]),
            "per_class": ("dataset", s["per_class"]),
            "compared_decay": (cell, a["decay"]),
            "picked_decay": (cell, a["decay"]),
        },
        grid | {"rate": list(LEARNING_RATES)},
        {"primary": "unit_norm"},
    )
    separation = xr.Dataset(
        {
            "mean_margin": ((*cell, "decay", "norm"), at_decay(a["mean_margin"])),
            "largest_margin": ((*cell, "decay", "norm"), at_decay(a["largest_margin"])),
            "norm_auc": ((*cell, "decay", "attacked"), at_decay(a["norm_auc"])),
            "effective": ((*cell, "decay", "attacked"), at_decay(a["effective"])),
            "curve": ((*cell, "attacked", "step"), a["curves"]),
            "budget": (("attacked", "step"), a["budgets"]),
            # Bootstraps of the statistics were not recorded.
            "mean_margin_drawn": ((*cell[:3], "norm", "round"), np.full((*a["knn"].shape, len(s["norms"]), 1), np.nan)),
            "norm_auc_drawn": (
                (*cell[:3], "attacked", "round"),
                np.full((*a["knn"].shape, len(s["attacked"]), 1), np.nan),
            ),
            "sample_dataset": ("sample", np.repeat(s["datasets"], s["test_images"])),
            "sample_label": ("sample", np.concatenate([a[f"labels/{name}"] for name in s["datasets"]])),
            "margin": (
                ("objective", "seed", "norm", "sample"),
                np.concatenate([a[f"margins/{n}"] for n in s["datasets"]], 3),
            ),
        },
        grid | {"norm": s["norms"], "attacked": s["attacked"]},
    )
    dims = ("objective", "seed", "attacked", "dot")
    attacked = xr.Dataset(
        {
            "pgd": (dims, a["pgd"]),
            "exact": (dims, a["exact_at_dots"]),
            "multilayer": (dims, a["mlp_pgd"]),
            "multilayer_accuracy": (dims[:2], a["mlp_accuracy"]),
            "dot_budget": (dims[2:], a["dots"]),
        },
        shared | {"attacked": s["attacked"]},
    )
    missing = np.full(a["loss"].shape[:2], np.nan)
    accuracies = dict.fromkeys(("knn_accuracy", "linear_accuracy", "hours"), (("objective", "seed"), missing))
    controls = {"pixels_accuracy": np.nan, "untrained_accuracy": np.nan}
    epochs = {"epoch": 1 + np.arange(a["loss"].shape[2])}
    pretraining = xr.Dataset(
        {"loss": (("objective", "seed", "epoch"), a["loss"]), **accuracies, **controls}, shared | epochs
    )
    data = {"pretraining": pretraining, "probes": probes, "separation": separation, "attacked": attacked}
    note = "Recorded before encoders came from the pool: each study trained its own, for few epochs."
    facts = {"parameters": old.parameters, "provenance": old.provenance, "notes": [note]}
    return Result(old.study, data, facts)
