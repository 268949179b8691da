"""The study of layers on a small pool: its datasets fit together, and its claims are decided as stated."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from sslnb.core.claims import Kind
from sslnb.core.result import Result
from sslnb.encoders import resnet, save_encoder
from sslnb.encoders.resnet import untrained
from sslnb.features.layers import channel_means
from sslnb.metrics.cka import centred_gram, cka_matrix, linear_cka
from sslnb.pool.members import Scale, Variant
from sslnb.studies.cka import STUDY, explorers, figures, findings, tables
from sslnb.studies.cka.claims import CLAIMS, effect, per_seed, verdicts
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
from sslnb.studies.study import Run

SHARED = {"width": 4, "stem": "imagenet", "epochs": 2, "batch_size": 50, "flip": 0.0, "crop_scale": 0.5}
TINY = {
    "pool": "tiny",
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
TABLES = ("checkerboard", "panels_in_numbers", "closeness")


@pytest.fixture(scope="module")
def study(train_pool: Callable[[Scale], Path]) -> Run:
    """A whole study of three seeds, with somebody's deeper encoder beside the pool's."""
    variants = {"supervised": Variant(3), "simclr": Variant(3), "vicreg": Variant(1)}
    variants["simclr_wide"] = Variant(1, "simclr", {"width": 8})
    folder = train_pool(Scale("tiny", "digit-scenes", SHARED, variants, limit=200, halvings=1))
    save_encoder(untrained(5, 34, width=4, stem="imagenet"), folder / "mine.pt")
    run = STUDY.start(STUDY.parameters.of(**TINY, encoder=f"checkpoint:{folder / 'mine.pt'}"))
    run.all()
    return run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gram_batch": 3}, "gram_batch: expected at least 4"),
        ({"neighbours": 1000}, "neighbours: expected"),
        ({"rounds": 1}, "rounds: expected at least 2"),
        ({"compared": "simclr,simclr"}, "compared: expected distinct"),
        ({"compare": "simclr"}, "did you mean 'compared'"),
    ],
)
def test_what_can_not_be_run_is_refused_before_anything_starts(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        STUDY.parameters.of(**changes)


def test_too_few_test_images_unknown_objectives_and_other_channels_are_refused(study, tmp_path) -> None:
    asked = TINY | {"test_limit": 60, "gram_batch": 31}
    with pytest.raises(ValueError, match="gram_batch: expected at most 30, as many as there are, got 31"):
        STUDY.start(STUDY.parameters.of(**asked)).step("layer_similarity")
    few = {f"{split}_images": np.zeros((2, 32, 32, 3), np.uint8) for split in ("train", "val", "test")}
    few |= {f"{split}_labels": np.arange(2) for split in ("train", "val", "test")}
    np.savez(tmp_path / "few.npz", **few)
    with pytest.raises(ValueError, match=r"dataset: expected at least 8 images to compare, got 6"):
        STUDY.start(STUDY.parameters.of(**TINY | {"dataset": f"npz:{tmp_path / 'few.npz'}"})).step("layer_similarity")
    with pytest.raises(ValueError, match=r"compared: expected one of .*got 'byol'"):
        STUDY.start(STUDY.parameters.of(**TINY, compared="byol")).step("layer_similarity")
    save_encoder(untrained(0, width=4, in_channels=1), tmp_path / "grey.pt")
    grey = STUDY.parameters.of(**TINY, encoder=f"checkpoint:{tmp_path / 'grey.pt'}")
    with pytest.raises(ValueError, match="encoder: expected images of 1 channels, got 3"):
        STUDY.start(grey).step("layer_similarity")


def test_a_preset_is_cut_to_the_images_that_there_are(study, tmp_path) -> None:
    """A dozen pictures: smaller minibatches, fewer estimates, indices of narrow blocks alone, and notes of it."""
    rng = np.random.default_rng(0)
    few = {f"{split}_images": rng.integers(0, 255, (4, 32, 32, 3), np.uint8) for split in ("train", "val", "test")}
    few |= {f"{split}_labels": np.arange(4) % 2 for split in ("train", "val", "test")}
    np.savez(tmp_path / "few.npz", **few)
    asked = {"pool": "tiny", "dataset": f"npz:{tmp_path / 'few.npz'}", "permutations": 3, "rounds": 3}
    run = STUDY.start(STUDY.parameters.of(**asked))
    result = run.all()
    assert list(result.data["estimates"]["size"].values) == [8, 12]
    assert list(result.data["indices"].block.values) == ["layer1.0", "layer1.1", "layer2.0", "layer2.1"]
    notes = " ".join(result.facts["notes"])
    assert "images of all splits are compared, since the test split has 4" in notes
    assert "gram_batch: 6, where 128 were asked for" in notes and "indices: without layer3.0" in notes
    for name in FIGURES:
        assert getattr(figures, name)(result)
    empty = result.data["indices"].isel(block=slice(0, 0))
    assert "say nothing" in figures.indices(Result("cka", {"indices": empty}, {})).data


def test_the_study_measures_every_pair_of_networks(study) -> None:
    data = study.result.data
    similarity = data["layer_similarity"]
    assert list(similarity.objective.values) == ["supervised", "simclr"] and similarity.sizes["seed"] == 3
    assert list(similarity.group.values) == GROUPS and list(data["objectives_map"].network.values)[-1] == "labels"
    assert "vicreg" in data["objectives_map"].network.values and similarity.sizes["own_layer"] == 34
    assert list(data["training"].step.values) == [0, 4, 8]
    assert set(data["shapes"].data_vars) == {
        "supervised, another seed",
        "simclr, another seed",
        "simclr, another width",
    }
    for name, dataset in data.items():
        for key, values in dataset.data_vars.items():
            if values.dtype.kind == "f" and name != "pretraining":
                assert bool(values.notnull().all()), (name, key)
    assert [v["claim"] for v in study.result.facts["verdicts"]] == list(CLAIMS)


def test_blocks_of_the_result_are_where_its_names_say(study) -> None:
    similarity, n = study.result.data["layer_similarity"], study.context.memory["networks"]
    how = {"batch_size": 24}
    for m, s, o, t in (("supervised", 0, "simclr", 1), ("simclr", 0, "simclr", 2), ("simclr", 1, "supervised", 0)):
        expected = cka_matrix(n.by_name[m, s], n.by_name[o, t], n.images.images, **how).values
        block = similarity.cka.sel(objective=m, seed=s, objective_b=o, seed_b=t)
        np.testing.assert_allclose(block, expected, atol=1e-5)
    expected = cka_matrix(n.by_name["simclr", 1], n.untrained, n.images.images, **how).values
    np.testing.assert_allclose(similarity.untrained.sel(objective="simclr", seed=1), expected, atol=1e-5)
    expected = cka_matrix(n.own, n.by_name["simclr", 0], n.images.images, **how).values
    np.testing.assert_allclose(similarity.own.sel(objective="simclr"), expected, atol=1e-5)
    pool, layers = study.context.pool, {"layers_a": n.group_layers, "layers_b": n.group_layers}
    early = cka_matrix(pool.encoder("simclr", 0, step=4), pool.encoder("simclr"), n.images.images, **layers, **how)
    own_run = study.result.data["training"].own.sel(objective="simclr", step=4, step_b=8)
    np.testing.assert_allclose(own_run, early.values.diagonal(), atol=1e-5)
    wide = cka_matrix(n.by_name["simclr", 0], pool.encoder("simclr_wide"), n.images.images, **how).values
    np.testing.assert_allclose(study.result.data["shapes"]["simclr, another width"], wide, atol=1e-5)
    pooled = {"layers_a": ["pool"], "layers_b": ["pool"]} | how
    expected = cka_matrix(n.by_name["simclr", 0], pool.encoder("vicreg"), n.images.images, **pooled).values
    assert float(study.result.data["objectives_map"]["map"].sel(network="simclr", network_b="vicreg")) == pytest.approx(
        float(expected), abs=1e-4
    )


def test_the_untrained_network_begins_like_no_trained_one(study) -> None:
    n, pool = study.context.memory["networks"], study.context.pool
    assert (n.untrained.stem[0].weight != pool.encoder("untrained", 0).stem[0].weight).any()


def test_intervals_nulls_and_labels(study) -> None:
    similarity, n = study.result.data["layer_similarity"], study.context.memory["networks"]
    low, high = similarity.interval.sel(objective="simclr")
    assert bool((low <= high).all())
    value = similarity.cka.sel(objective="supervised", seed=0, objective_b="simclr", seed_b=1)
    assert float(((value >= low - 0.05) & (value <= high + 0.05)).mean()) > 0.9
    one_hot = torch.nn.functional.one_hot(n.images.labels, 10).float()
    sums = np.zeros(3)
    for part, labels in zip(n.images.images.split(24), one_hot.split(24), strict=True):
        k, other = (
            centred_gram(x) for x in (channel_means(n.by_name["supervised", 1], part, ("pool",))["pool"], labels)
        )
        sums += [float((k * other).sum()), float((k * k).sum()), float((other * other).sum())]
    pooled = similarity.simplex.sel(objective="supervised", seed=1, group="pool")
    assert float(pooled) == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]), abs=1e-5)


def test_indices_and_neighbours_are_those_of_channel_means(study) -> None:
    n, data = study.context.memory["networks"], study.result.data
    images = n.images.take(64).images
    x, y = (
        channel_means(n.by_name[key], images, ("layer3.1",))["layer3.1"] for key in (("supervised", 0), ("simclr", 1))
    )
    value = data["indices"].similarity.sel(objective="simclr", index="linear CKA", block="layer3.1")
    assert float(value) == pytest.approx(float(linear_cka(x, y)), abs=1e-5)
    near = data["neighbours"]
    assert not bool((near.nearest == near.query_sample).any())
    x = channel_means(n.by_name["supervised", 0], n.images.images, ("pool",))["pool"]
    unit = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    likeness = (unit @ unit[0]).index_fill(0, torch.tensor([0]), -2)
    first = near.nearest.sel(objective="supervised", layer="pool").isel(query=0, rank=0)
    assert (near.picture[int(first)].values == n.images.images[likeness.argmax()].numpy()).all()


def test_figures_tables_and_explorers_show_the_result_as_it_was_saved(study, tmp_path) -> None:
    again = Result.load(study.result.save(tmp_path / "saved"))
    for name in FIGURES:
        assert getattr(figures, name)(again).axes
    for name in TABLES:
        assert getattr(tables, name)(again).data == getattr(tables, name)(study.result).data
    assert figures.supplied_encoder(again).axes


def test_the_live_explorer_answers_clicks_and_choices(study) -> None:
    box = explorers.explore_layers(study.result)
    _, columns, parity, grid, said, query, image = box.children
    similarity = study.result.data["layer_similarity"]
    layers, cka = list(similarity.layer.values), similarity.cka.values
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


def test_the_page_explorer_holds_its_numbers(study, tables_of) -> None:
    tables, similarity = tables_of(explorers.browse_layers(study.result)), study.result.data["layer_similarity"]
    layers = list(similarity.layer.values)
    for of, a in explorers._shown(study.result):
        for other, b in explorers._shown(study.result):
            rows = tables["similarity"][(tables["similarity"][["of", "with"]] == [of, other]).all(axis=1)]
            assert list(rows.row) == layers
            np.testing.assert_allclose(rows[layers], explorers.similarities(study.result, a, b), atol=6e-4)
    data = study.result.data["neighbours"]
    assert len(tables["pictures"]) == data.sizes["sample"]
    own = tables["neighbours"].query("layer == @layers[2] and network == 'SimCLR' and image.str.startswith('1:')")
    assert own["sample"].tolist() == [int(data.query_sample[0]), *data.nearest.sel(objective="simclr").values[2, 0]]
    mean = explorers.similarities(study.result, (0, -1), (1, 0))
    np.testing.assert_allclose(mean, similarity.cka.values[0, :, 1, 0].mean(0))


# --- claims -----------------------------------------------------------------------------------------------------------

LAYERS = list(resnet(18, width=2).layer_names)
NAMES = ["supervised", "simclr"]


def made_up(**changes: np.ndarray) -> dict[str, xr.Dataset]:
    """Datasets on which every claim holds, of three seeds."""
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
    for k, i in enumerate(even):  # even layers of SL find their match a block later, and are less alike in late ones
        lagging[i, even] = (0.8 - 0.05 * k) * np.exp(-np.abs(depth[even] - i - 2.2) / 6)
    for i in odd:
        lagging[i, odd] = 0.1 + 0.1 * np.exp(-np.abs(depth[odd] - i - 2.2) / 2)
    cka[0, :, 1] = lagging
    cka[1, :, 0] = lagging.T
    cka += 0.001 * rng.standard_normal(cka.shape)
    views = np.full((2, 3, len(GROUPS)), 0.4) + 0.001 * rng.standard_normal((2, 3, len(GROUPS)))
    simplex = views.copy()
    views[1] += 0.4
    simplex[0] += 0.4
    arrays = {"cka": cka, "views": views, "simplex": simplex} | changes
    pair = {"objective": NAMES, "seed": range(3), "layer": LAYERS}
    dims = ("objective", "seed", "objective_b", "seed_b", "layer", "layer_b")
    group = ("objective", "seed", "group")
    similarity = xr.Dataset(
        {"cka": (dims, arrays["cka"]), "simplex": (group, arrays["simplex"])},
        pair | {f"{key}_b": value for key, value in pair.items()},
    )
    # Offsets are whole layers and may be equal for all seeds: their spread is that over images.
    similarity["drawn_C5"] = "replicate", 0.01 * rng.standard_normal(20)
    pretraining = xr.Dataset(coords={"objective": NAMES, "learned": ("objective", [True, True])})
    invariance = xr.Dataset({"views": (group, arrays["views"])}, {"objective": NAMES, "seed": range(3)})
    return {"pretraining": pretraining, "layer_similarity": similarity, "invariance": invariance}


def spoiled(claim: str) -> dict[str, xr.Dataset]:
    """The same with the opposite of what one claim says."""
    data = made_up()
    cka, (odd, even) = data["layer_similarity"].cka.values.copy(), parities(LAYERS)
    if claim == "C1":
        cka[1, :, 1][..., odd[:, None], even] += 0.9
        cka[1, :, 1][..., even[:, None], odd] += 0.9
    elif claim == "C2":
        for s, t in pairs(3):
            for m in (0, 1):
                cka[m, s, m, t][np.arange(len(LAYERS)), np.arange(len(LAYERS))] = 0.1 + 0.001 * (s + 2 * t)
    elif claim == "C3":
        cka[0, :, 1][..., odd, odd] += 0.9
    elif claim == "C4":
        cka[0, :, 1][..., even[-3:], even[-3:]] += 0.9
    elif claim == "C5":
        cka[0, :, 1] = np.moveaxis(cka[0, :, 1], -1, -2).copy()
    arrays = {"cka": cka}
    if claim in ("C6", "C7"):
        name, part = {"C6": ("views", "invariance"), "C7": ("simplex", "layer_similarity")}[claim]
        arrays = {name: data[part][name].values[::-1].copy()}
    return made_up(**arrays)


def test_every_claim_is_replicated_where_it_holds() -> None:
    decided = {verdict.claim: verdict for verdict in verdicts(made_up())}
    assert {name: verdict.kind for name, verdict in decided.items()} == dict.fromkeys(CLAIMS, Kind.REPLICATED)
    assert decided["C6"].estimate == pytest.approx(0.4, abs=0.01) and decided["C5"].units == 3


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_is_reversed_where_the_opposite_holds(claim: str) -> None:
    decided = {verdict.claim: verdict.kind for verdict in verdicts(spoiled(claim))}
    assert decided[claim] == Kind.REVERSED


def test_networks_that_did_not_learn_decide_nothing() -> None:
    data = made_up()
    data["pretraining"].learned[1] = False
    assert {verdict.kind for verdict in verdicts(data)} == {Kind.NOT_TESTED}


def test_supervised_networks_as_accurate_decide_c6_where_the_pool_has_them() -> None:
    views = made_up()["invariance"].views.values
    three = {"views": np.concatenate([views, views[1:] - 0.1])}
    names = ["supervised", "simclr", "supervised_matched"]
    np.testing.assert_allclose(effect("C6", three, names, LAYERS), 0.1)


def test_pairs_of_networks_are_not_independent() -> None:
    """Effects of three seeds that are means over pairs would be too narrow: their pseudo-values spread as seeds do."""
    rng = np.random.default_rng(0)
    values = np.array([a + b for a, b in rng.standard_normal((6, 2))])
    np.testing.assert_allclose(per_seed(values, 3).mean(), values.mean())
    assert np.isnan(per_seed(np.ones(2), 2)).all()


def test_parts_of_the_maps() -> None:
    cka = made_up()["layer_similarity"].cka.values
    assert own(cka, 1).shape == (3, 18, 18)
    np.testing.assert_allclose(own(cka, 1)[2], cka[1, 2, 1, 2])
    assert pairs(3) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] and pairs(1) == [(0, 0)]
    np.testing.assert_allclose(between_seeds(cka, 0)[3], cka[0, 1, 0, 2])
    np.testing.assert_allclose(across(cka, 1)[4], cka[0, 2, 1, 0])
    np.testing.assert_allclose(across(cka, 0, 1)[4], cka[1, 2, 0, 0])
    assert np.isnan(between_seeds(cka[:, :1, :, :1], 0)).all()
    shifted = np.eye(6)[:, [5, 0, 1, 2, 3, 4]]  # row i is greatest in column i + 1, the last in the first
    assert lag(shifted, np.arange(6)).tolist() == [1, 1, 1, 1, 1, -5]
    assert stage("model.layer1.0") == stage("layer1.0.residual") == "layer1" and stage("first.pool") == "pool"
    ends = [LAYERS.index(name) for name in ("stem", "layer1.1", "layer2.1", "layer3.1", "layer4.1", "pool")]
    assert group_ends(LAYERS) == (GROUPS, ends)
    board = np.array([[0.9 - 0.1 * abs(i - j) + 0.2 * ((i - j) % 2 == 0) for j in range(8)] for i in range(8)])
    assert matched_checkerboard(board, np.arange(8)) == pytest.approx(0.2)


def test_a_recorded_result_is_one_of_the_study() -> None:
    published = STUDY.start(STUDY.parameters.of("published"))
    result = published.claims()
    assert [verdict["claim"] for verdict in result.facts["verdicts"]] == list(CLAIMS)
    trained = map(str, result.data["pretraining"].objective.values)
    assert set(result.data["objectives_map"].network.values) == {*trained, "labels"}
    for name in FIGURES:
        assert getattr(figures, name)(result).axes
    for name in TABLES:
        assert getattr(tables, name)(result).data
    assert all(findings.statements(result).values())
