import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from sslnb import report
from sslnb.core.claims import NOT_REPLICATED, NOT_TESTED, REPLICATED
from sslnb.core.flat import Result
from sslnb.encoders.load import save_encoder
from sslnb.encoders.resnet import untrained
from sslnb.features.extract import as_float
from sslnb.studies.simclr_rotnet import Parameters, explorers, tables
from sslnb.studies.simclr_rotnet import figures as pages
from sslnb.studies.simclr_rotnet.claims import CLAIMS, decide_all, knee, slope
from sslnb.studies.simclr_rotnet.steps import SCORES, Study, _normalised

TINY = {
    "width": 4,
    "steps": (2, 4),
    "batch_sizes": (8, 16),
    "variant_batch": 8,
    "limit": 400,
    "probe_limit": 300,
    "test_limit": 200,
    "probe_epochs": 4,
    "fractions": (0.05, 0.2),
    "tune_epochs": (2, 1),
    "baseline_epochs": (2, 1),
    "target_classes": (0, 1, 2),
    "budgets": 3,
    "attack_limit": 60,
    "attack_steps": 2,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Iterator[Study]:
    """The whole study with an encoder of somebody's and every variant, too short to learn anything."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SSLNB_CACHE", str(tmp_path_factory.mktemp("cache")))
    own = tmp_path_factory.mktemp("own") / "own.pt"
    save_encoder(untrained(7, width=4, stem="imagenet"), own)
    more = {"encoder": f"checkpoint:{own}", "initial": "supervised:digit-scenes:contrast=0.6"}
    variants = {"variants": ("initialised", "per batch", "unpadded stem", "cut")}
    found = Study(Parameters.of("quick", **TINY, **more, **variants))
    found.run()
    yield found
    patch.undo()


@pytest.fixture(scope="module")
def result(study) -> Result:
    return study.result


# Parameters


@pytest.mark.parametrize("profile", ["quick", "small", "paper"])
def test_every_profile_is_possible(profile):
    assert Parameters.of(profile).profile == profile


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fractions": (0.1, 1.5)}, r"fractions: expected shares in \(0, 1\]"),
        ({"fractions": (0.1,)}, "tune_epochs: expected one for each of 1 fractions"),
        ({"steps": (100, 50)}, "steps: expected ascending values"),
        ({"seeds": (0, 0)}, "seeds: expected distinct values"),
        ({"batch_sizes": (1, 128)}, "batch_sizes: expected values of at least 2"),
        ({"variant_batch": 48}, "variant_batch: expected one of"),
        ({"variants": ("cuts",)}, "variants: expected one of .*did you mean 'cut'"),
        ({"baseline_epochs": (5, 5)}, r"baseline_epochs: expected no fewer than tune_epochs \(20, 6\)"),
        ({"tune_crop": 0.0}, r"tune_crop: expected a share in \(0, 1\]"),
        ({"variants": ("initialised",)}, "initial: expected weights to begin from"),
        ({"objectives": ("simclr", "byol")}, "objectives: expected 'simclr' and 'rotnet', got 'byol'"),
        ({"budgets": 1}, "budgets: expected at least 2"),
        ({"largest_budget": -0.1}, "largest_budget: expected a value above 0"),
        ({"depth": 20}, "depth: expected 18, 34 or 50"),
        ({"stem": "cifr"}, "stem: expected one of .*did you mean 'cifar'"),
        ({"simclr_optimizer": "adm"}, "optimizer: expected one of .*did you mean 'adam'"),
        ({"temprature": 0.5}, "parameter: expected one of .*did you mean 'temperature'"),
    ],
)
def test_bad_parameters_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        Parameters.of("quick", **changes)


def test_the_learning_rate_is_the_same_for_every_batch_size():
    p = Parameters.of("quick")
    configs = [p.config("simclr", size, 0, 300) for size in (32, 64, 512)]
    assert {c.learning_rate * c.batch_size / 256 for c in configs} == {p.simclr_rate}
    assert [c.batch_size for c in configs] == [32, 64, 300] and {c.steps for c in configs} == {p.steps[-1]}
    config = p.config("rotnet", 64, 0, 300)
    assert (config.schedule, config.warmup, config.weight_decay) == ("constant", 0.0, 5e-4)


def test_what_would_stop_the_study_later_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path / "cache"))
    grey = {f"{split}_images": np.zeros((20, 28, 28), np.uint8) for split in ("train", "val", "test")}
    grey |= {f"{split}_labels": np.arange(20) % 2 for split in ("train", "val", "test")}
    np.savez(tmp_path / "grey.npz", **grey)
    with pytest.raises(ValueError, match="target: expected images of 3 channels, as digit-scenes, got 1"):
        Study(Parameters.of("quick", **TINY, target=f"npz:{tmp_path / 'grey.npz'}")).linear()
    with pytest.raises(ValueError, match="attack_limit: expected at least one image for each of 10 classes, got 9"):
        Study(Parameters.of("quick", **TINY | {"attack_limit": 9})).linear()
    with pytest.raises(ValueError, match="fraction: expected at least one image of every class"):
        Study(Parameters.of("quick", **TINY | {"fractions": (0.0001, 0.2)})).linear()
    grey_encoder = tmp_path / "grey.pt"
    save_encoder(untrained(0, width=4, in_channels=1), grey_encoder)
    with pytest.raises(ValueError, match="encoder: expected one for 3 channels, got 1"):
        Study(Parameters.of("quick", **TINY, encoder=f"checkpoint:{grey_encoder}")).linear()
    wide = tmp_path / "wide.pt"
    save_encoder(untrained(0, width=8, stem="imagenet"), wide)
    with pytest.raises(ValueError, match="source: expected stem"):
        more = {"initial": f"checkpoint:{wide}", "variants": ("initialised",)}
        Study(Parameters.of("quick", **TINY, **more)).linear()
    with pytest.raises(
        ValueError, match=r"largest_budget: expected at most \d\.\d+, from the darkest to the brightest"
    ):
        Study(Parameters.of("quick", **TINY, largest_budget=50.0)).linear()
    assert not (tmp_path / "cache").exists()


# The study


def test_arrays_have_their_shapes_and_numbers_wherever_a_probe_learned_something(result):
    shapes = {
        "linear": (2, 2, 2, 2, 4),
        "references": (3, 2, 4),
        "fractions": (4, 2, 2, 4),
        "robust": (2, 2, 4, 2, 3, 2),
        "transfer_steps": (2, 2, 2, 2, 4),
        "transfer_batches": (1, 2, 2, 4),
        "transfer_cut": (2, 2, 4),
        "architectures": (2, 2, 2, 4),
        "variants": (5, 2, 2, 4),
        "initialised": (3, 2, 2, 4),
    }
    assert {name: result.arrays[name].shape for name in shapes} == shapes
    for name in shapes:
        values = result.arrays[name][np.isfinite(result.arrays[name])]
        assert len(values) and ((values >= 0) & (values <= 1)).all(), name
    for name in ("fractions", "robust", "initialised"):  # which no probe decides
        assert np.isfinite(result.arrays[name]).all()
    assert result.scalars["reasons"] == {} and result.scalars["pretraining"]["trained"] > 0
    top = result.arrays["fractions"][..., : len(SCORES) - 1]
    assert (np.diff(top, axis=-1) >= 0).all()  # top-1, top-2, top-3


def test_budget_0_is_the_accuracy_of_the_table_where_all_test_images_are_attacked(study, result):
    for (m, f, s), model in list(study.tuned.items())[:3]:
        test = study.splits.test
        exactly = study._attacked(model, as_float(test.images), test.labels, torch.zeros(1), (0.0, 1.0), 0)
        assert exactly[:, 0] == pytest.approx(result.arrays["fractions"][m, f, s, 0], abs=1e-9)


def test_a_run_that_goes_wrong_is_not_run_again_and_one_objective_and_seed_suffice(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path))
    alone = {"objectives": ("rotnet",), "seeds": (3,), "rotnet_rate": 1e30, "batch_sizes": (8,)}
    found = Study(Parameters.of("quick", **TINY | alone, variants=("cut",)))
    result = found.run()
    assert result.scalars["transferred"][0] == "rotnet" and np.isnan(result.arrays["linear"]).all()
    assert any(name == "rotnet on digit-scenes, batch 8, seed 3" for name in result.scalars["reasons"])
    runs = 1 + 2 + 1 + 1 + 1  # the source, two supervised, the target, the deeper network, the cut
    assert result.scalars["pretraining"]["trained"] == runs
    assert {claim["verdict"] for claim in result.scalars["claims"]} == {NOT_TESTED}
    assert "RotNet, seen at" in pages.transfer(result).axes[2].get_legend_handles_labels()[1][0]
    assert tables.ranking(result).data == "One objective was trained."
    assert explorers.browse_attack(result).children


def test_budget_0_is_the_clean_accuracy_in_both_units_and_attacks_never_help(study, result):
    some = study.splits.test.take(TINY["attack_limit"])
    assert TINY["attack_limit"] == len(some)
    for (m, f, s), model in study.tuned.items():
        clean = float((study._features(model, some).argmax(1) == some.labels).double().mean())
        assert result.arrays["robust"][:, :, m, f, 0, s] == pytest.approx(clean, abs=1e-9)
    fgsm, pgd = result.arrays["robust"]
    assert (pgd <= fgsm + 1e-9).all() and (np.diff(pgd, axis=3) <= 1e-9).all()


def test_both_units_reach_as_far_on_average(result):
    std = np.array(result.scalars["normalisation"]["std"])
    normalised, pixels = result.arrays["budgets"]
    assert pixels == pytest.approx(normalised * std.mean(), rel=1e-5) and normalised[-1] == pytest.approx(0.275)


def test_the_normalised_model_is_the_model_and_its_bounds_hold_all_channels():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    mean, std, x = torch.tensor([0.2, 0.5, 0.4]), torch.tensor([0.1, 0.3, 0.2]), torch.rand(5, 3, 2, 2)
    seen, scaled, (low, high) = _normalised(model, x, mean, std)
    torch.testing.assert_close(seen(scaled), model(x))
    assert (low, high) == (pytest.approx(-2.0), pytest.approx(8.0))
    assert low <= scaled.min() and scaled.max() <= high


def test_the_supervised_baseline_begins_from_random_weights_and_is_no_encoder_of_a_run(study):
    a, b = (study._to_tune("supervised", seed) for seed in (0, 1))
    assert study.encoders.trained == study.result.scalars["pretraining"]["trained"]
    assert not torch.equal(a.stem[0].weight, b.stem[0].weight)
    assert study._to_tune("encoder", 0) is study.supplied


def test_examples_are_images_that_probes_get_right_where_there_are_any(study, result):
    shown, right = result.arrays["example_label"], result.arrays["example_believed"][:, :, 0].argmax(-1)
    some = study.splits.test.take(TINY["attack_limit"])
    assert 1 <= len(shown) <= 4
    counts = (right == shown).sum(0)
    assert (np.diff(counts) <= 0).all() and counts[0] >= 1
    assert len(some) > 4


def test_examples_stay_within_their_budget(result):
    moved = result.arrays["example_found"].astype(int) - result.arrays["example_image"][None, :, None]
    for e, budget in enumerate(result.arrays["budgets"][1]):
        assert np.abs(moved[:, :, e]).max() <= 255 * budget + 0.51  # they are rounded
    believed = result.arrays["example_believed"]
    assert np.nansum(believed, -1)[np.isfinite(believed[..., 0])] == pytest.approx(1, abs=1e-5)


def test_a_saved_result_draws_the_same(result, tmp_path):
    result.save(tmp_path / "saved")
    again = Result.load(tmp_path / "saved")
    for table in (tables.fractions, tables.transfers, tables.variants, report.comparisons, tables.ranking):
        assert table(again).data == table(result).data


# Claims


def test_slopes_are_per_doubling_and_leave_out_what_is_missing():
    accuracy = np.array([[0.1, 0.5], [0.2, np.nan], [0.3, 0.5]])
    assert slope([32, 64, 128], accuracy) == pytest.approx([0.1, 0.0])
    assert np.isnan(slope([32, 64, 128], np.array([[0.1], [np.nan], [np.nan]])))[0]


def test_a_knee_is_found_where_there_is_one():
    steps = np.array([125, 250, 500, 1000, 2000, 4000])
    bent = 0.1 * np.minimum(np.log2(steps), np.log2(1000))
    assert knee(steps, bent) == pytest.approx(1000, rel=0.03)
    assert knee(steps, 0.1 * np.log2(steps)) == math.inf  # it never levels off
    assert knee(steps, -bent) == 0  # nor ever grows
    between = 0.1 * np.minimum(np.log2(steps), np.log2(1400))
    assert knee(steps, between) == pytest.approx(1400, rel=0.03)
    assert math.isnan(knee(steps[:3], bent[:3]))


def made_up(result: Result, **arrays: np.ndarray) -> dict[str, dict]:
    changed = Result(result.study, result.parameters, dict(result.scalars), result.arrays | arrays)
    return {verdict.claim: verdict for verdict in decide_all(changed)[0]}


def test_every_claim_is_decided_and_says_how(result):
    assert [claim["claim"] for claim in result.scalars["claims"]] == list(CLAIMS) == [f"R{i}" for i in range(1, 9)]


def grown(shape: tuple[int, ...], axis: int, gain: float) -> np.ndarray:
    """Accuracies [shape] that grow along an axis, nearly the same on both seeds."""
    values = np.full(shape, 0.3) + gain * np.arange(shape[axis]).reshape(
        [-1 if i == axis else 1 for i in range(len(shape))]
    )
    values[..., 1, :] += 0.001
    return values + 1e-4 * np.random.default_rng(0).random(shape)


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, REPLICATED), (-0.1, NOT_REPLICATED)])
def test_growth_with_batch_size_and_steps_decides_r1_and_r2(result, gain, verdict):
    shape = result.arrays["linear"].shape
    assert made_up(result, linear=grown(shape, 1, gain))["R1"].verdict == verdict
    assert made_up(result, linear=grown(shape, 2, gain))["R2"].verdict == verdict
    assert made_up(result, linear=grown(shape, 0, -gain))["R3"].verdict == verdict  # SimCLR comes first


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, REPLICATED), (-0.1, NOT_REPLICATED)])
def test_the_baseline_comes_first_among_the_tuned_and_decides_r4(result, gain, verdict):
    arrays = {name: grown(result.arrays[name].shape, 0, gain) for name in ("fractions", "initialised")}
    assert made_up(result, **arrays)["R4"].verdict == verdict


def test_r5_asks_for_a_loss_and_for_no_advantage_over_the_baseline(result):
    robust = np.full(result.arrays["robust"].shape, 0.8) + 1e-4 * np.random.default_rng(0).random(
        result.arrays["robust"].shape
    )
    assert made_up(result, robust=robust)["R5"].verdict == NOT_REPLICATED  # nothing is lost
    short = made_up(result, robust=np.where(np.arange(len(result.scalars["tuned"]))[:, None, None, None], robust, 0.1))
    assert "not measured" in short["R5"].note  # a baseline that knows nothing loses nothing
    robust[..., 1:, :] *= 0.1
    assert made_up(result, robust=robust)["R5"].verdict == REPLICATED  # all lose alike
    robust[:, :, result.scalars["tuned"].index("simclr"), :, 1:] *= 3
    assert made_up(result, robust=robust)["R5"].verdict == NOT_REPLICATED  # SimCLR keeps more than the baseline


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, REPLICATED), (-0.1, NOT_REPLICATED)])
def test_transfer_decides_r6(result, gain, verdict):
    shape = result.arrays["transfer_steps"].shape
    assert shape[:2] == (2, 2)
    steps = grown(shape, 0, gain) + grown(shape, 1, -gain) - 0.3
    assert made_up(result, transfer_steps=steps)["R6"].verdict == verdict


def levelling(result: Result, at: float) -> dict[str, dict]:
    """Verdict on R7 for curves over many steps that level off at so many, or never."""
    steps = [125, 250, 500, 1000, 2000, 4000, 8000]
    curve = 0.3 + 0.05 * np.minimum(np.log2(steps), np.log2(at))
    noise = 1e-3 * np.random.default_rng(1).random((len(steps), 2))
    curves = np.broadcast_to((curve[:, None] + noise)[..., None], (len(steps), 2, 4))
    batches = grown(result.arrays["transfer_batches"].shape, 1, 0.1)
    arrays = {"transfer_steps": np.broadcast_to(curves, (2, 2, *curves.shape)), "transfer_batches": batches}
    scalars = result.scalars | {"steps": steps}
    linear = np.full((2, 2, len(steps), 2, 4), 0.5)
    changed = Result("", {}, scalars, result.arrays | arrays | {"transfer_cut": curves, "linear": linear})
    return {verdict.claim: verdict for verdict in decide_all(changed)[0]}


@pytest.mark.parametrize(
    ("at", "verdict"), [(2000, REPLICATED), (2500, REPLICATED), (500, NOT_REPLICATED), (1e9, NOT_REPLICATED)]
)
def test_r7_asks_for_a_knee_near_2000_steps(result, at, verdict):
    assert levelling(result, at)["R7"].verdict == verdict


def test_what_this_scale_can_not_tell_is_not_tested(result):
    parts = {part["of"]: part for part in result.scalars["claim_parts"] if part["claim"] in ("R7", "R8")}
    assert parts["knee"]["verdict"] == NOT_TESTED and "R8" not in {part["claim"] for part in parts.values()}
    assert made_up(result)["R8"].verdict == NOT_TESTED  # 18 against 34 layers is another question


# Pages


def test_figures_have_their_lines(result):
    over_steps = pages.linear_over_steps(result).axes
    assert len(over_steps) == 2 and all(len(ax.lines) == 2 + 3 for ax in over_steps)  # batch sizes, references
    assert len(pages.linear_over_batches(result).axes[0].lines) == 2 + 3
    attacks = pages.attacks(result).axes
    assert len(attacks) == 4 and all(len(ax.lines) == 4 * 2 for ax in attacks)  # methods × fractions
    assert [len(ax.lines) for ax in pages.transfer(result).axes] == [2, 2, 1]


def test_tables_have_a_row_for_each_cell_and_the_papers_numbers_only_beside_its_own_data(result):
    def rows(markdown) -> int:
        return len(markdown.data.splitlines()) - 2

    assert rows(tables.fractions(result)) == 2 * 4 and rows(tables.transfers(result)) == 2 * 2
    assert rows(tables.variants(result)) == 5 and rows(tables.initialised(result)) == 3
    assert "paper" not in tables.fractions(result).data + tables.transfers(result).data
    assert "paper" not in tables.transfer_batches(result).data and rows(tables.transfer_batches(result)) == 2
    scalars = result.scalars | {
        "pretraining": result.scalars["pretraining"] | {"dataset": "cifar10"},
        "target": "stl10",
    }
    scalars["fractions"] = [0.01, 0.5]
    there = Result(result.study, result.parameters, scalars, result.arrays)
    assert "(65.3)" in tables.fractions(there).data and "(47.5)" in tables.fractions(there).data
    assert "(69.7)" in tables.transfers(there).data and "| paper (96 px) |" in tables.transfer_batches(there).data


def test_the_strongest_attack_stands_beside_the_reports(result):
    scalars = result.scalars | {"pretraining": result.scalars["pretraining"] | {"dataset": "cifar10"}}
    scalars["fractions"] = [0.01, 0.5]
    text = tables.strongest(Result(result.study, result.parameters, scalars, result.arrays)).data
    assert len(text.splitlines()) - 2 == 2 * 4 and "(21.5)" in text and "(7.1)" in text and "(84.7)" not in text
    assert "(" not in tables.strongest(result).data


def test_the_ranking_says_plainly_when_it_is_not_so(result):
    linear = np.full(result.arrays["linear"].shape, 0.3)
    linear[..., 1, :] += 0.01
    references = np.full(result.arrays["references"].shape, 0.1)
    same = Result(result.study, result.parameters, result.scalars, {"linear": linear, "references": references})
    text = tables.ranking(same).data
    assert "SimCLR is not above RotNet" in text and "RotNet is above raw pixels" in text
    linear[..., 1, :] = np.nan
    alone = tables.ranking(
        Result(result.study, result.parameters, result.scalars, same.arrays | {"linear": linear})
    ).data
    assert alone.startswith("Whether SimCLR is above RotNet takes two seeds") and "nan" not in alone


def test_the_explorers_show_another_picture_for_another_choice(result):
    live = explorers.explore_attack(result)
    size, which, budget, image = live.children
    first = image.value
    for control, value in ((budget, 2), (which, 1), (size, 0)):
        before = image.value
        control.value = value
        assert image.value != before
    assert first != image.value
    static = explorers.browse_attack(result)
    stacks = static.children[-1].children
    assert len(stacks) == 2 and all(len(stack.children) == 3 for stack in stacks)
    frames = [frame.value for stack in stacks for frame in stack.children]
    assert len(set(frames)) == len(frames)
