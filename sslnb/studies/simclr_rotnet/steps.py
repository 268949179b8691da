"""The study's steps: linear evaluation over a grid, few labels, attacks, transfer, depth, the published code.

Scores have the dimension score (:data:`SCORES`); NaN stands where an encoder is not in the pool, a probe did not
converge or fine-tuning diverged.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from sslnb.core import device
from sslnb.core.checks import expect
from sslnb.data.images import ImageSet, at_most
from sslnb.encoders.encoder import Encoder
from sslnb.features.extract import as_float, extract
from sslnb.features.linear import LinearProbe, LinearProbeGrid
from sslnb.features.scores import scores
from sslnb.features.standardize import Standardizer
from sslnb.metrics import attacks
from sslnb.pool import grids
from sslnb.pool.grids import OBJECTIVES, Grid
from sslnb.pool.pool import PIXELS
from sslnb.studies.measures import features_of
from sslnb.studies.simclr_rotnet.tuned import classifier
from sslnb.studies.simclr_rotnet.units import normalisation, normalised
from sslnb.studies.study import OWN, UNTRAINED, Context, empty
from sslnb.training import cost
from sslnb.training.finetune import Classifier, label_fraction, with_probe

SCORES = ("top1", "top2", "top3", "auc")
UNITS = ("normalised", "pixel")  # of the attacks' budgets
ATTACKS = ("fgsm", "pgd")
WAYS = ("to the target", "from the target")  # of a transfer
PLAIN = "plain"  # none of the published code's departures
TUNED_STEP = 1000  # of pretraining, after which the report fine-tunes; the last where there are fewer
STEP = 1.85  # a PGD step in units of eps / steps: what the report's "alpha = 1.85" multiplies in its code
SHOWN = 4  # images in the explorer, at most

Splits = Mapping[str, ImageSet]


class Encoders:
    """The encoders of a grid by what varies: seeds, batch sizes and departures of which there is a finished run."""

    def __init__(self, context: Context) -> None:
        self.pool, self.plan = context.pool, context.pool.scale
        self.seeds = sorted({seed for name, seed in context.names if name not in (UNTRAINED, OWN)})
        self.steps = self.plan.steps
        there = {name for name, _ in context.names}
        batch_sizes, departures = self.plan.batch_sizes, self.plan.departures
        self.batch_sizes = [b for b in batch_sizes if there & {grids.member(o, b) for o in OBJECTIVES}]
        self.departures = [d for d in departures if there & {self.departure(o, d) for o in OBJECTIVES}]
        a_run = f"a finished run of SimCLR or RotNet (sslnb pool train --scale {self.plan.name} makes them)"
        expect(bool(self.batch_sizes), "pool", a_run, f"only {', '.join(sorted(there - {UNTRAINED, OWN}))}")

    def at(self, variant: str, seed: int, step: int | None = None) -> Encoder | None:
        """An encoder of a run at a step, the last unless given; None where it is not there."""
        step = self.steps[-1] if step is None else step
        known = self.pool.steps(variant, seed) if seed in self.pool.seeds(variant) else ()
        if step not in known:
            return None
        return self.pool.encoder(variant, seed, step=None if step == known[-1] else step)

    def departure(self, objective: str, name: str) -> str:
        """The variant with one of the published code's departures, or with none."""
        if name == PLAIN:
            return grids.member(objective, self.plan.middle)
        return f"{objective}-{name}".replace(" ", "-")

    @property
    def tuned_step(self) -> int:
        return TUNED_STEP if TUNED_STEP in self.steps else self.steps[-1]


def _encoders(context: Context) -> Encoders:
    if "encoders" not in context.memory:
        context.memory["encoders"] = Encoders(context)
    return context.memory["encoders"]


def _source(context: Context) -> Splits:
    return context.splits(context.parameters.dataset)


