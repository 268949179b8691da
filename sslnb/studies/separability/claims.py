"""How claims S1 to S5 are decided; written before any encoder of the pool was measured."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from sslnb.core.claims import Claim, Verdict, controls, decide, not_tested, verdicts_of
from sslnb.core.papers import reference
from sslnb.metrics.margins import effective_accuracy

PAPER = "sehwag2020separability"
PAPER_SETS = ("ImageNet", "Flowers", "Caltech101", "CIFAR10", "CIFAR100", "Cars")  # where its SimCLR converged
OBJECTIVES = ("infomin", "moco", "simclr", "pirl", "cmc")  # the paper's five
LEAST_SLOPE = 3  # fewest objectives that a slope across them can be fitted to


def _printed_gap(norm: str) -> float:
    """The paper's mean difference of norm-AUC, supervised − SimCLR, over the sets where both converged."""
    gaps = []
    for name in PAPER_SETS:
        cells = [[reference(PAPER, name, m, k) for k in (f"effective_accuracy_{norm}", "benign_accuracy")]
                 for m in ("Supervised", "SimCLR")]  # fmt: skip
        (effective, benign), (other, other_benign) = cells
        gaps.append(effective / benign - other / other_benign)
    return float(np.nanmean(gaps))


HALF_GAP = float(np.mean([_printed_gap(norm) for norm in ("l2", "linf")])) / 2

CLAIMS = {
    claim.id: claim
    for claim in (
        Claim(
            "S1",
            "Self-supervised features have smaller mean margins than supervised ones, in l1, l2 and l∞.",
            "section 3.1, figures 2 and 3",
            "log ratio of mean margins, supervised over self-supervised",
            sei=float(np.log(1.1)),
            unit="objective",
            evidence="fig-mean-margins",
        ),
        Claim(
            "S2",
            "Supervised features keep the higher effective accuracy even where their benign accuracy is lower.",
            "table 1",
            "difference of norm-AUC, supervised − self-supervised, where self-supervised accuracy is not lower",
            sei=HALF_GAP,
            unit="seed",
            evidence="effective-accuracy",
        ),
        Claim(
            "S3",
            "The accuracy of self-supervised features falls faster with the attack budget.",
            "figure 4",
            "difference of norm-AUC, supervised − self-supervised",
            sei=HALF_GAP,
            unit="objective",
            evidence="fig-accuracy-budget",
        ),
        Claim(
            "S4",
            "Among self-supervised objectives, gains in accuracy bring little gain in margin.",
            "section 3.1",
            "1 − slope of log margin on accuracy across objectives ÷ slope implied by the supervised encoder",
            sei=0.5,
            unit="seed",
            evidence="fig-mean-margins",
        ),
        Claim(
            "S5",
            "With a multi-layer classifier, too, the accuracy of self-supervised features falls faster (S3).",
            "section 3.2",
            "difference of norm-AUC of the multi-layer probe under PGD, supervised − self-supervised",
            sei=HALF_GAP,
            unit="objective",
            evidence="fig-multilayer",
        ),
    )
}


Data = Mapping[str, xr.Dataset]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is compared, of one probe for each encoder and set: objective, seed, dataset, and norm or attacked.

    ``*_drawn`` are bootstraps over test images (dimension ``round``), where there are some; ``multilayer`` is norm-AUC
    of the multi-layer probe.
    """

    margin: xr.DataArray
    accuracy: xr.DataArray
    auc: xr.DataArray
    margin_drawn: xr.DataArray | None = None
    auc_drawn: xr.DataArray | None = None
    multilayer: xr.DataArray | None = None


def verdicts(data: Data) -> list[Verdict]:
    """Verdicts on S1 to S5, of the self-supervised encoders that learned, against the supervised one that did."""
    probed, needs = data["probes"], "supervised and self-supervised encoders that learned"
    if not comparable(probed):
        return verdicts_of(CLAIMS, COMPARISONS, needs=needs)
    drawn = (data["separation"][name] for name in ("mean_margin_drawn", "norm_auc_drawn"))
    measured = Measured(*compared_measures(data), *drawn, _multilayer_auc(data["attacked"]))
    return verdicts_of(CLAIMS, COMPARISONS, measured, learned_in(probed))


def of_probes(encoders: xr.Dataset, measured: Measured) -> list[Verdict]:
    """Verdicts on S1 to S3 from one choice of probes; the dataset says which encoders learned, and from what."""
    return [COMPARISONS[name](CLAIMS[name], measured, learned_in(encoders)) for name in ("S1", "S2", "S3")]


def comparable(encoders: xr.Dataset) -> bool:
    """Whether there are supervised and self-supervised encoders that learned."""
    supervised = "supervised" in encoders.objective.values and bool(encoders.learned.sel(objective="supervised"))
    return supervised and bool(learned_in(encoders))


def learned_in(encoders: xr.Dataset) -> list[str]:
    """Self-supervised objectives whose encoders learned."""
    return [str(name) for name in encoders.objective.values[encoders.learned.values & encoders.self_supervised.values]]


def compared_measures(data: Data) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Mean margins, accuracy and norm-AUC of the probes by which the claims are decided."""
    probed, separation = data["probes"], data["separation"]
    return tuple(compared(probed, v) for v in (separation.mean_margin, probed.accuracy, separation.norm_auc))


