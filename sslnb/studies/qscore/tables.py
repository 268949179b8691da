"""Tables of the study of representation quality: a Result in, Markdown out."""

import math
from collections.abc import Iterator

import numpy as np
import xarray as xr
from IPython.display import Markdown

from sslnb.core.labels import PREDICTOR_LABELS, brief, label
from sslnb.core.papers import reference, references
from sslnb.core.result import Result
from sslnb.report.tables import SET_LABELS, percent, say, set_cell, spread, table
from sslnb.studies.qscore.claims import BASELINE, LASSO, PAPER, REGULARIZED
from sslnb.studies.qscore.figures import STAGE_LABELS
from sslnb.studies.qscore.findings import lost, means, on_object, trained_on, without_labels
from sslnb.studies.study import UNTRAINED

PAPER_METHODS = {"moco": "MoCo"}  # where the paper's name is another one than the figures'


def rows_of(values: xr.DataArray) -> Iterator[tuple[str, str]]:
    """Data set and objective of everything that was measured."""
    known = values.notnull().any([dim for dim in values.dims if dim not in ("objective", "dataset")])
    for dataset in values.dataset.values:
        for method in values.objective.values:
            if bool(known.sel(dataset=dataset, objective=method)):
                yield str(dataset), str(method)


def _printed(dataset: str, method: str, metric: str) -> float:
    """The paper's number as a share."""
    return reference(PAPER, SET_LABELS.get(dataset, ""), PAPER_METHODS.get(method, label(method)), metric) / 100


def _named(dataset: str) -> str:
    """A set in a narrow column: of a generated one its parameters alone."""
    return SET_LABELS.get(dataset, f"`{brief(dataset)}`")


def representations(result: Result) -> Markdown:
    """Accuracy, share of near-zeros and kurtosis of every encoder."""
    data, rows = result.data["representations"], []
    for dataset, method in rows_of(data.near_zero):
        own = data.sel(dataset=dataset, objective=method)
        kurtosis = own.kurtosis.values[np.isfinite(own.kurtosis.values)]
        tails = f"{kurtosis.mean():.1f}" if len(kurtosis) else "–"
        rows.append(
            (set_cell(dataset), label(method), spread(own.accuracy.values), spread(own.near_zero.values), tails)
        )
    return table(
        ("data set", "encoder", "linear, %", "near zero, %", "excess kurtosis"),
        rows,
        "Accuracy, share of activations near zero, and excess kurtosis of every encoder.",
    )


def threshold(result: Result) -> Markdown:
    """The threshold that all numbers of the page are with."""
    return Markdown(f"Here ε is {result.data['representations'].attrs['epsilon']:g}, for all encoders and sets.")


def information(result: Result) -> Markdown:
    """Information about the class, in millibits and as a share of the entropy: below, within and above the band."""
    data, rows = result.data["features"], []
    for dataset, method in rows_of(data.information):
        own = data.sel(dataset=dataset, objective=method)
        cells = []
        for band in data.band.values:
            bits, share = (own[name].sel(band=band) for name in ("information", "relative_information"))
            cells.append(f"{spread(10 * bits.values)} ({percent(float(share.mean()))})")  # percents of ten bits
        rows.append((set_cell(dataset), label(method), *cells))
    return table(
        ("data set", "encoder", *(f"{band}, millibits (%)" for band in data.band.values)),
        rows,
        "Information about the class in features below, within and above the band (as a share of their entropy).",
    )


def prediction(result: Result, area: str) -> Markdown:
    """``"auroc"`` or ``"auprc"`` of each predictor, mean over seeds with its bootstrap interval over test images."""
    data, rows = result.data["predict"], []
    names = [name for name in data.predictor.values if (area, name) != ("auprc", "confidence")]
    for dataset, method in rows_of(data[area]):
        own = data.sel(dataset=dataset, objective=method)
        cells = [with_interval(own.sel(predictor=name), area) for name in names]
        base = [spread(own.base_rate.values)] if area == "auprc" else []
        rows.append((set_cell(dataset), label(method), *cells, *base))
    extra = ["base rate"] if area == "auprc" else []
    return table(
        ("data set", "encoder", *(PREDICTOR_LABELS[name] for name in names), *extra),
        rows,
        f"{area.upper()} of every score for images that the probe gets right, in percent, with intervals over images.",
    )


