"""How claims R1 to R9 are decided: accuracies are top-1 on test images, the seed is the unit.

Of each objective only the encoders that learned are looked at.
"""

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from sslnb.core.claims import Claim, Verdict, decide, not_tested, verdicts_of

PAPER = "chen2023simclrrotnet"
LEVELS_OFF = 2000  # steps, R7
AS_ROBUST = 0.05  # of the clean accuracy, by which SimCLR may keep more than the baseline, R5
HUNDREDTH = 0.01  # of a doubling: how R7 compares a place on the steps' axis with points

CLAIMS = {
    claim.id: claim
    for claim in (
        Claim(
            "R1",
            "Linear accuracy grows with the batch size of pretraining.",
            "figure 2",
            "accuracy per doubling of the batch at equal steps",
            sei=0.005,
            evidence="fig-linear-batches",
        ),
        Claim(
            "R2",
            "Linear accuracy grows with the steps of pretraining.",
            "figure 2",
            "accuracy per doubling of the steps, both objectives",
            sei=0.005,
            evidence="fig-linear-steps",
        ),
        Claim(
            "R3",
            "SimCLR beats RotNet under the same conditions.",
            "section 4.1",
            "difference of accuracy, mean over the grid where both are above raw pixels",
            sei=0.03,
            evidence="fig-linear-steps",
        ),
        Claim(
            "R4",
            "Fine-tuned, self-supervised encoders beat the supervised baseline on 1, 10 and 50 % of the labels.",
            "table 1",
            "difference of accuracy at equal steps of optimisation, mean over fractions",
            sei=0.02,
            evidence="few-labels",
        ),
        Claim(
            "R5",
            "Fine-tuned SimCLR is not robust to small attacks, no more than the baseline.",
            "figure 3",
            "share of clean accuracy kept, baseline − SimCLR, mean over budgets, plus 0.05 that SimCLR may keep more",
            sei=0.0,
            evidence="fig-attacks",
        ),
        Claim(
            "R6",
            "Self-supervised encoders transfer better than supervised ones.",
            "table 2a, figure 4",
            "difference of accuracy on the other set, both directions",
            sei=0.02,
            evidence="fig-transfer",
        ),
        Claim(
            "R7",
            "Transfer grows with the batch size, and levels off near 2,000 steps.",
            "table 2b, figure 4",
            "the least of accuracy per doubling of the batch, and hundredths of the doublings by which the fitted knee "
            "lies within 1,000 and 4,000 steps, with and without the learning-rate cut",
            sei=0.005,
            evidence="fig-transfer",
        ),
        Claim(
            "R8",
            "ResNet-18 learns worse representations than ResNet-50, with both objectives.",
            "section 5",
            "difference of accuracy at equal steps",
            sei=0.01,
            evidence="architecture",
        ),
        Claim(
            "R9",
            "RotNet costs much less than SimCLR.",
            "section 5",
            "ratio of seconds per step at the same batch, SimCLR ÷ RotNet, minus 1",
            sei=0.25,
            unit="repeat",
            evidence="architecture",
        ),
    )
}

Data = Mapping[str, xr.Dataset]


def verdicts(data: Data) -> list[Verdict]:
    """Verdicts on R1 to R9."""
    return verdicts_of(CLAIMS, COMPARISONS, data)


def slope(values: xr.DataArray, dim: str) -> xr.DataArray:
    """Accuracy gained per doubling of a dimension's coordinate, by least squares, of the points that all seeds have.

    NaN with fewer than two of them.
    """
    values = values.dropna(dim, how="any")
    doublings = np.log2(values[dim].astype(float))
    centred = doublings - doublings.mean()
    return (
        (centred * values).sum(dim) / float((centred**2).sum()) if values.sizes[dim] > 1 else values.sum(dim) * np.nan
    )


def knee(steps: np.ndarray, accuracy: np.ndarray) -> float:
    """Number of steps at which accuracies [n] stop growing with the logarithm of the steps [n].

    The best of a line up to a knee and a constant behind it, by least squares over knees between the first step and the
    last. Infinite for accuracies that still grow at the last step, 0 for those that do not grow; NaN with fewer than
    four measurements.
    """
    measured = np.isfinite(accuracy)
    if measured.sum() < 4:
        return np.nan
    doublings, values = np.log2(np.asarray(steps, float)[measured]), accuracy[measured]
    fits = {}
    for at in np.linspace(doublings[0], doublings[-1], 201)[1:]:
        design = np.stack([np.ones_like(doublings), np.minimum(doublings, at)], 1)
        weights = np.linalg.lstsq(design, values, rcond=None)[0]
        fits[at] = float(((design @ weights - values) ** 2).sum()), weights[1]
    best = min(fits, key=lambda at: fits[at][0])
    if fits[best][1] <= 0:
        return 0.0
    return float(2**best) if best < doublings[-1] else np.inf


