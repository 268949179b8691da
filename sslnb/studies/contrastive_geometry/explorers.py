"""Explorers of contrastive geometry: live ones of ipywidgets, and those that the page's own script draws."""

import html
import json

import ipywidgets as w
import numpy as np
from IPython.display import HTML
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sslnb.core.flat import Result
from sslnb.core.labels import label
from sslnb.report.explorers import picture
from sslnb.report.panels import COLOURS, PAGE, annotated
from sslnb.studies.contrastive_geometry.figures import all_methods, heights, relief, task_name

COLOURINGS = ("method", "task", "seed", "epoch", "progress")
# Okabe and Ito's, then some of Paul Tol's: as many as there are objectives.
MANY = (*COLOURS, "#882255", "#44AA99", "#999933", "#332288", "#DDCC77", "#117733", "#AA4499", "#661100")
PALETTE = [to_hex(colormaps["viridis"](i / 20)) for i in range(21)]


def clouds(result: Result) -> list[tuple[str, str, list[int]]]:
    """Name, key, and tasks of every embedding that can be turned."""
    tasks = range(len(result.scalars["tasks"]))
    single = [(task_name(result, t), f"validation/{t}", [t]) for t in tasks]
    return [*single, ("all tasks", "validation/joint", list(tasks))]


def places(result: Result, tasks: list[int]) -> np.ndarray:
    """Run, task and epoch [n,3] of every model of an embedding, in its order."""
    runs, epochs = len(result.scalars["runs"]), result.arrays["progress"].shape[-1]
    return np.array([(r, t, e) for r in range(runs) for t in tasks for e in range(epochs)])


def colours(result: Result, where: np.ndarray, by: str) -> list[str]:
    """The colour of every model."""
    methods, runs = all_methods(result), result.scalars["runs"]
    if by in ("epoch", "progress"):
        values = where[:, 2] / where[:, 2].max() if by == "epoch" else result.arrays["progress"][1][tuple(where.T)]
        return [PALETTE[round(float(v) * (len(PALETTE) - 1))] for v in values]
    which = {
        "method": lambda r, t: methods.index(runs[r][0]),
        "task": lambda r, t: t,
        "seed": lambda r, t: list(dict.fromkeys(seed for _, seed in runs)).index(runs[r][1]),
    }[by]
    return [MANY[which(r, t) % len(MANY)] for r, t, _ in where]


def run_names(result: Result) -> list[str]:
    return [f"{label(method)}, seed {seed}" for method, seed in result.scalars["runs"]]


def cloud(
    result: Result, at: int, by: str, run: int, task: int, epoch: int, azimuth: float = -60, elevation: float = 25
) -> Figure:
    """An embedding in three dimensions, one model marked, beside that model's confusion matrix."""
    name, key, tasks = clouds(result)[at]
    points, where = result.arrays[f"embedding/{key}"], places(result, tasks)
    figure = Figure(figsize=(PAGE, 3.6), layout="constrained")
    ax = figure.add_subplot(1, 2, 1, projection="3d")
    ax.scatter(*points[:-2].T, c=colours(result, where, by), s=3, depthshade=False)
    for point, marker, text in zip(points[-2:], ("s", "*"), ("ignorance", "truth"), strict=True):
        ax.scatter(*point, marker=marker, c="black", s=40, label=text)
    task = task if task in tasks else tasks[0]
    chosen = np.flatnonzero((where == (run, task, epoch)).all(1))[0]
    ax.scatter(*points[chosen], marker="o", facecolors="none", edgecolors="red", s=70, label="chosen")
    ax.view_init(elevation, azimuth)
    ax.tick_params(labelsize=6, pad=-2)
    ax.legend(fontsize=7, loc="upper left")
    ax.set_title(name)
    _confusion(figure, result, run, task, epoch)
    return figure


def _confusion(figure: Figure, result: Result, run: int, task: int, epoch: int) -> None:
    ax = figure.add_subplot(1, 2, 2)
    counts = result.arrays["confusion"][run, task, epoch]
    names, top = result.scalars["task_classes"][task], counts.sum(1).max()
    dark = counts > 0.6 * top
    annotated(ax, counts, counts.astype(int).astype(str), dark, aspect="equal", cmap="Blues", vmin=0, vmax=top)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    ax.set_yticks(range(len(names)), names, fontsize=7)
    ax.set_xlabel("predicted", fontsize=8)
    ax.set_ylabel("true", fontsize=8)
    progress = result.arrays["progress"][1, run, task, epoch]
    ax.set_title(f"{run_names(result)[run]}, epoch {epoch}: $t_w$ {progress:.3f}")


