"""The synthesis: the numbers of all studies on the same encoders, how they agree, and which of them choose well.

``value`` has the dimensions measure, objective and seed, or measure, objective and step along the first seed's runs.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from sslnb import studies
from sslnb.core.checks import expect
from sslnb.core.files import home
from sslnb.core.labels import CONTROLS
from sslnb.core.result import Result
from sslnb.data.images import at_most, stratified
from sslnb.encoders import Encoder
from sslnb.encoders.encoder import weights_checksum
from sslnb.metrics import inpca, linear_cka
from sslnb.studies.measures import (
    MEASURES,
    Measured,
    Probed,
    Sets,
    colour_view,
    drawn_views,
    features_of,
    joined,
    label_free,
    turned,
    turned_means,
    views_of,
    with_labels,
)
from sslnb.studies.study import UNTRAINED, Context
from sslnb.studies.synthesis.margins import BOUNDS, order, ratios
from sslnb.studies.synthesis.relations import LEAST, blind_regret, kendall, p_value, regret, spearman

TARGETS = ("accuracy", "transfer", "effective")  # what a number without labels should predict
KINDS = ("raw", "accuracy held fixed")
WITHOUT_LABELS, ALL = "encoders trained without labels", "all encoders"  # among which a number chooses
# Against controls these compare without SupCon, which they have beside SimCLR: shares would be of another comparison.
WITH_A_THIRD = ("G2", "G3")
Score = Callable[[np.ndarray, np.ndarray], float]
MAPPED = 500  # images whose similarities place an encoder on the map


class Point(NamedTuple):
    """An encoder on the map: the end of a seed's run, or a step of the first; neither for where runs begin."""

    objective: str
    seed: int | None = None
    step: int | None = None

    @property
    def name(self) -> str:
        known = {"seed": self.seed, "step": self.step}
        return ", ".join([self.objective, *(f"{word} {value}" for word, value in known.items() if value is not None)])


def check(context: Context) -> None:
    """Refuse images that an encoder does not take, and a folder without Results."""
    context.expect_usable("dataset", context.splits(_dataset(context)))
    for name in context.parameters.others:
        context.expect_usable("others", context.splits(name))
    _results(context)


def _dataset(context: Context) -> str:
    return context.parameters.dataset or context.plan.dataset


def _results(context: Context) -> dict[str, Result]:
    """The other studies' Results that are there and are of this pool."""
    if "results" not in context.memory:
        folder = home(context.parameters.results)
        names = [name for name in studies.NAMES if name not in (studies.JOINED, studies.CARD)]
        have = [name for name in names if (folder / f"{name}.json").is_file()]
        ask = f"a folder with Results of {', '.join(names)} (sslnb run all makes them)"
        expect(bool(have), "results", ask, f"none in {folder}")
        results = {name: Result.load(folder / name) for name in have}
        reasons = dict.fromkeys((name for name in names if name not in have), "no Result is there")
        reasons |= {name: reason for name, result in results.items() if (reason := _apart(context, result))}
        for name, reason in reasons.items():
            context.note(f"{name}: {reason}, its measures are left out")
        used = {name: result for name, result in results.items() if name not in reasons}
        expect(
            bool(used), "results", f"one of the pool {context.plan.name!r}", "; ".join(map(": ".join, reasons.items()))
        )
        context.memory["results"] = used
    return context.memory["results"]


def _apart(context: Context, result: Result) -> str:
    """Why a Result can't be joined, empty where it can; ``ValueError`` where it is of other weights of this pool."""
    parameters, provenance = result.facts["parameters"], result.facts["provenance"]
    if parameters.get("pool") != context.plan.name:
        return f"its Result is of the pool {parameters.get('pool')!r}"  # such as a grid's
    for name, checksum in provenance.get("encoders", {}).items():
        here = context.pool.entry(name).sha256
        expect(here == checksum, "results", f"measured on this pool's {name}", f"{result.study}, on other weights")
    own = None if context.own is None else weights_checksum(context.own)
    if provenance.get("encoder") != own:
        return "its Result is of another encoder than the given one, or of none"
    return ""


# --- measures ---------------------------------------------------------------------------------------------------------


def encoders(context: Context) -> xr.Dataset:
    """Label-free measures of every encoder."""
    rows = {}
    for objective, seed in tqdm(context.names, desc="label-free measures", unit="encoder"):
        rows[objective, seed] = _label_free(context, Point(objective, seed), context.encoder(objective, seed))
    return _filled(context.coordinates(), ("objective", "seed"), rows)


