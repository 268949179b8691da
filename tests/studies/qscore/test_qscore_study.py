"""The study of the Q-Score on a small pool: its datasets fit together, and its claims are decided as stated."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure

from sslnb import report
from sslnb.core.claims import Kind, bootstrap_weights
from sslnb.core.labels import label
from sslnb.core.result import Result
from sslnb.data.images import ImageSet
from sslnb.encoders import save_encoder
from sslnb.encoders.resnet import untrained
from sslnb.metrics import qscore, risk_coverage
from sslnb.objectives.registry import get
from sslnb.pool.members import Scale, Variant
from sslnb.studies.qscore import STUDY, explorers, failure_figures, failure_steps, figures, findings, pictures, tables
from sslnb.studies.qscore.claims import CLAIMS, verdicts
from sslnb.studies.qscore.encoders import SUBSETS, VARIANTS, active, band, further
from sslnb.studies.qscore.failure_steps import ANSWERED, KEPT_BITS, PREDICTORS, RANDOM, predict
from sslnb.studies.qscore.steps import BANDS, GAUGES, OUTCOMES, REGIONS, STAGES, outcomes
from sslnb.studies.study import Run

KEPT = 2.0**-KEPT_BITS  # the relative error of curves that are recorded with few digits
SHARED = {"width": 8, "stem": "imagenet", "steps": 40, "epochs": 4, "batch_size": 64, "flip": 0.0, "crop_scale": 0.6}
TINY = {
    "pool": "tiny",
    "epsilon": 2.0,
    "probe_limit": 2000,
    "test_limit": 300,
    "probe_epochs": 20,
    "further_steps": 2,
    "further_rates": (1e-5, 3e-3),
    "rounds": 4,
    "heatmap_images": 80,
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
FAILURE = ("risk_curves", "excess_areas", "by_score", "by_encoder")
TABLES = (
    *("representations", "information", "outcomes", "regularized", "transfer", "overlaps", "shifted"),
    "threshold",
)


@pytest.fixture(scope="module")
def pool(train_pool: Callable[[Scale], Path]) -> None:
    """A pool of two seeds and three objectives."""
    variants = {"simclr": Variant(2, options={"temperature": 0.1}), "supervised": Variant(2), "byol": Variant(1)}
    train_pool(Scale("tiny", "digit-scenes", SHARED | {"optimizer": "adamw"}, variants, limit=800, halvings=0))


@pytest.fixture(scope="module")
def study(pool: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole study, with somebody's encoder beside the pool's."""
    given = tmp_path_factory.mktemp("given") / "mine.pt"
    save_encoder(untrained(5, width=4, stem="imagenet"), given)
    run = STUDY.start(STUDY.parameters.of("quick", **TINY, encoder=f"checkpoint:{given}"))
    run.all()
    return run


def judged(study: Run, cell: tuple = ("simclr", 0, "digit-scenes")) -> object:
    return study.context.memory["judged"][cell]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilon": -1}, "epsilon: expected at least 0"),
        ({"epsilon": float("inf")}, "epsilon: expected"),
        ({"low": 96.0}, "low, lows, high: expected low ends below high"),
        ({"lows": (0.0, 97.0)}, "low, lows, high: expected low ends below high"),
        ({"high": 101.0}, "high: expected at most 100"),
        ({"shares": (0.2, 0.5)}, "shares: expected values in"),
        ({"shares": (0.5, 0.2, 1.0)}, "shares: expected ascending"),
        ({"datasets": ("cifar10", "cifar10")}, "datasets: expected distinct"),
        ({"rounds": 1}, "rounds: expected at least 2"),
        ({"probe_limt": 5}, "did you mean 'probe_limit'"),
    ],
)
def test_what_can_not_be_run_is_refused_before_anything_starts(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        STUDY.parameters.of("quick", **changes)


def test_sets_and_encoders_that_do_not_fit_are_refused(pool: None, tmp_path) -> None:
    def refuse(message: str, **changes: object) -> None:
        with pytest.raises(ValueError, match=message):
            STUDY.start(STUDY.parameters.of("quick", **TINY | changes)).step("representations")

    grey = tmp_path / "grey.npz"
    images = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 1), dtype=np.uint8)
    np.savez(grey, train_images=images, train_labels=np.arange(40) % 4)
    refuse("targets: expected images of 3 channels, got 1", targets=f"npz:{grey}")
    colour = tmp_path / "colour.npz"
    np.savez(colour, train_images=images.repeat(3, 3), train_labels=np.arange(40) % 4)
    refuse("masked: expected sets with masks", masked=f"npz:{colour}")
    save_encoder(untrained(0, width=4, in_channels=1), tmp_path / "grey.pt")
    refuse("encoder: expected images of 1 channels, got 3", encoder=f"checkpoint:{tmp_path / 'grey.pt'}")
    refuse(r"heatmap_layer: expected a layer of the pool's encoders.*got 'layer22'", heatmap_layer="layer22")


