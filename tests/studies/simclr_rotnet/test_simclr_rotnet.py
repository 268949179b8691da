"""The study of SimCLR and RotNet on a small grid: its datasets fit together, and its claims are decided as stated."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from sslnb.core.claims import Kind
from sslnb.core.result import Result
from sslnb.data import load
from sslnb.encoders import save_encoder
from sslnb.encoders.resnet import untrained
from sslnb.features.extract import as_float
from sslnb.pool import Pool, grids, runs, scales, train
from sslnb.pool.grids import grid
from sslnb.pool.members import Scale
from sslnb.studies.measures import features_of
from sslnb.studies.simclr_rotnet import STUDY, explorers, figures, findings, tables
from sslnb.studies.simclr_rotnet.claims import CLAIMS, knee, slope, verdicts, within
from sslnb.studies.simclr_rotnet.steps import SCORES, WAYS, _attacked, _to_tune
from sslnb.studies.simclr_rotnet.units import normalised
from sslnb.studies.study import RECORDED, Run

TINY = {
    "pool": "tiny-grid",
    "dataset": "digit-scenes",
    "probe_limit": 1500,
    "test_limit": 200,
    "probe_epochs": 15,
    "fractions": (0.05, 0.2),
    "tune_epochs": (2, 1),
    "budgets": 3,
    "attack_limit": 60,
    "attack_steps": 2,
}
DEPARTURES = ("cut", "per batch", "unpadded stem", "initialised")
TABLES = (
    *("ranking", "fractions", "strongest", "transfers", "transfer_batches", "architectures", "variants", "initialised"),
)
FIGURES = ("linear_over_steps", "linear_over_batches", "attacks", "transfer")


def tiny(**changes: object) -> grids.Grid:
    settings = {
        "dataset": "digit-scenes",
        "limit": 400,
        "seeds": 2,
        "steps": (2, 4),
        "batch_sizes": (8, 16),
        "middle": 8,
        "depths": (18, 34),
        "target": "digit-scenes:backgrounds=16",
        "elsewhere": "digit-scenes:contrast=0.6",
        "shared": {"width": 4, "stem": "imagenet", "crop_scale": 0.5, "flip": 0.0},
        "rates": {"simclr": 0.002, "rotnet": 0.002, "supervised": 0.05},
        "optimizers": {"simclr": "adam", "rotnet": "adam", "supervised": "sgd"},
        "options": {"temperature": 0.1, "jitter_strength": 0.1},
        "departures": DEPARTURES,
    }
    return grid("tiny-grid", **settings | changes)


@pytest.fixture(scope="module")
def pool(train_pool: Callable[[Scale], Path]) -> None:
    """A grid too short to learn anything."""
    train_pool(tiny())


@pytest.fixture(scope="module")
def study(pool: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole study, with somebody's encoder beside the grid's."""
    own = tmp_path_factory.mktemp("own") / "own.pt"
    save_encoder(untrained(7, width=4, stem="imagenet"), own)
    run = STUDY.start(STUDY.parameters.of("quick", **TINY, encoder=f"checkpoint:{own}"))
    run.all()
    return run


# --- the grid ---------------------------------------------------------------------------------------------------------


def test_the_learning_rate_is_the_same_for_every_batch_size_and_the_steps_end_every_run() -> None:
    plan = tiny()
    configs = [plan.members[f"simclr-b{size}/0"].config for size in (8, 16)]
    assert {c.learning_rate * c.batch_size / 256 for c in configs} == {0.002}
    config = plan.members["rotnet-b8/1"].config
    assert (config.schedule, config.warmup, config.weight_decay, config.seed) == ("constant", 0.0, 5e-4, 1)
    for member in plan.members.values():
        assert member.kept_steps(50) == (2, 4)
    assert plan.members["simclr-cut/0"].config.schedule == "cuts"
    assert plan.members["rotnet-per-batch/0"].config.options["per_batch"] is True
    assert plan.members["simclr-unpadded-stem/0"].config.stem == "unpadded"
    assert plan.members["simclr-deep/0"].config.depth == 34


