"""The study's steps on single images: which of them does the probe get right, and which score says so beforehand.

Both steps score the same test images of the same encoders; ``predict`` asks how well a score ranks them, ``failure``
what is gained by leaving out those of the lowest scores.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from sslnb.core.claims import bootstrap_weights, mean_interval
from sslnb.core.result import bit_round
from sslnb.data import ImageSet
from sslnb.encoders import Encoder
from sslnb.features import prediction
from sslnb.metrics import activations, risk_coverage
from sslnb.studies.measures import drawn_views, features_of
from sslnb.studies.qscore import pictures
from sslnb.studies.qscore.cells import KEY, Cell, at_of, judged_of, shared
from sslnb.studies.qscore.encoders import Judged, epsilon, splits
from sslnb.studies.study import Context, empty
from sslnb.training import PretrainConfig
from sslnb.views.augment import Augmentation

PREDICTORS = ("qscore", "norm", "max", "neighbour", "confidence")  # the last one needs labels: a probe's own
VIEW_PREDICTORS = ("density", "agreement", "view_confidence")  # besides them, of failure; the last one needs labels
RANDOM = "random"  # a score that does not vary: what any other has to beat
CURVE = np.linspace(0, 1, 201)  # where curves are kept
KEPT_BITS = 13  # of draws and curves: relative errors up to 0.0001
COVERAGES = np.round(np.arange(1, 51) / 50, 2)  # where risks are kept
ANSWERED = (0.5, 0.8, 0.9)  # coverages of which risks are stated
QUANTITIES = ("area", "excess", "share", "behind")  # that are pooled over encoders


def _scores(context: Context, judged: Judged) -> dict[str, Tensor]:
    """Scores [N] of the test images from their features, and the probe's own confidence."""
    train, test = (judged.features[split] for split in ("train", "test"))
    scores = activations.sample_scores(test, train, judged.mask, epsilon(context))
    return scores | {"confidence": judged.confidence}


def predict(context: Context) -> xr.Dataset:
    """How well the score, and simpler ones, predict which samples the probe gets right (figures 4 and A.9)."""
    p = context.parameters
    lines = {"predictor": list(PREDICTORS), "round": range(p.rounds), "curve": ["roc", "precision"], "x": CURVE}
    coordinates = shared(context, **lines)
    results = xr.Dataset(
        {name: empty(coordinates, *KEY, "predictor") for name in ("auroc", "auprc")}
        | {f"{name}_drawn": empty(coordinates, *KEY, "predictor", "round") for name in ("auroc", "auprc")}
        | {"base_rate": empty(coordinates, *KEY), "curves": empty(coordinates, *KEY, "curve", "x")}
    )
    for cell, judged in tqdm(judged_of(context).items(), desc="prediction", unit="encoder"):
        if not judged.probe.converged:
            continue
        at, scores, base = at_of(cell), _scores(context, judged), float(judged.right.double().mean())
        results.base_rate.loc[at] = base
        for name, score in scores.items():
            # The same draws for all encoders of a set: differences between them are paired by test image.
            estimates = prediction.predicts(score, judged.right, rounds=p.rounds)
            here = at | {"predictor": name}
            results.auroc.loc[here], results.auprc.loc[here] = estimates.auroc[0], estimates.auprc[0]
            results.auroc_drawn.loc[here], results.auprc_drawn.loc[here] = estimates.drawn.T
        if not 0 < base < 1:
            context.note("{0} on {2}, seed {1}: no AUROC, ".format(*cell) + estimates.undefined)
        elif judged.mask is not None:
            results.curves.loc[at] = pictures.curves(scores["qscore"], judged.right, CURVE)
    return _rounded(results.drop_vars("round").assign_coords(context.coordinates()))


def failure(context: Context) -> xr.Dataset:
    """Risk at every coverage when images are left out by a score, and the areas under these curves (question X5).

    ``excess`` is the area above that of the best order; draws of test images are the same for all scores and encoders
    of a set. ``pooled`` holds means over the objectives that learned, with 95 % intervals (of the area its mean alone).
    """
    results = _rounded(_by_score(context))
    return results.assign(_over_objectives(results))


def _rounded(results: xr.Dataset) -> xr.Dataset:
    """With draws and curves rounded far below their noise: they are most of what is recorded."""
    names = [name for name in results if name == "curves" or str(name).endswith("_drawn")]
    return results.assign({name: results[name].copy(data=bit_round(results[name].values, KEPT_BITS)) for name in names})


def pooled(context: Context) -> xr.Dataset:
    """What :func:`failure` has measured of each encoder, with its means over all of them."""
    results = context.data["failure"]
    return results.assign(_over_objectives(results))


