"""What is fitted to an encoder's features of a set, kept: an interrupted study goes on, and one more encoder costs its
own share alone.
"""

import io
from collections.abc import Callable, Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sslnb.core import artifacts, device
from sslnb.data.images import ImageSet, stratified
from sslnb.encoders.encoder import Encoder, weights_checksum
from sslnb.features import LinearProbe, LinearProbeGrid, Standardizer, knn_predict
from sslnb.features.linear import LEARNING_RATES
from sslnb.features.mlp import MLPProbe
from sslnb.features.scores import top1
from sslnb.features.standardize import SCALES
from sslnb.metrics import attacks
from sslnb.metrics.margins import robust_accuracy
from sslnb.studies.separability.audit import audited
from sslnb.studies.separability.readings import BUDGETS, NORMS, PRIMARY

CODE = (__name__, "sslnb.features.extract")

DOTS = 9  # budgets at which PGD is run
DOT_BUDGETS = np.stack([np.linspace(0, budget, DOTS) for budget in BUDGETS.values()])
AUDIT = "audit_"  # what the audit's measures are called beside the probes

Features = dict[str, Tensor]  # by split


def determinants(encoder: Encoder, sets: Mapping[str, ImageSet], **settings: object) -> dict[str, object]:
    """What decides everything that is fitted to an encoder's features of some images."""
    on = device.best_device()
    images = {split: part.checksum() for split, part in sets.items()}
    where = [on.type, device.best_precision(on)]
    return {"encoder": weights_checksum(encoder), "images": images, "on": where, **settings}


def once(name: str, measure: Callable[[], xr.Dataset], key: Mapping[str, object]) -> xr.Dataset:
    """The dataset that ``measure`` gives, kept as :func:`artifacts.once` keeps arrays."""

    def stored() -> dict[str, np.ndarray]:
        return {"netcdf": np.frombuffer(measure().to_netcdf(engine="h5netcdf"), np.uint8)}

    kept = artifacts.once(name, stored, code=CODE, **key)
    return xr.load_dataset(io.BytesIO(kept["netcdf"].tobytes()), engine="h5netcdf")


def probed(features: Features, labels: Features, *, epochs: int, seed: int, per_class: bool) -> xr.Dataset:
    """Probes of the paper's grid under both standardizations, one for each weight decay, and their accuracies.

    Features [N,d] and labels [N] by split. ``audit_*`` are the measures of :func:`audited`.
    """
    grid, of_scales, audit = LinearProbeGrid(epochs=epochs, seed=seed), [], xr.Dataset()
    for scale in SCALES:
        x = standardized(features, scale)
        splits = x["train"], labels["train"], x["val"], labels["val"]
        candidates = grid.fit_all(*splits)
        if scale == PRIMARY:  # measured here, so that no more than a probe for each decay is kept
            audit = audited(candidates, x, labels, per_class=per_class)
        fitted = grid.fit_decays(*splits, candidates=candidates)
        accuracy = [probe.accuracy(x["test"], labels["test"], per_class) for probe in fitted.values()]
        of_scales.append(_described(fitted).assign(accuracy=("decay", accuracy)))
    neighbours = knn_predict(features["train"], labels["train"], features["test"])
    return (
        xr.concat(of_scales, "scale")
        .assign_coords(scale=list(SCALES))
        .assign(knn=top1(neighbours, labels["test"], per_class=per_class))
        .assign(audit.rename({name: f"{AUDIT}{name}" for name in audit}))
    )


def audit_of(described: xr.Dataset) -> xr.Dataset:
    """The measures of the audit alone, from what :func:`probed` gives."""
    names = {name: str(name).removeprefix(AUDIT) for name in described if str(name).startswith(AUDIT)}
    return described[list(names)].rename(names)


def standardized(features: Features, scale: str) -> Features:
    """Features of all splits, standardized by statistics of the training split."""
    transform = Standardizer(scale).fit(features["train"]).transform
    return {split: transform(x) for split, x in features.items()}


