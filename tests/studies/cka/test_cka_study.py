import json
import re
from html import unescape

import numpy as np
import pytest
import torch

from sslnb.core.claims import NOT_REPLICATED, NOT_TESTED, REPLICATED, UNDECIDED, interval
from sslnb.core.flat import Result
from sslnb.data.images import at_most
from sslnb.encoders.load import save_encoder
from sslnb.encoders.resnet import resnet, untrained
from sslnb.features.layers import channel_means
from sslnb.metrics.cka import centred_gram, cka_matrix, linear_cka
from sslnb.studies.cka import Parameters, explorers, figures, tables
from sslnb.studies.cka.claims import CLAIMS, decide_all, per_seed
from sslnb.studies.cka.maps import (
    across,
    between_seeds,
    group_ends,
    lag,
    matched_checkerboard,
    own,
    pairs,
    parities,
    stage,
)
from sslnb.studies.cka.steps import Study
from sslnb.training.cache import cached_checkpoints, cached_pretrain

TINY = {
    "others": ("vicreg",),
    "width": 4,
    "wide": 8,
    "steps": 6,
    "checkpoints": (3,),
    "map_steps": 6,
    "batch_size": 32,
    "limit": 200,
    "probe_limit": 100,
    "test_limit": 96,
    "gram_batch": 24,
    "batch_sizes": (8, 24),
    "estimate_images": 72,
    "index_images": 64,
    "permutations": 6,
    "rounds": 6,
    "neighbours": 3,
}
GROUPS = ["stem", "layer1", "layer2", "layer3", "layer4", "pool"]
FIGURES = ("within", "between", "lags", "bounds", "groups", "objectives", "training", "shapes", "estimates", "indices")
TABLES = ("checkerboard", "networks", "panels_in_numbers", "closeness", "map_networks")


