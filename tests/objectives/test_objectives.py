"""What each objective does around its loss: views, heads, momentum encoders, queues, banks, stopped gradients."""

import copy
import json
import math
import os
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sslnb
from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import weights_checksum
from sslnb.encoders.load import load_encoder
from sslnb.features.extract import extract
from sslnb.objectives import (
    barlow_twins,
    dino,
    info_nce,
    lejepa,
    nce,
    negative_cosine,
    nt_xent,
    registry,
    sinkhorn,
    sup_con,
    swav,
    vicreg,
)
from sslnb.objectives.objective import Objective
from sslnb.objectives.parts import MemoryBank, Momentum, by_size, in_float32, mlp, rising
from sslnb.objectives.registry import OBJECTIVES
from sslnb.training.loop import PretrainConfig, pretrain
from sslnb.views.color_spaces import lab_to_rgb
from sslnb.views.patches import rotations

VIEWS = {"crop_scale": (0.5, 1.0), "flip": 0.0}
every_objective = pytest.mark.parametrize("name", sorted(OBJECTIVES))
WITH_MOMENTUM = ("byol", "dino", "infomin", "moco")


def make(name: str, *, images: int = 12, seed: int = 0, **options: object) -> Objective:
    """An objective on a tiny encoder, four classes, with weights of this seed."""
    kind = registry.get(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = kind.build_encoder(18, width=4, stem="cifar", in_channels=3, **options)
        return kind(encoder, 4, images, **VIEWS, **options)


def drawn(objective: Objective, images: Tensor, seed: int = 0) -> list[Tensor]:
    return objective.views(images, torch.Generator().manual_seed(seed))


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Eight images of twelve, with their labels and their places."""
    images = torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return images, torch.arange(8) % 4, torch.tensor([3, 1, 11, 0, 7, 5, 4, 10])


def gradients(objective: Objective, loss: Tensor) -> dict[str, Tensor]:
    """Gradient of a loss by the parameter's name, zeros where there is none."""
    named = dict(objective.named_parameters())
    trained = [p for p in named.values() if p.requires_grad]
    found = iter(torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True))
    return {name: next(found) for name, p in named.items() if p.requires_grad}


# All of them


@every_objective
def test_views_have_the_side_that_is_asked_for(name, batch):
    pictures = make(name, view_size=12).pictures(batch[0], torch.Generator().manual_seed(0))
    sides = {tuple(picture.shape[2:]) for picture in pictures}
    assert sides == ({(12, 12), (9, 9)} if name == "pirl" else {(12, 12)})  # of 4-px cells, tiles of 3 px
    with pytest.raises(ValueError, match="view_size: expected at least 8 pixels, got 7"):
        make(name, view_size=7)


@every_objective
def test_every_objective_gives_one_finite_loss_that_reaches_its_parameters(name, batch):
    images, labels, index = batch
    objective = make(name).train()
    views = drawn(objective, images)
    for view in views:
        assert view.is_floating_point() and view.shape[1] == 3 and len(view) % len(images) == 0
        assert view.min() >= 0 and view.max() <= 1
    loss = objective(views, labels, index)
    assert loss.shape == () and loss.dtype == torch.float32 and torch.isfinite(loss)
    loss.backward()
    trained = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    without = [name for name, p in trained.items() if p.grad is None or not p.grad.any()]
    # A bias before a batch norm gets none, and a projection that is 0 by its ReLU.
    assert len(without) < 0.1 * len(trained), without
    assert all(torch.isfinite(p.grad).all() for p in trained.values() if p.grad is not None)
    assert all(torch.equal(a, b) for a, b in zip(views, drawn(objective, images), strict=True))
    objective.before_step(0.5)
    objective.after_step(0.5)
    assert all(torch.isfinite(t).all() for t in objective.state_dict().values())


