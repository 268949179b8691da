"""Tables of the study of layer similarity: a Result in, Markdown out."""

import numpy as np
from IPython.display import Markdown

from sslnb.core.labels import label
from sslnb.core.result import Result
from sslnb.report.tables import say, table
from sslnb.report.verdicts import estimate
from sslnb.studies.cka.findings import checkerboards, controls, gaps, seeds_agree, shared
from sslnb.studies.cka.maps import across, between_seeds, own, parities
from sslnb.studies.cka.parameters import SUPERVISED


def panels_in_numbers(result: Result) -> Markdown:
    """The poster's panels as means over layers and networks, with the spread over networks or pairs of them."""
    data, rows = result.data["layer_similarity"], []
    cka, (odd, even) = data.cka.values, parities(list(data.layer.values))
    for m, method in enumerate(data.objective.values):
        kinds = [("within, other layers", own(cka, m), False), ("between seeds", between_seeds(cka, m), True)]
        kinds += [("with supervised", across(cka, m), True)] if m else []
        for kind, maps, corresponding in kinds:
            cells = []
            for which in (odd, even):
                part = maps[:, which[:, None], which]
                same = np.eye(len(which), dtype=bool)
                cells += [_mean(part[:, same]) if corresponding else "–", _mean(part[:, ~same])]
            rows.append((label(method), kind, *cells, _mean(maps[:, odd[:, None], even].reshape(len(maps), -1))))
    head = ("network", "", "odd, same layer", "odd, others", "even, same layer", "even, others", "odd with even")
    return table(head, rows, "CKA by kind of layer, means and deviations over networks or pairs of them.")


def checkerboard(result: Result) -> Markdown:
    """The checkerboard at equal distance between layers, network by network."""
    rows = []
    for method, contrast in checkerboards(result).items():
        spread_of = f"\u00a0±\u00a0{contrast.std(ddof=1):.3f}" if len(contrast) > 1 else ""
        rows.append((label(method), f"{contrast.mean():+.3f}{spread_of}"))
    return table(
        ("network", "CKA two layers apart, minus one and three apart"),
        rows,
        "The checkerboard at equal distance between layers.",
    )


def _mean(values: np.ndarray) -> str:
    """Mean over pairs of layers [S,n], with the deviation over networks, or pairs of them."""
    each = values.mean(1)
    each = each[np.isfinite(each)]
    if not len(each):
        return "–"
    return f"{each.mean():.2f}" + (f"\u00a0±\u00a0{each.std(ddof=1):.2f}" if len(each) > 1 else "")


def closeness(result: Result) -> Markdown:
    """How near the streamed estimate comes to the exact value, over all pairs of layers."""
    data = result.data["estimates"]
    values = data.estimate.values
    error = np.abs(values[:, :-1] - values[1, -1]).reshape(2, values.shape[1] - 1, -1)
    rows = [
        (f"{n:,}", *(f"{part[i].max():.4f} ({part[i].mean():.4f})" for part in error[::-1]))
        for i, n in enumerate(data["size"].values[:-1])
    ]
    return table(
        ("images per minibatch", "unbiased: greatest (mean) distance", "biased"),
        rows,
        "How close the estimate from minibatches comes to the exact value, over all pairs of layers.",
    )


def glue_headlines(result: Result) -> None:
    """Make numbers available to the prose, such as ``simclr_checkerboard``, ``C7_control`` and ``moco_to_simclr``."""
    for method, contrast in checkerboards(result).items():
        say(f"{method}_checkerboard", f"{contrast.mean():.3f}")
    for claim, (value, low, high) in controls(result).items():
        say(f"{claim}_control", estimate({"estimate": value, "low": low, "high": high}))
    for method, (odd, even) in shared(result).items():
        say(f"{method}_odd", f"{odd:.2f}")
        say(f"{method}_even", f"{even:.2f}")
    near = result.data["objectives_map"]["map"]
    for a in near.network.values:
        for b in near.network_b.values:
            say(f"{a}_to_{b}", f"{float(near.sel(network=a, network_b=b)):.2f}")
    for method, value in seeds_agree(result).items():
        say(f"{method}_seeds", f"{value:.2f}")
    for name, value in zip(("simclr_gap", "simclr_gap_last"), gaps(result), strict=True):
        say(name, f"{value:.2f}")
    shuffled, at_end = result.data["estimates"].null.mean("layer"), result.data["indices"].similarity.isel(block=-1)
    for size in shuffled["size"].values:
        say(f"biased_{size}", f"{float(shuffled.sel(kind='biased', size=size)):.2f}")
    for name, index in (("cka", "linear CKA"), ("cca", "CCA")):
        say(f"{name}_last", f"{float(at_end.sel(objective=SUPERVISED, index=index)):.2f}")
