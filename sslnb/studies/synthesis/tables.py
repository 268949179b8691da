"""Tables of the synthesis: a Result in, Markdown out."""

import math

import numpy as np
from IPython.display import Markdown

from sslnb.core.labels import CONTROLS, PREDICTOR_LABELS, label
from sslnb.core.result import Result
from sslnb.pool.pool import MATCHED, ON_VIEWS
from sslnb.report.tables import interval, say, set_cell, table
from sslnb.studies.measures import MEASURES
from sslnb.studies.synthesis.figures import TARGET_LABELS
from sslnb.studies.synthesis.findings import (
    APART,
    between_ends,
    between_papers,
    dots,
    margin_ratio,
    missed_by,
    remaining,
    shares_of,
    with_accuracy,
)
from sslnb.studies.synthesis.steps import ALL, WITHOUT_LABELS

STRONGEST = 12  # pairs that are listed


def matrix(result: Result) -> Markdown:
    """Every measure of every encoder, mean and standard deviation over seeds."""
    data = result.data["matrix"].value
    objectives = [str(name) for name in data.objective.values]
    rows = []
    for name in data.measure.values:
        scale = 100 if MEASURES[name].share else 1
        cells = [_mean(scale * data.sel(measure=name, objective=objective).values) for objective in objectives]
        rows.append((MEASURES[name].label + (", %" if scale == 100 else ""), *cells))
    return table(
        ("measure", *map(label, objectives)), rows, "Every measure of every encoder: mean and deviation over seeds."
    )


def _mean(values: np.ndarray) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    return f"{values.mean():.3g}" + (f"\u00a0±\u00a0{values.std(ddof=1):.1g}" if len(values) > 1 else "")


def strongest(result: Result) -> Markdown:
    """Pairs of measures of different kinds whose rank correlation is strongest, raw, and what accuracy leaves of it.

    Of measures that are no accuracies, over objectives enough for an interval.
    """
    data, pairs = result.data["agreement"], []
    names = [name for name in map(str, data.measure.values) if MEASURES[name].kind != MEASURES["accuracy"].kind]
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            raw, partial = (data.correlation.sel(given=given, measure=a, measure_b=b).values for given in data.given)
            if np.isfinite(raw).all() and MEASURES[a].kind != MEASURES[b].kind:
                at = data.sel(measure=a, measure_b=b).isel(given=0)
                labels = MEASURES[a].label, MEASURES[b].label
                pairs.append(
                    (
                        abs(raw[0]),
                        *labels,
                        interval(*raw, "+.2f"),
                        f"{float(at.p):.3f}",
                        interval(*partial, "+.2f"),
                        int(at.n),
                    )
                )
    pairs.sort(reverse=True)
    head = ("measure", "and", "ρ [95 % interval]", "p", "with accuracy held fixed", "objectives")
    return table(
        head,
        [row[1:] for row in pairs[:STRONGEST]],
        "The strongest rank correlations between measures of different kinds, accuracies aside; a dash where one of "
        "them has the order of accuracy, of which nothing is left once that is held fixed.",
    )


def choices(result: Result) -> Markdown:
    """For every target: the number without labels that would have chosen best, and what chance and the end cost."""
    data, rows = result.data["selection"], []
    for target in data.target.values:
        at = data.sel(target=target)
        among = {
            str(name): (at.encoders_regret.sel(among=name), at.blind_encoders_regret.sel(among=name), None)
            for name in data.among.values
        }
        runs = at.runs_regret.mean("objective"), at.blind_runs_regret.mean(), at.last_runs_regret.mean()
        for what, (lost, blind, end) in (among | {"checkpoints of a run": runs}).items():
            if not bool(lost.notnull().any()):
                continue
            best = [MEASURES[str(name)].label for name in lost.measure.values[(lost <= lost.min() + 1e-9).values]]
            cells = _points(lost.min()), _points(blind), "–" if end is None else _points(end)
            rows.append((what, TARGET_LABELS[target], ", ".join(best), *cells))
    head = ("among", "for", "best choice by", "its regret, points", "regret of chance", "of the last checkpoint")
    return table(
        head, rows, "For every target, the label-free numbers that would have chosen best, and what the choice costs."
    )


def _points(share: object) -> str:
    value = 100 * float(share)
    return f"{value:.1f}" if math.isfinite(value) else "–"


