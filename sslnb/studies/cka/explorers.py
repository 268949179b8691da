"""Explorers of layer similarity: a live one of ipywidgets, and a chart that the page draws by itself."""

from collections.abc import Sequence

import altair as alt
import ipywidgets as w
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sslnb.core.labels import label
from sslnb.core.result import Result
from sslnb.report import charts
from sslnb.report.explorers import picture
from sslnb.report.panels import panels
from sslnb.studies.cka.figures import SHADES
from sslnb.studies.cka.maps import parities

PARITIES = ("all", "odd", "even")
PALETTE = [to_hex(colormaps[SHADES](i / 40)) for i in range(41)]
MOST = 8  # networks on the page: more of them take more than a page's weight


def chosen(layers: Sequence[str], parity: str) -> list[int]:
    """Positions of the layers that a map shows."""
    odd, even = parities(layers)
    return {"all": list(range(len(layers))), "odd": odd.tolist(), "even": even.tolist()}[parity]


def shade(value: float) -> int:
    """Position in the palette of a similarity, cut to [0, 1]."""
    return round(min(max(value, 0.0), 1.0) * (len(PALETTE) - 1))


def networks(result: Result) -> list[tuple[str, tuple[int, int]]]:
    """Names of the compared networks with the positions of method and seed."""
    data = result.data["layer_similarity"]
    methods, seeds = list(data.objective.values), list(data.seed.values)
    names = [(f"{label(m)}, seed {seed}", (i, s)) for i, m in enumerate(methods) for s, seed in enumerate(seeds)]
    return [(f"{label(m)}, mean of seeds", (i, -1)) for i, m in enumerate(methods)] + names


def similarities(result: Result, a: tuple[int, int], b: tuple[int, int]) -> np.ndarray:
    """CKA [L,L] of two networks; seed -1 is the mean over seeds, for a method with itself over pairs of them."""
    (m, s), (n, t) = a, b
    cka = result.data["layer_similarity"].cka.values
    count = cka.shape[1]
    pairs = [(i, j) for i in range(count) for j in range(count) if s in (-1, i) and t in (-1, j)]
    different = [(i, j) for i, j in pairs if i != j]
    if m == n and -1 in (s, t) and different:
        pairs = different
    return np.mean([cka[m, i, n, j] for i, j in pairs], 0)


def explore_layers(result: Result) -> w.VBox:
    """Live: choose two networks and odd or even layers; hover a cell for its layers and value, click for neighbours."""
    layers, names = list(result.data["layer_similarity"].layer.values), networks(result)
    rows = w.Dropdown(options=names, value=(0, 0), description="rows")
    columns = w.Dropdown(options=names, value=(1, 0), description="columns")
    parity = w.ToggleButtons(options=PARITIES, description="layers")
    images = [(str(i + 1), i) for i in range(result.data["neighbours"].sizes["query"])]
    query = w.SelectionSlider(options=images, description="image")
    grid, caption, image = w.GridBox(layout=w.Layout(grid_gap="1px", width="480px")), w.Label(), w.Image(format="png")
    # Shared between cells: a widget of its own for each one's colour would overrun the kernel's queue of messages.
    styles = [w.ButtonStyle(button_color=colour) for colour in PALETTE]
    layout = w.Layout(width="auto", height="18px", margin="0")

    def draw(*_: object) -> None:
        values, which = similarities(result, rows.value, columns.value), chosen(layers, parity.value)
        for cell in grid.children:
            cell.close()
        grid.layout.grid_template_columns = f"repeat({len(which)}, 1fr)"
        grid.children = [cell_of(values[i, j], i, j) for i in reversed(which) for j in which]
        show(which[0], which[0])

    def cell_of(value: float, i: int, j: int) -> w.Button:
        tooltip = f"{layers[i]} × {layers[j]}: {value:.3f}"
        cell = w.Button(layout=layout, style=styles[shade(value)], tooltip=tooltip)
        cell.on_click(lambda _: show(i, j))
        return cell

    def show(i: int, j: int) -> None:
        value = similarities(result, rows.value, columns.value)[i, j]
        caption.value = f"{layers[i]} (row) × {layers[j]} (column): CKA {value:.3f}"
        pair[:] = i, j
        look_up()

    def look_up(*_: object) -> None:
        figure = neighbours(result, list(zip((rows.value[0], columns.value[0]), pair, strict=True)), query.value)
        image.value = picture(figure)

    pair = [0, 0]
    for control in (rows, columns, parity):
        control.observe(draw, "value")
    query.observe(look_up, "value")
    draw()
    return w.VBox([rows, columns, parity, grid, caption, query, image])


def neighbours(result: Result, pair: Sequence[tuple[int, int]], query: int) -> Figure:
    """A test image, and those nearest to it in two layers, each (method, layer) of the first seed."""
    data = result.data["neighbours"]
    figure, axes = panels(1 + data.sizes["rank"], 2, height=1.25)
    for row, (m, layer) in zip(axes, pair, strict=True):
        shown = [int(data.query_sample[query]), *data.nearest[m, layer, query].values]
        for k, (ax, at) in enumerate(zip(row, shown, strict=True)):
            pixels = data.picture[at].transpose("row", "column", "channel").values.squeeze()
            ax.imshow(pixels, cmap="gray", interpolation="nearest")
            title = "image" if k == 0 else str(data.label[at].values)
            ax.set_title(title, fontsize=7)
            ax.set_axis_off()
        name = f"{label(str(data.objective.values[m]))}, first seed, {data.layer.values[layer]}"
        row[1].text(0, -0.08, name, transform=row[1].transAxes, fontsize=8, va="top")
    return figure