@every_objective
def test_every_objective_computes_its_loss_in_float32_under_autocast(name, batch):
    images, labels, index = batch
    objective = make(name).train()
    views = drawn(objective, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(views, labels, index)
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    loss.backward()


@every_objective
def test_every_objective_says_what_it_is(name):
    kind = OBJECTIVES[name]
    assert kind.name == name
    for fact in (kind.label, kind.compares, kind.equation):
        assert isinstance(fact, str) and fact.strip() == fact and len(fact) > 2
    assert kind.equation.count("{") == kind.equation.count("}") and "\\" in kind.equation
    assert 0 < kind.learning_rate <= 1 and 0 <= kind.weight_decay < 0.1
    assert len({other.label for other in OBJECTIVES.values()}) == len(OBJECTIVES)


@every_objective
def test_every_objectives_file_names_paper_defaults_and_what_to_expect(name):
    described = sys.modules[OBJECTIVES[name].__module__].__doc__
    for word in ("arXiv", "Defaults", "Expected on CIFAR-10"):
        assert word in " ".join(described.split()), word


@every_objective
def test_options_are_the_keyword_arguments_with_their_defaults(name):
    options = OBJECTIVES[name].options()
    assert not {"crop_scale", "flip"} & set(options)  # the loop's own
    assert PretrainConfig(name, options=options).options == options
    made = make(name, **options)
    assert made.state_dict().keys() == make(name).state_dict().keys()


@every_objective
def test_every_option_of_every_objective_refuses_another_type(name):
    for option, default in OBJECTIVES[name].options().items():
        wrong = 3 if isinstance(default, str | tuple) else "many"
        with pytest.raises(ValueError, match=f"{option}: expected a value such as .*got {wrong!r}"):
            PretrainConfig(name, options={option: wrong})
        other = 1 if isinstance(default, bool) else True  # which Python takes for one another
        with pytest.raises(ValueError, match=f"{option}: expected a value such as .*got {other!r}"):
            PretrainConfig(name, options={option: other})
        with pytest.raises(ValueError, match=f"options: expected one of .*got '{option}s'; did you mean"):
            PretrainConfig(name, options={f"{option}s": default})


@pytest.mark.parametrize("value", [(0.1,), (0.1, 0.2, 0.3), ("a", 0.1), (True, 0.1), ((0.1,), 0.1)])
def test_options_for_two_views_are_two_numbers(value):
    with pytest.raises(ValueError, match=r"blur: expected a value such as \(0.0, 0.0\) \(tuple\)"):
        PretrainConfig("simclr", options={"blur": value})
    assert PretrainConfig("simclr", options={"blur": [1, 0.5]}).options["blur"] == [1, 0.5]  # as a file has it


@pytest.mark.parametrize(
    ("name", "option", "value", "message"),
    [
        ("simclr", "temperature", 0.0, "temperature: expected a value above 0, got 0.0"),
        ("simclr", "temperature", math.nan, "temperature: expected a value above 0, got nan"),
        ("simclr", "jitter_strength", -1.0, "jitter_strength: expected a value of at least 0"),
        ("simclr", "greyscale", 1.5, "greyscale: expected probabilities"),
        ("simclr", "blur", (0.5, -0.1), "blur: expected probabilities"),
        ("simclr", "projection_dim", 0, "widths: expected at least 1"),
        ("supcon", "temperature", -1.0, "temperature: expected a value above 0"),
        ("moco", "temperature", 0.0, "temperature: expected a value above 0"),
        ("moco", "momentum", 1.1, r"momentum: expected a value in \[0, 1\]"),
        ("moco", "queue_size", 0, "queue_size: expected at least 1"),
        ("infomin", "momentum", -0.1, r"momentum: expected a value in \[0, 1\]"),
        ("byol", "momentum", 2.0, r"momentum: expected a value in \[0, 1\]"),
        ("byol", "hidden_dim", 0, "widths: expected at least 1"),
        ("simsiam", "projection_dim", 0, "widths: expected at least 1"),
        ("barlow_twins", "projection_dim", 0, "widths: expected at least 1"),
        ("barlow_twins", "off_diagonal_weight", -1.0, "off_diagonal_weight: expected a value of at least 0"),
        ("vicreg", "projection_dim", 0, "widths: expected at least 1"),
        ("vicreg", "variance", -1.0, "variance: expected a value of at least 0"),
        ("vicreg", "solarize", (0.0, 2.0), "solarize: expected probabilities"),
        ("swav", "prototypes", 1, "prototypes: expected at least 2"),
        ("swav", "epsilon", 0.0, "epsilon: expected a value above 0"),
        ("swav", "iterations", 0, "iterations: expected at least 1"),
        ("swav", "small_crops", -1, "small_crops: expected at least 0"),
        ("swav", "temperature", 0.0, "temperature: expected a value above 0"),
        ("dino", "outputs", 1, "outputs: expected at least 2"),
        ("dino", "teacher_temperature", 0.0, "teacher_temperature: expected a value above 0"),
        ("dino", "student_temperature", -1.0, "student_temperature: expected a value above 0"),
        ("dino", "center_momentum", 1.5, r"center_momentum: expected a value in \[0, 1\]"),
        ("lejepa", "weight", 1.5, r"weight: expected a share in \[0, 1\]"),
        ("lejepa", "directions", 0, "directions: expected at least 1"),
        ("lejepa", "projection_dim", 0, "widths: expected at least 1"),
        ("pirl", "jigsaw_weight", 1.5, "jigsaw_weight: expected a share"),
        ("pirl", "negatives", 0, "negatives: expected at least 1"),
        ("pirl", "projection_dim", 0, "projection_dim: expected at least 1"),
        ("pirl", "bank_momentum", 1.0, r"bank momentum: expected a value in \[0, 1\)"),
        ("pirl", "temperature", 0.0, "temperature: expected a value above 0"),
        ("cmc", "temperature", 0.0, "temperature: expected a value above 0"),
        ("cmc", "negatives", 0, "negatives: expected at least 1"),
        ("cmc", "color", "labb", "color: expected one of .*did you mean 'lab'"),
        ("infomin_color", "color", "hsv", "color: expected one of"),
    ],
)
def test_options_out_of_range_are_refused_before_any_training(name, option, value, message):
    with pytest.raises(ValueError, match=message):
        make(name, **{option: value})


def test_only_those_that_use_labels_say_so(batch):
    images, labels, index = batch
    assert {name for name, kind in OBJECTIVES.items() if kind.uses_labels} == {"supcon", "supervised"}
    for name, kind in OBJECTIVES.items():
        views = drawn(make(name), images)
        first, second = (make(name)(views, given, index) for given in (labels, (labels + index) % 4))
        assert torch.equal(first, second) != kind.uses_labels


def test_an_objective_without_views_or_loss_says_what_to_define():
    bare = Objective(make("simclr").encoder, 2, 10, **VIEWS)
    with pytest.raises(TypeError, match=r"Objective must define views\(images, generator\)"):
        bare.views(torch.zeros(1), None)
    with pytest.raises(TypeError, match=r"Objective must define forward\(views, labels, index\)"):
        bare([], torch.zeros(1), torch.zeros(1))


@pytest.mark.parametrize(
    ("wrong", "near"), [("simclrr", "simclr"), ("supervized", "supervised"), ("barlowtwins", "barlow_twins")]
)
def test_an_unknown_objective_names_the_known_and_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"objective: expected one of .*got '{wrong}'; did you mean '{near}"):
        registry.get(wrong)


