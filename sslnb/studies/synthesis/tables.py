"""Tables of the synthesis: a Result in, Markdown out."""

import math

import numpy as np
from IPython.display import Markdown

from sslnb.core.labels import label
from sslnb.core.result import Result
from sslnb.report.tables import table
from sslnb.studies.measures import MEASURES
from sslnb.studies.synthesis.figures import TARGET_LABELS

STRONGEST = 8  # pairs that are listed


def matrix(result: Result) -> Markdown:
    """Every measure of every encoder, mean and standard deviation over seeds."""
    data = result.data["matrix"].value
    objectives = [str(name) for name in data.objective.values]
    rows = []
    for name in data.measure.values:
        scale = 100 if MEASURES[name].share else 1
        cells = [_mean(scale * data.sel(measure=name, objective=objective).values) for objective in objectives]
        rows.append((MEASURES[name].label + (", %" if scale == 100 else ""), *cells))
    return table(("measure", *map(label, objectives)), rows)


def _mean(values: np.ndarray) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    return f"{values.mean():.3g}" + (f"\u00a0±\u00a0{values.std(ddof=1):.1g}" if len(values) > 1 else "")


def strongest(result: Result) -> Markdown:
    """Pairs of measures of different kinds whose rank correlation is strongest, raw, and what accuracy leaves of it."""
    data, pairs = result.data["agreement"], []
    names = [str(name) for name in data.measure.values]
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            raw, partial = (data.correlation.sel(given=given, measure=a, measure_b=b).values for given in data.given)
            if math.isfinite(raw[0]) and MEASURES[a].kind != MEASURES[b].kind:
                n = int(data.n.sel(measure=a, measure_b=b).values[0])
                pairs.append((abs(raw[0]), MEASURES[a].label, MEASURES[b].label, _interval(raw), _interval(partial), n))
    pairs.sort(reverse=True)
    head = ("", "and", "ρ [95 % interval]", "with accuracy held fixed", "objectives")
    return table(head, [row[1:] for row in pairs[:STRONGEST]])


def _interval(values: np.ndarray) -> str:
    value, low, high = values
    if not math.isfinite(value):
        return "–"
    return f"{value:+.2f}" + (f" [{low:+.2f}, {high:+.2f}]" if math.isfinite(low) else "")


def choices(result: Result) -> Markdown:
    """For every target: the number without labels that would have chosen best, and what chance and the end cost."""
    data, rows = result.data["selection"], []
    for target in data.target.values:
        at = data.sel(target=target)
        among = {"encoders": at.encoders_regret, "checkpoints of a run": at.runs_regret.mean("objective")}
        blind = {"encoders": at.blind_encoders_regret, "checkpoints of a run": at.blind_runs_regret.mean()}
        tau = {"encoders": at.encoders_tau, "checkpoints of a run": at.runs_tau.mean("objective")}
        for what, lost in among.items():
            if not bool(lost.notnull().any()):
                continue
            best = str(lost.idxmin("measure").values)
            end = _points(at.last_runs_regret.mean()) if what != "encoders" else "–"
            cells = (
                MEASURES[best].label,
                _points(lost.sel(measure=best)),
                f"{float(tau[what].sel(measure=best)):+.2f}",
            )
            rows.append((what, TARGET_LABELS[target], *cells, _points(blind[what]), end))
    head = (
        "among",
        "for",
        "best choice by",
        "its regret, points",
        "its τ",
        "regret of chance",
        "of the last checkpoint",
    )
    return table(head, rows)


def _points(share: object) -> str:
    value = 100 * float(share)
    return f"{value:.1f}" if math.isfinite(value) else "–"


def controls(result: Result) -> Markdown:
    """Every comparison of self-supervised with supervised encoders, repeated against the controls."""
    data, rows = result.data["controls"], []
    for claim in data.claim.values:
        at = data.sel(claim=claim)
        estimate = at.estimate.values
        cells = []
        for control in data.control.values:
            beside = at.control_estimate.sel(control=control).values
            known = math.isfinite(beside[0]) and estimate[0] != 0
            share = f" ({100 * beside[0] / estimate[0]:.0f} %)" if known and math.isfinite(estimate[0]) else ""
            cells.append(_effect(beside) + share)
        rows.append((claim, _effect(estimate), *cells))
    return table(("claim", "effect [95 % interval]", *(f"against {name}" for name in data.control.values)), rows)


def _effect(values: np.ndarray) -> str:
    value, low, high = values
    if not math.isfinite(value):
        return "–"
    return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if math.isfinite(low) else "")