def test_layers_are_found_in_every_kind_of_encoder() -> None:
    shape = {"width": 2, "stem": "imagenet", "in_channels": 3}
    assert pictures.layers(get("simclr").build_encoder(18, **shape), "layer2") == ["layer2"]
    assert pictures.layers(get("cmc").build_encoder(18, **shape), "layer2") == ["first.layer2", "second.layer2"]


def test_the_study_measures_every_encoder(study: Run) -> None:
    data = study.result.data
    seen = data["representations"]
    assert list(seen.objective.values) == ["simclr", "supervised", "byol", "untrained", "encoder"]
    assert seen.near_zero.isel(dataset=0).notnull().sum() == 8  # two seeds of three, one of two
    for (objective, seed, dataset), own in study.context.memory["judged"].items():
        at = {"objective": objective, "seed": seed, "dataset": dataset}
        rate = data["features"].rate.sel(at).values
        assert rate[: len(own.rate)] == pytest.approx(own.rate.numpy()) and np.isnan(rate[len(own.rate) :]).all()
        if own.probe.converged:
            assert float(seen.accuracy.sel(at)) == pytest.approx(float(own.right.double().mean()))
    assert [verdict["claim"] for verdict in study.result.facts["verdicts"]] == list(CLAIMS)
    assert set(study.result.facts["provenance"]["seconds"]) == {step.__name__ for step in STUDY.steps}


def test_scores_and_areas_are_those_of_the_formulas(study: Run) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    cell, own = next(
        (cell, own)
        for cell, own in study.context.memory["judged"].items()
        if own.probe.converged and own.mask is not None
    )
    at = dict(zip(("objective", "seed", "dataset"), cell, strict=True))
    h, score = own.features["test"] / own.features["test"].norm(dim=1, keepdim=True), []
    for row in h:
        on = (row > row.mean() + 2.0 * row.std(correction=0)) & own.mask
        score.append(float((row[on] - row.mean()).mean()) if on.any() else 0.0)
    right, data = own.right.numpy(), study.result.data
    areas = data["predict"].sel(at)
    assert float(areas.auroc.sel(predictor="qscore")) == pytest.approx(roc_auc_score(right, score), abs=1e-4)
    assert float(areas.auprc.sel(predictor="qscore")) == pytest.approx(average_precision_score(right, score), abs=1e-3)
    confidence = roc_auc_score(right, own.confidence.numpy())
    assert float(areas.auroc.sel(predictor="confidence")) == pytest.approx(confidence)
    mean = np.array(score)[right].mean()
    assert float(data["outcomes"].score.sel(at).sel(outcome="right")) == pytest.approx(mean, abs=1e-4)
    before = data["regularize"].before.sel(at).sel(gauge="auroc")
    assert float(before) == pytest.approx(float(areas.auroc.sel(predictor="qscore")))
    drawn = areas.auroc_drawn.sel(predictor="qscore")
    assert float(drawn.std()) > 0 and abs(float(drawn.mean() - areas.auroc.sel(predictor="qscore"))) < 0.2


