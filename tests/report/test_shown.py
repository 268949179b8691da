"""A figure's numbers are those that it was drawn from, and it is SVG where that is small."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from sslnb import report
from sslnb.report import shown


def drawn(figure: Figure, panel: object = 1) -> pd.DataFrame:
    frame = report.numbers(figure)
    return frame[frame.panel == panel].reset_index(drop=True)


def panel(**settings: object) -> tuple[Figure, object]:
    figure = Figure()
    ax = figure.subplots()
    ax.set(**settings)
    return figure, ax


def test_a_line_and_its_band_have_one_name_and_guides_have_no_rows() -> None:
    figure, ax = panel(title="accuracy")
    x, y = np.array([1.0, 2, 3]), np.array([0.5, 0.6, 0.55])
    ax.plot(x, y, color="#D55E00", label="SimCLR")
    ax.fill_between(x, y - 0.1, y + 0.2, color="#D55E00", alpha=0.2)
    ax.axhline(0.1)
    frame = drawn(figure, "accuracy")
    line, band = frame[frame.series == "SimCLR"], frame[frame.series == "SimCLR (range)"]
    assert len(frame) == 6
    np.testing.assert_allclose(line[["x", "y"]], np.column_stack([x, y]))
    np.testing.assert_allclose(band[["x", "low", "high"]], np.column_stack([x, y - 0.1, y + 0.2]))


def test_intervals_stand_with_their_points_under_the_names_of_their_places() -> None:
    figure, ax = panel()
    ax.errorbar([-0.2, 0.8], [1, 2], ([0.1, 0.2], [0.3, 0.4]), fmt="o", label="RotNet")
    ax.set_xticks([0, 1], ["cifar10", "stl10"])
    frame = drawn(figure)
    assert frame.x.tolist() == ["cifar10", "stl10"] and set(frame.series) == {"RotNet"}
    np.testing.assert_allclose(frame[["y", "low", "high"]].astype(float), [[1, 0.9, 1.3], [2, 1.8, 2.4]])


@pytest.mark.parametrize("kind", ["bar", "barh"])
def test_bars_are_their_lengths(kind: str) -> None:
    figure, ax = panel()
    getattr(ax, kind)([0, 1], [2.0, -4.0], label="share")
    place, length = ("x", "y") if kind == "bar" else ("y", "x")
    frame = drawn(figure)
    assert frame[place].tolist() == [0, 1] and frame[length].tolist() == [2, -4]


def test_a_heat_map_is_its_cells_and_a_photograph_is_not() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    values = np.array([[1.0, 2], [3, np.nan]])
    figure.colorbar(left.imshow(values), ax=left)
    left.set_yticks([0, 1], ["a", "b"])
    right.imshow(np.zeros((2, 2, 3)))
    frame = report.numbers(figure)
    assert set(frame.panel) == {1} and frame.y.tolist() == ["a", "a", "b", "b"] and frame.x.tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(frame.value, values.ravel())


def test_points_contours_and_categories() -> None:
    figure = Figure()
    axes = figure.subplots(1, 3)
    axes[0].scatter([1, 2], [3, 4], label="runs")
    axes[1].contour([[0.0, 1], [1, 2]], levels=[0.5, 1.5])
    axes[2].plot(["stem", "pool"], [1, 2])
    by_panel = {n: part.dropna(axis="columns", how="all") for n, part in report.numbers(figure).groupby("panel")}
    assert by_panel[1][["x", "y"]].values.tolist() == [[1, 3], [2, 4]]
    assert set(by_panel[2].value) == {0.5, 1.5} and by_panel[2][["x", "y"]].notnull().to_numpy().all()
    assert by_panel[3].x.tolist() == ["stem", "pool"]


def test_ticks_of_a_logarithmic_axis_are_numbers() -> None:
    figure, ax = panel(xscale="log")
    ax.plot([256, 1024], [1, 2])
    ax.set_xticks([256, 1024], ["256", "1,024"])
    assert drawn(figure).x.tolist() == [256, 1024]


def test_small_drawings_are_svg_and_the_same_each_time() -> None:
    few, many, pixels = Figure(), Figure(), Figure()
    few.subplots().plot([0, 1])
    many.subplots().plot(np.random.default_rng(0).normal(size=10_000))
    pixels.subplots().imshow(np.eye(3))
    assert shown.bundle(few) == shown.bundle(few)
    assert {"text/csv", "image/svg+xml"} == set(shown.bundle(few))
    assert set(shown.bundle(many)) == set(shown.bundle(pixels)) == {"text/csv"}
    assert shown.bundle(Figure()).keys() <= {"image/svg+xml"}  # nothing drawn, no numbers
