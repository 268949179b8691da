"""Tables of the study of representation quality: a Result in, Markdown out."""

import math

import numpy as np
from IPython.display import Markdown

from sslnb.core.flat import Result
from sslnb.core.labels import brief, label
from sslnb.core.papers import reference, references
from sslnb.report.tables import percent, spread, table
from sslnb.studies.qscore.figures import STAGE_LABELS

PAPER = "kalibhat2024qscore"
PAPER_SETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "stl10": "STL-10"}
PAPER_METHODS = {"moco": "MoCo"}  # where the paper's name is another one than the figures'
PREDICTOR_LABELS = {"qscore": "Q-Score", "norm": "norm", "max": "greatest activation"} | {
    "neighbour": "nearest neighbour",
    "confidence": "probe's confidence",
}
BASELINE, LASSO, REGULARIZED = (f"linear_top1_{name}" for name in ("baseline", "lasso", "qscore"))


def _rows(result: Result, values: np.ndarray):
    """Data set, method, and values [S,…] of each encoder that was measured."""
    for d, dataset in enumerate(result.scalars["datasets"]):
        for m, method in enumerate(result.scalars["methods"]):
            if np.isfinite(values[d, m]).any():
                yield d, m, dataset, method, values[d, m]


def _printed(dataset: str, method: str, metric: str) -> float:
    """The paper's number as a share."""
    return reference(PAPER, PAPER_SETS.get(dataset, ""), PAPER_METHODS.get(method, label(method)), metric) / 100


def representations(result: Result) -> Markdown:
    """Accuracy, share of near-zeros and kurtosis of every encoder."""
    rows = []
    for d, m, dataset, method, accuracy in _rows(result, result.arrays["accuracy"]):
        kurtosis = result.arrays["kurtosis"][d, m]
        tails = f"{np.nanmean(kurtosis):.1f}" if np.isfinite(kurtosis).any() else "–"
        cells = spread(accuracy), spread(result.arrays["near_zero"][d, m]), tails
        rows.append((f"`{dataset}`", label(method), *cells))
    return table(("data set", "encoder", "linear, %", "near zero, %", "excess kurtosis"), rows)


def information(result: Result) -> Markdown:
    """Mean information about the class, in millibits, of features below, within and above the band."""
    rows = []
    for _, _, dataset, method, values in _rows(result, result.arrays["information"]):
        cells = (spread(10 * values[:, b]) for b in range(values.shape[1]))  # percents of ten bits are millibits
        rows.append((f"`{dataset}`", label(method), *cells))
    return table(("data set", "encoder", *(f"{band}, millibits" for band in result.scalars["bands"])), rows)


def prediction(result: Result, area: str) -> Markdown:
    """``"auroc"`` or ``"auprc"`` of each predictor, mean over seeds with its bootstrap interval over test images."""
    names = [name for name in result.scalars["predictors"] if (area, name) != ("auprc", "confidence")]
    rows = []
    for d, m, dataset, method, values in _rows(result, result.arrays[area]):
        replicates = result.arrays[f"{area}_drawn"][d, m]
        cells = [_with_interval(values[:, i], replicates[:, i]) for i in map(result.scalars["predictors"].index, names)]
        base = [spread(result.arrays["base_rate"][d, m])] if area == "auprc" else []
        rows.append((f"`{dataset}`", label(method), *cells, *base))
    extra = ["base rate"] if area == "auprc" else []
    return table(("data set", "encoder", *(PREDICTOR_LABELS[name] for name in names), *extra), rows)


def _with_interval(values: np.ndarray, replicates: np.ndarray) -> str:
    """Mean of areas [S], and the 95 % interval of that mean over draws [S,R] of test images that all seeds share."""
    measured = np.isfinite(values)
    if not measured.any():
        return "–"
    low, high = np.quantile(replicates[measured].mean(0), (0.025, 0.975))
    return f"{percent(float(values[measured].mean()))} [{percent(float(low))}, {percent(float(high))}]"


def paper_prediction() -> Markdown:
    """The areas that the paper prints, of figure 4 and the section on regularization."""
    areas = [r for r in references(PAPER) if r.metric in ("auroc", "auprc")]
    rows = [(r.dataset, r.method, r.metric.upper(), f"{r.value:.1f}") for r in areas]
    return table(("data set", "encoder", "", "paper, %"), rows)


def paper_regularized() -> Markdown:
    """The paper's table 1: ImageNet, baseline, lasso and Q-Score."""
    return _paper_table("Table 1", (BASELINE, LASSO, REGULARIZED), ("baseline", "lasso", "Q-Score"))


def paper_transfer() -> Markdown:
    """The paper's table A.2: linear accuracy on unseen sets, without and with the regularizer."""
    return _paper_table("Table A.2", (BASELINE, REGULARIZED), ("baseline", "Q-Score"))