# Parts


def test_heads_are_linear_layers_with_relu_and_batch_norm_where_asked():
    def kinds(*widths: int, **norms: bool) -> list[str]:
        return [type(layer).__name__ for layer in mlp(widths, **norms)]

    assert kinds(8, 4) == ["Linear"]
    assert kinds(8, 16, 4) == ["Linear", "ReLU", "Linear"]
    assert kinds(8, 16, 4, norm=True) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert kinds(8, 8, 4, norm=True, last_norm=True)[-2:] == ["Linear", "BatchNorm1d"]
    head = mlp((8, 16, 4), norm=True, last_norm=True)
    assert head[0].bias is None and head[1].affine and head[3].bias is None and not head[4].affine
    assert mlp((8, 16, 4))(torch.ones(2, 8)).shape == (2, 4)


def test_a_momentum_copy_follows_by_the_formula_and_takes_no_gradient():
    torch.manual_seed(0)
    leader = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    slow = Momentum(net=leader)
    assert not any(p.requires_grad for p in slow.parameters())
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(slow.parameters(), leader.parameters(), strict=True))
    for momentum in (0.0, 0.3, 0.99, 1.0):
        with torch.no_grad():
            for p in leader.parameters():
                p.add_(torch.randn_like(p))
        before = [p.double() for p in slow.parameters()]
        slow.follow(momentum, net=leader)
        for old, new, led in zip(before, slow.parameters(), leader.parameters(), strict=True):
            torch.testing.assert_close(new.double(), momentum * old + (1 - momentum) * led.double())
    leader(torch.randn(5, 3))
    slow.follow(0.0, net=leader)
    assert not slow.net[1].running_mean.any()  # its statistics are its own


def test_a_momentum_rises_by_half_a_cosine_to_1():
    assert rising(0.9, 0.0) == pytest.approx(0.9) and rising(0.9, 1.0) == 1
    assert rising(0.9, 0.5) == pytest.approx(0.95)
    assert rising(0.9, 0.25) == pytest.approx(1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2)


def test_views_of_one_size_pass_together_and_come_back_in_order():
    sizes = []

    def model(x: Tensor) -> Tensor:
        sizes.append(tuple(x.shape))
        return x.mean((2, 3))

    views = [torch.full((2, 1, side, side), float(i)) for i, side in enumerate((8, 8, 4, 4, 4))]
    outputs = by_size(model, views)
    assert sizes == [(4, 1, 8, 8), (6, 1, 4, 4)]
    assert [float(out.mean()) for out in outputs] == [0, 1, 2, 3, 4] and all(out.shape == (2, 1) for out in outputs)


def test_a_loss_in_float32_sees_no_lower_precision():
    seen = []

    @in_float32
    def loss(z: Tensor, others: list[Tensor], *, mask: Tensor) -> Tensor:
        seen.extend([z.dtype, others[0].dtype, mask.dtype, (z @ z.T).dtype])
        return z.sum()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss(torch.ones(2, 2).bfloat16(), [torch.ones(2).half()], mask=torch.ones(2, dtype=torch.bool))
    assert seen == [torch.float32, torch.float32, torch.bool, torch.float32]


# The memory bank


@pytest.mark.parametrize(("images", "window"), [(10, 3), (10, 10), (7, 4), (5, 4096)])
def test_the_window_of_negatives_walks_through_all_images(images, window):
    bank = MemoryBank(images, 4, negatives=window)
    with torch.no_grad():
        bank.entries.copy_(torch.arange(images)[:, None].expand(-1, 4))  # each entry tells its image
    size = min(window, images)
    seen = []
    for _ in range(images):
        entries, own = bank.negatives(torch.arange(images))
        assert entries.shape == (size, 4) and own.shape == (images, size)
        assert torch.equal(own, torch.arange(images)[:, None] == entries[:, 0])
        seen += entries[:, 0].long().tolist()
    assert len(seen) == images * size
    for first in range(0, len(seen) - images + 1, images):  # each round is all images, in the same order
        assert sorted(seen[first : first + images]) == list(range(images))
        assert seen[first : first + images] == seen[:images]


def test_the_order_of_the_window_is_random():
    torch.manual_seed(0)
    first, second = (MemoryBank(50, 4).order for _ in (0, 1))
    assert not torch.equal(first, second) and not torch.equal(first, torch.arange(50))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_entries_are_running_means_of_unit_length_and_others_stay(momentum):
    torch.manual_seed(0)
    bank = MemoryBank(6, 5, momentum=momentum)
    torch.testing.assert_close(bank.entries.norm(dim=1), torch.ones(6))
    before, index = bank.entries.clone(), torch.tensor([4, 1])
    z = F.normalize(torch.randn(2, 5), dim=1)
    bank.update(index, z.requires_grad_())
    mixed = momentum * before[index] + (1 - momentum) * z.detach()
    torch.testing.assert_close(bank.entries[index], mixed / mixed.norm(dim=1, keepdim=True))
    others = [0, 2, 3, 5]
    assert torch.equal(bank.entries[others], before[others]) and not bank.entries.requires_grad


