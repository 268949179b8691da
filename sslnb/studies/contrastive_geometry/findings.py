"""What the chapter's text says of its recorded result, and whether the result bears it out."""

import xarray as xr

from sslnb.core.result import Result
from sslnb.pool.pool import PIXELS
from sslnb.report import kinds
from sslnb.studies.contrastive_geometry.claims import THREE, kept
from sslnb.studies.study import UNTRAINED

SIMCLR, SUPCON, SUPERVISED = THREE
HOLDS = ("replicated", "present but small")
FLAT = ("rise", "sharpness", "eigenvalue", "trace")


def means(result: Result) -> xr.Dataset:
    """What the text quotes of every method: means over seeds and tasks, on validation images but for flatness."""
    data, end = result.data, {"split": "validation"}
    tuned, along, attacked = (data[name] for name in ("fine_tuning", "trajectories", "robustness"))
    values = {
        "accuracy": tuned.accuracy.sel(end).isel(epoch=-1),
        "standardized_accuracy": tuned.standardized_accuracy,
        "progress": along.progress.sel(end).isel(epoch=-1),
        "raw_progress": along.raw_progress.sel(end).isel(epoch=-1),
        "standardized_progress": along.standardized_progress,
        "fgsm": kept(attacked.fgsm.sel(end)),
        "pgd": kept(attacked.pgd, "pgd_budget"),
    }
    by_run = {name: value.mean("task") for name, value in values.items()} | {name: data["flat"][name] for name in FLAT}
    plain = {name: value.drop_vars(["split", "epoch"], errors="ignore") for name, value in by_run.items()}
    return xr.Dataset(plain).groupby("objective").mean()


def apart(result: Result) -> tuple[float, float]:
    """Mean distance between paths of one method's seeds, and of different methods', on validation images."""
    data = result.data["embeddings"]
    distance = data.distance.sel(split="validation").mean("task").values
    names, seeds = data.objective.values, data.seed.values
    others = seeds[:, None] != seeds
    same = names[:, None] == names
    return float(distance[others & same].mean()), float(distance[others & ~same].mean())


def statements(result: Result) -> dict[str, bool]:
    """Every statement of the published text with its truth; the build stops at one that is false."""
    verdict, found = kinds(result), means(result)
    within, between = apart(result)
    trained = [name for name in found.objective.values if name not in (PIXELS, UNTRAINED)]

    def of(name: str, method: str) -> float:
        return float(found[name].sel(objective=method))

    def order(name: str, *methods: str) -> bool:
        values = [of(name, method) for method in methods]
        return values == sorted(values, reverse=True)

    moved = result.data["trajectories"].sel(split="validation")
    return {
        "SimCLR comes nearest to the truth, and SupCon stays behind": verdict["G2"] in HOLDS
        and order("progress", SIMCLR, SUPERVISED, SUPCON),
        "on standardized features supervised training ends nearest to the truth": order(
            "standardized_progress", SUPERVISED, SIMCLR
        ),
        "raw probabilities make most models look further along": float((moved.raw_progress > moved.progress).mean())
        > 0.9,
        "SimCLR keeps the most under FGSM, and next to nothing under PGD": verdict["G3"] in HOLDS
        and of("pgd", SIMCLR) < 0.1,
        "raw pixels keep about as much under FGSM": abs(of("fgsm", PIXELS) - of("fgsm", SIMCLR)) < 0.05,
        "under PGD no trained encoder keeps a tenth": max(of("pgd", name) for name in trained)
        < 0.1
        < of("pgd", PIXELS),
        "minima are not equally flat": verdict["G1"] in ("reversed", "absent", "undecided"),
        "seeds of one method follow one path, methods follow others": verdict["G5"] == "replicated"
        and between > 1.5 * within,
    }
