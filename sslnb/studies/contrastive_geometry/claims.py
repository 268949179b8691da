"""How claims G1 to G5 are decided, all on validation images: the paper's three objectives, the seed as the unit.

SupCE is the supervised objective. Test images are bootstrapped where an effect is made of their predictions.
"""

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from sslnb.core.claims import Claim, Verdict, controls, decide, jackknife, not_tested, verdicts_of
from sslnb.core.labels import CONTROLS, label

PAPER = "cowlagi2022contrast"
THREE = ("simclr", "supcon", "supervised")
COMPARABLE = 0.05  # mean absolute difference of accuracies at which methods still are comparable
STEADY_SHARE = 0.95  # of the progress at the end: the steps until there have to rise

CLAIMS = {
    claim.id: claim
    for claim in (
        Claim(
            "G1",
            "After fine-tuning the three methods sit in comparably flat minima.",
            "result 1, figure 1a",
            "log 2 minus the greatest log ratio of filter-normalised rise between methods",
            sei=0.0,
            evidence="fig-geometry-contours",
        ),
        Claim(
            "G2",
            "SimCLR ends closer to the truth than SupCE on most tasks; SupCon progresses slowest.",
            "result 2, figure 2a",
            "the lesser of two differences of $t_w$, means over tasks: at the end, SimCLR − SupCE; on average over "
            "epochs, SupCE − SupCon",
            sei=0.02,
            evidence="fig-geometry-progress",
        ),
        Claim(
            "G3",
            "SimCLR is the most robust to FGSM.",
            "result 3, figure 2b",
            "area under accuracy against budget ÷ clean accuracy, SimCLR minus the better of the others",
            sei=0.02,
            evidence="fig-geometry-robustness",
        ),
        Claim(
            "G4",
            "Accuracies on the tasks are comparable, SimCLR ahead on some.",
            "table 1",
            "5 points minus the mean absolute difference between methods, corrected for noise",
            sei=0.0,
            evidence="fine-tuning-on-small-tasks",
        ),
        Claim(
            "G5",
            "Seeds of one method follow nearly the same path, methods different ones, and all progress steadily.",
            "figure 1b",
            "the lesser of between- minus within-method distance ÷ within, and the share of rising steps until 95 % of "
            "the final $t_w$",
            sei=0.5,
            unit="network",
            evidence="fig-geometry-embeddings",
        ),
    )
}

Data = Mapping[str, xr.Dataset]


def verdicts(data: Data) -> list[Verdict]:
    """Verdicts on G1 to G5; none is tested unless all three methods learned and have a run."""
    trained = data["pretraining"]
    learned = {str(name) for name in trained.objective.values[trained.learned.values]}
    present = set(data["fine_tuning"].objective.values)
    missing = [name for name in THREE if name not in learned & present]
    needs = f"{', '.join(map(label, missing))} encoders that learned" if missing else ""
    return verdicts_of(CLAIMS, COMPARISONS, data, needs=needs)


def area(accuracy: xr.DataArray, budget: str = "budget") -> xr.DataArray:
    """Area under the accuracy against the budget, over the greatest budget: the mean accuracy."""
    return accuracy.integrate(budget) / float(accuracy[budget].max())


def kept(accuracy: xr.DataArray, budget: str = "budget") -> xr.DataArray:
    """The same as a share of the clean accuracy, at the budget 0."""
    clean = accuracy.sel({budget: 0}, drop=True)
    return area(accuracy, budget) / clean.where(clean > 0)


def by_seed(values: xr.DataArray) -> xr.DataArray:
    """Values over runs as ones over objectives and seeds, NaN where there is no such run."""
    return values.set_index(run=["objective", "seed"]).unstack("run")


def _validation(dataset: xr.Dataset, name: str) -> xr.DataArray:
    return by_seed(dataset[name].sel(split="validation", drop=True))


def _flat(claim: Claim, data: Data) -> Verdict:
    rise = by_seed(data["flat"].rise)
    ratios = [np.abs(np.log(rise.sel(objective=a, drop=True) / rise.sel(objective=b, drop=True)).where(
        lambda v: np.isfinite(v))) for a, b in itertools.combinations(THREE, 2)]  # fmt: skip
    greatest = xr.concat(ratios, "pair").max("pair", skipna=False)
    return decide(claim, np.log(2) - greatest)


