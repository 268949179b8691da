"""The study's steps: probes on frozen features, their margins, robustness, and the same of a multi-layer probe.

Datasets have the dimensions objective, seed, dataset, scale (of the standardization), decay (the probe's weight decay)
and norm; NaN stands where a probe did not converge or a seed was not trained.
"""

import functools
import itertools
from collections.abc import Iterator

import numpy as np
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from sslnb.core.claims import bootstrap_weights
from sslnb.data import catalogue
from sslnb.features import LinearProbe
from sslnb.features.linear import LEARNING_RATES, WEIGHT_DECAYS
from sslnb.features.standardize import SCALES
from sslnb.metrics.margins import effective_accuracy, margins, robust_accuracy
from sslnb.studies.measures import features_of
from sslnb.studies.separability.fits import (
    DOT_BUDGETS,
    DOTS,
    audit_of,
    determinants,
    once,
    probed,
    probes_of,
    standardized,
    stormed,
)
from sslnb.studies.separability.readings import BUDGETS, CURVE_POINTS, NORMS, PRIMARY
from sslnb.studies.study import Context, empty

ROUNDS = 200  # of the bootstrap over test images


def check(context: Context) -> None:
    """Refuse sets that no probe can be trained on, or whose images an encoder does not take."""
    for name in context.parameters.datasets:
        context.expect_usable("datasets", context.splits(name))


def probes(context: Context) -> xr.Dataset:
    """Probes of the paper's grid on every encoder and set, under both standardizations, one for each weight decay."""
    p = context.parameters
    coordinates = context.coordinates() | {
        "dataset": list(p.datasets),
        "scale": list(SCALES),
        "decay": list(WEIGHT_DECAYS),
        "rate": list(LEARNING_RATES),
    }
    dims = ("objective", "seed", "dataset", "scale", "decay")
    results = xr.Dataset(coords=coordinates).assign(
        accuracy=empty(coordinates, *dims),
        validation=empty(coordinates, *dims, "rate"),
        learning_rate=empty(coordinates, *dims),
        converged=empty(coordinates, *dims).fillna(0).astype(bool),
        knn=empty(coordinates, *dims[:3]),
        classes=("dataset", [len(context.images(name, "test").classes) for name in p.datasets]),
        test_images=("dataset", [len(context.images(name, "test", p.test_limit)) for name in p.datasets]),
        per_class=("dataset", [mean_per_class(name) for name in p.datasets]),
    )
    fits, audits = (context.memory.setdefault(step, {}) for step in ("probes", "audit"))
    for (objective, seed), name in tqdm([*itertools.product(context.names, p.datasets)], desc="probes"):
        sets, encoder = context.splits(name), context.encoder(objective, seed)
        features = {split: features_of(encoder, images) for split, images in sets.items()}
        labels = {split: images.labels for split, images in sets.items()}
        settings = {"epochs": p.probe_epochs, "seed": seed, "per_class": mean_per_class(name)}
        fit = functools.partial(probed, features, labels, **settings)
        found = once("probes", fit, determinants(encoder, sets, **settings))
        for variable in ("accuracy", "validation", "learning_rate", "converged", "knn"):
            here = {"objective": objective, "seed": seed, "dataset": name}
            results[variable].loc[here] = found[variable].transpose(..., *results[variable].dims[3:])
        audits[objective, seed, name] = audit_of(found)
        for scale in SCALES:
            x = standardized(features, scale)
            # The first set's training features are needed again, by the multi-layer probe.
            kept = x if (name, scale) == (p.datasets[0], PRIMARY) else {"test": x["test"]}
            fits[objective, seed, name, scale] = probes_of(found.sel(scale=scale)), kept
    best = results.validation.max("rate")
    # One decay for all encoders of a comparison, since margins follow it; beside it, what validation picks for each.
    common = best.mean(("objective", "seed")).fillna(-1).idxmax("decay")
    picked = best.fillna(-1).idxmax("decay")
    results.attrs["primary"] = PRIMARY
    return results.assign(compared_decay=common.broadcast_like(picked), picked_decay=picked)


def mean_per_class(dataset: str) -> bool:
    """Whether the papers report a set's accuracy as the mean over its classes; False for sets of the user's own."""
    name = dataset.partition(":")[0]
    return name in catalogue.names() and catalogue.describe(name).mean_per_class