def check(context: Context) -> None:
    """Refuse another pool than a grid, sets that encoders do not take, shares and budgets that can not be."""
    p = context.parameters
    expect(isinstance(context.plan, Grid), "pool", "a grid of SimCLR and RotNet", p.pool)
    context.expect_usable("dataset", _source(context))
    for side in p.sizes:
        context.expect_usable("target", context.splits(p.target, side=side), by_own=False)
    _fractions(context)
    deviation = float(normalisation(context.images(p.dataset, "train"))[1].max())
    wanted = f"at most {1 / deviation:.2f}, from the darkest to the brightest pixel"
    expect(p.largest_budget <= 1 / deviation, "largest_budget", wanted, p.largest_budget)


def _fractions(context: Context) -> list[float]:
    """Shares of the labels that leave an image in every class: those of a preset are cut to these."""
    p, possible, left_out = context.parameters, [], []
    for fraction in p.fractions:
        try:
            label_fraction(context.images(p.dataset, "train"), fraction)
            possible.append(fraction)
        except ValueError as error:
            if p.asked("fractions"):
                raise
            left_out.append(error)
    if not possible:
        raise left_out[-1]
    for error in left_out:
        context.note(str(error))
    return possible


# --- linear evaluation ------------------------------------------------------------------------------------------------


Probed = tuple[list[float], Standardizer | None, LinearProbe | None]


def _probe_at(
    context: Context,
    variant: str,
    seed: int,
    step: int | None = None,
    target: str | None = None,
    side: int | None = None,
) -> Probed:
    """The probe of a grid's encoder on a set, the study's own unless given; trained once for all steps that ask."""
    made, probes = _encoders(context), context.memory.setdefault("probes", {})
    key = variant, seed, made.steps[-1] if step is None else step, target, side
    if key not in probes:
        splits = context.splits(target or context.parameters.dataset, side=side)
        probes[key] = _probe(context, made.at(*key[:3]), splits, seed)
    return probes[key]


def _probe(context: Context, encoder: Encoder | None, splits: Splits, seed: int) -> Probed:
    """Scores on the test split of a linear probe, chosen on the validation split; NaN where it did not converge."""
    missing = [math.nan] * len(SCORES)
    if encoder is None:
        return missing, None, None
    raw = {name: features_of(encoder, images) for name, images in splits.items()}
    standardizer = Standardizer("unit_variance").fit(raw["train"])
    x = {name: standardizer.transform(part) for name, part in raw.items()}
    grid = LinearProbeGrid(epochs=context.parameters.probe_epochs, seed=seed)
    probe = grid.fit(x["train"], splits["train"].labels, x["val"], splits["val"].labels)
    values = scores(probe(x["test"]), splits["test"].labels) if probe.converged else missing
    return values, standardizer, probe


def linear(context: Context) -> xr.Dataset:
    """Probes on the encoders of every batch size at every number of steps, and on what they have to beat (figure 2)."""
    made = _encoders(context)
    splits, seeds = _source(context), made.seeds
    shape = {"objective": OBJECTIVES, "batch": made.batch_sizes, "step": made.steps, "seed": seeds}
    accuracy = empty(shape | {"score": SCORES})
    for cell in tqdm([*itertools.product(*shape.values())], desc="probes", unit="encoder"):
        objective, batch, step, seed = cell
        values = _probe_at(context, grids.member(objective, batch), seed, step)[0]
        accuracy.loc[dict(zip(shape, cell, strict=True))] = values
    beaten = _references(context, splits, [OWN] if context.own else [])
    attrs = {"classes": list(map(str, splits["test"].classes)), "test_images": len(splits["test"])}
    return xr.Dataset({"accuracy": accuracy, "references": beaten}, attrs=attrs)


def _references(context: Context, splits: Splits, more: Sequence[str] = ()) -> xr.DataArray:
    """Scores [reference, seed, score] of what is to be beaten: random weights, and raw pixels of the pool's size."""
    seeds, side = _encoders(context).seeds, splits["test"].images.shape[-1]
    pixels = [PIXELS] if side == context.pool.images().images.shape[-1] else []
    values = empty({"reference": [UNTRAINED, *more, *pixels], "seed": seeds, "score": SCORES})
    for name, seed in itertools.product(values.reference.values, seeds):
        values.loc[{"reference": name, "seed": seed}] = _probe(context, context.encoder(name, seed), splits, seed)[0]
    return values