@pytest.fixture(scope="module")
def study(cache: None, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A whole study of two seeds, with somebody's deeper encoder beside its own."""
    given = tmp_path_factory.mktemp("given") / "mine.pt"
    save_encoder(untrained(5, 34, width=4, stem="imagenet"), given)
    study = Study(Parameters.of("quick", **TINY, encoder=f"checkpoint:{given}"))
    study.run()
    return study


@pytest.mark.parametrize("profile", ["quick", "small", "paper", "published"])
def test_every_profile_is_complete(profile: str) -> None:
    assert Parameters.of(profile).profile == profile


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": "simcr"}, "objectives: expected one of .*did you mean 'simclr'"),
        ({"objectives": "supervised"}, "objectives: expected one of"),
        ({"others": "simclr"}, "others: expected names that are not among objectives"),
        ({"checkpoints": (50, 150)}, "checkpoints: expected ascending values below 150"),
        ({"batch_sizes": (3, 8)}, "batch_sizes: expected values of at least 4"),
        ({"batch_sizes": (8, 4)}, "batch_sizes: expected ascending values below"),
        ({"gram_batch": 3}, "gram_batch: expected at least 4"),
        ({"test_limit": 200}, "test_limit: expected at least 1024 images, for gram_batch, estimate_images"),
        ({"objectives": "cmc"}, "objectives: expected one of"),
        ({"deep": 18}, "deep: expected another depth than 18"),
        ({"wide": 8}, "wide: expected another width than 8"),
        ({"neighbours": 1000}, "neighbours: expected fewer than the 1000"),
        ({"seeds": (0, 0)}, "seeds: expected distinct"),
        ({"map_stem": "cifr"}, "map_stem: expected one of"),
        ({"deep": 19}, "depth: expected 18, 34 or 50"),
        ({"rounds": 1}, "rounds: expected at least 2"),
        ({"temperature": 0.0}, "temperature: expected"),
    ],
)
def test_what_can_not_be_run_is_refused_before_anything_is_trained(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Parameters.of("quick", **changes)


def test_too_few_test_images_and_encoders_of_other_channels_are_refused_before_training(cache, tmp_path) -> None:
    with pytest.raises(ValueError, match="the test split of digit-scenes:scenes=60: expected at least 72 images"):
        Study(
            Parameters.of("quick", **TINY | {"dataset": "digit-scenes:scenes=60", "test_limit": None})
        ).representations()
    with pytest.raises(ValueError, match="index_images: expected more than the 32 channels of the last layer and one"):
        Study(Parameters.of("quick", **TINY | {"index_images": 33})).representations()
    save_encoder(untrained(0, width=4, in_channels=1), tmp_path / "grey.pt")
    with pytest.raises(ValueError, match="encoder: expected one for 3 channels, got 1"):
        Study(Parameters.of("quick", **TINY, encoder=f"checkpoint:{tmp_path / 'grey.pt'}")).representations()


def test_the_study_measures_every_pair_of_networks(study: Study) -> None:
    a, s = study.result.arrays, study.result.scalars
    layers, groups = len(s["layers"]), len(GROUPS)
    assert s["methods"] == ["supervised", "simclr"] and a["cka"].shape == (2, 2, 2, 2, layers, layers)
    assert a["views"].shape == a["simplex"].shape == (2, 2, groups)
    assert a["training"].shape == (2, 3, 3, groups) and a["shape/0/another depth"].shape == (layers, 34)
    assert a["estimate"].shape == (2, 3, layers, layers) and s["map"][-1] == "labels"
    for name, array in a.items():
        if np.issubdtype(array.dtype, np.floating):
            assert np.isfinite(array).all(), name
    assert {claim["claim"] for claim in s["claims"]} == set(CLAIMS)
    assert set(study.result.provenance["seconds"]) == set(Study.steps())


def test_blocks_of_the_result_are_where_its_names_say(study: Study) -> None:
    p, a = study.parameters, study.result.arrays
    for m, s, n, t in ((0, 0, 1, 1), (1, 0, 1, 1), (0, 1, 0, 1), (1, 1, 0, 0)):
        one, other = study.networks[m, s], study.networks[n, t]
        expected = cka_matrix(one, other, study.test.images, batch_size=p.gram_batch).values
        np.testing.assert_allclose(a["cka"][m, s, n, t], expected, atol=1e-5)
    untrained_one = cka_matrix(study.networks[1, 1], study._untrained(), study.test.images, batch_size=p.gram_batch)
    np.testing.assert_allclose(a["untrained"][1, 1], untrained_one.values, atol=1e-5)
    given = cka_matrix(study.supplied, study.networks[1, 0], study.test.images, batch_size=p.gram_batch)
    np.testing.assert_allclose(a["given"][1], given.values, atol=1e-5)
    last = study.encoders[1]
    groups = [study.result.scalars["layers"][i] for i in group_ends(study.result.scalars["layers"])[1]]
    how = {"layers_a": groups, "layers_b": groups, "batch_size": p.gram_batch}
    ends = cka_matrix(last[3], last[6], study.test.images, **how)
    np.testing.assert_allclose(a["training"][1, 1, 2], ends.values.diagonal(), atol=1e-5)
    same = cka_matrix(study.encoders[0][3], last[3], study.test.images, **how)
    np.testing.assert_allclose(a["training_across"][0, 1], same.values.diagonal(), atol=1e-5)
    shaped = cached_pretrain(p.mapped("simclr", 0, len(study.source), width=8), study.source).encoder
    base = cached_pretrain(p.mapped("simclr", 0, len(study.source)), study.source).encoder
    wide = cka_matrix(base, shaped, study.test.images, batch_size=p.gram_batch)
    np.testing.assert_allclose(a["shape/1/another width"], wide.values, atol=1e-5)
    place = study.result.scalars["map"].index("simclr"), study.result.scalars["map"].index("vicreg")
    vicreg = cached_pretrain(p.mapped("vicreg", 0, len(study.source)), study.source).encoder
    pooled = cka_matrix(base, vicreg, study.test.images, layers_a=["pool"], layers_b=["pool"], batch_size=p.gram_batch)
    assert a["map"][place] == pytest.approx(float(pooled.values), abs=1e-4)


def test_networks_of_one_seed_begin_alike_and_are_not_compared(study: Study) -> None:
    """Their common first weights would count as similarity of what they learned."""
    begun = cached_checkpoints(study.parameters.config("simclr", 0, len(study.source), steps=1), study.source, [1])
    same, other = study._untrained(0), study._untrained()
    first = begun.encoders[1].stem[0].weight.detach().flatten()
    alike = [np.corrcoef(first, one.stem[0].weight.detach().flatten())[0, 1] for one in (same, other)]
    assert alike[0] > 0.99 > 0.3 > abs(alike[1])
    cka = study.result.arrays["cka"]
    np.testing.assert_allclose(across(cka, 1).mean(0), (cka[0, 0, 1, 1] + cka[0, 1, 1, 0]) / 2)


def test_views_are_of_the_same_images(study: Study) -> None:
    p, views = study.parameters, study.result.arrays["views"]
    assert views.shape == (2, 2, len(GROUPS)) and (views[..., 0] > 0.2).all() and (views < 1).all()
    shifted = cka_matrix(
        study.networks[0, 0], study.networks[0, 0], study.test.images, layers_a=["stem"], layers_b=["stem"],
        batch_size=p.gram_batch,
    )  # fmt: skip
    assert float(shifted.values) == pytest.approx(1, abs=1e-6)


def test_a_set_that_is_sorted_by_class_is_taken_in_random_order(cache, tmp_path) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 40)
    images = rng.integers(0, 60, (160, 16, 16, 3)) + 60 * (labels[:, None, None, None] % 4)
    np.savez(tmp_path / "sorted.npz", train_images=images.astype(np.uint8), train_labels=labels,
             test_images=images.astype(np.uint8), test_labels=labels)  # fmt: skip
    changes = {"dataset": f"npz:{tmp_path / 'sorted.npz'}", "test_limit": None, "others": ("cmc",), "seeds": (0,)}
    study = Study(Parameters.of("quick", **TINY | changes))
    result = study.run()
    assert len(study.test.labels[: study.parameters.gram_batch].unique()) == 4
    assert result.arrays["simplex"][0, 0, 0] > 0.3  # brightness is the class; in batches of one class it could not show
    assert "cmc" in result.scalars["map"]


