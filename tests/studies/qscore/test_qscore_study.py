import dataclasses
import re

import numpy as np
import pytest
import torch

from sslnb import report
from sslnb.core.claims import NOT_REPLICATED, NOT_TESTED, REPLICATED, UNDECIDED
from sslnb.core.flat import Result
from sslnb.data.images import ImageSet
from sslnb.encoders.load import save_encoder
from sslnb.encoders.resnet import untrained
from sslnb.features.linear import LinearProbe
from sslnb.metrics import qscore
from sslnb.studies.qscore import Parameters, explorers, figures, pictures, tables
from sslnb.studies.qscore.claims import CLAIMS, decide_all
from sslnb.studies.qscore.encoders import SUBSETS, VARIANTS, Judged, active, band
from sslnb.studies.qscore.steps import GAUGES, PREDICTORS, STAGES, Study

TINY = {
    "objectives": ("simclr", "supervised"),
    "others": ("robust",),
    "steps": 30,
    "limit": 800,
    "probe_limit": 600,
    "test_limit": 300,
    "probe_epochs": 12,
    "further_steps": 2,
    "rounds": 4,
    "heatmap_images": 80,
    "optimizer": "adamw",
    "epsilons": (1.5, 2.0),
    "lows": (0.0, 50.0),
    "shares": (0.3, 0.6, 1.0),
    "weights": (0.0,),
    "norm_weights": (1e-4,),
}
FIGURES = (
    *("activation_maps", "magnitudes", "rates", "examples", "sensitivity", "subsets"),
    *("outcomes", "curves", "gauges", "ablation", "samples", "overlaps"),
)
EXPLORERS = (explorers.browse_features, explorers.browse_score, explorers.explore_features, explorers.explore_score)
TABLES = ("representations", "information", "undefined", "outcomes", "transfer", "overlaps", "shifted")


@pytest.fixture(scope="module")
def study(cache: None, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A whole study of two seeds, with somebody's encoder beside its own."""
    given = tmp_path_factory.mktemp("given") / "mine.pt"
    save_encoder(untrained(5, width=4, stem="imagenet"), given)
    study = Study(Parameters.of("quick", **TINY, encoder=f"checkpoint:{given}"))
    study.run()
    return study


def judged(study: Study, cell: tuple[int, int, int] = (0, 0, 0)) -> Judged:
    return study.judged[cell]


@pytest.mark.parametrize("profile", ["quick", "small", "paper", "published"])
def test_every_profile_is_complete(profile):
    assert Parameters.of(profile).profile == profile


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": "simcr"}, "did you mean 'simclr'"),
        ({"others": "simclr"}, "others: expected names that are not among objectives"),
        ({"also": "digit-scenes"}, "also: expected other sets"),
        ({"epsilon": -1}, "epsilon: expected a finite value of at least 0"),
        ({"low": 96.0}, "low, high: expected 0 <= low < high <= 100"),
        ({"lows": (0.0, 97.0)}, "lows: expected values below high"),
        ({"shares": (0.2, 0.5)}, "shares: expected values in"),
        ({"shares": (0.5, 0.2, 1.0)}, "shares: expected ascending"),
        ({"seeds": (0, 0)}, "seeds: expected distinct"),
        ({"rounds": 1}, "rounds: expected at least 2"),
        ({"further_optimizer": "sdg"}, "further_optimizer: expected one of"),
        ({"attack_budget": -0.5}, "attack_budget: expected"),
        ({"batch_size": 1}, "batch_size: expected at least 2"),
    ],
)
def test_what_can_not_be_run_is_refused_before_anything_is_trained(changes, message):
    with pytest.raises(ValueError, match=message):
        Parameters.of("quick", **changes)


