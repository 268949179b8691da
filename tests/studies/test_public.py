"""Published encoders in a study: one that needs their weights alone measures them, the others say what they miss."""

import pytest
import torch
import torchvision

from sslnb import report, studies
from sslnb.core.files import beside, sha256
from sslnb.pool import Pool, scales
from sslnb.pool.published import PublicPlan, Published, Record
from sslnb.studies.separability import explorers, figures, tables


@pytest.fixture
def fetched(tmp_path, monkeypatch) -> None:
    """Two published encoders whose files are there, so that nothing is asked of an address."""
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path))
    variants = {n: Published(f"https://nowhere.invalid/{n}.pth", 0.7, "MIT", "a page") for n in ("supervised", "moco")}
    monkeypatch.setitem(scales.SCALES, "public", PublicPlan("public", variants, architecture="resnet18"))
    torch.manual_seed(0)
    for name, published in variants.items():
        path = Pool("public").path(f"{name}/0")
        path.parent.mkdir(parents=True)
        torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
        about = {"sha256": sha256(path), "size": path.stat().st_size, "checksum": "", "fetched": "2026-01-01"}
        beside(path, ".json").write_text(Record(address=published.address, **about).model_dump_json())


def test_separability_measures_them_beside_untrained_twins(fetched) -> None:
    few = {"datasets": "digit-scenes", "probe_limit": 100, "test_limit": 60, "probe_epochs": 2, "attack_limit": 20}
    result = studies.run("separability", studies.parameters("separability", pool="public", attack_steps=2, **few))
    trained = result.data["pretraining"]
    assert trained.objective.values.tolist() == ["supervised", "moco", "untrained"]
    assert trained.linear_accuracy.sel(objective="moco").item() == 0.7 and trained.pixels_accuracy.isnull()
    assert trained.learned.values.tolist() == [True, True, False]
    assert trained.self_supervised.values.tolist() == [False, True, False] and trained.sizes["epoch"] == 0
    assert result.data["probes"].accuracy.notnull().any("decay").all()
    assert set(result.facts["provenance"]["encoders"]) == {"supervised/0", "moco/0"}
    note = "pool: its weights were made for images of 224 px, these have 32 px (size=224)"
    assert result.facts["notes"].count(note) == 1
    assert "70.0" in report.learned(result).data
    for draw in (figures.training_curves, figures.probe_grid, figures.margin_distributions, figures.mean_margins):
        draw(result)
    for draw in (figures.accuracy_against_budget, figures.multilayer_against_budget, explorers.browse_margins):
        draw(result)
    for tell in (tables.probes, tables.glue_headlines, tables.bounds, tables.decays):
        tell(result)
    tables.effective(result, "l2")
    assert {v["claim"]: v["kind"] for v in result.facts["verdicts"]}["S2"] == "not tested"  # one seed


@pytest.mark.parametrize("name", [n for n in studies.ALL if not studies.get(n).published])
def test_studies_of_the_training_refuse_them_before_any_work(fetched, name: str) -> None:
    with pytest.raises(ValueError, match=r"^pool: expected .* got '?public'?$"):
        studies.check(name, studies.parameters(name, pool="public"))


def test_the_papers_profile_is_the_papers_sets_on_public_encoders() -> None:
    paper = studies.parameters("separability", **{"profile": "paper"})
    assert paper.pool == "public" and len(paper.datasets) == 7 and paper.size == 224
