"""Explorers of attacked images: a live one, and one that works on a page without a kernel."""

import ipywidgets as w
import numpy as np

from sslnb.core.result import Result
from sslnb.report.explorers import linked_stack, picture
from sslnb.studies.simclr_rotnet.figures import attack_example


def explore_attack(result: Result) -> w.VBox:
    """Live: choose batch size, image and budget; what PGD adds, and what the classifier then says, are drawn again."""
    data = result.data["attack"]
    sizes, count = _batch_sizes(result), data.sizes["sample"]
    size = w.ToggleButtons(
        options=[(str(n), b) for b, n in enumerate(sizes)], value=len(sizes) - 1, description="batch"
    )
    which = w.IntSlider(value=0, min=0, max=count - 1, description="image")
    budget = w.IntSlider(value=1, min=0, max=data.sizes["budget"] - 1, description="budget")
    image = w.Image(format="png")

    def draw(*_: object) -> None:
        image.value = _attack_frame(result, size.value, which.value, budget.value).value

    for control in (size, which, budget):
        control.observe(draw, "value")
    draw()
    return w.VBox([size, which, budget, image])


def browse_attack(result: Result, *, images: int = 2) -> w.VBox:
    """Static: the same for the first images and the largest batch size, over image and budget."""
    data = result.data["attack"]
    last = data.sizes["budget"] - 1
    slider = w.IntSlider(value=0, min=0, max=last, description="budget", readout=False)
    b = len(_batch_sizes(result)) - 1
    images = min(images, data.sizes["sample"])
    stacks = [linked_stack([_attack_frame(result, b, i, e) for e in range(last + 1)], slider) for i in range(images)]
    choice = w.ToggleButtons(options=[f"image {i + 1}" for i in range(images)], index=0)
    outer = w.Stack(children=stacks, selected_index=0)
    w.jslink((choice, "index"), (outer, "selected_index"))
    return w.VBox([choice, slider, outer])


def _batch_sizes(result: Result) -> list[int]:
    return list(result.data["linear"].batch.values)


def _attack_frame(result: Result, b: int, i: int, e: int) -> w.Image:
    data = result.data["attack"]
    budget = float(data.eps.sel(unit="pixel")[e])
    classes, true = data.attrs["classes"], int(data.example_label[i])
    believed = data.example_believed.values[b, i, [0, e]]
    classified = ["nothing" if np.isnan(row).any() else f"class {classes[row.argmax()]}" for row in believed]
    alt = (
        f"Class {classes[true]}, attacked by {255 * budget:.1f} of 255: {classified[0]} before, {classified[1]} after."
    )
    pictures = data.example_image.values[i], data.example_adversarial.values[b, i, e]
    return picture(attack_example(*pictures, believed, true, classes, budget), alt)
