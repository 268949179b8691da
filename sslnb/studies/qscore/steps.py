"""The study's steps: probes and scores of every encoder, subsets of features, the score as a penalty, heatmaps.

Most datasets have the dimensions objective, seed and dataset; NaN stands where there is no such encoder, a probe did
not converge or a score is undefined, and the notes say why.
"""

import itertools

import numpy as np
import torch
import xarray as xr
from tqdm.auto import tqdm

from sslnb.core.result import bit_round
from sslnb.data.images import at_most
from sslnb.encoders.encoder import Encoder
from sslnb.features import prediction
from sslnb.metrics import activations, qscore
from sslnb.metrics.heatmaps import map_layer
from sslnb.studies.qscore import pictures
from sslnb.studies.qscore.cells import Cell, at_of, judged_of, shared
from sslnb.studies.qscore.encoders import (
    SUBSETS,
    VARIANTS,
    Judged,
    band,
    epsilon,
    further,
    judge,
    on_subsets,
    penalty_of,
    splits,
    trained_on,
)
from sslnb.studies.study import Context, empty
from sslnb.training.penalty import Penalty

BANDS = ("lower tail", "discriminative", "upper tail")
GAUGES = ("accuracy", "highly", "confidence", "auroc", "auprc")  # of an encoder before and after training on
STAGES = ("before", "plain", "qscore")  # of training on
REGIONS, OUTCOMES = ("core", "spurious"), ("right", "wrong")
MEASURES = ("accuracy", "score", "auroc")  # on another test split
SHOWN = 2000  # test samples whose features the live explorer moves epsilon and the band over
ROWS = 40  # samples of the heatmap of activations
BINS = np.linspace(0, 1, 51)  # of a magnitude, as a share of its sample's greatest


def _pictured(context: Context) -> Cell:
    """The encoder whose features are shown: the first that is trained on, else the first that there is."""
    cells = list(judged_of(context))
    trained = [cell for cell in cells if cell[0] in context.parameters.regularized]
    return (trained or cells)[0]


def _look(context: Context) -> pictures.Look:
    p = context.parameters
    return pictures.Look(p.heatmap_layer, epsilon(context), p.low, p.high, _own_layer(context))


def _own_layer(context: Context) -> str | None:
    """The layer whose maps are the heatmaps of the user's encoder, where it has none of the name that is asked for."""
    if context.own is None:
        return None
    if "own_layer" not in context.memory:
        p = context.parameters
        context.memory["own_layer"] = map_layer(context.own, splits(context, p.datasets[0])["test"].images)
    return context.memory["own_layer"]


def representations(context: Context) -> xr.Dataset:
    """Probe every encoder on every set; how sparse its features are (figure A.1)."""
    p = context.parameters
    coordinates = shared(context)
    results = xr.Dataset(
        {name: empty(coordinates, "objective", "seed", "dataset") for name in ("accuracy", "near_zero", "kurtosis")},
        coordinates,
        {"epsilon": epsilon(context), "low": p.low, "high": p.high},
    )
    judged = context.memory["judged"] = {}
    for (objective, seed), dataset in tqdm([*itertools.product(context.names, p.datasets)], desc="probes"):
        cell, sets = (objective, seed, dataset), splits(context, dataset)
        name = f"{objective} on {dataset}, seed {seed}"
        judged[cell] = judge(context, name, context.encoder(objective, seed), sets, seed)
        h = judged[cell].features["test"]
        results.accuracy.loc[at_of(cell)] = judged[cell].accuracy
        results.near_zero.loc[at_of(cell)] = activations.near_zero_share(h)
        results.kurtosis.loc[at_of(cell)] = activations.excess_kurtosis(h)
    return results.assign(_magnitudes(context)).assign(
        test_images=("dataset", [len(splits(context, name)["test"]) for name in p.datasets])
    )


def _magnitudes(context: Context) -> dict[str, tuple]:
    """Of the first set and each one's first seed: activations of some samples, and the histogram of magnitudes."""
    objectives, _ = context.grid()
    width = max(judged.rate.numel() for judged in judged_of(context).values())
    rows = np.full((len(objectives), ROWS, width), np.nan, np.float32)
    density = np.full((len(objectives), len(BINS) - 1), np.nan)
    for (objective, _, dataset), judged in reversed(judged_of(context).items()):  # the first seed's come last and stay
        if dataset == context.parameters.datasets[0]:
            relative = judged.features["test"].abs()
            relative = relative / relative.amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
            m = objectives.index(objective)
            density[m] = np.histogram(relative.numpy(), BINS)[0] / relative.numel()
            first = bit_round(relative[:ROWS].numpy(), bits=8)  # they are colours of a map
            rows[m, : len(first), : relative.shape[1]] = first
    return {
        "activations": (("objective", "row", "feature"), rows),
        "magnitudes": (("objective", "bin"), density),
    }