def test_epsilon_is_the_greatest_at_which_few_images_are_empty(pool: None) -> None:
    """For all encoders, from training images alone."""
    from sslnb.studies.qscore.encoders import epsilon, features_of

    context = STUDY.start(STUDY.parameters.of("quick", **TINY | {"epsilon": None})).context
    chosen = epsilon(context)
    images = context.pool.images()
    features = [features_of(context.encoder(n, s), images) for n, s in context.names if n != "untrained"]

    def empty(value: float) -> float:
        return float(np.mean([1 - qscore.highly_activating(h, value).any(1).double().mean() for h in features]))

    assert chosen in (4.0, 3.5, 3.0, 2.5, 2.0)
    assert chosen == 2.0 or empty(chosen) <= 0.05
    assert chosen == 4.0 or empty(chosen + 0.5) > 0.05


def test_all_features_are_as_good_in_any_order_and_as_principal_components(study: Run) -> None:
    whole = study.result.data["subset_probes"].accuracy.sel(share=1.0).stack(of=("objective", "seed", "dataset"))
    whole = whole.dropna("of").transpose("of", "subset").values
    assert len(whole) and float(np.ptp(whole, axis=1).max()) < 0.02


def test_training_on_is_from_the_pools_encoder(study: Run) -> None:
    start = study.context.encoder("simclr", 0)
    moved = []
    for rate in (1e-7, 3e-3):
        encoder = further(study.context, "simclr", 0, rate, None)
        pairs = [(encoder.get_parameter(n).detach(), w.detach()) for n, w in start.named_parameters() if w.ndim > 1]
        moved.append(max(float((b - w).norm() / w.norm()) for b, w in pairs))
    assert moved[0] < 1e-3 < moved[1]


def test_all_kinds_of_training_on_have_the_rate_that_is_best_for_plain_training(study: Run) -> None:
    data = study.result.data["regularize"]
    assert data.chosen_rate.notnull().sum() == 1
    chosen = float(data.chosen_rate.sel(objective="simclr"))
    validation = data.plain_validation.sel(objective="simclr")
    assert float(validation.max()) == float(validation.sel(rate=chosen))
    after = data.after.sel(objective="simclr", gauge="highly").isel(dataset=0)
    assert after.sel(rate=chosen).notnull().all() and after.where(after.rate != chosen).isnull().all()


def test_overlaps_are_of_the_samples_own_discriminative_features(study: Run) -> None:
    data = study.result.data["heatmaps"]
    overlap = data.overlap.sel(objective="simclr", stage="before").dropna("masked").sum("region")
    assert overlap.size and bool((abs(overlap - 1) < 1e-4).all())  # all of the image
    assert bool((data.area > 0).all()) and bool((data.area < 1).all())
    own = judged(study)
    highly = qscore.highly_activating(own.features["test"], 2.0)
    assert torch.equal(active(own, 2.0), highly & own.mask)


def test_the_corrected_overlap_is_zero_for_heat_that_lies_evenly(study: Run, monkeypatch) -> None:
    test = study.context.images("digit-scenes", "test", 300).take(20)
    own, encoder = judged(study), study.context.encoder("simclr", 0)
    even = (torch.ones(20, 32, 32), torch.arange(20) % 2 == 0)
    monkeypatch.setattr(pictures, "_heat", lambda *_: even)
    overlap, lift = pictures.overlap(encoder, own, test, look())
    assert lift == pytest.approx(0, abs=1e-6) and overlap.sum(0) == pytest.approx([1, 1])
    heat = test.masks.float()
    monkeypatch.setattr(pictures, "_heat", lambda *_: (heat, even[1]))
    _, lift = pictures.overlap(encoder, own, test, look())
    assert lift == pytest.approx(2 * (1 - float(test.masks.double().mean())), abs=1e-5)


def look() -> pictures.Look:
    return pictures.Look("layer2", 2.0, 50.0, 95.0)


def test_empty_and_full_masks_are_left_out_of_the_overlap(study: Run) -> None:
    test = study.context.images("digit-scenes", "test", 300).take(20)
    own, encoder = judged(study), study.context.encoder("simclr", 0)
    wanted, lift = pictures.overlap(encoder, own, test, look())
    masks = torch.cat([test.masks, torch.zeros_like(test.masks), torch.ones_like(test.masks)])
    more = ImageSet(test.images.repeat(3, 1, 1, 1), test.labels.repeat(3), test.classes, masks, "more")
    again, same = pictures.overlap(encoder, own, more, look())
    np.testing.assert_allclose(again, wanted, atol=1e-5)
    assert same == pytest.approx(lift, abs=1e-5)


