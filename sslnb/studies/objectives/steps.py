"""Training objectives side by side: what each member of a pool has learned, and what a step of it costs."""

import dataclasses
import json

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from sslnb.core import device
from sslnb.data import ImageSet
from sslnb.features.extract import extract
from sslnb.features.linear import LinearProbeGrid
from sslnb.features.nearest import knn_predict
from sslnb.features.scores import top1
from sslnb.features.standardize import Standardizer
from sslnb.metrics.labelfree import rankme
from sslnb.pool.pool import PIXELS
from sslnb.studies.study import Context
from sslnb.training import cost

MEASURES = ("knn", "linear", "rankme")


def check(context: Context) -> None:
    """Refuse a set that no probe can be trained on, or whose images an encoder does not take."""
    context.expect_usable("dataset", _splits(context))


def _splits(context: Context) -> dict[str, ImageSet]:
    return context.splits(context.parameters.dataset or context.plan.dataset)


def evaluation(context: Context) -> xr.Dataset:
    """kNN, linear probe and effective rank on the test split: every member, untrained twins, raw pixels."""
    p = context.parameters
    splits = _splits(context)
    names = [*context.names]
    if splits["test"].images.shape[1:] == context.pool.images().images.shape[1:]:
        names.append((PIXELS, 0))
    objectives, seeds = list(dict.fromkeys(o for o, _ in names)), sorted({seed for _, seed in names})
    shape = (len(objectives), len(seeds))
    coordinates = {"objective": objectives, "seed": seeds}
    results = xr.Dataset({k: (("objective", "seed"), np.full(shape, np.nan)) for k in MEASURES}, coordinates)
    for objective, seed in tqdm(names, desc="kNN and linear probes", unit="encoder"):
        measured = _measured(context.encoder(objective, seed), splits, seed, p.probe_epochs)
        for measure, value in zip(MEASURES, measured, strict=True):
            results[measure].loc[{"objective": objective, "seed": seed}] = value
    return results.assign_attrs(
        dataset=p.dataset or context.plan.dataset, test_images=len(splits["test"]), probe_images=len(splits["train"])
    )


def _measured(
    encoder: torch.nn.Module, splits: dict[str, ImageSet], seed: int, epochs: int
) -> tuple[float, float, float]:
    """kNN and linear accuracy (NaN where no probe converged), and effective rank."""
    on = device.best_device()
    settings = {"device": on, "precision": device.best_precision(on)}
    features: dict[str, Tensor] = {k: extract(encoder, part, **settings) for k, part in splits.items()}
    labels = {k: part.labels for k, part in splits.items()}
    neighbours = top1(knn_predict(features["train"], labels["train"], features["test"]), labels["test"])
    transform = Standardizer("unit_variance").fit(features["train"]).transform
    x = {k: transform(part) for k, part in features.items()}
    probe = LinearProbeGrid(epochs=epochs, seed=seed).fit(x["train"], labels["train"], x["val"], labels["val"])
    linear = probe.accuracy(x["test"], labels["test"]) if probe.converged else np.nan
    return neighbours, linear, rankme(features["test"])


def step_cost(context: Context) -> xr.Dataset:
    """Seconds and memory of a training step of every objective on this machine, and what each was trained with."""
    planned = context.pool.scale.variants
    objectives = [name for name, seed in context.names if seed == 0 and name in planned]
    rows, used = [], []
    for name in tqdm(objectives, desc="cost of a step", unit="objective"):
        member = context.pool.scale.member(f"{name}/0")
        rows.append(dataclasses.asdict(cost.of_step(member.config, member.images())))
        used.append(context.pool.entry(f"{name}/0").config)
    settings = ("epochs", "batch_size", "optimizer", "learning_rate", "weight_decay")
    return xr.Dataset(
        {part: ("objective", [row[part] for row in rows]) for part in rows[0]}
        | {name: ("objective", [config[name] for config in used]) for name in settings}
        | {"options": ("objective", [json.dumps(config["options"]) for config in used])},
        {"objective": objectives},
    )