def test_intervals_and_nulls_surround_what_they_are_of(study: Study) -> None:
    a = study.result.arrays
    low, high = a["interval"][1]
    assert (low <= high).all() and a["null"].shape == a["interval"].shape
    inside = (a["cka"][0, 0, 1, 1] >= low - 0.05) & (a["cka"][0, 0, 1, 1] <= high + 0.05)
    assert inside.mean() > 0.9
    assert a["null"][1, 0].mean() < 0.05 < a["cka"][0, 0, 1, 1].mean()


def test_labels_stand_beside_the_layers(study: Study) -> None:
    network, p = study.networks[0, 1], study.parameters
    one_hot = torch.nn.functional.one_hot(study.test.labels, 10).float()
    sums = np.zeros(3)
    for part, labels in zip(study.test.images.split(p.gram_batch), one_hot.split(p.gram_batch), strict=True):
        x = channel_means(network, part, ("pool",))["pool"]
        k, other = centred_gram(x), centred_gram(labels)
        sums += [float((k * other).sum()), float((k * k).sum()), float((other * other).sum())]
    assert study.result.arrays["simplex"][0, 1, -1] == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]), abs=1e-5)


def test_indices_are_those_of_channel_means(study: Study) -> None:
    s = study.result.scalars
    chosen = at_most(study.test, study.parameters.index_images).images
    x, y = (channel_means(study.networks[cell], chosen, ("layer3.1",))["layer3.1"] for cell in ((0, 0), (1, 1)))
    where = s["index_pairs"].index("simclr"), s["indices"].index("linear CKA"), s["index_layers"].index("layer3.1")
    assert study.result.arrays["indices"][where] == pytest.approx(float(linear_cka(x, y)), abs=1e-5)