def test_no_discriminative_feature_and_no_wrong_sample_are_said_and_not_nan_in_a_table(pool: None) -> None:
    changes = {"epsilon": 7.9, "objectives": ("simclr",), "masked": ("digit-scenes",)}
    result = STUDY.start(STUDY.parameters.of("quick", **TINY | changes)).all()
    assert any("rate: expected at least one feature" in note for note in result.facts["notes"])
    assert "nan" not in "".join(table_text(result)).lower()
    assert {verdict["kind"] for verdict in result.facts["verdicts"]} == {Kind.NOT_TESTED}
    assert all(figure.axes for figure in every_figure(result))
    assert explorers.explore_features(result).children and explorers.explore_score(result).children
    assert explorers.browse_features(result).data == explorers.NO_FEATURE


def every_figure(result: Result) -> list[Figure]:
    drawn = [getattr(figures, name) for name in FIGURES] + [failure_figures.risk_curves, failure_figures.excess_areas]
    return [draw(result) for draw in drawn]


def table_text(result: Result) -> list[str]:
    texts = [getattr(tables, name)(result).data for name in TABLES]
    texts += [tables.prediction(result, area).data for area in ("auroc", "auprc")]
    texts += [getattr(failure_figures, name)(result).data for name in FAILURE if name.startswith("by_")]
    return [*texts, report.verdicts(result, CLAIMS).data, report.learned(result).data, report.origin(result).data]


def test_where_all_samples_are_right_the_area_is_undefined_and_says_so(study: Run) -> None:
    own = judged(study)
    perfect = dataclasses.replace(
        own, right=torch.ones_like(own.right), probe=dataclasses.replace(own.probe, converged=True)
    )
    context = STUDY.start(study.parameters).context
    context.memory["judged"] = {("simclr", 0, "digit-scenes"): perfect}
    data = study.result.data | {"predict": predict(context), "outcomes": outcomes(context)}
    assert data["predict"].auroc.isnull().all()
    assert any("simclr on digit-scenes, seed 0: no AUROC, all samples are right" in note for note in context.notes)
    result = Result("qscore", data, study.result.facts)
    for text in (tables.prediction(result, "auroc"), tables.outcomes(result)):
        assert "nan" not in text.data.lower()
    assert figures.curves(result).axes


def test_one_objective_alone_is_a_whole_study(pool: None) -> None:
    """As ``sslnb run qscore -p objectives=byol`` asks for it."""
    changes = {"objectives": ("byol",), "rounds": 2, "epsilon": 3.0, "targets": ()}
    result = STUDY.start(STUDY.parameters.of("quick", **TINY | changes)).all()
    assert list(result.data["representations"].objective.values) == ["byol", "untrained"]
    assert not any(re.search(r"\bnan\b", text) for text in table_text(result))
    assert all(figure.axes for figure in every_figure(result))


def test_a_band_for_fewer_features_than_there_are_says_so() -> None:
    mask, missing = band(torch.tensor([1.0, 2.0, 3.0]), 60.0, 61.0)
    assert mask is None and missing.startswith("low, high: expected a band that holds at least one of 3 features")


def test_figures_and_tables_show_the_result_as_it_was_saved(study: Run, tmp_path) -> None:
    again = Result.load(study.result.save(tmp_path / "saved"))
    assert all(figure.axes for figure in every_figure(again))
    texts = table_text(study.result)
    assert table_text(again) == texts and not any(re.search(r"\bnan\b", text) for text in texts)
    assert "| paper |" not in tables.regularized(study.result).data  # it has no such data set
    named = study.result.data["regularize"].assign_coords(dataset=["cifar10"])
    cifar = Result("qscore", study.result.data | {"regularize": named}, study.result.facts)
    assert "90.8 / 89.3 / 92.3" in tables.regularized(cifar).data