def separation(context: Context) -> xr.Dataset:
    """Margins of the correctly classified test samples, and the exact accuracy against the attack's budget.

    ``curve`` holds the accuracy at every budget, ``margin`` single margins under the primary standardization of each
    objective's first seed, both for the weight decay at which encoders are compared; ``*_drawn`` are bootstraps over
    test images.
    """
    fitted = context.data["probes"]
    labels = {
        name: context.images(name, "test", context.parameters.test_limit).labels for name in fitted.dataset.values
    }
    coordinates = {name: fitted[name].values for name in ("objective", "seed", "dataset", "scale", "decay")}
    coordinates |= {"norm": list(NORMS), "step": np.arange(CURVE_POINTS), "round": np.arange(ROUNDS)}
    dims = ("objective", "seed", "dataset", "scale", "decay")
    budget = xr.DataArray([np.linspace(0, b, CURVE_POINTS) for b in BUDGETS.values()], dims=("attacked", "step"))
    coordinates["attacked"] = list(BUDGETS)
    results = xr.Dataset(coords=coordinates).assign(
        mean_margin=empty(coordinates, *dims, "norm"),
        largest_margin=empty(coordinates, *dims, "norm"),
        norm_auc=empty(coordinates, *dims, "attacked"),
        effective=empty(coordinates, *dims, "attacked"),
        curve=empty(coordinates, *dims[:4], "attacked", "step").astype(np.float32),
        mean_margin_drawn=empty(coordinates, *dims[:3], "norm", "round").astype(np.float32),
        norm_auc_drawn=empty(coordinates, *dims[:3], "attacked", "round").astype(np.float32),
        budget=budget,
        sample_dataset=("sample", np.concatenate([[name] * len(y) for name, y in labels.items()])),
        sample_label=("sample", np.concatenate([y.numpy() for y in labels.values()]).astype(np.int16)),
    )
    shape = [results.sizes[dim] for dim in ("objective", "norm", "sample")]
    results["margin"] = ("objective", "norm", "sample"), np.full(shape, np.nan, np.float16)
    first = dict(reversed(context.names))  # seed of each objective
    for cell, probe, x in _each_probe(context):
        y, grouped = labels[cell["dataset"]], mean_per_class(cell["dataset"])
        common = cell["decay"] == float(fitted.compared_decay.sel({name: cell[name] for name in dims[:4]}))
        primary = common and cell["scale"] == PRIMARY
        place = {name: cell[name] for name in dims[:3]}
        for norm, order in NORMS.items():
            margin = margins(probe.weight, probe.bias, x, p=order, labels=y).numpy()
            results.mean_margin.loc[cell | {"norm": norm}] = np.nanmean(margin)
            results.largest_margin.loc[cell | {"norm": norm}] = np.nanmax(margin)
            if norm in BUDGETS:
                budgets = results.budget.sel(attacked=norm).values
                curve = robust_accuracy(probe.weight, probe.bias, x, y, budgets, p=order, per_class=grouped)
                value = effective_accuracy(curve, budgets)
                results.norm_auc.loc[cell | {"attacked": norm}] = value.norm_auc
                results.effective.loc[cell | {"attacked": norm}] = value.effective
                if common:
                    results.curve.loc[place | {"scale": cell["scale"], "attacked": norm}] = curve
                if primary:
                    drawn = _clipped(margin, y.numpy(), budgets[-1], grouped)
                    results.norm_auc_drawn.loc[place | {"attacked": norm}] = drawn
            if primary:
                results.mean_margin_drawn.loc[place | {"norm": norm}] = _drawn_mean(margin)
                if cell["seed"] == first[cell["objective"]]:
                    own = (results.sample_dataset == cell["dataset"]).values
                    results.margin.loc[{"objective": cell["objective"], "norm": norm}][own] = margin
    return results


def _each_probe(context: Context) -> Iterator[tuple[dict, LinearProbe, Tensor]]:
    """Cell, probe and test features of every probe that converged."""
    for (objective, seed, dataset, scale), (fitted, features) in tqdm(context.memory["probes"].items(), desc="margins"):
        for decay, probe in fitted.items():
            cell = {"objective": objective, "seed": seed, "dataset": dataset, "scale": scale, "decay": decay}
            if probe.converged:
                yield cell, probe, features["test"]


