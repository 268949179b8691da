"""What the chapter's text says of its recorded result, and whether the result bears it out."""

from collections.abc import Iterable
from itertools import combinations, product

import numpy as np
import xarray as xr

from sslnb.core.labels import CONTROLS
from sslnb.core.result import Result
from sslnb.pool.pool import MATCHED, ON_VIEWS
from sslnb.studies.measures import MEASURES
from sslnb.studies.synthesis.steps import ALL, WITHOUT_LABELS
from sslnb.studies.synthesis.steps import KINDS as KINDS_OF_CORRELATION

MARGINS = ("margin", "norm_auc", "effective")
LEVEL = 0.05  # of p
FEW = ("qscore_auroc", "progress", "rise", "fgsm", "pgd")  # measured of five objectives
SPREAD = ("uniformity", "deviation")  # how far features spread over their sphere
PAPERS = {
    "separability": "separability",
    "Q-Score": "Q-Score",
    "layers": "CKA",
    "geometry": "geometry",
    "robustness": "geometry",
}  # that introduce a kind of measure
APART = "cmc"  # two networks, one for brightness and one for colours
# On the map: those that lie together.
KINDS = {"views": ("simclr", "moco", "infomin"), "labels": ("supervised", ON_VIEWS, "supcon")}
NEITHER = (APART, "rotnet", MATCHED)


def with_accuracy(result: Result) -> xr.DataArray:
    """Rank correlation [measure] of each measure with linear accuracy, and its bounds, over objectives."""
    return result.data["agreement"].correlation.sel(given="raw", measure="accuracy").rename(measure_b="other")


def between_papers(result: Result, given: str) -> tuple[int, int]:
    """Of the pairs of measures that different papers introduce: those unlikely by chance, and all that have a p."""
    data = result.data["agreement"].p.sel(given=given)
    introduced = {str(name): PAPERS.get(MEASURES[str(name)].kind) for name in data.measure.values}
    pairs = [(a, b) for a, b in combinations(introduced, 2) if introduced[a] and introduced[b]]
    values = [float(data.sel(measure=a, measure_b=b)) for a, b in pairs if introduced[a] != introduced[b]]
    known = [p for p in values if np.isfinite(p)]
    return sum(p < LEVEL for p in known), len(known)


def dots(result: Result, given: str) -> tuple[int, int]:
    """Of all pairs of measures: those unlikely by chance, and all that have a p."""
    p = result.data["agreement"].p.sel(given=given).values
    above = p[np.triu_indices(len(p), 1)]
    return int((above < LEVEL).sum()), int(np.isfinite(above).sum())


def margin_ratio(result: Result, against: str, probed: str) -> tuple[float, float, float]:
    """How many times as large margins are with labels as without, with its 95 % interval over objectives."""
    return tuple(np.exp(result.data["controls"].margin_ratio.sel(against=against, probed=probed).values))


def remaining(result: Result) -> dict[str, dict[str, np.ndarray]]:
    """By claim, where its effect is clear: the share that is left against each control, with its bounds."""
    data = result.data["controls"]
    shares = {}
    for claim in data.claim.values:
        value, low, high = data.estimate.sel(claim=claim).values
        if low > 0 or high < 0:
            beside = data.control_estimate.sel(claim=claim)
            shares[str(claim)] = {str(name): beside.sel(control=name).values / value for name in data.control.values}
    return shares


class Ends:
    """The similarity of final encoders, by objective."""

    def __init__(self, result: Result) -> None:
        embedding = result.data["embedding"]
        ends = (embedding.step == -1).values
        self.similarity, owners = embedding.similarity.values[np.ix_(ends, ends)], embedding.objective.values[ends]
        self.of = {str(name): np.flatnonzero(owners == name) for name in dict.fromkeys(owners)}

    def mean(self, pairs: Iterable[tuple[str, str]]) -> float:
        """Over all encoders of pairs of objectives, of those that are there."""
        known = [(a, b) for a, b in pairs if a in self.of and b in self.of]
        values = [self.similarity[i, j] for a, b in known for i, j in product(self.of[a], self.of[b]) if i != j]
        return float(np.mean(values)) if values else np.nan


def between_ends(result: Result) -> dict[str, float]:
    """Mean similarity of final encoders: of seeds, of the objectives of one kind, of both kinds, of the others."""
    ends = Ends(result)
    together = [name for names in KINDS.values() for name in names]
    return {
        "of_seeds": ends.mean((name, name) for name in together),
        **{f"within_{kind}": ends.mean(combinations(names, 2)) for kind, names in KINDS.items()},
        "views_and_labels": ends.mean(product(*KINDS.values())),
        **{f"on_views_and_{name}": ends.mean([(ON_VIEWS, name)]) for name in ("supervised", "simclr")},
        **{f"{name}_and_{kind}": ends.mean(product([name], KINDS[kind])) for name in NEITHER for kind in KINDS},
    }