def compared(probed: xr.Dataset, values: xr.DataArray, scale: str | None = None) -> xr.DataArray:
    """A quantity under one standardization, of the probes with the weight decay at which encoders are compared."""
    scale = scale or probed.attrs["primary"]
    decay = probed.compared_decay.sel(scale=scale, drop=True)
    return values.sel(scale=scale, drop=True).sel(decay=decay).drop_vars("decay")


def _difference(values: xr.DataArray, names: list[str], other: str) -> xr.DataArray:
    """The other encoder's value minus each objective's, means over seeds."""
    means = values.mean("seed")
    return means.sel(objective=other, drop=True) - means.sel(objective=names)


def _against(claim: Claim, values: xr.DataArray, learned: list[str], drawn: xr.DataArray | None = None) -> Verdict:
    """Supervised against self-supervised objectives, the objective as the unit, pooled over sets and norms."""
    names = [name for name in OBJECTIVES if name in learned] or learned  # without the paper's five, all that learned
    replicates = None
    if drawn is not None:
        replicates = _difference(drawn, names, "supervised").mean("objective").rename(round="replicate")
    beside = controls(values.objective.values, lambda name: _difference(values, names, name))
    return decide(claim, _difference(values, names, "supervised"), replicates=replicates, controls=beside)


def _margins(claim: Claim, measured: Measured, learned: list[str]) -> Verdict:
    drawn = measured.margin_drawn
    return _against(claim, np.log(measured.margin), learned, None if drawn is None else np.log(drawn))


def _as_accurate(claim: Claim, measured: Measured, learned: list[str]) -> Verdict:
    """Pairs of set, objective and seed where the self-supervised encoder is at least as accurate."""
    auc, accuracy = measured.auc, measured.accuracy
    gap = auc.sel(objective="supervised", drop=True) - auc.sel(objective=learned)
    as_accurate = accuracy.sel(objective=learned) >= accuracy.sel(objective="supervised", drop=True)
    pairs = int((as_accurate & gap.notnull().all("attacked")).sum())
    if not pairs:
        return not_tested(claim, "no pair in which the self-supervised encoder is as accurate")
    return decide(claim, gap.where(as_accurate).mean(("objective", "dataset", "attacked")), note=f"{pairs} pairs")


def _budgets(claim: Claim, measured: Measured, learned: list[str]) -> Verdict:
    return _against(claim, measured.auc, learned, measured.auc_drawn)


def _slope(claim: Claim, measured: Measured, learned: list[str]) -> Verdict:
    """By seed and norm, margins' rise with accuracy as a share of the supervised encoder's lead; mean over sets."""
    if len(learned) < LEAST_SLOPE:
        return not_tested(claim, f"needs {LEAST_SLOPE} self-supervised objectives, {len(learned)} learned")
    margin, accuracy = np.log(measured.margin), measured.accuracy
    own_m, own_a = margin.sel(objective=learned), accuracy.sel(objective=learned)
    both = own_m.notnull().all("norm") & own_a.notnull()
    own_a, own_m = own_a.where(both), own_m.where(both)
    centred = own_a - own_a.mean("objective")
    slope = (centred * own_m).sum("objective") / (centred**2).sum("objective").where(lambda v: v > 1e-9)
    supervised = {"objective": "supervised", "drop": True}
    rise = margin.sel(**supervised) - own_m.mean("objective")
    implied = rise / (accuracy.sel(**supervised) - own_a.mean("objective")).where(lambda v: v > 0)
    return decide(claim, (1 - slope / implied.where(implied > 0)).mean("dataset"))


def _multilayer(claim: Claim, measured: Measured, learned: list[str]) -> Verdict:
    return _against(claim, measured.multilayer, learned)


def _multilayer_auc(attacked: xr.Dataset) -> xr.DataArray:
    """norm-AUC of the multi-layer probe, from its accuracies at the dots."""

    def of_curve(curve: np.ndarray, budgets: np.ndarray) -> float:
        return effective_accuracy(curve.copy(), budgets.copy()).norm_auc if np.isfinite(curve).all() else np.nan

    return xr.apply_ufunc(
        of_curve, attacked.multilayer, attacked.dot_budget, input_core_dims=[["dot"], ["dot"]], vectorize=True
    )


COMPARISONS: dict[str, Callable[[Claim, Measured, list[str]], Verdict]] = {
    "S1": _margins,
    "S2": _as_accurate,
    "S3": _budgets,
    "S4": _slope,
    "S5": _multilayer,
}
