"""Explorers of results: live ones call back into Python, static ones work on a page without a kernel.

A static explorer holds every picture it can show; its controls are linked in the browser to which one is on top.
"""

import io
from collections.abc import Sequence

import ipywidgets as w
from matplotlib.figure import Figure

from sslnb.core.checks import expect

NO_BREAK = "\u00a0"


def picture(figure: Figure, alt: str, dpi: int = 80) -> w.Image:
    """A figure as an image widget; its alternative text travels as a class name, since widgets have no place for it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    image = w.Image(value=buffer.getvalue(), format="png")
    image.add_class("alt:" + alt.replace(" ", NO_BREAK))
    return image


def linked_stack(frames: Sequence[w.Image], slider: w.IntSlider) -> w.Stack:
    expect(len(frames) == slider.max - slider.min + 1, "frames", "one per position of the slider", len(frames))
    stack = w.Stack(children=frames, selected_index=slider.value)
    w.jslink((slider, "value"), (stack, "selected_index"))
    return stack
