"""What the chapter's text says of its recorded result, and whether the result bears it out."""

import numpy as np
import xarray as xr

from sslnb.core.result import Result
from sslnb.pool.pool import MATCHED, PIXELS
from sslnb.report import kinds, verdict_of
from sslnb.studies.contrastive_geometry.claims import THREE, area, kept
from sslnb.studies.study import UNTRAINED

SIMCLR, SUPCON, SUPERVISED = THREE
FLAT = ("rise", "sharpness", "eigenvalue", "trace")


def ends(result: Result, step: str, name: str) -> xr.DataArray:
    """A quantity [run, task] at the end of fine-tuning on validation images."""
    return result.data[step][name].sel(split="validation").isel(epoch=-1)


def means(result: Result) -> xr.Dataset:
    """What the text quotes of every method: means over seeds and tasks, on validation images but for flatness."""
    data, end = result.data, {"split": "validation"}
    tuned, along, attacked = (data[name] for name in ("fine_tuning", "trajectories", "robustness"))
    values = {
        "accuracy": ends(result, "fine_tuning", "accuracy"),
        "standardized_accuracy": tuned.standardized_accuracy,
        "progress": ends(result, "trajectories", "progress"),
        "standardized_progress": along.standardized_progress,
        "fgsm": kept(attacked.fgsm.sel(end)),
        "pgd": kept(attacked.pgd, "pgd_budget"),
    }
    by_run = {name: value.mean("task") for name, value in values.items()} | {name: data["flat"][name] for name in FLAT}
    plain = {name: value.drop_vars(["split", "epoch"], errors="ignore") for name, value in by_run.items()}
    return xr.Dataset(plain).groupby("objective").mean()


def rims(result: Result) -> list[float]:
    """By what factor (its decimal logarithm) the loss at the rim of the drawn plane exceeds that at its centre.

    Of SupCon, SimCLR and supervised training, means over the rim.
    """
    heights = np.log10(result.data["surfaces"].loss.sel(objective=[SUPCON, SIMCLR, SUPERVISED]))
    inside = heights.isel(alpha=slice(1, -1), beta=slice(1, -1))
    rim = (heights.sum(("alpha", "beta")) - inside.sum(("alpha", "beta"))) / (heights[0].size - inside[0].size)
    centre = heights.sel(alpha=0, beta=0, method="nearest", drop=True)
    return (rim - centre).values.tolist()


def apart(result: Result) -> xr.DataArray:
    """Distances [objective, objective, split] between paths: means over tasks and pairs of different seeds, as in G5.

    NaN where there is no such pair.
    """
    data = result.data["embeddings"]
    names, seeds = data.objective.values, data.seed.values
    pairs = data.distance.mean("task").where(xr.DataArray(seeds[:, None] != seeds, dims=("run", "run_b")))
    methods = list(dict.fromkeys(map(str, names)))
    means = [[pairs[:, names == a, names == b].mean(("run", "run_b")).values for b in methods] for a in methods]
    coordinates = {"objective": methods, "objective_b": methods, "split": data.split.values}
    return xr.DataArray(means, coordinates, ("objective", "objective_b", "split"))


def within_and_between(result: Result) -> tuple[float, float]:
    """The same on validation images: of one method's seeds, and of different methods."""
    values = apart(result).sel(split="validation").values
    same = np.eye(len(values), dtype=bool)
    return float(values[same].mean()), float(values[~same].mean())


def slips(result: Result) -> dict[str, float]:
    """How much further along raw probabilities put a model on validation images, on average, and what they measure.

    ``half`` is of models that are right for less than half of the images, ``better`` of the others. ``raw_agreement``
    and ``agreement`` are the correlations of both readings of progress with accuracy.
    """
    accuracy = result.data["fine_tuning"].accuracy.sel(split="validation")
    along = result.data["trajectories"].sel(split="validation")
    ahead, below = along.raw_progress - along.progress, accuracy < 0.5
    return {
        "half": float(ahead.where(below).mean()),
        "better": float(ahead.where(~below).mean()),
        "agreement": float(xr.corr(along.progress, accuracy)),
        "raw_agreement": float(xr.corr(along.raw_progress, accuracy)),
    }


