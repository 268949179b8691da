"""What the chapter's text says of its recorded result, and whether the result bears it out."""

import itertools
import math
from collections.abc import Mapping

import xarray as xr

from sslnb.core.claims import GATE, mean_interval
from sslnb.core.result import Result
from sslnb.report import kinds, verdict_of
from sslnb.studies.simclr_rotnet.claims import LEVELS_OFF, at_images, seen_by_all, slope
from sslnb.studies.simclr_rotnet.figures import top1

FEW = 1000  # steps, up to which RotNet is at the level of raw pixels
USUAL = 8 / 255  # a budget that nobody is said to see
SEEN = "at equal images seen"  # the control of R1


def linear(result: Result) -> xr.DataArray:
    """Linear accuracy [objective, batch, step, seed]."""
    return top1(result.data["linear"].accuracy)


def reference(result: Result, name: str) -> float:
    """Accuracy of raw pixels or of untrained networks, mean over seeds."""
    return float(top1(result.data["linear"].references).sel(reference=name).mean("seed"))


def after_images(result: Result) -> xr.DataArray:
    """Accuracy [objective, batch, seed] after as many images as the smallest batch has seen in the end."""
    return at_images(linear(result), seen_by_all(linear(result)))


def interval(values: xr.DataArray) -> tuple[float, float, float]:
    """The mean over seeds of values [seed] with its 95 % interval."""
    return mean_interval(values.dropna("seed").values, 0.0)


def ahead(values: xr.DataArray) -> xr.DataArray:
    """SimCLR minus RotNet, seed by seed."""
    return values.sel(objective="simclr", drop=True) - values.sel(objective="rotnet", drop=True)


def per_doubling(result: Result) -> dict[str, xr.DataArray]:
    """What a doubling of the batch adds [objective, seed]: after equally many steps, and after equally many images."""
    return {"steps": slope(linear(result).isel(step=-1), "batch"), "images": slope(after_images(result), "batch")}


def with_a_stricter_gate(result: Result) -> dict[str, tuple[float, float, float]]:
    """R1, R2 and R3 without the runs whose last encoder is less than 5 points above raw pixels by this chapter's probe.

    The gate of the claims compares with raw pixels by a quicker classifier, on which these are lower.
    """
    accuracy, floor = linear(result), reference(result, "pixels")
    learned = (accuracy.isel(step=-1, drop=True) >= floor + GATE).all("seed")
    steps = slope(accuracy.where(learned).mean("batch"), "step")
    several = [name for name in accuracy.objective.values if int(learned.sel(objective=name).sum()) > 1]
    both = learned.all("objective") & (accuracy > floor).all(("objective", "seed"))
    return {
        "R1": interval(per_doubling(result)["steps"].sel(objective=several).mean("objective")),
        "R2": interval(steps.mean("objective")),
        "R3": interval(ahead(accuracy).where(both).mean(("batch", "step"))),
    }


def fine_tuned_from(result: Result) -> xr.DataArray:
    """Linear accuracy [objective] of the encoders that are fine-tuned, mean over seeds."""
    step = int(result.data["fractions"].attrs["step"])
    return linear(result).sel(step=step).isel(batch=-1).mean("seed")


def last_gain(result: Result) -> xr.DataArray:
    """What a doubling of the steps adds at the end [objective], from the last two steps: means over batches, seeds."""
    ends = linear(result).mean(("batch", "seed")).isel(step=[-2, -1])
    return ends.diff("step").isel(step=0, drop=True) / math.log2(ends.step.values[1] / ends.step.values[0])


def leads(result: Result) -> xr.DataArray:
    """By how much fine-tuning from an encoder beats that from random weights [begun, fraction, seed]."""
    tuned = top1(result.data["fractions"].tuned)
    return (tuned - tuned.sel(begun="supervised", drop=True)).drop_sel(begun="supervised")


