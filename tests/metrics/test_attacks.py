import math

import foolbox
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslnb.metrics.attacks import fgsm, fgsm_accuracy, pgd, pgd_accuracy


class Normalised(nn.Module):
    """A network on pixels that normalises them itself."""

    def __init__(self, net: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.net, self.mean, self.std = net, mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - self.mean) / self.std)


def pictures(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images [n,3,8,8] in [0, 1] of four classes, each a faint pattern under noise."""
    patterns = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(9)) - 0.5
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    return (0.5 + 0.35 * patterns[labels] + 0.12 * torch.randn(n, 3, 8, 8, generator=g)).clamp(0, 1), labels


def network(seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stem = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()]
        return nn.Sequential(*stem, nn.Flatten(), nn.Dropout(0.1), nn.Linear(128, 4))


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A small network with batch norm and dropout that gets nearly all of the pictures right."""
    net, (x, y) = network(0), pictures(256, 0)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    return net.eval().requires_grad_(False)


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(1) == y).double().mean())


def random_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


ATTACKS = {
    "fgsm": lambda model, x, y, eps, **more: fgsm(model, x, y, eps, **more),
    "pgd-linf": lambda model, x, y, eps, **more: pgd(model, x, y, eps, generator=random_generator(), **more),
    "pgd-l2": lambda model, x, y, eps, **more: pgd(model, x, y, eps, norm="l2", generator=random_generator(), **more),
}


def size(delta: Tensor, name: str) -> Tensor:
    return delta.flatten(1).norm(dim=1, p=2 if name == "pgd-l2" else math.inf)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("eps", [0.01, 0.1, 0.6])
def test_an_attack_uses_its_budget_and_stays_within_budget_and_bounds(trained, name, eps):
    x, y = pictures(64, 1)
    found = ATTACKS[name](trained, x, y, eps)
    assert found.shape == x.shape and not found.requires_grad
    assert found.min() >= 0 and found.max() <= 1
    used = size(found - x, name)
    assert used.max() <= eps * (1 + 1e-5)
    assert used.max() >= 0.95 * eps
    outside = ATTACKS[name](trained, x, y, eps, bounds=None)
    assert size(outside - x, name).max() <= eps * (1 + 1e-5)
    if eps > 0.5 and name != "pgd-l2":
        assert outside.min() < 0 and outside.max() > 1
    narrow = ATTACKS[name](trained, x.clamp(0.25, 0.75), y, eps, bounds=(0.25, 0.75))
    assert narrow.min() >= 0.25 and narrow.max() <= 0.75


@pytest.mark.parametrize("name", ATTACKS)
def test_budget_0_changes_no_bit(trained, name):
    x, y = pictures(64, 1)
    y[:7] = (y[:7] + 1) % 4
    assert torch.equal(ATTACKS[name](trained, x, y, 0.0), x)


@pytest.mark.parametrize("name", ATTACKS)
def test_one_budget_per_sample_equals_separate_calls(trained, name):
    x, y = pictures(12, 2)
    eps = torch.linspace(0, 0.2, 12)
    start = {} if name == "fgsm" else {"random_start": False}
    together = ATTACKS[name](trained, x, y, eps, **start)
    for i in range(12):
        alone = ATTACKS[name](trained, x[i : i + 1], y[i : i + 1], float(eps[i]), **start)
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=0)


def test_std_scales_the_budget_to_normalised_inputs(trained):
    x, y = pictures(32, 3)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.5])
    model = Normalised(trained, mean, std)
    pixels = fgsm(model, x, y, 0.03, bounds=None)
    normalised = fgsm(trained, (x - model.mean) / model.std, y, 0.03, bounds=None, std=std)
    torch.testing.assert_close(normalised * model.std + model.mean, pixels, atol=1e-6, rtol=0)


def test_fgsm_is_one_signed_step_up_the_loss(trained):
    x, y = pictures(16, 3)
    at = x.clone().requires_grad_()
    F.cross_entropy(trained(at), y).backward()
    torch.testing.assert_close(fgsm(trained, x, y, 0.02), (x + 0.02 * at.grad.sign()).clamp(0, 1))