def test_sets_and_encoders_that_do_not_fit_are_refused_before_training(cache, tmp_path):
    grey = tmp_path / "grey.npz"
    images = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 1), dtype=np.uint8)
    np.savez(grey, train_images=images, train_labels=np.arange(40) % 4)
    with pytest.raises(ValueError, match="expected images of 3 channels, got 1"):
        Study(Parameters.of("quick", targets=f"npz:{grey}")).representations()
    colour = tmp_path / "colour.npz"
    np.savez(colour, train_images=images.repeat(3, 3), train_labels=np.arange(40) % 4)
    with pytest.raises(ValueError, match="masked: expected sets with masks"):
        Study(Parameters.of("quick", masked=f"npz:{colour}")).representations()
    save_encoder(untrained(0, width=4, in_channels=1), tmp_path / "grey.pt")
    with pytest.raises(ValueError, match="encoder: expected one for 3 channels, got 1"):
        Study(Parameters.of("quick", encoder=f"checkpoint:{tmp_path / 'grey.pt'}")).representations()


def test_the_study_measures_every_encoder(study):
    a, s = study.result.arrays, study.result.scalars
    assert s["methods"] == ["simclr", "supervised", "robust", "encoder"] and s["self_supervised"] == ["simclr"]
    assert a["accuracy"].shape == (1, 4, 2) and np.isfinite(a["near_zero"]).all()
    assert a["subsets"].shape == (1, 4, 2, len(SUBSETS), 3) and a["auroc"].shape == (1, 4, 2, len(PREDICTORS))
    for cell, found in study.judged.items():
        assert a["rates"][cell][: len(found.rate)] == pytest.approx(found.rate.numpy())
        if found.probe.converged:
            assert a["accuracy"][cell] == pytest.approx(float(found.right.double().mean()))
    assert sorted(s["claims"][i]["claim"] for i in range(11)) == sorted(CLAIMS) and s["claim_parts"]
    assert set(study.result.provenance["seconds"]) == set(Study.steps())


def test_scores_and_areas_are_those_of_the_formulas(study):
    from sklearn.metrics import average_precision_score, roc_auc_score

    a, p = study.result.arrays, study.parameters
    cell = next(cell for cell, found in study.judged.items() if found.probe.converged and found.mask is not None)
    found = judged(study, cell)
    h = found.features["test"] / found.features["test"].norm(dim=1, keepdim=True)
    score = []
    for row in h:
        on = (row > row.mean() + p.epsilon * row.std(correction=0)) & found.mask
        score.append(float((row[on] - row.mean()).mean()) if on.any() else 0.0)
    right = found.right.numpy()
    assert a["auroc"][cell][0] == pytest.approx(roc_auc_score(right, score), abs=1e-4)
    assert a["auprc"][cell][0] == pytest.approx(average_precision_score(right, score), abs=1e-3)
    confidence = found.confidence.numpy()
    assert a["auroc"][cell][PREDICTORS.index("confidence")] == pytest.approx(roc_auc_score(right, confidence))
    assert a["score_by_outcome"][cell][0] == pytest.approx(np.array(score)[right].mean(), abs=1e-4)
    assert a["before"][cell][GAUGES.index("auroc")] == pytest.approx(a["auroc"][cell][0])
    assert a["auroc_drawn"][cell][0].std() > 0 and abs(a["auroc_drawn"][cell][0].mean() - a["auroc"][cell][0]) < 0.2


def test_all_features_are_as_good_in_any_order_and_as_principal_components(study):
    whole = study.result.arrays["subsets"][0, :, :, :, -1]
    whole = whole[np.isfinite(whole).all(2)]
    assert len(whole) and float(np.ptp(whole, axis=1).max()) < 0.02


def test_training_on_is_from_the_checkpoint_and_at_the_papers_rate_moves_next_to_nothing(study):
    cell = study._regularizable()[0]
    start = study.runs[cell].encoder
    gentle, strong = (study._further(cell, rate, None) for rate in study.parameters.further_rates)
    moved = []
    for encoder in (gentle, strong):
        pairs = [(encoder.get_parameter(n), w) for n, w in start.named_parameters() if w.ndim > 1]
        moved.append(max(float((b - w).norm() / w.norm()) for b, w in pairs))
    assert moved[0] < 1e-6 < 1e-4 < moved[1]