def lead(result: Result, begun: str, fraction: float) -> tuple[float, float, float]:
    """The mean of one such difference over seeds with its 95 % interval."""
    return interval(leads(result).sel(begun=begun, fraction=fraction))


def between_objectives(result: Result) -> xr.DataArray:
    """By how much fine-tuning from SimCLR beats that from RotNet [fraction, seed]."""
    tuned = leads(result)
    return tuned.sel(begun="simclr", drop=True) - tuned.sel(begun="rotnet", drop=True)


def corrected_leads(result: Result) -> dict[tuple[str, float], Mapping]:
    """The parts of R4, whose intervals are corrected for their number, by beginning and share of the labels."""
    named = ([*part["name"].split(", "), part] for part in verdict_of(result, "R4")["parts"])
    return {(begun, float(fraction)): part for begun, fraction, part in named}


def kept(result: Result) -> xr.DataArray:
    """Share of the clean accuracy [attack, begun, fraction, seed] that is left: mean over budgets, in pixels."""
    accuracy = result.data["attack"].accuracy.sel(unit="pixel", drop=True)
    return accuracy.isel(budget=slice(1, None)).mean("budget") / accuracy.isel(budget=0, drop=True)


def kept_against_baseline(result: Result) -> xr.DataArray:
    """By how much more a beginning keeps than the baseline [begun, seed], mean over attacks and shares of labels."""
    share = kept(result).mean(("attack", "fraction"))
    return share - share.sel(begun="supervised", drop=True)


def first_budget(result: Result) -> xr.DataArray:
    """Accuracy [attack, begun, fraction, seed] within the smallest budget."""
    return result.data["attack"].accuracy.sel(unit="pixel", drop=True).isel(budget=1)


def usual_budget(result: Result) -> tuple[float, xr.DataArray]:
    """The greatest budget that was tried of at most 8/255, and the accuracy [attack, begun, fraction] within it."""
    data = result.data["attack"].sel(unit="pixel")
    at = int((data.eps <= USUAL).sum()) - 1
    return float(data.eps[at]), data.accuracy.isel(budget=at).mean("seed")


def price(result: Result) -> xr.DataArray:
    """Median seconds, those of views, and bytes of a training step [objective, quantity], of the shallow network."""
    return result.data["architectures"].cost.median("repeat").isel(depth=0)


def moved(result: Result) -> dict[tuple[str, str], float]:
    """Accuracy on the other set at the last step, mean over seeds, by way (to, from) and beginning."""
    last = top1(result.data["transfer"].over_steps).isel(step=-1).mean("seed")
    return {
        (str(w).split()[0], str(b)): float(last.sel(way=w, begun=b)) for w in last.way.values for b in last.begun.values
    }


def statements(result: Result) -> dict[str, bool]:
    """Every statement of the published text with its truth; the build stops at one that is false."""
    return _on_pretraining(result) | _on_labels(result) | _on_attacks(result) | _on_transfer(result)


def _on_pretraining(result: Result) -> dict[str, bool]:
    verdict, accuracy = kinds(result), linear(result).mean("seed")
    simclr, rotnet = (accuracy.sel(objective=name) for name in ("simclr", "rotnet"))
    equal = after_images(result).mean("seed")
    _, _, high = verdict_of(result, "R1")["controls"][SEEN]
    gain = last_gain(result)
    whole = verdict_of(result, "R2")["parts"]
    return {
        "both objectives still gain at the last step, and SimCLR is ahead with every batch size": verdict["R2"]
        == "replicated"
        and bool((simclr > rotnet).all())
        and all(float(gain.sel(objective=part["name"])) > part["estimate"] for part in whole),
        "at equal steps larger batches are better, after equally many images they are not": verdict["R1"]
        == "replicated"
        and high < 0
        and bool((equal.diff("batch") < 0).all()),
        "up to 1,000 steps RotNet is at the level of raw pixels or below": float(
            rotnet.sel(step=slice(None, FEW)).max()
        )
        < reference(result, "pixels") + 0.01,
        "SimCLR beats RotNet in every cell": verdict["R3"] == "replicated"
        and bool((ahead(linear(result)).mean("seed") > 0).all()),
        "a stricter gate leaves R1, R2 and R3 as they are": all(
            verdict[claim] == "replicated" and low > 0 for claim, (_, low, _) in with_a_stricter_gate(result).items()
        ),
        "up to 2,000 steps RotNet has no gain from a larger batch that is clear of zero": all(
            interval(slope(linear(result).sel(objective="rotnet", step=step), "batch"))[1] <= 0
            for step in accuracy.step.values
            if step <= LEVELS_OFF
        ),
        "SimCLR gains more from a larger batch than RotNet": all(
            interval(ahead(slopes))[1] > 0 for slopes in per_doubling(result).values()
        ),
    }


