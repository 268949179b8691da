"""A report card: every number of the chapters for encoders that are given, beside those of a pool on the same images.

Nothing is trained but probes. ``value`` has the dimensions measure and encoder; NaN stands where one is not defined,
and the notes say why.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from sslnb.core.checks import expect
from sslnb.core.claims import GATE
from sslnb.data import ImageSet
from sslnb.data.images import at_most
from sslnb.encoders import Encoder, load_encoder
from sslnb.encoders.encoder import weights_checksum
from sslnb.encoders.wrapped import expect_takes
from sslnb.metrics import cka_matrix
from sslnb.pool.pool import PIXELS, Pixels
from sslnb.studies.measures import (
    FEATURE_BUDGETS,
    MEASURES,
    Head,
    Measured,
    Probed,
    Sets,
    colour_view,
    drawn_views,
    features_of,
    joined,
    label_free,
    similarity_to,
    through_the_network,
    turned,
    views_of,
    with_few_labels,
    with_labels,
)
from sslnb.studies.study import UNTRAINED, Context, empty
from sslnb.training.monitor import COLLAPSED

FEW = 20  # images of a class, below which an accuracy says little: its standard error is above 10 points
REFERENCE = "supervised"  # of the pool, to which similarity is measured
POINTS = 51  # of the curves of robust accuracy


@dataclasses.dataclass(frozen=True)
class Row:
    """An encoder with its name: ``given`` by the user, or one of the pool's."""

    name: str
    encoder: Encoder
    given: bool = False

    @property
    def trained(self) -> bool:
        """Whether the pool trained it."""
        return not self.given and self.name.rpartition("/")[0] not in ("", UNTRAINED)


def check(context: Context) -> None:
    """Refuse what is no encoder, and images that one of them does not take."""
    asked = context.parameters.encoder
    expect(bool(asked), "encoder", "one to measure, such as -p encoder=checkpoint:my.pt", "none")
    images = _test(context).images
    expect_takes(context.architecture, images, "dataset")
    for row in _given(context):
        expect_takes(row.encoder, images, "encoder")
        context.note_size(row.name, row.encoder, images.shape[-1])


def _dataset(context: Context) -> str:
    return context.parameters.dataset or context.plan.dataset


def _test(context: Context) -> ImageSet:
    return context.images(_dataset(context), "test", context.parameters.test_limit)


def _given(context: Context) -> list[Row]:
    if "given" not in context.memory:
        if any(spec.startswith("pool:") for spec in context.parameters.encoder):
            _ = context.pool  # which trains a quick one first, where it is not there
        rows = [Row(spec, load_encoder(spec).eval(), given=True) for spec in context.parameters.encoder]
        context.memory["given"] = rows
    return context.memory["given"]


def _rows(context: Context) -> Iterator[Row]:
    """The given encoders, the pool's and its untrained network, and raw pixels."""
    yield from _given(context)
    pool, seeds = context.pool, context.parameters.seeds
    yield from (Row(f"{name}/{seed}", pool.encoder(name, seed)) for name, seed in context.names if seed < seeds)
    channels, height, width = _test(context).images.shape[1:]
    if height == width:
        yield Row(PIXELS, Pixels(channels, height).eval())
    else:
        context.note(f"Warning: raw pixels are not measured, as the images are {height}×{width} px, not square")


def _labelled(context: Context) -> dict[str, ImageSet] | None:
    """All splits, where they have labels of at least two classes that a probe can be trained on; else None, noted."""
    if "labelled" not in context.memory:
        try:
            context.memory["labelled"] = _splits(context)
        except ValueError as error:
            context.memory["labelled"] = None
            context.note(f"Warning: only measures without labels: {error}")
    return context.memory["labelled"]


def _splits(context: Context) -> dict[str, ImageSet]:
    p, name = context.parameters, _dataset(context)
    sets = context.splits(name, val=p.probe_limit)
    for split, images in sets.items():
        expect(not images.unlabeled, "dataset", "labels", f"{name}, whose {split} split has none")
    context.expect_usable("dataset", sets, by_own=False)
    fewest = min(int(images.labels.bincount(minlength=len(images.classes)).min()) for images in sets.values())
    if fewest < FEW:
        context.note(f"Warning: a class has {fewest} images in one of the splits; below {FEW} accuracies say little")
    return sets


# --- measures ---------------------------------------------------------------------------------------------------------


def card(context: Context) -> xr.Dataset:
    """Every measure of every encoder, and where each stands among those that the pool trained."""
    rows, measured = [], []
    for row in tqdm([*_rows(context)], desc="encoders", unit="encoder"):
        rows.append(row)
        measured.append(_measured(context, row))
        for name, reason in measured[-1].undefined.items() if row.given else ():
            context.note(f"{row.name}: no {MEASURES[name].label}: {reason}")
    expect(any(m.values for m in measured), "dataset", "images of which some encoder has features", "none")
    names = [name for name in MEASURES if any(math.isfinite(m.values.get(name, math.nan)) for m in measured)]
    value = np.array([[m.values.get(name, np.nan) for m in measured] for name in names])
    trained, checksums = np.array([row.trained for row in rows]), [weights_checksum(row.encoder) for row in rows]
    results = xr.Dataset(
        {
            "value": (("measure", "encoder"), value),
            "checksum": ("encoder", checksums),
            "features": ("encoder", [row.encoder.feature_dim for row in rows]),
        },
        {
            "measure": names,
            "encoder": [row.name for row in rows],
            "given": ("encoder", [row.given for row in rows]),
            "trained": ("encoder", trained),
        },
        {"dataset": _dataset(context), "test_images": len(_test(context))},
    )
    results["standing"] = results.value.dims, standing(turned(results.value).values, trained, checksums)
    for text in warnings_of(results):
        context.note(f"Warning: {text}")
    return results