def test_overlaps_are_of_the_samples_own_discriminative_features(study):
    a, p = study.result.arrays, study.parameters
    overlap = a["overlap"][0, :2, :, 0]  # [method, seed, core or spurious, right or wrong]
    overlap = overlap[np.isfinite(overlap).all((2, 3))]
    assert len(overlap) and overlap.sum(1) == pytest.approx(np.ones((len(overlap), 2)), abs=1e-4)  # all of the image
    assert 0 < a["mask_area"][0] < 1 and np.isnan(a["shifted"][:, :, 2]).all()
    found = judged(study)
    highly = qscore.highly_activating(found.features["test"], p.epsilon)
    assert torch.equal(active(found, p.epsilon), highly & found.mask)


def test_empty_and_full_masks_are_left_out_of_the_overlap(study):
    test = study.encoders.splits("digit-scenes")["test"].take(20)
    found, encoder = judged(study), study._encoder((0, 0, 0))
    wanted = pictures.overlap(encoder, found, test, study.parameters)
    masks = torch.cat([test.masks, torch.zeros_like(test.masks), torch.ones_like(test.masks)])
    more = ImageSet(test.images.repeat(3, 1, 1, 1), test.labels.repeat(3), test.classes, masks, "more")
    np.testing.assert_allclose(pictures.overlap(encoder, found, more, study.parameters), wanted, atol=1e-5)


def test_no_discriminative_feature_and_no_wrong_sample_are_said_and_not_nan_in_a_table(cache):
    changes = {"epsilon": 7.9, "others": (), "seeds": (0,), "objectives": ("simclr",), "mask_objectives": ("simclr",)}
    study = Study(Parameters.of("quick", **TINY | changes | {"masked": ("digit-scenes",)}))
    result = study.run()
    assert any("rate: expected at least one feature" in reason for reason in result.scalars["reasons"].values())
    assert "nan" not in "".join(table_text(result)).lower()
    assert {claim["verdict"] for claim in result.scalars["claims"]} <= {NOT_TESTED}
    for name in FIGURES:
        getattr(figures, name)(result)
    for explorer in EXPLORERS:
        assert explorer(result).children


def table_text(result: Result) -> list[str]:
    found = [getattr(tables, name)(result).data for name in TABLES]
    found += [tables.prediction(result, area).data for area in ("auroc", "auprc")]
    found += [tables.regularized(result, r).data for r in (0, -1)]
    return [*found, report.claims(result, CLAIMS).data, report.comparisons(result).data, report.provenance(result).data]


def test_where_all_samples_are_right_the_area_is_undefined_and_says_so(study):
    found = judged(study)
    perfect = dataclasses.replace(found, right=torch.ones_like(found.right), probe=converged(found.probe))
    copy = Study(study.parameters)
    copy.result.scalars |= study.result.scalars
    copy.judged = {(0, 0, 0): perfect}
    Study.predict.__wrapped__(copy)
    Study.outcomes.__wrapped__(copy)
    result = copy.result
    assert np.isnan(result.arrays["auroc"][0, 0, 0, 0])
    assert "all samples are right" in result.scalars["reasons"]["simclr on digit-scenes, seed 0: AUROC"]
    for text in (tables.prediction(result, "auroc"), tables.outcomes(result)):
        assert "nan" not in text.data.lower()


def converged(probe: LinearProbe) -> LinearProbe:
    return dataclasses.replace(probe, converged=True)


def test_one_objective_alone_is_a_whole_study(cache):
    """As ``sslnb run qscore -p objectives=byol`` asks for it."""
    changes = {"objectives": ("byol",), "others": (), "seeds": (0,), "rounds": 2, "epsilon": 3.0, "encoder": None}
    result = Study(Parameters.of("quick", **TINY | changes)).run()
    assert result.scalars["methods"] == ["byol"] and result.scalars["claims"]
    assert not any(re.search(r"\bnan\b", text) for text in table_text(result))


