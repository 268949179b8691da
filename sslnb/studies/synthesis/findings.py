"""What the chapter's text says of its recorded result, and whether the result bears it out."""

import numpy as np
import xarray as xr

from sslnb.core.labels import CONTROLS
from sslnb.core.result import Result

VIEWS, MATCHED = CONTROLS.values()
SPREAD = ("uniformity", "deviation")  # how far features spread over their sphere
KINDS = {"views": ("simclr", "moco", "infomin"), "labels": ("supervised", "supcon")}  # of training, on the map


def with_accuracy(result: Result) -> xr.DataArray:
    """Rank correlation [measure] of each measure with linear accuracy, and its bounds, over objectives."""
    return result.data["agreement"].correlation.sel(given="raw", measure="accuracy").rename(measure_b="name")


def apart(result: Result, given: str) -> tuple[int, int]:
    """Of all pairs of measures, how many have an interval that excludes 0, and how many have a correlation."""
    data = result.data["agreement"].correlation.sel(given=given)
    pairs = np.triu(np.ones(data.shape[1:], dtype=bool), 1)
    value, low, high = (data.sel(bound=bound).values[pairs] for bound in ("value", "low", "high"))
    return int(((low > 0) | (high < 0)).sum()), int(np.isfinite(value).sum())


def remaining(result: Result) -> dict[str, dict[str, float]]:
    """By claim: the share of an effect that is left against each control, where the effect's interval excludes 0."""
    data = result.data["controls"]
    shares = {}
    for claim in data.claim.values:
        value, low, high = data.estimate.sel(claim=claim).values
        if low > 0 or high < 0:
            beside = data.control_estimate.sel(claim=claim, bound="value")
            shares[str(claim)] = {str(name): float(beside.sel(control=name)) / value for name in data.control.values}
    return shares


def between_ends(result: Result) -> dict[str, float]:
    """Distances on the map between final encoders: within those of two views, within those of labels, between both."""
    data = result.data["embedding"]
    ends = data.isel(point=(data.step == -1).values)
    places = {kind: ends.coordinate.values[np.isin(ends.objective, names)].mean(0) for kind, names in KINDS.items()}
    return {
        "views_and_labels": float(np.linalg.norm(places["views"] - places["labels"])),
        "within_views": _reach(ends, KINDS["views"]),
        "within_labels": _reach(ends, KINDS["labels"]),
    }


def _reach(ends: xr.Dataset, names: tuple[str, ...]) -> float:
    """The greatest distance between the mean places of some objectives."""
    means = [ends.coordinate.values[(ends.objective == name).values].mean(0) for name in names]
    return float(max(np.linalg.norm(a - b) for a in means for b in means))


def statements(result: Result) -> dict[str, bool]:
    """Every statement of the published text with its truth; the build stops at one that is false."""
    return _on_agreement(result) | _on_selection(result) | _on_controls(result)


def _on_agreement(result: Result) -> dict[str, bool]:
    value = with_accuracy(result).sel(bound="value")
    raw, left = (share(apart(result, given)) for given in ("raw", "accuracy held fixed"))
    places = between_ends(result)
    return {
        "margins, progress and the Q-Score's AUROC follow accuracy": float(
            value.sel(name=["margin", "norm_auc", "effective", "progress", "qscore_auroc"]).min()
        )
        > 0.6,
        "what is kept under attacks on the pixels does not follow accuracy": float(
            value.sel(name=["fgsm", "pgd"]).max()
        )
        < 0.3,
        "with accuracy held fixed no more pairs agree than by chance": left < 0.08 < raw,
        "encoders lie together by what they were trained on, labels or views": places["views_and_labels"]
        > 2 * max(places["within_views"], places["within_labels"]),
    }


def share(counts: tuple[int, int]) -> float:
    """The first count as a share of the second."""
    return counts[0] / max(counts[1], 1)


def _on_selection(result: Result) -> dict[str, bool]:
    data = result.data["selection"].sel(target="accuracy")
    regret, blind = data.encoders_regret, float(data.blind_encoders_regret)
    along = data.runs_regret.mean("objective")
    return {
        "how evenly features spread chooses the right encoder": float(regret.sel(measure=list(SPREAD)).max()) < 0.01,
        "RankMe, α-ReQ and NESum choose worse than chance": float(
            regret.sel(measure=["rankme", "alpha_req", "nesum"]).min()
        )
        > blind,
        "alignment calls the untrained network the best": float(along.sel(measure="alignment"))
        > float(data.blind_runs_regret.mean()),
        "within a run nothing beats the last checkpoint": float(data.last_runs_regret.max()) < 0.005,
        "uniformity, feature deviation and agreement of views rank checkpoints": float(
            data.runs_tau.mean("objective").sel(measure=[*SPREAD, "knn_agreement"]).min()
        )
        > 0.85,
    }


def _on_controls(result: Result) -> dict[str, bool]:
    left = remaining(result)
    return {
        "accuracy explains four fifths of the class simplex, and not what residual branches do not share": left["C7"][
            MATCHED
        ]
        < 0.3
        and left["C3"][MATCHED] > 0.7,
        "at equal accuracy SimCLR's lead under FGSM is larger": left["G3"][MATCHED] > 1.3,
    }
