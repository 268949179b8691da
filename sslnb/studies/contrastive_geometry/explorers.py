"""Explorers of contrastive geometry: live ones of ipywidgets, and charts that the page draws by itself."""

import altair as alt
import ipywidgets as w
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sslnb.core.labels import label
from sslnb.core.result import Result
from sslnb.report import charts, styles
from sslnb.report.explorers import picture
from sslnb.report.panels import COLOURS, PAGE, annotated
from sslnb.studies.contrastive_geometry.figures import heights, relief, task_names

COLOURINGS = ("method", "task", "seed", "epoch", "progress")
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
    own = runs(result)
    if by == "method":
        return [styles.colour(own[r][0]) for r, _, _ in where]
    seeds = list(dict.fromkeys(seed for _, seed in own))
    return [COLOURS[(t if by == "task" else seeds.index(own[r][1])) % len(COLOURS)] for r, t, _ in where]


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
    task = w.Dropdown(options=[(name, i) for i, name in enumerate(task_names(result))], description="task")
    epoch = w.IntSlider(value=last, min=0, max=last, description="epoch")
    azimuth = w.IntSlider(value=-60, min=-180, max=180, step=5, description="azimuth")
    elevation = w.IntSlider(value=25, min=-90, max=90, step=5, description="elevation")
    image = w.Image(format="png")

    def draw(*_: object) -> None:
        figure = cloud(
            result, which.value, by.value, run.value, task.value, epoch.value, azimuth.value, elevation.value
        )
        image.value = picture(figure)

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
        image.value = picture(surface(result, method.value, azimuth.value, elevation.value))

    for control in (method, azimuth, elevation):
        control.observe(draw, "value")
    draw()
    return w.VBox([method, azimuth, elevation, image])


def browse_cloud(result: Result) -> charts.Explorer:
    """On the page: the same; the ring is the chosen model, the line its run."""
    where = charts.table("models", _models(result))
    ends = charts.table("ends", _ends(result))
    names, tasks = run_names(result), task_names(result)
    shown, last = [name for name, _, _ in clouds(result)], result.data["trajectories"].sizes["epoch"] - 1
    controls = (
        charts.choice("embedding", "embedding", shown),
        charts.choice("by", "colour by", COLOURINGS),
        charts.choice("run", "run", names),
        charts.choice("task", "task", tasks),
        charts.slider("epoch", "epoch", 0, last, 1, last),
        charts.slider("azimuth", "azimuth, degrees", -180, 180, 5, -60),
        charts.slider("elevation", "elevation, degrees", -90, 90, 5, 25),
    )
    bare = {"axis": None, "scale": alt.Scale(domain=[-1.1, 1.1])}
    place = {"x": alt.X("across:Q", **bare), "y": alt.Y("up:Q", **bare)}
    named = alt.LookupData(charts.table("runs", _runs(result)), key="r", fields=["run", "method", "seed"])
    models = (
        _turned(alt.Chart(where))
        .transform_lookup("r", from_=named)
        .transform_calculate(embedding=f"{shown}[datum.cloud]", task=f"{tasks}[datum.t]")
        .transform_filter("datum.embedding == embedding")
    )
    groups = "by == 'task' ? datum.task : 'seed ' + datum.seed"
    tips = ["run:N", "task:N", "epoch:Q", alt.Tooltip("progress:Q", format=".3f")]
    small = {"size": 9, "opacity": 0.8, "aria": False}  # thousands of them: the chosen one is told
    methods = list(dict.fromkeys(name for name, _ in runs(result)))
    by_method = (
        models.transform_filter("by == 'method'")
        .mark_circle(**small)
        .encode(color=charts.colours("method", methods, legend=charts.ABOVE, title=None), tooltip=tips, **place)
    )
    by_group = (
        models.transform_calculate(group=groups)
        .transform_filter("by == 'task' || by == 'seed'")
        .mark_circle(**small)
        .encode(color=alt.Color("group:N", scale=alt.Scale(range=list(COLOURS)), legend=None), tooltip=tips, **place)
    )
    shades = alt.Scale(scheme="viridis", domain=[0, 1])
    by_value = (
        models.transform_calculate(value=f"by == 'epoch' ? datum.epoch / {last} : datum.progress")
        .transform_filter("by == 'epoch' || by == 'progress'")
        .mark_circle(**small)
        .encode(color=alt.Color("value:Q", scale=shades, legend=None), tooltip=tips, **place)
    )
    own = models.transform_filter("datum.run == run && (datum.task == task || embedding != 'all tasks')")
    path = own.mark_line(color="#D00000", strokeWidth=1).encode(order="epoch:Q", **place)
    ring = own.transform_filter("datum.epoch == epoch").mark_point(color="#D00000", size=120, strokeWidth=2)
    marks = _turned(alt.Chart(ends)).transform_filter("datum.embedding == embedding")
    marks = marks.mark_text(fontSize=16, color=charts.INK_NOW).encode(text="mark:N", tooltip=["name:N"], **place)
    legend = "■ ignorance  ★ truth  ○ the chosen model"
    title = alt.Title("Models in three dimensions", subtitle=legend, subtitleColor=charts.INK_NOW)
    cloud = alt.layer(by_method, by_group, by_value, path, ring.encode(tooltip=tips, **place), marks, title=title)
    cloud = cloud.resolve_scale(color="independent")
    panels = charts.beside(cloud, _confusions(result), controls)
    return charts.Explorer(panels, "Models along all runs in three dimensions, and the confusions of a chosen one.")


