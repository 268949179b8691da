"""Pictures side by side, and a photograph to show transforms on."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from matplotlib.figure import Figure

from sslnb.report.panels import PAGE, on_any_ground

CELL_INCHES = 0.62  # side of one sample in a figure, where they fit on the page
LETTER_INCHES = 0.1  # room for one letter of a row's name
GAP = 0.06  # of a sample's side, white, between samples


def photograph(side: int) -> torch.Tensor:
    """A square piece uint8 [3,side,side] of a photograph that scikit-learn ships (china.jpg)."""
    from sklearn.datasets import load_sample_image

    whole = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)
    square = whole[:, 60:360, 140:440]  # the temple
    return torch.nn.functional.interpolate(square[None].float(), (side, side), mode="area")[0].round().to(torch.uint8)


def mosaic(rows: Mapping[str, Iterable[torch.Tensor | None]], columns: int, *, cell: float = CELL_INCHES) -> Figure:
    """Rows of uint8 images [C,H,W] of any sizes (None: an empty place) on one axis with the rows' names.

    ``cell`` is the side of an image in inches, where that many fit on the page.
    """
    names = 0.2 + LETTER_INCHES * max(len(line) for name in rows for line in name.splitlines())
    side = min(cell, (PAGE - names) / columns)
    figure = Figure(figsize=(side * columns + names, side * len(rows)), layout="constrained")
    axes = figure.subplots()
    for row, images in enumerate(rows.values()):
        for column, image in enumerate(images):
            if image is not None:
                extent = (column + GAP, column + 1 - GAP, row + 1 - GAP, row + GAP)
                pixels = image.permute(1, 2, 0).numpy().squeeze()
                axes.imshow(pixels, extent=extent, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xlim=(0, columns), ylim=(len(rows), 0), xticks=[], yticks=np.arange(len(rows)) + 0.5)
    axes.set_yticklabels(rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return on_any_ground(figure)