def _progress(claim: Claim, data: Data) -> Verdict:
    along = _validation(data["trajectories"], "progress").mean("task")
    drawn = by_seed(data["trajectories"].progress_drawn).mean("task")

    def both(end: xr.DataArray, mean: xr.DataArray, supervised: str) -> xr.DataArray:
        ahead = end.sel(objective="simclr", drop=True) - end.sel(objective=supervised, drop=True)
        slower = mean.sel(objective=supervised, drop=True) - mean.sel(objective="supcon", drop=True)
        parts = {"at the end, SimCLR − SupCE": ahead, "on average, SupCE − SupCon": slower}
        return xr.concat(parts.values(), "part").assign_coords(part=list(parts))

    measured = along.isel(epoch=-1, drop=True), along.mean("epoch")
    redrawn = both(drawn.sel(part="end", drop=True), drawn.sel(part="mean", drop=True), "supervised")
    replicates = redrawn.min("part", skipna=False).mean("seed").rename(round="replicate")
    beside = controls(along.objective.values, lambda name: both(*measured, name))
    return decide(claim, both(*measured, "supervised"), replicates=replicates, controls=beside, least=True)


def _robust(claim: Claim, data: Data) -> Verdict:
    share, drawn = (
        kept(_validation(data["robustness"], "fgsm")),
        by_seed(data["robustness"].kept_drawn),
    )

    def ahead(values: xr.DataArray, others: list[str]) -> xr.DataArray:
        return values.sel(objective="simclr", drop=True) - values.sel(objective=others).max("objective", skipna=False)

    replicates = ahead(drawn, ["supcon", "supervised"]).mean("seed").rename(round="replicate")
    names = CONTROLS | {"untrained": "untrained twin"}
    beside = controls(share.objective.values, lambda name: ahead(share, [name]), names)
    return decide(claim, ahead(share, ["supcon", "supervised"]), replicates=replicates, controls=beside)


def _comparable(claim: Claim, data: Data) -> Verdict:
    accuracy = _validation(data["fine_tuning"], "accuracy").isel(epoch=-1, drop=True)
    drawn = by_seed(data["fine_tuning"].accuracy_drawn)

    def apart(a: str, b: str) -> xr.DataArray:
        """Size of a difference by task and seed; the choice of images adds its variance to the square."""
        difference = accuracy.sel(objective=a, drop=True) - accuracy.sel(objective=b, drop=True)
        noise = (drawn.sel(objective=a, drop=True) - drawn.sel(objective=b, drop=True)).var("round", ddof=1)
        return np.sqrt((difference**2 - noise).clip(min=0).where(difference.notnull()))

    pairs = {f"{label(a)} and {label(b)}": apart(a, b) for a, b in itertools.combinations(THREE, 2)}
    sizes = xr.concat(list(pairs.values()), "pair").assign_coords(pair=list(pairs))
    return decide(claim, COMPARABLE - sizes.mean("task"))


def _alike(claim: Claim, data: Data) -> Verdict:
    """Networks are jackknifed seed by seed: every seed is in several pairs."""
    placed = data["embeddings"]
    names, seed_of = placed.objective.values, placed.seed.values
    distance = placed.distance.sel(split="validation").mean("task").values
    along = data["trajectories"].progress.sel(split="validation")
    runs = [i for i, name in enumerate(names) if name in THREE]
    common = set.intersection(*({int(seed_of[i]) for i in runs if names[i] == name} for name in THREE))

    def statistic(seeds: set[int]) -> float:
        chosen = [i for i in runs if seed_of[i] in seeds]
        pairs = [(i, j) for i, j in itertools.permutations(chosen, 2) if seed_of[i] != seed_of[j]]
        within = np.mean([distance[i, j] for i, j in pairs if names[i] == names[j]])
        between = np.mean([distance[i, j] for i, j in pairs if names[i] != names[j]])
        of = np.isin(along.objective.values, THREE) & np.isin(along.seed.values, sorted(seeds))
        return min((between - within) / within, rising(along.values[of]))

    if len(common) < 3:  # leaving one out leaves no pair of seeds
        return not_tested(claim, f"{len(common)} of at least 3 seeds of all three methods")
    whole = statistic(common)
    values = jackknife([statistic(common - {seed}) for seed in sorted(common)], whole)
    return decide(claim, xr.DataArray(values, dims=claim.unit))


def rising(progress: np.ndarray) -> float:
    """Share of the steps of progress [..., E+1] that rise, until 95 % of the end is reached."""
    before = progress[..., :-1] < STEADY_SHARE * progress[..., -1:]
    return float((np.diff(progress, axis=-1) > 0)[before].mean())


COMPARISONS: dict[str, Callable[[Claim, Data], Verdict]] = {
    "G1": _flat,
    "G2": _progress,
    "G3": _robust,
    "G4": _comparable,
    "G5": _alike,
}
