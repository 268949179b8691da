"""Explorers of attacks: a live one, and charts that the page draws by itself."""

import altair as alt
import ipywidgets as w
import numpy as np
import pandas as pd

from sslnb.core.result import Result
from sslnb.report import charts
from sslnb.report.explorers import picture
from sslnb.studies.simclr_rotnet.figures import added, attack_example, begun_label

UNITS = {"pixel": "pixels, of 255", "normalised": "normalised inputs"}


def explore_attack(result: Result) -> w.VBox:
    """Live: choose batch size, image and budget; what PGD adds, and what the classifier then says, are drawn again."""
    sizes, (names, budgets) = _batch_sizes(result), _attacks(result)
    size = w.ToggleButtons(
        options=[(str(n), b) for b, n in enumerate(sizes)], value=len(sizes) - 1, description="batch"
    )
    which = w.SelectionSlider(options=[(name, i) for i, name in enumerate(names)], description="image")
    levels = [(f"{budget:g} of 255", i) for i, budget in enumerate(budgets)]
    budget = w.SelectionSlider(options=levels, value=1, description="budget")
    image = w.Image(format="png")

    def draw(*_: object) -> None:
        image.value = _attack_frame(result, size.value, which.value, budget.value)

    for control in (size, which, budget):
        control.observe(draw, "value")
    draw()
    return w.VBox([size, which, budget, image])


def _attacks(result: Result) -> tuple[list[str], list[float]]:
    """Attacked images by number and class, and the budgets in pixel values."""
    data = result.data["attack"]
    names = [f"{i + 1}: {data.attrs['classes'][k]}" for i, k in enumerate(data.example_label.values)]
    return names, [float(f"{255 * float(eps):.3g}") for eps in data.eps.sel(unit="pixel").values]


def browse_attack(result: Result) -> charts.Explorer:
    """On the page: choose image and budget; what PGD adds, and what the classifier of the largest batch then says."""
    data, (names, budgets) = result.data["attack"], _attacks(result)
    controls = (
        charts.choice("image", "image", names),
        charts.choice("budget", "budget, of 255", budgets, budgets[1]),
    )
    pictures, believed = _attacked(result, names, budgets)
    chosen = "datum.image == image && datum.budget == budget"
    shown = (
        alt.Chart(charts.table("pictures", pictures), title="The image, what is added (enlarged), the attacked image")
        .transform_filter(chosen)
        .transform_calculate(address=charts.address("png", "png"))
        .mark_image(width=charts.PANEL / 3 - 6, height=charts.PANEL / 3 - 6, smooth=False)
        .encode(x=charts.names("part"), y=alt.value(charts.PANEL / 4), url="address:N", tooltip=["part:N", "image:N"])
    )
    order = list(data.attrs["classes"])
    bars = (
        alt.Chart(charts.table("believed", believed), title="What the classifier believes")
        .transform_filter(chosen)
        .mark_bar()
        .encode(
            x=alt.X("probability:Q", title="probability, %", scale=alt.Scale(domain=[0, 100])),
            y=alt.Y("class:N", title=None, sort=order),
            yOffset=alt.YOffset("when:N", sort=["before", "after"]),
            color=charts.pair("when", "before", "after"),
            tooltip=["class:N", "when:N", alt.Tooltip("probability:Q", title="probability, %")],
        )
    )
    panels = charts.beside(shown, bars, controls)
    return charts.Explorer(panels, "An image before and after an attack, and the classes that the classifier believes.")


def _attacked(result: Result, names: list[str], budgets: list[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pictures, and probabilities in percent, over images and budgets."""
    data, last = result.data["attack"], len(_batch_sizes(result)) - 1
    pictures, believed = [], []
    for i, name in enumerate(names):
        image, probability = data.example_image.values[i], data.example_believed.values[last, i]
        for e, budget in enumerate(budgets):
            attacked = data.example_adversarial.values[last, i, e]
            parts = {"image": image, "added": (255 * added(image, attacked, budget / 255)).astype(np.uint8)}
            for part, pixels in (parts | {"attacked": attacked}).items():
                pictures.append((name, budget, part, charts.encoded(pixels, "png")))
            for k, what in enumerate(data.attrs["classes"]):
                for when, value in (("before", probability[0, k]), ("after", probability[e, k])):
                    believed.append((name, budget, what, when, 100 * value))
    columns = ["image", "budget"]
    return (
        pd.DataFrame(pictures, columns=[*columns, "part", "png"]),
        pd.DataFrame(believed, columns=[*columns, "class", "when", "probability"]),
    )


def browse_labels(result: Result) -> charts.Explorer:
    """On the page: choose attack, unit of the budget and share of labels; accuracy over the budget, mean and range."""
    data = result.data["attack"]
    frame = (100 * data.accuracy).to_dataframe("accuracy").dropna().reset_index()
    eps = data.eps.to_dataframe("eps").reset_index()
    frame = frame.merge(eps, on=["unit", "budget"])
    frame["eps"] *= np.where(frame.unit == "pixel", 255, 1)
    frame["unit"] = frame.unit.map(UNITS)
    frame["encoder"] = [begun_label(name) for name in frame.begun]
    frame["labels"] = [f"{100 * share:g} %" for share in frame.fraction]
    frame["attack"] = frame.attack.str.upper()
    frame = frame[["attack", "unit", "labels", "encoder", "seed", "eps", "accuracy"]]
    controls = (
        charts.choice("attack", "attack", list(dict.fromkeys(frame.attack))),
        charts.choice("unit", "budget in", list(UNITS.values())),
        charts.choice("share", "share of labels", list(dict.fromkeys(frame.labels))),
    )
    base = alt.Chart(charts.table("accuracy", frame)).transform_filter(
        "datum.attack == attack && datum.unit == unit && datum.labels == share"
    )
    x = alt.X("eps:Q", title="budget, in the unit chosen")
    colour = charts.colours("encoder", list(data.begun.values), begun_label, legend=charts.ABOVE, title=None)
    y = alt.Y("mean(accuracy):Q", title="accuracy, %")
    lines = base.mark_line(point=True).encode(
        x=x, y=y, color=colour, tooltip=["encoder:N", "eps:Q", alt.Tooltip("mean(accuracy):Q", title="accuracy, %")]
    )
    low, high = alt.Y("min(accuracy):Q", title="accuracy, %"), alt.Y2("max(accuracy):Q")
    range_ = base.mark_area(opacity=0.2).encode(x=x, y=low, y2=high, color=colour)
    level = alt.Chart(alt.Data(values=[{}])).mark_rule(strokeDash=[4, 4], color=charts.INK_NOW, aria=False)
    chance = level.encode(y=alt.datum(100 / len(data.attrs["classes"])))
    panel = (
        (range_ + lines + chance).properties(width=2 * charts.PANEL, height=charts.PANEL * 0.8).add_params(*controls)
    )
    return charts.Explorer(
        panel,
        "Accuracy after fine-tuning against the budget of an attack, for each beginning; the dashed line is chance.",
    )


def _batch_sizes(result: Result) -> list[int]:
    return list(result.data["linear"].batch.values)


def _attack_frame(result: Result, b: int, i: int, e: int) -> bytes:
    data = result.data["attack"]
    budget = float(data.eps.sel(unit="pixel")[e])
    pictures = data.example_image.values[i], data.example_adversarial.values[b, i, e]
    believed, true = data.example_believed.values[b, i, [0, e]], int(data.example_label[i])
    return picture(attack_example(*pictures, believed, true, data.attrs["classes"], budget))
