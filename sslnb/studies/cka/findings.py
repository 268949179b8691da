"""What the chapter's text says of its recorded result, and whether the result bears it out."""

import numpy as np

from sslnb.core.labels import CONTROLS
from sslnb.core.result import Result
from sslnb.report import kinds
from sslnb.studies.cka.claims import MATCHED
from sslnb.studies.cka.maps import across, between_seeds, lag, matched_checkerboard, own, parities
from sslnb.studies.cka.parameters import SUPERVISED

SSL, SL = "simclr", SUPERVISED


def checkerboards(result: Result) -> dict[str, np.ndarray]:
    """CKA of layers of the same parity minus that of others at equal distance, for each network of each objective."""
    data = result.data["layer_similarity"]
    which = np.sort(np.concatenate(parities(list(data.layer.values))))
    return {
        str(name): matched_checkerboard(own(data.cka.values, m), which) for m, name in enumerate(data.objective.values)
    }


def shared(result: Result) -> dict[str, tuple[float, float]]:
    """Mean CKA of corresponding odd and even layers, each objective's networks with supervised ones of other seeds."""
    data = result.data["layer_similarity"]
    both, means = parities(list(data.layer.values)), {}
    for m, name in enumerate(map(str, data.objective.values)):
        maps = across(data.cka.values, m) if m else between_seeds(data.cka.values, 0)
        means[name] = tuple(float(maps[:, i, i].mean()) for i in both)
    return means


def mean_lags(result: Result) -> dict[str, tuple[float, float]]:
    """Mean offset, in blocks, of each other objective's best matches for odd and even layers of supervised networks."""
    data = result.data["layer_similarity"]
    both, names = parities(list(data.layer.values)), enumerate(map(str, data.objective.values))
    return {name: tuple(float(lag(across(data.cka.values, m), i).mean()) for i in both) for m, name in names if m}


def gaps(result: Result) -> tuple[float, float]:
    """How far sums of SimCLR's networks are below those of a second supervised one: up to the third stage, and last."""
    data = result.data["layer_similarity"]
    _, even = parities(list(data.layer.values))
    maps = between_seeds(data.cka.values, 0), across(data.cka.values, list(data.objective.values).index(SSL))
    seeds, other = (values.mean(0).diagonal()[even] for values in maps)
    early = [not str(name).startswith("layer4") for name in data.layer.values[even]]
    return float((seeds - other)[early].mean()), float((seeds - other)[-1])


def seeds_agree(result: Result) -> dict[str, float]:
    """Mean CKA of corresponding layers of two seeds of each objective."""
    data = result.data["shapes"]
    return {str(name).partition(",")[0]: float(np.diagonal(values.values).mean()) for name, values in data.items()}


def controls(result: Result) -> dict[str, tuple[float, float, float]]:
    """Estimate and interval of every claim's comparison with a supervised encoder as accurate as SimCLR."""
    verdicts = result.facts["verdicts"]
    name = CONTROLS[MATCHED]
    return {v["claim"]: tuple(v["controls"][name]) for v in verdicts if name in v["controls"]}


