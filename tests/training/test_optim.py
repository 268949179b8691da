import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import weights_checksum
from sslnb.encoders.load import read_checkpoint
from sslnb.training.loop import PretrainConfig, pretrain
from sslnb.training.optim import (
    LARS,
    LEARNING_RATES,
    OPTIMIZERS,
    SCHEDULES,
    constant_with_warmup,
    cosine_with_warmup,
    cuts_with_warmup,
    make,
    steps_with_warmup,
)

CPU = torch.device("cpu")
every_optimizer = pytest.mark.parametrize("name", sorted(OPTIMIZERS))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network() -> nn.Module:
    """Weights, biases and a batch norm that is not at its start."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


# LARS


def naive_lars(w: list[float], gradients: list[list[float]], lr, momentum, decay, trust, adapt) -> list[float]:
    """One tensor's steps in Python's numbers, from the formula of the class's documentation."""
    velocity = [0.0] * len(w)
    for g in gradients:
        update = [gi + decay * wi for gi, wi in zip(g, w, strict=True)]
        if adapt:
            size, length = (math.sqrt(sum(x * x for x in vector)) for vector in (w, update))
            ratio = trust * size / length if size > 0 and length > 0 else 1.0
            update = [ratio * u for u in update]
        velocity = [momentum * v + u for v, u in zip(velocity, update, strict=True)]
        w = [wi - lr * v for wi, v in zip(w, velocity, strict=True)]
    return w