# --- features ---------------------------------------------------------------------------------------------------------


def features(context: Context) -> xr.Dataset:
    """Activation rates, what features tell about the class, examples; AUROC against epsilon and the band."""
    p, cells = context.parameters, judged_of(context)
    width = max(judged.rate.numel() for judged in cells.values())
    coordinates = shared(context, band=list(BANDS), epsilon=list(p.epsilons), low=list(p.lows), feature=range(width))
    key = ("objective", "seed", "dataset")
    results = xr.Dataset(
        {name: empty(coordinates, *key, "band") for name in ("information", "relative_information")}
        | {name: empty(coordinates, *key, "epsilon", "low") for name in ("sensitivity", "empty")}
        | {"rate": empty(coordinates, *key, "feature")}
    ).assign_coords({k: v for k, v in coordinates.items() if k != "feature"})
    for cell, judged in tqdm(cells.items(), desc="features", unit="encoder"):
        at, labels = at_of(cell), splits(context, cell[2])["train"].labels
        results.rate.loc[at | {"feature": slice(0, len(judged.rate) - 1)}] = judged.rate.numpy()
        for relative, name in enumerate(("information", "relative_information")):
            results[name].loc[at] = _information(judged, labels, epsilon(context), bool(relative))
        for value, low in itertools.product(p.epsilons, p.lows):
            mask, _ = band(qscore.activation_rate(judged.features["train"], value), low, p.high)
            if mask is not None:
                score = qscore.q_score(judged.features["test"], mask, value)
                here = at | {"epsilon": value, "low": low}
                results.empty.loc[here] = float((score == 0).double().mean())
                results.sensitivity.loc[here] = prediction.auroc(score.numpy(), judged.right.numpy())
    first = _pictured(context)
    test = splits(context, first[2])["test"]
    examples = pictures.of_features(context.encoder(*first[:2]), cells[first], test, _look(context))
    shown = examples | pictures.for_explorer(cells[first], SHOWN)
    results = results.assign({name: (_dims(name, values), values) for name, values in shown.items()})
    results.attrs |= {"pictured": first[0], "classes": list(map(str, test.classes))}
    return results.drop_vars("feature")


def _dims(name: str, values: np.ndarray) -> list[str]:
    """Dimensions of what is shown: its first axis is what it is of, the others are its own."""
    first = {"example": "example", "explorer": "shown", "sample": "sample"}[name.partition("_")[0]]
    return [first, *(f"{name}_{i}" for i in range(1, values.ndim))]


def _information(judged: Judged, labels: torch.Tensor, threshold: float, relative: bool) -> list[float]:
    """Mean information about the class, in bits or relative, of features below, within and above the band."""
    if judged.mask is None:
        return [np.nan] * len(BANDS)
    rates = activations.class_rates(judged.features["train"], labels, int(labels.max()) + 1, threshold)
    bits = activations.mutual_information(rates, labels, relative=relative)
    least, most = judged.rate[judged.mask].min(), judged.rate[judged.mask].max()
    groups = judged.rate < least, judged.mask, judged.rate > most
    return [float(bits[group].nanmean()) for group in groups]  # NaN where there is no such feature


def subset_probes(context: Context) -> xr.Dataset:
    """Probes on shares of the features, all of an encoder trained at once (figures 2, A.5, A.7)."""
    p = context.parameters
    coordinates = shared(context, subset=list(SUBSETS), share=list(p.shares))
    accuracy = empty(coordinates, "objective", "seed", "dataset", "subset", "share")
    for cell, judged in tqdm(judged_of(context).items(), desc="probes on subsets", unit="encoder"):
        if judged.probe.converged:
            accuracy.loc[at_of(cell)] = on_subsets(p, judged, splits(context, cell[2]), cell[1])
    return xr.Dataset({"accuracy": accuracy}, coordinates)


def outcomes(context: Context) -> xr.Dataset:
    """Discriminative activations of right and wrong samples, per class (figures 3, A.3); the score of both."""
    coordinates = shared(context, outcome=list(OUTCOMES))
    scores = empty(coordinates, "objective", "seed", "dataset", "outcome")
    for cell, judged in judged_of(context).items():
        if judged.usable:
            score = qscore.q_score(judged.features["test"], judged.mask, epsilon(context))
            scores.loc[at_of(cell)] = [float(score[chosen].mean()) for chosen in (judged.right, ~judged.right)]
    first = _pictured(context)
    test = splits(context, first[2])["test"]
    by_class = ("outcome", "class", "shown_feature"), pictures.by_class(judged_of(context)[first], test)
    return xr.Dataset({"score": scores, "by_class": by_class}, coordinates, {"classes": list(map(str, test.classes))})


