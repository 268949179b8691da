"""Tables and numbers of the audit of probes."""

import math

import numpy as np
import xarray as xr
from IPython.display import Markdown

from sslnb.core.labels import NORM_LABELS
from sslnb.core.result import Result
from sslnb.report.tables import interval, not_recorded, percent, say, set_cell, table
from sslnb.studies.separability.choices import AUDITED, ENCODER, PROBE, RULE_LABELS, SOURCES
from sslnb.studies.separability.claims import CLAIMS

HEADLINES = (
    *(f"{probes}_{part}" for probes in ("audit", "audit_choice") for part in ("encoder", "probe", "both")),
    *(f"audit_{claim}" for claim in AUDITED),
    "audit_admissible",
    "audit_separable",
)


def variance(result: Result) -> Markdown:
    """Shares of the variance of log mean margins: encoder, probe, both, by set and norm, and with admissible probes."""
    missing = not_recorded(result, "probe_choice")
    if missing:
        return Markdown(missing)
    data, rows = result.data["probe_choice"], []
    for name in data.dataset.values:
        for norm in data.norm.values:
            own = data.sel(dataset=name, norm=norm)
            size = " × ".join(f"{count:.0f}" for count in own.levels.values)
            choices = int(own.choice_levels.sel(level="decay"))
            cells = (size, *_shares(own.share), choices, *_shares(own.choice_share))
            rows.append((set_cell(name), NORM_LABELS[norm], *cells))
    parts = ("encoder, %", "probe, %", "both, %")
    return table(
        ("data set", "norm", "encoders × decays × rates", *parts, "equally good", *parts),
        rows,
        "Shares of the variance of log mean margins, in percent: all probes, then those as good as the best.",
    )


def _shares(share: xr.DataArray) -> tuple[str, ...]:
    """Encoder's, probe's and the rest of the variance in percent."""
    groups = list(ENCODER), list(PROBE), [SOURCES[-1]]
    return tuple(percent(float(share.sel(source=sources).sum("source", skipna=False))) for sources in groups)


def claims(result: Result) -> Markdown:
    """S1 to S3: estimates by the three rules, and the range over all probes that validation cannot tell apart."""
    missing = not_recorded(result, "probe_choice")
    if missing:
        return Markdown(missing)
    data, rows = result.data["probe_choice"], []
    for claim in AUDITED:
        own = data.sel(claim=claim)
        by_rule = [_interval(own.sel(rule=rule), "rule_") for rule in RULE_LABELS]
        admissible, every = own.estimate.where(own.admissible == 1), own.estimate
        rows.append((claim, *by_rule, _range(admissible), _range(every), f"±{CLAIMS[claim].sei:.3f}"))
    heads = (*RULE_LABELS.values(), "within one point of the best", "whole grid", "smallest of interest")
    return table(
        ("", *heads),
        rows,
        "S1 to S3 by the rule that picks the probe, and their range over probes near the best and over all.",
    )


def _interval(data: xr.Dataset, prefix: str) -> str:
    return interval(*(float(data[f"{prefix}{number}"]) for number in ("estimate", "low", "high")))


def _range(values: xr.DataArray) -> str:
    """Least and greatest of several estimates, with their number."""
    finite = values.values[np.isfinite(values.values)]
    return f"{finite.min():.3f} to {finite.max():.3f} ({len(finite)})" if len(finite) else "–"


def edges(result: Result) -> Markdown:
    """Of the encoders that learned, the share whose best probe is at an edge of the grid, and is so by over a point."""
    missing = not_recorded(result, "probe_choice")
    if missing:
        return Markdown(missing)
    data = result.data["probe_choice"]
    names = list(data.edge.values)
    rows = []
    for name in data.dataset.values:
        own = data.sel(dataset=name)
        shares = (own[name].sel(edge=names).values for name in ("edge_chosen", "edge_ahead"))
        cells = (f"{_whole(chosen)} ({_whole(ahead)})" for chosen, ahead in zip(*shares, strict=True))
        rows.append((set_cell(name), *cells))
    return table(
        ("data set", *(f"{edge}, %" for edge in names)),
        rows,
        "Share of encoders whose best probe lies at an edge of the grid, and does so by more than a point.",
    )


def _whole(share: float) -> str:
    return f"{100 * share:.0f}" if math.isfinite(share) else "–"


def glue_audit(result: Result) -> None:
    """Make the audit's headline numbers available to the prose: means over sets and norms of the shares of variance."""
    older = not_recorded(result, "probe_choice")
    for name, text in (dict.fromkeys(HEADLINES, "not recorded") if older else _headlines(result)).items():
        say(name, text)


def _headlines(result: Result) -> dict[str, str]:
    data, audit = result.data["probe_choice"], result.data["audit"]
    shares = [share for name in ("share", "choice_share") for share in _shares(data[name].mean(("dataset", "norm")))]
    texts = ["not measured" if share == "–" else f"{share} %" for share in shares]
    inside = data.admissible == 1
    ranges = [_range(data.estimate.sel(claim=claim).where(inside)) for claim in AUDITED]
    separable = audit.separable.where(audit.limit_accuracy.notnull())
    counts = str(int(inside.sum())), f"{int(separable.sum())} of {int(separable.notnull().sum())}"
    return dict(zip(HEADLINES, (*texts, *ranges, *counts), strict=True))