def _paper_table(start: str, metrics: tuple[str, ...], head: tuple[str, ...]) -> Markdown:
    """The paper's numbers of one table: a row per method, a cell of all metrics per data set."""
    numbers = [r for r in references(PAPER) if r.table.startswith(start)]
    printed = {(r.dataset, r.method, r.metric): r.value for r in numbers}
    sets, methods = (list(dict.fromkeys(getattr(r, key) for r in numbers)) for key in ("dataset", "method"))
    rows = []
    for method in methods:
        cells = ([printed.get((dataset, method, metric), math.nan) for metric in metrics] for dataset in sets)
        rows.append((method, *(" / ".join(percent(value / 100) for value in cell) for cell in cells)))
    return table((" / ".join(head), *sets), rows)


def undefined(result: Result) -> Markdown:
    """What was not trained or could not be measured, and why."""
    reasons = result.scalars["reasons"]
    if not reasons:
        return Markdown("Every encoder was trained and every score is defined.")
    return table(("what", "why there is no number"), reasons.items())


def outcomes(result: Result) -> Markdown:
    """Mean Q-Score of right and of wrong test samples."""
    rows = []
    for _, _, dataset, method, score in _rows(result, result.arrays["score_by_outcome"]):
        cells = [
            f"{score[:, o][known].mean():.3f}" if (known := np.isfinite(score[:, o])).any() else "–" for o in (0, 1)
        ]
        gap = score[:, 0] - score[:, 1]
        gap = gap[np.isfinite(gap)]
        error = f" ± {gap.std(ddof=1):.3f}" if len(gap) > 1 else ""
        rows.append((f"`{dataset}`", label(method), *cells, f"{gap.mean():+.3f}{error}" if len(gap) else "–"))
    return table(("data set", "encoder", "right", "wrong", "difference"), rows)


def regularized(result: Result, rate: int) -> Markdown:
    """Accuracy before and after as many steps of each kind, the gain over plain steps; the paper's three numbers."""
    rows, known = [], False
    for d, m, dataset, method, after in _rows(result, result.arrays["after"][:, :, :, rate, :, 0]):
        gain = after[:, 2] - after[:, 0]
        printed = [_printed(dataset, method, metric) for metric in (BASELINE, LASSO, REGULARIZED)]
        known = known or any(map(math.isfinite, printed))
        accuracies = (result.arrays["before"][d, m, :, 0], *after.T)
        cells = [spread(values).partition("\u00a0")[0] for values in accuracies]  # the gain has the deviation
        paper = " / ".join(percent(value) for value in printed) if math.isfinite(printed[0]) else "–"
        rows.append((f"`{dataset}`", label(method), *cells, signed(gain), paper))
    head = ("data set", "encoder", "before", "plain", "lasso", "Q-Score", "Q-Score − plain", "paper")
    return table(head if known else head[:-1], rows if known else [row[:-1] for row in rows])


def signed(values: np.ndarray) -> str:
    """A difference in points, with its deviation over seeds."""
    text = spread(values)
    return text if text.startswith(("-", "–")) else f"+{text}"


def transfer(result: Result) -> Markdown:
    """Accuracy on unseen sets before, after plain steps and after regularized ones at the last rate."""
    rows = []
    for m, method in enumerate(result.scalars["methods"]):
        for t, target in enumerate(result.scalars["targets"]):
            accuracy = result.arrays["transfer"][t, m]
            if np.isfinite(accuracy).any():
                cells = (spread(accuracy[:, v]) for v in range(3))
                rows.append((label(method), f"`{target}`", *cells, signed(accuracy[:, 2] - accuracy[:, 1])))
    return table(("encoder", "unseen set", "before, %", "plain, %", "Q-Score, %", "Q-Score − plain"), rows)


def overlaps(result: Result) -> Markdown:
    """Heat on the object and on the rest, of right and wrong samples, before and after regularization."""
    rows = []
    for i, dataset in enumerate(result.scalars["masked"]):
        for m, method in enumerate(result.scalars["methods"]):
            for t, stage in enumerate(result.scalars["stages"]):
                values = result.arrays["overlap"][i, m, :, t]
                if np.isfinite(values).any():
                    cells = (spread(values[:, k, o]).partition("\u00a0")[0] for k in (0, 1) for o in (0, 1))
                    area = percent(float(result.arrays["mask_area"][i]))
                    rows.append((f"`{brief(dataset)}`", label(method), STAGE_LABELS[stage], *cells, area))
    head = ("core, right", "core, wrong", "spurious, right", "spurious, wrong", "object's area")
    return table(("data set", "encoder", "", *head), rows)


def shifted(result: Result) -> Markdown:
    """Accuracy, mean Q-Score and AUROC of encoders and probes of one set with masks on another's test split."""
    rows = []
    for i, own in enumerate(result.scalars["masked"]):
        for j, other in enumerate(result.scalars["masked"]):
            for m, method in enumerate(result.scalars["methods"]):
                values = result.arrays["shifted"][i, j, m]
                if np.isfinite(values).any():
                    score = f"{np.nanmean(values[:, 1]):.3f}" if np.isfinite(values[:, 1]).any() else "–"
                    cells = spread(values[:, 0]), score, spread(values[:, 2])
                    rows.append((f"`{brief(own)}`", f"`{brief(other)}`", label(method), *cells))
    return table(("learned from", "tested on", "encoder", "accuracy, %", "mean Q-Score", "AUROC, %"), rows)