def test_a_memory_bank_wants_two_images():
    with pytest.raises(ValueError, match="images: expected at least 2 to tell apart, got 1"):
        make("pirl", images=1)


# SimCLR, SupCon, supervised


def test_simclr_contrasts_the_projections_of_its_two_views(batch):
    simclr = make("simclr", temperature=0.2, projection_dim=6).eval()
    views = simclr.views(batch[0], None)
    assert len(views) == 2 and not torch.equal(*views)
    z = [simclr.head(simclr.encoder(view)) for view in views]
    assert z[0].shape == (8, 6)
    torch.testing.assert_close(simclr(views, *batch[1:]), nt_xent(*z, 0.2))


def test_simclr_jitters_by_the_papers_strengths():
    first, second = make("simclr", jitter_strength=0.5, blur=(1.0, 0.25)).augmentations
    assert first.jitter == pytest.approx((0.4, 0.4, 0.4, 0.1)) and first.greyscale == 0.2
    assert first.scale == (0.5, 1.0) and first.flip == 0 and first.solarize == 0
    assert (first.blur, second.blur) == (1.0, 0.25)


def test_supcon_contrasts_by_label(batch):
    supcon = make("supcon", temperature=0.3).eval()
    views = drawn(supcon, batch[0])
    z = torch.stack([supcon.head(supcon.encoder(view)) for view in views], 1)
    for labels in (batch[1], torch.arange(8), torch.zeros(8)):
        torch.testing.assert_close(supcon(views, labels, batch[2]), sup_con(z, labels, 0.3))
    torch.testing.assert_close(supcon(views, torch.arange(8), batch[2]), nt_xent(z[:, 0], z[:, 1], 0.3))


def test_supervised_is_cross_entropy_with_the_labels_and_wants_two_classes(batch):
    supervised = make("supervised").eval()
    (view,) = supervised.views(batch[0], None)
    expected = F.cross_entropy(supervised.head(supervised.encoder(view)), batch[1])
    torch.testing.assert_close(supervised([view], *batch[1:]), expected)
    with pytest.raises(ValueError, match="classes: expected at least 2"):
        registry.get("supervised")(supervised.encoder, 1, 10, **VIEWS)


# Barlow Twins, VICReg


def test_supervised_can_learn_from_simclrs_views(batch):
    supervised, simclr = make("supervised", simclr_views=True).eval(), make("simclr")
    views = drawn(supervised, batch[0])
    for view, other in zip(views, drawn(simclr, batch[0]), strict=True):
        torch.testing.assert_close(view, other)
    logits = supervised.head(supervised.encoder(torch.cat(views)))
    loss = (F.cross_entropy(logits[:8], batch[1]) + F.cross_entropy(logits[8:], batch[1])) / 2
    torch.testing.assert_close(supervised(views, *batch[1:]), loss)


def test_barlow_twins_and_vicreg_compare_projections_by_their_losses(batch):
    weights = {"invariance": 3.0, "variance": 2.0, "covariance": 0.5}
    for objective, head, loss in (
        (make("barlow_twins", off_diagonal_weight=0.1), "projector", lambda *z: barlow_twins(*z, 0.1)),
        (make("vicreg", **weights), "expander", lambda *z: vicreg(*z, **weights)),
    ):
        views = drawn(objective.eval(), batch[0])
        z = [objective.get_submodule(head)(objective.encoder(view)) for view in views]
        assert z[0].shape == (8, 4 * objective.encoder.feature_dim)  # as wide as its documentation says
        torch.testing.assert_close(objective(views, *batch[1:]), loss(*z))


# Stopped gradients


