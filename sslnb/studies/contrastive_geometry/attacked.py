"""One classifier under all attacks: what a run of hours measures for each, and keeps."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sslnb.core import device
from sslnb.core.claims import bootstrap_weights
from sslnb.metrics import attacks
from sslnb.studies.contrastive_geometry.claims import kept
from sslnb.training.finetune import Classifier


def under_attack(
    model: Classifier,
    images: Mapping[str, tuple[Tensor, Tensor]],
    std: Tensor,
    budgets: Sequence[int],
    strong: Sequence[int],
    *,
    steps: int,
    rounds: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Accuracies under FGSM [S,B], FGSM without bounds [B] and PGD [P], and replicates [R] of the share that is kept.

    ``images`` pixels and labels by split, all but FGSM on the last one alone; ``std`` [C] of the set's channels;
    ``budgets`` of FGSM and ``strong`` of PGD in 255ths.
    """
    on, fgsm = std.device, []
    with device.autocast(on, device.best_precision(on)):
        for x, y in images.values():
            right = attacks.fgsm_correct(model, x, y, [b / 255 for b in budgets])
            fgsm.append(right.double().mean(1).numpy())
        weights = bootstrap_weights(len(y), rounds=rounds, seed=seed)
        redrawn = right.double().numpy() @ weights.T / len(y)
        # A budget in units of normalised images is that many deviations of the set's channels, without bounds.
        unbounded = attacks.fgsm_accuracy(model, x, y, [b / 255 for b in budgets], std=1 / std, bounds=None)
        settings = {"steps": steps, "generator": torch.Generator(on).manual_seed(0)}
        pgd = attacks.pgd_accuracy(model, x, y, [b / 255 for b in strong], **settings)
    share = kept(xr.DataArray(redrawn, {"budget": list(budgets)}, ("budget", "round")))
    return {"fgsm": np.stack(fgsm), "fgsm_normalised": unbounded, "kept_drawn": share.values, "pgd": pgd}
