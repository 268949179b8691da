"""Panels of a figure."""

from sslnb.report.panels import leave_out, panels


def test_a_panel_above_one_that_is_left_out_has_its_ticks() -> None:
    _, axes = panels(2, 2, sharex=True)
    leave_out(axes, 3)
    assert [ax.axison for ax in axes.flat] == [True, True, True, False]
    above, other = (ax.xaxis.get_tick_params()["labelbottom"] for ax in (axes[0, 1], axes[0, 0]))
    assert above and not other
