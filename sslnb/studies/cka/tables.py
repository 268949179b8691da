"""Tables of the study of layer similarity: a Result in, Markdown out."""

import numpy as np
from IPython.display import Markdown

from sslnb.core.flat import Result
from sslnb.core.labels import label
from sslnb.report.tables import percent, spread, table
from sslnb.studies.cka.maps import across, between_seeds, matched_checkerboard, own, parities


def networks(result: Result) -> Markdown:
    """How far the compared networks have come: kNN accuracy on the test images."""
    rows = [(label(m), spread(a)) for m, a in zip(result.scalars["methods"], result.arrays["accuracy"], strict=True)]
    rows.append((label("untrained"), percent(result.scalars["untrained_accuracy"])))
    return table(("network", "kNN accuracy, %"), rows)


def map_networks(result: Result) -> Markdown:
    """What the networks of the map of objectives, and of other depths and widths, are."""
    p = result.parameters
    shape = f"ResNet-{p['depth']} of width {p['width']} with the {p['map_stem']} stem"
    steps = f"each trained for {p['map_steps']:,} steps from the same first weights, seed {p['seeds'][0]}"
    return Markdown(f"The networks here are {shape}, {steps}; the untrained one has others.")


def panels_in_numbers(result: Result) -> Markdown:
    """The poster's panels as means over layers and networks, with the spread over networks or pairs of them."""
    layers, cka = result.scalars["layers"], result.arrays["cka"]
    odd, even = parities(layers)
    rows = []
    for m, method in enumerate(result.scalars["methods"]):
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
    return table(head, rows)


def checkerboard(result: Result) -> Markdown:
    """The checkerboard at equal distance between layers, a comparison that was added after the results."""
    which = np.sort(np.concatenate(parities(result.scalars["layers"])))
    rows = []
    for m, method in enumerate(result.scalars["methods"]):
        contrast = matched_checkerboard(own(result.arrays["cka"], m), which)
        spread_of = f"\u00a0±\u00a0{contrast.std(ddof=1):.3f}" if len(contrast) > 1 else ""
        rows.append((label(method), f"{contrast.mean():+.3f}{spread_of}"))
    return table(("network", "CKA two layers apart, minus one and three apart"), rows)


def _mean(values: np.ndarray) -> str:
    """Mean over pairs of layers [S,n], with the deviation over networks, or pairs of them."""
    each = values.mean(1)
    each = each[np.isfinite(each)]
    if not len(each):
        return "–"
    return f"{each.mean():.2f}" + (f"\u00a0±\u00a0{each.std(ddof=1):.2f}" if len(each) > 1 else "")


def closeness(result: Result) -> Markdown:
    """How near the streamed estimate comes to the exact value, over all pairs of layers."""
    values = result.arrays["estimate"]
    error = np.abs(values[:, :-1] - values[1, -1]).reshape(2, values.shape[1] - 1, -1)
    rows = [
        (f"{n:,}", *(f"{part[i].max():.4f} ({part[i].mean():.4f})" for part in error[::-1]))
        for i, n in enumerate(result.scalars["estimate_sizes"][:-1])
    ]
    return table(("images per minibatch", "unbiased: greatest (mean) distance", "biased"), rows)