def test_explorers_draw_another_picture_for_another_choice(study: Run, tables_of) -> None:
    data = study.result.data["features"]
    tables = tables_of(explorers.browse_features(study.result))
    assert tables["classes"].feature.nunique() == data.sizes["example"]
    assert set(tables["pictures"]["as"]) == {"image", "heatmap"} and tables["pictures"].jpeg.str.len().min() > 100
    scores = tables_of(explorers.browse_score(study.result))
    settings = data.sizes["epsilon"] * data.sizes["low"]
    assert len(scores["summary"]) == settings
    shares = scores["scores"].groupby(["epsilon", "low", "kind"]).share.sum()
    assert len(shares) == 2 * settings and set(shares.round()) <= {0, 100}
    live = explorers.explore_features(study.result)
    before = live.children[1].value
    live.children[0].value = 3
    assert live.children[1].value != before
    live = explorers.explore_score(study.result)
    pictured = [live.children[2].value]
    live.children[0].value = 1.0
    pictured.append(live.children[2].value)
    live.children[1].value = (10, 60)
    assert len({*pictured, live.children[2].value}) == 3
    live.children[0].value = 6.0  # no such feature: a picture that says so, not an error
    assert live.children[2].value not in pictured


# --- which images fail ------------------------------------------------------------------------------------------------


def test_excess_areas_are_those_of_the_scores_own_curves(study: Run) -> None:
    """Against a loop over coverages, for scores without ties."""
    data, cell = study.result.data["failure"], ("simclr", 0, "digit-scenes")
    own, at = judged(study), dict(zip(("objective", "seed", "dataset"), cell, strict=True))
    wrong = ~own.right.numpy()
    for name, score in {"norm": own.features["test"].norm(dim=1), "confidence": own.confidence}.items():
        risk = np.cumsum(wrong[np.argsort(-score.numpy(), kind="stable")]) / np.arange(1, len(wrong) + 1)
        best = np.cumsum(np.sort(wrong)) / np.arange(1, len(wrong) + 1)
        here = data.sel(at).sel(predictor=name)
        assert float(here.area) == pytest.approx(risk.mean(), abs=1e-3)
        assert float(here.excess) == pytest.approx(risk.mean() - best.mean(), abs=1e-3)
        for share in ANSWERED:
            assert float(here.risk.sel(answered=share)) == pytest.approx(risk[round(300 * share) - 1], abs=0.01)
            assert float(here.curves.sel(coverage=share)) == pytest.approx(
                float(here.risk.sel(answered=share)), rel=KEPT
            )
    random = data.sel(at).sel(predictor=RANDOM)
    assert float(random.area) == pytest.approx(wrong.mean())
    assert random.curves.values == pytest.approx(wrong.mean(), rel=KEPT)
    assert bool((data.sel(at).curves >= (1 - 2 * KEPT) * data.sel(at).optimum).all())


def test_scores_and_encoders_share_the_draws_of_images(study: Run) -> None:
    """The excess of a random order, which knows nothing but a draw's images, is that of the same draws for all."""
    data = failure_steps._by_score(study.context)
    weights = torch.from_numpy(bootstrap_weights(300, rounds=4))
    for (objective, seed, dataset), own in study.context.memory["judged"].items():
        if own.probe.converged:
            drawn = data.excess_drawn.sel(objective=objective, seed=seed, dataset=dataset, predictor=RANDOM)
            wanted = risk_coverage(torch.zeros(300), own.right, weights=weights).excess
            assert drawn.values == pytest.approx(wanted.numpy(), abs=1e-6) and np.ptp(drawn.values) > 0


def test_views_are_crops_as_the_pool_makes_them_and_alike_for_all_encoders(pool: None) -> None:
    context = STUDY.start(STUDY.parameters.of("quick", **TINY, views=3)).context
    test = context.images("digit-scenes", "test", 20)
    views = failure_steps._views(context, test)
    assert len(views) == 3 and all(view.shape == test.images.shape and view.dtype == torch.uint8 for view in views)
    assert all(torch.equal(a, b) for a, b in zip(views, failure_steps._views(context, test), strict=True))
    assert not torch.equal(views[0], views[1])
    crop, whole = (Scale("x", "digit-scenes", SHARED | {"crop_scale": scale}, {}) for scale in (0.3, 1.0))
    context.plan = whole
    steady = [float((view.float() - test.images.float()).abs().mean()) for view in failure_steps._views(context, test)]
    context.plan = crop
    moved = [float((view.float() - test.images.float()).abs().mean()) for view in failure_steps._views(context, test)]
    assert max(steady) < min(moved)