def in_plane(result: Result) -> float:
    """The share of the sizes of the joint embedding's eigenvalues that two dimensions hold, on validation images."""
    sizes = abs(result.data["embeddings"].eigenvalue.sel(split="validation", of="all tasks"))
    return float(sizes[:2].sum() / sizes.sum())


def decided_by_task(result: Result) -> float:
    """The share of the variance of ends in the joint embedding's plane that is between tasks; validation images."""
    placed, tuned = result.data["embeddings"], result.data["fine_tuning"]
    points = placed.joint.sel(split="validation").values[:-2, :2]  # without ignorance and truth
    ends = points.reshape(placed.sizes["run"], tuned.sizes["task"], tuned.sizes["epoch"], 2)[:, :, -1]
    of_task = np.broadcast_to(ends.mean(0), ends.shape)
    return float(np.square(of_task - ends.mean((0, 1))).sum() / np.square(ends - ends.mean((0, 1))).sum())


def statements(result: Result) -> dict[str, bool]:
    """Every statement of the published text with its truth; the build stops at one that is false."""
    return _on_geometry(result) | _on_relations(result)


def _on_relations(result: Result) -> dict[str, bool]:
    found, slip, together = means(result), slips(result), result.data["relations"].correlation
    flat = ["rise", "eigenvalue", "trace"]
    low, high = (together.sel(bound=bound) for bound in ("low", "high"))
    others = [name for name in found.objective.values if name not in (SIMCLR, "moco")]
    attacked = area(result.data["robustness"].fgsm.sel(split="validation")).mean("task").groupby("objective").mean()

    def value(name: str, method: str) -> float:
        return float(found[name].sel(objective=method))

    return {
        "raw probabilities put the better models further along, and measure little beyond accuracy": slip["better"]
        > 0.05
        > 0.02
        > abs(slip["half"])
        and slip["raw_agreement"] > 0.98 > slip["agreement"] + 0.02,
        "the task decides where a path ends in this plane, the method hardly": decided_by_task(result) > 0.9
        and 0.4 < in_plane(result) < 0.6,
        "SimCLR gets as far as supervised training with a few right answers less": value("accuracy", SUPERVISED)
        - value("accuracy", SIMCLR)
        > 0.02
        > abs(value("progress", SUPERVISED) - value("progress", SIMCLR)),
        "under FGSM SimCLR and MoCo v2 are ahead of all others, whatever their accuracy": float(
            attacked.sel(objective=[SIMCLR, "moco"]).min()
        )
        > float(attacked.sel(objective=others).max()) + 0.05
        and abs(float(attacked.sel(objective=PIXELS) - attacked.sel(objective=SUPCON))) < 0.02,
        "progress goes with accuracy; of flatness these runs cannot tell": float(
            low.sel(quantity="progress", quantity_b="accuracy")
        )
        > 0.7
        and bool((low.sel(quantity=flat, quantity_b=["accuracy", "progress", "robustness"]) < 0).all())
        and bool((high.sel(quantity=flat, quantity_b=["accuracy", "progress", "robustness"]) > 0).all()),
        "the three measures of flatness agree among themselves": all(
            float(low.sel(quantity=a, quantity_b=b)) > 0 for a in flat for b in flat if a != b
        ),
    }