# --- label fractions and attacks --------------------------------------------------------------------------------------


def fractions(context: Context) -> xr.Dataset:
    """Encoders of the largest batch there is, fine-tuned on shares of the labels, and a network from random weights.

    All for the same number of epochs, so of steps (table 1).
    """
    p, made = context.parameters, _encoders(context)
    methods = ["supervised", *OBJECTIVES, *([OWN] if context.own else [])]
    shape = {"begun": methods, "fraction": _fractions(context), "seed": made.seeds}
    values = empty(shape | {"score": SCORES})
    context.memory["tuned"] = {}
    for cell in tqdm([*itertools.product(*shape.values())], desc="fine-tuning", unit="model"):
        method, fraction, seed = cell
        tuned, found = _tune(context, _to_tune(context, method, seed), fraction, seed)
        values.loc[dict(zip(shape, cell, strict=True))] = found
        if tuned is not None:
            context.memory["tuned"][cell] = tuned
    attrs = {"step": made.tuned_step, "labelled": len(context.images(p.dataset, "train"))}
    return xr.Dataset({"tuned": values}, attrs=attrs)


def _to_tune(context: Context, method: str, seed: int) -> Encoder | None:
    if method in (OWN, "supervised"):
        return context.encoder(OWN if method == OWN else UNTRAINED, seed)
    made = _encoders(context)
    return made.at(grids.member(method, made.batch_sizes[-1]), seed, made.tuned_step)


def _tune(
    context: Context, encoder: Encoder | None, fraction: float, seed: int
) -> tuple[Classifier | None, list[float]]:
    """An encoder fine-tuned on a fraction of the labels, and its test scores; NaN where that went wrong."""
    p, missing = context.parameters, [math.nan] * len(SCORES)
    if encoder is None:
        return None, missing
    labelled = label_fraction(context.images(p.dataset, "train"), fraction, seed)
    settings = {"batch_size": p.tune_batch, "learning_rate": p.tune_rate, "crop_scale": p.tune_crop}
    epochs = p.tune_epochs[p.fractions.index(fraction)]
    model = classifier(encoder, labelled, epochs=epochs, seed=seed, flip=p.tune_flip, **settings)
    if model is None:
        context.note(f"fine-tuning on {100 * fraction:g} % of the labels, seed {seed}: stopped being finite")
        return None, missing
    test = _source(context)["test"]
    return model, scores(features_of(model, test), test.labels)


def attack(context: Context) -> xr.Dataset:
    """FGSM and PGD on all fine-tuned models, in the report's units and in pixels; examples for the explorer."""
    p, made, test = context.parameters, _encoders(context), _source(context)["test"]
    subset = at_most(test, p.attack_limit)
    x, y = as_float(subset.images), subset.labels
    (mean, std), shares = normalisation(context.images(p.dataset, "train")), torch.linspace(0, 1, p.budgets)
    budgets = torch.stack([shares * p.largest_budget, shares * p.largest_budget * float(std.mean())])
    methods = context.data["fractions"].begun.values
    shape = {"attack": ATTACKS, "unit": UNITS, "begun": methods, "fraction": _fractions(context)}
    accuracy = empty(shape | {"budget": range(p.budgets), "seed": made.seeds})
    for (method, fraction, seed), model in tqdm(context.memory["tuned"].items(), desc="attacks", unit="model"):
        for unit, eps in zip(UNITS, budgets, strict=True):
            plain = (model, x, (0.0, 1.0))
            attacked, images, bounds = plain if unit == "pixel" else normalised(model, x, mean, std)
            at = {"unit": unit, "begun": method, "fraction": fraction, "seed": seed}
            accuracy.loc[at] = _attacked(context, attacked, images, y, eps, bounds, seed)
    data = {"accuracy": accuracy, "eps": (("unit", "budget"), budgets.numpy())}
    attrs = {"attacked_images": len(subset), "classes": list(map(str, test.classes))}
    return xr.Dataset(data, attrs=attrs).assign(_examples(context, subset, budgets[1]))