def _top1(values: xr.DataArray) -> xr.DataArray:
    return values.sel(score="top1", drop=True)


def _learned(data: Data, variant: str) -> bool:
    trained = data["pretraining"]
    return variant in trained.objective.values and bool(trained.learned.sel(objective=variant))


def _linear(data: Data) -> xr.DataArray:
    """Accuracies [objective, batch, step, seed] of the runs that learned, of objectives that have any."""
    accuracy = _top1(data["linear"].accuracy).copy()
    for objective in accuracy.objective.values:
        for batch in accuracy.batch.values:
            if not _learned(data, f"{objective}-b{batch}"):
                accuracy.loc[{"objective": objective, "batch": batch}] = np.nan
    return accuracy.dropna("objective", how="all").dropna("seed", how="all")


def _nothing(claim: Claim, what: str) -> Verdict:
    return not_tested(claim, f"needs {what}")


def _batches(claim: Claim, data: Data) -> Verdict:
    accuracy = _linear(data)
    if not accuracy.sizes["objective"]:
        return _nothing(claim, "encoders that learned")
    beside = {"at equal images seen": slope(at_images(accuracy, seen_by_all(accuracy)), "batch")}
    return decide(claim, slope(accuracy.isel(step=-1, drop=True), "batch"), controls=beside)


def seen_by_all(accuracy: xr.DataArray) -> int:
    """Images after which every batch size has an accuracy: those of the smallest one's last step."""
    return int(accuracy.batch.min()) * int(accuracy.step.max())


def at_images(accuracy: xr.DataArray, images: int) -> xr.DataArray:
    """Accuracies when so many images were seen, between steps by interpolation over their logarithm."""
    doubled = accuracy.assign_coords(step=np.log2(accuracy.step.values.astype(float)))
    parts = [
        doubled.sel(batch=batch).interp(step=np.log2(images / batch), kwargs={"fill_value": np.nan}).drop_vars("step")
        for batch in accuracy.batch.values
    ]
    return xr.concat(parts, "batch").assign_coords(batch=accuracy.batch)


def _steps(claim: Claim, data: Data) -> Verdict:
    accuracy = _linear(data)
    if not accuracy.sizes["objective"]:
        return _nothing(claim, "encoders that learned")
    whole = accuracy.dropna("batch", how="all")
    return decide(claim, slope(whole.mean("batch"), "step"))


def _between(claim: Claim, data: Data) -> Verdict:
    accuracy = _linear(data)
    if "pixels" not in data["linear"].reference.values or accuracy.sizes["objective"] < 2:
        return _nothing(claim, "SimCLR and RotNet encoders that learned, and raw pixels")
    pixels = _top1(data["linear"].references).sel(reference="pixels", drop=True)
    above = (accuracy > pixels).all(("objective", "seed"))
    gap = accuracy.sel(objective="simclr", drop=True) - accuracy.sel(objective="rotnet", drop=True)
    return decide(claim, gap.where(above).mean(("batch", "step")), note=f"{int(above.sum())} cells of the grid")


def _fractions(claim: Claim, data: Data) -> Verdict:
    accuracy, batch = _top1(data["fractions"].tuned), int(data["linear"].batch.max())
    learned = [name for name in ("simclr", "rotnet") if _learned(data, f"{name}-b{batch}")]
    if not learned:
        return _nothing(claim, "encoders that learned")
    gap = accuracy.sel(begun=learned) - accuracy.sel(begun="supervised", drop=True)
    begun = _top1(data["published_code"].initialised)
    both = begun.sel(begun=learned) - begun.sel(begun="supervised", drop=True)
    controls = {"both begun from supervised weights": both} if bool(both.notnull().any()) else {}
    return decide(claim, gap, controls=controls)