def test_neighbours_are_nearest_and_never_the_image_itself(study: Study) -> None:
    a = study.result.arrays
    assert a["nearest"].shape == (2, len(study.result.scalars["layers"]), len(a["queries"]), 3)
    assert not (a["nearest"] == a["queries"][:, None]).any()
    assert a["nearest"].max() < len(a["pictures"]) == len(a["picture_labels"])
    x = channel_means(study.networks[0, 0], study.test.images, ("pool",))["pool"]
    unit = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    likeness = (unit @ unit[0]).index_fill(0, torch.tensor([0]), -2)
    nearest = study.test.images[likeness.argmax()].numpy()
    assert (a["pictures"][a["nearest"][0, -1, 0, 0]] == nearest).all()


def test_one_seed_decides_nothing_but_draws_everything(cache) -> None:
    changes = {"seeds": (0,), "others": (), "checkpoints": (), "encoder": None}
    result = Study(Parameters.of("quick", **TINY | changes)).run()
    assert {claim["verdict"] for claim in result.scalars["claims"]} == {NOT_TESTED}
    for name in FIGURES:
        assert getattr(figures, name)(result).axes
    assert result.scalars["shapes"] == ["another depth", "another width"]


def test_two_objectives_are_two_comparisons(cache) -> None:
    result = Study(Parameters.of("quick", **TINY | {"objectives": ("simclr", "byol"), "others": ()})).run()
    assert [part["of"] for part in result.scalars["claim_parts"] if part["claim"] == "C6"] == ["SimCLR", "BYOL"]
    for name in FIGURES:
        assert getattr(figures, name)(result).axes


def test_figures_and_tables_show_the_result_as_it_was_saved(study: Study, tmp_path) -> None:
    study.result.save(tmp_path / "saved")
    again = Result.load(tmp_path / "saved")
    for name in FIGURES:
        assert getattr(figures, name)(again).axes
    for name in TABLES:
        text = getattr(tables, name)(again).data
        assert text == getattr(tables, name)(study.result).data and not re.search(r"\bnan\b", text)
    assert figures.supplied_encoder(again).axes


def test_the_live_explorer_answers_clicks_and_choices(study: Study) -> None:
    box = explorers.explore_layers(study.result)
    rows, columns, parity, grid, said, query, image = box.children
    layers, cka = study.result.scalars["layers"], study.result.arrays["cka"]
    assert len(grid.children) == len(layers) ** 2
    cell = grid.children[2]  # third of the top row: the last layer against the third
    assert cell.tooltip == f"{layers[-1]} × {layers[2]}: {cka[0, 0, 1, 0, -1, 2]:.3f}"
    before = image.value
    cell.click()
    assert said.value.startswith(f"{layers[-1]} (row) × {layers[2]} (column)") and image.value != before
    before = image.value
    query.value = 1
    assert image.value != before
    parity.value = "odd"
    assert len(grid.children) == len(parities(layers)[0]) ** 2
    columns.value = (0, 1)
    assert grid.children[0].tooltip == f"{layers[-3]} × {layers[1]}: {cka[0, 0, 0, 1, -3, 1]:.3f}"
    rows.value = (1, -1)
    assert "layer" in said.value


def test_means_over_seeds_leave_out_a_network_with_itself(study: Study) -> None:
    cka = study.result.arrays["cka"]
    mean = explorers.similarities(study.result, (0, -1), (0, -1))
    np.testing.assert_allclose(mean, (cka[0, 0, 0, 1] + cka[0, 1, 0, 0]) / 2)
    both = explorers.similarities(study.result, (0, -1), (1, 0))
    np.testing.assert_allclose(both, cka[0, :, 1, 0].mean(0))