def _attacked(
    context: Context,
    model: torch.nn.Module,
    x: Tensor,
    y: Tensor,
    budgets: Tensor,
    bounds: tuple[float, float],
    seed: int,
) -> np.ndarray:
    """Accuracies [attack, budget]."""
    on, steps = device.best_device(), context.parameters.attack_steps
    x, y = x.to(on, memory_format=torch.channels_last), y.to(on)
    settings = {"steps": steps, "relative_step": STEP / steps, "generator": torch.Generator(on).manual_seed(seed)}
    with device.autocast(on, device.best_precision(on)):
        single = attacks.fgsm_accuracy(model, x, y, budgets, bounds=bounds)
        strong = attacks.pgd_accuracy(model, x, y, budgets, bounds=bounds, **settings)
    return torch.stack([single, strong]).numpy()


def _examples(context: Context, images: ImageSet, budgets: Tensor) -> dict[str, tuple]:
    """PGD in pixels on linear probes (SimCLR, first seed): what it finds, and what the probes then say.

    Of the images that the most probes get right: an attack leaves the others as they are.
    """
    made, on, steps = _encoders(context), device.best_device(), context.parameters.attack_steps
    seed, sizes, models = made.seeds[0], made.batch_sizes, {}
    for b, batch in enumerate(sizes):
        variant = grids.member(OBJECTIVES[0], batch)
        encoder = made.at(variant, seed)
        if encoder is not None:
            models[b] = with_probe(encoder, *_probe_at(context, variant, seed)[1:]).to(on)
    right = torch.zeros(len(images))
    for model in models.values():
        right += extract(model, images).argmax(1) == images.labels
    images = images.subset(right.argsort(descending=True, stable=True)[:SHOWN])
    x = as_float(images.images)
    pictures = np.zeros((len(sizes), len(x), len(budgets), *x.shape[1:]), np.uint8)
    believed = np.full((*pictures.shape[:3], len(images.classes)), np.nan, np.float32)
    for b, model in models.items():
        for e, eps in enumerate(budgets.tolist()):
            settings = {"steps": steps, "step_size": STEP * eps / steps}
            generator = torch.Generator(on).manual_seed(seed)
            adversarial = attacks.pgd(model, x.to(on), images.labels.to(on), eps, **settings, generator=generator)
            pictures[b, :, e] = (255 * adversarial).round().byte().cpu().numpy()
            believed[b, :, e] = extract(model, adversarial.cpu()).softmax(1).numpy()
    pixels = ("channel", "row", "column")
    return {
        "example_image": (("sample", *pixels), images.images.numpy()),
        "example_label": ("sample", images.labels.numpy()),
        "example_adversarial": (("batch", "sample", "budget", *pixels), pictures),
        "example_believed": (("batch", "sample", "budget", "class"), believed),
    }


# --- transfer, architectures, the published code ----------------------------------------------------------------------


def transfer(context: Context) -> xr.Dataset:
    """Probes on the other data set: over steps both ways, and over batch sizes and image sizes one way (table 2)."""
    p, made = context.parameters, _encoders(context)
    variants = {
        (WAYS[0], "simclr"): grids.member("simclr", made.plan.middle),
        (WAYS[0], "supervised"): "supervised",
        (WAYS[1], "simclr"): "simclr-target",
        (WAYS[1], "supervised"): "supervised-target",
    }
    methods = ("simclr", "supervised")
    over_steps = empty({"way": WAYS, "begun": methods, "step": made.steps, "seed": made.seeds, "score": SCORES})
    over_batches = empty({"side": p.sizes, "batch": made.batch_sizes, "seed": made.seeds, "score": SCORES})
    cells = [*itertools.product(variants, made.steps, made.seeds)]
    for (way, method), step, seed in tqdm(cells, desc="transfer", unit="encoder"):
        on = (p.target, p.sizes[0]) if way == WAYS[0] else ()
        at = {"way": way, "begun": method, "step": step, "seed": seed}
        over_steps.loc[at] = _probe_at(context, variants[way, method], seed, step, *on)[0]
    for side, batch, seed in itertools.product(p.sizes, made.batch_sizes, made.seeds):
        values = _probe_at(context, grids.member("simclr", batch), seed, None, p.target, side)[0]
        over_batches.loc[{"side": side, "batch": batch, "seed": seed}] = values
    splits = {side: context.splits(p.target, side=side) for side in p.sizes}
    beaten = xr.concat([_references(context, splits[side]) for side in p.sizes], "side", join="outer")
    test = splits[p.sizes[0]]["test"]
    names = {"source": p.dataset, "target": p.target}
    attrs = names | {"target_test_images": len(test), "middle": made.plan.middle}
    data = {"over_steps": over_steps, "over_batches": over_batches, "references": beaten.assign_coords(side=[*p.sizes])}
    return xr.Dataset(data, attrs=attrs)