def _drawn_mean(margin: np.ndarray) -> np.ndarray:
    """Bootstraps [ROUNDS] of the mean margin of the correctly classified samples [N]."""
    weights, correct = bootstrap_weights(len(margin), rounds=ROUNDS), np.isfinite(margin)
    return (weights @ np.where(correct, margin, 0)) / np.maximum(weights @ correct, 1)


def _clipped(margin: np.ndarray, labels: np.ndarray, cap: float, per_class: bool) -> np.ndarray:
    """Bootstraps [ROUNDS] of norm-AUC, of the mean over classes where the accuracy is one.

    The area under accuracy against budget up to ``cap`` is the mean of min(margin, cap) over all samples, those that
    are classified wrongly counting 0; norm-AUC divides it by ``cap`` and by the accuracy at budget 0.
    """
    weights = bootstrap_weights(len(margin), rounds=ROUNDS)
    correct, value = np.isfinite(margin), np.nan_to_num(np.minimum(margin, cap))
    groups = [labels == k for k in np.unique(labels)] if per_class else [np.ones(len(margin), bool)]
    counts = [np.maximum(weights[:, group].sum(1), 1) for group in groups]
    area = np.mean([weights[:, g] @ value[g] / n for g, n in zip(groups, counts, strict=True)], 0)
    benign = np.mean([weights[:, g] @ correct[g] / n for g, n in zip(groups, counts, strict=True)], 0)
    return area / np.maximum(benign, 1e-9) / cap


def audit(context: Context) -> xr.Dataset:
    """Margins, norm-AUC, effective accuracy and accuracy of every probe, measured while the features were at hand."""
    coordinates = context.coordinates() | {"dataset": list(context.parameters.datasets)}
    coordinates |= {"decay": list(WEIGHT_DECAYS), "rate": list(LEARNING_RATES)}
    coordinates |= {"norm": list(NORMS), "attacked": list(BUDGETS)}
    cells = context.memory["audit"]
    results, first = xr.Dataset(coords=coordinates), next(iter(cells.values()))
    for name, values in first.items():
        results[name] = empty(coordinates, "objective", "seed", "dataset", *values.dims)
    for (objective, seed, dataset), cell in cells.items():
        at = {"objective": objective, "seed": seed, "dataset": dataset}
        for name, values in cell.items():
            results[name].loc[at] = values
    flags = {name: results[name].fillna(0).astype(bool) for name in first if first[name].dtype == bool}
    return results.assign(flags)


def attacked(context: Context) -> xr.Dataset:
    """PGD on linear probes beside the exact accuracy, and on multi-layer probes, which have no formula; first set."""
    fitted, p = context.data["probes"], context.parameters
    name = p.datasets[0]
    sets = context.splits(name)
    labels = {split: images.labels for split, images in sets.items()}
    coordinates = {key: fitted[key].values for key in ("objective", "seed")}
    coordinates |= {"attacked": list(BUDGETS), "dot": np.arange(DOTS)}
    dims = ("objective", "seed", "attacked", "dot")
    results = xr.Dataset({key: empty(coordinates, *dims) for key in ("pgd", "exact", "multilayer")}).assign(
        dot_budget=(dims[2:], DOT_BUDGETS), multilayer_accuracy=empty(coordinates, *dims[:2])
    )
    for objective, seed in tqdm(context.names, desc="attacks"):
        by_decay, x = context.memory["probes"][objective, seed, name, PRIMARY]
        cell = {"objective": objective, "seed": seed}
        decay = float(fitted.compared_decay.sel(cell | {"dataset": name, "scale": PRIMARY}))
        settings = {"epochs": p.probe_epochs, "seed": seed, "per_class": mean_per_class(name)}
        settings |= {"limit": p.attack_limit, "steps": p.attack_steps}
        attack = functools.partial(stormed, by_decay[decay], x, labels, **settings)
        key = determinants(context.encoder(objective, seed), sets, **settings, decay=decay)
        for variable, values in once("stormed", attack, key).items():
            results[variable].loc[cell] = values
    return results