def _turned(chart: alt.Chart) -> alt.Chart:
    """A chart of points x, y, z as they are seen from the azimuth and elevation that are set."""
    a, e = "azimuth * PI / 180", "elevation * PI / 180"
    return chart.transform_calculate(
        across=f"-datum.x * sin({a}) + datum.y * cos({a})",
        up=f"datum.z * cos({e}) - (datum.x * cos({a}) + datum.y * sin({a})) * sin({e})",
    )


def _scaled(points: np.ndarray) -> np.ndarray:
    """Points about their middle, in a cube of side 2."""
    centred = points - points.mean(0)
    return centred / max(float(np.abs(centred).max()), 1e-12)


def _models(result: Result) -> pd.DataFrame:
    """A row for each model of each embedding."""
    values, frames = progress(result), []
    for cloud, (_, points, own) in enumerate(clouds(result)):
        r, t, e = places(result, own).T
        x, y, z = _scaled(points)[:-2].T
        facts = {"cloud": cloud, "r": r, "t": t, "epoch": e, "progress": values[r, t, e]}
        frames.append(pd.DataFrame(facts | {"x": x, "y": y, "z": z}))
    return pd.concat(frames)


def _runs(result: Result) -> pd.DataFrame:
    """What each run is called, by its position: names in every row of the others would weigh half a megabyte."""
    methods, seeds = zip(*runs(result), strict=True)
    facts = {"run": run_names(result), "method": [label(method) for method in methods], "seed": seeds}
    return pd.DataFrame({"r": range(len(seeds))} | facts)


def _ends(result: Result) -> pd.DataFrame:
    rows = []
    for name, points, _ in clouds(result):
        for at, mark, text in zip(_scaled(points)[-2:], "■★", ("ignorance", "truth"), strict=True):
            rows.append((name, mark, text, *at))
    return pd.DataFrame(rows, columns=["embedding", "mark", "name", "x", "y", "z"])