@pytest.mark.parametrize(("norm", "size"), [("l2", 2), ("linf", math.inf)])
def test_pgd_on_two_linear_classes_goes_straight_for_the_boundary(norm, size):
    layer = nn.Linear(6, 2, bias=False)
    nn.init.normal_(layer.weight, generator=random_generator(3))
    x = torch.randn(20, 6, generator=random_generator(4))
    y, between = layer(x).argmax(1), (layer.weight[1] - layer.weight[0]).detach()
    towards = between / between.norm() if norm == "l2" else between.sign()
    found = pgd(layer, x, y, 1e-3, norm=norm, steps=1, bounds=None, random_start=False)
    moved = torch.where(y[:, None] == 0, towards, -towards) * 1e-3
    held = layer(found).argmax(1) == y
    assert held.sum() > 15
    torch.testing.assert_close((found - x)[held], moved[held], atol=1e-6, rtol=1e-3)
    assert (found - x)[held].norm(dim=1, p=size).max() <= 1e-3 * 1.001


@pytest.mark.parametrize("eps", [0.03, 0.05, 0.1])
def test_pgd_is_never_weaker_than_fgsm_and_both_bite(trained, eps):
    x, y = pictures(400, 4)
    clean = accuracy(trained, x, y)
    one_step = accuracy(trained, fgsm(trained, x, y, eps), y)
    many = accuracy(trained, pgd(trained, x, y, eps, steps=20, generator=random_generator()), y)
    assert clean > 0.95
    assert many <= one_step < clean
    l2 = [accuracy(trained, pgd(trained, x, y, e, norm="l2", generator=random_generator()), y) for e in (0.4, 0.6, 1)]
    assert clean > l2[0] > l2[1] > l2[2]


def test_more_steps_never_help_the_classifier():
    net, (x, y) = network(1).eval(), pictures(64, 5)
    for steps in (1, 3):
        few = pgd(net, x, y, 0.05, steps=steps, step_size=0.01, generator=random_generator())
        more = pgd(net, x, y, 0.05, steps=steps + 4, step_size=0.01, generator=random_generator())
        beaten = net(few).argmax(1) != y
        assert beaten.any()
        assert torch.equal(more[beaten], few[beaten])


@pytest.mark.parametrize("name", ["pgd-linf", "pgd-l2"])
def test_samples_that_are_already_wrong_come_back_as_they_were(trained, name):
    x, y = pictures(40, 6)
    wrong = trained(x).argmax(1) != y
    y[:9] = (y[:9] + 1) % 4
    wrong[:9] = trained(x[:9]).argmax(1) != y[:9]
    found = ATTACKS[name](trained, x, y, 0.1)
    assert wrong.sum() >= 8
    assert torch.equal(found[wrong], x[wrong])
    assert not torch.equal(found[~wrong], x[~wrong])


@pytest.mark.parametrize("name", ATTACKS)
def test_the_model_comes_back_bit_identical_with_its_modes_and_gradients(name):
    net, (x, y) = network(2), pictures(32, 7)
    net.train()
    net[1].eval()  # a frozen batch norm in a network that trains
    net[0].weight.requires_grad_(False)
    F.cross_entropy(net(x), y).backward()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    gradients = {k: None if p.grad is None else p.grad.clone() for k, p in net.named_parameters()}
    modes = [module.training for module in net.modules()]
    first = ATTACKS[name](net, x, y, 0.05)
    assert torch.equal(first, ATTACKS[name](net, x, y, 0.05))  # dropout is off, so nothing is random
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert [module.training for module in net.modules()] == modes
    for name_, parameter in net.named_parameters():
        before = gradients[name_]
        assert parameter.grad is None if before is None else torch.equal(parameter.grad, before)