def _described(fitted: Mapping[float, LinearProbe]) -> xr.Dataset:
    """Probes of one standardization by weight decay, and the validation accuracies that they were chosen by."""
    probes = list(fitted.values())
    return xr.Dataset(
        {
            "weight": (
                ("decay", "class", "feature"),
                torch.stack([probe.weight for probe in probes]).numpy(force=True),
            ),
            "bias": (("decay", "class"), torch.stack([probe.bias for probe in probes]).numpy(force=True)),
            "learning_rate": ("decay", [probe.learning_rate for probe in probes]),
            "converged": ("decay", [probe.converged for probe in probes]),
            "validation": (("rate", "decay"), probes[0].grid.numpy(force=True)),
        },
        {"decay": list(fitted), "rate": list(LEARNING_RATES)},
    )


def probes_of(described: xr.Dataset) -> dict[float, LinearProbe]:
    """The probes of one standardization by weight decay, from what :func:`probed` gives of it."""
    weight, bias = (torch.from_numpy(described[name].values) for name in ("weight", "bias"))
    rates, converged = described.learning_rate.values.tolist(), described.converged.values.tolist()
    grid = torch.from_numpy(described.validation.values)
    return {
        decay: LinearProbe(weight[i], bias[i], rates[i], decay, converged[i], grid)
        for i, decay in enumerate(described.decay.values.tolist())
    }


def stormed(
    probe: LinearProbe,
    x: Features,
    labels: Features,
    *,
    epochs: int,
    seed: int,
    per_class: bool,
    limit: int,
    steps: int,
) -> xr.Dataset:
    """PGD on a linear probe beside the exact accuracy, and on a multi-layer probe, by norm and budget.

    Standardized features [N,d] and labels [N] by split; at most ``limit`` test samples are attacked.
    """
    values = {name: np.full(DOT_BUDGETS.shape, np.nan) for name in ("pgd", "exact", "multilayer")}
    deep = MLPProbe(epochs=max(1, epochs // 2), seed=seed)
    deep.fit(x["train"], labels["train"], x["val"], labels["val"])
    accuracy = deep.accuracy(x["test"], labels["test"], per_class) if deep.converged else np.nan
    chosen = _attacked_samples(labels["test"], limit)
    attacked, y = x["test"][chosen], labels["test"][chosen]
    for n, (norm, budgets) in enumerate(zip(BUDGETS, torch.from_numpy(DOT_BUDGETS), strict=True)):
        settings = {"norm": norm, "steps": steps, "seed": seed}
        if probe.converged:
            values["pgd"][n] = _pgd(_module(probe), attacked, y, budgets, **settings)
            values["exact"][n] = robust_accuracy(probe.weight, probe.bias, attacked, y, budgets, p=NORMS[norm])
        if deep.converged:
            values["multilayer"][n] = _pgd(deep, attacked, y, budgets, **settings)
    measured = {name: (("attacked", "dot"), by_budget) for name, by_budget in values.items()}
    return xr.Dataset(measured | {"multilayer_accuracy": accuracy})


def _attacked_samples(labels: Tensor, limit: int) -> Tensor:
    """The test features that PGD attacks: a stratified choice, the same for every encoder."""
    few = len(labels.unique()) <= limit < len(labels)
    return stratified(labels, limit, 0) if few else torch.arange(len(labels))[:limit]


def _pgd(model: torch.nn.Module, x: Tensor, y: Tensor, budgets: Tensor, *, norm: str, steps: int, seed: int) -> Tensor:
    """Accuracy [B] of a feature-space classifier under PGD.

    Steps are longer than the budget: a linear classifier's loss is convex, so its greatest value in a ball is at the
    rim, and short steps stop at a local one. The benchmark of robust accuracy measures what is left.
    """
    settings = {"norm": norm, "steps": steps, "relative_step": 4.0, "bounds": None}
    return attacks.pgd_accuracy(model, x, y, budgets, **settings, generator=torch.Generator().manual_seed(seed))


def _module(probe: LinearProbe) -> torch.nn.Module:
    layer = torch.nn.Linear(probe.weight.shape[1], len(probe.weight))
    layer.load_state_dict({"weight": probe.weight, "bias": probe.bias})
    return layer.requires_grad_(False)