# --- the regularizer --------------------------------------------------------------------------------------------------


def regularize(context: Context) -> xr.Dataset:
    """Train on with the penalty, with lasso, with neither, for the same steps (tables 1 and A.1, figure A.10).

    The learning rate is the one with which plain training has the best validation accuracy, first seed. Afterwards
    encoders are judged by a probe of the same learning rate and decay as before.
    """
    p, key = context.parameters, ("objective", "seed", "dataset")
    coordinates = shared(context, rate=list(p.further_rates), variant=list(VARIANTS), gauge=list(GAUGES))
    before = empty(coordinates, *key, "gauge")
    after = empty(coordinates, *key, "rate", "variant", "gauge")
    chosen, validation = empty(coordinates, "objective"), empty(coordinates, "objective", "rate")
    kept = context.memory["after"] = {}
    for cell, judged in judged_of(context).items():
        before.loc[at_of(cell)] = _gauges(context, judged)
    for cell in tqdm(_regularizable(context), desc="training on", unit="encoder"):
        objective = cell[0]
        if not bool(chosen.sel(objective=objective).notnull()):
            plain = {rate: _trained_on(context, cell, rate, None) for rate in p.further_rates}
            scored = {rate: float(found[1].probe.grid.max()) for rate, found in plain.items() if found}
            validation.loc[objective] = [scored.get(rate, np.nan) for rate in p.further_rates]
            if not scored:
                continue
            chosen.loc[objective] = best = max(scored, key=scored.__getitem__)
            kept[cell, "plain"] = plain[best]
        rate = float(chosen.sel(objective=objective))
        for variant in VARIANTS:
            penalty = penalty_of(context, variant, judged_of(context)[cell].mask)
            found = kept.get((cell, variant)) or _trained_on(context, cell, rate, penalty)
            if found:
                kept[cell, variant] = found
                after.loc[at_of(cell) | {"rate": rate, "variant": variant}] = _gauges(context, found[1])
    return xr.Dataset(
        {"before": before, "after": after, "chosen_rate": chosen, "plain_validation": validation}, coordinates
    )


def _regularizable(context: Context) -> list[Cell]:
    """Encoders to train on, on the first set, that have discriminative features."""
    p = context.parameters
    return [
        cell
        for cell, judged in judged_of(context).items()
        if cell[0] in p.regularized and cell[2] == p.datasets[0] and judged.mask is not None
    ]


def _trained_on(context: Context, cell: Cell, rate: float, penalty: Penalty | None) -> tuple[Encoder, Judged] | None:
    """An encoder trained on, judged by a probe of the same learning rate and decay as before; None if that failed."""
    objective, seed, dataset = cell
    encoder = further(context, objective, seed, rate, penalty)
    if encoder is None:
        return None
    name = f"{objective} on {dataset}, seed {seed}, {trained_on(rate, penalty)}"
    return encoder, judge(context, name, encoder, splits(context, dataset), seed, judged_of(context)[cell].probe)


def _gauges(context: Context, judged: Judged) -> list[float]:
    """Accuracy, mean number of highly activating features, mean confidence, AUROC and AUPRC of the Q-Score."""
    h = judged.features["test"]
    areas = [np.nan, np.nan]
    if judged.usable:
        score = qscore.q_score(h, judged.mask, epsilon(context))
        estimates = prediction.predicts(score, judged.right, rounds=2)
        areas = [estimates.auroc[0], estimates.auprc[0]]
    highly = float(qscore.highly_activating(h, epsilon(context)).sum(1).double().mean())
    confidence = float(judged.confidence.mean()) if judged.probe.converged else np.nan
    return [judged.accuracy, highly, confidence, *areas]


def ablation(context: Context) -> xr.Dataset:
    """Both weights of the penalty, for the first seed of the first encoder that is trained on (figure A.8)."""
    p = context.parameters
    coordinates = {"weight": list(p.weights), "norm_weight": list(p.norm_weights), "seed": [0], "gauge": list(GAUGES)}
    gauges = empty(coordinates, *coordinates)
    cells = [cell for cell in _regularizable(context) if (cell, "plain") in context.memory["after"]][:1]
    grid = list(itertools.product(cells, p.weights, p.norm_weights))
    for cell, weight, norm_weight in tqdm(grid, desc="ablation", unit="run"):
        rate = float(context.data["regularize"].chosen_rate.sel(objective=cell[0]))
        penalty = Penalty("qscore", judged_of(context)[cell].mask, weight, norm_weight, epsilon(context))
        found = _trained_on(context, cell, rate, penalty)
        if found:
            gauges.loc[{"weight": weight, "norm_weight": norm_weight}] = [_gauges(context, found[1])]
    return xr.Dataset({"gauges": gauges}, attrs={"ablated": cells[0][0] if cells else ""})


