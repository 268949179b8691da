"""At most five curves of a panel are in colour, the others are grey behind them, and names stand where curves end."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sslnb.objectives.registry import OBJECTIVES
from sslnb.report import lines, styles

X = np.arange(4)


def test_what_a_reader_looks_for_is_in_colour_first() -> None:
    names = ["barlow_twins", "byol", "cmc", "dino", "moco", "simclr", "supervised", "untrained"]
    assert lines.coloured(names) == ["supervised", "simclr", "untrained", "barlow_twins", "byol"]
    assert set(lines.coloured(names[:3])) == set(names[:3])
    assert lines.coloured([*names, "encoder"])[0] == "encoder"
    control = "supervised_simclr_views"
    assert control not in lines.coloured([control, *names])
    assert lines.coloured([control, "cmc"]) == ["cmc", control]


@pytest.mark.parametrize("count", [1, 5, 6, 12])
def test_five_curves_at_most_have_their_colour_and_the_others_one_entry(count: int) -> None:
    names = list(OBJECTIVES)[:count]
    ax = Figure().subplots()
    lines.of_objectives(ax, X, {name: np.full((3, 4), i) for i, name in enumerate(names)})
    own = {styles.colour(name).lower() for name in names}
    assert len(ax.lines) == count
    assert sum(to_hex(line.get_color()) in own for line in ax.lines) == min(count, lines.MOST)
    assert ax.get_legend_handles_labels()[1].count("others") == (count > lines.MOST)


def test_a_band_is_the_range_of_what_was_measured() -> None:
    ax, values = Figure().subplots(), np.array([[1.0, 2], [3, np.nan]])
    lines.band(ax, [0, 1], values, "#0072B2", "SimCLR")
    assert ax.lines[0].get_ydata() == pytest.approx([2, 2])
    corners = ax.collections[0].get_paths()[0].vertices
    assert {tuple(corner) for corner in corners} == {(0, 1), (0, 3), (1, 2)}


def test_names_stand_near_the_ends_in_their_order_and_apart() -> None:
    ax = Figure(figsize=(4, 3)).subplots()
    for height, name in ((0.50, "a"), (0.51, "b"), (1.0, "c")):
        ax.plot(X, [0, 0, height, np.nan], label=name)
    ax.plot(X, [np.nan] * 4, label="not measured")
    ax.axhline(0.2)  # without a name
    lines.named(ax)
    places = {text.get_text(): text.xy[1] for text in ax.texts}
    assert sorted(places, key=places.get) == ["a", "b", "c"] and places["c"] == pytest.approx(1.0)
    assert places["b"] - places["a"] > 0.02 and (places["a"] + places["b"]) / 2 == pytest.approx(0.505)
