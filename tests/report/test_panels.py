"""Panels of a figure."""

import io

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

from sslnb.report.mosaic import mosaic
from sslnb.report.panels import LEGIBLE, at_points, leave_out, panels


def test_a_panel_above_one_that_is_left_out_has_its_ticks() -> None:
    _, axes = panels(2, 2, sharex=True)
    leave_out(axes, 3)
    assert [ax.axison for ax in axes.flat] == [True, True, True, False]
    above, other = (ax.xaxis.get_tick_params()["labelbottom"] for ax in (axes[0, 1], axes[0, 0]))
    assert above and not other


@pytest.mark.parametrize("n", [1, 4, 9])
def test_names_of_points_that_lie_together_lie_apart(n: int) -> None:
    figure, axes = panels(1, height=4)
    ax, points = axes[0, 0], np.tile([0.5, 0.5], (n, 1)) + 0.001 * np.arange(n)[:, None]
    ax.set(xlim=(0, 1), ylim=(0, 1))
    at_points(ax, np.concatenate([points, [[0.1, 0.9]]]), [f"name {i}" for i in range(n)] + ["alone"], ["k"] * (n + 1))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == n + 1
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    alone = next(text for text in ax.texts if text.get_text() == "alone")
    assert alone.get_position()[1] == 0  # beside its point


def test_pictures_have_no_ground_and_letters_that_are_legible_on_a_light_page_and_a_dark_one() -> None:
    def luminance(colour: str) -> float:
        parts = np.array(to_rgb(colour))
        linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    def contrast(a: str, b: str) -> float:
        low, high = sorted((luminance(a), luminance(b)))
        return (high + 0.05) / (low + 0.05)

    figure = mosaic({"an image": [torch.full((3, 4, 4), 200, dtype=torch.uint8)]}, 1)
    figure.canvas.draw()
    drawn = {to_hex(text.get_color()) for text in figure.findobj(Text) if text.get_text()}
    assert drawn == {LEGIBLE} and contrast(LEGIBLE, "#ffffff") > 4.5 and contrast(LEGIBLE, "#121212") > 4
    figure.savefig(buffer := io.BytesIO(), format="png")
    buffer.seek(0)
    pixels = matplotlib.image.imread(buffer)
    assert pixels[0, 0, 3] == 0 and (pixels[..., 3] == 1).any()