def transfer(context: Context) -> xr.Dataset:
    """Probes on other sets, before and after training on with and without the penalty (table A.2)."""
    p, after = context.parameters, context.memory["after"]
    coordinates = context.coordinates() | {"target": list(p.unseen), "stage": list(STAGES)}
    accuracy = empty(coordinates, "objective", "seed", "target", "stage")
    for cell, target in tqdm([*itertools.product(_regularizable(context), p.unseen)], desc="transfer", unit="encoder"):
        objective, seed, _ = cell
        here = {"objective": objective, "seed": seed, "target": target}
        known = judged_of(context).get(
            (objective, seed, target)
        )  # where the set is one of those that all are judged on
        encoders = {} if known else {"before": context.encoder(objective, seed)}
        encoders |= {stage: after[cell, stage][0] for stage in STAGES if (cell, stage) in after}
        if known:
            accuracy.loc[here | {"stage": "before"}] = known.accuracy
        for stage, encoder in encoders.items():
            name = f"{objective}, seed {seed}, on {target}, {stage}"
            found = judge(context, name, encoder, splits(context, target), seed).accuracy
            accuracy.loc[here | {"stage": stage}] = found
    return xr.Dataset({"accuracy": accuracy}, coordinates)


# --- heatmaps ---------------------------------------------------------------------------------------------------------


def heatmaps(context: Context) -> xr.Dataset:
    """Where discriminative features look: examples, and the overlap with masks (figures 5 to 7, A.4, A.6, A.11)."""
    p, look, key = context.parameters, _look(context), ("objective", "seed", "masked")
    more = {"masked": list(p.masked), "masked_b": list(p.masked), "stage": list(STAGES), "measure": list(MEASURES)}
    coordinates = context.coordinates() | more | {"region": list(REGIONS), "outcome": list(OUTCOMES)}
    results = xr.Dataset(
        {
            "overlap": empty(coordinates, *key, "stage", "region", "outcome"),
            "lift": empty(coordinates, *key, "stage"),
            "shifted": empty(coordinates, *key, "masked_b", "measure"),
            "area": empty(coordinates, "masked"),
        },
        coordinates,
    )
    for (objective, seed), masked in tqdm([*itertools.product(context.names, p.masked)], desc="heatmaps"):
        if not look.layers(context.encoder(objective, seed)):
            continue
        test = at_most(splits(context, masked)["test"], p.heatmap_images)
        results.area.loc[masked] = float(test.masks.double().mean())
        at = {"objective": objective, "seed": seed, "masked": masked}
        stages = _on_masked(context, objective, seed, masked)
        for stage, (encoder, judged) in stages.items():
            here = at | {"stage": stage}
            results.overlap.loc[here], results.lift.loc[here] = pictures.overlap(encoder, judged, test, look)
        for other in p.masked:
            elsewhere = splits(context, other)["test"]
            if elsewhere.classes == test.classes:
                measured = pictures.shifted(*stages["before"], elsewhere, look.epsilon)
                results.shifted.loc[at | {"masked_b": other}] = measured
    first = _pictured(context)
    test = splits(context, first[2])["test"]
    before = context.encoder(*first[:2]), judged_of(context)[first]
    samples = pictures.of_samples(before, context.memory["after"].get((first, "qscore")), test, look)
    results = results.assign({name: (_dims(name, values), values) for name, values in samples.items()})
    return results.assign_attrs(classes=list(map(str, test.classes)))


def _on_masked(context: Context, objective: str, seed: int, masked: str) -> dict[str, tuple[Encoder, Judged]]:
    """An encoder on a set with masks at each stage, with its judgement: before, and where it was trained on."""
    cell, after = (objective, seed, masked), context.memory["after"]
    encoder = context.encoder(objective, seed)
    if cell in judged_of(context):
        later = {stage: after[cell, stage] for stage in STAGES if (cell, stage) in after}
        return {"before": (encoder, judged_of(context)[cell])} | later
    name = f"{objective} on {masked}, seed {seed}"
    return {"before": (encoder, judge(context, name, encoder, splits(context, masked), seed))}