def test_modes_come_back_after_an_error():
    net = network(2).train()
    x, y = pictures(8, 7)
    with pytest.raises(ValueError, match="x: expected what the model takes"):
        pgd(net, x[:, :2], y, 0.1)  # two channels where the network wants three
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_generator_decides_the_random_start(trained, norm):
    x, y = pictures(32, 8)
    run = lambda seed, **more: pgd(trained, x, y, 0.1, norm=norm, steps=2, generator=random_generator(seed), **more)  # noqa: E731
    state = torch.get_rng_state()
    assert torch.equal(run(0), run(0))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(run(0), run(1))
    assert torch.equal(run(0, random_start=False), run(1, random_start=False))


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_on_no_samples_gives_none(name):
    layer = nn.Linear(5, 3)
    found = ATTACKS[name](layer, torch.zeros(0, 5), torch.zeros(0, dtype=torch.long), 0.1, bounds=None)
    assert found.shape == (0, 5)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps": -0.1}, "eps: expected values of at least 0"),
        ({"eps": math.nan}, "eps: expected finite"),
        ({"eps": torch.zeros(3)}, r"eps: expected a number or shape \[8\], got \[3\]"),
        ({"y": torch.zeros(7, dtype=torch.long)}, r"y: expected shape \[8\], got \[7\]"),
        ({"bounds": (0.4, 0.6)}, r"x: expected values within bounds \(0.4, 0.6\)"),
        ({"bounds": (1, 0)}, "bounds: expected low < high"),
    ],
)
def test_bad_input_is_refused_by_name(trained, name, changes, message):
    x, y = pictures(8, 1)
    with pytest.raises(ValueError, match=message):
        ATTACKS[name](trained, **{"x": x, "y": y, "eps": 0.1, **changes})


def test_nan_pixels_unknown_norms_no_steps_and_wrong_std_are_refused(trained):
    x, y = pictures(8, 1)
    broken = x.clone()
    broken[3, 1, 0, 0] = math.nan
    for attack in ATTACKS.values():
        with pytest.raises(ValueError, match="x: expected finite"):
            attack(trained, broken, y, 0.1)
    with pytest.raises(ValueError, match=r"norm: expected one of .*'l2'.*got 'l1'"):
        pgd(trained, x, y, 0.1, norm="l1")
    with pytest.raises(ValueError, match="steps: expected at least 1"):
        pgd(trained, x, y, 0.1, steps=0)
    with pytest.raises(ValueError, match=r"std: expected one value per channel, shape \[3\]"):
        fgsm(trained, x, y, 0.1, std=torch.ones(4))
    with pytest.raises(ValueError, match="step_size: expected values of at least 0"):
        pgd(trained, x, y, 0.1, step_size=-0.1)


def test_attacks_agree_with_torchattacks(trained):
    torchattacks = pytest.importorskip("torchattacks", reason="the peer library torchattacks is not installed")
    x, y = pictures(64, 1)
    theirs = torchattacks.FGSM(trained, eps=0.05)(x, y)
    torch.testing.assert_close(fgsm(trained, x, y, 0.05), theirs, atol=1e-6, rtol=0)
    for norm, peer in (("linf", torchattacks.PGD), ("l2", torchattacks.PGDL2)):
        eps = 0.05 if norm == "linf" else 0.4
        ours = pgd(trained, x, y, eps, norm=norm, steps=10, step_size=eps / 4, random_start=False)
        theirs = peer(trained, eps=eps, alpha=eps / 4, steps=10, random_start=False)(x, y)
        right = trained(ours).argmax(1) == y  # where ours found something it stops, theirs goes on
        assert right.any() and not right.all()
        torch.testing.assert_close(ours[right], theirs[right], atol=1e-4, rtol=0)
        assert accuracy(trained, ours, y) <= accuracy(trained, theirs, y)


# Accuracy against many budgets

BUDGETS = [0.0, 0.02, 0.05, 0.1, 0.2]


