"""The study of separability on a small pool: its datasets fit together, and its claims are decided as stated."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from sslnb.core.claims import Kind
from sslnb.core.result import Result
from sslnb.encoders import resnet, save_encoder
from sslnb.features import LinearProbeGrid
from sslnb.features.mlp import MLPProbe
from sslnb.pool.members import Scale, Variant
from sslnb.studies.separability import STUDY
from sslnb.studies.separability.claims import CLAIMS, OBJECTIVES, compared, verdicts
from sslnb.studies.separability.steps import BUDGETS, NORMS, ROUNDS, _clipped, _drawn_mean

EASY = "digit-scenes:backgrounds=10,background_bias=0.8"  # the background gives the class away: probes converge
SHARED = {"width": 4, "stem": "imagenet", "epochs": 2, "batch_size": 50, "flip": 0.0, "crop_scale": 0.5}


@pytest.fixture(scope="module")
def result(train_pool: Callable[[Scale], Path]) -> Result:
    variants = {"supervised": Variant(2), "simclr": Variant(1)}
    folder = train_pool(Scale("tiny", EASY, SHARED, variants, limit=300, halvings=0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_encoder(resnet(18, width=4), folder / "mine.pt")
    small = {"probe_limit": 300, "test_limit": 120, "probe_epochs": 4, "attack_limit": 40, "attack_steps": 3}
    own = {"pool": "tiny", "datasets": [EASY, "digit-scenes"], "encoder": f"checkpoint:{folder / 'mine.pt'}"}
    return STUDY.start(STUDY.parameters.of(**small, **own)).all()


def test_what_is_measured_are_the_members_their_untrained_twins_and_the_users_own(result) -> None:
    accuracy = result.data["probes"].accuracy
    assert list(accuracy.objective.values) == ["supervised", "simclr", "untrained", "encoder"]
    measured = accuracy.notnull().all(("dataset", "scale", "decay"))
    assert measured.values.tolist() == [[True, True], [True, False], [True, True], [True, False]]
    assert result.data["probes"].self_supervised.values.tolist() == [False, True, False, False]
    assert set(result.facts["provenance"]["encoders"]) == {"supervised/0", "supervised/1", "simclr/0"}
    assert any("300 were asked" not in note for note in result.facts["notes"]) or not result.facts["notes"]


def test_what_rests_on_a_probe_is_there_exactly_where_it_converged(result) -> None:
    converged, data = result.data["probes"].converged, result.data["separation"]
    assert bool(converged.any())
    for name in ("mean_margin", "largest_margin", "norm_auc", "effective"):
        extra = [dim for dim in data[name].dims if dim not in converged.dims]
        assert bool((data[name].notnull().all(extra) == converged).all()), name
        assert bool((data[name].notnull().any(extra) == converged).all()), name


def test_margins_curves_and_areas_are_of_the_same_probes(result) -> None:
    probed, data = result.data["probes"], result.data["separation"]
    accuracy, means = compared(probed, probed.accuracy), compared(probed, data.mean_margin)
    auc = compared(probed, data.norm_auc)
    assert data.margin.dims == ("objective", "norm", "sample")  # of the first seed
    for objective, seed, dataset in [("supervised", 0, EASY), ("simclr", 0, "digit-scenes")]:
        at = {"objective": objective, "seed": seed, "dataset": dataset}
        own = data.margin.sel(objective=objective).isel(sample=(data.sample_dataset == dataset).values)
        if not bool(own.notnull().any()):
            continue  # its probe did not converge
        margin = own.astype(float)
        assert float(margin.sel(norm="l2").notnull().mean()) == pytest.approx(float(accuracy.sel(at)))
        for norm in NORMS:
            assert float(margin.sel(norm=norm).mean()) == pytest.approx(float(means.sel(at | {"norm": norm})), rel=1e-2)
        for norm, budget in BUDGETS.items():
            curve = data.curve.sel(at | {"attacked": norm, "scale": probed.attrs["primary"]})
            assert float(curve[0]) == pytest.approx(float(accuracy.sel(at))) and bool((curve.diff("step") <= 0).all())
            area = float(np.minimum(margin.sel(norm=norm), budget).sum()) / margin.sizes["sample"] / budget
            assert float(auc.sel(at | {"attacked": norm})) == pytest.approx(area / float(accuracy.sel(at)), abs=5e-3)


def test_encoders_are_compared_at_one_weight_decay(result) -> None:
    decay = result.data["probes"].compared_decay
    assert all(len(np.unique(part)) == 1 for part in decay.transpose("dataset", "scale", ...).values.reshape(4, -1))
    best = result.data["probes"].validation.max("rate").mean(("objective", "seed"))
    chosen = best.sel(decay=decay.isel(objective=0, seed=0))
    np.testing.assert_allclose(chosen, best.max("decay"))


def test_no_attack_comes_below_the_exact_accuracy(result) -> None:
    attacked = result.data["attacked"]
    measured = attacked.pgd.notnull()
    assert bool(measured.any()) and bool((measured == attacked.exact.notnull()).all())
    assert bool((attacked.pgd >= attacked.exact - 1e-6).where(measured, True).all())
    np.testing.assert_allclose(attacked.pgd.isel(dot=0), attacked.exact.isel(dot=0))
    falls = np.diff(attacked.multilayer.values, axis=-1) <= 0.05  # an attack of few steps may miss by a sample or two
    assert falls[np.isfinite(attacked.multilayer.values).all(-1)].all()


def test_a_study_survives_its_file(result, tmp_path) -> None:
    again = Result.load(result.save(tmp_path / "separability"))
    assert all(again.data[step].identical(result.data[step]) for step in result.data)
    assert [verdict["claim"] for verdict in again.facts["verdicts"]] == list(CLAIMS)


def test_bootstraps_are_of_the_statistic_that_is_reported() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [300, 60, 40])
    margin = np.where(rng.random(400) < 0.7, rng.exponential(1 + labels), np.nan)
    mean = _drawn_mean(margin)
    assert mean.shape == (ROUNDS,) and mean.mean() == pytest.approx(np.nanmean(margin), abs=0.05)
    correct = np.isfinite(margin)
    assert mean.std() == pytest.approx(np.nanstd(margin) / math.sqrt(correct.sum()), rel=0.2)
    value = np.nan_to_num(np.minimum(margin, 2.0))
    whole = value.mean() / correct.mean() / 2
    classes = [labels == k for k in range(3)]
    by_class = np.mean([value[c].mean() for c in classes]) / np.mean([correct[c].mean() for c in classes]) / 2
    assert _clipped(margin, labels, 2.0, False).mean() == pytest.approx(whole, abs=0.01)
    assert _clipped(margin, labels, 2.0, True).mean() == pytest.approx(by_class, abs=0.01)
    assert abs(whole - by_class) > 0.05  # so that the two could be told apart


# --- claims -----------------------------------------------------------------------------------------------------------

SSL = list(OBJECTIVES)


def made_up(margin_gap: float = 0.3, auc_gap: float = 0.1, slope: float = 0.0, accuracy: float = 0.0) -> dict:
    """Datasets of the five objectives, supervised and a control in which supervised is ahead by these gaps."""
    rng = np.random.default_rng(1)
    names = ["supervised", "supervised_simclr_views", *SSL]
    own = np.array([name in SSL for name in names])
    n, seeds, sets = len(names), 3, 2
    rank = np.array([0, 0, *np.linspace(-0.02, 0.02, 5)])
    acc = 0.7 - accuracy * ~own + rank  # [objective]
    log_margin = np.where(own, -margin_gap, 0) + slope * rank * own
    shape = (n, seeds, sets, 1, 1)
    noise = rng.normal(0, 0.005, (*shape, 3))
    grid = {
        "objective": names,
        "seed": range(seeds),
        "dataset": ["a", "b"],
        "scale": ["unit_variance"],
        "decay": [1e-4],
    }
    shared = {"self_supervised": ("objective", own), "learned": ("objective", [True] * n)}
    cell = ("objective", "seed", "dataset", "scale", "decay")
    spread = np.ones(shape)
    probes = xr.Dataset(
        {
            "accuracy": (cell, acc[:, None, None, None, None] * spread),
            "compared_decay": (cell[:4], np.full(shape[:4], 1e-4)),
        },
        grid | shared,
        {"primary": "unit_variance"},
    )
    auc = np.where(own, 0.4, 0.4 + auc_gap)[:, None, None, None, None, None] + noise[..., :2]
    auc[1] -= auc_gap  # the control shows none of the gap
    drawn = rng.normal(0, 0.001, (n, seeds, sets, 3, 50))
    separation = xr.Dataset(
        {
            "mean_margin": ((*cell, "norm"), np.exp(log_margin[:, None, None, None, None, None] + noise)),
            "norm_auc": ((*cell, "attacked"), auc),
            "mean_margin_drawn": ((*cell[:3], "norm", "round"), np.exp(drawn)),
            "norm_auc_drawn": ((*cell[:3], "attacked", "round"), 0.4 + drawn[..., :2, :]),
        },
        grid | {"norm": list(NORMS), "attacked": list(BUDGETS)},
    )
    falling = np.linspace(1, 0, 9) ** np.where(own, 3.0, 3.0 - 10 * auc_gap)[:, None, None, None]
    curves = np.clip(falling + 0 * noise[:, :, 0, 0, 0, :2, None], 0, 1)
    attacked = xr.Dataset(
        {
            "multilayer": (("objective", "seed", "attacked", "dot"), curves),
            "dot_budget": (("attacked", "dot"), [np.linspace(0, b, 9) for b in BUDGETS.values()]),
        },
        {"objective": names, "seed": range(seeds), "attacked": list(BUDGETS)},
    )
    return {"probes": probes, "separation": separation, "attacked": attacked}


def kinds(data: dict) -> dict[str, Kind]:
    return {verdict.claim: verdict.kind for verdict in verdicts(data)}


def test_claims_hold_where_they_should() -> None:
    found = {verdict.claim: verdict for verdict in verdicts(made_up())}
    assert [verdict.kind for verdict in found.values()] == [Kind.REPLICATED] * 2 + [Kind.REPLICATED] + [
        Kind.NOT_TESTED,
        Kind.REPLICATED,
    ]
    assert found["S1"].estimate == pytest.approx(0.3, abs=0.01) and found["S1"].units == 5
    assert found["S2"].note == "18 pairs" and found["S2"].units == 3
    assert found["S3"].estimate == pytest.approx(0.1, abs=0.01)
    control = found["S3"].controls["supervised on SimCLR's views"]
    assert control[1] < 0 < control[2]


@pytest.mark.parametrize(
    ("changes", "claim", "kind"),
    [
        ({"margin_gap": 0.05}, "S1", Kind.SMALL),
        ({"margin_gap": -0.02}, "S1", Kind.ABSENT),
        ({"margin_gap": -0.3}, "S1", Kind.REVERSED),
        ({"auc_gap": 0.02}, "S3", Kind.SMALL),
        ({"auc_gap": -0.1}, "S3", Kind.REVERSED),
        ({"accuracy": -0.1}, "S2", Kind.NOT_TESTED),  # supervised is more accurate than all of them
        ({"accuracy": -0.1}, "S4", Kind.REPLICATED),
        ({"accuracy": -0.1, "slope": 3.0}, "S4", Kind.ABSENT),  # margins rise as accuracy predicts
    ],
)
def test_claims_fail_where_they_should(changes, claim, kind) -> None:
    assert kinds(made_up(**changes))[claim] == kind


def test_encoders_that_did_not_learn_decide_nothing() -> None:
    data = made_up()
    data["probes"].learned[2:6] = False  # four of the five
    assert kinds(data)["S1"] == Kind.NOT_TESTED
    data["probes"].learned[0] = False
    assert set(kinds(data).values()) == {Kind.NOT_TESTED}


def test_the_order_of_objectives_sets_and_seeds_changes_nothing() -> None:
    data = made_up(accuracy=-0.1)
    turned = {
        name: d.isel({dim: slice(None, None, -1) for dim in ("objective", "seed", "dataset") if dim in d.dims})
        for name, d in data.items()
    }
    for one, other in zip(verdicts(data), verdicts(turned), strict=True):
        assert one.kind == other.kind
        np.testing.assert_allclose([one.estimate, one.low, one.high], [other.estimate, other.low, other.high])


def test_what_was_fitted_is_kept_for_the_same_encoders_images_and_settings_alone(
    result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(**changes: object) -> Result:
        asked = {k: v for k, v in result.facts["parameters"].items() if k != "profile"} | changes
        return STUDY.start(STUDY.parameters.of(**asked)).all()

    def fitted(*_: object, **__: object) -> None:
        raise RuntimeError("fitted again")

    monkeypatch.setattr(LinearProbeGrid, "fit_all", fitted)
    monkeypatch.setattr(MLPProbe, "fit", fitted)
    kept = again()
    for step, there in result.data.items():
        xr.testing.assert_identical(kept.data[step], there)
    for changes in ({"probe_epochs": 5}, {"test_limit": 119}, {"attack_steps": 4}, {"encoder": "resnet18"}):
        with pytest.raises(RuntimeError, match="fitted again"):
            again(**changes)
