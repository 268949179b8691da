"""Tables and numbers in the prose."""

import pytest

from sslnb.report.tables import minus, table


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("-0.480 [-0.862, -0.098]", "−0.480 [−0.862, −0.098]"),
        ("(-1.2)", "(−1.2)"),
        ("-.5", "−.5"),
        ("-0.000", "0.000"),
        ("-0.0 ± 0.4", "0.0 ± 0.4"),
        ("-0.04", "−0.04"),
        ("CIFAR-10, 1e-5, 2026-11-30, $10^{-4}$, --seed", "CIFAR-10, 1e-5, 2026-11-30, $10^{-4}$, --seed"),
    ],
)
def test_a_hyphen_before_a_number_is_shown_as_a_minus_and_nought_has_none(written: str, shown: str) -> None:
    assert minus(written) == shown
    assert f"| {shown} |" in table(("n",), [(written,)], "Numbers.").lines


def test_bars_in_cells_do_not_divide_them_and_the_line_below_the_head_stays() -> None:
    assert table(("a", "b"), [("x|y", 1)], "Two.").lines.splitlines() == ["| a | b |", "| --- | --- |", "| x\\|y | 1 |"]