def shares_of(result: Result, source: str) -> xr.DataArray:
    """Share [probed] of the variance of log margins that has a source, mean over norms."""
    return result.data["answers"].share.sel(source=source).mean("norm")


def missed_by(result: Result) -> xr.DataArray:
    """Excess area under risk and coverage [predictor, statistic] as a share of a random order's, on the first set."""
    return result.data["answers"].pooled.sel(quantity="share")


def statements(result: Result) -> dict[str, bool]:
    """Every statement of the published text with its truth; the build stops at one that is false."""
    parts = (_on_agreement, _on_selection, _on_checkpoints, _on_controls, _on_answers, _on_the_map)
    return {text: bool(true) for part in parts for text, true in part(result).items()}


def _on_agreement(result: Result) -> dict[str, bool]:
    value, agreement = with_accuracy(result).sel(bound="value"), result.data["agreement"]
    p = agreement.p.sel(given="raw", measure="accuracy").rename(measure_b="other")
    ordered = value.sel(other=list(MARGINS)).min() == 1
    order = agreement.order.sel(bound="value")
    following = [*SPREAD, "mean_q_score"]
    found = dots(result, KINDS_OF_CORRELATION[1])
    return {
        "on CIFAR-10 margins rank objectives as accuracy does; what is known of five decides nothing": ordered
        and (p.sel(other=list(FEW)) > LEVEL).all(),
        "the fewer images of CIFAR-10's kind, the less margins follow accuracy": order.sel(probed="cifar10") == 1
        and order.sel(probed="stl10") > 0.9 > order.sel(probed="cifar100") > 0.6 > order.sel(probed="caltech101"),
        "uniformity, deviation and the mean Q-Score follow accuracy over all objectives": value.sel(
            other=following
        ).min()
        > 0.9
        and (p.sel(other=following) < LEVEL).all(),
        "intrinsic dimension runs against it": value.sel(other="dimension") < 0 and p.sel(other="dimension") < LEVEL,
        "with accuracy held fixed there are no more dots than chance gives": found[0] <= LEVEL * found[1],
        "progress and the Q-Score's AUROC point the way of accuracy": value.sel(
            other=["progress", "qscore_auroc"]
        ).min()
        > 0.6,
        "no pair of measures of different papers is unlikely by chance": between_papers(result, "raw")[0] == 0,
        "transfer nearly has the order of accuracy": 0.9 < value.sel(other="transfer") < 1,
    }


def _on_selection(result: Result) -> dict[str, bool]:
    data = result.data["selection"].sel(target="accuracy")
    without, everyone = (data.sel(among=among) for among in (WITHOUT_LABELS, ALL))
    right = ["lidar", *SPREAD, "learnability", "knn_agreement", "mean_q_score"]
    ranks = ["rankme", "nesum"]
    misled = [*ranks, "alpha_req", "lidar", "knn_agreement", "alignment", "dimension"]
    accuracy = result.data["matrix"].value.sel(measure="accuracy").mean("seed")
    rank = result.data["matrix"].value.sel(measure="rankme").mean("seed")
    ahead = rank.sel(objective="moco") / rank.sel(objective="supervised")
    first, next_best = np.sort(accuracy[accuracy.self_supervised.values].values)[:-3:-1]
    second = first - next_best
    return {
        "among encoders trained without labels six of eleven measures choose the most accurate": (
            without.encoders_regret < 1e-9
        ).sum()
        == len(right)
        == (without.encoders_regret.sel(measure=right) < 1e-9).sum(),
        "LiDAR has them in the order of accuracy": without.encoders_tau.sel(measure="lidar") > 0.99,
        "RankMe and NESum choose the second best there, better than chance": bool(
            (abs(without.encoders_regret.sel(measure=ranks) - second) < 1e-9).all()
        )
        and second < without.blind_encoders_regret,
        "with supervised encoders among them spread and the mean Q-Score are right, LiDAR and RankMe are not": (
            everyone.encoders_regret.sel(measure=[*SPREAD, "mean_q_score"]).max() < 1e-9
        )
        and everyone.encoders_regret.sel(measure=misled).min() > 0.199,
        "cluster learnability chooses SupCon": 0 < everyone.encoders_regret.sel(measure="learnability") < 0.05,
        "objectives are two clusters of accuracy, with labels from 86 to 89 %, without from 57 to 69": (
            accuracy.sel(objective=["supervised", "supcon"]).round(2).values.tolist() == [0.89, 0.86]
        )
        and accuracy.sel(objective=["simclr", "cmc"]).round(2).values.tolist() == [0.69, 0.57]
        and (accuracy.sel(objective=["moco", "infomin", "rotnet"]) > accuracy.sel(objective=APART)).all(),
        "RankMe puts MoCo v2 within two percent ahead of supervised training": 1 < ahead < 1.02,
    }