def standing(turned: np.ndarray, trained: np.ndarray, checksums: Sequence[str]) -> np.ndarray:
    """Share [M,E] of the other trained encoders that each one is at least as good as, by preferences [M,E].

    Encoders with the same weights are the same one.
    """
    shares = np.full(turned.shape, np.nan)
    for e, own in enumerate(checksums):
        others = turned[:, trained & (np.array(checksums) != own)]
        known = np.isfinite(others)
        below = ((turned[:, [e]] >= others) & known).sum(1)
        defined = np.isfinite(turned[:, e]) & known.any(1)
        shares[defined, e] = below[defined] / known.sum(1)[defined]
    return shares


def _measured(context: Context, row: Row) -> Measured:
    """All measures of one encoder; one whose features are not finite on some image has none."""
    p, test, sets = context.parameters, _test(context), _labelled(context)
    try:
        features = features_of(row.encoder, test)
        views = views_of(row.encoder, _views(context))
        own = Sets.of(row.encoder, sets) if sets else None
    except ValueError as error:
        return Measured({}, dict.fromkeys(MEASURES, str(error)))
    free = label_free(features, views)
    reference = _reference(context)
    if reference is not None and not torch.equal(reference, features):  # to itself it would be 1
        free = joined(free, similarity_to(reference, features))
    if own is None:
        return free
    fitted = context.memory.setdefault("probed", {})[row.name] = Probed.of(own, epochs=p.probe_epochs)
    head = Head.trained(row.encoder, own, len(sets["train"].classes), epochs=p.head_epochs)
    few = [_few(sets[split], p.attack_limit) for split in ("train", "test")]
    return joined(
        free,
        with_labels(own, fitted),
        with_few_labels(own, epochs=p.probe_epochs),
        through_the_network(head, *few, steps=p.attack_steps),
    )


def _views(context: Context) -> list[Tensor]:
    """Random views of some test images, drawn once."""
    if "views" not in context.memory:
        p = context.parameters
        view = colour_view(p.crop_scale, p.flip, p.jitter_strength)
        context.memory["views"] = drawn_views(_few(_test(context), p.view_images).images, view, p.views)
    return context.memory["views"]


def _few(images: ImageSet, limit: int) -> ImageSet:
    """So many images, or one of each class where there are more classes."""
    return at_most(images, max(limit, len(images.labels.unique())))


def _reference(context: Context) -> Tensor | None:
    """Features of the pool's supervised encoder of the greatest seed; None where there is none."""
    if "reference" not in context.memory:
        seeds = context.pool.seeds(REFERENCE)
        features = features_of(context.pool.encoder(REFERENCE, seeds[-1]), _test(context)) if seeds else None
        context.memory["reference"] = features
    return context.memory["reference"]


def warnings_of(results: xr.Dataset) -> Iterator[str]:
    """What a reader has to know before believing a given encoder's numbers, in words."""
    values = {str(name): results.value.sel(encoder=name) for name in results.encoder.values}

    def of(encoder: str, measure: str) -> float:
        known = encoder in values and measure in results.measure.values
        return float(values[encoder].sel(measure=measure)) if known else math.nan

    for name in results.encoder.values[results.given.values]:
        if bool(values[str(name)].isnull().all()):
            yield f"{name}: nothing could be measured: see what was left out"
        if of(name, "deviation") < COLLAPSED:
            yield f"{name}: collapsed: the features of all images are nearly alike"
        if math.isfinite(of(name, "knn")) and not math.isfinite(of(name, "accuracy")):
            yield f"{name}: its linear probe does not beat chance on the validation split"
        for floor, what in ((PIXELS, "raw pixels"), (f"{UNTRAINED}/0", "an untrained network")):
            if of(name, "accuracy") < of(floor, "accuracy") + GATE:
                here, there = (100 * of(n, "accuracy") for n in (name, floor))
                yield f"{name}: linear accuracy {here:.1f} %, not 5 points above {what} ({there:.1f} %)"


# --- pictures ---------------------------------------------------------------------------------------------------------


def curves(context: Context) -> xr.Dataset:
    """Exact accuracy of linear probes against how far features are moved; empty without labels."""
    names = list(map(str, context.data["card"].encoder.values))
    budgets = {norm: torch.linspace(0, largest, POINTS) for norm, largest in FEATURE_BUDGETS.items()}
    values = empty({"norm": budgets, "encoder": names, "step": range(POINTS)})
    for name, fitted in context.memory.get("probed", {}).items():
        for norm, at in budgets.items():
            values.loc[{"norm": norm, "encoder": name}] = fitted.curve(norm, _test(context).labels, at)
    return xr.Dataset({"accuracy": values, "budget": (("norm", "step"), np.stack(list(budgets.values())))})


def layers(context: Context) -> xr.Dataset:
    """CKA of all layers of each given encoder with those of the pool's supervised one."""
    pool, arrays = context.pool, {}
    images = _few(_test(context), 4 * context.parameters.attack_limit).images
    seeds = pool.seeds(REFERENCE)
    for i, row in enumerate(_given(context) if seeds else ()):
        try:
            similarity = cka_matrix(row.encoder, pool.encoder(REFERENCE, seeds[-1]), images)
        except ValueError as error:
            context.note(f"{row.name}: no similarity of layers: {error}")
            continue
        dims = f"layer_{i}", "layer_of_reference"
        coordinates = {dims[0]: list(similarity.layers_a), dims[1]: list(similarity.layers_b)}
        arrays[f"cka_{i}"] = xr.DataArray(similarity.values.numpy(), coordinates, dims, attrs={"encoder": row.name})
    return xr.Dataset(arrays, attrs={"images": len(images)})