def test_scores_from_views_see_what_views_agree_in(study: Run) -> None:
    own, encoder = judged(study), study.context.encoder("simclr", 0)
    images = study.context.images("digit-scenes", "test", 300).images
    alike = failure_steps._view_scores(own, encoder, [images, images])
    assert alike["agreement"].numpy() == pytest.approx(np.ones(300), abs=1e-3)
    assert alike["view_confidence"].numpy() == pytest.approx(own.confidence.numpy(), abs=0.02)
    mixed = torch.cat([images[:100], images[100:].roll(1, 0)])  # another image as the second view of most
    apart = failure_steps._view_scores(own, encoder, [images, mixed])["agreement"]
    assert float(apart[:100].min()) > 0.99 and float(apart[100:].median()) < 0.9


def made_failure(excess: dict[str, list[float]], learned: list[bool]) -> xr.Dataset:
    """Excess areas of some scores by objective, with draws that move all of them alike."""
    shape = {"objective": len(learned), "seed": 2, "dataset": 1, "predictor": len(excess)}
    values = np.broadcast_to(np.array(list(excess.values())).T[:, None, None], tuple(shape.values()))
    area = xr.DataArray(values, dims=tuple(shape), coords={"predictor": list(excess)})
    drawn = area + xr.DataArray(np.linspace(-0.01, 0.01, 5), dims="round")
    names = {"objective": ["a", "b", "c", "d"][: len(learned)], "learned": ("objective", learned)}
    return xr.Dataset({"area": area, "excess": area, "excess_drawn": drawn}, names)


def test_means_are_over_the_objectives_that_learned_and_differences_are_paired() -> None:
    excess = {"norm": [0.1, 0.2, 0.3, 9], "confidence": [0.05, 0.15, 0.25, 9], RANDOM: [0.2, 0.4, 0.6, 9]}
    data = made_failure(excess, [True, True, True, False])
    pooled = failure_steps._over_objectives(data)["pooled"].isel(dataset=0)

    def of(quantity: str, predictor: str = "norm") -> list[float]:
        return pooled.sel(quantity=quantity, predictor=predictor).values.tolist()

    assert of("excess")[0] == pytest.approx(0.2) and of("share")[0] == pytest.approx(0.5)
    assert of("behind") == pytest.approx([0.05] * 3)  # what all share, objectives and images, cancels
    assert of("share", RANDOM) == pytest.approx([1, 1, 1])
    half = np.hypot(4.303 * 0.1 / 3**0.5, 1.96 * np.std(np.linspace(-0.01, 0.01, 5), ddof=1))
    assert of("excess")[1:] == pytest.approx([0.2 - half, 0.2 + half], rel=1e-3)


def test_where_no_encoder_learned_or_nothing_was_recorded_one_line_says_so(study: Run) -> None:
    drawn = [getattr(failure_figures, name) for name in FAILURE]
    older = Result("qscore", {k: v for k, v in study.result.data.items() if k != "failure"}, study.result.facts)
    for draw in drawn:
        assert said(draw(older)) == "This was not recorded: the result is older than the step failure."
    none = study.result.data["failure"].copy(deep=True)
    none["learned"][:] = False
    none["pooled"][:] = np.nan
    unlearned = Result("qscore", study.result.data | {"failure": none}, study.result.facts)
    for draw in (failure_figures.excess_areas, failure_figures.by_score):
        assert said(draw(unlearned)) == failure_figures.NONE_LEARNED
    assert failure_figures.risk_curves(unlearned).axes


def said(shown: object) -> str:
    return shown.data if hasattr(shown, "data") else shown.axes[0].texts[0].get_text()


def test_curves_are_named_at_their_ends_and_show_what_was_measured(study: Run) -> None:
    figure = failure_figures.risk_curves(study.result)
    data = study.result.data["failure"].isel(dataset=0)
    for ax in figure.axes:
        (method,) = [str(name) for name in data.objective.values if label(str(name)) == ax.get_title()]
        ends = data.sel(objective=method).curves.sel(coverage=1.0, predictor=RANDOM).mean("seed")
        for line in ax.lines:
            assert line.get_ydata()[-1] == pytest.approx(100 * float(ends), rel=KEPT) and line.get_xdata()[-1] == 100
        heights = sorted(text.xy[1] for text in ax.texts)
        assert len(heights) == len(ax.lines) and min(np.diff(heights)) > 0
    colours = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert len({*colours.values()}) == len(colours) - 1  # both baselines are grey


