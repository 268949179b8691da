import dataclasses

import pytest
import torch
from torch.nn import functional as F

from sslnb.core.seeds import seeded
from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import weights_checksum
from sslnb.encoders.load import read_checkpoint
from sslnb.metrics import qscore
from sslnb.objectives.registry import OBJECTIVES
from sslnb.training.cache import cached_pretrain, encoder_artifact
from sslnb.training.loop import PretrainConfig, objective_from, pretrain
from sslnb.training.penalty import Penalty, Regularized, lasso_penalty

CPU = torch.device("cpu")
SMALL = {"cmc": {"negatives": 16}, "moco": {"queue_size": 32}, "pirl": {"negatives": 16}, "dino": {"outputs": 16}} | {
    "infomin": {"queue_size": 32},
    "infomin_color": {"negatives": 16},
    "swav": {"prototypes": 8},
}


def toy(n: int = 32) -> ImageSet:
    images = torch.randint(256, (n, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(images, torch.arange(n) % 4, tuple("abcd"), None, "toy")


def config(objective: str = "simclr", **changes: object) -> PretrainConfig:
    tiny = {"width": 4, "epochs": 1, "batch_size": 16, "precision": "float32", "options": SMALL.get(objective, {})}
    return PretrainConfig(objective, **tiny | changes)


def mask(d: int = 32) -> torch.Tensor:
    return torch.arange(d) % 2 == 0


def test_lasso_is_the_sum_of_the_columns_norms_of_unit_rows():
    h = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    naive = sum(abs(float(h[i, k])) / float(h[i].norm()) for i in range(5) for k in range(7))
    assert float(lasso_penalty(h, weight=0.5)) == pytest.approx(0.5 * naive, rel=1e-6)
    assert float(lasso_penalty(3 * h, weight=0.5)) == pytest.approx(0.5 * naive, rel=1e-6)
    with pytest.raises(ValueError, match="weight: expected"):
        lasso_penalty(h, weight=-1.0)


def test_a_penalty_says_what_it_lacks_and_tells_itself_from_others():
    with pytest.raises(ValueError, match="mask: expected the discriminative features"):
        Penalty("qscore")
    with pytest.raises(ValueError, match="kind"):
        Penalty("ridge")
    others = [Penalty("lasso"), Penalty("qscore", mask()), Penalty("qscore", ~mask()), Penalty("lasso", weight=2.0)]
    assert len({str(penalty.facts()) for penalty in others}) == 4
    h = torch.rand(6, 32, generator=torch.Generator().manual_seed(1))
    wanted = qscore.q_score_penalty(h, mask(), weight=0.1, norm_weight=0.2, epsilon=1.0)
    assert Penalty("qscore", mask(), 0.1, 0.2, 1.0)(h) == wanted


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_can_be_regularized_and_its_gradient_then_is_the_sum_of_both(name):
    images = toy()
    objective = objective_from(config(name), images).train()
    penalty = Penalty("lasso", norm_weight=0.1)
    index = torch.arange(16)
    views = objective.views(images.images[:16], seeded(0, 0, CPU))
    state = {key: value.clone() for key, value in objective.state_dict().items()}

    def loss(model: torch.nn.Module) -> tuple[float, torch.Tensor]:
        objective.load_state_dict(state)
        objective.zero_grad()
        torch.manual_seed(0)
        value = model(views, images.labels[:16], index)
        value.backward()
        return value.item(), next(objective.encoder.parameters()).grad.clone()

    plain, gradient = loss(objective)
    whole, both = loss(Regularized(objective, penalty))
    objective.load_state_dict(state)
    given = []
    hook = objective.encoder.register_forward_hook(lambda module, inputs, h: given.append(h))
    torch.manual_seed(0)
    objective(views, images.labels[:16], index)
    hook.remove()
    h = torch.cat([part for part in given if part.requires_grad])
    assert h.shape[1] == objective.encoder.feature_dim
    assert whole - plain == pytest.approx(0.1 * float(F.normalize(h, dim=1).abs().sum()), rel=1e-3)
    assert not torch.allclose(gradient, both)


def test_further_training_begins_with_the_weights_heads_and_memories_of_a_checkpoint(tmp_path):
    images = toy()
    start = pretrain(config("moco"), images, checkpoint=tmp_path / "start.pt", on=CPU)
    still = config("moco", learning_rate=0.0, seed=3, optimizer="lars")
    on = pretrain(still, images, initial=start.checkpoint, checkpoint=tmp_path / "on.pt", on=CPU)
    before, after = (read_checkpoint(tmp_path / f"{name}.pt") for name in ("start", "on"))
    for name, parameter in before["encoder"].items():
        if "running" not in name and "batches" not in name:
            assert torch.equal(after["encoder"][name], parameter), name
    heads = [name for name in before["heads"] if name.startswith("head.") and name.endswith("weight")]
    assert heads and all(torch.equal(before["heads"][name], after["heads"][name]) for name in heads)
    assert on.history["loss"][0] != start.history["loss"][0]


def test_a_penalty_and_a_start_are_part_of_what_a_run_is(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path))
    images = toy()
    start = cached_pretrain(config(), images, CPU).checkpoint
    penalties = (None, Penalty("lasso", norm_weight=0.1), Penalty("qscore", mask(), norm_weight=0.1, epsilon=1.0))
    runs = [cached_pretrain(config(), images, CPU, initial=start, penalty=penalty) for penalty in penalties]
    assert len({weights_checksum(run.encoder) for run in runs}) == len({run.checkpoint for run in runs}) == 3
    assert runs[1].checkpoint == encoder_artifact(config(), images, CPU, start, penalties[1])
    assert cached_pretrain(config(), images, CPU, initial=start, penalty=penalties[1]).reused
    with pytest.raises(ValueError, match="penalty="):
        pretrain(config(), images, initial=start, checkpoint=runs[1].checkpoint, on=CPU)


def test_another_objectives_checkpoint_is_no_start(tmp_path):
    start = pretrain(config("simclr"), toy(), checkpoint=tmp_path / "start.pt", on=CPU).checkpoint
    with pytest.raises(ValueError, match="initial: expected a checkpoint of byol"):
        pretrain(config("byol"), toy(), initial=start, on=CPU)
    with pytest.raises(ValueError, match=r"none\.pt"):
        pretrain(config("byol"), toy(), initial=tmp_path / "none.pt", on=CPU)


def test_what_a_penalty_asks_for_happens():
    """A strong lasso makes features sparser than the same number of plain steps do."""
    images = toy()
    run = dataclasses.replace(config(), epochs=40, learning_rate=0.05)

    def density(penalty: Penalty | None) -> float:
        encoder = pretrain(run, images, penalty=penalty, on=CPU).encoder
        with torch.no_grad():
            return float(F.normalize(encoder(images.images.float() / 255), dim=1).abs().sum(1).mean())

    assert density(Penalty("lasso", norm_weight=0.1)) < 0.9 * density(None)


def test_adversarial_training_trains_on_images_within_the_budget_that_cost_more():
    images = toy()
    robust = objective_from(config("supervised", options={"attack_budget": 0.5}), images)
    x = robust.views(images.images, seeded(0, 0, CPU))[0]
    moved = robust._attacked(x, images.labels)
    length = (moved - x).flatten(1).norm(dim=1)
    assert float(length.median()) > 0.3 and float(length.max()) <= 0.5 + 1e-4
    robust.eval()
    losses = [F.cross_entropy(robust.head(robust.encoder(part)), images.labels) for part in (x, moved)]
    assert losses[1] > losses[0]
    with pytest.raises(ValueError, match="attack_budget"):
        objective_from(config("supervised", options={"attack_budget": -1.0}), images)