def test_a_run_begins_with_the_encoder_of_another(pool: None) -> None:
    member = tiny().members["simclr-initialised/1"]
    assert member.initial.name == "supervised-elsewhere/1"
    own, plain = (runs.checkpoint(tiny().members[name]) for name in ("simclr-initialised/1", "simclr-b8/1"))
    assert own != plain and runs.checkpoint(member.initial).stem in own.stem
    given, random = (Pool("tiny-grid").encoder(name, 1, step=2) for name in ("simclr-initialised", "simclr-b8"))
    start = Pool("tiny-grid").encoder("supervised-elsewhere", 1)
    apart = [float((e.stem[0].weight - start.stem[0].weight).norm()) for e in (given, random)]
    assert apart[0] < 0.5 * apart[1]


def test_a_run_whose_start_is_not_trained_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path))
    monkeypatch.setenv("SSLNB_POOL", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"supervised-elsewhere/0: expected a finished run, .* got not begun"):
        runs.run(tiny(seeds=1).members["rotnet-initialised/0"])


def test_on_dask_a_run_waits_for_the_one_it_begins_with(tmp_path, monkeypatch) -> None:
    """The quick grid's own names, so that the workers know them."""
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path))
    monkeypatch.setenv("SSLNB_POOL", str(tmp_path / "none"))
    plan = tiny(seeds=1)
    order = []
    monkeypatch.setitem(scales.SCALES, "tiny-grid", plan)
    monkeypatch.setattr(train, "_on_dask", lambda plan, missing, *_: order.extend(m.name for m in missing) or {})
    train.train("tiny-grid")
    first = order.index("supervised-elsewhere/0")
    assert first < min(order.index(f"{o}-initialised/0") for o in ("simclr", "rotnet")) and len(order) == len(
        plan.members
    )