# --- claims -----------------------------------------------------------------------------------------------------------

NAMES = ["simclr", "byol", "moco", "supervised", "robust", "untrained"]
SHAPE = (len(NAMES), 3, 2)  # objective, seed, dataset


def made_up(**changes: np.ndarray) -> dict[str, xr.Dataset]:
    """Datasets on which every claim holds, of three self-supervised objectives, three seeds, two sets."""
    rng = np.random.default_rng(0)

    def around(value: float, *more: int) -> np.ndarray:
        return value + 0.001 * rng.standard_normal((*SHAPE, *more))

    arrays = {"kurtosis": around(5.0), "relative_information": around(0.1, 3), "auroc": around(0.5, 5)}
    arrays["kurtosis"][5] -= 3
    arrays["relative_information"][..., 1] += 0.1
    arrays["auroc"][:3, ..., 0] += 0.3
    arrays["subsets"] = around(0.5, 5, 3)
    arrays["subsets"][..., 0, :] += 0.1
    arrays["after"] = around(0.5, 2, 3, 5)
    arrays["after"][..., 2, :] += 0.1
    arrays["after"][..., 2, GAUGES.index("auroc")] -= 0.2
    arrays["transfer"] = around(0.5, 3)
    arrays["transfer"][..., 2] += 0.1
    arrays["lift"] = around(0.1, 3)
    arrays |= changes
    arrays.setdefault("auroc_drawn", arrays["auroc"][..., None] + 0.001 * rng.standard_normal((*SHAPE, 5, 20)))
    key, kinds = ("objective", "seed", "dataset"), [name in NAMES[:3] for name in NAMES]
    shared = {"objective": NAMES, "seed": range(3), "dataset": ["scenes", "others"]}
    shared |= {"self_supervised": ("objective", kinds), "learned": ("objective", [True] * 5 + [False])}
    rates = {"rate": [0.01, 1.0], "variant": list(VARIANTS), "gauge": list(GAUGES)}
    masks = {k: v for k, v in shared.items() if k != "dataset"} | {
        "masked": ["scenes", "others"],
        "stage": list(STAGES),
    }
    target = {k: v for k, v in shared.items() if k != "dataset"} | {"target": ["a", "b"], "stage": list(STAGES)}
    return {
        "representations": xr.Dataset({"kurtosis": (key, arrays["kurtosis"])}, shared),
        "features": xr.Dataset(
            {"relative_information": ((*key, "band"), arrays["relative_information"])}, shared | {"band": list(BANDS)}
        ),
        "subset_probes": xr.Dataset(
            {"accuracy": ((*key, "subset", "share"), arrays["subsets"])},
            shared | {"subset": list(SUBSETS), "share": [0.3, 0.6, 1.0]},
        ),
        "predict": xr.Dataset(
            {
                "auroc": ((*key, "predictor"), arrays["auroc"]),
                "auroc_drawn": ((*key, "predictor", "round"), arrays["auroc_drawn"]),
            },
            shared | {"predictor": list(PREDICTORS)},
        ),
        "regularize": xr.Dataset(
            {
                "after": ((*key, *rates), arrays["after"]),
                "chosen_rate": ("objective", [1.0] * len(NAMES)),
            },
            shared | rates,
        ),
        "transfer": xr.Dataset({"accuracy": (("objective", "seed", "target", "stage"), arrays["transfer"])}, target),
        "heatmaps": xr.Dataset({"lift": (("objective", "seed", "masked", "stage"), arrays["lift"])}, masks),
    }


def kinds(data: dict[str, xr.Dataset]) -> dict[str, Kind]:
    return {verdict.claim: verdict.kind for verdict in verdicts(data)}