def controls(result: Result) -> Markdown:
    """Every comparison with supervised encoders, and against the controls; shares where the effect is clear."""
    data, rows, left = result.data["controls"], [], remaining(result)
    for claim in map(str, data.claim.values):
        at, cells = data.sel(claim=claim), []
        for control in map(str, data.control.values):
            beside = at.control_estimate.sel(control=control).values
            known = claim in left and math.isfinite(beside[0])
            cells.append(interval(*beside) + (f" ({_share(left[claim][control][0])})" if known else ""))
        rows.append((f"{claim}: {at.compares.item()}", interval(*at.estimate.values), *cells))
    if not rows:
        return Markdown("No comparison had one of these controls.")
    return table(
        ("claim: what it compares", "effect [95 % interval]", *(f"against {name}" for name in data.control.values)),
        rows,
        "Comparisons with supervised encoders, and the share of each effect that is left against the controls.",
    )


def probe_or_encoder(result: Result) -> Markdown:
    """X4: shares of the variance of log margins by source, means over norms, for each set."""
    data = result.data["answers"]
    if "share" not in data:
        return Markdown("The audit of probes was not measured.")
    share = 100 * data.share.mean("norm", skipna=False)
    rows = [
        (set_cell(name), *(_whole(share.sel(probed=name, source=source)) for source in share.source.values))
        for name in share.probed.values
    ]
    return table(
        ("data set", *(f"{source}, %" for source in share.source.values)),
        rows,
        "Shares of the variance of log margins by source, in percent, means over norms.",
    )


def failure(result: Result) -> Markdown:
    """X5: excess area under risk–coverage of every score, in percent of a random order's."""
    data = result.data["answers"]
    if "pooled" not in data:
        return Markdown("Failure prediction was not measured.")
    share = 100 * data.pooled.sel(quantity="share")
    order = share.sel(statistic="mean").sortby(share.sel(statistic="mean")).predictor.values
    rows = [
        (
            PREDICTOR_LABELS[str(name)],
            interval(*share.sel(predictor=name, statistic=["mean", "low", "high"]).values, ".0f"),
        )
        for name in order
        if bool(share.sel(predictor=name, statistic="mean").notnull())
    ]
    head = ("score", "excess area, % of a random order's [95 %]")
    if not rows:
        return Markdown("No encoder has learned.")
    return table(head, rows, "Excess area under risk and coverage, in percent of a random order's.")


def _whole(value: object) -> str:
    return f"{float(value):.0f}" if math.isfinite(float(value)) else "–"


def glue_headlines(result: Result) -> None:
    """Make correlations with accuracy, regrets, effects against controls and similarities available to the prose."""
    with_own, chosen = with_accuracy(result), result.data["selection"].sel(target="accuracy")
    for name in with_own.other.values:
        say(f"accuracy_{name}", interval(*with_own.sel(other=name).values, "+.2f"))
    for kind, given in (("raw", "raw"), ("held", "accuracy held fixed")):
        for word, count in zip(("apart", "pairs"), between_papers(result, given), strict=True):
            say(f"{kind}_{word}", str(count))
        for word, count in zip(("dots", "cells"), dots(result, given), strict=True):
            say(f"{kind}_{word}", str(count))
    order = result.data["agreement"].order.sel(bound="value")
    ratio = result.data["controls"].margin_ratio
    for name in order.probed.values:
        say(f"order_{name}", f"{float(order.sel(probed=name)):.2f}")
        for against in ratio.against.values:
            say(f"times_{against}_{name}", interval(*margin_ratio(result, against, name), ".2f"))
    for word, among in (("without", WITHOUT_LABELS), ("all", ALL)):
        say(f"{word}_blind", _points(chosen.blind_encoders_regret.sel(among=among)))
        for name in chosen.measure.values:
            say(f"{word}_{name}", _points(chosen.encoders_regret.sel(among=among, measure=name)))
    for name in chosen.measure.values:
        say(f"apart_{name}", _points(chosen.runs_regret.sel(measure=name, objective=APART)))
    effects = result.data["controls"]
    for claim, shares in remaining(result).items():
        say(f"effect_{claim}", interval(*effects.estimate.sel(claim=claim).values))
        for word, control in (("views", CONTROLS[ON_VIEWS]), ("accuracy", CONTROLS[MATCHED])):
            say(f"{word}_{claim}", interval(*effects.control_estimate.sel(claim=claim, control=control).values))
            say(f"left_{word}_{claim}", _share(shares[control][0]))
    for name, similarity in between_ends(result).items():
        say(name, f"{similarity:.2f}")
    for source in ("objective", "decay", "rate"):
        shares = shares_of(result, source)
        for name in shares.probed.values:
            say(f"{source}_{name}", _share(float(shares.sel(probed=name))))
    for name in (missed := 100 * missed_by(result)).predictor.values:
        say(f"missed_{name}", interval(*missed.sel(predictor=name, statistic=["mean", "low", "high"]).values, ".0f"))
    say("in_plane", _share(float(result.data["embedding"].explained.sum())))


def _share(share: float) -> str:
    return f"{_whole(100 * share)} %"