def with_interval(data: xr.Dataset, area: str) -> str:
    """Mean of areas [S], and the 95 % interval of that mean over draws [S,R] of test images that all seeds share."""
    values, replicates = data[area].values, data[f"{area}_drawn"].transpose("seed", "round").values
    measured = np.isfinite(values)
    if not measured.any():
        return "–"
    low, high = np.quantile(replicates[measured].mean(0), (0.025, 0.975))
    return f"{percent(float(values[measured].mean()))} [{percent(float(low))}, {percent(float(high))}]"


def paper_prediction() -> Markdown:
    """The areas that the paper prints, of figure 4 and the section on regularization."""
    areas = [r for r in references(PAPER) if r.metric in ("auroc", "auprc")]
    rows = [(r.dataset, r.method, r.metric.upper(), f"{r.value:.1f}") for r in areas]
    return table(("data set", "encoder", "", "paper, %"), rows, "The areas that the paper prints.")


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
    return table((" / ".join(head), *sets), rows, f"The paper's {start[0].lower()}{start[1:]}: accuracy in percent.")


def outcomes(result: Result) -> Markdown:
    """Mean Q-Score of right and of wrong test samples."""
    data, rows = result.data["outcomes"].score, []
    for dataset, method in rows_of(data):
        score = data.sel(dataset=dataset, objective=method)
        cells = [f"{mean:.3f}" if math.isfinite(mean) else "–" for mean in score.mean("seed").values]
        gap = (score.sel(outcome="right") - score.sel(outcome="wrong")).values
        gap = gap[np.isfinite(gap)]
        error = f" ± {gap.std(ddof=1):.3f}" if len(gap) > 1 else ""
        rows.append((set_cell(dataset), label(method), *cells, f"{gap.mean():+.3f}{error}" if len(gap) else "–"))
    return table(
        ("data set", "encoder", "right", "wrong", "difference"),
        rows,
        "Mean Q-Score of test images that the probe gets right and wrong.",
    )


def regularized(result: Result) -> Markdown:
    """Accuracy before and after as many steps of each kind, the gain over plain steps; the paper's three numbers."""
    data, rows, known = result.data["regularize"], [], False
    after = data.after.sel(gauge="accuracy")
    for dataset, method in rows_of(after):
        for rate in after.rate.values:
            own = after.sel(dataset=dataset, objective=method, rate=rate)
            if not bool(own.notnull().any()):
                continue
            gain = (own.sel(variant="qscore") - own.sel(variant="plain")).values
            printed = [_printed(dataset, method, metric) for metric in (BASELINE, LASSO, REGULARIZED)]
            known = known or any(map(math.isfinite, printed))
            before = data.before.sel(dataset=dataset, objective=method, gauge="accuracy")
            accuracies = (before.values, *(own.sel(variant=name).values for name in own.variant.values))
            cells = [spread(values).partition("\u00a0")[0] for values in accuracies]  # the gain has the deviation
            paper = " / ".join(percent(value) for value in printed) if math.isfinite(printed[0]) else "–"
            rows.append((set_cell(dataset), label(method), f"{rate:g}", *cells, signed(gain), paper))
    head = ("data set", "encoder", "rate", "before", "plain", "lasso", "Q-Score", "Q-Score − plain", "paper")
    return table(
        head if known else head[:-1],
        rows if known else [row[:-1] for row in rows],
        "Accuracy before and after training on, by kind of training.",
    )


def signed(values: np.ndarray) -> str:
    """A difference in points, with its deviation over seeds."""
    text = spread(values)
    return text if text.startswith(("-", "–")) else f"+{text}"


def transfer(result: Result) -> Markdown:
    """Accuracy on other sets before, after plain steps and after regularized ones."""
    data, rows = result.data["transfer"].accuracy, []
    for method in data.objective.values:
        for target in data.target.values:
            own = data.sel(objective=method, target=target)
            if bool(own.notnull().any()):
                cells = (spread(own.sel(stage=stage).values) for stage in data.stage.values)
                gain = (own.sel(stage="qscore") - own.sel(stage="plain")).values
                rows.append((label(method), _named(target), *cells, signed(gain)))
    return table(
        ("encoder", "other set", "before, %", "plain, %", "Q-Score, %", "Q-Score − plain"),
        rows,
        "Accuracy on other sets, before and after training on.",
    )