def test_the_static_explorer_holds_its_numbers(study: Study) -> None:
    text = explorers.browse_layers(study.result).data
    facts = json.loads(unescape(re.search(r'data-facts="([^"]*)"', text).group(1)))
    np.testing.assert_allclose(facts["cka"], study.result.arrays["cka"], atol=6e-4)
    assert facts["layers"] == study.result.scalars["layers"] and len(facts["labels"]) == len(
        study.result.arrays["pictures"]
    )
    assert "data:image/jpeg;base64," in text


# --- claims ---------------------------------------------------------------------------------------------------------

LAYERS = list(resnet(18, width=2).layer_names)


def made_up(**changes: object) -> Result:
    """A result on which every claim holds, of three seeds."""
    rng = np.random.default_rng(0)
    odd, even = parities(LAYERS)
    n = len(LAYERS)
    parity = np.zeros(n, int)
    parity[odd] = 1
    same = parity[:, None] == parity
    near = np.exp(-np.abs(np.arange(n)[:, None] - np.arange(n)) / 4)
    base = 0.3 + 0.2 * same + 0.3 * near * same
    cka = np.tile(base, (2, 3, 2, 3, 1, 1))
    lagging = base.copy()
    depth = np.arange(n)
    lagging[odd[:, None], odd] = 0.1
    # even layers of SL find their match two layers (one block) later, less so in late ones
    for i in even:
        lagging[i, even] = 0.3 + 0.3 * np.exp(-np.abs(depth[even] - i - 1.2) / 2) - 0.01 * i
    for i in odd:
        lagging[i, odd] = 0.1 + 0.1 * np.exp(-np.abs(depth[odd] - i - 4) / 2)
        lagging[i, even] = 0.3 + 0.05 * np.exp(-np.abs(depth[even] - i - 4) / 2)  # for the best of all layers
    cka[0, :, 1] = lagging
    cka[1, :, 0] = lagging.T
    cka += 0.001 * rng.standard_normal(cka.shape)
    views = np.full((2, 3, len(GROUPS)), 0.4) + 0.001 * rng.standard_normal((2, 3, len(GROUPS)))
    simplex = views.copy()
    views[1] += 0.4
    simplex[0] += 0.4
    scalars = {"methods": ["supervised", "simclr"], "layers": LAYERS}
    # Offsets are whole layers and may be equal for all seeds: their spread is that over images.
    drawn = {f"drawn/C5/SimCLR, {kind}": 0.01 * rng.standard_normal(20) for kind in ("even", "odd")}
    return Result("cka", {}, scalars, {"cka": cka, "views": views, "simplex": simplex} | drawn | changes)


def spoiled(claim: str) -> Result:
    """The same without what one claim says."""
    result = made_up()
    cka, (odd, even) = result.arrays["cka"].copy(), parities(LAYERS)
    grid = np.ix_
    if claim == "C1":
        cka[1, :, 1][..., odd[:, None], even] += 0.5
    elif claim == "C2":
        for s in range(3):
            for t in range(3):
                if s != t:
                    noise = 0.001 * np.random.default_rng(s + t).standard_normal()
                    cka[1, s, 1, t][grid(odd, odd)] = 0.5 - (0.2 + noise) * np.eye(len(odd))
    elif claim == "C3":
        cka[0, :, 1][..., odd, odd] += 0.9
    elif claim == "C4":
        cka[0, :, 1][..., even[4:], even[4:]] += 0.5
    elif claim == "C5":
        cka[0, :, 1] = np.moveaxis(cka[0, :, 1], -1, -2).copy()
    arrays = {"cka": cka}
    if claim in ("C6", "C7"):
        name = {"C6": "views", "C7": "simplex"}[claim]
        arrays = {name: result.arrays[name][::-1]}
    return made_up(**arrays)


