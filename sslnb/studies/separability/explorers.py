"""Explorers of margins: a live one, and one that works on a page without a kernel."""

from collections.abc import Sequence

import ipywidgets as w
import numpy as np

from sslnb.core import labels
from sslnb.core.labels import NORM_NAMES
from sslnb.core.result import Result
from sslnb.report.explorers import linked_stack, picture
from sslnb.studies.separability import figures

FRAMES = 13  # budgets of a static explorer; a frame is some 20 KB of the page


def _margins(result: Result, dataset: str, norm: str, digit: int | None = None) -> list[np.ndarray]:
    """Margins [N] of each objective, first seed; of one class only, if asked."""
    data = result.data["separation"]
    chosen = (data.sample_dataset == dataset).values
    if digit is not None:
        chosen &= (data.sample_label == digit).values
    return list(data.margin.isel(seed=0, sample=chosen).sel(norm=norm).values.astype(np.float64))


def _reach(margins: Sequence[np.ndarray]) -> float:
    """Budget by which nearly every sample is lost."""
    finite = np.concatenate([m[np.isfinite(m)] for m in margins])
    return float(np.quantile(finite, 0.99)) if len(finite) else 1.0


def explore_margins(result: Result, classes: Sequence[str] = ()) -> w.VBox:
    """Live: choose data set, norm, class and budget; margins and the accuracy that is left are drawn again."""
    probed = result.data["probes"]
    dataset = w.Dropdown(options=list(probed.dataset.values), description="data set")
    norm = w.ToggleButtons(options=[(text, n) for n, text in NORM_NAMES.items()], value="l2", description="norm")
    which = w.Dropdown(options=[("all", None)], description="class")
    share = w.FloatSlider(value=0.3, min=0, max=1, step=0.02, description="budget", readout_format=".0%")
    image = w.Image(format="png")

    def offer_classes(*_: object) -> None:
        count = int(probed.classes.sel(dataset=dataset.value))
        known = classes if len(classes) == count else range(count)
        which.options = [("all", None), *((str(name), k) for k, name in enumerate(known))]

    def draw(*_: object) -> None:
        all_margins = _margins(result, dataset.value, norm.value)
        margins = _margins(result, dataset.value, norm.value, which.value)
        budget = share.value * _reach(all_margins)
        figure = figures.margin_explorer(margins, list(probed.objective.values), budget, norm.value)
        image.value = picture(figure, "margins").value

    offer_classes()
    dataset.observe(offer_classes, "value")
    for control in (dataset, norm, which, share):
        control.observe(draw, "value")
    draw()
    return w.VBox([dataset, norm, which, share, image])


def browse_margins(result: Result) -> w.VBox:
    """Static: the same for the first data set and all its classes together, over norm and budget."""
    slider = w.IntSlider(value=3, min=0, max=FRAMES - 1, description="budget", readout=False)
    name, objectives = result.data["probes"].dataset.values[0], list(result.data["probes"].objective.values)
    stacks = []
    for norm in NORM_NAMES:
        margins = _margins(result, name, norm)
        budgets = np.linspace(0, _reach(margins), FRAMES)
        frames = [_frame(margins, objectives, float(budget), norm) for budget in budgets]
        stacks.append(linked_stack(frames, slider))
    choice = w.ToggleButtons(options=list(NORM_NAMES.values()), index=1, description="norm")
    outer = w.Stack(children=stacks, selected_index=1)
    w.jslink((choice, "index"), (outer, "selected_index"))
    return w.VBox([choice, slider, outer])


def _frame(margins: Sequence[np.ndarray], methods: Sequence[str], budget: float, norm: str) -> w.Image:
    named = zip(methods, margins, strict=True)
    texts = [f"{100 * float((margin > budget).mean()):.1f} % for {labels.label(name)}" for name, margin in named]
    alt = f"Margins in {NORM_NAMES[norm]}. Accuracy left at budget {budget:.3g}: {', '.join(texts)}."
    return picture(figures.margin_explorer(margins, methods, budget, norm), alt)
