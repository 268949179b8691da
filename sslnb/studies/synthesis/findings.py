"""What the chapter's text says of its recorded result, and whether the result bears it out."""

from itertools import combinations, product

import numpy as np
import xarray as xr

from sslnb.core.labels import CONTROLS
from sslnb.core.result import Result

VIEWS, MATCHED = CONTROLS.values()
SPREAD = ("uniformity", "deviation")  # how far features spread over their sphere
RANKS = ("rankme", "alpha_req", "nesum")  # how many directions they use
APART = "cmc"  # two networks, one for brightness and one for colours: it differs from all others in much
ON_VIEWS = "supervised_simclr_views"
# On the map: what a network is trained to tell apart.
KINDS = {"views": ("simclr", "moco", "infomin"), "labels": ("supervised", ON_VIEWS, "supcon")}


def with_accuracy(result: Result) -> xr.DataArray:
    """Rank correlation [measure] of each measure with linear accuracy, and its bounds, over objectives."""
    return result.data["agreement"].correlation.sel(given="raw", measure="accuracy").rename(measure_b="other")


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
    """Mean similarity of final encoders: of seeds, of the objectives of one kind, of both kinds, of a control."""
    embedding = result.data["embedding"]
    ends = (embedding.step == -1).values
    similarity, owners = embedding.similarity.values[np.ix_(ends, ends)], embedding.objective.values[ends]
    of = {name: np.flatnonzero(owners == name) for name in dict.fromkeys(owners)}
    known = {kind: [name for name in names if name in of] for kind, names in KINDS.items()}

    def mean(pairs: list[tuple[str, str]]) -> float:
        return float(np.mean([similarity[i, j] for a, b in pairs for i, j in product(of[a], of[b])]))

    trained = [name for names in known.values() for name in names]
    seeds = [similarity[i, j] for name in trained for i, j in combinations(of[name], 2)]
    return {
        "of_seeds": float(np.mean(seeds)) if seeds else np.nan,
        **{f"within_{kind}": mean(list(combinations(names, 2))) for kind, names in known.items()},
        "views_and_labels": mean(list(product(*known.values()))),
        **{f"on_views_and_{name}": mean([(ON_VIEWS, name)]) for name in ("supervised", "simclr") if ON_VIEWS in of},
    }


def shares_of(result: Result, source: str) -> xr.DataArray:
    """Share [probed] of the variance of log margins that has a source, mean over norms."""
    return result.data["answers"].share.sel(source=source).mean("norm")


def missed_by(result: Result) -> xr.DataArray:
    """Excess area under risk and coverage [predictor] as a share of a random order's."""
    return result.data["answers"].pooled.sel(quantity="share", statistic="mean")


def statements(result: Result) -> dict[str, bool]:
    """Every statement of the published text with its truth; the build stops at one that is false."""
    return _on_agreement(result) | _on_selection(result) | _on_controls(result) | _on_the_map(result)


def _on_agreement(result: Result) -> dict[str, bool]:
    value, low = (with_accuracy(result).sel(bound=bound) for bound in ("value", "low"))
    raw, left = (share(apart(result, given)) for given in ("raw", "accuracy held fixed"))
    return {
        "margins put the objectives in the order of their accuracy": float(
            value.sel(other=["margin", "norm_auc", "effective"]).min()
        )
        == 1,
        "progress and the Q-Score's AUROC point the same way, with intervals that include 0": float(
            value.sel(other=["progress", "qscore_auroc"]).min()
        )
        > 0.6
        and float(low.sel(other=["progress", "qscore_auroc"]).max()) < 0,
        "what is kept under attacks on the pixels, and the rise of the loss, do not follow accuracy": float(
            value.sel(other=["fgsm", "pgd", "rise"]).max()
        )
        < 0.3,
        "margins, progress and the Q-Score's AUROC follow accuracy": float(
            value.sel(other=["margin", "norm_auc", "effective", "progress", "qscore_auroc"]).min()
        )
        > 0.6,
        "with accuracy held fixed no more pairs agree than by chance": left < 0.05 < 0.15 < raw,
    }


def share(counts: tuple[int, int]) -> float:
    """The first count as a share of the second."""
    return counts[0] / max(counts[1], 1)


def _on_selection(result: Result) -> dict[str, bool]:
    data = result.data["selection"].sel(target="accuracy")
    regret, blind = data.encoders_regret, float(data.blind_encoders_regret)
    others = data.sel(objective=[name for name in data.objective.values if name != APART])
    alone = data.sel(objective=APART)
    ranking = [*SPREAD, "knn_agreement"]
    return {
        "how evenly features spread chooses the right encoder": float(regret.sel(measure=list(SPREAD)).max()) < 0.01,
        "RankMe, α-ReQ and NESum choose worse than chance": float(regret.sel(measure=list(RANKS)).min()) > blind,
        "alignment calls the untrained network the best, in every run but CMC's": float(
            (others.runs_regret - others.blind_runs_regret).sel(measure="alignment").min()
        )
        > 0
        and float(alone.runs_regret.sel(measure="alignment")) < float(alone.blind_runs_regret),
        "within a run nothing beats the last checkpoint": float(data.last_runs_regret.max()) < 0.005,
        "in every run but CMC's, spread and the agreement of views choose the best checkpoint": float(
            others.runs_regret.sel(measure=ranking).max()
        )
        < 0.005,
        "in CMC's run they do not": float(alone.runs_regret.sel(measure=ranking).min()) > 0.05,
    }


def _on_controls(result: Result) -> dict[str, bool]:
    left = remaining(result)
    margins = [left[claim] for claim in ("S1", "S3", "S5")]
    objective, decay, rate = (shares_of(result, source) for source in ("objective", "decay", "rate"))
    own, other = ["cifar10"], ["cifar100", "caltech101"]
    missed = missed_by(result)
    return {
        "augmentation explains none of the difference in margins, accuracy three quarters": min(
            one[VIEWS] for one in margins
        )
        > 0.9
        and max(one[MATCHED] for one in margins) < 0.25,
        "accuracy explains four fifths of the class simplex, and not what residual branches do not share": left["C7"][
            MATCHED
        ]
        < 0.25
        and left["C3"][MATCHED] > 0.8,
        "at equal accuracy SimCLR's lead under FGSM is larger": left["G3"][MATCHED] > 1.3,
        "margins are the encoder's on the set of the training and the probe's on sets of other classes": float(
            (objective - decay - rate).sel(probed=own).min()
        )
        > 0
        and float(objective.sel(probed=other).max()) < 0.1,
        "the probe's confidence predicts failures best, the Q-Score hardly": str(missed.idxmin().values) == "confidence"
        and float(missed.sel(predictor="qscore")) > 0.75,
    }


def _on_the_map(result: Result) -> dict[str, bool]:
    places, embedding = between_ends(result), result.data["embedding"]
    early = embedding.isel(point=(embedding.step == 219).values)
    labelled = np.isin(early.objective.values, KINDS["labels"])
    along = early.coordinate.values[:, 0]
    return {
        "encoders lie together by what they were trained on, labels or views": min(
            places["within_views"], places["within_labels"]
        )
        > 1.3 * places["views_and_labels"],
        "supervised training on SimCLR's views ends with the labels": places["on_views_and_supervised"]
        > 1.3 * places["on_views_and_simclr"],
        "runs with labels part from the others within 219 steps": bool(
            along[labelled].min() > along[~labelled].max() + 0.1
        ),
    }