def test_every_claim_is_replicated_where_every_part_holds() -> None:
    verdicts, parts = decide_all(made_up())
    assert {v.claim: v.verdict for v in verdicts} == dict.fromkeys(CLAIMS, REPLICATED)
    assert [part["of"] for part in parts if part["claim"] == "C2"] == [
        *("Supervised, odd", "Supervised, even", "SimCLR, odd", "SimCLR, even")
    ]


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_fails_without_what_it_says(claim: str) -> None:
    verdicts, _ = decide_all(spoiled(claim))
    assert next(v.verdict for v in verdicts if v.claim == claim) == NOT_REPLICATED


def test_pairs_of_networks_are_not_independent() -> None:
    """Effects of three seeds that are means over pairs would be too narrow: their pseudo-values spread as seeds do."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        own = rng.standard_normal(3)
        values = np.array([own[s] + own[t] for s, t in pairs(3)])
        _, low, high = interval(per_seed(values, 3))
        covered += low <= 0 <= high
    assert covered / 400 > 0.92
    np.testing.assert_allclose(per_seed(values, 3).mean(), values.mean())
    assert np.isnan(per_seed(np.ones(2), 2)).all()


def test_the_choice_of_images_widens_the_interval() -> None:
    wide = made_up(**{"drawn/C6/SimCLR": np.linspace(-1, 1, 50)})
    before, after = (next(v for v in decide_all(r)[0] if v.claim == "C6") for r in (made_up(), wide))
    assert after.effect == before.effect and after.high - after.low > 10 * (before.high - before.low)
    assert after.verdict == UNDECIDED


def test_parts_of_the_maps() -> None:
    cka = made_up().arrays["cka"]
    assert own(cka, 1).shape == (3, 18, 18)
    np.testing.assert_allclose(own(cka, 1)[2], cka[1, 2, 1, 2])
    assert pairs(3) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] and pairs(1) == [(0, 0)]
    np.testing.assert_allclose(between_seeds(cka, 0)[3], cka[0, 1, 0, 2])
    np.testing.assert_allclose(across(cka, 1)[4], cka[0, 2, 1, 0])
    assert np.isnan(between_seeds(cka[:, :1, :, :1], 0)).all()
    np.testing.assert_allclose(across(cka[:, :1, :, :1], 1)[0], cka[0, 0, 1, 0])
    np.testing.assert_allclose(own(np.stack([cka, cka + 1]), 0)[1], own(cka, 0) + 1)
    shifted = np.eye(6)[:, [5, 0, 1, 2, 3, 4]]  # row i is greatest in column i + 1, the last in the first
    assert lag(shifted, np.arange(6)).tolist() == [1, 1, 1, 1, 1, -5]
    assert stage("model.layer1.0") == stage("layer1.0.residual") == "layer1" and stage("first.pool") == "pool"
    assert group_ends(LAYERS) == (
        GROUPS,
        [LAYERS.index(n) for n in ("stem", "layer1.1", "layer2.1", "layer3.1", "layer4.1", "pool")],
    )
    board = np.array([[0.9 - 0.1 * abs(i - j) + 0.2 * ((i - j) % 2 == 0) for j in range(8)] for i in range(8)])
    assert matched_checkerboard(board, np.arange(8)) == pytest.approx(0.2)
    odd, even = parities(LAYERS)
    assert [LAYERS[i] for i in odd[:2]] == ["layer1.0.residual", "layer1.1.residual"] and LAYERS[even[1]] == "layer1.1"


def test_a_recorded_result_is_one_of_the_study() -> None:
    published = Study(Parameters.of("published"))
    assert published.run() is published.result and published.result.study == "cka"
    a, s = published.result.arrays, published.result.scalars
    assert {claim["claim"] for claim in s["claims"]} == set(CLAIMS) and len(s["seeds"]) >= 3
    assert len(s["map"]) == 14 + 2  # every objective, an untrained network and the labels
    for name in FIGURES:
        getattr(figures, name)(published.result)
    apart = np.abs(a["estimate"][1] - a["estimate"][1, -1]).max((1, 2))
    assert apart[s["estimate_sizes"].index(256)] <= 1e-2
    assert apart[s["estimate_sizes"].index(512)] < apart[s["estimate_sizes"].index(32)]