def architectures(context: Context) -> xr.Dataset:
    """Both objectives on a network of another depth, and what a step costs with each (section 5)."""
    p, made = context.parameters, _encoders(context)
    variants = {made.plan.depths[0]: lambda o: grids.member(o, made.plan.middle), made.plan.depths[1]: "{}-deep".format}
    accuracy = empty({"objective": OBJECTIVES, "depth": variants, "seed": made.seeds, "score": SCORES})
    quantities = ("seconds", "views", "memory")
    repeats = range(p.cost_repeats)
    price = empty({"objective": OBJECTIVES, "depth": variants, "repeat": repeats, "quantity": quantities})
    for objective, depth in tqdm([*itertools.product(OBJECTIVES, variants)], desc="architectures", unit="network"):
        variant = variants[depth](objective)
        for seed in made.seeds:
            at = {"objective": objective, "depth": depth, "seed": seed}
            accuracy.loc[at] = _probe_at(context, variant, seed)[0]
        member = made.plan.member(f"{variant}/0")
        for repeat in repeats:
            measured = cost.of_step(member.config, member.images())
            at = {"objective": objective, "depth": depth, "repeat": repeat}
            price.loc[at] = [measured.seconds, measured.views, measured.memory]
    return xr.Dataset({"accuracy": accuracy, "cost": price})


def published_code(context: Context) -> xr.Dataset:
    """Each departure of the published code from the text, switched on alone; fine-tuning from given weights."""
    p, made = context.parameters, _encoders(context)
    names = (PLAIN, *made.departures)
    accuracy = empty({"departure": names, "objective": OBJECTIVES, "seed": made.seeds, "score": SCORES})
    for name, objective, seed in tqdm([*itertools.product(names, OBJECTIVES, made.seeds)], desc="departures"):
        at = {"departure": name, "objective": objective, "seed": seed}
        accuracy.loc[at] = _probe_at(context, made.departure(objective, name), seed)[0]
    cut = empty({"step": made.steps, "seed": made.seeds, "score": SCORES})
    for step, seed in itertools.product(made.steps, made.seeds if "cut" in names else ()):
        values = _probe_at(context, made.departure("simclr", "cut"), seed, step, p.target, p.sizes[0])[0]
        cut.loc[{"step": step, "seed": seed}] = values
    begun = {"supervised": "supervised-elsewhere"} | {o: made.departure(o, "initialised") for o in OBJECTIVES}
    tuned = empty({"begun": begun, "fraction": _fractions(context), "seed": made.seeds, "score": SCORES})
    cells = [*itertools.product(begun, _fractions(context), made.seeds)] if "initialised" in names else []
    for method, fraction, seed in tqdm(cells, desc="fine-tuning from given weights", unit="model"):
        step = None if method == "supervised" else made.tuned_step
        at = {"begun": method, "fraction": fraction, "seed": seed}
        tuned.loc[at] = _tune(context, made.at(begun[method], seed, step), fraction, seed)[1]
    return xr.Dataset({"accuracy": accuracy, "transfer_cut": cut, "initialised": tuned})