def _confusions(result: Result) -> alt.LayerChart:
    """The chosen model's confusion matrix, of counts that a row of the table holds in the order of its classes."""
    confusion = of_runs(result, "fine_tuning", "confusion")
    classes, tasks = result.data["fine_tuning"].class_name.values, task_names(result)
    k, rows = classes.shape[1], []
    for r, t, e in np.ndindex(confusion.shape[:3]):
        rows.append((r, t, e, " ".join(map(str, confusion[r, t, e].ravel()))))
    names = [(task, i, name) for task, own in zip(tasks, classes, strict=True) for i, name in enumerate(own)]
    lookup = alt.LookupData(charts.table("classes", _keyed(names)), key="key", fields=["class"])
    base = (
        alt.Chart(charts.table("confusions", pd.DataFrame(rows, columns=["r", "t", "epoch", "counts"])))
        .transform_filter(f"{run_names(result)}[datum.r] == run && {tasks}[datum.t] == task && datum.epoch == epoch")
        .transform_calculate(task="task")
        .transform_calculate(count="split(datum.counts, ' ')", cell=f"sequence({k * k})")
        .transform_flatten(["count", "cell"])
        .transform_calculate(i=f"datum.task + '/' + floor(datum.cell / {k})", j=f"datum.task + '/' + datum.cell % {k}")
        .transform_lookup("i", from_=lookup, as_=["true"])
        .transform_lookup("j", from_=lookup, as_=["predicted"])
        .transform_calculate(images="toNumber(datum.count)")
        .transform_joinaggregate(total="sum(images)", groupby=["true"])
        .transform_calculate(share="100 * datum.images / datum.total")
        .encode(
            x=alt.X("predicted:N", title="predicted class", sort=alt.EncodingSortField("cell", op="min")),
            y=alt.Y("true:N", title="true class", sort=alt.EncodingSortField("cell", op="min")),
        )
    )
    shade = alt.Color("share:Q", title="% of the class", scale=alt.Scale(scheme="blues", domain=[0, 100]), legend=None)
    dark = alt.when("datum.share > 60").then(alt.value("white")).otherwise(alt.value("black"))
    cells = base.mark_rect().encode(color=shade, tooltip=["true:N", "predicted:N", "images:Q"])
    return alt.layer(
        cells, base.mark_text().encode(text="images:Q", color=dark), title="What the chosen model confuses"
    )


def _keyed(names: list[tuple[str, int, str]]) -> pd.DataFrame:
    return pd.DataFrame([(f"{task}/{i}", name) for task, i, name in names], columns=["key", "class"])


def browse_surface(result: Result) -> charts.Explorer:
    """On the page: choose a method; its loss over the plane of two directions, and along the first of them."""
    data, rows = result.data["surfaces"], []
    for name, surface in zip(data.objective.values, heights(result), strict=True):
        a, b = np.meshgrid(data.alpha.values, data.beta.values, indexing="ij")
        rows.append(pd.DataFrame({"method": label(name), "a": a.ravel(), "b": b.ravel(), "log": surface.ravel()}))
    names, b = [label(name) for name in data.objective.values], data.beta.values.round(6)
    controls = (
        charts.choice("method", "method", names),
        charts.slider("cut", "cut, along the second direction", *map(float, (b[0], b[-1], b[1] - b[0])), 0),
    )
    table = charts.table("surface", pd.concat(rows).dropna())  # a gap has no row: an empty cell would be a loss of 1
    base = alt.Chart(table).transform_filter("datum.method == method")
    base = base.transform_calculate(loss="pow(10, datum.log)")
    tips = ["a:Q", "b:Q", alt.Tooltip("loss:Q", format=".3g")]
    step = charts.PANEL / len(data.alpha)
    plane = (
        base.mark_square(size=step**2 * 1.4, opacity=1)
        .encode(
            x=alt.X("a:Q", title="first direction"),
            y=alt.Y("b:Q", title="second direction"),
            color=alt.Color("log:Q", title="log₁₀ of the loss", scale=alt.Scale(scheme="viridis"), legend=charts.ABOVE),
            tooltip=tips,
        )
        .properties(title="Loss around the weights")
    )
    rule = alt.Chart(alt.InlineData([{}])).transform_calculate(b="cut").mark_rule(color="#D00000").encode(y="b:Q")
    every = alt.Chart(table).transform_filter(f"abs(datum.b - cut) < {(b[1] - b[0]) / 2:g}")
    every = every.transform_calculate(loss="pow(10, datum.log)")
    along = every.mark_line().encode(
        x=alt.X("a:Q", title="first direction"),
        y=alt.Y("loss:Q", title="loss", scale=alt.Scale(type="log")),
        color=charts.colours("method", list(data.objective.values), legend=charts.ABOVE, title=None),
        tooltip=["method:N", *tips],
    )
    panels = charts.beside(plane + rule, along.properties(title="Along the cut, all methods"), controls)
    return charts.Explorer(panels, "The loss around the weights of each method, and along a line through them.")
