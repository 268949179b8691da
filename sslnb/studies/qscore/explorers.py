"""Explorers of discriminative features and of scores: live ones, and ones that work on a page without a kernel."""

import ipywidgets as w
import numpy as np
import torch

from sslnb.core.result import Result
from sslnb.report.explorers import linked_stack, picture
from sslnb.studies.qscore.encoders import rescored
from sslnb.studies.qscore.figures import example, score_explorer

NO_FEATURE = "No feature is discriminative: none is highly activating, or none lies within the band."


def explore_features(result: Result) -> w.VBox:
    """Live: choose a feature; the images that activate it most, their heatmaps, and its classes are drawn again."""
    features = _examples(result)
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
    frames = [_feature_frame(result, i) for i in range(len(_examples(result)))]
    if not frames:
        return w.VBox([w.Label(NO_FEATURE)])
    slider = w.IntSlider(value=0, min=0, max=len(frames) - 1, description="feature", readout=False)
    return w.VBox([slider, linked_stack(frames, slider)])


def _examples(result: Result) -> np.ndarray:
    """The features that are shown; none where no feature is discriminative."""
    data = result.data["features"]
    return data.example_feature.values if "example_feature" in data else np.zeros(0, int)


def _rate(result: Result, i: int) -> str:
    return f"activates in {float(result.data['features'].example_rate[i]):.2f} % of the samples"


def _feature_frame(result: Result, i: int) -> w.Image:
    shares = result.data["features"].example_class_rates.values[i]
    commonest = result.data["features"].attrs["classes"][int(np.nan_to_num(shares).argmax())]
    feature = int(_examples(result)[i])
    alt = f"Feature {feature} {_rate(result, i)}, most often of class {commonest}: its top images and its classes."
    return picture(example(result, i), alt)


def explore_score(result: Result) -> w.VBox:
    """Live: move epsilon and both ends of the band; the scores of right and wrong samples and the AUROC follow."""
    p = result.data["representations"].attrs
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
    data, high = result.data["features"], result.data["representations"].attrs["high"]
    epsilons, lows = data.epsilon.values, data.low.values
    slider = w.IntSlider(value=0, min=0, max=len(epsilons) - 1, description="epsilon", readout=False)
    stacks = [linked_stack([_score_frame(result, e, low, high) for e in epsilons], slider) for low in lows]
    choice = w.ToggleButtons(options=[f"from {low:g} %" for low in lows], index=len(lows) // 2)
    outer = w.Stack(children=stacks, selected_index=len(lows) // 2)
    w.jslink((choice, "index"), (outer, "selected_index"))
    return w.VBox([choice, slider, outer])


def _score_frame(result: Result, epsilon: float, low: float, high: float) -> w.Image:
    features = torch.from_numpy(result.data["features"].explorer_features.values).float()
    right = result.data["features"].explorer_right.values.astype(bool)
    chosen = f"ε = {epsilon:g}, band from {low:g} to {high:g} %"
    scores = rescored(features, right, epsilon, low, high)
    area = 100 * scores.auroc
    known = f"AUROC {area:.1f} %" if np.isfinite(area) else "AUROC undefined: all samples are right, or none is"
    empty = f"{100 * (scores.score == 0).mean():.0f} % of samples at 0"
    text = f"{chosen}: " + (f"{known}, {scores.features} features, {empty}" if scores.features else "no such feature")
    return picture(score_explorer(scores.score, right, text), text)