def browse_layers(result: Result) -> charts.Explorer:
    """On the page: the same; a cell, or the menus of layers, choose whose nearest neighbours are shown."""
    layers = [str(layer) for layer in result.data["layer_similarity"].layer.values]
    names = [name for name, _ in _shown(result)]
    cell = alt.selection_point(
        name="cell",
        fields=["row", "column"],
        value=[{"row": layers[-1], "column": layers[-1]}],
        on="click",
        bind={
            "row": alt.binding_select(options=layers, name="layer (row)"),
            "column": alt.binding_select(options=layers, name="layer (column)"),
        },
    )
    second = next((name for name, (m, _) in _shown(result) if m), names[0])
    controls = (
        charts.choice("rows", "rows", names),
        charts.choice("columns", "columns", names, second),
        charts.choice("parity", "layers", PARITIES),
    )
    kept = {p: [layers[i] for i in chosen(layers, p)] for p in PARITIES if p != "all"}
    both = " || ".join(
        f"parity == '{p}' && indexof({which}, datum.row) >= 0 && indexof({which}, datum.column) >= 0"
        for p, which in kept.items()
    )
    side = charts.PANEL * 1.15
    grid = (
        alt.Chart(charts.table("similarity", _similarities(result), digits=3), title="CKA of two networks' layers")
        .transform_filter("datum.of == rows && datum.with == columns")
        .transform_calculate(column=f"{layers}", cka=f"[{', '.join(f'toNumber(datum[{name!r}])' for name in layers)}]")
        .transform_flatten(["column", "cka"])
        .transform_filter(f"parity == 'all' || {both}")
        .mark_rect(cursor="pointer")
        .encode(
            x=alt.X("column:N", sort=layers, title="layers of the network in columns", axis=alt.Axis(labelFontSize=9)),
            y=alt.Y("row:N", sort=layers[::-1], title="layers of the network in rows", axis=alt.Axis(labelFontSize=9)),
            color=alt.Color("cka:Q", title="CKA", scale=alt.Scale(scheme=SHADES, domain=[0, 1])),
            stroke=alt.when(cell).then(alt.value("#D55E00")).otherwise(alt.value("transparent")),
            strokeWidth=alt.value(3),
            tooltip=["row:N", "column:N", alt.Tooltip("cka:Q", title="CKA", format=".3f")],
        )
        .add_params(cell, *controls)
        .properties(width=side, height=side)
    )
    strips = [_strip(result, *side) for side in (("row", "rows"), ("column", "columns"))]
    query = charts.choice("query", "image", _queries(result))
    chart = alt.vconcat(grid, *strips, spacing=4).add_params(query)
    return charts.Explorer(chart, "Map of the similarity of all layers of two networks, and nearest neighbours in two.")


def _strip(result: Result, side: str, network: str) -> alt.Chart:
    """The chosen image's nearest neighbours in the chosen layer of one of the two networks."""
    pictures = alt.LookupData(charts.table("pictures", _pictures(result)), key="sample", fields=["jpeg", "label"])
    # Whole names: "Supervised" begins the names of its controls, too.
    own = " || ".join(f"indexof({network}, datum.network + '{end}') == 0" for end in (", seed ", ", mean of"))
    shown = f"({own}) && datum.image == query && datum.layer == cell.{side}[0]"
    return (
        alt.Chart(charts.table("neighbours", _neighbours(result)), title=f"Nearest in the layer of the {side}")
        .transform_filter(shown)
        .transform_lookup("sample", from_=pictures)
        .transform_calculate(address=charts.address("jpeg"))
        .mark_image(width=56, height=56, smooth=False)
        .encode(
            x=alt.X("rank:O", title=None, axis=None),
            url="address:N",
            tooltip=[alt.Tooltip("label:N", title="class"), alt.Tooltip("layer:N"), alt.Tooltip("network:N")],
        )
        .properties(width=charts.PANEL * 1.15, height=60)
    )


def _shown(result: Result) -> list[tuple[str, tuple[int, int]]]:
    """The networks on the page: all, or the means over seeds where there are many."""
    every = networks(result)
    return every if len(every) <= MOST else [(name, at) for name, at in every if at[1] < 0][:MOST]


def _similarities(result: Result) -> pd.DataFrame:
    """CKA of every pair of networks: a row for each layer of one, a column for each of the other."""
    layers, frames = list(result.data["layer_similarity"].layer.values), []
    for of, a in _shown(result):
        for other, b in _shown(result):
            values = pd.DataFrame(similarities(result, a, b), columns=layers)
            frames.append(pd.concat([pd.DataFrame({"of": of, "with": other, "row": layers}), values], axis=1))
    return pd.concat(frames)


def _queries(result: Result) -> list[str]:
    data = result.data["neighbours"]
    return [f"{i + 1}: {data.label.values[at]}" for i, at in enumerate(data.query_sample.values)]


def _neighbours(result: Result) -> pd.DataFrame:
    """The samples nearest to each image in each layer of each objective's first seed; rank 0 is the image."""
    data, rows = result.data["neighbours"], []
    for m, name in enumerate(data.objective.values):
        for layer, at in enumerate(data.layer.values):
            for i, image in enumerate(_queries(result)):
                samples = [int(data.query_sample[i]), *data.nearest.values[m, layer, i]]
                rows += [(label(str(name)), at, image, rank, sample) for rank, sample in enumerate(samples)]
    return pd.DataFrame(rows, columns=["network", "layer", "image", "rank", "sample"])


def _pictures(result: Result) -> pd.DataFrame:
    data = result.data["neighbours"]
    pictures = [charts.encoded(pixels) for pixels in data.picture.values]
    return pd.DataFrame({"sample": range(len(pictures)), "label": data.label.values, "jpeg": pictures})
