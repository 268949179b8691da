"""The study of geometry on a small pool: its datasets fit together, and its claims are decided as stated."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from scipy import stats

from sslnb.core import device
from sslnb.core.claims import Kind
from sslnb.core.papers import reference
from sslnb.core.result import Result
from sslnb.data import load
from sslnb.encoders import save_encoder
from sslnb.encoders.resnet import untrained
from sslnb.features.extract import as_float, extract
from sslnb.metrics import attacks, trajectory
from sslnb.metrics.surface import loss_surface
from sslnb.pool.members import Scale, Variant
from sslnb.studies.contrastive_geometry import STUDY, explorers, figures, findings, tables
from sslnb.studies.contrastive_geometry.claims import CLAIMS, area, by_seed, kept, rising, verdicts
from sslnb.studies.contrastive_geometry.steps import embedded
from sslnb.studies.study import Run

SHARED = {"width": 4, "stem": "imagenet", "epochs": 2, "batch_size": 50, "flip": 0.0, "crop_scale": 0.5}
TINY = {
    "pool": "tiny",
    "target": "digit-scenes:scenes=600,seed=1",
    "tasks": ("0 1 2", "3 4 5"),
    "task_limit": 100,
    "epochs": 4,
    "head_batch": 25,
    "samples": 60,
    "surface_points": 3,
    "surface_images": 32,
    "flat_directions": 2,
    "curvature_steps": 3,
    "probes": 2,
    "budgets": (1, 8),
    "pgd_budgets": (2,),
    "attack_steps": 2,
    "attack_limit": 30,
    "mean_images": 60,
    "rounds": 6,
}
FIGURES = (
    *("progress", "progress_against_accuracy", "embeddings", "joint", "contours", "reliefs"),
    *("robustness", "along_pretraining", "all_runs", "relations"),
)
TABLES = ("units", "accuracies", "tasks", "ends", "areas", "distances_between_runs", "scale", "flat", "gaps", "spectra")
RUNS = [
    *(("simclr", 0), ("simclr", 1), ("supcon", 0), ("supcon", 1), ("supervised", 0), ("supervised", 1)),
    *(("cmc", 0), ("untrained", 0), ("untrained", 1), ("encoder", 0), ("pixels", 0)),
]


@pytest.fixture(scope="module")
def pool(train_pool: Callable[[Scale], Path]) -> None:
    """A pool of two seeds of the paper's methods, and of one whose images have no gradient."""
    variants = {name: Variant(2) for name in ("simclr", "supcon", "supervised")} | {"cmc": Variant(1)}
    train_pool(Scale("tiny", "digit-scenes", SHARED, variants, limit=200, halvings=1))