def _on_labels(result: Result) -> dict[str, bool]:
    known = leads(result)
    few = float(known.fraction.min())
    cells = itertools.product(known.begun.values, known.fraction.values)
    bounds = [(fraction == few, *lead(result, begun, fraction)[1:]) for begun, fraction in cells]
    signs = (between_objectives(result).mean("seed") > 0).values.tolist()
    return {
        "leads with one label in a hundred are clear of zero uncorrected, all others are not": few == 0.01
        and all(low > 0 if fewest else low < 0 < high for fewest, low, high in bounds),
        "corrected, no lead is clear of zero": all(p["low"] < 0 < p["high"] for p in corrected_leads(result).values()),
        "SimCLR is ahead of RotNet with the fewest labels alone": signs == [True, False, False],
    }


def _on_attacks(result: Result) -> dict[str, bool]:
    verdict, left, share = kinds(result), usual_budget(result)[1], kept(result).mean("seed")
    against = kept_against_baseline(result)
    simclr, supervised, rotnet = (share.sel(begun=name) for name in ("simclr", "supervised", "rotnet"))
    return {
        "within 8/255 no network has 5 % accuracy left, and SimCLR is no more robust than the baseline": verdict["R5"]
        == "replicated"
        and bool((left < 0.05).all())
        and bool((simclr < supervised).all()),
        "RotNet keeps more than the baseline in every panel, by nothing that is clear of zero": bool(
            (rotnet > supervised).all()
        )
        and interval(against.sel(begun="rotnet"))[1] < 0
        and interval(against.sel(begun="simclr"))[2] > 0,
    }


def _on_transfer(result: Result) -> dict[str, bool]:
    verdict, batches = verdict_of(result, "R7"), top1(result.data["transfer"].over_batches).mean("seed")
    part = {p["name"]: p for p in verdict["parts"]}
    costs, over_steps = price(result).sel(quantity="seconds"), top1(result.data["transfer"].over_steps)
    gap = over_steps.sel(begun="simclr", drop=True) - over_steps.sel(begun="supervised", drop=True)
    early = [interval(gap.sel(way=way, step=200)) for way in gap.way.values]
    return {
        "supervised training transfers better both ways, and SimCLR's transfer still grows": kinds(result)["R6"]
        == "reversed"
        and bool((gap.isel(step=-1) < 0).all())
        and bool((over_steps.sel(begun="simclr").mean("seed").diff("step") > 0).all()),
        "after 200 steps they are alike": all(low < 0 < high for _, low, high in early),
        "transfer grows with the batch and has not levelled off after 3,000 steps": verdict["kind"] == "reversed"
        and part["per doubling of the batch"]["low"] > 0
        and set(verdict["note"].removeprefix("knee: ").split(", ")) == {"still growing"},
        "enlarged to 96 px, STL-10's images are told apart better": bool((batches.diff("side") > 0).all()),
        "a step of RotNet costs more than one of SimCLR": kinds(result)["R9"] == "reversed"
        and float(costs.sel(objective="rotnet")) > 1.3 * float(costs.sel(objective="simclr")),
    }