def _by_score(context: Context) -> xr.Dataset:
    """Areas and curves of every score, with the excess of every draw of test images."""
    p, predictors = context.parameters, [*PREDICTORS, *VIEW_PREDICTORS, RANDOM]
    lines = {"predictor": predictors, "coverage": COVERAGES, "answered": list(ANSWERED), "round": range(p.rounds)}
    coordinates, key = shared(context, **lines), (*KEY, "predictor")
    results = xr.Dataset(
        {name: empty(coordinates, *key) for name in ("area", "excess")}
        | {"excess_drawn": empty(coordinates, *key, "round")}
        | {"risk": empty(coordinates, *key, "answered"), "curves": empty(coordinates, *key, "coverage")}
        | {"optimum": empty(coordinates, *KEY, "coverage")}
    )
    for dataset in p.datasets:
        weights = torch.from_numpy(bootstrap_weights(len(splits(context, dataset)["test"]), rounds=p.rounds))
        for cell, scores in _scores_on(context, dataset):
            right = judged_of(context)[cell].right
            results.optimum.loc[at_of(cell)] = risk_coverage(right.int(), right).at(COVERAGES)
            for name, score in scores.items():
                _measure(results, at_of(cell) | {"predictor": name}, score, right, weights)
    return results.assign_coords(context.coordinates()).drop_vars("round")  # what else is known of objectives


def _scores_on(context: Context, dataset: str) -> Iterator[tuple[Cell, dict[str, Tensor]]]:
    """Every score of a set's test images, by each encoder whose probe converged."""
    views = _views(context, splits(context, dataset)["test"])
    cells = [cell for cell, judged in judged_of(context).items() if cell[2] == dataset and judged.probe.converged]
    for cell in tqdm(cells, desc=f"failure on {dataset}", unit="encoder"):
        judged = judged_of(context)[cell]
        train, test = (judged.features[split] for split in ("train", "test"))
        density = activations.neighbour_similarity(test, train, k=context.at_most("neighbours", len(train)))
        scores = _scores(context, judged) | {"density": density, RANDOM: torch.zeros(len(test))}
        yield cell, scores | _view_scores(judged, context.encoder(*cell[:2]), views)


def _views(context: Context, test: ImageSet) -> list[Tensor]:
    """Random crops, flipped where the pool's are, uint8 [N,C,H,W] of the images' own size; the same for all encoders.

    Colours stay as they are: only some encoders have learned to see past them.
    """
    config = PretrainConfig(**context.plan.shared)
    view = Augmentation(scale=(config.crop_scale, 1.0), flip=config.flip)
    return drawn_views(test.images, view, context.parameters.views)


def _view_scores(judged: Judged, encoder: Encoder, views: Sequence[Tensor]) -> dict[str, Tensor]:
    """How alike an encoder finds the views of each image, and how sure its probe is of the image's class in them.

    Both see standardized features: those behind a ReLU share a direction, in which views agree whatever they show.
    """
    x = torch.stack([judged.standardizer.transform(features_of(encoder, view)) for view in views], 1)  # N×V×d
    believed = judged.probe(x.flatten(0, 1)).softmax(1).unflatten(0, x.shape[:2]).mean(1)  # N×K
    predicted = judged.probe.predict(judged.standardized("test"))
    sure = believed.gather(1, predicted[:, None])[:, 0]
    return {"agreement": activations.view_agreement(x), "view_confidence": sure}


def _measure(results: xr.Dataset, here: dict[str, object], score: Tensor, right: Tensor, weights: Tensor) -> None:
    """Write a score's curve and its areas, and the excess of every draw of images."""
    curve, draws = risk_coverage(score, right), risk_coverage(score, right, weights=weights)
    results.curves.loc[here], results.risk.loc[here] = curve.at(COVERAGES), curve.at(ANSWERED)
    results.area.loc[here], results.excess.loc[here] = curve.area, curve.excess
    results.excess_drawn.loc[here] = draws.excess


def _over_objectives(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Quantities of each objective, means over its seeds; and their means over the objectives that learned."""
    of_objectives = _quantities(results.area, results.excess).mean("seed")
    learned = results.objective.values[results.learned.values]
    unknown = xr.full_like(results.excess_drawn, np.nan)
    drawn = _quantities(unknown, results.excess_drawn).sel(objective=learned).mean("seed").mean("objective")
    pooled = xr.apply_ufunc(
        _interval,
        of_objectives.sel(objective=learned),
        drawn,
        input_core_dims=[["objective"], ["round"]],
        output_core_dims=[["statistic"]],
        vectorize=True,
    )
    return {"of_objectives": of_objectives, "pooled": pooled.assign_coords(statistic=["mean", "low", "high"])}


def _quantities(area: xr.DataArray, excess: xr.DataArray) -> xr.DataArray:
    """The areas, the excess ones, as shares of that of a random order, and what they are more than the confidence's."""
    random = excess.sel(predictor=RANDOM, drop=True)
    share, behind = excess / random.where(random > 0), excess - excess.sel(predictor="confidence", drop=True)
    return xr.concat([area, excess, share, behind], "quantity").assign_coords(quantity=list(QUANTITIES))


def _interval(units: np.ndarray, replicates: np.ndarray) -> np.ndarray:
    """Mean over units [U] with its interval, which the draws of test images [R] widen; NaN where there are none."""
    measured = units[np.isfinite(units)]
    return np.array(mean_interval(measured, replicates.std(ddof=1)) if len(measured) else (np.nan,) * 3)