def test_a_probe_at_chance_is_said_and_enters_nothing(cache):
    changes = {"objectives": ("simclr",), "others": (), "seeds": (0,), "probe_epochs": 1, "steps": 2, "masked": "none"}
    study = Study(Parameters.of("quick", **TINY | changes | {"limit": 100, "probe_limit": 40}))
    result = study.run()
    if study.judged[0, 0, 0].probe.converged:
        pytest.skip("even so it beats chance here")
    assert "does not beat chance" in result.scalars["reasons"]["simclr on digit-scenes, seed 0: linear probe"]
    for name in ("accuracy", "auroc", "base_rate", "subsets", "by_class"):
        assert np.isnan(result.arrays[name]).all(), name


def test_layers_are_found_in_every_kind_of_encoder_and_others_are_refused_at_once(cache):
    p = Parameters.of("quick")
    assert pictures.layers(p.skeleton("simclr", 3), "layer2") == ["layer2"]
    assert pictures.layers(p.skeleton("cmc", 3), "layer2") == ["first.layer2", "second.layer2"]
    with pytest.raises(ValueError, match=r"heatmap_layer: expected a layer that every encoder has.*got 'layer22'"):
        Study(Parameters.of("quick", heatmap_layer="layer22")).representations()


def test_what_was_learned_from_is_no_unseen_target():
    assert Parameters.of("small", dataset="stl10", also="none").unseen == ("cifar100", "caltech101")
    assert Parameters.of("quick", objectives="byol").on_masked == ("byol",)


def test_lists_can_be_emptied_where_nothing_depends_on_them():
    p = Parameters.of("small", also="none", others=(), masked="none", targets=[])
    assert (p.datasets, p.trained, p.masked, p.targets) == (("cifar10",), p.objectives, (), ())
    with pytest.raises(ValueError, match="objectives"):
        Parameters.of("quick", objectives="none")


def test_a_band_for_fewer_features_than_there_are_says_so():
    mask, missing = band(torch.tensor([1.0, 2.0, 3.0]), 60.0, 61.0)
    assert mask is None and missing.startswith("low, high: expected a band that holds at least one of 3 features")


def test_figures_and_tables_show_the_result_as_it_was_saved(study, tmp_path):
    study.result.save(tmp_path / "saved")
    again = Result.load(tmp_path / "saved")
    for name in FIGURES:
        assert getattr(figures, name)(again).axes
    texts = table_text(study.result)
    assert table_text(again) == texts
    assert not any(re.search(r"\bnan\b", text) for text in texts)
    assert "| paper |" not in tables.regularized(study.result, 0).data  # it has no such data set
    cifar = dataclasses.replace(study.result, scalars=study.result.scalars | {"datasets": ["cifar10"]})
    assert "90.8 / 89.3 / 92.3" in tables.regularized(cifar, 0).data


def test_explorers_draw_another_picture_for_another_choice(study):
    browse, score = explorers.browse_features(study.result), explorers.browse_score(study.result)
    assert len({frame.value for frame in browse.children[1].children}) == len(study.result.arrays["example_feature"])
    assert len(score.children[2].children) == 2 and len(score.children[2].children[0].children) == 2
    live = explorers.explore_features(study.result)
    before = live.children[1].value
    live.children[0].value = 3
    assert live.children[1].value != before
    live = explorers.explore_score(study.result)
    shown = [live.children[2].value]
    live.children[0].value = 1.0
    shown.append(live.children[2].value)
    live.children[1].value = (10, 60)
    assert len({*shown, live.children[2].value}) == 3
    live.children[0].value = 6.0  # no such feature: a picture that says so, not an error
    assert live.children[2].value not in shown