def _label_free(context: Context, point: Point, encoder: Encoder) -> Measured:
    """An encoder's label-free measures on test images, whose features are left for the map."""
    p, images = context.parameters, context.splits(_dataset(context))["test"]
    features = features_of(encoder, images)
    mapped = stratified(images.labels, min(MAPPED, len(images)), 0)  # of all classes, however the set is sorted
    context.memory.setdefault("mapped", {})[point] = features[mapped]
    if "views" not in context.memory:
        view = colour_view(p.crop_scale, p.flip, p.jitter_strength)
        context.memory["views"] = drawn_views(at_most(images, p.view_images).images, view, p.views)
    measured = label_free(features, views_of(encoder, context.memory["views"]))
    for measure, reason in measured.undefined.items():
        context.note(f"{point.name}: no {MEASURES[measure].label}: {reason}")
    return measured


def _filled(coordinates: Mapping[str, object], dims: Sequence[str], rows: Mapping[tuple, Measured]) -> xr.Dataset:
    """Measured values by measure and by the two names of each row; NaN elsewhere."""
    names = [name for name in MEASURES if any(name in row.values for row in rows.values())]
    array = xr.DataArray(
        np.full((len(names), *(len(coordinates[dim]) for dim in dims)), np.nan),
        {"measure": names} | {dim: list(coordinates[dim]) for dim in dims},
        ("measure", *dims),
    )
    for place, row in rows.items():
        array.loc[dict(zip(dims, place, strict=True))] = [row.values.get(name, np.nan) for name in names]
    return xr.Dataset({"value": array}, coordinates)


def checkpoints(context: Context) -> xr.Dataset:
    """Measures along every objective's first run, at the steps at which all were kept; step 0 is untrained."""
    pool = context.pool
    runs = {o: pool.steps(o, seed) for o, seed in context.names if seed == 0 and o in pool.scale.variants}
    own = {objective: steps for objective, steps in runs.items() if len(steps) > 1}
    if ends := [objective for objective in runs if objective not in own]:
        context.note(f"Of {', '.join(ends)} the end of the run alone is kept")
    shared = [step for step in next(iter(own.values()), ()) if all(step in steps for steps in own.values())]
    expect(bool(shared), "pool", "runs of which encoders were kept at the same steps", f"none in {context.plan.name}")
    rows = {(objective, 0): row for objective, row in _beginnings(context, own).items()}
    for objective, step in tqdm([*itertools.product(own, shared)], desc="checkpoints", unit="encoder"):
        kept = None if step == own[objective][-1] else step
        measured = _with_probe(context, Point(objective, step=step), pool.encoder(objective, 0, step=kept))
        losses = pool.entry(f"{objective}/0" + (f"@{kept}" if kept else "")).history["loss"]
        loss = next((value for value in reversed(losses) if value is not None), np.nan)
        rows[objective, step] = joined(measured, Measured({"loss": loss}, {}))
    return _filled({"objective": list(own), "step": [0, *shared]}, ("objective", "step"), rows)


def _beginnings(context: Context, objectives: Iterable[str]) -> dict[str, Measured]:
    """What is measured before the first step: once for all objectives that begin with the same weights."""
    known: dict[str, Measured] = {}
    rows = {}
    for objective in objectives:
        encoder = context.pool.beginning(objective)
        checksum = weights_checksum(encoder)
        if checksum not in known:
            point = Point(objective, step=0) if known else Point(UNTRAINED)
            known[checksum] = _with_probe(context, point, encoder)
        rows[objective] = known[checksum]
    return rows


def _with_probe(context: Context, point: Point, encoder: Encoder) -> Measured:
    """What no study measures of checkpoints: label-free measures, accuracy, transfer, effective accuracy."""
    p = context.parameters
    own = Sets.of(encoder, context.splits(_dataset(context)))
    here = with_labels(own, Probed.of(own, epochs=p.probe_epochs))
    elsewhere = [Probed.of(Sets.of(encoder, context.splits(o)), epochs=p.probe_epochs).accuracy for o in p.others]
    transfer = Measured({"transfer": float(np.mean(elsewhere)) if elsewhere else np.nan}, {})
    return joined(_label_free(context, point, encoder), here, transfer)


def _parts(context: Context) -> dict[str, xr.DataArray]:
    """What the studies hand over, by name."""
    if "parts" not in context.memory:
        found = (studies.get(name).measures(result.data) for name, result in _results(context).items())
        context.memory["parts"] = {str(name): array for part in found for name, array in part.data_vars.items()}
    return context.memory["parts"]