class Detached(nn.Module):
    """Passes on what it gets, without gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


@pytest.mark.parametrize("name", ["simsiam", "byol"])
def test_only_the_prediction_takes_gradient(name, batch):
    objective = make(name).eval()
    views = drawn(objective, batch[0])
    if name == "simsiam":
        with torch.no_grad():
            targets = [objective.projector(objective.encoder(view)) for view in views]
    else:
        targets = [objective.slow.projector(objective.slow.encoder(view)) for view in views]
        assert not any(target.requires_grad for target in targets)
    p1, p2 = (objective.predictor(objective.projector(objective.encoder(view))) for view in views)
    scale = 2 if name == "byol" else 0.5
    expected = scale * (negative_cosine(p1, targets[1]) + negative_cosine(p2, targets[0])) + (
        4 if name == "byol" else 0
    )
    found, wanted = (gradients(objective, loss) for loss in (objective(views, *batch[1:]), expected))
    for parameter, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[parameter], atol=1e-6, rtol=1e-4)
    objective.predictor = Detached()  # without the predictor's gradient there is none at all
    assert not objective(views, *batch[1:]).requires_grad


def test_byol_compares_as_its_equation_says(batch):
    loss = make("byol").train()(drawn(make("byol"), batch[0]), *batch[1:])
    assert 0 <= loss <= 8


@pytest.mark.parametrize("name", WITH_MOMENTUM)
def test_momentum_encoders_follow_and_take_no_gradient(name, batch):
    objective = make(name, momentum=0.9).train()
    objective(drawn(objective, batch[0]), *batch[1:]).backward()
    slow = dict(objective.slow.named_parameters())
    assert slow and all(p.grad is None and not p.requires_grad for p in slow.values())
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1)
    optimizer.step()
    before = {key: p.clone() for key, p in slow.items()}
    progress = 0.3
    objective.after_step(progress)
    rate = 0.9 if name in ("moco", "infomin") else rising(0.9, progress)
    moved = 0
    for key, p in slow.items():
        torch.testing.assert_close(p, rate * before[key] + (1 - rate) * objective.get_parameter(key))
        moved += not torch.equal(p, before[key])
    assert moved > 0.8 * len(slow)


@pytest.mark.parametrize("name", ["byol", "dino"])
def test_at_the_end_of_training_the_slow_encoder_stands_still(name):
    objective = make(name, momentum=0.5)
    with torch.no_grad():
        for p in objective.encoder.parameters():
            p.add_(1)
    before = weights_checksum(objective.slow)
    objective.after_step(1.0)
    assert weights_checksum(objective.slow) == before
    objective.after_step(0.99)
    assert weights_checksum(objective.slow) != before


# MoCo and InfoMin


def keys(moco: Objective, views: list[Tensor]) -> Tensor:
    with torch.no_grad():
        return F.normalize(moco.slow.head(moco.slow.encoder(views[1])), dim=1)


@pytest.mark.parametrize("size", [5, 8, 20, 24])
def test_the_queue_is_first_in_first_out_wraps_around_and_holds_unit_keys(size, batch):
    moco = make("moco", queue_size=size, projection_dim=7).eval()
    torch.testing.assert_close(moco.queue.norm(dim=1), torch.ones(size))
    expected = deque(moco.queue.clone(), maxlen=size)  # oldest first: the first to be overwritten
    for step in range(7):
        views = drawn(moco, batch[0], seed=step)
        expected.extend(keys(moco, views))
        moco(views, *batch[1:])
        torch.testing.assert_close(moco.queue.norm(dim=1), torch.ones(size))
        place = int(moco.next)
        assert place == (step + 1) * min(8, size) % size
        torch.testing.assert_close(moco.queue.roll(-place, 0), torch.stack(list(expected)))


def test_moco_contrasts_with_the_queue_as_it_was_before_the_batch(batch):
    moco = make("moco", temperature=0.3, queue_size=16).eval()
    views = drawn(moco, batch[0])
    before, key = moco.queue.clone(), keys(moco, views)
    query = moco.head(moco.encoder(views[0]))
    expected = info_nce(query, key, before, 0.3)
    loss = moco(views, *batch[1:])
    torch.testing.assert_close(loss, expected)
    assert not torch.equal(moco.queue, before)
    found, wanted = gradients(moco, loss), gradients(moco, expected)  # after the queue has moved on
    for parameter, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[parameter], atol=1e-6, rtol=1e-4)


def test_infomins_views_are_mocos_with_more_done_to_them(batch):
    images = batch[0]
    ours, plain = make("infomin"), make("moco")
    assert isinstance(ours, type(plain)) and ours.augmentations[0].blur == 0.5
    assert ours.augmentations[0].jitter == pytest.approx((0.8, 0.8, 0.8, 0.2))  # of strength 1
    for a, b in zip(drawn(ours, images), drawn(plain, images), strict=True):
        assert a.shape == b.shape and not torch.equal(a, b)
    same = {"jitter_strength": 0.5, "blur": (0.0, 0.0)}
    idle, busy = make("infomin", operations=0, **same), make("infomin", **same)
    assert torch.equal(drawn(idle, images)[0], drawn(plain, images)[0])  # what is left without RandAugment
    assert not torch.equal(drawn(busy, images)[0], drawn(plain, images)[0])


# SwAV and DINO


def test_swav_predicts_the_codes_of_cosines_with_its_prototypes(batch):
    model = make("swav", prototypes=5, temperature=0.2, epsilon=0.1, iterations=2).eval()
    views = drawn(model, batch[0])
    z = [F.normalize(model.projector(model.encoder(view)), dim=1) for view in views]
    scores = [one @ model.prototypes.weight.T for one in z]
    assert all(s.abs().max() <= 1 + 1e-6 for s in scores)
    expected = swav(scores, temperature=0.2, epsilon=0.1, iterations=2)
    torch.testing.assert_close(model(views, *batch[1:]), expected)
    torch.testing.assert_close(sinkhorn(scores[0], 0.1, 2).sum(1), torch.ones(8))


def test_prototypes_have_unit_length_from_the_start_and_after_every_step(batch):
    model = make("swav").train()
    torch.testing.assert_close(model.prototypes.weight.norm(dim=1), torch.ones(100))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(drawn(model, batch[0]), *batch[1:]).backward()
    optimizer.step()
    assert not torch.allclose(model.prototypes.weight.norm(dim=1), torch.ones(100))
    direction = F.normalize(model.prototypes.weight.detach(), dim=1)
    model.after_step(0.5)
    torch.testing.assert_close(model.prototypes.weight.detach(), direction)


@pytest.mark.parametrize(("name", "layer"), [("swav", "prototypes"), ("dino", "head.last")])
def test_the_last_layer_is_frozen_at_first(name, layer, batch):
    model = make(name, freeze=0.1).train()
    for progress, frozen in ((0.0, True), (0.099, True), (0.1, False), (0.9, False)):
        model.zero_grad()
        model(drawn(model, batch[0]), *batch[1:]).backward()
        weight = model.get_submodule(layer).weight
        assert weight.grad.any()
        model.before_step(progress)
        assert (weight.grad is None) == frozen
        assert next(model.encoder.parameters()).grad.any()


def teacher_outputs(model: Objective, views: list[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return [model.slow.head(model.slow.encoder(view)) for view in views]


def test_dino_matches_the_teacher_and_then_moves_its_centre(batch):
    sharpness = {"student_temperature": 0.2, "teacher_temperature": 0.05}
    model = make("dino", outputs=6, center_momentum=0.7, **sharpness).eval()
    assert not model.center.any()
    for step in range(3):
        views, center = drawn(model, batch[0], seed=step), model.center.clone()
        teacher = teacher_outputs(model, views)
        student = [model.head(model.encoder(view)) for view in views]
        assert all(s.abs().max() <= 1 + 1e-6 for s in student)  # cosines
        expected = dino(student, teacher, center, **sharpness)
        torch.testing.assert_close(model(views, *batch[1:]), expected)
        torch.testing.assert_close(model.center, 0.7 * center + 0.3 * torch.cat(teacher).mean(0))


def test_dino_clips_the_gradient_of_each_tensor_to_norm_3(batch):
    model = make("dino").train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    for i, p in enumerate(parameters):
        p.grad = torch.full_like(p, (10.0 if i % 2 else 0.1) / math.sqrt(p.numel()))
    before = [p.grad.clone() for p in parameters]
    model.before_step(0.5)
    for i, (p, old) in enumerate(zip(parameters, before, strict=True)):
        expected = 3 * old / old.norm() if i % 2 else old
        torch.testing.assert_close(p.grad, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["swav", "dino", "lejepa"])
def test_small_crops_are_more_and_smaller_views_that_are_trained_on(name, batch):
    images, labels, index = batch
    model = make(name, small_crops=2).eval()
    views = drawn(model, images)
    assert [view.shape[-1] for view in views] == [16, 16, 8, 8]
    large = make(name).eval()
    loss = model(views, labels, index)
    assert torch.isfinite(loss) and not torch.allclose(loss, large(views[:2], labels, index))
    views[3].requires_grad_()
    make(name, small_crops=2).eval()(views, labels, index).backward()
    assert views[3].grad.any()
    assert len(drawn(large, images)) == 2
    trained = pretrain(
        PretrainConfig(name, width=4, epochs=1, batch_size=8, precision="float32", options={"small_crops": 2}),
        toy(16),
        on=torch.device("cpu"),
    )
    assert trained.converged and math.isfinite(trained.history["loss"][0])


def test_small_crops_show_less_of_the_image():
    model = make("swav", small_crops=1)
    ramp = torch.arange(0, 256, 4, dtype=torch.uint8).expand(32, 3, 64, 64).contiguous()
    spans = [view.flatten(1).amax(1) - view.flatten(1).amin(1) for view in plain(model).views(ramp, None)]
    assert spans[2].max() < spans[0].max() and (spans[2] ** 2).mean() < 0.5  # about the shares of the area


def plain(model: Objective) -> Objective:
    """The same without changes of colour."""
    changed = {"jitter": None, "greyscale": 0.0, "ratio": (1.0, 1.0)}
    model.augmentations = [type(a)(**{**vars(a), **changed}) for a in model.augmentations]
    return model


# LeJEPA


def test_lejepa_looks_along_new_directions_at_every_step_and_its_checkpoint_goes_on_with_them(batch):
    model = make("lejepa", directions=7, weight=0.3).eval()
    views = drawn(model, batch[0])
    z = [model.projector(model.encoder(view)) for view in views]
    other = make("lejepa", directions=7, weight=0.3, seed=1)
    other.load_state_dict(model.state_dict())
    first, second = other.directions(), other.directions()
    torch.testing.assert_close(first.norm(dim=1), torch.ones(7))
    assert first.shape == (7, 128) and not torch.allclose(first, second)
    for directions in (first, second):
        torch.testing.assert_close(model(views, *batch[1:]), lejepa(z, directions, 0.3))
    assert not torch.equal(make("lejepa", directions=7, seed=1).directions(), first)


# PIRL and CMC


def test_pirl_compares_image_and_jigsaw_with_the_memory_and_then_updates_it(batch):
    pirl = make("pirl", temperature=0.2, jigsaw_weight=0.3, negatives=5, bank_momentum=0.6).eval()
    bank, index = pirl.bank, batch[2]
    for step in range(3):
        views = drawn(pirl, batch[0], seed=step)
        assert views[1].shape == (9 * 8, 3, 4, 4)  # 64/75 of a third of 16 px
        entries, window = bank.entries.clone(), bank.order.roll(-5 * step)[:5]
        image = F.normalize(pirl.of_image(pirl.encoder(views[0])), dim=1)
        patches = pirl.of_patch(pirl.encoder(views[1])).view(8, 9 * 128)
        own = index[:, None] == window
        same = {"positive": entries[index], "negatives": entries[window], "temperature": 0.2, "leave_out": own}
        expected = 0.3 * nce(pirl.of_patches(patches), **same) + 0.7 * nce(image, **same)
        torch.testing.assert_close(pirl(views, *batch[1:]), expected)
        mixed = F.normalize(0.6 * entries[index] + 0.4 * image.detach(), dim=1)
        torch.testing.assert_close(bank.entries[index], mixed)


def test_pirl_without_a_memory_tells_jigsaws_to_be_their_image_in_the_batch(batch):
    pirl = make("pirl", temperature=0.2, memory=False).eval()
    assert not any(name.startswith("bank") for name in pirl.state_dict())
    views = drawn(pirl, batch[0])
    image = F.normalize(pirl.of_image(pirl.encoder(views[0])), dim=1)
    shuffled = F.normalize(pirl.of_patches(pirl.of_patch(pirl.encoder(views[1])).view(8, 9 * 128)), dim=1)
    h = (shuffled @ image.T / 0.2).softmax(1)
    own = torch.eye(8, dtype=torch.bool)
    expected = -(h[own].log() + (1 - h).log().masked_fill(own, 0).sum(1)).mean()
    torch.testing.assert_close(pirl(views, *batch[1:]), expected, atol=1e-4, rtol=1e-4)


def test_pirls_tiles_stay_with_their_image():
    pirl = make("pirl")
    flat = (16 * torch.arange(12)).to(torch.uint8).view(12, 1, 1, 1).expand(12, 3, 18, 18).contiguous()
    whole, tiles = plain(pirl).views(flat, None)
    torch.testing.assert_close(tiles.mean((1, 2, 3)).view(12, 9), whole.mean((1, 2, 3))[:, None].expand(12, 9))


@pytest.mark.parametrize("name", ["cmc", "infomin_color"])
def test_cmc_contrasts_each_stream_with_the_other_ones_memory(name, batch):
    cmc = make(name, temperature=0.2, negatives=5, bank_momentum=0.6).eval()
    index = batch[2]
    for step in range(3):
        views = drawn(cmc, batch[0], seed=step)
        entries = [bank.entries.clone() for bank in cmc.banks]
        windows = [bank.order.roll(-5 * step)[:5] for bank in cmc.banks]
        parts = cmc.encoder.parts(views[0])
        z = [F.normalize(head(h), dim=1) for head, h in zip(cmc.heads, parts, strict=True)]
        expected = 0
        for mine, other in ((0, 1), (1, 0)):
            own = index[:, None] == windows[other]
            negatives = entries[other][windows[other]]
            expected = expected + info_nce(z[mine], entries[other][index], negatives, 0.2, leave_out=own)
        torch.testing.assert_close(cmc(views, *batch[1:]), expected)
        for mine in (0, 1):
            mixed = F.normalize(0.6 * entries[mine][index] + 0.4 * z[mine].detach(), dim=1)
            torch.testing.assert_close(cmc.banks[mine].entries[index], mixed)


def test_cmc_without_a_memory_contrasts_the_streams_within_the_batch(batch):
    cmc = make("cmc", temperature=0.2, memory=False).eval()
    assert not any(name.startswith("banks") for name in cmc.state_dict())
    views = drawn(cmc, batch[0])
    light, colour = (F.normalize(h(p), dim=1) for h, p in zip(cmc.heads, cmc.encoder.parts(views[0]), strict=True))
    logits, own = light @ colour.T / 0.2, torch.arange(8)
    expected = F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)
    loss = cmc(views, *batch[1:])
    torch.testing.assert_close(loss, expected)
    found, naive = (gradients(cmc, value) for value in (loss, expected))
    torch.testing.assert_close(found, naive, atol=1e-5, rtol=1e-3)


def test_each_stream_of_cmc_sees_its_own_channels_alone():
    g = torch.Generator().manual_seed(0)
    light = 45 + 10 * torch.rand(6, 1, 16, 16, generator=g)
    colours = [30 * torch.rand(6, 2, 16, 16, generator=g) - 15 for _ in (0, 1)]
    encoder = make("cmc").encoder.eval()

    def of(lightness: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
        return encoder.parts(lab_to_rgb(torch.cat([lightness, colour], 1)))

    before, recoloured, brighter = of(light, colours[0]), of(light, colours[1]), of(light + 5, colours[0])
    for same, other, changed in ((0, 1, recoloured), (1, 0, brighter)):
        torch.testing.assert_close(changed[same], before[same], atol=1e-4, rtol=1e-3)
        assert (changed[other] - before[other]).norm() > 1e-2 * before[other].norm()


def test_cmc_wants_its_own_encoder_colours_and_an_even_width():
    with pytest.raises(ValueError, match="encoder: expected one made by color_streams, got ResNet"):
        registry.get("cmc")(make("simclr").encoder, 4, 10, **VIEWS)
    kind = registry.get("cmc")
    with pytest.raises(ValueError, match="in_channels: expected 3 channels"):
        kind.build_encoder(18, width=4, stem="cifar", in_channels=1)
    with pytest.raises(ValueError, match="width: expected an even number, to be halved, got 5"):
        kind.build_encoder(18, width=5, stem="cifar", in_channels=3)


def toy(n: int = 16) -> ImageSet:
    images = torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return ImageSet(images, torch.arange(n) % 4, tuple("abcd"), None, "toy")


@pytest.mark.parametrize(("name", "color"), [("cmc", "lab"), ("infomin_color", "ydbdr")])
def test_an_encoder_that_cmc_trained_is_loaded_from_its_checkpoint(tmp_path, name, color):
    config = PretrainConfig(name, width=4, epochs=1, batch_size=8, precision="float32")
    trained = pretrain(config, toy(), checkpoint=tmp_path / "cmc.pt", on=torch.device("cpu")).encoder
    loaded = load_encoder(f"checkpoint:{tmp_path / 'cmc.pt'}")
    assert loaded.spec == trained.spec and loaded.spec["color"] == color and not loaded.training
    assert weights_checksum(loaded) == weights_checksum(trained)
    # Rounded elsewhere: a trained encoder keeps its weights in another memory format.
    torch.testing.assert_close(extract(loaded, toy()), extract(trained, toy()))
    assert extract(loaded, toy(), layers=["first.pool", "second.pool"]).keys() == {"first.pool", "second.pool"}
    chosen = PretrainConfig(name, width=4, epochs=1, batch_size=8, precision="float32", options={"color": "lab"})
    assert pretrain(chosen, toy(), on=torch.device("cpu"), stop_after=0).encoder.spec["color"] == "lab"


# RotNet


def test_rotnets_labels_are_its_rotations(batch):
    rotnet = make("rotnet").eval()
    (turned,) = drawn(rotnet, batch[0])
    upright = turned[:8]
    torch.testing.assert_close(turned, torch.cat([torch.rot90(upright, k, (2, 3)) for k in range(4)]))
    torch.testing.assert_close(turned, rotations(upright))
    logits = rotnet.head(rotnet.encoder(turned))
    labels = torch.tensor([0] * 8 + [1] * 8 + [2] * 8 + [3] * 8)
    torch.testing.assert_close(rotnet([turned], *batch[1:]), F.cross_entropy(logits, labels))


def test_rotnet_can_turn_each_image_once_every_way_equally_often(batch):
    rotnet, upright = make("rotnet", one_rotation=True).eval(), make("rotnet")
    (turned,), (four,) = drawn(rotnet, batch[0]), drawn(upright, batch[0])
    expected = torch.stack([four[8 * (i % 4) + i] for i in range(8)])  # of all four of each image, one after another
    torch.testing.assert_close(turned, expected)
    logits = rotnet.head(rotnet.encoder(turned))
    torch.testing.assert_close(rotnet([turned], *batch[1:]), F.cross_entropy(logits, torch.arange(8) % 4))
    assert len(rotnet.pictures(batch[0], None)) == 1 and len(upright.pictures(batch[0], None)) == 4


def test_rotnet_wants_square_images():
    with pytest.raises(ValueError, match="images: expected square images"):
        rotations(torch.zeros(2, 3, 8, 6))


# Adding one


NEW_OBJECTIVE = """
from sslnb.objectives.objective import Objective