def made_up(**changes: object) -> Result:
    """A result on which every claim holds, of two sets, four methods and three seeds."""
    rng = np.random.default_rng(0)

    def around(value: float, *more: int) -> np.ndarray:
        return value + 0.001 * rng.standard_normal((2, 4, 3, *more))

    scalars = {
        "methods": ["simclr", "byol", "supervised", "robust"],
        "self_supervised": ["simclr", "byol"],
        "datasets": ["scenes", "others"],
        "subsets": list(SUBSETS),
        "shares": [0.3, 0.6, 1.0],
        "predictors": list(PREDICTORS),
        "gauges": list(GAUGES),
        "variants": list(VARIANTS),
        "stages": list(STAGES),
        "rates": [1e-5, 1.0],
        "masked": ["scenes", "elsewhere"],
    }
    arrays = {"near_zero": around(0.7), "kurtosis": around(5.0), "information": around(0.1, 3), "auroc": around(0.5, 5)}
    arrays["information"][..., 1] += 0.1
    arrays["auroc"][:, :2, :, 0] += 0.2
    arrays["auroc"][:, 3, :, 0] += 0.1
    arrays["auroc_drawn"] = arrays["auroc"][..., None] + 0.001 * rng.standard_normal((2, 4, 3, 5, 20))
    arrays["subsets"] = around(0.5, 5, 3)
    arrays["subsets"][..., 0, :] += 0.1
    after = arrays["after"] = around(0.5, 2, 3, 5)
    after[..., -1, 2, :] += 0.1
    after[..., -1, 2, GAUGES.index("auroc")] -= 0.2
    arrays["transfer"] = 0.5 + 0.001 * rng.standard_normal((2, 4, 3, 3))
    arrays["transfer"][..., 2] += 0.1
    overlap = arrays["overlap"] = 0.4 + 0.001 * rng.standard_normal((2, 4, 3, 3, 2, 2))
    overlap[..., 0, 0] += 0.05
    overlap[..., 2, 0, :] += 0.05
    overlap[1, :, :, 1:] = np.nan  # nothing is trained on there
    arrays["mask_area"] = np.array([0.2, 0.3])
    return Result("qscore", {}, scalars, arrays | changes)


PARTS = {
    "Q1": ["near zero", "excess kurtosis"],
    "Q2": ["against the lower tail", "against the upper tail"],
    "Q3": ["against random"],
    "Q4": ["against all features, 60 % kept", "against PCA, 60 % kept"],
    "Q5": ["against lower", "against upper"],
    "Q6": ["against chance", "against norm", "against max", "against neighbour"],
    "Q7": ["Q-Score against plain steps", "lasso does not gain"],
    "Q8": ["more highly activating features", "more confidence", "less AUROC"],
    "Q9": [
        *(
            f"{name}: {what}"
            for name in ("scenes",)
            for what in ("heat on the object beyond its area", "right minus wrong")
        ),
        "scenes: Q-Score against plain steps",
        *(f"elsewhere: {what}" for what in ("heat on the object beyond its area", "right minus wrong")),
    ],
    "Q10": ["self-supervised minus supervised", "robust minus supervised"],
    "Q11": ["Q-Score against plain steps"],
}


def test_every_claim_is_replicated_where_every_part_holds():
    verdicts, parts = decide_all(made_up())
    assert {verdict.claim: verdict.verdict for verdict in verdicts} == dict.fromkeys(CLAIMS, REPLICATED)
    assert {claim: [part["of"] for part in parts if part["claim"] == claim] for claim in CLAIMS} == PARTS


def lower(array: np.ndarray, at: tuple, by: float = 0.5) -> np.ndarray:
    """A copy whose part is lower."""
    copy = array.copy()
    copy[at] -= by
    return copy


