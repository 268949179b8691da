"""How far the answers depend on the probe: shares of variance (X4), claims under every choice, edges of the grid.

Encoders that did not learn are left out, as they are of the claims. A choice of probe, one weight decay and learning
rate for all encoders and sets, is *admissible* where its validation accuracy, mean over encoders and sets, is within
one point of the best one's: nothing but the test images that a study must not choose on would tell them apart.
"""

import itertools
import math
from collections.abc import Hashable, Iterable

import numpy as np
import xarray as xr

from sslnb.core.claims import Verdict, jackknife
from sslnb.studies.separability.claims import Measured, comparable, compared_measures, of_probes
from sslnb.studies.study import Context, empty

TOLERANCE = 0.01  # of validation accuracy, within which probes cannot be told apart
AUDITED = ("S1", "S2", "S3")
SOURCES = ("objective", "seed", "decay", "rate", "decay × rate", "encoder × probe")
ENCODER, PROBE = SOURCES[:2], SOURCES[2:5]
RULE_LABELS = {"compared": "the claims' rule", "own": "each encoder's own best", "limit": "limit of small decay"}
MEASURES = ("mean_margin", "accuracy", "norm_auc")
NUMBERS = ("estimate", "low", "high")
EDGES = {"least decay": ("decay", 0), "largest decay": ("decay", -1)} | {
    "least rate": ("rate", 0),
    "largest rate": ("rate", -1),
}


def probe_choice(context: Context) -> xr.Dataset:
    """Shares of variance of log margins, S1 to S3 under every choice of probe, and how often an edge is the best."""
    audit, data = context.data["audit"], context.data
    return xr.merge([variance(audit), claims_by_choice(audit, data), edges(audit)])


# --- encoders and choices ---------------------------------------------------------------------------------------------


def of_encoders(values: xr.DataArray, audit: xr.Dataset) -> xr.DataArray:
    """Values of the encoders that learned, objective and seed as one dimension ``encoder``."""
    trained = audit.learned & audit.limit_validation.notnull().any("dataset")
    objective, seed = (xr.DataArray(place, dims="encoder") for place in np.nonzero(trained.transpose(*ENCODER).values))
    return values.isel(objective=objective, seed=seed)


def mean_validation(audit: xr.Dataset) -> xr.DataArray:
    """Validation accuracy [decay, rate] over encoders that learned and sets; NaN where a probe was not finite."""
    accuracy = of_encoders(audit.validation, audit)
    if not accuracy.size:
        return xr.full_like(audit.validation.isel(objective=0, seed=0, dataset=0, drop=True), math.nan)
    return accuracy.mean(("encoder", "dataset"), skipna=False)


def admissible(audit: xr.Dataset) -> xr.DataArray:
    """Whether validation cannot tell a choice [decay, rate] from the best one."""
    accuracy = mean_validation(audit)
    return accuracy >= accuracy.max() - TOLERANCE


# --- X4: what explains margins ----------------------------------------------------------------------------------------


def variance(audit: xr.Dataset) -> xr.Dataset:
    """Shares of the variance of log mean margins by source, set and norm, with their jackknife deviation over encoders.

    Probes that did not converge have no margin, and a decomposition needs every probe of every encoder: the level
    (encoder, weight decay or learning rate) that misses the largest share of its probes is left out until none is
    missing. ``levels`` counts what remains. ``choice_*`` is the same with the admissible probes alone, where weight
    decay and learning rate, no full grid, are one factor.
    """
    margins = np.log(of_encoders(audit.mean_margin, audit))
    inside = np.nonzero(admissible(audit).transpose("decay", "rate").values)
    decay, rate = (xr.DataArray(places, dims="choice") for places in inside)
    choices = margins.isel(decay=decay, rate=rate).drop_vars(["decay", "rate"])
    grids = {"": margins, "choice_": choices.rename(choice="decay").expand_dims("rate")}
    coordinates = {name: audit[name].values for name in ("dataset", "norm")}
    coordinates |= {"source": list(SOURCES), "level": ["encoder", "decay", "rate"]}
    results = xr.Dataset(coords=coordinates)
    for prefix, values in grids.items():
        for name, dim in {"share": "source", "share_deviation": "source", "levels": "level"}.items():
            results[prefix + name] = empty(coordinates, "dataset", "norm", dim)
        for dataset, norm in itertools.product(coordinates["dataset"], coordinates["norm"]):
            at = {"dataset": dataset, "norm": norm}
            grid = balanced(values.sel(at, drop=True).transpose("encoder", "decay", "rate"))
            results[f"{prefix}share"].loc[at] = variance_shares(grid)
            results[f"{prefix}share_deviation"].loc[at] = deviation(grid)
            results[f"{prefix}levels"].loc[at] = np.array(grid.shape)
    return results


def balanced(values: xr.DataArray) -> xr.DataArray:
    """Values without the levels that miss most, so that none is missing."""
    missing = values.isnull()
    while values.size and bool(missing.any()):
        shares = {dim: missing.mean([other for other in missing.dims if other != dim]) for dim in missing.dims}
        dim = max(shares, key=lambda name: float(shares[name].max()))
        levels = np.arange(values.sizes[dim]) != int(shares[dim].argmax(dim))
        values, missing = values.isel({dim: levels}), missing.isel({dim: levels})
    return values


def deviation(values: xr.DataArray) -> np.ndarray:
    """Jackknife's standard deviation [6] over encoders of :func:`variance_shares`; NaN for fewer than three."""
    whole, n = variance_shares(values), values.sizes["encoder"]
    if n < 3 or not np.isfinite(whole).all():
        return np.full(len(SOURCES), math.nan)
    others = [variance_shares(values.isel(encoder=np.arange(n) != left_out)) for left_out in range(n)]
    return np.std(jackknife(others, whole), axis=0, ddof=1) / math.sqrt(n)