def _on_geometry(result: Result) -> dict[str, bool]:
    verdict, found = kinds(result), means(result)
    within, between = within_and_between(result)
    trained = [name for name in found.objective.values if name not in (PIXELS, UNTRAINED)]

    def of(name: str, method: str) -> float:
        return float(found[name].sel(objective=method))

    def order(name: str, *methods: str) -> bool:
        values = [of(name, method) for method in methods]
        return values == sorted(values, reverse=True)

    attacked = result.data["robustness"].fgsm.sel(split="validation", budget=[8, 15]).mean(("task", "budget"))

    def far(method: str) -> float:
        return float(attacked[attacked.objective == method].mean())

    parts, by_task = (verdict_of(result, claim)["parts"] for claim in ("G2", "G3"))
    slower = next(part for part in parts if part["name"].startswith("on average"))  # SupCE − SupCon
    steps = result.data["along_pretraining"].progress
    tuned = ends(result, "fine_tuning", "accuracy").groupby("objective")
    progress, accuracy = ends(result, "trajectories", "progress").groupby("objective").mean(), tuned.mean()
    ahead = progress.sel(objective=SIMCLR) - progress.sel(objective=SUPERVISED)  # by task
    lead = accuracy.sel(objective=SIMCLR) - accuracy.sel(objective=[SUPCON, SUPERVISED]).max("objective")
    spread = tuned.std(ddof=1).sel(objective=SIMCLR)
    reached = {str(name): float(steps.sel(objective=name).isel(step=-1)) for name in steps.objective.values}
    return {
        "around SimCLR and SupCon the loss rises three times as much as around supervised networks": verdict["G1"]
        == "reversed"
        and min(of("rise", SIMCLR), of("rise", SUPCON)) > 2.7 * of("rise", SUPERVISED),
        "by the largest eigenvalue and the trace SupCon is the flattest of the three": all(
            order(name, SIMCLR, SUPCON) and order(name, SUPERVISED, SUPCON) for name in ("eigenvalue", "trace")
        ),
        "on average SimCLR has no more progress than supervised training, and SupCon stays behind": verdict["G2"]
        == "undecided"
        and slower["low"] > 0
        and abs(of("progress", SIMCLR) - of("progress", SUPERVISED)) < 0.02
        and order("progress", SUPERVISED, SUPCON)
        and order("progress", SIMCLR, SUPCON),
        "SimCLR is ahead on three of four tasks by little, and behind on the third by more": bool(
            (ahead > 0).values.tolist() == [True, True, False, True]
        )
        and float(ahead.max()) < 0.035
        and float(ahead.min()) < -2 * float(ahead.max()),
        "no lead of SimCLR in accuracy is above the deviation over seeds": bool((lead <= spread).all()),
        "in this plane SupCon lies in the deepest valley, supervised training in the shallowest": rims(result)
        == sorted(rims(result), reverse=True),
        "raw pixels are the flattest": of("rise", PIXELS) == float(found.rise.min()),
        "on standardized features supervised training has the most progress": order(
            "standardized_progress", SUPERVISED, SIMCLR, SUPCON
        ),
        "at equal accuracy SimCLR's features serve the tasks better": of("progress", SIMCLR)
        > of("progress", MATCHED) + 0.1,
        "SupCon is the least accurate of the three": verdict["G4"] == "undecided"
        and order("accuracy", SUPERVISED, SIMCLR, SUPCON),
        "SimCLR keeps the most under FGSM, and next to nothing under PGD": verdict["G3"] == "replicated"
        and of("pgd", SIMCLR) < 0.1
        and of("fgsm", "moco") > of("fgsm", SIMCLR),
        "its lead under FGSM is clear on two of the four tasks": sum(part["low"] > 0 for part in by_task) == 2,
        "at large budgets SimCLR's accuracy is that of guessing, supervised networks' below it": abs(far(SIMCLR) - 0.2)
        < 0.02
        and far(SUPERVISED) < 0.15,
        "raw pixels keep about as much under FGSM": abs(of("fgsm", PIXELS) - of("fgsm", SIMCLR)) < 0.05,
        "under PGD no trained encoder keeps a tenth": max(of("pgd", name) for name in trained)
        < 0.1
        < of("pgd", PIXELS),
        "seeds of one method follow one path, different methods follow different ones": verdict["G5"] == "replicated"
        and between > 2 * within,
        "with labels pretraining goes most of the way, with SimCLR and MoCo v2 under half, with RotNet hardly": min(
            reached[SUPERVISED], reached[SUPCON]
        )
        > 0.6
        > 0.45
        > max(reached[SIMCLR], reached["moco"])
        > 0.3
        > 0.2
        > reached["rotnet"]
        and bool((steps.isel(step=-1) > steps.isel(step=-2)).all()),  # whose lines all still rise
        "the untrained network keeps less under FGSM than any trained one": of("fgsm", UNTRAINED)
        < min(of("fgsm", name) for name in trained),
        "the untrained network is far sharper": of("rise", UNTRAINED) > 5 * of("rise", SIMCLR),
    }
