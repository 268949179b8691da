"""Figures of the audit of probes: what explains margins, and the claims under every choice of the probe."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sslnb.core.labels import NORM_LABELS
from sslnb.core.result import Result
from sslnb.report.panels import COLOURS, legend, panels, sentence
from sslnb.report.tables import not_recorded, set_label
from sslnb.studies.separability.choices import RULE_LABELS
from sslnb.studies.separability.claims import CLAIMS

# Blues are the encoder's, reds and yellows the probe's, grey is what depends on both.
SOURCE_STYLES = {
    "objective": ("objective", "#0072B2"),
    "seed": ("seed", "#56B4E9"),
    "decay": ("weight decay", "#D55E00"),
    "rate": ("learning rate", "#E69F00"),
    "decay × rate": ("decay with rate", "#F0E442"),
    "encoder × probe": ("encoder with probe", "#BBBBBB"),
}
RULE_STYLES = {"compared": ("D", COLOURS[0]), "own": ("s", COLOURS[3]), "limit": ("*", COLOURS[1])}


def shares_of_variance(result: Result) -> Figure:
    """Shares of the variance of log mean margins by source: a bar for each set, a panel for each norm, all probes."""
    missing = not_recorded(result, "probe_choice")
    if missing:
        return sentence(missing)
    shares = 100 * result.data["probe_choice"].share
    rows = np.arange(shares.sizes["dataset"])
    figure, axes = panels(shares.sizes["norm"], height=1.3 + 0.35 * len(rows), sharey=True)
    for ax, norm in zip(axes[0], shares.norm.values, strict=True):
        left = np.zeros(len(rows))
        for source, (text, colour) in SOURCE_STYLES.items():
            width = shares.sel(norm=norm, source=source).values
            ax.barh(rows, width, left=left, color=colour, height=0.7, label=text)
            left = left + np.nan_to_num(width)
        ax.set_title(NORM_LABELS[norm], fontsize=11)
        ax.set(xlim=(0, 100), xlabel="share of variance in %")
        ax.set_yticks(rows, [set_label(name) for name in shares.dataset.values], fontsize=7)
    axes[0, 0].invert_yaxis()
    legend(figure, axes[0, 0], 3)
    return figure


def claims_by_probe(result: Result) -> Figure:
    """Effects of S1 to S3 for every probe of the grid, by weight decay, and by three rules; a panel for each claim.

    Large dots are probes that validation cannot tell apart; the band is what is smaller than of interest.
    """
    missing = not_recorded(result, "probe_choice")
    if missing:
        return sentence(missing)
    data = result.data["probe_choice"]
    if not bool(data.estimate.notnull().any()):
        return sentence("no supervised and self-supervised encoders to compare that learned")
    figure, axes = panels(data.sizes["claim"], height=3.6, sharey=True)
    for ax, claim in zip(axes[0], data.claim.values, strict=True):
        sei = CLAIMS[claim].sei
        ax.axvspan(-sei, sei, color="0.9", zorder=0)
        ax.axvline(0, color="0.4", linewidth=0.8)
        own = data.sel(claim=claim)
        _by_decay(ax, own)
        _by_rule(ax, own)
        if not bool(own.estimate.notnull().any() | own.rule_estimate.notnull().any()):
            ax.text(0.5, 0.5, "not measured", ha="center", transform=ax.transAxes, backgroundcolor="white")
        ax.set_title(claim, fontsize=11)
        ax.set_xlabel("log ratio of margins" if claim == "S1" else "difference of norm-AUC")
    decays = [f"weight decay {decay:g}" for decay in data.decay.values]
    axes[0, 0].set_yticks(range(len(decays) + len(RULE_LABELS)), [*decays, *RULE_LABELS.values()])
    axes[0, 0].invert_yaxis()
    legend(figure, axes[0, 0], 2)
    return figure


def _by_decay(ax: Axes, data: xr.Dataset) -> None:
    """A row of dots for each weight decay, slightly lower for larger learning rates; large where admissible."""
    effects = data.estimate.transpose("decay", "rate")
    steps = np.linspace(-0.3, 0.3, effects.sizes["rate"])
    heights = np.arange(effects.sizes["decay"])[:, None] + steps
    inside = data.admissible.transpose("decay", "rate").values.astype(bool)
    told_apart = effects.values[~inside], heights[~inside]
    ax.plot(*told_apart, "o", color="0.65", markersize=3, markerfacecolor="white", label="other probe of the grid")
    ax.plot(
        effects.values[inside], heights[inside], "o", color="black", markersize=5, label="within one point of the best"
    )


def _by_rule(ax: Axes, data: xr.Dataset) -> None:
    for row, (rule, (marker, colour)) in enumerate(RULE_STYLES.items(), data.sizes["decay"]):
        own = data.sel(rule=rule)
        estimate, low, high = (float(own[f"rule_{number}"]) for number in ("estimate", "low", "high"))
        ax.plot(estimate, row, marker, color=colour, markersize=8)
        ax.plot((low, high), (row, row), color=colour, linewidth=1.5)