def variance_shares(values: xr.DataArray) -> np.ndarray:
    """Shares [6] of the sum of squares around the mean of values [encoder, decay, rate], none missing, by ``SOURCES``.

    A balanced analysis of variance: objective (mean of its encoders), seed within objective, weight decay, learning
    rate, those two together, and all that differs between probes from encoder to encoder. They sum to 1. NaN for fewer
    than two encoders or values that are all equal.
    """
    y = values.transpose("encoder", "decay", "rate").values
    objectives = values.objective.values
    if len(y) < 2 or not y.size or np.ptp(y) == 0:
        return np.full(len(SOURCES), math.nan)
    y = y - y.mean()
    encoder, choice = y.mean((1, 2)), y.mean(0)
    objective = np.array([encoder[objectives == name].mean() for name in objectives])
    decay, rate = choice.mean(1, keepdims=True), choice.mean(0, keepdims=True)
    effects = (
        objective[:, None, None],
        (encoder - objective)[:, None, None],
        decay[None],
        rate[None],
        (choice - decay - rate)[None],
        y - encoder[:, None, None] - choice,
    )
    return np.array([np.square(np.broadcast_to(effect, y.shape)).sum() for effect in effects]) / np.square(y).sum()


# --- S1 to S3 under every choice --------------------------------------------------------------------------------------


def claims_by_choice(audit: xr.Dataset, data: dict[str, xr.Dataset]) -> xr.Dataset:
    """Estimates of S1 to S3, with intervals over units, for every probe of the grid, and by three rules.

    ``rule``: the claims' own, one weight decay and the best learning rate for it; the decay and rate that validation
    picks for each encoder and set; and the limit of small weight decay. The first two are the study's probes, trained
    on both splits. NaN where a verdict has no number.
    """
    coordinates = {
        "claim": list(AUDITED),
        "decay": audit.decay.values,
        "rate": audit.rate.values,
        "rule": list(RULE_LABELS),
    }
    results = xr.Dataset(coords=coordinates).assign(
        mean_validation=mean_validation(audit), admissible=admissible(audit)
    )
    for number in NUMBERS:
        results[number] = empty(coordinates, "claim", "decay", "rate")
        results[f"rule_{number}"] = empty(coordinates, "claim", "rule")
    if not comparable(audit):
        return results
    for decay, rate in itertools.product(coordinates["decay"], coordinates["rate"]):
        at = {"decay": decay, "rate": rate}
        chosen = (audit[name].sel(at, drop=True) for name in MEASURES)
        _fill(results, "", at, of_probes(audit, Measured(*chosen)))
    limit = [audit[f"limit_{name}"] for name in MEASURES]
    for rule, values in zip(RULE_LABELS, (compared_measures(data), _picked(data), limit), strict=True):
        measured = Measured(*values)
        _fill(results, "rule_", {"rule": rule}, of_probes(audit, measured))
    return results


def _fill(results: xr.Dataset, prefix: str, at: dict[str, Hashable], verdicts: Iterable[Verdict]) -> None:
    for verdict in verdicts:
        for number in NUMBERS:
            results[prefix + number].loc[{"claim": verdict.claim} | at] = getattr(verdict, number)


def _picked(data: dict[str, xr.Dataset]) -> list[xr.DataArray]:
    """Mean margins, accuracy and norm-AUC of the probe that validation picks for each encoder and set."""
    probed, separation = data["probes"], data["separation"]
    scale = {"scale": probed.attrs["primary"], "drop": True}
    decay = probed.picked_decay.sel(**scale)
    values = separation.mean_margin, probed.accuracy, separation.norm_auc
    return [v.sel(**scale).sel(decay=decay).drop_vars("decay") for v in values]


# --- edges of the grid ------------------------------------------------------------------------------------------------


def edges(audit: xr.Dataset) -> xr.Dataset:
    """Of the encoders that learned, the share whose best probe lies at an edge of the grid, by set.

    ``edge_chosen``: the best probe on validation images, of equal ones that of least rate, then decay. ``edge_ahead``:
    it is more than one point ahead of all probes that are not at that edge.
    """
    coordinates = {"edge": list(EDGES), "dataset": audit.dataset.values}
    results = xr.Dataset({name: empty(coordinates) for name in ("edge_chosen", "edge_ahead")})
    accuracy = of_encoders(audit.validation, audit).fillna(-1)
    if not accuracy.size:
        return results
    # The first of equals, as the grid chooses: rates are its rows.
    best = dict(
        zip(("rate", "decay"), _first_best(accuracy.transpose("encoder", "dataset", "rate", "decay")), strict=True)
    )
    for edge, (dim, place) in EDGES.items():
        levels = np.arange(accuracy.sizes[dim])
        results.edge_chosen.loc[edge] = (best[dim] == levels[place]).mean(0)
        inside = accuracy.isel({dim: levels != levels[place]}).max(("rate", "decay"))
        ahead = accuracy.max(("rate", "decay")) > inside + TOLERANCE
        results.edge_ahead.loc[edge] = ahead.mean("encoder").transpose("dataset")
    return results


def _first_best(accuracy: xr.DataArray) -> tuple[np.ndarray, ...]:
    """Row and column [encoder, dataset] each of the greatest value of the last two dimensions."""
    best = accuracy.values.reshape(*accuracy.shape[:2], -1).argmax(-1)
    return np.unravel_index(best, accuracy.shape[2:])