def _robust(claim: Claim, data: Data) -> Verdict:
    attacked, batch = data["attack"], int(data["linear"].batch.max())
    if not _learned(data, f"simclr-b{batch}"):
        return _nothing(claim, "SimCLR encoders that learned")
    accuracy = attacked.accuracy.sel(unit="pixel", drop=True)
    chance = 1 / len(attacked.attrs["classes"])
    above = chance + 2 * np.sqrt(chance * (1 - chance) / attacked.attrs["attacked_images"])
    clean = accuracy.isel(budget=0, drop=True)
    # What knows nothing loses nothing.
    kept = accuracy.isel(budget=slice(1, None)).mean("budget") / clean.where(clean > above)
    gap = kept.sel(begun="supervised", drop=True) - kept.sel(begun="simclr", drop=True)
    return decide(claim, gap + AS_ROBUST)


def _transfer(claim: Claim, data: Data) -> Verdict:
    moved = data["transfer"]
    if not all(_learned(data, name) for name in (f"simclr-b{moved.attrs['middle']}", "supervised")):
        return _nothing(claim, "SimCLR and supervised encoders that learned")
    last = _top1(moved.over_steps).isel(step=-1, drop=True)
    return decide(claim, last.sel(begun="simclr", drop=True) - last.sel(begun="supervised", drop=True))


def within(knees: np.ndarray) -> np.ndarray:
    """By how many doublings knees lie within 1,000 and 4,000 steps, at most one; negative outside, −3 without one."""
    with np.errstate(divide="ignore"):
        return 1 - np.abs(np.log2(knees / LEVELS_OFF)).clip(max=4)


def _levelling(claim: Claim, data: Data) -> Verdict:
    moved, steps = data["transfer"], data["transfer"].step.values
    learned = [int(batch) for batch in moved.batch.values if _learned(data, f"simclr-b{batch}")]
    if len(learned) < 2 or moved.attrs["middle"] not in learned:
        return _nothing(claim, "SimCLR encoders of several batch sizes that learned")
    if steps[-1] <= LEVELS_OFF:
        return _nothing(claim, f"more than {LEVELS_OFF:,} steps")
    curves = {"knee": _top1(moved.over_steps).isel(way=0, drop=True).sel(begun="simclr", drop=True)}
    cut = _top1(data["published_code"].transfer_cut)
    curves |= {"knee, with the learning rate cut": cut} if bool(cut.notnull().any()) else {}
    grown = slope(_top1(moved.over_batches).isel(side=0, drop=True).sel(batch=learned), "batch")
    parts, words = {"per doubling of the batch": grown}, []
    for name, curve in curves.items():
        knees = np.array([knee(steps, curve.sel(seed=seed).values) for seed in curve.seed.values])
        parts[name] = xr.DataArray(HUNDREDTH * within(knees), {"seed": curve.seed.values}, ("seed",))
        words.append(f"{name}: {', '.join(_place(at) for at in knees)}")
    effects = xr.concat(parts.values(), "of", join="inner").assign_coords(of=list(parts))
    return decide(claim, effects, least=True, note="; ".join(words))


def _place(knee_at: float) -> str:
    return {0.0: "no growth", np.inf: "still growing"}.get(knee_at, f"{knee_at:,.0f} steps")


def _depths(claim: Claim, data: Data) -> Verdict:
    accuracy = _top1(data["architectures"].accuracy)
    if set(accuracy.depth.values) != {18, 50}:
        return _nothing(claim, "ResNet-18 and ResNet-50")
    learned = [name for name in accuracy.objective.values if _learned(data, f"{name}-deep")]
    if not learned:
        return _nothing(claim, "deep encoders that learned")
    own = accuracy.sel(objective=learned)
    return decide(claim, own.sel(depth=50, drop=True) - own.sel(depth=18, drop=True))


def _cost(claim: Claim, data: Data) -> Verdict:
    seconds = data["architectures"].cost.sel(quantity="seconds", drop=True).isel(depth=0, drop=True)
    return decide(claim, seconds.sel(objective="simclr", drop=True) / seconds.sel(objective="rotnet", drop=True) - 1)


COMPARISONS: dict[str, Callable[[Claim, Data], Verdict]] = {
    "R1": _batches,
    "R2": _steps,
    "R3": _between,
    "R4": _fractions,
    "R5": _robust,
    "R6": _transfer,
    "R7": _levelling,
    "R8": _depths,
    "R9": _cost,
}