def array(name: str) -> np.ndarray:
    places = {"kurtosis": "representations", "relative_information": "features", "auroc": "predict"}
    places |= {"after": "regularize", "lift": "heatmaps"}
    step, variable = {"subsets": ("subset_probes", "accuracy"), "transfer": ("transfer", "accuracy")}.get(
        name, (places.get(name), name)
    )
    return made_up()[step][variable].values.copy()


def spoiled(name: str, at: tuple, by: float) -> dict[str, xr.Dataset]:
    values = array(name)
    values[at] += by
    return made_up(**{name: values})


def test_every_claim_is_replicated_where_it_holds() -> None:
    decided = {verdict.claim: verdict for verdict in verdicts(made_up())}
    assert {name: verdict.kind for name, verdict in decided.items()} == dict.fromkeys(CLAIMS, Kind.REPLICATED)
    assert decided["Q1"].estimate == pytest.approx(3, abs=0.01) and decided["Q1"].units == 3
    assert len(decided["Q5"].parts) == 2 and len(decided["Q8"].parts) == 3
    assert "robust − supervised" in decided["Q10"].controls and "lasso − plain" in decided["Q7"].controls


@pytest.mark.parametrize(
    ("claim", "name", "at", "by"),
    [
        ("Q1", "kurtosis", (slice(0, 3),), -6.0),
        ("Q2", "relative_information", (..., 2), 0.5),
        ("Q3", "subsets", (..., 1, slice(None)), 0.5),
        ("Q4", "subsets", (..., 0, 2), 0.5),
        ("Q5", "subsets", (..., 3, slice(None)), 0.5),
        ("Q5", "subsets", (..., 4, slice(None)), 0.5),
        ("Q6", "auroc", (..., 0), -0.5),
        *(("Q6b", "auroc", (..., i), 0.5) for i in (1, 2, 3, 4)),
        ("Q7", "after", (..., 1, 2, 0), -0.5),
        *(("Q8", "after", (..., 2, i), -0.4) for i in (1, 2)),
        ("Q8", "after", (..., 2, 3), 0.5),
        ("Q9", "lift", (..., 0), -0.5),
        ("Q10", "auroc", (slice(0, 3), ..., 0), -0.5),
        ("Q11", "transfer", (..., 2), -0.5),
    ],
)
def test_a_claim_is_reversed_where_the_opposite_holds(claim: str, name: str, at: tuple, by: float) -> None:
    assert kinds(spoiled(name, at, by))[claim] == Kind.REVERSED


def test_what_was_not_chosen_decides_nothing() -> None:
    """Effects of training on at another rate than the chosen one."""
    assert kinds(spoiled("after", (..., 0, 2, 0), -0.5))["Q7"] == Kind.REPLICATED


def test_encoders_that_did_not_learn_decide_nothing() -> None:
    data = made_up()
    data["representations"].learned[:3] = False
    assert set(kinds(data).values()) == {Kind.NOT_TESTED}


def test_the_choice_of_test_images_widens_the_interval_of_an_area() -> None:
    drawn = made_up()["predict"].auroc_drawn.values
    shaken = made_up(auroc_drawn=drawn + 0.2 * np.random.default_rng(1).standard_normal(drawn.shape[-1]))
    steady = made_up()

    def width(data: dict, claim: str) -> float:
        return next(v.high - v.low for v in verdicts(data) if v.claim == claim)

    assert width(steady, "Q10") == pytest.approx(width(shaken, "Q10"), rel=0.05)  # it cancels: images are shared
    assert width(shaken, "Q6") > 10 * width(steady, "Q6")


def test_a_seed_that_one_objective_lacks_is_left_out() -> None:
    values = array("after")
    values[1, 2] = np.nan
    decided = next(v for v in verdicts(made_up(after=values)) if v.claim == "Q7")
    assert decided.kind == Kind.NOT_TESTED and decided.units == 2


def test_a_recorded_result_is_one_of_the_study() -> None:
    result = STUDY.start(STUDY.parameters.of("published")).claims()
    assert [verdict["claim"] for verdict in result.facts["verdicts"]] == list(CLAIMS)
    assert result.data["representations"].sizes["seed"] >= 3 and list(REGIONS) == ["core", "spurious"]
    assert list(OUTCOMES) == ["right", "wrong"]
    assert all(findings.statements(result).values())
    assert all(figure.axes for figure in every_figure(result))
