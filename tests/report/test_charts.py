"""Charts that a page draws by itself."""

import re

import altair as alt
import pandas as pd
import vl_convert

from sslnb.report import charts


def test_a_line_follows_numbers_in_their_order_and_not_as_text() -> None:
    frame = pd.DataFrame({"step": [3500, 219, 875], "layer1.0": [3500, 219, 875]})
    for escaped in ("step", "layer1\\.0"):
        chart = alt.Chart(charts.table("steps", frame)).mark_line().encode(
            x=alt.X(f"{escaped}:Q", scale=alt.Scale(domain=[0, 4000])),
            y=alt.value(10),
            order=f"{escaped}:Q",
        )  # fmt: skip
        drawn = vl_convert.vegalite_to_svg(chart.to_json(), vl_version=charts.VEGA_LITE)
        path = re.search(r'aria-roledescription="line mark"[^>]* d="([^"]*)"|d="(M[^"]*)"[^>]*stroke-width="2"', drawn)
        places = [float(x) for x, _ in re.findall(r"([\d.]+),([\d.]+)", next(filter(None, path.groups())))]
        assert len(places) == 3 and places == sorted(places) and places[0] < places[-1]
