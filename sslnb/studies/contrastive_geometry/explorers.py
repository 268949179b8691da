"""Explorers of contrastive geometry: live ones of ipywidgets, and those that the page's own script draws."""

import html
import json

import ipywidgets as w
import numpy as np
from IPython.display import HTML
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sslnb.core.labels import label
from sslnb.core.result import Result
from sslnb.report.explorers import picture
from sslnb.report.panels import COLOURS, PAGE, annotated
from sslnb.studies.contrastive_geometry.figures import heights, relief, task_names

COLOURINGS = ("method", "task", "seed", "epoch", "progress")
# Okabe and Ito's, then some of Paul Tol's: as many as there are objectives.
MANY = (*COLOURS, "#DDCC77", "#117733", "#AA4499", "#661100")
PALETTE = [to_hex(colormaps["viridis"](i / 20)) for i in range(21)]


def clouds(result: Result) -> list[tuple[str, np.ndarray, list[int]]]:
    """Name, points and tasks of every embedding that can be turned."""
    data = result.data["embeddings"].sel(split="validation")
    single = [(name, data.embedding.isel(task=t).values, [t]) for t, name in enumerate(task_names(result))]
    return [*single, ("all tasks", data.joint.values, list(range(data.sizes["task"])))]


def runs(result: Result) -> list[tuple[str, int]]:
    """Objective and seed of the runs that are embedded."""
    data = result.data["embeddings"]
    return [(str(name), int(seed)) for name, seed in zip(data.objective.values, data.seed.values, strict=True)]


def of_runs(result: Result, step: str, name: str) -> np.ndarray:
    """A quantity of these runs, with the run as the first dimension."""
    values = result.data[step][name].transpose("run", ...)
    every = list(zip(values.objective.values, values.seed.values, strict=True))
    return values.values[[every.index(run) for run in runs(result)]]


def progress(result: Result) -> np.ndarray:
    """Progress [R,T,E+1] of these runs on validation images."""
    values = of_runs(result, "trajectories", "progress")
    return values[:, list(result.data["trajectories"].split.values).index("validation")]


def places(result: Result, tasks: list[int]) -> np.ndarray:
    """Run, task and epoch [n,3] of every model of an embedding, in its order."""
    epochs = result.data["trajectories"].sizes["epoch"]
    return np.array([(r, t, e) for r in range(len(runs(result))) for t in tasks for e in range(epochs)])


def colours(result: Result, where: np.ndarray, by: str) -> list[str]:
    """The colour of every model."""
    if by in ("epoch", "progress"):
        values = where[:, 2] / where[:, 2].max() if by == "epoch" else progress(result)[tuple(where.T)]
        return [PALETTE[round(float(v) * (len(PALETTE) - 1))] for v in values]
    objectives, seeds = (list(dict.fromkeys(part)) for part in zip(*runs(result), strict=True))
    which = {
        "method": [objectives.index(name) for name, _ in runs(result)],
        "seed": [seeds.index(seed) for _, seed in runs(result)],
    }
    return [MANY[(t if by == "task" else which[by][r]) % len(MANY)] for r, t, _ in where]


def run_names(result: Result) -> list[str]:
    return [f"{label(method)}, seed {seed}" for method, seed in runs(result)]


def cloud(
    result: Result, at: int, by: str, run: int, task: int, epoch: int, azimuth: float = -60, elevation: float = 25
) -> Figure:
    """An embedding in three dimensions, one model marked, beside that model's confusion matrix."""
    name, points, tasks = clouds(result)[at]
    where = places(result, tasks)
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
    counts = of_runs(result, "fine_tuning", "confusion")[run, task, epoch]
    names, top = result.data["fine_tuning"].class_name.values[task], counts.sum(1).max()
    dark = counts > 0.6 * top
    annotated(ax, counts, counts.astype(int).astype(str), dark, aspect="equal", cmap="Blues", vmin=0, vmax=top)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    ax.set_yticks(range(len(names)), names, fontsize=7)
    ax.set_xlabel("predicted", fontsize=8)
    ax.set_ylabel("true", fontsize=8)
    reached = progress(result)[run, task, epoch]
    ax.set_title(f"{run_names(result)[run]}, epoch {epoch}: $t_w$ {reached:.3f}")


def explore_cloud(result: Result) -> w.VBox:
    """Live: turn an embedding, colour it, choose a run and an epoch; the marked point and its confusions follow."""
    names = [(name, i) for i, (name, _, _) in enumerate(clouds(result))]
    last = result.data["trajectories"].sizes["epoch"] - 1
    which = w.Dropdown(options=names, description="embedding")
    by = w.ToggleButtons(options=COLOURINGS, description="colour by")
    run = w.Dropdown(options=[(name, r) for r, name in enumerate(run_names(result))], description="run")
    task = w.IntSlider(value=0, min=0, max=len(task_names(result)) - 1, description="task − 1")
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
    ax.set_title(label(result.data["surfaces"].objective.values[method]), fontsize=10)
    return figure


def explore_surface(result: Result) -> w.VBox:
    """Live: choose a method and turn its loss surface."""
    methods = result.data["surfaces"].objective.values
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
            {"name": name, "tasks": tasks, "points": np.round(points, 4).tolist()}
            for name, points, tasks in clouds(result)
        ],
        "runs": [
            {"name": name, "method": label(method), "seed": f"seed {seed}"}
            for name, (method, seed) in zip(run_names(result), runs(result), strict=True)
        ],
        "methods": list(dict.fromkeys(label(method) for method, _ in runs(result))),
        "tasks": task_names(result),
        "classes": result.data["fine_tuning"].class_name.values.tolist(),
        "epochs": result.data["trajectories"].sizes["epoch"],
        "progress": np.round(progress(result), 3).tolist(),
        "confusion": of_runs(result, "fine_tuning", "confusion").tolist(),
        "colourings": COLOURINGS,
        "colours": MANY,
        "palette": PALETTE,
    }
    return _explorer("cloud-explorer", facts)


def browse_surface(result: Result) -> HTML:
    """Static: the loss surfaces, to be turned in the page."""
    facts = {
        "methods": [label(method) for method in result.data["surfaces"].objective.values],
        "at": np.round(result.data["surfaces"].alpha.values, 4).tolist(),
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