def statements(result: Result) -> dict[str, bool]:
    """Every statement of the published text with its truth; the build stops at one that is false."""
    verdict, beside, board = kinds(result), controls(result), checkerboards(result)
    estimate = {v["claim"]: v["estimate"] for v in result.facts["verdicts"]}
    near, odd_even = result.data["objectives_map"]["map"], shared(result)
    offsets = mean_lags(result)

    def similarity(a: str, b: str) -> float:
        return float(near.sel(network=a, network_b=b))

    similarities = result.data["layer_similarity"]
    deep = similarities.untrained.isel(layer=slice(5, None), layer_b=slice(5, None))  # from the second stage on
    views = result.data["invariance"].views.isel(group=-1).mean("seed")
    along = result.data["training"]
    parted = along.to_supervised.sel(objective=SSL)
    bounds, chance = (similarities[name].sel(objective=SSL) for name in ("interval", "null"))
    above = bounds.isel(bound=0).values.diagonal() - chance.isel(bound=1).values.diagonal()
    shuffled = result.data["estimates"].null.mean("layer")
    every = result.data["indices"].similarity
    indices, gap = every.sel(objective=SL), every.sel(objective=MATCHED) - every.sel(objective=SSL)
    agreement, (early, last) = seeds_agree(result), gaps(result)
    begins = [along.own.sel(objective=name).isel(step_b=-1, step=0) for name in (SL, SSL)]
    ends = [along.own.sel(objective=name).isel(step_b=-1, step=1) for name in (SL, SSL)]
    return {
        "layers correspond between seeds, and only supervised networks have a checkerboard": verdict["C2"]
        == "replicated"
        and verdict["C1"] == "absent"
        and float(board[SL].min()) > 0.02 > float(board[SSL].max()),
        "sums of blocks are more alike than branches, between seeds as between objectives": verdict["C3"]
        == "replicated"
        and beside["C3"][1] > 0
        and odd_even[SSL][1] > odd_even[SSL][0] + 0.1
        and odd_even[SL][1] > odd_even[SL][0] + 0.05
        and abs((odd_even[SL][0] - odd_even[SSL][0]) - (odd_even[SL][1] - odd_even[SSL][1])) < 0.03,
        "every layer of the two networks is far more alike than chance": float(above.min()) > 0.2,
        "without the correction, networks look alike on unrelated images even with hundreds to a minibatch": float(
            shuffled.sel(kind="biased", size=256)
        )
        > 0.2
        and float(abs(shuffled.sel(kind="unbiased")).max()) < 0.02,
        "between supervised seeds, indices that weigh directions by variance stay high where CCA falls": all(
            float(indices.sel(index=name).min()) > 0.75 for name in ("linear CKA", "RBF CKA", "Procrustes", "RSA")
        )
        and float(indices.sel(index="CCA").isel(block=-1)) < 0.4,
        "by variance SimCLR is further from supervised networks than one that was stopped early": float(
            gap.sel(index=["linear CKA", "RBF CKA", "Procrustes", "RSA"]).min()
        )
        > 0
        and float(abs(gap.sel(index=["CCA", "SVCCA"])).max()) < 0.05,
        "two seeds of SimCLR agree more closely than two supervised ones": agreement[SSL] > agreement[SL],
        "sums fall behind most at the end": last > 1.5 * early,
        "residual branches of supervised networks that were stopped early are hardly more alike": abs(
            odd_even[MATCHED][0] - odd_even[SSL][0]
        )
        < 0.1,
        "accuracy does not explain what residual branches do not share": beside["C3"][0] > 0.75 * estimate["C3"],
        "the finished supervised network is as invariant as SimCLR's": float(
            abs(views.sel(objective=SL) - views.sel(objective=SSL))
        )
        < 0.02,
        "beyond the first stage trained networks are unlike untrained ones": float(deep.max()) < 0.35,
        "the stem changes least": all(
            float(at.sel(group="stem")) > float(at.drop_sel(group="stem").max()) for at in (*begins, *ends)
        ),
        "deep layers part first and come nearer again": float(parted.sel(group="pool").isel(step=2))
        < float(parted.sel(group="pool").isel(step=-1))
        < float(parted.sel(group="stem").isel(step=-1)),
        "RotNet is unlike all others": max(similarity("rotnet", n) for n in ("moco", SSL, SL, "supcon", MATCHED)) < 0.5,
        "sums are shared most in early layers": verdict["C4"] == "replicated" and beside["C4"][1] > 0,
        "SimCLR's layers come early, not late": verdict["C5"] == "reversed",
        "mostly in branches, and those of supervised networks stopped early come late": offsets[SSL][0]
        < offsets[SSL][1]
        < 0
        < sum(offsets[MATCHED]),
        "at equal accuracy SimCLR is the more invariant, supervised features are the nearer to the classes": verdict[
            "C6"
        ]
        == verdict["C7"]
        == "replicated"
        and beside["C7"][1] > 0,
        "four fifths of the class simplex go with accuracy": 0.15 < beside["C7"][0] / estimate["C7"] < 0.25,
        "MoCo v2 learns what SimCLR learns, SupCon what supervised training learns": similarity("moco", SSL) > 0.8
        and similarity("supcon", SL) == max(similarity(n, SL) for n in ("moco", SSL, "rotnet", "supcon", MATCHED)),
    }
