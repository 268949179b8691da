"""Explorers of discriminative features and of scores: live ones, and charts that the page draws by itself."""

import altair as alt
import ipywidgets as w
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

from sslnb.core.result import Result
from sslnb.report import charts
from sslnb.report.explorers import picture
from sslnb.studies.qscore.encoders import Rescored, rescored
from sslnb.studies.qscore.figures import example, score_explorer, warmed

NO_FEATURE = "No feature is discriminative: none is highly activating, or none lies within the band."


def explore_features(result: Result) -> w.VBox:
    """Live: choose a feature; the images that activate it most, their heatmaps, and its classes are drawn again."""
    features = _examples(result)
    if not len(features):
        return w.VBox([w.Label(NO_FEATURE)])
    which = w.Dropdown(options=[(f"{f}: {_rate(result, i)}", i) for i, f in enumerate(features)], description="feature")
    image = w.Image(format="png")

    def draw(*_: object) -> None:
        image.value = _feature_frame(result, which.value)

    which.observe(draw, "value")
    draw()
    return w.VBox([which, image])


def browse_features(result: Result) -> charts.Explorer | Markdown:
    """On the page: choose a feature; the images that activate it most, their heatmaps, and its classes."""
    if not len(_examples(result)):
        return Markdown(NO_FEATURE)
    pictures, shares = _pictured(result)
    control = charts.choice("feature", "feature", list(dict.fromkeys(shares.feature)))
    side = charts.PANEL / 4 - 4
    shown = (
        alt.Chart(charts.table("pictures", pictures), title="Images that activate it most, and its heatmaps")
        .transform_filter("datum.feature == feature")
        .transform_calculate(address=charts.address("jpeg"))
        .mark_image(width=side, height=side, smooth=False)
        .encode(
            x=charts.names("class"),
            y=alt.Y("as:N", title=None, sort=None, axis=None),
            url="address:N",
            tooltip=["as:N", alt.Tooltip("class:N", title="image, its class")],
        )
    )
    bars = (
        alt.Chart(charts.table("classes", shares), title="Images of each class in which it is highly activating")
        .transform_filter("datum.feature == feature")
        .mark_bar()
        .encode(
            x=alt.X("share:Q", title="% of the class's images"),
            y=alt.Y("class:N", title=None, sort="-x"),
            tooltip=["class:N", alt.Tooltip("share:Q", title="% of the class's images")],
        )
    )
    return charts.Explorer(charts.beside(shown, bars, (control,)), "A feature's top images, heatmaps and classes.")