def stepped(optimizer: torch.optim.Optimizer, weights: list[Tensor], gradients: list[list[Tensor]]) -> list[Tensor]:
    """The weights after one step for each set of gradients."""
    for of_step in gradients:
        for weight, gradient in zip(weights, of_step, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
    return [weight.detach().clone() for weight in weights]


@given(
    seed=st.integers(0, 2**31),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    decay=st.sampled_from([0.0, 1e-4, 0.1]),
    trust=st.sampled_from([0.001, 0.02]),
    adapt=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_lars_equals_the_naive_formula(seed, momentum, decay, trust, adapt):
    weight = normal(2, 3, seed=seed).double()
    gradients = [normal(2, 3, seed=seed + i + 1).double() for i in range(4)]
    flat = [gradient.flatten().tolist() for gradient in gradients]
    expected = naive_lars(weight.flatten().tolist(), flat, 0.7, momentum, decay, trust, adapt)
    leaf = weight.clone().requires_grad_()
    group = {"params": [leaf], "adapt": adapt}
    optimizer = LARS([group], lr=0.7, momentum=momentum, weight_decay=decay, trust=trust)
    (found,) = stepped(optimizer, [leaf], [[gradient] for gradient in gradients])
    torch.testing.assert_close(found.flatten(), torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=1e-12)


def test_lars_steps_by_a_share_of_the_weights_norm_whatever_the_gradients_scale():
    weight, gradient = normal(4, 5), normal(4, 5, seed=1)
    for scale in (1e-3, 1.0, 1e6):
        leaf = weight.clone().requires_grad_()
        (found,) = stepped(LARS([leaf], lr=0.5, trust=0.01), [leaf], [[scale * gradient]])
        torch.testing.assert_close(found, weight - 0.5 * 0.01 * weight.norm() * gradient / gradient.norm())


@pytest.mark.parametrize(("weight", "gradient"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_lars_without_a_norm_to_go_by_steps_as_sgd(weight, gradient):
    leaf = torch.full((2, 2), weight, requires_grad=True)
    (found,) = stepped(LARS([leaf], lr=0.5), [leaf], [[torch.full((2, 2), gradient)]])
    torch.testing.assert_close(found, torch.full((2, 2), weight - 0.5 * gradient))


def test_lars_leaves_parameters_without_gradient_alone():
    used, unused = (normal(2, 2, seed=i).requires_grad_() for i in (0, 1))
    before = unused.detach().clone()
    optimizer = LARS([used, unused], lr=0.5)
    used.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(unused, before) and unused not in optimizer.state


def test_lars_refuses_no_trust_and_a_closure():
    with pytest.raises(ValueError, match="trust: expected a value above 0, got 0"):
        LARS([normal(2, 2).requires_grad_()], lr=0.1, trust=0.0)
    with pytest.raises(ValueError, match="closure: expected none"):
        LARS([normal(2, 2).requires_grad_()], lr=0.1).step(lambda: 0.0)


@pytest.fixture(scope="module")
def lightly_lars():
    return pytest.importorskip("lightly.utils.lars", reason="lightly is not installed: see tests/requirements.txt").LARS


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_lars_agrees_with_lightly_where_decay_does_not_count(lightly_lars, momentum):
    """lightly takes a decay of exactly 0 for a parameter to leave out, as biases and norms are: so almost 0 here."""
    shapes = [(4, 3), (2, 3, 3, 3), (5,)]
    gradients = [[normal(*shape, seed=10 * i + len(shape)) for shape in shapes] for i in range(5)]
    found = []
    for kind, rest, trust in ((LARS, {"adapt": False}, "trust"), (lightly_lars, {}, "trust_coefficient")):
        weights = [normal(*shape, seed=len(shape)).requires_grad_() for shape in shapes]
        groups = [{"params": weights[:2], "weight_decay": 1e-12}, {"params": weights[2:], "weight_decay": 0.0, **rest}]
        found.append(stepped(kind(groups, lr=0.3, momentum=momentum, **{trust: 0.02}), weights, gradients))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_lars_with_decay_differs_from_lightly_by_the_norm_it_divides_by(lightly_lars):
    """Ours divides by ‖g + wd·w‖, as the authors of SimCLR and BYOL do; theirs, as You et al., by ‖g‖ + wd·‖w‖."""
    weight, gradient, decay = normal(4, 3), normal(4, 3, seed=1), 0.5
    steps = []
    for kind, trust in ((LARS, "trust"), (lightly_lars, "trust_coefficient")):
        leaf = weight.clone().requires_grad_()
        optimizer = kind([leaf], lr=1.0, momentum=0.9, weight_decay=decay, **{trust: 0.1})
        steps.append(weight - stepped(optimizer, [leaf], [[gradient]])[0])
    known = (gradient.norm() + decay * weight.norm()) / (gradient + decay * weight).norm()
    assert known > 1.1
    torch.testing.assert_close(steps[0], known * steps[1], atol=1e-5, rtol=1e-5)


# The optimizers as the training loop makes them


@every_optimizer
def test_biases_and_norms_do_not_decay(name):
    model = network()
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    optimizer = make(name, model, 0.01, 0.5)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for key, p in model.named_parameters():
        if p.ndim > 1:
            assert p.norm() < before[key].norm(), key
        else:
            assert torch.equal(p, before[key]), key


def test_biases_and_norms_do_not_adapt():
    model = network()
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    optimizer = make("lars", model, 0.5, 0.0)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    for key, p in model.named_parameters():
        moved = float((before[key] - p.detach()).norm())
        step = 0.001 * float(before[key].norm()) if p.ndim > 1 else math.sqrt(p.numel())
        assert moved == pytest.approx(0.5 * step, rel=1e-3), key


@every_optimizer
def test_only_what_takes_a_gradient_is_optimized(name):
    model = network()
    model[0].requires_grad_(False)
    held = {id(p) for group in make(name, model, 0.1, 0.0).param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}
    assert all(group["lr"] == 0.1 for group in make(name, model, 0.1, 0.0).param_groups)


@every_optimizer
@pytest.mark.parametrize("seed", [0, 1])
def test_every_optimizer_goes_down_a_quadratic(name, seed):
    target = nn.Linear(4, 3)
    torch.manual_seed(seed)
    model = nn.Linear(4, 3)
    optimizer = make(name, model, {"sgd": 0.05, "lars": 2.0}.get(name, 0.02), 0.0)

    def distance() -> Tensor:
        parts = zip(model.parameters(), target.parameters(), strict=True)
        return sum((a - b.detach()).square().sum() for a, b in parts) / 2

    start, losses = float(distance().detach()), []
    for _ in range(300):
        optimizer.zero_grad()
        loss = distance()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[1] < start and min(losses) < 0.05 * start and losses[-1] < 0.5 * start


def test_learning_rates_of_their_own_are_for_known_optimizers():
    assert set(LEARNING_RATES) < set(OPTIMIZERS) and "sgd" not in LEARNING_RATES
    assert all(rate > 0 for rate in LEARNING_RATES.values())


# Schedules


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 300), st.floats(0, 0.9))
@settings(deadline=None)
def test_every_schedule_rises_linearly_to_1_and_never_rises_again(name, steps, warmup):
    factors = [SCHEDULES[name](step, steps, warmup) for step in range(steps)]
    rise = max(1, round(warmup * steps)) if warmup else 0
    assert factors[:rise] == pytest.approx([(step + 1) / rise for step in range(rise)])
    rest = factors[rise:]
    assert all(0 <= factor <= 1 for factor in factors)
    assert all(a >= b for a, b in itertools.pairwise(rest))
    if rest and rise < 0.6 * steps:  # where the step schedule cuts for the first time
        assert rest[0] == 1


def test_the_cosine_rises_linearly_and_falls_by_half_a_cosine_to_0():
    factors = [cosine_with_warmup(step, 100, 0.05) for step in range(101)]
    assert factors[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert factors[5:] == pytest.approx([0.5 * (1 + math.cos(math.pi * i / 95)) for i in range(96)])
    assert all(a > b for a, b in itertools.pairwise(factors[5:])) and 0 < factors[99] < 1e-3 and factors[100] == 0
    assert cosine_with_warmup(0, 10, 0.0) == 1 and cosine_with_warmup(5, 10, 0.0) == pytest.approx(0.5)
    assert cosine_with_warmup(0, 1, 0.5) == 1


def test_the_steps_are_tenths_after_60_and_80_percent():
    factors = [steps_with_warmup(step, 50, 0.1) for step in range(50)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0] + 25 * [1.0] + 10 * [0.1] + 10 * [0.01])
    assert steps_with_warmup(0, 50, 0.0) == 1


def test_the_constant_stays_at_1():
    factors = [constant_with_warmup(step, 20, 0.2) for step in range(20)]
    assert factors == pytest.approx([0.25, 0.5, 0.75] + 17 * [1.0])
    assert [constant_with_warmup(step, 20, 0.0) for step in range(20)] == 20 * [1.0]


def test_cuts_divide_the_rate_by_ten_after_every_fifth():
    factors = [cuts_with_warmup(step, 5000, 0.0) for step in (0, 999, 1000, 1999, 2000, 4999)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 1e-4])
    assert cuts_with_warmup(0, 100, 0.1) == pytest.approx(0.1)


# In a training run


def toy() -> ImageSet:
    images = torch.randint(256, (26, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(images, torch.arange(26) % 4, tuple("abcd"), None, "toy")


def assert_same(a: object, b: object) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


@pytest.mark.parametrize(
    ("optimizer", "schedule"), [("sgd", "step"), ("lars", "cosine"), ("adam", "constant"), ("adamw", "step")]
)
def test_a_run_resumes_to_the_bit_with_every_optimizer_and_schedule(tmp_path, optimizer, schedule):
    config = PretrainConfig(
        "simclr", width=4, epochs=2, batch_size=8, precision="float32", optimizer=optimizer, schedule=schedule
    )
    whole = pretrain(config, toy(), checkpoint=tmp_path / "whole.pt", on=CPU)
    pretrain(config, toy(), checkpoint=tmp_path / "parts.pt", on=CPU, stop_after=4)  # of six, within an epoch
    parts = pretrain(config, toy(), checkpoint=tmp_path / "parts.pt", on=CPU)
    assert whole.config.learning_rate == LEARNING_RATES.get(optimizer, 0.12)
    assert weights_checksum(parts.encoder) == weights_checksum(whole.encoder)
    assert parts.history["loss"] == whole.history["loss"]
    states = [read_checkpoint(tmp_path / f"{name}.pt") for name in ("whole", "parts")]
    for part in ("optimizer", "heads", "encoder"):
        assert_same(states[0][part], states[1][part])


def test_unknown_optimizers_and_schedules_name_the_nearest():
    with pytest.raises(ValueError, match=r"optimizer: expected one of .*got 'lar'; did you mean 'lars'"):
        PretrainConfig(optimizer="lar")
    with pytest.raises(ValueError, match=r"schedule: expected one of .*got 'cosin'; did you mean 'cosine'"):
        PretrainConfig(schedule="cosin")