@pytest.fixture(scope="module")
def study(pool: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole study, with somebody's wider encoder beside the pool's."""
    given = tmp_path_factory.mktemp("given") / "mine.pt"
    save_encoder(untrained(5, 18, width=6, stem="imagenet"), given)
    run = STUDY.start(STUDY.parameters.of("quick", **TINY, encoder=f"checkpoint:{given}"))
    run.all()
    return run


@pytest.fixture
def made(study: Run) -> object:
    """Runs, tasks and classifiers behind the study."""
    return study.context.memory["runs"]


def predictions(study: Run, task: int) -> torch.Tensor:
    return study.context.memory["predictions"]["validation"][task]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": "simcr"}, "did you mean 'simclr'"),
        ({"tasks": ("0 1 2", "3 4")}, "tasks: expected as many classes in each"),
        ({"tasks": ("0 1", "a b")}, "tasks: expected distinct numbers"),
        ({"tasks": ("0 0", "1 2")}, "tasks: expected distinct numbers"),
        ({"tasks": ("0", "1")}, "tasks: expected distinct numbers of two or more classes"),
        ({"surface_points": 10}, "surface_points: expected an odd number"),
        ({"tuning": "heads"}, "tuning: expected 'head' or 'full'"),
        ({"budgets": (4, 2)}, "budgets: expected ascending"),
        ({"pgd_budgets": (0, 2)}, "expected at least 1"),
        ({"head_rate": 0.0}, "head_rate: expected a value above 0"),
        ({"compared": ("simclr", "simclr")}, "compared: expected distinct"),
        ({"task_limit": 1}, "task_limit: expected at least 2"),
    ],
)
def test_what_can_not_be_run_is_refused(pool: None, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        STUDY.start(STUDY.parameters.of("quick", **TINY | changes)).step("fine_tuning")


def test_an_encoder_of_other_channels_is_refused(pool: None, tmp_path) -> None:
    save_encoder(untrained(0, width=4, in_channels=1), tmp_path / "grey.pt")
    grey = STUDY.parameters.of("quick", **TINY, encoder=f"checkpoint:{tmp_path / 'grey.pt'}")
    with pytest.raises(ValueError, match="encoder: expected images of 1 channels, got 3"):
        STUDY.start(grey).step("fine_tuning")


def test_presets_are_cut_to_what_there_is(pool: None) -> None:
    """More images than there are, and tasks that nobody named."""
    changes = {"tasks": None, "samples": 3000, "task_limit": 5000, "objectives": ("simclr",), "epochs": 1}
    run = STUDY.start(STUDY.parameters.of("quick", **TINY | changes))
    data = run.step("fine_tuning")
    assert list(data.task.values) == ["0 1 2 3 4", "5 6 7 8 9"]
    assert 10 <= data.attrs["compared_images"] < 3000
    assert any("where 600 were asked for" in note for note in run.result.facts["notes"])
    assert any("where 5,000 were asked for" in note for note in run.result.facts["notes"])


def test_the_study_measures_every_run_on_every_task(study: Run) -> None:
    data = study.result.data
    fine = data["fine_tuning"]
    assert list(zip(fine.objective.values, fine.seed.values, strict=True)) == RUNS
    assert fine.accuracy.shape == (2, 11, 2, 5) and fine.confusion.shape == (11, 2, 5, 3, 3)
    assert data["surfaces"].loss.shape == (3, 3, 3) and data["flat"].sizes["run"] == 11
    assert data["embeddings"].joint.shape == (2, 7 * 2 * 5 + 2, 3) and data["along_pretraining"].progress.shape == (
        4,
        3,
    )
    attacked = data["robustness"].where(data["robustness"].objective != "cmc", drop=True)
    for name, dataset in (data | {"robustness": attacked}).items():
        for key, values in dataset.data_vars.items():
            if values.dtype.kind == "f" and name not in ("pretraining", "relations"):
                assert bool(values.notnull().all()), (name, key)
    assert [verdict["claim"] for verdict in study.result.facts["verdicts"]] == list(CLAIMS)
    assert set(study.result.facts["provenance"]["seconds"]) == {step.__name__ for step in STUDY.steps}


def test_an_encoder_without_gradients_in_its_images_is_measured_but_not_attacked(study: Run) -> None:
    data = study.result.data
    assert data["robustness"].fgsm.isel(run=RUNS.index(("cmc", 0))).isnull().all()
    assert any(note.startswith("cmc: not attacked") for note in study.result.facts["notes"])
    assert data["trajectories"].progress.notnull().all()


@pytest.mark.parametrize(("run", "task"), [(0, 0), (3, 1), (9, 1), (10, 0)])
def test_classifiers_are_their_encoders_with_the_heads_that_were_trained(study: Run, made, run: int, task: int) -> None:
    model, data = made.models[run, task], study.result.data
    images, fine = made.tasks[task].validation, data["fine_tuning"].isel(run=run, task=task)
    p = extract(model, images).softmax(1)
    # Heads learned from features in bf16, where the processor computes in it.
    torch.testing.assert_close(p, predictions(study, task)[run, -1], atol=6e-2, rtol=0)
    right = float((p.argmax(1) == images.labels).double().mean())
    assert right == pytest.approx(float(fine.accuracy.sel(split="validation").isel(epoch=-1)), abs=0.04)
    assert int(fine.confusion.isel(epoch=-1).sum()) == len(images)
    diagonal = np.trace(fine.confusion.values, axis1=1, axis2=2) / len(images)
    np.testing.assert_allclose(diagonal, fine.accuracy.sel(split="validation"))
    attacked = data["robustness"].isel(run=run, task=task)
    clean = float(attacked.fgsm.sel(split="validation", budget=0))
    assert clean == pytest.approx(float(attacked.pgd.sel(pgd_budget=0)), abs=0.05)


def test_heads_on_standardized_features_are_others(study: Run, made) -> None:
    from sslnb.features import Standardizer

    fine = study.result.data["fine_tuning"]
    features = {split: extract(made.runs[0].encoder, made.tasks[0].split(split)) for split in ("train", "validation")}
    x = Standardizer("unit_variance").fit(features["train"]).transform(features["validation"])
    from sslnb.features.heads import train_heads

    train = Standardizer("unit_variance").fit(features["train"]).transform(features["train"])
    heads = train_heads(train[None], made.tasks[0].train.labels[None], 3, epochs=4, batch_size=25, seeds=[0])
    right = (heads.probabilities(x[None])[-1, 0].argmax(1) == made.tasks[0].validation.labels).double().mean()
    assert float(fine.standardized_accuracy[0, 0]) == pytest.approx(float(right), abs=0.03)


def test_progress_and_distances_are_of_the_models_that_their_places_say(study: Run, made) -> None:
    task, run, data = 1, 4, study.result.data
    chosen = made.compared(task, "validation")
    labels = made.tasks[task].validation.labels[chosen]
    assert labels.bincount().tolist() == [20, 20, 20] and labels.tolist() == sorted(labels.tolist())
    models = predictions(study, task)[:, :, chosen]
    own = data["trajectories"].sel(split="validation").isel(run=run, task=task)
    np.testing.assert_allclose(own.progress, trajectory.progress(models[run], labels), atol=1e-6)
    np.testing.assert_allclose(own.raw_progress, trajectory.raw_progress(models[run], labels), atol=1e-6)
    pairs = [float(trajectory.bhattacharyya(models[run, e][None], models[2, e][None])) for e in range(5)]
    distance = data["embeddings"].distance.sel(split="validation").isel(task=task, run=run, run_b=2)
    assert float(distance) == pytest.approx(np.mean(pairs), abs=1e-5)
    alone, _ = embedded(models[:7].flatten(0, 1), labels)
    assert alone.shape == (37, 37)


def test_a_joint_embedding_has_its_models_where_the_explorer_looks_for_them(study: Run, made) -> None:
    where = explorers.places(study.result, [0, 1])
    assert len(where) == 7 * 2 * 5
    models, rows = [], explorers.runs(study.result)
    for name in rows:
        for task in range(2):
            chosen = made.compared(task, "validation")
            models += [predictions(study, task)[RUNS.index(name), epoch, chosen] for epoch in range(5)]
    labels = torch.arange(3).repeat_interleave(20)
    truth = F.one_hot(labels, 3).float()
    points = torch.stack([*models, torch.full((60, 3), 1 / 3), truth])
    expected = trajectory.inpca(trajectory.bhattacharyya(points, points), 3).coordinates.numpy()
    joint = study.result.data["embeddings"].joint.sel(split="validation").values
    for run, task, epoch in ((0, 0, 0), (3, 1, 2), (6, 0, 4)):
        index = int(np.flatnonzero((where == (run, task, epoch)).all(1))[0])
        assert np.abs(expected - joint[index]).sum(1).argmin() == index
    name, points, tasks = explorers.clouds(study.result)[-1]
    assert (name, tasks) == ("all tasks", [0, 1]) and points.shape == (72, 3)


def test_margins_correlations_and_pretraining_are_what_their_names_say(study: Run, made) -> None:
    data, last = study.result.data, 1
    model, images = made.models[3, last], made.tasks[last].validation
    features = extract(model.encoder, images)
    logits = model.head(features).detach()
    top, predicted = logits.max(1)
    weight, margins = model.head.weight.detach(), []
    for i in range(len(images)):
        if predicted[i] == images.labels[i]:
            others = [k for k in range(3) if k != predicted[i]]
            gaps = [(top[i] - logits[i, k]) / (weight[predicted[i]] - weight[k]).norm() for k in others]
            margins.append(float(min(gaps)))
    spread = float((features - features.mean(0)).norm(dim=1).mean())
    related = data["relations"]
    assert float(related.value.sel(quantity="margin")[3]) == pytest.approx(np.mean(margins) / spread, rel=1e-3)
    known = related.value.dropna("run")
    assert known.sizes["run"] == 10  # without CMC, which is not attacked
    rho = stats.spearmanr(known.sel(quantity="accuracy"), known.sel(quantity="trace")).statistic
    value = related.correlation.sel(bound="value", quantity="accuracy", quantity_b="trace")
    assert float(value) == pytest.approx(rho)
    along = data["along_pretraining"]
    assert list(along.step.values) == [0, 4, 8] and list(along.objective.values) == [
        "simclr",
        "supcon",
        "supervised",
        "cmc",
    ]
    starts = along.progress.sel(step=0).values
    assert float(along.accuracy.min()) >= 0 and (starts == starts[0]).all()  # the same first weights


def test_surfaces_are_of_the_last_task_with_common_directions(study: Run, made) -> None:
    last, data = 1, study.result.data
    x, y = made.first(last, "train", 32)
    settings = {"points": 3, "generator": torch.Generator().manual_seed(0)}
    precision = device.best_precision(device.best_device())
    expected = loss_surface(made.models[2, last], x, y, **settings, precision=precision).losses
    surface = data["surfaces"].loss.sel(objective="supcon")
    np.testing.assert_allclose(surface, expected, rtol=1e-5)
    loss = float(F.cross_entropy(made.models[2, last](x), y).detach())
    assert float(surface.sel(alpha=0, beta=0)) == pytest.approx(loss, rel=0.05)
    assert float(data["flat"]["loss"][2]) == pytest.approx(loss, rel=1e-3)


def test_normalised_budgets_are_smaller_in_pixels(study: Run, made) -> None:
    model, std = made.models[0, 0], torch.from_numpy(study.result.data["robustness"]["std"].values)
    images = made.tasks[0].validation.subset(torch.arange(10))
    x = as_float(images.images)
    moved = attacks.fgsm(model, x, images.labels, 8 / 255, std=1 / std, bounds=None) - x
    np.testing.assert_allclose(moved.abs().amax((0, 2, 3)), 8 / 255 * std, rtol=1e-4)
    pixels = load(TINY["target"], "train").images.double() / 255
    np.testing.assert_allclose(std, pixels.transpose(0, 1).flatten(1).std(1), rtol=1e-4)
    chosen, labels = made.first(0, "validation", 30)
    beaten = attacks.fgsm(model, chosen, labels, 8 / 255, std=1 / std, bounds=None)
    right = float((model(beaten).argmax(1) == labels).double().mean())
    value = study.result.data["robustness"].fgsm_normalised.isel(run=0, task=0).sel(budget=8)
    assert float(value) == pytest.approx(right, abs=0.1)


def test_the_bootstrap_of_robustness_is_around_its_value(study: Run) -> None:
    data = study.result.data["robustness"].isel(run=0, task=0)
    share = float(kept(data.fgsm.sel(split="validation")))
    assert abs(float(data.kept_drawn.mean()) - share) < 4 * float(data.kept_drawn.std()) + 0.02
    assert float(data.kept_drawn.std()) > 0


def test_whole_networks_can_be_fine_tuned(pool: None) -> None:
    changes = {"tuning": "full", "epochs": 2, "tasks": ("0 1", "2 3"), "head_rate": 0.01, "samples": 40}
    run = STUDY.start(STUDY.parameters.of("quick", **TINY | changes, objectives=("simclr", "supervised")))
    result = run.all()
    made = run.context.memory["runs"]
    assert (
        result.data["trajectories"].progress.shape == (2, 6, 2, 3)
        and "pixels" not in made.coordinates()["objective"][1]
    )
    before, after = made.runs[0].encoder, made.models[0, 1].encoder
    assert not torch.equal(before.stem[0].weight, after.stem[0].weight)
    for name in TABLES:
        assert not re.search(r"\bnan\b", getattr(tables, name)(result).data), name
    assert {verdict["kind"] for verdict in result.facts["verdicts"]} == {Kind.NOT_TESTED}
    for name in FIGURES:
        assert getattr(figures, name)(result).axes


def test_a_run_whose_fine_tuning_diverges_is_left_out_and_named(pool: None) -> None:
    changes = {"tuning": "full", "epochs": 2, "tasks": ("0 1",), "head_rate": 1e6, "objectives": ("simclr",)}
    with pytest.raises(ValueError, match="head_rate: expected one at which some run's fine-tuning stays finite"):
        STUDY.start(STUDY.parameters.of("quick", **TINY | changes)).step("fine_tuning")


def test_one_more_encoder_changes_nobody_elses_numbers(study: Run) -> None:
    alone = STUDY.start(STUDY.parameters.of("quick", **TINY)).step("fine_tuning").accuracy
    both = study.result.data["fine_tuning"].accuracy
    np.testing.assert_array_equal(alone, both.where(both.objective != "encoder", drop=True))


def test_figures_and_tables_show_the_result_as_it_was_saved(study: Run, tmp_path) -> None:
    again = Result.load(study.result.save(tmp_path / "saved"))
    for name in FIGURES:
        assert getattr(figures, name)(again).axes
    for name in TABLES:
        text = getattr(tables, name)(again).data
        assert text == getattr(tables, name)(study.result).data and not re.search(r"\bnan\b", text)


def changed(study: Run, step: str, dataset: xr.Dataset, **parameters: object) -> Result:
    facts = study.result.facts | {"parameters": study.result.facts["parameters"] | parameters}
    return Result("contrastive_geometry", study.result.data | {step: dataset}, facts)


def test_the_papers_table_stands_beside_its_tasks(study: Run) -> None:
    assert "paper" not in tables.accuracies(study.result).data
    named = study.result.data["fine_tuning"].assign_coords(task=["0 1 2 3 4", "95 96 97 98 99"])
    lines = tables.accuracies(changed(study, "fine_tuning", named, target="cifar100")).data.splitlines()
    simclr, supervised = (next(x for x in lines if x.startswith(f"| {m} | val")) for m in ("SimCLR", "Supervised"))
    assert re.fullmatch(r"\| SimCLR \| validation \| .* \(80\.0\) \| .* \(90\.9\) \|", simclr)
    assert "(82.5)" in supervised
    assert reference("cowlagi2022contrast", "CIFAR-100 [0,1,2,3,4]", "SupCE", "validation_top1") == 82.48
    assert sum(x.startswith("| CMC |") for x in lines) == 2 and sum(x.startswith("| SimCLR |") for x in lines) == 3
    assert any(x.startswith("| Raw pixels |") for x in lines) and any(x.startswith("| Untrained |") for x in lines)


def test_gaps_of_a_surface_stay_gaps_and_are_counted(study: Run, tables_of) -> None:
    surfaces = study.result.data["surfaces"].copy(deep=True)
    surfaces["loss"][0, 0, :2] = np.nan
    surfaces["gaps"][0] = 2
    result = changed(study, "surfaces", surfaces)
    assert "SimCLR 2, SupCon 0" in tables.gaps(result).data
    assert figures.contours(result).axes and figures.reliefs(result).axes
    table = tables_of(explorers.browse_surface(result))["surface"]
    points = surfaces.sizes["alpha"] * surfaces.sizes["beta"]
    counts = table.method.value_counts().to_dict()
    assert table.log.notna().all() and counts.pop("SimCLR") == points - 2 and set(counts.values()) == {points}
    stops = surfaces.beta.values  # of the slider: at each of them every method has its line
    near = (abs(stops[:, None] - table.b.values) < (stops[1] - stops[0]) / 2).sum(1)
    assert near.min() >= 3 * surfaces.sizes["alpha"] - 2


def test_page_explorers_hold_their_numbers(study: Run, tables_of) -> None:
    tables, data = tables_of(explorers.browse_cloud(study.result)), study.result.data
    models = tables["models"]
    assert [len(part) for _, part in models.groupby("cloud")] == [35, 35, 70]
    own = models[models.cloud == 1]
    points = data["embeddings"].embedding.sel(split="validation").isel(task=1).values
    apart = np.linalg.norm(points[0] - points[7]) / np.linalg.norm(points[3] - points[9])
    placed = own[["x", "y", "z"]].values  # centred and scaled: distances keep their ratios
    ratio = np.linalg.norm(placed[0] - placed[7]) / np.linalg.norm(placed[3] - placed[9])
    assert ratio == pytest.approx(apart, rel=1e-2)
    runs = [RUNS.index(run) for run in explorers.runs(study.result)]
    progress = data["trajectories"].progress.sel(split="validation")[runs].isel(task=1)
    np.testing.assert_allclose(own.progress, progress.values.ravel(), atol=1e-3)
    counts = [[int(n) for n in cells.split()] for cells in tables["confusions"].counts]
    np.testing.assert_array_equal(np.ravel(counts), data["fine_tuning"].confusion[runs].values.ravel())
    assert tables["runs"].method[own.r.iloc[-1]] == "Given encoder"


def test_live_explorers_draw_another_picture_for_another_choice(study: Run) -> None:
    box = explorers.explore_cloud(study.result)
    *controls, image = box.children
    which, by, run, task, epoch, azimuth, elevation = controls
    shown = [image.value]
    for control, value in (
        (by, "progress"),
        (by, "seed"),
        (run, 3),
        (epoch, 1),
        (azimuth, 20),
        (elevation, 60),
        (which, 2),
        (task, 1),
    ):
        control.value = value
        assert image.value not in shown, control.description
        shown.append(image.value)
    method, azimuth, elevation, image = explorers.explore_surface(study.result).children
    shown = [image.value]
    for control, value in ((method, 1), (azimuth, 40), (elevation, 60)):
        control.value = value
        assert image.value not in shown
        shown.append(image.value)


@pytest.mark.parametrize("by", explorers.COLOURINGS)
def test_colours_tell_what_they_are_by(study: Run, by: str) -> None:
    where = explorers.places(study.result, [0, 1])
    found = explorers.colours(study.result, where, by)
    kinds = {"method": 4, "task": 2, "seed": 2, "epoch": 5}
    assert len(found) == len(where)
    assert len(set(found)) == kinds[by] if by in kinds else len(set(found)) > 1


# --- claims -----------------------------------------------------------------------------------------------------------

SEEDS = 3


def around(rng: np.random.Generator, value: float, *shape: int) -> np.ndarray:
    return value + 0.001 * rng.standard_normal(shape)


def made_up(**changes: np.ndarray) -> dict[str, xr.Dataset]:
    """Datasets on which every claim holds, of three methods and three seeds."""
    rng = np.random.default_rng(0)
    names = ["simclr", "supcon", "supervised"]
    simclr, supcon, _ = (slice(SEEDS * i, SEEDS * (i + 1)) for i in range(3))
    n = 3 * SEEDS
    progress = np.broadcast_to(np.linspace(0, 0.5, 21) ** 0.5, (n, 4, 21)) * 0.8 + 0
    progress[simclr] *= 1.2
    progress[supcon] *= 0.7
    progress *= around(rng, 1, n, 1, 1)
    fgsm = np.linspace(0.8, 0.1, 5) * np.ones((n, 4, 1)) + 0.001 * rng.standard_normal((n, 4, 5))
    fgsm[simclr, :, 1:] += 0.1
    accuracy = around(rng, 0.8, n, 4, 21)
    distance = around(rng, 0.5, 4, n, n)
    for i in range(3):
        own = slice(SEEDS * i, SEEDS * (i + 1))
        distance[:, own, own] -= 0.4
    arrays = {
        "progress": progress,
        "progress_drawn": np.stack([progress[..., -1], progress.mean(-1)], -1)[:, :, None]
        * around(rng, 1, 1, 1, 30, 1),
        "fgsm": fgsm,
        "accuracy": accuracy,
        "accuracy_drawn": accuracy[..., -1, None] + 0.001 * rng.standard_normal((1, 4, 30)),
        "distance": distance,
        "rise": around(rng, 1.0, n),
    } | changes
    coords = {"objective": ("run", np.repeat(names, SEEDS)), "seed": ("run", np.tile(range(SEEDS), 3))}
    split = {"split": ["validation"]}
    along, budget = ("split", "run", "task", "epoch"), {"budget": [0, 1, 2, 4, 8]}
    shares = kept(xr.DataArray(arrays["fgsm"], budget, ("run", "task", "budget"))).values
    return {
        "pretraining": xr.Dataset(coords={"objective": names, "learned": ("objective", [True] * 3)}),
        "fine_tuning": xr.Dataset(
            {
                "accuracy": (along, arrays["accuracy"][None]),
                "accuracy_drawn": (("run", "task", "round"), arrays["accuracy_drawn"]),
            },
            coords | split,
        ),
        "trajectories": xr.Dataset(
            {
                "progress": (along, arrays["progress"][None]),
                "progress_drawn": (("run", "task", "round", "part"), arrays["progress_drawn"]),
            },
            coords | split | {"part": ["end", "mean"]},
        ),
        "embeddings": xr.Dataset(
            {"distance": (("split", "task", "run", "run_b"), arrays["distance"][None])}, coords | split
        ),
        "flat": xr.Dataset({"rise": ("run", arrays["rise"])}, coords),
        "robustness": xr.Dataset(
            {
                "fgsm": (("split", "run", "task", "budget"), arrays["fgsm"][None]),
                "kept_drawn": (("run", "task", "round"), np.repeat(shares[..., None], 10, 2)),
            },
            coords | split | budget,
        ),
    }


def array(name: str) -> np.ndarray:
    place = {"progress": "trajectories", "fgsm": "robustness", "accuracy": "fine_tuning", "distance": "embeddings"}
    values = made_up()[place.get(name, "flat")][name].values
    return (values[0] if name != "rise" else values).copy()


def spoiled(name: str, at: tuple, by: float) -> dict[str, xr.Dataset]:
    values = array(name)
    values[at] += by
    return made_up(**{name: values})


ALL, SIMCLR, SUPCON = slice(None), slice(0, 3), slice(3, 6)


def kinds(data: dict[str, xr.Dataset]) -> dict[str, Kind]:
    return {verdict.claim: verdict.kind for verdict in verdicts(data)}


def test_every_claim_is_replicated_where_it_holds() -> None:
    assert kinds(made_up()) == dict.fromkeys(CLAIMS, Kind.REPLICATED)
    decided = {verdict.claim: verdict for verdict in verdicts(made_up())}
    assert decided["G1"].estimate == pytest.approx(np.log(2), abs=0.01)
    assert [part.name for part in decided["G4"].parts] == [
        "SimCLR and SupCon",
        "SimCLR and Supervised",
        "SupCon and Supervised",
    ]
    assert len(decided["G3"].parts) == 4


@pytest.mark.parametrize(
    ("claim", "data"),
    [
        ("G1", spoiled("rise", (SIMCLR,), 4.0)),
        ("G2", spoiled("progress", (SIMCLR, ALL, -1), -0.3)),
        ("G2", spoiled("progress", (SUPCON,), 0.5)),
        ("G3", spoiled("fgsm", (SUPCON, ALL, slice(1, None)), 0.3)),
        ("G4", spoiled("accuracy", (SUPCON,), -0.2)),
        ("G5", spoiled("distance", (ALL, SUPCON, SUPCON), 2.8)),
    ],
)
def test_a_claim_is_reversed_where_the_opposite_holds(claim: str, data: dict[str, xr.Dataset]) -> None:
    assert kinds(data)[claim] == Kind.REVERSED


def test_paths_that_go_back_and_forth_do_not_progress_steadily() -> None:
    values = array("progress")
    values[..., 1::2] -= 0.2
    assert rising(values) == pytest.approx(0.5, abs=0.1)
    estimate = next(verdict.estimate for verdict in verdicts(made_up(progress=values)) if verdict.claim == "G5")
    assert estimate < 0.6 and kinds(made_up())["G5"] == Kind.REPLICATED


def test_steps_count_until_most_of_the_way_is_done() -> None:
    along = np.array([[0.0, 0.5, 1.0, 0.99, 1.0]])  # falls once, when 95 % are reached
    assert rising(along) == 1.0


def test_methods_that_did_not_learn_decide_nothing() -> None:
    data = made_up()
    data["pretraining"].learned[1] = False
    decided = verdicts(data)
    assert {verdict.kind for verdict in decided} == {Kind.NOT_TESTED} and "SupCon" in decided[0].note


def test_the_choice_of_images_widens_the_interval_of_progress() -> None:
    drawn = made_up()["trajectories"].progress_drawn.values.copy()
    drawn[:3] += np.linspace(-1, 1, 30)[None, None, :, None]
    before, after = (
        next(v for v in verdicts(data) if v.claim == "G2") for data in (made_up(), made_up(progress_drawn=drawn))
    )
    assert before.kind == Kind.REPLICATED and after.kind == Kind.UNDECIDED


def test_differences_that_are_all_noise_are_none() -> None:
    """Accuracies that differ by no more than the choice of images explains count as equal."""
    rng = np.random.default_rng(1)
    accuracy = 0.8 + 0.05 * rng.standard_normal((9, 4, 21))
    drawn = accuracy[..., -1, None] + 0.05 * rng.standard_normal((9, 4, 200))
    plain = 0.05 - np.mean([np.abs(a - b).mean() for a, b in ((accuracy[:3, :, -1], accuracy[3:6, :, -1]),)])
    decided = next(v for v in verdicts(made_up(accuracy=accuracy, accuracy_drawn=drawn)) if v.claim == "G4")
    assert decided.estimate > plain


def test_controls_stand_beside_what_is_compared_with_supervised() -> None:
    data = made_up()
    for step in ("trajectories", "robustness"):
        more = data[step].isel(run=slice(6, 9)).assign_coords(objective=("run", ["supervised_simclr_views"] * 3))
        data[step] = xr.concat([data[step], more], "run")
    decided = {verdict.claim: verdict for verdict in verdicts(data)}
    assert list(decided["G3"].controls) == ["supervised on SimCLR's views"]
    # Less than the better of two others, of which the control is only one.
    assert decided["G3"].controls["supervised on SimCLR's views"][0] >= decided["G3"].estimate
    assert decided["G2"].controls["supervised on SimCLR's views"][0] == pytest.approx(decided["G2"].estimate)


def test_the_area_is_the_mean_accuracy_over_budgets() -> None:
    curve = xr.DataArray([1.0, 0.5, 0.0], {"budget": [0, 1, 2]}, ("budget",))
    assert float(area(curve)) == pytest.approx(0.5) and float(kept(0.5 * curve)) == pytest.approx(0.5)
    steep = xr.DataArray([1.0, 0.0, 0.0], {"budget": [0, 1, 10]}, ("budget",))
    assert float(area(steep)) == pytest.approx(0.05)


def test_values_by_seed_are_those_of_their_runs() -> None:
    values = by_seed(made_up()["flat"].rise)
    assert float(values.sel(objective="supcon", seed=2)) == float(made_up()["flat"].rise[5])


def test_paths_are_compared_between_different_seeds() -> None:
    names, seeds = ["simclr", "simclr", "supcon"], [0, 1, 0]
    values = np.array([[0.0, 1, 50], [1, 0, 4], [50, 4, 0]])  # runs of one seed begin alike: 50 is no pair
    coordinates = {"split": ["validation"], "objective": ("run", names), "seed": ("run", seeds)}
    placed = xr.Dataset({"distance": (("split", "task", "run", "run_b"), values[None, None])}, coordinates)
    distances = findings.apart(Result("contrastive_geometry", {"embeddings": placed}, {})).sel(split="validation")
    assert np.array_equal(distances.values, [[1, 4], [4, np.nan]], equal_nan=True)


def test_the_slip_is_measured_below_and_above_half_of_right_answers() -> None:
    runs = ("split", "run", "task", "epoch")
    accuracy = np.array([0.2, 0.4, 0.6, 0.8]).reshape(1, 1, 2, 2)
    progress = np.array([0.1, 0.2, 0.3, 0.5]).reshape(1, 1, 2, 2)
    ahead = np.array([0.0, 0.02, 0.1, 0.2]).reshape(1, 1, 2, 2)
    split = {"split": ["validation"]}
    tuned = xr.Dataset({"accuracy": (runs, accuracy)}, split)
    along = xr.Dataset({"progress": (runs, progress), "raw_progress": (runs, progress + ahead)}, split)
    slip = findings.slips(Result("contrastive_geometry", {"fine_tuning": tuned, "trajectories": along}, {}))
    assert slip["half"] == pytest.approx(0.01) and slip["better"] == pytest.approx(0.15)
    flat = accuracy.ravel(), progress.ravel()
    assert slip["agreement"] == pytest.approx(np.corrcoef(*flat)[0, 1])
    assert slip["raw_agreement"] == pytest.approx(np.corrcoef(flat[0], flat[1] + ahead.ravel())[0, 1])


def test_a_recorded_result_is_one_of_the_study() -> None:
    result = STUDY.start(STUDY.parameters.of("published")).claims()
    assert [verdict["claim"] for verdict in result.facts["verdicts"]] == list(CLAIMS)
    assert result.facts["parameters"]["pool"] == "small"
    assert result.data["surfaces"].loss.shape[1:] == (21, 21)
    assert all(findings.statements(result).values())
    for name in FIGURES:
        assert getattr(figures, name)(result).axes
    assert "(92.5)" in tables.accuracies(result).data