def _pictured(result: Result) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pictures with and without heatmap, and the ten commonest classes in percent, of each feature."""
    data, classes = result.data["features"], result.data["features"].attrs["classes"]
    pictures, shares = [], []
    for i, feature in enumerate(_examples(result)):
        name = f"{feature}: {_rate(result, i)}"
        for k, image in enumerate(data.example_image.values[i]):
            of = f"{k + 1}: {classes[int(data.example_label.values[i, k])]}"
            heat = data.example_heat.values[i, k].astype(np.float64)
            pictures += [
                (name, of, "image", charts.encoded(image)),
                (name, of, "heatmap", charts.encoded(warmed(image, heat))),
            ]
        rates = 100 * np.nan_to_num(data.example_class_rates.values[i])
        shares += [(name, classes[k], rates[k]) for k in rates.argsort()[::-1][:10]]
    columns = ["feature", "class"]
    return (
        pd.DataFrame(pictures, columns=[*columns, "as", "jpeg"]),
        pd.DataFrame(shares, columns=[*columns, "share"]),
    )


def _examples(result: Result) -> np.ndarray:
    """The features that are shown; none where no feature is discriminative."""
    data = result.data["features"]
    return data.example_feature.values if "example_feature" in data else np.zeros(0, int)


def _rate(result: Result, i: int) -> str:
    return f"activates in {float(result.data['features'].example_rate[i]):.2f} % of the samples"


def _feature_frame(result: Result, i: int) -> bytes:
    return picture(example(result, i))


def explore_score(result: Result) -> w.VBox:
    """Live: move epsilon and both ends of the band; the scores of right and wrong samples and the AUROC follow."""
    p = result.data["representations"].attrs
    epsilon = w.FloatSlider(value=p["epsilon"], min=0.5, max=6, step=0.1, description="epsilon")
    band = w.FloatRangeSlider(value=(p["low"], p["high"]), min=0, max=100, step=1, description="band")
    image = w.Image(format="png")

    def draw(*_: object) -> None:
        image.value = _score_frame(result, epsilon.value, *band.value)

    for control in (epsilon, band):
        control.observe(draw, "value")
    draw()
    return w.VBox([epsilon, band, image])


def browse_score(result: Result) -> charts.Explorer:
    """On the page: choose epsilon and the lower end of the band; the scores of right and of wrong images, the AUROC."""
    data = result.data["features"]
    epsilons, lows = ([float(v) for v in data[name].values] for name in ("epsilon", "low"))
    controls = (
        charts.choice("epsilon", "ε", epsilons, epsilons[len(epsilons) // 2]),
        charts.choice("low", "band from, %", lows, lows[len(lows) // 2]),
    )
    bars, said = _scored(result, epsilons, lows)
    chosen = "datum.epsilon == epsilon && datum.low == low"
    base = alt.Chart(charts.table("scores", bars)).transform_filter(chosen)
    lines = base.mark_area(interpolate="step-after", opacity=0.5).encode(
        x=alt.X("score:Q", title="Q-Score"),
        y=alt.Y("share:Q", title="% of the images of each kind", stack=None),
        color=charts.pair("kind", "classified right", "classified wrong"),
        tooltip=["kind:N", "score:Q", alt.Tooltip("share:Q", title="% of them")],
    )
    text = (
        alt.Chart(charts.table("summary", said))
        .transform_filter(chosen)
        .mark_text(align="left", fontSize=12, color=charts.INK_NOW)
        .encode(text="text:N", x=alt.value(8), y=alt.value(8))
    )
    panel = (lines + text).properties(width=2 * charts.PANEL, height=0.7 * charts.PANEL).add_params(*controls)
    return charts.Explorer(panel, "Distribution of the Q-Score over images classified right and wrong.")


def _scored(result: Result, epsilons: list[float], lows: list[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Histograms of scores and a sentence for each epsilon and lower end."""
    features, right = _judged(result)
    high, bars, said = result.data["representations"].attrs["high"], [], []
    for epsilon in epsilons:
        for low in lows:
            scores = rescored(features, right, epsilon, low, high)
            edges = np.linspace(0, max(float(scores.score.max()), 1e-6), 41)
            for kind, chosen in (("classified right", right), ("classified wrong", ~right)):
                share = 100 * np.histogram(scores.score[chosen], edges)[0] / max(chosen.sum(), 1)
                cell = {"epsilon": epsilon, "low": low, "kind": kind}
                bars.append(pd.DataFrame(cell | {"score": edges[:-1], "share": share}))
            said.append((epsilon, low, _summary(scores)))
    return pd.concat(bars), pd.DataFrame(said, columns=["epsilon", "low", "text"])


def _judged(result: Result) -> tuple[torch.Tensor, np.ndarray]:
    """Features of the images that explorers score, and which of them the probe gets right."""
    data = result.data["features"]
    return torch.from_numpy(data.explorer_features.values).float(), data.explorer_right.values.astype(bool)


def _summary(scores: Rescored) -> str:
    area = 100 * scores.auroc
    known = f"AUROC {area:.1f} %" if np.isfinite(area) else "AUROC undefined: all samples are right, or none is"
    empty = f"{100 * (scores.score == 0).mean():.0f} % of samples at 0"
    return f"{known}, {scores.features} features, {empty}" if scores.features else "no such feature"


def _score_frame(result: Result, epsilon: float, low: float, high: float) -> bytes:
    features, right = _judged(result)
    scores = rescored(features, right, epsilon, low, high)
    text = f"ε = {epsilon:g}, band from {low:g} to {high:g} %: {_summary(scores)}"
    return picture(score_explorer(scores.score, right, text))