def overlaps(result: Result) -> Markdown:
    """Heat on the object and on the rest, of right and wrong samples, before and after regularization."""
    data, rows = result.data["heatmaps"], []
    places = [(k, o) for k in data.region.values for o in data.outcome.values]
    for dataset in data.masked.values:
        for method in data.objective.values:
            for stage in data.stage.values:
                own = data.overlap.sel(masked=dataset, objective=method, stage=stage)
                if bool(own.notnull().any()):
                    cells = (spread(own.sel(region=k, outcome=o).values).partition("\u00a0")[0] for k, o in places)
                    area = percent(float(data.area.sel(masked=dataset)))
                    lift = spread(data.lift.sel(masked=dataset, objective=method, stage=stage).values)
                    rows.append((_named(dataset), label(method), STAGE_LABELS[stage], *cells, area, lift))
    head = (
        "core, right",
        "core, wrong",
        "spurious, right",
        "spurious, wrong",
        "object's area",
        "core − spurious, corrected",
    )
    return table(
        ("data set", "encoder", "training", *head), rows, "Overlap of heatmaps with the object and with the rest."
    )


def shifted(result: Result) -> Markdown:
    """Accuracy, mean Q-Score and AUROC of encoders and probes of one set with masks on another's test split."""
    data, rows = result.data["heatmaps"].shifted, []
    for own in data.masked.values:
        for other in data.masked_b.values:
            for method in data.objective.values:
                values = data.sel(masked=own, masked_b=other, objective=method)
                if bool(values.notnull().any()):
                    score = float(values.sel(measure="score").mean())
                    text = f"{score:.3f}" if math.isfinite(score) else "–"
                    cells = (spread(values.sel(measure=name).values) for name in ("accuracy", "auroc"))
                    accuracy, auroc = cells
                    rows.append((_named(own), _named(other), label(method), accuracy, text, auroc))
    return table(
        ("learned from", "tested on", "encoder", "accuracy, %", "mean Q-Score", "AUROC, %"),
        rows,
        "Probes and discriminative features of one set on another's test images, the encoders being the same.",
    )


def glue_headlines(result: Result) -> None:
    """Make numbers available to the prose, such as ``simclr_qscore_auroc``, ``simclr_random_lost`` and ``plain_auroc``.

    Shares are in percent, what is lost without 40 % of the features, and gained in the paper's table, in points.
    """
    found, after = _quotable(result), trained_on(result)
    for name, values in found.items():
        for method in values.objective.values:
            say(f"{method}_{name}", _quoted(str(name), values.sel(objective=method)))
    glue_together(result)
    seeds = result.data["representations"].kurtosis.sel(objective=UNTRAINED).mean("dataset")
    say("untrained_kurtosis_seeds", f"{float(seeds.min()):.1f} to {float(seeds.max()):.1f}")
    for stage in after.stage.values:
        for gauge in after.gauge.values:
            value = float(after.sel(stage=stage, gauge=gauge))
            say(f"{stage}_{gauge}", f"{value:.2f}" if gauge == "highly" else f"{percent(value)} %")
    gain = _printed("cifar10", "simclr", REGULARIZED) - _printed("cifar10", "simclr", BASELINE)
    say("paper_gain", percent(gain))


def glue_together(result: Result) -> None:
    """The same of the objectives without labels together, such as ``all_qscore_auroc``: their mean, and the range."""
    for name, values in _quotable(result).sel(objective=without_labels(result)).items():
        mean, low, high = (_quoted(str(name), value) for value in (values.mean(), values.min(), values.max()))
        say(f"all_{name}", f"{mean} ({low.removesuffix(' %')} to {high})")


def _quotable(result: Result) -> xr.Dataset:
    """Quantities by objective: means, the heat on the object of the first set, accuracies lost with 60 % kept."""
    losses = {f"{name}_lost": values for name, values in lost(result).to_dataset("subset").items()}
    return means(result).assign(losses | {"lift": on_object(result).isel(masked=0)})


def _quoted(name: str, value: xr.DataArray) -> str:
    """A quantity as the prose has it: shares in percent, differences of shares in points, the kurtosis as it is."""
    if name == "kurtosis":
        return f"{float(value):.1f}"
    return percent(float(value)) + ("" if name.endswith(("lift", "lost")) else " %")