def _on_checkpoints(result: Result) -> dict[str, bool]:
    data = result.data["selection"].sel(target="accuracy")
    others = data.sel(objective=[name for name in data.objective.values if name != APART])
    alone, ranking = data.sel(objective=APART), [*SPREAD, "knn_agreement"]
    along = result.data["checkpoints"].value
    aligned = along.sel(measure="alignment").argmin("step")
    contracting = along.sel(measure="uniformity", objective=APART)  # the lower, the more even
    lost = others.runs_regret.sel(measure=ranking)
    return {
        "within every run the training loss and the last checkpoint lose no accuracy": data.runs_regret.sel(
            measure="loss"
        ).max()
        < 1e-9
        and data.last_runs_regret.max() < 1e-9,
        "in every run except CMC's, spread and the agreement of views choose the best checkpoint": lost.max() < 1e-9,
        "in CMC's run they do not": alone.runs_regret.sel(measure=ranking).min() > 0.05,
        "its features spread up to step 219 and contract afterwards": contracting.idxmin("step") == 219
        and (contracting.sel(step=slice(219, None)).diff("step") > 0).all(),
        "accuracy rises from each checkpoint to the next": (along.sel(measure="accuracy").diff("step") > 0).all(),
        "alignment chooses the untrained network in every run except CMC's": (
            aligned.drop_sel(objective=APART) == 0
        ).all()
        and aligned.sel(objective=APART) != 0,
    }


def _on_controls(result: Result) -> dict[str, bool]:
    left, on_views, stopped = remaining(result), CONTROLS[ON_VIEWS], CONTROLS[MATCHED]
    margins = [left[claim] for claim in ("S1", "S3", "S5")]
    ratio = result.data["controls"].margin_ratio.sel(bound="low")
    other_classes = result.data["controls"].margin_ratio.sel(probed=["cifar100", "caltech101"], against="supervised")
    return {
        "at SimCLR's accuracy labels still give larger margins on CIFAR-10 and STL-10": (
            ratio.sel(against=MATCHED, probed=["cifar10", "stl10"]) > 0
        ).all(),
        "on CIFAR-100 and Caltech-101 supervised margins are hardly larger": (
            (other_classes.sel(bound="low") < 0) & (other_classes.sel(bound="value") < 0.1)
        ).all(),
        "against supervised training on SimCLR's views margins differ as much": min(one[on_views][0] for one in margins)
        > 0.9,
        "against the network stopped early a fifth to a quarter is left, with intervals from 0 to half": all(
            0.15 < one[stopped][0] < 0.25 and one[stopped][1] < 0 and 0.4 < one[stopped][2] < 0.6 for one in margins
        ),
        "a fifth of C7 and nearly all of C3 is left against it": 0.15 < left["C7"][stopped][0] < 0.25
        and left["C3"][stopped][0] > 0.8,
    }


def _on_answers(result: Result) -> dict[str, bool]:
    objective, decay, rate = (shares_of(result, source) for source in ("objective", "decay", "rate"))
    missed = missed_by(result).sel(statistic="mean")
    half = missed.sel(predictor=["norm", "neighbour"])
    settings = decay + rate
    return {
        "on CIFAR-10 the objective decides margins, on STL-10 the probe's settings more, elsewhere nearly they alone": (
            objective.sel(probed="cifar10") > settings.sel(probed="cifar10")
        )
        and 0.2 < objective.sel(probed="stl10") < settings.sel(probed="stl10")
        and objective.sel(probed=["cifar100", "caltech101"]).max() < 0.05,
        "on CIFAR-10 the probe's confidence warns best, the norm by half, the Q-Score hardly": str(
            missed.idxmin().values
        )
        == "confidence"
        and half.min() > 0.4
        and half.max() < 0.6
        and missed.sel(predictor="qscore") > 0.75,
    }


def _on_the_map(result: Result) -> dict[str, bool]:
    means = between_ends(result)
    within = min(means["within_views"], means["within_labels"])
    return {
        "SimCLR, MoCo v2 and InfoMin lie together, and so do the trainings with labels": within
        > 1.3 * means["views_and_labels"],
        "CMC, RotNet and the network stopped early lie with neither": max(
            means[f"{name}_and_{kind}"] for name in NEITHER for kind in KINDS
        )
        < 0.9 * within,
        "supervised training on SimCLR's views ends with the labels": means["on_views_and_supervised"]
        > 1.3 * means["on_views_and_simclr"],
    }
