"""Explorers of layer similarity: a live one of ipywidgets, and one that the page's own script draws."""

import base64
import html
import io
import json
from collections.abc import Sequence

import ipywidgets as w
import numpy as np
from IPython.display import HTML
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from sslnb.core.labels import label
from sslnb.core.result import Result
from sslnb.report.explorers import picture
from sslnb.report.panels import panels
from sslnb.studies.cka.figures import SHADES
from sslnb.studies.cka.maps import parities

PARITIES = ("all", "odd", "even")
PALETTE = [to_hex(colormaps[SHADES](i / 40)) for i in range(41)]
SPRITE_COLUMNS = 20


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
    query = w.IntSlider(value=0, min=0, max=result.data["neighbours"].sizes["query"] - 1, description="image")
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
        image.value = picture(figure, "nearest neighbours").value

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


def browse_layers(result: Result) -> HTML:
    """Static: the same from numbers that the page holds, drawn by its script ``cka.js``."""
    similarity, data = result.data["layer_similarity"], result.data["neighbours"]
    layers = list(similarity.layer.values)
    facts = {
        "layers": layers,
        "networks": [{"name": name, "at": at} for name, at in networks(result)],
        "cka": np.round(similarity.cka.values, 3).tolist(),
        "shown": {parity: chosen(layers, parity) for parity in PARITIES},
        "palette": PALETTE,
        "nearest": data.nearest.values.tolist(),
        "queries": data.query_sample.values.tolist(),
        "labels": data.label.values.tolist(),
        "methods": [label(m) for m in similarity.objective.values],
        "columns": SPRITE_COLUMNS,
    }
    data, sprite = html.escape(json.dumps(facts, separators=(",", ":"))), _sprite(data.picture.values)
    return HTML(
        f'<div class="layer-explorer" data-facts="{data}" data-sprite="{sprite}">'
        "<p>The explorer is drawn by a script of this page; use the live one elsewhere.</p></div>"
    )


def _sprite(pictures: np.ndarray) -> str:
    """All pictures uint8 [n,C,H,W] on one sheet, as the address of a JPEG that holds itself."""
    n, channels, height, width = pictures.shape
    rows = -(-n // SPRITE_COLUMNS)
    sheet = np.zeros((rows * SPRITE_COLUMNS, channels, height, width), np.uint8)
    sheet[:n] = pictures
    sheet = sheet.reshape(rows, SPRITE_COLUMNS, channels, height, width).transpose(0, 3, 1, 4, 2)
    sheet = sheet.reshape(rows * height, SPRITE_COLUMNS * width, channels)
    buffer = io.BytesIO()
    Image.fromarray(sheet.squeeze()).save(buffer, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