__all__ = ["Constant", "zero_loss"]


def zero_loss(z):
    return 0 * z.sum()


class Constant(Objective):
    name, label = "constant", "Constant"
    compares = "nothing"
    equation = "0"
    learning_rate = 0.1

    def __init__(self, encoder, classes, images, *, offset=1.0, **views):
        super().__init__(encoder, classes, images, **views)
        self.offset = offset

    def views(self, images, generator):
        return [images.float() / 255]

    def forward(self, views, labels, index):
        return zero_loss(self.encoder(views[0])) + self.offset
"""

USE_IT = """
import json
import torch
from sslnb.data import ImageSet
from sslnb.objectives import zero_loss
from sslnb.objectives.registry import OBJECTIVES
from sslnb.pool import runs, scales
from sslnb.pool.members import Scale, Variant
from sslnb.studies.objectives import STUDY, tables
from sslnb.training import PretrainConfig, pretrain

images = ImageSet(
    torch.arange(4 * 192).view(4, 3, 8, 8).to(torch.uint8), torch.full((4,), -1), ("a",), None, "toy"
)
config = PretrainConfig("constant", width=4, epochs=1, batch_size=4, precision="float32", options={"offset": 2.5})
shared = {"width": 4, "epochs": 1, "batch_size": 20}
plan = Scale("tiny", "digit-scenes", shared, {"constant": Variant(), "supervised": Variant()}, limit=60, halvings=0)
scales.SCALES["tiny"] = plan
for member in plan.members.values():
    runs.run(member)
