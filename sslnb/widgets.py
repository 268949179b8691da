"""Explorers of results: live ones call back into Python, static ones work on a page without a kernel.

A static explorer holds every picture it can show; its controls are linked in the browser to which one is on top.
"""

import io
from collections.abc import Sequence

import ipywidgets as w
import numpy as np
import torch
from matplotlib.figure import Figure

from sslnb import figures, qscore_pages, simclr_rotnet_pages
from sslnb.core.checks import expect
from sslnb.core.result import Result
from sslnb.features import prediction
from sslnb.metrics import qscore

FRAMES = 13  # budgets of a static explorer; a frame is some 20 KB of the page
NO_FEATURE = "No feature is discriminative: none is highly activating, or none lies within the band."
NO_BREAK = "\u00a0"
NORM_NAMES = {"l1": "l1", "l2": "l2", "linf": "l∞"}


def picture(figure: Figure, alt: str, dpi: int = 80) -> w.Image:
    """A figure as an image widget; its alternative text travels as a class name, since widgets have no place for it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    image = w.Image(value=buffer.getvalue(), format="png")
    image.add_class("alt:" + alt.replace(" ", NO_BREAK))
    return image


def _margins(result: Result, dataset: int, norm: int, digit: int | None = None) -> list[np.ndarray]:
    """Margins [N] of each method, first seed; of one class only, if asked."""
    name = result.scalars["datasets"][dataset]
    chosen = result.arrays[f"margins/{name}"][:, 0, norm].astype(np.float64)
    if digit is not None:
        chosen = chosen[:, result.arrays[f"labels/{name}"] == digit]
    return list(chosen)


def _reach(margins: Sequence[np.ndarray]) -> float:
    """Budget by which nearly every sample is lost."""
    finite = np.concatenate([m[np.isfinite(m)] for m in margins])
    return float(np.quantile(finite, 0.99)) if len(finite) else 1.0


def explore_margins(result: Result, classes: Sequence[str] = ()) -> w.VBox:
    """Live: choose data set, norm, class and budget; margins and the accuracy that is left are drawn again."""
    names, norms = result.scalars["datasets"], result.scalars["norms"]
    dataset = w.Dropdown(options=[(n, d) for d, n in enumerate(names)], description="data set")
    norm = w.ToggleButtons(options=[(NORM_NAMES[n], i) for i, n in enumerate(norms)], value=1, description="norm")
    which = w.Dropdown(options=[("all", None)], description="class")
    share = w.FloatSlider(value=0.3, min=0, max=1, step=0.02, description="budget", readout_format=".0%")
    image = w.Image(format="png")

    def offer_classes(*_: object) -> None:
        count = result.scalars["classes"][dataset.value]
        known = classes if len(classes) == count else range(count)
        which.options = [("all", None), *((str(name), k) for k, name in enumerate(known))]

    def draw(*_: object) -> None:
        everyone = _margins(result, dataset.value, norm.value)
        margins = _margins(result, dataset.value, norm.value, which.value)
        budget = share.value * _reach(everyone)
        figure = figures.margin_explorer(margins, result.scalars["methods"], budget, norms[norm.value])
        image.value = picture(figure, "margins").value

    offer_classes()
    dataset.observe(offer_classes, "value")
    for control in (dataset, norm, which, share):
        control.observe(draw, "value")
    draw()
    return w.VBox([dataset, norm, which, share, image])


def browse_margins(result: Result, *, dataset: int = 0) -> w.VBox:
    """Static: the same for one data set and all its classes together, over norm and budget."""
    norms = result.scalars["norms"]
    slider = w.IntSlider(value=3, min=0, max=FRAMES - 1, description="budget", readout=False)
    stacks = []
    for i, norm in enumerate(norms):
        margins = _margins(result, dataset, i)
        budgets = np.linspace(0, _reach(margins), FRAMES)
        frames = [_frame(margins, result.scalars["methods"], float(budget), norm) for budget in budgets]
        stacks.append(_linked_stack(frames, slider))
    choice = w.ToggleButtons(options=[NORM_NAMES[n] for n in norms], index=1, description="norm")
    outer = w.Stack(children=stacks, selected_index=1)
    w.jslink((choice, "index"), (outer, "selected_index"))
    return w.VBox([choice, slider, outer])


def _frame(margins: Sequence[np.ndarray], methods: Sequence[str], budget: float, norm: str) -> w.Image:
    shown = zip(methods, margins, strict=True)
    left = [f"{100 * float((margin > budget).mean()):.1f} % for {figures.label(name)}" for name, margin in shown]
    alt = f"Margins in {NORM_NAMES[norm]}. Accuracy left at budget {budget:.3g}: {', '.join(left)}."
    return picture(figures.margin_explorer(margins, methods, budget, norm), alt)


def explore_attack(result: Result) -> w.VBox:
    """Live: choose batch size, image and budget; what PGD adds, and what the classifier then says, are drawn again."""
    sizes, count = result.scalars["batch_sizes"], len(result.arrays["example_label"])
    size = w.ToggleButtons(
        options=[(str(n), b) for b, n in enumerate(sizes)], value=len(sizes) - 1, description="batch"
    )
    which = w.IntSlider(value=0, min=0, max=count - 1, description="image")
    budget = w.IntSlider(value=1, min=0, max=result.arrays["budgets"].shape[1] - 1, description="budget")
    image = w.Image(format="png")

    def draw(*_: object) -> None:
        image.value = _attack_frame(result, size.value, which.value, budget.value).value

    for control in (size, which, budget):
        control.observe(draw, "value")
    draw()
    return w.VBox([size, which, budget, image])


def browse_attack(result: Result, *, images: int = 2) -> w.VBox:
    """Static: the same for the first images and the largest batch size, over image and budget."""
    last = result.arrays["budgets"].shape[1] - 1
    slider = w.IntSlider(value=0, min=0, max=last, description="budget", readout=False)
    b = len(result.scalars["batch_sizes"]) - 1
    images = min(images, len(result.arrays["example_label"]))
    stacks = [_linked_stack([_attack_frame(result, b, i, e) for e in range(last + 1)], slider) for i in range(images)]
    choice = w.ToggleButtons(options=[f"image {i + 1}" for i in range(images)], index=0)
    outer = w.Stack(children=stacks, selected_index=0)
    w.jslink((choice, "index"), (outer, "selected_index"))
    return w.VBox([choice, slider, outer])


def _attack_frame(result: Result, b: int, i: int, e: int) -> w.Image:
    a, budget = result.arrays, float(result.arrays["budgets"][result.scalars["units"].index("pixel"), e])
    classes, true = result.scalars["classes"], int(a["example_label"][i])
    believed = a["example_believed"][b, i, [0, e]]
    said = ["nothing" if np.isnan(row).any() else f"class {classes[row.argmax()]}" for row in believed]
    alt = f"Class {classes[true]}, attacked by {255 * budget:.1f} of 255: {said[0]} before, {said[1]} after."
    figure = simclr_rotnet_pages.attack_example(
        a["example_image"][i], a["example_found"][b, i, e], believed, true, classes, budget
    )
    return picture(figure, alt)


def explore_features(result: Result) -> w.VBox:
    """Live: choose a feature; the images that activate it most, their heatmaps, and its classes are drawn again."""
    features = result.arrays.get("example_feature", ())
    if not len(features):
        return w.VBox([w.Label(NO_FEATURE)])
    which = w.Dropdown(options=[(f"{f}: {_rate(result, i)}", i) for i, f in enumerate(features)], description="feature")
    image = w.Image(format="png")

    def draw(*_: object) -> None:
        image.value = _feature_frame(result, which.value).value

    which.observe(draw, "value")
    draw()
    return w.VBox([which, image])


def browse_features(result: Result) -> w.VBox:
    """Static: the same, over the features in ascending order of their rate."""
    frames = [_feature_frame(result, i) for i in range(len(result.arrays.get("example_feature", ())))]
    if not frames:
        return w.VBox([w.Label(NO_FEATURE)])
    slider = w.IntSlider(value=0, min=0, max=len(frames) - 1, description="feature", readout=False)
    return w.VBox([slider, _linked_stack(frames, slider)])


def _rate(result: Result, i: int) -> str:
    return f"activates in {result.arrays['example_rate'][i]:.2f} % of the samples"


def _feature_frame(result: Result, i: int) -> w.Image:
    shares = result.arrays["example_class_rates"][i]
    commonest = result.scalars["classes"][int(np.nan_to_num(shares).argmax())]
    feature = int(result.arrays["example_feature"][i])
    alt = f"Feature {feature} {_rate(result, i)}, most often of class {commonest}: its top images and its classes."
    return picture(qscore_pages.example(result, i), alt)


def explore_score(result: Result) -> w.VBox:
    """Live: move epsilon and both ends of the band; the scores of right and wrong samples and the AUROC follow."""
    p = result.parameters
    epsilon = w.FloatSlider(value=p["epsilon"], min=0.5, max=6, step=0.1, description="epsilon")
    band = w.FloatRangeSlider(value=(p["low"], p["high"]), min=0, max=100, step=1, description="band")
    image = w.Image(format="png")

    def draw(*_: object) -> None:
        image.value = _score_frame(result, epsilon.value, *band.value).value

    for control in (epsilon, band):
        control.observe(draw, "value")
    draw()
    return w.VBox([epsilon, band, image])


def browse_score(result: Result) -> w.VBox:
    """Static: the same over the study's epsilons and the lower ends of its band."""
    epsilons, lows, high = (result.parameters[name] for name in ("epsilons", "lows", "high"))
    slider = w.IntSlider(value=0, min=0, max=len(epsilons) - 1, description="epsilon", readout=False)
    stacks = [_linked_stack([_score_frame(result, e, low, high) for e in epsilons], slider) for low in lows]
    choice = w.ToggleButtons(options=[f"from {low:g} %" for low in lows], index=len(lows) // 2)
    outer = w.Stack(children=stacks, selected_index=len(lows) // 2)
    w.jslink((choice, "index"), (outer, "selected_index"))
    return w.VBox([choice, slider, outer])


def _score_frame(result: Result, epsilon: float, low: float, high: float) -> w.Image:
    features = torch.from_numpy(result.arrays["explorer_features"]).float()
    right = result.arrays["explorer_right"]
    chosen = f"ε = {epsilon:g}, band from {low:g} to {high:g} %"
    try:
        mask = qscore.discriminative(qscore.activation_rate(features, epsilon), low, high)
        score = qscore.q_score(features, mask, epsilon).numpy()
        area = 100 * prediction.auroc(score, right)
        known = f"AUROC {area:.1f} %" if np.isfinite(area) else "AUROC undefined: all samples are right, or none is"
        text = f"{chosen}: {known}, {int(mask.sum())} features, {100 * (score == 0).mean():.0f} % of samples at 0"
    except ValueError as error:
        score, text = np.zeros(len(right)), f"{chosen}: {str(error).partition(':')[0]}: no such feature"
    return picture(qscore_pages.score_explorer(score, right, text), text)


def _linked_stack(frames: Sequence[w.Image], slider: w.IntSlider) -> w.Stack:
    expect(len(frames) == slider.max - slider.min + 1, "frames", "one per position of the slider", len(frames))
    stack = w.Stack(children=frames, selected_index=slider.value)
    w.jslink((slider, "value"), (stack, "selected_index"))
    return stack