@pytest.mark.parametrize(
    ("claim", "part", "array", "spoil"),
    [
        ("Q1", 0, "near_zero", lambda a: a - 0.4),
        ("Q1", 1, "kurtosis", lambda a: -a),
        ("Q2", 0, "information", lambda a: lower(a, (..., 0), -0.5)),
        ("Q2", 1, "information", lambda a: lower(a, (..., 2), -0.5)),
        ("Q3", 0, "subsets", lambda a: lower(a, (..., 1, slice(None)), -0.5)),
        ("Q4", 0, "subsets", lambda a: lower(a, (..., 0, 2), -0.5)),
        ("Q4", 1, "subsets", lambda a: lower(a, (..., 2, slice(None)), -0.5)),
        ("Q5", 0, "subsets", lambda a: lower(a, (..., 3, slice(None)), -0.5)),
        ("Q5", 1, "subsets", lambda a: lower(a, (..., 4, slice(None)), -0.5)),
        ("Q6", 0, "auroc", lambda a: lower(a, (..., 0))),
        *(("Q6", i, "auroc", lambda a, i=i: lower(a, (..., i), -0.5)) for i in (1, 2, 3)),
        ("Q7", 0, "after", lambda a: lower(a, (..., -1, 2, 0))),
        ("Q7", 1, "after", lambda a: lower(a, (..., -1, 1, 0), -0.5)),
        *(("Q8", i - 1, "after", lambda a, i=i: lower(a, (..., -1, 2, i))) for i in (1, 2)),
        ("Q8", 2, "after", lambda a: lower(a, (..., -1, 2, 3), -0.5)),
        ("Q9", 0, "overlap", lambda a: lower(a, (0, ..., 0, 0, slice(None)))),
        ("Q9", 1, "overlap", lambda a: lower(a, (0, ..., 0, 0, 0), 0.1)),
        ("Q9", 2, "overlap", lambda a: lower(a, (0, ..., 2, 0, slice(None)))),
        ("Q9", 4, "overlap", lambda a: lower(a, (1, ..., 0, 0, 0), 0.1)),
        ("Q10", 0, "auroc", lambda a: lower(a, (slice(None), slice(0, 2), ..., 0))),
        ("Q10", 1, "auroc", lambda a: lower(a, (slice(None), 3, ..., 0))),
        ("Q11", 0, "transfer", lambda a: lower(a, (..., 2))),
    ],
)
def test_a_claim_fails_with_any_of_its_parts(claim, part, array, spoil):
    verdicts, parts = decide_all(made_up(**{array: spoil(made_up().arrays[array])}))
    own = [one["verdict"] for one in parts if one["claim"] == claim]
    assert own[part] == NOT_REPLICATED
    assert next(verdict.verdict for verdict in verdicts if verdict.claim == claim) == NOT_REPLICATED


def test_the_choice_of_test_images_widens_the_interval_of_an_area():
    steady = made_up()
    drawn = steady.arrays["auroc_drawn"]
    shaken = made_up(auroc_drawn=drawn + 0.2 * np.random.default_rng(1).standard_normal(drawn.shape[-1]))
    narrow, wide = (next(v for v in decide_all(one)[0] if v.claim == "Q10") for one in (steady, shaken))
    assert narrow.high - narrow.low == pytest.approx(wide.high - wide.low, rel=0.01)  # it cancels: images are shared
    narrow, wide = (next(p for p in decide_all(one)[1] if p["of"] == "against chance") for one in (steady, shaken))
    assert wide["high"] - wide["low"] > 10 * (narrow["high"] - narrow["low"])


def test_what_was_not_trained_is_no_part_that_holds():
    result = made_up()
    result.scalars["methods"][3] = "rotnet"
    verdict = next(verdict for verdict in decide_all(result)[0] if verdict.claim == "Q10")
    assert verdict.verdict == UNDECIDED and "1 not measured" in verdict.note


def test_a_recorded_result_is_one_of_the_study(request):
    published = Study(Parameters.of("published"))
    assert published.run() is published.result and published.result.study == "qscore"
    assert {claim["claim"] for claim in published.result.scalars["claims"]} == set(CLAIMS)
    assert len(published.result.scalars["seeds"]) >= 3
    for name in FIGURES:
        getattr(figures, name)(published.result)