def matrix(context: Context) -> xr.Dataset:
    """All measures of all encoders: what the studies found, and the label-free ones."""
    parts = _parts(context)
    coordinates = context.coordinates()
    free = context.data["encoders"].value
    values = {name: free.sel(measure=name, drop=True) for name in free.measure.values}
    values |= {name: array for name, array in parts.items() if name in MEASURES}
    names = [name for name in MEASURES if name in values]
    like = {"objective": coordinates["objective"], "seed": coordinates["seed"]}
    whole = [values[name].reset_coords(drop=True).reindex(like).transpose("objective", "seed") for name in names]
    value = xr.concat(whole, "measure", coords="minimal", compat="override").assign_coords(measure=names)
    return xr.Dataset({"value": value}, coordinates | {"measure": names}, {"studies": list(_results(context))})


# --- X1 and X2 --------------------------------------------------------------------------------------------------------


def _units(context: Context) -> list[str]:
    """Objectives that learned, controls aside; all that were trained where fewer than five did, which a note says."""
    trained = [name for name in context.plan.variants if name in context.data["matrix"].objective.values]
    trained = [name for name in trained if name not in CONTROLS]
    have = context.data["matrix"]
    learned = [name for name in trained if bool(have.learned.sel(objective=name))]
    if len(learned) >= LEAST:
        return learned
    context.note(
        f"Correlations are over all {len(trained)} objectives, since {len(learned)} have learned, fewer than {LEAST}: "
        "they show how the page works, and say nothing about encoders that have learned"
    )
    return trained


def agreement(context: Context) -> xr.Dataset:
    """X1: rank correlations of all measures over objectives, raw and with linear accuracy held fixed."""
    units = _units(context)
    turned = turned_means(context.data["matrix"].value.sel(objective=units))
    names = [str(name) for name in turned.measure.values]
    preferences = _rows(turned)
    shape = (len(KINDS), len(names), len(names))
    values, chance, count = np.full((3, *shape), np.nan), np.full(shape, np.nan), np.zeros(shape, int)
    accuracy = preferences.get("accuracy")
    for i, j in itertools.combinations(range(len(names)), 2):
        x, y = preferences[names[i]], preferences[names[j]]
        held = accuracy is None or "accuracy" in (names[i], names[j])
        for k, given in enumerate((None, accuracy)):
            if k and held:
                continue
            correlation, p = spearman(x, y, given), p_value(x, y, given)
            for a, b in ((i, j), (j, i)):
                values[:, k, a, b], chance[k, a, b], count[k, a, b] = correlation[:3], p, correlation.n
    coordinates = {"bound": BOUNDS, "given": list(KINDS), "measure": names, "measure_b": names}
    pairs = tuple(coordinates)[1:]
    data = {"correlation": (tuple(coordinates), values), "p": (pairs, chance), "n": (pairs, count)}
    if "margins" in (parts := _parts(context)):
        data["order"] = order(parts["margins"], parts["accuracies"], units)
    return xr.Dataset(data, coordinates, {"units": units})


def selection(context: Context) -> xr.Dataset:
    """X2: how well each number without labels ranks encoders, and checkpoints of a run, and what its choice costs."""
    matrix = context.data["matrix"].sel(objective=_units(context))
    means, without = turned_means(matrix.value), matrix.self_supervised.values
    among = {WITHOUT_LABELS: _rows(means.isel(objective=without)), ALL: _rows(means)}
    over = among[ALL]
    along = context.data["checkpoints"].value
    runs = [_rows(turned(along.sel(objective=name))) for name in along.objective.values]
    targets = [target for target in TARGETS if target in over or target in runs[0]]
    names = [name for name, measure in MEASURES.items() if not measure.needs_labels and name in runs[0]]
    pair, by_run, of = ("measure", "target"), ("target", "objective"), ("among", "measure", "target")
    blind, last = (
        [[cost(run.get(target, np.array([]))) for run in runs] for target in targets]
        for cost in (blind_regret, _last_regret)
    )
    return xr.Dataset(
        {
            "encoders_tau": (of, np.stack([_scored(rows, names, targets, kendall) for rows in among.values()])),
            "encoders_regret": (of, np.stack([_scored(rows, names, targets, regret) for rows in among.values()])),
            "runs_tau": ((*pair, "objective"), np.stack([_scored(run, names, targets, kendall) for run in runs], -1)),
            "runs_regret": ((*pair, "objective"), np.stack([_scored(run, names, targets, regret) for run in runs], -1)),
            "blind_encoders_regret": (
                ("among", "target"),
                [[blind_regret(rows.get(t, np.array([]))) for t in targets] for rows in among.values()],
            ),
            "blind_runs_regret": (by_run, np.array(blind)),
            "last_runs_regret": (by_run, np.array(last)),
        },
        {
            "among": list(among),
            "measure": names,
            "target": targets,
            "objective": list(map(str, along.objective.values)),
        },
    )