def test_the_small_grid_is_what_the_study_asks_for() -> None:
    plan = scales.SCALES["grid"]
    assert plan.batch_sizes == (32, 64, 128, 256, 512) and plan.steps[-1] >= 3000 and set(plan.depths) == {18, 50}
    assert {v.seeds for v in plan.variants.values()} == {3}
    assert plan.members["simclr-target/0"].dataset == "stl10" and plan.members["simclr-target/0"].split == "unlabeled"
    options = {name: v.options.get("view_size", 20) for name, v in plan.variants.items()}
    assert options["supervised"] is None and options["rotnet-b32"] == 20


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fractions": (0.1, 1.5)}, "fractions: expected at most 1"),
        ({"fractions": (0.1,)}, "tune_epochs: expected one for each of 1 fractions"),
        ({"fractions": (0.2, 0.1)}, "fractions: expected ascending"),
        ({"sizes": (32, 32)}, "sizes: expected distinct"),
        ({"tune_crop": 0.0}, "tune_crop: expected a value above 0"),
        ({"budgets": 1}, "budgets: expected at least 2"),
        ({"largest_budget": -0.1}, "largest_budget: expected a value above 0"),
        ({"pool": "quick"}, "pool: expected a grid of both objectives"),
        ({"pool": "gird"}, "did you mean 'grid'"),
        ({"tune_epoch": 5}, "parameter: expected one of .*did you mean 'tune_epochs'"),
    ],
)
def test_bad_parameters_are_refused_by_name(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        STUDY.parameters.of("quick", **changes)


def test_what_would_stop_the_study_later_is_refused(pool: None, tmp_path) -> None:
    def refuse(message: str, **changes: object) -> None:
        with pytest.raises(ValueError, match=message):
            STUDY.start(STUDY.parameters.of("quick", **TINY | changes)).step("linear")

    grey = {f"{split}_images": np.zeros((20, 28, 28), np.uint8) for split in ("train", "val", "test")}
    grey |= {f"{split}_labels": np.arange(20) % 2 for split in ("train", "val", "test")}
    np.savez(tmp_path / "grey.npz", **grey)
    refuse("target: expected images of 3 channels, got 1", target=f"npz:{tmp_path / 'grey.npz'}")
    refuse("fraction: expected at least one image of every class", fractions=(0.0001, 0.2))
    save_encoder(untrained(0, width=4, in_channels=1), tmp_path / "grey.pt")
    refuse("encoder: expected images of 1 channels, got 3", encoder=f"checkpoint:{tmp_path / 'grey.pt'}")
    refuse(r"largest_budget: expected at most \d\.\d+, from the darkest to the brightest", largest_budget=50.0)


def test_a_presets_shares_of_the_labels_are_cut_to_those_that_leave_an_image_in_every_class(pool: None) -> None:
    changes = {name: value for name, value in TINY.items() if name not in ("fractions", "tune_epochs")}
    few = STUDY.start(STUDY.parameters.of("quick", **changes | {"dataset": "digit-scenes:scenes=300"}))
    data = few.step("fractions")
    assert list(data.fraction.values) == [0.1]
    assert any(note.startswith("fraction: expected at least one image of every class") for note in few.context.notes)


# --- the study --------------------------------------------------------------------------------------------------------


def test_datasets_have_their_shapes_and_numbers_wherever_a_probe_learned_something(study: Run) -> None:
    data = study.result.data
    shapes = {
        "linear": {"accuracy": (2, 2, 2, 2, 4), "references": (3, 2, 4)},
        "fractions": {"tuned": (4, 2, 2, 4)},
        "attack": {"accuracy": (2, 2, 4, 2, 3, 2), "eps": (2, 3)},
        "transfer": {"over_steps": (2, 2, 2, 2, 4), "over_batches": (1, 2, 2, 4), "references": (1, 2, 2, 4)},
        "architectures": {"accuracy": (2, 2, 2, 4), "cost": (2, 2, 3, 3)},
        "published_code": {"accuracy": (5, 2, 2, 4), "transfer_cut": (2, 2, 4), "initialised": (3, 2, 2, 4)},
    }
    for step, variables in shapes.items():
        for name, shape in variables.items():
            values = data[step][name].values
            assert values.shape == shape, (step, name)
            known = values[np.isfinite(values)]
            assert len(known) and (name == "cost" or ((known >= 0) & (known <= 1)).all()), (step, name)
    assert data["fractions"].tuned.notnull().all() and data["attack"].accuracy.notnull().all()
    assert bool((data["fractions"].tuned.isel(score=slice(0, len(SCORES) - 1)).diff("score") >= 0).all())
    assert [verdict["claim"] for verdict in study.result.facts["verdicts"]] == list(CLAIMS)
    assert {verdict["kind"] for verdict in study.result.facts["verdicts"]} <= {*Kind}


def test_a_grid_that_is_trained_in_part_is_measured_where_it_is(pool: None) -> None:
    parameters = STUDY.parameters.of("quick", **TINY)
    part = STUDY.start(parameters, only=["simclr-b8/0", "rotnet-b8/0", "simclr-cut/0", "supervised/0"])
    data = part.all().data
    assert list(data["linear"].batch.values) == [8] == list(data["transfer"].batch.values)
    assert list(data["published_code"].departure.values) == ["plain", "cut"]
    assert data["fractions"].tuned.sel(begun="simclr").notnull().all()  # of the largest batch that there is
    with pytest.raises(ValueError, match=r"pool: expected a finished run of SimCLR or RotNet.* got only supervised"):
        STUDY.start(parameters, only=["supervised/0"]).step("linear")


def test_scores_are_of_the_encoders_that_their_places_say(study: Run) -> None:
    from sslnb.studies.simclr_rotnet.steps import _probe, _source

    encoder = study.context.pool.encoder("rotnet-b16", 1, step=2)
    own = study.result.data["linear"].accuracy.sel(objective="rotnet", batch=16, step=2, seed=1)
    np.testing.assert_allclose(own, _probe(study.context, encoder, _source(study.context), 1)[0])
    encoder = study.context.pool.encoder("simclr-target", 0)
    moved = study.result.data["transfer"].over_steps.sel(way=WAYS[1], begun="simclr", step=4, seed=0)
    np.testing.assert_allclose(moved, _probe(study.context, encoder, _source(study.context), 0)[0])


def test_budget_0_is_the_clean_accuracy_in_both_units_and_attacks_never_help(study: Run) -> None:
    accuracy = study.result.data["attack"].accuracy
    some = study.context.images("digit-scenes", "test", 200).take(60)
    for (method, fraction, seed), model in study.context.memory["tuned"].items():
        clean = float((features_of(model, some).argmax(1) == some.labels).double().mean())
        own = accuracy.sel(begun=method, fraction=fraction, seed=seed, budget=0)
        np.testing.assert_allclose(own, clean, atol=1e-9)
    assert bool((accuracy.sel(attack="pgd") <= accuracy.sel(attack="fgsm") + 1e-9).all())
    assert bool((accuracy.sel(attack="pgd").diff("budget") <= 1e-9).all())
    (method, fraction, seed), model = next(iter(study.context.memory["tuned"].items()))
    test = study.context.images("digit-scenes", "test", 200)
    exactly = _attacked(study.context, model, as_float(test.images), test.labels, torch.zeros(1), (0.0, 1.0), 0)
    tuned = study.result.data["fractions"].tuned.sel(begun=method, fraction=fraction, seed=seed, score="top1")
    assert exactly[:, 0] == pytest.approx(float(tuned), abs=1e-9)


def test_both_units_reach_as_far_on_average(study: Run) -> None:
    from sslnb.studies.simclr_rotnet.steps import normalisation

    std = normalisation(load("digit-scenes", "train"))[1]
    normalised, pixels = study.result.data["attack"].eps.values
    assert pixels == pytest.approx(normalised * float(std.mean()), rel=1e-5) and normalised[-1] == pytest.approx(0.275)


def test_the_normalised_model_is_the_model_and_its_bounds_hold_all_channels() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    mean, std, x = torch.tensor([0.2, 0.5, 0.4]), torch.tensor([0.1, 0.3, 0.2]), torch.rand(5, 3, 2, 2)
    seen, scaled, (low, high) = normalised(model, x, mean, std)
    torch.testing.assert_close(seen(scaled), model(x))
    assert (low, high) == (pytest.approx(-2.0), pytest.approx(8.0))
    assert low <= scaled.min() and scaled.max() <= high


def test_the_supervised_baseline_begins_from_random_weights(study: Run) -> None:
    a, b = (_to_tune(study.context, "supervised", seed) for seed in (0, 1))
    assert not torch.equal(a.stem[0].weight, b.stem[0].weight)
    assert _to_tune(study.context, "encoder", 0) is study.context.own


def test_examples_stay_within_their_budget_and_are_right_where_any_is(study: Run) -> None:
    data = study.result.data["attack"]
    moved = data.example_adversarial.values.astype(int) - data.example_image.values[None, :, None]
    for e, budget in enumerate(data.eps.sel(unit="pixel").values):
        assert np.abs(moved[:, :, e]).max() <= 255 * budget + 0.51  # they are rounded
    believed = data.example_believed.values
    assert np.nansum(believed, -1)[np.isfinite(believed[..., 0])] == pytest.approx(1, abs=1e-5)
    counts = (believed[:, :, 0].argmax(-1) == data.example_label.values).sum(0)
    assert 1 <= len(counts) <= 4 and (np.diff(counts) <= 0).all() and counts[0] >= 1


def test_figures_and_tables_show_the_result_as_it_was_saved(study: Run, tmp_path) -> None:
    again = Result.load(study.result.save(tmp_path / "saved"))
    for name in TABLES:
        text = getattr(tables, name)(again).data
        assert text == getattr(tables, name)(study.result).data and "nan" not in text
    for name in FIGURES:
        assert getattr(figures, name)(again).axes


def test_figures_have_their_lines(study: Run) -> None:
    over_steps = figures.linear_over_steps(study.result).axes
    assert len(over_steps) == 2 and all(len(ax.lines) == 2 + 3 for ax in over_steps)  # batch sizes, references
    assert len(figures.linear_over_batches(study.result).axes[0].lines) == 2 + 3
    attacks = figures.attacks(study.result).axes
    assert len(attacks) == 2 * 2 and all(len(ax.lines) == 4 + 1 for ax in attacks)  # attacks × fractions; chance
    assert [len(ax.lines) for ax in figures.transfer(study.result).axes] == [
        2 + 2,
        2 + 3,
        1 + 2,
    ]  # references: given encoder


def with_papers_names(study: Run) -> Result:
    data = dict(study.result.data)
    for step in ("fractions", "attack"):
        data[step] = data[step].assign_coords(fraction=[0.01, 0.5])
    data["transfer"] = data["transfer"].assign_attrs(source="cifar10", target="stl10")
    facts = study.result.facts | {"parameters": study.result.facts["parameters"] | {"dataset": "cifar10"}}
    return Result(study.result.study, data, facts)


def test_the_papers_numbers_stand_only_beside_its_own_data(study: Run) -> None:
    def rows(markdown: object) -> int:
        return len(markdown.lines.splitlines()) - 2

    result = study.result
    assert rows(tables.fractions(result)) == 2 * 4 and rows(tables.transfers(result)) == 2 * 2
    assert rows(tables.variants(result)) == 5 and rows(tables.initialised(result)) == 3
    assert "paper" not in tables.fractions(result).data + tables.transfers(result).data
    assert "paper" not in tables.transfer_batches(result).data and rows(tables.transfer_batches(result)) == 2
    there = with_papers_names(study)
    assert "(65.3)" in tables.fractions(there).data and "(47.5)" in tables.fractions(there).data
    assert "(69.7)" in tables.transfers(there).data and "| paper (96 px) |" in tables.transfer_batches(there).data
    text = tables.strongest(there).data
    assert rows(tables.strongest(there)) == 2 * 4 and "(21.5)" in text and "(7.1)" in text and "(84.7)" not in text
    assert "(" not in tables.strongest(result).data


def test_the_explorers_show_another_picture_for_another_choice(study: Run, tables_of) -> None:
    size, which, budget, image = explorers.explore_attack(study.result).children
    shown = [image.value]
    for control, value in ((budget, 2), (which, 1), (size, 0)):
        control.value = value
        assert image.value not in shown
        shown.append(image.value)
    data = study.result.data["attack"]
    tables = tables_of(explorers.browse_attack(study.result))
    attacked = tables["pictures"].query("part == 'attacked'")
    assert len(attacked) == data.sizes["sample"] * data.sizes["budget"]
    assert attacked.png.nunique() > data.sizes["sample"]  # a larger budget finds another picture, of some at least
    chosen = tables["believed"].query("image.str.startswith('1:') and when == 'after'")
    believed = 100 * data.example_believed.values[-1, 0]
    assert chosen.probability.values.reshape(believed.shape) == pytest.approx(believed, rel=1e-3, abs=1e-3)


def test_accuracy_under_attack_is_on_the_page_for_every_share_of_labels(study: Run, tables_of) -> None:
    data = study.result.data["attack"]
    table = tables_of(explorers.browse_labels(study.result))["accuracy"]
    assert len(table) == int(data.accuracy.notnull().sum()) and set(table.attack) == {"FGSM", "PGD"}
    own = table.query("attack == 'PGD' and unit == 'pixels, of 255' and seed == 0 and encoder == 'SimCLR'")
    cell = data.accuracy.sel(attack="pgd", unit="pixel", seed=0, begun="simclr")
    assert sorted(own.accuracy) == pytest.approx(sorted(100 * cell.values.ravel()), rel=1e-3)
    assert sorted(set(own.eps)) == pytest.approx(255 * data.eps.sel(unit="pixel").values, rel=1e-3, abs=1e-6)


# --- claims -----------------------------------------------------------------------------------------------------------

STEPS, SIZES, SEEDS = [250, 500, 1000, 2000, 3000, 4000], [32, 64, 128, 256], 3


def made_up(**changes: np.ndarray) -> dict[str, xr.Dataset]:
    """Datasets on which every claim holds, of three seeds."""
    rng = np.random.default_rng(0)

    def noisy(values: np.ndarray) -> np.ndarray:
        """Over seeds [..., S, score]."""
        whole = np.broadcast_to(values[..., None, None], (*values.shape, SEEDS, len(SCORES)))
        return whole + 0.001 * rng.standard_normal((*whole.shape[:-1], 1))

    grown = 0.4 + 0.02 * np.log2(np.array(SIZES) / 32)[:, None] + 0.02 * np.log2(np.array(STEPS) / 250)
    levelled = 0.3 + 0.05 * np.minimum(np.log2(STEPS), np.log2(2000)) - 0.05 * np.log2(250)
    tuned, robust = np.array([0.5, 0.6, 0.6])[:, None] * np.ones(2), np.ones((2, 2, 3, 2, 4)) * [0.8, 0.5, 0.3, 0.1]
    arrays = {
        "linear": noisy(np.stack([grown + 0.1, grown])),
        "references": noisy(np.array([0.3, 0.35])),
        "tuned": noisy(tuned),
        "robust": robust[..., None] + 0.001 * rng.standard_normal((*robust.shape, SEEDS)),
        "over_steps": noisy(np.stack([np.stack([levelled + 0.1, levelled])] * 2)),
        "over_batches": noisy(0.4 + 0.02 * np.arange(4)[None]),
        "architectures": noisy(np.array([[0.4, 0.5], [0.4, 0.5]])),
        "cost": np.array([0.2, 0.1])[:, None, None, None] * (1 + 0.01 * rng.standard_normal((2, 2, 3, 3))),
        "cut": noisy(levelled),
        "initialised": noisy(tuned),
    } | changes
    seeds, score = {"seed": range(SEEDS)}, {"score": list(SCORES)}
    objectives = {"objective": ["simclr", "rotnet"]}

    def of(name: str, **dims: object) -> xr.DataArray:
        return xr.DataArray(arrays[name], {k: list(v) for k, v in dims.items()}, tuple(dims))

    variants = [f"{o}-b{size}" for o in ("simclr", "rotnet") for size in SIZES] + ["simclr-deep", "rotnet-deep"]
    variants += ["supervised"]
    trained = {"objective": variants, "learned": ("objective", [True] * len(variants))}
    begun = ["supervised", "simclr", "rotnet"]
    fractions = {"fraction": [0.01, 0.1]}
    return {
        "pretraining": xr.Dataset(coords=trained),
        "linear": xr.Dataset(
            {
                "accuracy": of("linear", **objectives, batch=SIZES, step=STEPS, **seeds, **score),
                "references": of("references", reference=["untrained", "pixels"], **seeds, **score),
            }
        ),
        "fractions": xr.Dataset({"tuned": of("tuned", begun=begun, **fractions, **seeds, **score)}),
        "attack": xr.Dataset(
            {
                "accuracy": of(
                    *("robust",),
                    attack=["fgsm", "pgd"],
                    unit=["normalised", "pixel"],
                    begun=begun,
                    **fractions,
                    budget=range(4),
                    **seeds,
                )
            },
            attrs={"classes": list("abcdefghij"), "attacked_images": 1000},
        ),
        "transfer": xr.Dataset(
            {
                "over_steps": of("over_steps", way=WAYS, begun=["simclr", "supervised"], step=STEPS, **seeds, **score),
                "over_batches": of("over_batches", side=[32], batch=SIZES, **seeds, **score),
            },
            attrs={"middle": 128},
        ),
        "architectures": xr.Dataset(
            {
                "accuracy": of("architectures", **objectives, depth=[18, 50], **seeds, **score),
                "cost": of("cost", **objectives, depth=[18, 50], repeat=range(3), quantity=["seconds", "views", "m"]),
            }
        ),
        "published_code": xr.Dataset(
            {
                "transfer_cut": of("cut", step=STEPS, **seeds, **score),
                "initialised": of("initialised", begun=begun, **fractions, **seeds, **score),
            }
        ),
    }


def kinds(data: dict[str, xr.Dataset]) -> dict[str, Kind]:
    return {verdict.claim: verdict.kind for verdict in verdicts(data)}


def array(name: str) -> np.ndarray:
    places = {
        "linear": ("linear", "accuracy"),
        "tuned": ("fractions", "tuned"),
        "robust": ("attack", "accuracy"),
        "architectures": ("architectures", "accuracy"),
        "cost": ("architectures", "cost"),
        "cut": ("published_code", "transfer_cut"),
    }
    step, variable = places.get(name, ("transfer", name))
    return made_up()[step][variable].values.copy()


def spoiled(name: str, change: object) -> dict[str, xr.Dataset]:
    return made_up(**{name: change(array(name))})


def test_every_claim_is_replicated_where_it_holds() -> None:
    decided = {verdict.claim: verdict for verdict in verdicts(made_up())}
    assert {name: verdict.kind for name, verdict in decided.items()} == dict.fromkeys(CLAIMS, Kind.REPLICATED)
    assert decided["R1"].estimate == decided["R2"].estimate or decided["R1"].estimate == pytest.approx(0.02, abs=0.001)
    assert decided["R3"].note == "24 cells of the grid" and decided["R9"].estimate == pytest.approx(1.0, abs=0.1)
    # With equal images seen, larger batches have had fewer steps: both grow alike here, and nothing is left.
    assert decided["R1"].controls["at equal images seen"][0] == pytest.approx(0, abs=0.002)
    assert next(part.name for part in decided["R7"].parts) == "per doubling of the batch"


@pytest.mark.parametrize(
    ("claim", "name", "change"),
    [
        ("R1", "linear", lambda a: a[:, ::-1].copy()),
        ("R2", "linear", lambda a: a[:, :, ::-1].copy()),
        ("R3", "linear", lambda a: a[::-1].copy()),
        ("R4", "tuned", lambda a: a[[1, 0, 0]]),
        ("R5", "robust", lambda a: np.where(np.arange(3)[:, None, None, None] == 1, np.maximum(a, 0.75), a)),
        ("R6", "over_steps", lambda a: a[:, ::-1].copy()),
        ("R7", "over_batches", lambda a: a[:, ::-1].copy()),
        ("R8", "architectures", lambda a: a[:, ::-1].copy()),
        ("R9", "cost", lambda a: a[::-1].copy()),
    ],
)
def test_a_claim_is_reversed_where_the_opposite_holds(claim: str, name: str, change: object) -> None:
    assert kinds(spoiled(name, change))[claim] == Kind.REVERSED


def test_r7_asks_for_a_knee_near_2000_steps_with_and_without_the_cut() -> None:
    still = 0.3 + 0.02 * np.log2(np.array(STEPS) / 250)
    growing = np.broadcast_to(still[:, None, None], (len(STEPS), SEEDS, len(SCORES)))
    noise = 1e-4 * np.random.default_rng(0).standard_normal((len(STEPS), SEEDS, 1))
    decided = next(v for v in verdicts(made_up(cut=growing + noise)) if v.claim == "R7")
    assert decided.kind == Kind.REVERSED and "still growing" in decided.note


def test_encoders_that_did_not_learn_decide_nothing() -> None:
    data = made_up()
    data["pretraining"].learned[:] = False
    assert {name: kind for name, kind in kinds(data).items() if name != "R9"} == dict.fromkeys(
        [name for name in CLAIMS if name != "R9"], Kind.NOT_TESTED
    )
    data = made_up()
    data["pretraining"].learned[4:8] = False  # RotNet
    assert kinds(data)["R3"] == Kind.NOT_TESTED and kinds(data)["R1"] == Kind.REPLICATED


def test_18_against_34_layers_is_another_question() -> None:
    data = made_up()
    data["architectures"] = data["architectures"].assign_coords(depth=[18, 34])
    assert kinds(data)["R8"] == Kind.NOT_TESTED


def test_a_baseline_that_knows_nothing_loses_nothing() -> None:
    decided = spoiled("robust", lambda a: np.where(np.arange(3)[:, None, None, None] == 0, 0.1, a))
    assert kinds(decided)["R5"] == Kind.NOT_TESTED


def test_slopes_are_per_doubling_and_leave_out_what_is_missing() -> None:
    values = xr.DataArray([[0.1, 0.5], [0.2, np.nan], [0.3, 0.5]], {"batch": [32, 64, 128]}, ("batch", "seed"))
    np.testing.assert_allclose(slope(values, "batch"), [0.1, 0.0], atol=1e-12)
    assert slope(values.isel(batch=[0, 1]), "batch").isnull().all()


def test_a_knee_is_found_where_there_is_one() -> None:
    steps = np.array([125, 250, 500, 1000, 2000, 4000])
    bent = 0.1 * np.minimum(np.log2(steps), np.log2(1000))
    assert knee(steps, bent) == pytest.approx(1000, rel=0.03)
    assert knee(steps, 0.1 * np.log2(steps)) == math.inf  # it never levels off
    assert knee(steps, -bent) == 0  # nor ever grows
    between = 0.1 * np.minimum(np.log2(steps), np.log2(1400))
    assert knee(steps, between) == pytest.approx(1400, rel=0.03)
    assert math.isnan(knee(steps[:3], bent[:3]))
    np.testing.assert_allclose(within(np.array([2000, 1000, 4000, 8000, 0, math.inf])), [1, 0, 0, -1, -3, -3])


def test_a_recorded_result_is_one_of_the_study() -> None:
    result = STUDY.start(STUDY.parameters.of("published")).claims()
    assert [verdict["claim"] for verdict in result.facts["verdicts"]] == list(CLAIMS)
    for name in FIGURES:
        assert getattr(figures, name)(result).axes
    for name in TABLES:
        assert getattr(tables, name)(result).data


def test_the_ranking_says_plainly_when_it_is_not_so(study: Run) -> None:
    linear = study.result.data["linear"].copy(deep=True)
    linear["accuracy"][:] = 0.3
    linear["accuracy"][..., 1, :] = 0.31
    linear["references"][:] = 0.1
    text = tables.ranking(Result("", {"linear": linear}, {})).data
    assert "SimCLR is not above RotNet" in text and "RotNet is above raw pixels" in text
    linear["accuracy"][..., 1, :] = np.nan
    alone = tables.ranking(Result("", {"linear": linear}, {})).data
    assert alone.startswith("Whether SimCLR is above RotNet takes two seeds") and "nan" not in alone


def test_what_the_text_says_of_the_recorded_result_is_borne_out_by_it_alone() -> None:
    recorded = STUDY.decided(Result.load(RECORDED / STUDY.name))
    assert all(findings.statements(recorded).values())
    tables.glue_findings(recorded)
    swapped = xr.Dataset.copy(recorded.data["linear"], deep=True)
    swapped["accuracy"] = swapped.accuracy.isel(objective=[1, 0]).assign_coords(objective=swapped.objective)
    other = Result(STUDY.name, recorded.data | {"linear": swapped}, recorded.facts)
    wrong = {statement for statement, true in findings.statements(other).items() if not true}
    assert any("SimCLR is ahead" in statement for statement in wrong) and any("raw pixels" in s for s in wrong)