compared = STUDY.start(STUDY.parameters.of(pool="tiny", probe_limit=60, test_limit=60, probe_epochs=2)).all()
print(json.dumps({
    "known": sorted(OBJECTIVES),
    "loss": pretrain(config, images).history["loss"],
    "equations": tables.equations().data,
    "accuracies": tables.accuracies(compared).data,
}))
"""


def test_a_fifteenth_objective_is_one_file_that_pretraining_and_the_comparison_find(tmp_path):
    shutil.copytree(Path(sslnb.__file__).parent, tmp_path / "sslnb", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "sslnb" / "objectives" / "constant.py").write_text(NEW_OBJECTIVE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment["SSLNB_CACHE"] = str(tmp_path / "cache")
    done = subprocess.run(
        [sys.executable, "-c", USE_IT], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["known"] == sorted([*OBJECTIVES, "constant"])
    assert told["loss"] == [2.5]
    assert "| Constant | nothing:<br>$0$ |" in told["equations"] and "| Constant | " in told["accuracies"]


def test_objectives_do_not_share_state():
    first, second = make("moco"), make("moco")
    states = copy.deepcopy(second.state_dict())
    first.queue.zero_()
    first.encoder.stem[0].weight.data.zero_()
    assert all(torch.equal(a, states[name]) for name, a in second.state_dict().items())
