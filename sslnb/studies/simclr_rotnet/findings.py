"""What the chapter's text says of its recorded result, and whether the result bears it out."""

import itertools
import math

import xarray as xr

from sslnb.core.claims import mean_interval
from sslnb.core.result import Result
from sslnb.report import kinds, verdict_of
from sslnb.studies.simclr_rotnet.claims import at_images, seen_by_all
from sslnb.studies.simclr_rotnet.figures import top1

FEW = 500  # steps, up to which RotNet has not come above raw pixels
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
    return mean_interval(leads(result).sel(begun=begun, fraction=fraction).dropna("seed").values, 0.0)


def kept(result: Result) -> xr.DataArray:
    """Share of the clean accuracy [attack, begun, fraction, seed] that is left: mean over budgets, in pixels."""
    accuracy = result.data["attack"].accuracy.sel(unit="pixel", drop=True)
    return accuracy.isel(budget=slice(1, None)).mean("budget") / accuracy.isel(budget=0, drop=True)


def first_budget(result: Result) -> xr.DataArray:
    """Accuracy [attack, begun, fraction, seed] within the smallest budget."""
    return result.data["attack"].accuracy.sel(unit="pixel", drop=True).isel(budget=1)


def price(result: Result) -> xr.DataArray:
    """Median seconds, those of views, and bytes of a training step [objective, quantity], of the shallow network."""
    return result.data["architectures"].cost.median("repeat").isel(depth=0)


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
        "at equal steps larger batches are better, after equally many images smaller ones": verdict["R1"]
        == "replicated"
        and high < 0
        and bool((equal.diff("batch") < 0).all()),
        "up to 500 steps RotNet is no better than raw pixels": float(rotnet.sel(step=slice(None, FEW)).max())
        < reference(result, "pixels"),
        "SimCLR beats RotNet": verdict["R3"] == "replicated",
    }


def _on_labels(result: Result) -> dict[str, bool]:
    known = leads(result)
    few = float(known.fraction.min())
    cells = itertools.product(known.begun.values, known.fraction.values)
    bounds = [(fraction == few, *lead(result, begun, fraction)[1:]) for begun, fraction in cells]
    return {
        "pretraining helps with one label in a hundred, with ten or fifty nothing is clear of zero": few == 0.01
        and all(low > 0 if fewest else low < 0 < high for fewest, low, high in bounds)
    }


def _on_attacks(result: Result) -> dict[str, bool]:
    verdict, left, share = kinds(result), first_budget(result).mean("seed"), kept(result).mean("seed")
    simclr, supervised, rotnet = (share.sel(begun=name) for name in ("simclr", "supervised", "rotnet"))
    return {
        "no network survives attacks that nobody sees, and SimCLR's keeps no more than the baseline": verdict["R5"]
        == "replicated"
        and bool((left < 0.36).all())
        and bool((simclr < supervised).all())
        and float(share.max()) < 0.15,
        "RotNet keeps as much as the baseline": float((rotnet - supervised).min()) > -0.01,
    }


def _on_transfer(result: Result) -> dict[str, bool]:
    verdict, batches = verdict_of(result, "R7"), top1(result.data["transfer"].over_batches).mean("seed")
    part = {p["name"]: p for p in verdict["parts"]}
    costs = price(result).sel(quantity="seconds")
    return {
        "transfer grows with the batch and has not levelled off after 3,000 steps": verdict["kind"] == "reversed"
        and part["per doubling of the batch"]["low"] > 0
        and set(verdict["note"].removeprefix("knee: ").split(", ")) == {"still growing"},
        "enlarged to 96 px, STL-10's images are told apart better": bool((batches.diff("side") > 0).all()),
        "a step of RotNet costs more than one of SimCLR": kinds(result)["R9"] == "reversed"
        and float(costs.sel(objective="rotnet")) > 1.3 * float(costs.sel(objective="simclr")),
    }