def _rows(values: xr.DataArray) -> dict[str, np.ndarray]:
    """Values [n] of each measure."""
    return dict(zip(map(str, values.measure.values), values.transpose("measure", ...).values, strict=True))


def _scored(rows: Mapping[str, np.ndarray], names: Sequence[str], targets: Sequence[str], score: Score) -> np.ndarray:
    """A score [M,T] of each measure's preference against each target; NaN where one of them was not taken."""
    both = [[(rows.get(name), rows.get(target)) for target in targets] for name in names]
    return np.array([[np.nan if x is None or y is None else score(x, y) for x, y in row] for row in both])


def _last_regret(target: np.ndarray) -> float:
    """What is lost by taking the last checkpoint."""
    return regret(np.arange(len(target), dtype=float), target)


# --- X4 and X5 --------------------------------------------------------------------------------------------------------


def answers(context: Context) -> xr.Dataset:
    """X4 and X5 as the studies of separability and of the Q-Score answer them; empty without their Results."""
    results, parts = _results(context), []
    if "separability" in results and "probe_choice" in results["separability"].data:
        choice = results["separability"].data["probe_choice"]
        parts.append(choice[["share", "share_deviation"]].rename(dataset="probed"))
    if "qscore" in results and "failure" in results["qscore"].data:
        failure = results["qscore"].data["failure"]
        parts.append(failure[["pooled"]].isel(dataset=0, drop=True))
    return xr.merge(parts, compat="override", join="outer") if parts else xr.Dataset()


# --- X3 and the map ---------------------------------------------------------------------------------------------------


def controls(context: Context) -> xr.Dataset:
    """X3: every comparison of self-supervised with supervised encoders, and what of it remains against the controls."""
    names = list(CONTROLS.values())
    verdicts = [v for result in _results(context).values() for v in result.facts.get("verdicts", [])]
    rows = [v for v in verdicts if set(names) & set(v["controls"]) and v["claim"] not in WITH_A_THIRD]
    effects = {claim.id: claim.effect for name in _results(context) for claim in studies.get(name).claims.values()}
    estimate = [[np.nan if v[key] is None else v[key] for key in ("estimate", "low", "high")] for v in rows]
    beside = [[_numbers(v["controls"].get(name)) for name in names] for v in rows]
    compared = xr.Dataset(
        {
            "compares": ("claim", np.array([effects[v["claim"]] for v in rows], dtype=str)),
            "estimate": (("claim", "bound"), np.reshape(estimate, (len(rows), 3))),
            "control_estimate": (("claim", "control", "bound"), np.reshape(beside, (len(rows), len(names), 3))),
        },
        {"claim": [v["claim"] for v in rows], "control": names, "bound": BOUNDS},
    )
    margins = _parts(context).get("margins")
    if margins is not None and margins.attrs["claimed"]:
        compared["margin_ratio"] = ratios(margins, margins.attrs["claimed"])
    return compared


def _numbers(interval: Sequence[float | None] | None) -> list[float]:
    return [np.nan if value is None else value for value in interval or (None,) * 3]


def embedding(context: Context) -> xr.Dataset:
    """All encoders and checkpoints in the plane, by the similarity (CKA) of their features of the same test images.

    1 − CKA is half the squared distance between normalised Gram matrices, so the plane is that of their first two
    principal coordinates.
    """
    features: dict[Point, Tensor] = context.memory["mapped"]
    distances = torch.zeros(len(features), len(features), dtype=torch.double)
    for (i, a), (j, b) in tqdm([*itertools.combinations(enumerate(features), 2)], desc="map", leave=False, delay=1):
        distances[i, j] = distances[j, i] = 1 - linear_cka(features[a], features[b]).double()
    plane = inpca(distances.clamp(min=0), 2)
    explained = plane.eigenvalues[:2] / plane.eigenvalues.clamp(min=0).sum()
    return xr.Dataset(
        {
            "coordinate": (("point", "axis"), plane.coordinates.numpy()),
            "step": ("point", [-1 if point.step is None else point.step for point in features]),  # −1: the end of a run
            "explained": ("axis", explained.numpy()),
            "similarity": (("point", "point_b"), 1 - distances.numpy()),
        },
        {
            "point": [point.name for point in features],
            "point_b": [point.name for point in features],
            "objective": ("point", [point.objective for point in features]),
        },
        {"images": len(next(iter(features.values())))},
    )