def explore_cloud(result: Result) -> w.VBox:
    """Live: turn an embedding, colour it, choose a run and an epoch; the marked point and its confusions follow."""
    names = [(name, i) for i, (name, _, _) in enumerate(clouds(result))]
    last = result.arrays["progress"].shape[-1] - 1
    which = w.Dropdown(options=names, description="embedding")
    by = w.ToggleButtons(options=COLOURINGS, description="colour by")
    run = w.Dropdown(options=[(name, r) for r, name in enumerate(run_names(result))], description="run")
    task = w.IntSlider(value=0, min=0, max=len(result.scalars["tasks"]) - 1, description="task − 1")
    epoch = w.IntSlider(value=last, min=0, max=last, description="epoch")
    azimuth = w.IntSlider(value=-60, min=-180, max=180, step=5, description="azimuth")
    elevation = w.IntSlider(value=25, min=-90, max=90, step=5, description="elevation")
    image = w.Image(format="png")

    def draw(*_: object) -> None:
        figure = cloud(
            result, which.value, by.value, run.value, task.value, epoch.value, azimuth.value, elevation.value
        )
        image.value = picture(figure, "embedding").value

    controls = (which, by, run, task, epoch, azimuth, elevation)
    for control in controls:
        control.observe(draw, "value")
    draw()
    return w.VBox([*controls, image])


def surface(result: Result, method: int, azimuth: float, elevation: float) -> Figure:
    """The loss around one method's weights in three dimensions."""
    figure = Figure(figsize=(PAGE * 0.7, 4), layout="constrained")
    ax = figure.add_subplot(projection="3d")
    relief(ax, result, heights(result)[method])
    ax.set(xlabel="first direction", ylabel="second direction", zlabel="loss")
    ax.view_init(elevation, azimuth)
    ax.set_title(label(result.scalars["methods"][method]), fontsize=10)
    return figure


def explore_surface(result: Result) -> w.VBox:
    """Live: choose a method and turn its loss surface."""
    methods = result.scalars["methods"]
    method = w.ToggleButtons(options=[(label(m), i) for i, m in enumerate(methods)], description="method")
    azimuth = w.IntSlider(value=-60, min=-180, max=180, step=5, description="azimuth")
    elevation = w.IntSlider(value=30, min=0, max=90, step=5, description="elevation")
    image = w.Image(format="png")

    def draw(*_: object) -> None:
        image.value = picture(surface(result, method.value, azimuth.value, elevation.value), "loss surface").value

    for control in (method, azimuth, elevation):
        control.observe(draw, "value")
    draw()
    return w.VBox([method, azimuth, elevation, image])


def browse_cloud(result: Result) -> HTML:
    """Static: the same from numbers that the page holds, drawn by its script ``contrastive_geometry.js``."""
    facts = {
        "clouds": [
            {"name": name, "tasks": tasks, "points": np.round(result.arrays[f"embedding/{key}"], 4).tolist()}
            for name, key, tasks in clouds(result)
        ],
        "runs": [
            {"name": name, "method": label(method), "seed": f"seed {seed}"}
            for name, (method, seed) in zip(run_names(result), result.scalars["runs"], strict=True)
        ],
        "methods": [label(method) for method in all_methods(result)],
        "tasks": [task_name(result, t) for t in range(len(result.scalars["tasks"]))],
        "classes": [list(map(str, names)) for names in result.scalars["task_classes"]],
        "epochs": result.arrays["progress"].shape[-1],
        "progress": np.round(result.arrays["progress"][1], 3).tolist(),
        "confusion": result.arrays["confusion"].tolist(),
        "colourings": COLOURINGS,
        "colours": MANY,
        "palette": PALETTE,
    }
    return _explorer("cloud-explorer", facts)


def browse_surface(result: Result) -> HTML:
    """Static: the loss surfaces, to be turned in the page."""
    facts = {
        "methods": [label(method) for method in result.scalars["methods"]],
        "at": np.round(result.arrays["surface_at"], 4).tolist(),
        "heights": [[[_plain(v) for v in row] for row in surface] for surface in heights(result)],
        "palette": PALETTE,
    }
    return _explorer("surface-explorer", facts)


def _plain(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def _explorer(name: str, facts: dict) -> HTML:
    data = html.escape(json.dumps(facts, separators=(",", ":")))
    text = "The explorer is drawn by a script of this page; use the live one elsewhere."
    return HTML(f'<div class="{name}" data-facts="{data}"><p>{text}</p></div>')
