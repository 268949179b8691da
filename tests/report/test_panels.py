"""Panels of a figure."""

import numpy as np
import pytest

from sslnb.report.panels import at_points, leave_out, panels


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