def test_fgsm_accuracy_is_that_of_separate_attacks(trained):
    x, y = pictures(70, 1)
    found = fgsm_accuracy(trained, x, y, BUDGETS, batch_size=32)
    assert found.tolist() == pytest.approx([accuracy(trained, fgsm(trained, x, y, eps), y) for eps in BUDGETS])
    std = torch.tensor([0.5, 0.25, 1.0])
    scaled = fgsm_accuracy(trained, x, y, BUDGETS, std=std)
    assert scaled.tolist() == pytest.approx([accuracy(trained, fgsm(trained, x, y, e, std=std), y) for e in BUDGETS])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_accuracy_is_at_most_that_of_separate_attacks_and_never_rises(trained, norm):
    x, y = pictures(70, 1)
    budgets = torch.tensor(BUDGETS) * (1 if norm == "linf" else 6)
    how = {"norm": norm, "steps": 5}
    found = pgd_accuracy(trained, x, y, budgets, **how, batch_size=32, generator=random_generator())
    alone = []
    for eps in budgets.tolist():
        seen = pgd(trained, x, y, eps, **how, step_size=eps / 4, generator=random_generator())
        alone.append(accuracy(trained, seen, y))
    assert found[0] == accuracy(trained, x, y) and found.diff().max() <= 0 and found[-1] < found[0]
    # Random starts differ with the batches, so that a sample may be won that one call alone loses.
    assert all(a <= b + 2 / 70 for a, b in zip(found.tolist(), alone, strict=True))


def test_pgd_accuracy_is_never_above_fgsms_and_takes_budgets_in_any_order(trained):
    x, y = pictures(90, 3)
    weak = pgd_accuracy(trained, x, y, BUDGETS, steps=1, relative_step=0.01, generator=random_generator())
    single = fgsm_accuracy(trained, x, y, BUDGETS)
    assert bool((weak <= single).all())
    shuffled = pgd_accuracy(trained, x, y, BUDGETS[::-1], steps=1, relative_step=0.01, generator=random_generator())
    assert torch.equal(shuffled.flip(0), weak)


def test_accuracies_agree_with_foolbox_within_a_point(trained):
    (x, y), budgets = pictures(2000, 5), [0.03, 0.04, 0.05, 0.06]
    peer = foolbox.PyTorchModel(trained, bounds=(0, 1))
    how = {"steps": 10, "rel_stepsize": 0.185}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, _, lost = foolbox.attacks.LinfPGD(**how, random_start=True)(peer, x, y, epsilons=budgets)
    theirs = 1 - lost.double().mean(1)
    ours = pgd_accuracy(trained, x, y, budgets, steps=10, relative_step=0.185, generator=random_generator())
    assert 0.02 < theirs.min() < 0.5 < theirs.max() < 1  # neither all right nor all wrong
    torch.testing.assert_close(ours, theirs, atol=0.01, rtol=0)
    _, _, lost = foolbox.attacks.FGSM()(peer, x, y, epsilons=budgets)
    torch.testing.assert_close(fgsm_accuracy(trained, x, y, budgets), 1 - lost.double().mean(1), atol=1e-9, rtol=0)


@pytest.mark.parametrize("measure", [fgsm_accuracy, pgd_accuracy])
def test_measuring_changes_no_batch_statistics_and_refuses_bad_budgets(measure):
    model = network(0).train()
    x, y = pictures(20, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, x, y, [0.0, 0.1])
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for budgets, message in (
        ([], "budgets"),
        ([-0.1], "budgets: expected values of at least 0"),
        ([math.nan], "budgets"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(model, x, y, budgets)
    with pytest.raises(ValueError, match="x: expected values within bounds"):
        measure(model, x + 2, y, [0.1])


class Blind(nn.Module):
    """A network with weights that does not look at its input."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.ones(len(x), 4))


def test_a_network_whose_outputs_do_not_depend_on_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="model: expected logits that have a gradient in x, got none"):
        fgsm(Blind(), torch.rand(2, 3, 4, 4), torch.zeros(2, dtype=torch.long), 0.1)
