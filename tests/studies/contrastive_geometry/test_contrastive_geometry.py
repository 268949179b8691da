import json
import re
from html import unescape

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from sslnb.core import device
from sslnb.core.claims import NOT_REPLICATED, NOT_TESTED, REPLICATED, UNDECIDED
from sslnb.core.flat import Result
from sslnb.core.papers import reference
from sslnb.data import load
from sslnb.encoders.load import save_encoder
from sslnb.encoders.resnet import untrained
from sslnb.features.extract import as_float, extract
from sslnb.metrics import attacks, trajectory
from sslnb.metrics.surface import loss_surface
from sslnb.studies.contrastive_geometry import Parameters, explorers, figures, tables
from sslnb.studies.contrastive_geometry.claims import CLAIMS, area, decide_all
from sslnb.studies.contrastive_geometry.steps import FLATNESS, QUANTITIES, Study

TINY = {
    "others": ("vicreg",),
    "width": 4,
    "steps": 6,
    "checkpoints": (3,),
    "batch_size": 32,
    "limit": 200,
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
    *("robustness", "pretraining", "all_runs", "relations"),
)
TABLES = ("units", "accuracies", "tasks", "ends", "areas", "distances_between_runs", "scale", "flat", "gaps", "spectra")


@pytest.fixture(scope="module")
def study(cache: None, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A whole study of two seeds, with somebody's wider encoder beside its own."""
    given = tmp_path_factory.mktemp("given") / "mine.pt"
    save_encoder(untrained(5, 18, width=6, stem="imagenet"), given)
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
        ({"others": "simclr"}, "others: expected names that are not among objectives"),
        ({"tasks": ("0 1 2", "3 4")}, "tasks: expected as many classes in each"),
        ({"tasks": ("0 1", "a b")}, "tasks: expected numbers of classes"),
        ({"tasks": ("0 0", "1 2")}, "tasks: expected distinct classes"),
        ({"tasks": ("0", "1")}, "tasks: expected as many classes in each, at least two"),
        ({"surface_points": 10}, "surface_points: expected an odd number"),
        ({"tuning": "heads"}, "tuning: expected one of"),
        ({"checkpoints": (150,)}, "checkpoints: expected below 150"),
        ({"budgets": (4, 2)}, "budgets: expected ascending"),
        ({"pgd_budgets": (0, 2)}, "pgd_budgets: expected values of at least 1"),
        ({"radius": 0.0}, "radius: expected a value above 0"),
        ({"seeds": (0, 0)}, "seeds: expected distinct"),
        ({"task_limit": 1}, "task_limit: expected at least 2"),
        ({"attack_limit": 4}, "attack_limit: expected at least one image of each of 5 classes"),
        ({"surface_images": 4}, "surface_images: expected at least one image of each of 5 classes"),
        ({"tuning": "full", "head_batch": 1}, "head_batch: expected at least 2"),
    ],
)
def test_what_can_not_be_run_is_refused_before_anything_is_trained(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Parameters.of("quick", **changes)


def test_too_few_images_and_other_channels_are_refused_before_training(cache, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"samples: expected at most .* images of each class"):
        Study(Parameters.of("quick", **TINY | {"samples": 3000})).fine_tuning()
    with pytest.raises(ValueError, match="mean_images: expected at least two of each of 10 classes, got 19"):
        Study(Parameters.of("quick", **TINY | {"mean_images": 19})).fine_tuning()
    save_encoder(untrained(0, width=4, in_channels=1), tmp_path / "grey.pt")
    with pytest.raises(ValueError, match="encoder: expected one for 3 channels, got 1"):
        Study(Parameters.of("quick", **TINY, encoder=f"checkpoint:{tmp_path / 'grey.pt'}")).fine_tuning()


def test_the_study_measures_every_run_on_every_task(study: Study) -> None:
    a, s = study.result.arrays, study.result.scalars
    assert [run[0] for run in s["runs"]] == [*("simclr", "simclr", "supcon", "supcon"), *("supervised", "supervised"),
                                             "vicreg", "encoder"]  # fmt: skip
    assert a["accuracy"].shape == (2, 8, 2, 5) and a["confusion"].shape == (8, 2, 5, 3, 3)
    assert a["progress"].shape == a["raw_progress"].shape == (2, 8, 2, 5)
    assert a["surfaces"].shape == (3, 3, 3) and a["flatness"].shape == (8, len(FLATNESS))
    assert a["fgsm"].shape == (2, 8, 2, 3) and a["pgd"].shape == (8, 2, 2)
    assert a["embedding/validation/joint"].shape == (8 * 2 * 5 + 2, 3) and a["pretraining_progress"].shape == (7, 3)
    for name, array in a.items():
        if name != "relations" and np.issubdtype(array.dtype, np.floating):
            assert np.isfinite(array).all(), name
    assert {claim["claim"] for claim in s["claims"]} == set(CLAIMS)
    assert set(study.result.provenance["seconds"]) == set(Study.steps())


@pytest.mark.parametrize(("run", "task"), [(0, 0), (3, 1), (7, 1)])
def test_classifiers_are_their_encoders_with_the_heads_that_were_trained(study: Study, run: int, task: int) -> None:
    model, a = study.models.models[run, task], study.result.arrays
    images = study.models.tasks[task].validation
    p = extract(model, images).softmax(1)
    # Heads learned from features in bf16, where the processor computes in it.
    torch.testing.assert_close(p, study.predictions["validation"][task][run, -1], atol=6e-2, rtol=0)
    right = float((p.argmax(1) == images.labels).double().mean())
    assert right == pytest.approx(a["accuracy"][1, run, task, -1], abs=0.04)
    assert a["confusion"][run, task, -1].sum() == len(images)
    diagonal = np.trace(a["confusion"][run, task], axis1=1, axis2=2) / len(images)
    np.testing.assert_allclose(diagonal, a["accuracy"][1, run, task])
    assert a["fgsm"][1, run, task, 0] == pytest.approx(a["pgd"][run, task, 0], abs=0.05)


def test_progress_and_distances_are_of_the_models_that_their_places_say(study: Study) -> None:
    a, task, run = study.result.arrays, 1, 4
    chosen = study.models.compared(task, "validation")
    labels = study.models.tasks[task].validation.labels[chosen]
    assert labels.bincount().tolist() == [20, 20, 20] and labels.tolist() == sorted(labels.tolist())
    models = study.predictions["validation"][task][:, :, chosen]
    np.testing.assert_allclose(a["progress"][1, run, task], trajectory.progress(models[run], labels), atol=1e-6)
    np.testing.assert_allclose(a["raw_progress"][1, run, task], trajectory.raw_progress(models[run], labels), atol=1e-6)
    pairs = [float(trajectory.bhattacharyya(models[run, e][None], models[2, e][None])) for e in range(5)]
    assert a["apart"][1, task, run, 2] == pytest.approx(np.mean(pairs), abs=1e-5)


def test_a_joint_embedding_has_its_models_where_the_explorer_looks_for_them(study: Study) -> None:
    where = explorers.places(study.result, [0, 1])
    assert len(where) == 8 * 2 * 5
    alone = explorers.places(study.result, [1])
    ends = np.flatnonzero((where[:, 1] == 1) & (where[:, 2] == 4)), np.flatnonzero(alone[:, 2] == 4)
    assert where[ends[0], 0].tolist() == alone[ends[1], 0].tolist() == list(range(8))
    for run, task, epoch in ((0, 0, 0), (3, 1, 2), (7, 0, 4)):
        index = int(np.flatnonzero((where == (run, task, epoch)).all(1))[0])
        point = study.result.arrays["embedding/validation/joint"][index]
        assert np.abs(joint_embedding(study) - point).sum(1).argmin() == index
        chosen = study.models.compared(task, "validation")
        own = study.predictions["validation"][task][run, epoch, chosen]
        distance = float(trajectory.bhattacharyya(own[None], torch.full((1, 60, 3), 1 / 3)))
        assert joint_distances(study)[index, -2] == pytest.approx(distance, abs=1e-6)
    name, key, tasks = explorers.clouds(study.result)[-1]
    assert (name, key, tasks) == ("all tasks", "validation/joint", [0, 1])


def joint_models(study: Study) -> torch.Tensor:
    """All models of all tasks in the order run, task, epoch, then ignorance and truth: written out as loops."""
    models = []
    for run in range(8):
        for task in range(2):
            chosen = study.models.compared(task, "validation")
            models += [study.predictions["validation"][task][run, epoch, chosen] for epoch in range(5)]
    truth = F.one_hot(torch.arange(3).repeat_interleave(20), 3).float()
    return torch.stack([*models, torch.full((60, 3), 1 / 3), truth])


def joint_distances(study: Study) -> torch.Tensor:
    models = joint_models(study)
    return trajectory.bhattacharyya(models, models)


def joint_embedding(study: Study) -> np.ndarray:
    return trajectory.inpca(joint_distances(study), 3).coordinates.numpy()


def test_margins_correlations_and_pretraining_are_what_their_names_say(study: Study) -> None:
    a, last = study.result.arrays, 1
    model, images = study.models.models[3, last], study.models.tasks[last].validation
    features = extract(model.encoder, images)
    logits = model.head(features).detach()
    top, predicted = logits.max(1)
    weight = model.head.weight.detach()
    found = []
    for i in range(len(images)):
        if predicted[i] == images.labels[i]:
            others = [k for k in range(3) if k != predicted[i]]
            gaps = [(top[i] - logits[i, k]) / (weight[predicted[i]] - weight[k]).norm() for k in others]
            found.append(float(min(gaps)))
    spread = float((features - features.mean(0)).norm(dim=1).mean())
    assert a["quantities"][QUANTITIES.index("margin"), 3] == pytest.approx(np.mean(found) / spread, rel=1e-3)
    x, y = (a["quantities"][QUANTITIES.index(name)] for name in ("accuracy", "trace"))
    rho = stats.spearmanr(x, y).statistic
    assert a["relations"][0, QUANTITIES.index("accuracy"), QUANTITIES.index("trace")] == pytest.approx(rho)
    assert a["pretraining_accuracy"].min() >= 0 and a["pretraining_progress"].max() <= 1
    run = study.result.scalars["pretraining_runs"].index(4)
    same = study.result.scalars["pretraining_runs"].index(0)
    assert a["pretraining_progress"][run, 0] == a["pretraining_progress"][same, 0]  # the same first weights


def test_surfaces_are_of_the_last_task_with_common_directions(study: Study) -> None:
    p, last = study.parameters, 1
    x, y = study.models.first(last, "train", p.surface_images)
    how = {"points": 3, "generator": torch.Generator().manual_seed(0)}
    precision = device.best_precision(device.best_device())
    expected = loss_surface(study.models.models[2, last], x, y, **how, precision=precision).losses
    torch.testing.assert_close(torch.from_numpy(study.result.arrays["surfaces"][1]), expected)
    loss = float(F.cross_entropy(study.models.models[2, last](x), y).detach())
    assert study.result.arrays["surfaces"][1, 1, 1] == pytest.approx(loss, rel=0.05)
    assert study.result.arrays["flatness"][2, 0] == pytest.approx(loss, rel=1e-3)


def test_normalised_budgets_are_smaller_in_pixels(study: Study) -> None:
    model, std = study.models.models[0, 0], torch.tensor(study.result.scalars["std"])
    images = study.models.tasks[0].validation.subset(torch.arange(10))
    x = as_float(images.images)
    moved = attacks.fgsm(model, x, images.labels, 8 / 255, std=1 / std, bounds=None) - x
    np.testing.assert_allclose(moved.abs().amax((0, 2, 3)), 8 / 255 * std, rtol=1e-4)
    pixels = load(study.parameters.target, "train").images.double() / 255
    np.testing.assert_allclose(std, pixels.transpose(0, 1).flatten(1).std(1), rtol=1e-4)
    chosen, labels = study.models.first(0, "validation", study.parameters.attack_limit)
    beaten = attacks.fgsm(model, chosen, labels, 8 / 255, std=1 / std, bounds=None)
    right = float((model(beaten).argmax(1) == labels).double().mean())
    assert study.result.arrays["fgsm_normalised"][0, 0, 2] == pytest.approx(right, abs=0.1)


def test_whole_networks_can_be_fine_tuned(cache) -> None:
    changes = {"tuning": "full", "others": (), "epochs": 2, "tasks": ("0 1", "2 3"), "head_rate": 0.01, "samples": 40}
    study = Study(Parameters.of("quick", **TINY | changes))
    result = study.run()
    assert result.arrays["progress"].shape == (2, 6, 2, 3)
    before, after = study.models.runs[0].encoder, study.models.models[0, 1].encoder
    assert not torch.equal(before.stem[0].weight, after.stem[0].weight)
    assert not any(re.search(r"\bnan\b", getattr(tables, name)(result).data) for name in TABLES)


def test_a_run_whose_fine_tuning_diverges_is_left_out_and_named(cache) -> None:
    changes = {"tuning": "full", "others": (), "epochs": 2, "tasks": ("0 1",), "head_rate": 1e6, "seeds": (0,)}
    with pytest.raises(ValueError, match="head_rate: expected one at which some run's fine-tuning stays finite"):
        Study(Parameters.of("quick", **TINY | changes)).fine_tuning()


def test_one_more_encoder_changes_nobody_elses_numbers(cache, study: Study) -> None:
    alone = Study(Parameters.of("quick", **TINY)).fine_tuning()
    np.testing.assert_array_equal(alone.arrays["accuracy"], study.result.arrays["accuracy"][:, :7])


def test_one_seed_decides_nothing_but_draws_everything(cache) -> None:
    result = Study(Parameters.of("quick", **TINY | {"seeds": (0,), "others": (), "checkpoints": ()})).run()
    assert {claim["verdict"] for claim in result.scalars["claims"]} == {NOT_TESTED}
    for name in FIGURES:
        assert getattr(figures, name)(result).axes


def test_an_encoder_without_gradients_in_its_images_is_measured_but_not_attacked(cache) -> None:
    result = Study(Parameters.of("quick", **TINY | {"others": ("cmc",), "seeds": (0,)})).run()
    run = [method for method, _ in result.scalars["runs"]].index("cmc")
    assert np.isnan(result.arrays["fgsm"][:, run]).all() and np.isfinite(result.arrays["fgsm"][:, :run]).all()
    assert "cmc, seed 0: attacks" in result.scalars["reasons"] and np.isfinite(result.arrays["progress"]).all()
    assert result.scalars["related_runs"] == run
    for name in FIGURES:
        assert getattr(figures, name)(result).axes
    assert not any(re.search(r"\bnan\b", getattr(tables, name)(result).data) for name in TABLES)


def test_another_objective_alone_is_measured_and_decides_nothing(cache) -> None:
    changes = {"objectives": ("byol",), "others": (), "standardized": False}
    result = Study(Parameters.of("quick", **TINY | changes)).run()
    assert {claim["verdict"] for claim in result.scalars["claims"]} == {NOT_TESTED}
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


def test_the_papers_table_stands_beside_its_tasks(study: Study) -> None:
    assert "paper" not in tables.accuracies(study.result).data
    cifar = Result("contrastive_geometry", study.result.parameters | {"target": "cifar100"}, dict(study.result.scalars),
                   study.result.arrays)  # fmt: skip
    cifar.scalars["tasks"] = [[0, 1, 2, 3, 4], [95, 96, 97, 98, 99]]
    lines = tables.accuracies(cifar).data.splitlines()
    simclr, supervised = (next(x for x in lines if x.startswith(f"| {m} | val")) for m in ("SimCLR", "Supervised"))
    assert re.fullmatch(r"\| SimCLR \| validation \| .* \(80\.0\) \| .* \(90\.9\) \|", simclr)
    assert (
        "(82.5)" in supervised
        and reference("cowlagi2022contrast", "CIFAR-100 [0,1,2,3,4]", "SupCE", "validation_top1") == 82.48
    )
    assert sum(x.startswith("| VICReg |") for x in lines) == 1 and sum(x.startswith("| SimCLR |") for x in lines) == 2


def test_gaps_of_a_surface_stay_gaps_and_are_counted(study: Study) -> None:
    surfaces = study.result.arrays["surfaces"].copy()
    surfaces[0, 0, :2] = np.nan
    scalars = study.result.scalars | {"gaps": [2, 0, 0]}
    result = Result(
        "contrastive_geometry", study.result.parameters, scalars, study.result.arrays | {"surfaces": surfaces}
    )
    assert "SimCLR 2, SupCon 0" in tables.gaps(result).data
    assert figures.contours(result).axes and figures.reliefs(result).axes
    facts = facts_of(explorers.browse_surface(result).data)
    assert facts["heights"][0][0][:2] == [None, None] and None not in facts["heights"][1][0]


def facts_of(text: str) -> dict:
    return json.loads(unescape(re.search(r'data-facts="([^"]*)"', text).group(1)))


def test_static_explorers_hold_their_numbers(study: Study) -> None:
    facts, a = facts_of(explorers.browse_cloud(study.result).data), study.result.arrays
    assert [len(one["points"]) for one in facts["clouds"]] == [42, 42, 82]
    np.testing.assert_allclose(facts["clouds"][1]["points"], a["embedding/validation/1"], atol=6e-5)
    np.testing.assert_allclose(facts["progress"], a["progress"][1], atol=6e-4)
    assert facts["confusion"] == a["confusion"].tolist() and facts["epochs"] == 5
    assert len(facts["runs"]) == 8 and facts["classes"][0] == ["0", "1", "2"]


def test_live_explorers_draw_another_picture_for_another_choice(study: Study) -> None:
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
def test_colours_tell_what_they_are_by(study: Study, by: str) -> None:
    where = explorers.places(study.result, [0, 1])
    found = explorers.colours(study.result, where, by)
    kinds = {"method": 5, "task": 2, "seed": 2, "epoch": 5}
    assert len(found) == len(where)
    assert len(set(found)) == kinds[by] if by in kinds else len(set(found)) > 1


# --- claims -----------------------------------------------------------------------------------------------------------


def made_up(**changes: object) -> Result:
    """A result on which every claim holds, of three methods and three seeds."""
    rng = np.random.default_rng(0)

    def around(value: float, *shape: int) -> np.ndarray:
        return value + 0.001 * rng.standard_normal(shape)

    runs = [[method, seed] for method in ("simclr", "supcon", "supervised") for seed in (0, 1, 2)]
    simclr, supcon, supervised = (slice(3 * i, 3 * i + 3) for i in range(3))
    steady = np.linspace(0, 0.5, 21) ** 0.5
    progress = np.broadcast_to(steady, (2, 9, 4, 21)) * 0.8 + 0
    progress[:, simclr] *= 1.1
    progress[:, supcon] *= 0.8
    progress *= around(1, 2, 9, 1, 1)
    fgsm = np.linspace(0.8, 0.1, 5) * np.ones((2, 9, 4, 1)) + 0.001 * rng.standard_normal((2, 9, 4, 5))
    fgsm[:, simclr, :, 1:] += 0.1
    pgd = fgsm[1, ..., :3] * 0.5
    accuracy = around(0.8, 2, 9, 4, 21)
    accuracy[:, simclr, 2] += 0.02
    drawn = np.stack([progress[1][..., -1], progress[1].mean(-1)], -1)
    apart = around(0.5, 2, 4, 9, 9)
    for group in (simclr, supcon, supervised):
        apart[:, :, group, group] -= 0.4
    arrays = {
        "progress": progress,
        "progress_drawn": drawn[:, :, None] * around(1, 1, 1, 30, 1),
        "fgsm": fgsm,
        "pgd": pgd,
        "accuracy": accuracy,
        "accuracy_drawn": accuracy[1, ..., -1, None] + 0.001 * rng.standard_normal((1, 4, 30)),
        "apart": apart,
        "flatness": np.abs(around(1.0, 9, len(FLATNESS))),
    }
    scalars = {
        "runs": runs,
        "seeds": [0, 1, 2],
        "flatness": list(FLATNESS),
        "budgets": [0, 1, 2, 4, 8],
        "pgd_budgets": [0, 2, 8],
    }
    return Result("contrastive_geometry", {}, scalars, arrays | changes)


def spoiled(name: str, at: tuple, by: float) -> Result:
    array = made_up().arrays[name].copy()
    array[at] += by
    return made_up(**{name: array})


ALL, SIMCLR, SUPCON = slice(None), slice(0, 3), slice(3, 6)


def test_every_claim_is_replicated_where_every_part_holds() -> None:
    verdicts, parts = decide_all(made_up())
    assert {v.claim: v.verdict for v in verdicts} == dict.fromkeys(CLAIMS, REPLICATED)
    count = {claim: sum(part["claim"] == claim for part in parts) for claim in CLAIMS}
    assert count == {"G1": 9, "G2": 3, "G3": 8, "G4": 5, "G5": 6}


@pytest.mark.parametrize(
    ("claim", "part", "result"),
    [
        ("G1", "rise, SimCLR and SupCon", spoiled("flatness", (SIMCLR, 1), 4.0)),
        ("G1", "trace, SupCon and Supervised", spoiled("flatness", (SUPCON, FLATNESS.index("trace")), 4.0)),
        ("G2", "SimCLR's end minus SupCE's, most tasks", spoiled("progress", (1, SIMCLR, ALL, -1), -0.3)),
        ("G2", "mean progress, Supervised minus SupCon", spoiled("progress", (1, SUPCON), 0.5)),
        ("G3", "FGSM, task 2", spoiled("fgsm", (1, SUPCON, 1), 0.5)),
        ("G3", "PGD, task 4", spoiled("pgd", (SUPCON, 3), 0.5)),
        ("G4", "gap, task 1", spoiled("accuracy", (1, SUPCON, 0), -0.2)),
        ("G4", "SimCLR ahead on its best task", spoiled("accuracy", (1, SUPCON), 0.05)),
        ("G5", "SupCon: other methods minus other seeds", spoiled("apart", (ALL, ALL, SUPCON, SUPCON), 0.8)),
        ("G5", "SimCLR: rising", spoiled("progress", (1, SIMCLR, ALL, slice(0, None, 2)), 0.2)),
    ],
)
def test_a_claim_fails_with_any_of_its_parts(claim: str, part: str, result: Result) -> None:
    verdicts, parts = decide_all(result)
    assert next(one["verdict"] for one in parts if (one["claim"], one["of"]) == (claim, part)) == NOT_REPLICATED
    assert next(v.verdict for v in verdicts if v.claim == claim) == NOT_REPLICATED


def test_the_choice_of_images_widens_the_interval_of_progress() -> None:
    drawn = made_up().arrays["progress_drawn"].copy()
    drawn[:3] += np.linspace(-1, 1, 30)[None, None, :, None]
    before, after = (
        next(v for v in decide_all(r)[0] if v.claim == "G2") for r in (made_up(), made_up(progress_drawn=drawn))
    )
    assert before.verdict == REPLICATED and after.verdict == UNDECIDED


def test_curvature_that_is_not_positive_compares_with_nothing() -> None:
    result = spoiled("flatness", (SIMCLR, FLATNESS.index("trace")), -5.0)
    part = next(p for p in decide_all(result)[1] if p["of"] == "trace, SimCLR and SupCon")
    assert part["verdict"] == NOT_TESTED


def test_the_area_is_the_mean_accuracy_over_budgets() -> None:
    assert area(np.array([1.0, 0.5, 0.0]), [0, 1, 2]) == pytest.approx(0.5)
    assert area(np.array([1.0, 0.0, 0.0]), [0, 1, 10]) == pytest.approx(0.05)


def test_a_recorded_result_is_one_of_the_study() -> None:
    published = Study(Parameters.of("published"))
    assert published.run() is published.result and published.result.study == "contrastive_geometry"
    s = published.result.scalars
    assert {claim["claim"] for claim in s["claims"]} == set(CLAIMS) and len(s["seeds"]) >= 2
    assert published.result.arrays["surfaces"].shape[1:] == (51, 51)
    for name in FIGURES:
        getattr(figures, name)(published.result)
    assert "(92.5)" in tables.accuracies(published.result).data
