"""The synthesis joins the Results of other studies with label-free measures of the same encoders."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sslnb import Result, studies
from sslnb.core.labels import CONTROLS
from sslnb.pool import Pool
from sslnb.pool.members import Scale, Variant
from sslnb.pool.pool import MATCHED, ON_VIEWS
from sslnb.studies.measures import MEASURES, turned_means
from sslnb.studies.study import Run
from sslnb.studies.synthesis import explorers, figures, findings, steps, tables

TINY = Scale(
    "quick",  # the name of a scale that parameters know
    dataset="digit-scenes",
    limit=300,
    shared={"width": 4, "stem": "imagenet", "steps": 4, "epochs": 2, "batch_size": 64, "crop_scale": 0.6, "flip": 0.0},
    variants={"supervised": Variant(2), "simclr": Variant(2), "vicreg": Variant(1), "cmc": Variant(1)},
    halvings=2,
)
SMALL = {"probe_limit": 100, "test_limit": 100, "probe_epochs": 2, "views": 2, "view_images": 30}


@pytest.fixture(scope="module")
def folder(train_pool: Callable[[Scale], Path]) -> Path:
    """A trained pool, and Results of two studies of it: one with margins, one with a verdict beside controls."""
    where = train_pool(TINY) / "results"
    where.mkdir()
    pool, names = Pool("quick"), {"objective": ["supervised", "simclr", "vicreg", "untrained"], "seed": [0, 1]}
    encoders = {name: pool.entry(name).sha256 for name in pool.members()}
    facts = {"parameters": {"pool": "quick"}, "provenance": {"encoders": encoders}, "notes": []}
    generator = np.random.default_rng(0)
    probes = (*names, "dataset", "scale", "decay")
    coordinates = names | {"dataset": ["a", "b", "c"], "scale": ["unit_variance"], "decay": [0.0, 1.0]}
    cube = xr.DataArray(generator.random([len(v) for v in coordinates.values()]), coordinates, probes)
    common = cube.isel(decay=0, drop=True) * 0 + 1.0  # the decay at which encoders are compared
    data = {
        "probes": xr.Dataset(
            {"accuracy": cube, "knn": cube.isel(scale=0, decay=0, drop=True), "compared_decay": common}
        ),
        "separation": xr.Dataset(
            {
                "mean_margin": cube.expand_dims(norm=["l1", "l2", "linf"]),
                "norm_auc": cube.expand_dims(attacked=["l2", "linf"]),
                "effective": cube.expand_dims(attacked=["l2", "linf"]),
            }
        ),
    }
    labelled = [name == "supervised" for name in names["objective"]]
    kinds = {"self_supervised": np.invert(labelled), "learned": [True for _ in labelled]}
    kinds = {name: ("objective", values) for name, values in kinds.items()}
    data["probes"] = data["probes"].assign_coords(kinds).assign_attrs(primary="unit_variance")
    Result("separability", data, facts).save(where / "separability")
    verdict = {"claim": "S1", "estimate": 0.4, "low": 0.3, "high": 0.5, "controls": {}}
    verdict["controls"] = {next(iter(CONTROLS.values())): [0.1, -0.1, 0.3]}
    Result("qscore", _predicted(names), facts | {"verdicts": [verdict]}).save(where / "qscore")
    return where


def _predicted(names: dict) -> dict[str, xr.Dataset]:
    dims = names | {"dataset": ["a"], "predictor": ["qscore", "norm"]}
    auroc = xr.DataArray(np.full([len(v) for v in dims.values()], 0.7), dims, tuple(dims))
    return {"predict": xr.Dataset({"auroc": auroc})}


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    made = studies.get("synthesis").start(studies.parameters("synthesis", results=str(folder), **SMALL))
    made.all()
    return made


def test_the_matrix_holds_what_the_studies_found(run: Run, folder: Path) -> None:
    value = run.result.data["matrix"].value
    probes = Result.load(folder / "separability").data["probes"].accuracy
    own = {"objective": "simclr", "seed": 1}
    expected = probes.sel(dataset="a", scale="unit_variance", decay=1.0, **own)
    assert float(value.sel(measure="accuracy", **own)) == pytest.approx(float(expected))
    transferred = probes.sel(dataset=["b", "c"], scale="unit_variance", decay=1.0, **own).mean()
    assert float(value.sel(measure="transfer", **own)) == pytest.approx(float(transferred))
    assert float(value.sel(measure="qscore_auroc", **own)) == 0.7
    assert run.result.data["matrix"].attrs["studies"] == ["separability", "qscore"]


def test_label_free_measures_are_of_every_encoder_and_of_its_checkpoints(run: Run) -> None:
    free = run.result.data["encoders"].value
    assert bool(free.sel(measure="rankme", objective=["supervised", "simclr", "untrained"]).notnull().all())
    along = run.result.data["checkpoints"].value
    assert list(along.step.values) == [0, 2, 4]
    first = along.sel(step=0, measure="rankme")
    of_resnets = first.sel(objective=["supervised", "simclr", "vicreg"])
    assert len(np.unique(of_resnets)) == 1  # all runs of a seed begin with the same weights
    assert float(first.sel(objective="cmc")) != float(of_resnets[0])  # but for those of another network
    same = float(free.sel(measure="rankme", objective="vicreg", seed=0))
    assert float(along.sel(measure="rankme", objective="vicreg", step=4)) == pytest.approx(same)
    assert bool(along.sel(measure="loss", step=4).notnull().all())  # known once an epoch is over


def test_correlations_are_over_objectives_and_symmetric(run: Run) -> None:
    data = run.result.data["agreement"]
    assert data.attrs["units"] == ["supervised", "simclr", "vicreg", "cmc"]
    raw = data.correlation.sel(bound="value", given="raw").values
    assert np.allclose(raw, raw.T, equal_nan=True)
    assert bool(data.p.isnull().all())  # of four objectives nothing is unlikely
    assert data.order.sizes["probed"] >= 1 and bool((abs(data.order.sel(bound="value").dropna("probed")) <= 1).all())
    assert any("say nothing about encoders that have learned" in note for note in run.context.notes)


def test_a_choice_by_a_measure_costs_what_one_of_the_candidates_lacks(run: Run) -> None:
    data, accuracy = run.result.data["selection"], run.result.data["matrix"].value.sel(measure="accuracy").mean("seed")
    assert set(data.measure.values) <= {name for name, measure in MEASURES.items() if not measure.needs_labels}
    candidates = accuracy.sel(objective=run.result.data["agreement"].attrs["units"])
    lacking = (candidates.max() - candidates).values
    costs = data.encoders_regret.sel(among=steps.ALL, target="accuracy").values
    assert np.isfinite(costs).any()
    assert all(np.isclose(lacking, cost).any() for cost in costs[np.isfinite(costs)])


def test_encoders_trained_without_labels_are_a_choice_of_their_own(run: Run) -> None:
    data, matrix = run.result.data["selection"].sel(target="accuracy"), run.result.data["matrix"].value
    accuracy = matrix.sel(measure="accuracy").mean("seed")
    for among, names in {steps.WITHOUT_LABELS: ["simclr", "vicreg", "cmc"], steps.ALL: None}.items():
        candidates = accuracy.sel(objective=names or ["supervised", "simclr", "vicreg", "cmc"])
        wanted = float(candidates.max() - candidates.mean())
        assert float(data.blind_encoders_regret.sel(among=among)) == pytest.approx(wanted)


def test_what_remains_of_an_effect_stands_beside_it(run: Run) -> None:
    data = run.result.data["controls"]
    assert list(data.claim.values) == ["S1"]
    assert float(data.control_estimate.sel(claim="S1", bound="value")[0]) == 0.1
    assert "25 %" in tables.controls(run.result).data


def test_studies_without_a_result_are_named(run: Run) -> None:
    assert any(note.startswith("cka: no Result") for note in run.context.notes)


def test_the_map_has_a_point_for_each_encoder_and_checkpoint(run: Run) -> None:
    data = run.result.data["embedding"]
    assert data.sizes["point"] == 6 + 2 + 2 + 4 * 2  # members, untrained twins, two beginnings, checkpoints
    assert "cmc, step 0" in data.point and "simclr, step 0" not in data.point
    assert np.isfinite(data.coordinate).all()


def test_every_figure_and_table_draws(run: Run) -> None:
    for draw in (figures.matrix, figures.agreement, figures.selection, figures.embedding):
        draw(run.result).canvas.draw()
    for write in (tables.matrix, tables.strongest, tables.choices, tables.controls):
        assert "\n| " in write(run.result).data


def test_a_folder_without_results_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"results: expected a folder with Results of separability.* got none"):
        studies.get("synthesis").start(studies.parameters("synthesis", results=str(tmp_path), **SMALL))


def test_results_of_other_weights_are_refused(tmp_path: Path, folder: Path) -> None:
    result = Result.load(folder / "separability")
    result.facts["provenance"]["encoders"]["simclr/0"] = "0" * 64
    result.save(tmp_path / "separability")
    with pytest.raises(ValueError, match="simclr/0, got separability, on other weights"):
        studies.get("synthesis").start(studies.parameters("synthesis", results=str(tmp_path), **SMALL))


def _changed(folder: Path, into: Path, **facts: dict) -> str:
    """A folder with the Result of separability, some of its facts changed."""
    result = Result.load(folder / "separability")
    for name, changes in facts.items():
        result.facts[name] |= changes
    result.save(into / "separability")
    return str(into)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"provenance": {"encoder": "0" * 64}}, "separability: its Result is of another encoder than the given one"),
        ({"parameters": {"pool": "small"}}, "separability: its Result is of the pool 'small'"),
    ],
)
def test_results_of_another_encoder_or_pool_are_not_joined(
    tmp_path: Path, folder: Path, facts: dict, said: str
) -> None:
    with pytest.raises(ValueError, match=f"results: expected one of the pool 'quick', got .*{said}"):
        studies.get("synthesis").start(
            studies.parameters("synthesis", results=_changed(folder, tmp_path, **facts), **SMALL)
        )


def test_a_new_result_is_another_content(tmp_path: Path, folder: Path) -> None:
    """So that a sweep does not take a point from before it."""
    where = _changed(folder, tmp_path)
    before = studies.parameters("synthesis", results=where).contents()
    _changed(folder, tmp_path, parameters={"seed": 1})
    assert studies.parameters("synthesis", results=where).contents() != before


def test_alpha_of_two_seeds_on_both_sides_of_its_best_value_is_not_the_best() -> None:
    values = xr.DataArray(
        [[[0.5, 1.5]], [[1.0, 3.0]]], {"measure": ["alpha_req", "rankme"]}, ("measure", "objective", "seed")
    )
    assert turned_means(values).values.tolist() == [[-0.5], [2.0]]


def test_the_page_explorer_holds_every_measure_of_every_encoder(run: Run, tables_of) -> None:
    tables, value = tables_of(explorers.browse_measures(run.result)), run.result.data["matrix"].value
    assert len(tables["measures"]) == int(value.notnull().sum())
    own = tables["measures"].query("measure == 'Linear accuracy, %' and encoder == 'SimCLR' and seed == 0")
    assert own.value.item() == pytest.approx(
        100 * float(value.sel(measure="accuracy", objective="simclr", seed=0)), rel=1e-3
    )
    ends = tables["map"].query("order < 0")
    assert len(ends) == int((run.result.data["embedding"].step < 0).sum())


def test_pairs_of_different_papers_that_are_unlikely_by_chance_are_counted_once() -> None:
    names = ["margin", "norm_auc", "progress", "fgsm", "cka_supervised", "rankme"]
    p = np.full((1, 6, 6), np.nan)
    p[0, 0, 1] = p[0, 2, 3] = p[0, 0, 5] = 0.01  # of one paper, or of none
    p[0, 0, 2], p[0, 1, 3] = 0.2, 0.04  # and of margin with CKA of too few objectives
    p = np.fmax(p, p.transpose(0, 2, 1))
    coordinates = {"given": ["raw"], "measure": names, "measure_b": names}
    result = Result("synthesis", {"agreement": xr.Dataset({"p": (tuple(coordinates), p)}, coordinates)}, {})
    assert findings.between_papers(result, "raw") == (1, 2)
    assert findings.dots(result, "raw") == (4, 5)


def test_what_is_left_of_an_effect_is_its_share_where_the_effect_is_clear(run: Run) -> None:
    left = findings.remaining(run.result)
    assert list(left) == ["S1"]
    assert left["S1"][CONTROLS[ON_VIEWS]][0] == pytest.approx(0.25)
    assert np.isnan(left["S1"][CONTROLS[MATCHED]]).all()


def test_ends_are_as_similar_as_their_pairs_on_average() -> None:
    owners = ["simclr", "simclr", "moco", "supervised", "supcon", "untrained", "simclr"]
    step = [-1] * 6 + [100]  # the last is on the way
    similarity = np.full((7, 7), np.nan)
    pairs = {(0, 1): 0.9, (0, 2): 0.8, (1, 2): 0.6, (3, 4): 0.5}
    pairs |= {(i, j): 0.1 * (i + 1) for i in (0, 1, 2) for j in (3, 4)}
    for (i, j), value in pairs.items():
        similarity[i, j] = similarity[j, i] = value
    data = {"similarity": (("point", "point_b"), similarity), "step": ("point", step), "objective": ("point", owners)}
    means = findings.between_ends(Result("synthesis", {"embedding": xr.Dataset(data)}, {}))
    known = {name: mean for name, mean in means.items() if np.isfinite(mean)}
    assert known == pytest.approx({"of_seeds": 0.9, "within_views": 0.7, "within_labels": 0.5, "views_and_labels": 0.2})
