import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sslnb.data.digit_scenes import digit_scenes
from sslnb.encoders.encoder import evaluating
from sslnb.encoders.load import torchvision_encoder
from sslnb.encoders.resnet import resnet
from sslnb.features.extract import as_float
from sslnb.metrics import curvature, surface
from sslnb.metrics.curvature import Flatness, flatness, hessian_trace, rises, top_eigenvalue
from sslnb.metrics.surface import loss_surface, random_directions
from sslnb.training.finetune import Classifier


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lively(model: nn.Module) -> nn.Module:
    """Every norm gets statistics, scales and shifts of its own, so that folding has something to get wrong."""
    generator = seeded(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                if tensor is not None:
                    tensor.data += 0.3 * torch.rand(tensor.shape, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Classifier:
    torch.manual_seed(0)
    return lively(Classifier(resnet(18, width=4, stem="imagenet"), nn.Linear(32, 10)))


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    scenes = digit_scenes("test", scenes=10)
    return scenes.images[:8], scenes.labels[:8]


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


@pytest.fixture(scope="module")
def points() -> tuple[Tensor, Tensor]:
    return torch.rand(12, 1, 2, 2, generator=seeded()).double(), torch.arange(12) % 3


@torch.no_grad()
def naive(model: nn.Module, images: Tensor, labels: Tensor, steps: list[float], directions) -> Tensor:
    """Copy the model and load its weights, once per point."""
    losses = torch.empty(len(steps), len(steps))
    for i, alpha in enumerate(steps):
        for j, beta in enumerate(steps):
            moved = copy.deepcopy(model).eval()
            for name, weight in moved.named_parameters():
                weight += alpha * directions[0][name] + beta * directions[1][name]
            losses[i, j] = F.cross_entropy(moved(as_float(images)), labels)
    return losses


def test_a_surface_is_that_of_copies_whose_weights_are_set_one_by_one(model, data):
    directions = random_directions(model, seeded())
    found = loss_surface(model, *data, directions=directions, span=0.8, points=5, batch_size=3)
    steps = [-0.8, -0.4, 0, 0.4, 0.8]
    assert found.alphas.tolist() == found.betas.tolist() == pytest.approx(steps)
    wanted = naive(model, *data, steps, directions)
    torch.testing.assert_close(found.losses, wanted, rtol=1e-4, atol=0)
    assert wanted.std() > 0.01 and (wanted - wanted.T).abs().max() > 0.01  # neither flat nor symmetric


def test_the_middle_is_the_model_itself(model, data):
    wanted = F.cross_entropy(model(as_float(data[0])), data[1]).item()
    for images in (data[0], as_float(data[0])):
        found = loss_surface(model, images, data[1], points=3, generator=seeded())
        assert found.losses[1, 1].item() == pytest.approx(wanted, rel=1e-5)
        assert found.alphas[1] == 0 and found.gaps == 0


def test_a_seed_gives_the_same_surface_and_another_seed_another(model, data):
    first, again, other = (loss_surface(model, *data, points=3, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first.losses, again.losses)
    assert not torch.allclose(first.losses, other.losses, rtol=1e-2)


def test_bf16_moves_the_weights_too(model, data):
    exact, found = (
        loss_surface(model, *data, points=3, generator=seeded(), precision=p).losses for p in ("float32", "bf16")
    )
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.02)
    assert found.std() > 0.01


def test_filters_of_directions_are_as_long_as_the_models_and_single_dimensions_stay(model):
    for direction in random_directions(model, seeded()):
        assert list(direction) == [name for name, _ in model.named_parameters()]
        for name, weight in model.named_parameters():
            if weight.ndim < 2:
                assert not direction[name].any()
            else:
                for step, own in zip(direction[name], weight, strict=True):
                    assert step.norm().item() == pytest.approx(own.norm().item(), rel=1e-5)


def test_the_two_directions_differ_and_are_gaussian(model):
    first, second = random_directions(model, seeded())
    name = "encoder.layer4.1.residual.3.weight"
    assert F.cosine_similarity(first[name].flatten(), second[name].flatten(), dim=0).abs() < 0.1
    scaled = first[name].flatten(1) / first[name].flatten(1).std(1, keepdim=True)
    assert scaled.pow(4).mean().item() == pytest.approx(3, abs=0.2)  # uniform numbers would give 1.8


def test_one_seed_gives_models_of_the_same_shapes_the_same_numbers(model):
    other = Classifier(resnet(18, width=4, stem="imagenet"), nn.Linear(32, 10))
    for ours, theirs in zip(random_directions(model, seeded()), random_directions(other, seeded()), strict=True):
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                a, b = (F.normalize(d[name].flatten(1), dim=1) for d in (ours, theirs))
                torch.testing.assert_close(a, b)
    head = "head.weight"
    assert not torch.allclose(ours[head], theirs[head])


def test_nothing_about_the_model_changes(data):
    model = Classifier(resnet(18, width=4, stem="imagenet"), nn.Linear(32, 10)).train()
    model.encoder.layer1.eval().requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    trainable = [parameter.requires_grad for parameter in model.parameters()]
    pointers = [parameter.data_ptr() for parameter in model.parameters()]
    loss_surface(model, *data, points=3, generator=seeded())
    flatness(model, *data, directions=1, iterations=1, probes=2, generator=seeded())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == trainable
    assert [parameter.data_ptr() for parameter in model.parameters()] == pointers
    assert model.head.weight.grad.eq(1).all()
    assert sum(parameter.grad is not None for parameter in model.parameters()) == 1


def test_training_mode_gives_the_surface_of_evaluation_mode(model, data):
    wanted = loss_surface(model, *data, points=3, generator=seeded()).losses
    found = loss_surface(copy.deepcopy(model).train(), *data, points=3, generator=seeded()).losses
    assert torch.equal(found, wanted)


class Twice(nn.Module):
    """Layers and weights that two places share, a norm without scales, and one without running statistics."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(4)
        self.shared = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Conv2d(4, 4, 1), norm)
        self.tied = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.tied[2].weight = self.tied[0].weight
        plain = (nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 4, 1, bias=False))
        self.rest = nn.Sequential(*plain, nn.BatchNorm2d(4, track_running_stats=False))
        self.hooked = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.hooked[0].register_forward_hook(lambda module, given, output: output.abs())

    def forward(self, x: Tensor) -> Tensor:
        return self.hooked(self.rest(self.tied(self.shared(x))))


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_folding_is_exact_and_leaves_alone_what_it_cannot_fold(model, data):
    torch.manual_seed(0)
    theirs = torchvision_encoder("resnet18", pretrained=False)  # its norms are in no sequence, but for three shortcuts
    cases = ((model, 0), (lively(Twice()), 5), (lively(Classifier(theirs, nn.Linear(512, 10))), 17))
    for case, left in cases:
        directions = random_directions(case, seeded())
        if "rest.0.bias" in directions[0]:  # the bias of a convolution may move
            directions[0]["rest.0.bias"] += 0.5
        folded, steps = copy.deepcopy(case).requires_grad_(False), [dict(d) for d in directions]
        surface._fold_all(folded, steps)
        assert norms(folded) == left
        images, labels = data[0], data[1] % 4
        found = loss_surface(case, images, labels, directions=directions, points=3, span=0.5).losses
        torch.testing.assert_close(found, naive(case, images, labels, [-0.5, 0, 0.5], directions), rtol=1e-4, atol=1e-6)


def test_directions_that_move_norms_and_biases_are_followed(model, data):
    directions = [
        {name: 0.1 * torch.randn(p.shape, generator=seeded(s)) for name, p in model.named_parameters()} for s in (0, 1)
    ]
    found = loss_surface(model, *data, directions=directions, points=3).losses
    torch.testing.assert_close(found, naive(model, *data, [-1, 0, 1], directions), rtol=1e-4, atol=1e-6)


class Overflowing(nn.Module):
    """A weight above 1 makes the first class impossible, so that its loss is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3))], 1) * self.weight
        return logits + torch.where(self.weight > 1, torch.tensor([-math.inf, 0.0]), 0.0)


def test_losses_that_are_not_finite_are_gaps(data):
    images, labels = data[0], data[1] % 2
    directions = ({"weight": torch.ones(1, 1)}, {"weight": torch.zeros(1, 1)})
    found = loss_surface(Overflowing(), images, labels, directions=directions, points=5)
    assert found.gaps == 10 and found.losses.isnan().sum(1).tolist() == [0, 0, 0, 5, 5]
    flat = flatness(Overflowing(), images, labels, directions=2, iterations=2, probes=2, generator=seeded())
    assert math.isfinite(flat.loss) and math.isnan(flat.rise) and math.isnan(flat.sharpness)


def exact_hessian(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    weights = {name: p.detach() for name, p in model.named_parameters()}
    sizes = [p.numel() for p in weights.values()]

    def loss(vector: Tensor) -> Tensor:
        parts = zip(weights.items(), vector.split(sizes), strict=True)
        moved = {name: part.view(weight.shape) for (name, weight), part in parts}
        return F.cross_entropy(functional_call(model, moved, (images,)), labels)

    with evaluating(model):
        return torch.func.hessian(loss)(torch.cat([p.flatten() for p in weights.values()]))


def test_the_top_eigenvalue_is_that_of_the_exact_hessian(tiny, points):
    eigenvalues = torch.linalg.eigvalsh(exact_hessian(tiny, *points))
    assert eigenvalues[-1] > -eigenvalues[0]
    found = top_eigenvalue(tiny, *points, iterations=300, tolerance=1e-4, generator=seeded())
    assert found.converged and found.residual <= 1e-4 * found.value
    assert found.value == pytest.approx(eigenvalues[-1].item(), rel=1e-3)


def test_a_larger_negative_eigenvalue_does_not_take_the_place_of_the_top_one():
    class Bowl(nn.Module):
        """At the origin the loss has curvature −4 along one weight and 1 along the other."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, 2).double())

        def forward(self, x: Tensor) -> Tensor:
            logit = (torch.tensor([[4.0, -1.0]]).double() * self.weight.pow(2)).sum(1).expand(len(x))
            return torch.stack([logit, torch.zeros_like(logit)], 1) + 0 * x.mean((1, 2, 3))[:, None]

    images, labels = torch.rand(4, 1, 2, 2).double(), torch.zeros(4, dtype=torch.long)
    eigenvalues = torch.linalg.eigvalsh(exact_hessian(Bowl(), images, labels))
    assert eigenvalues.tolist() == pytest.approx([-4, 1])
    found = top_eigenvalue(Bowl(), images, labels, iterations=200, tolerance=1e-5, generator=seeded())
    assert found.converged and found.value == pytest.approx(1, rel=1e-3)


def test_eigenvalues_of_opposite_sign_and_equal_size_are_told_apart():
    hessian = torch.diag(torch.tensor([-2.0, 2.0, 1.0]))
    start = torch.ones(3)
    first, norm = curvature._power_iteration(lambda v: hessian @ v, start, 0.0, 100, 1e-4)
    assert not first.converged and norm == pytest.approx(2, rel=1e-3)
    second, _ = curvature._power_iteration(lambda v: hessian @ v, start, norm, 100, 1e-4)
    assert second.converged and second.value == pytest.approx(2, rel=1e-4)


def test_too_few_iterations_are_not_called_convergence(tiny, points):
    found = top_eigenvalue(tiny, *points, iterations=1, tolerance=1e-6, generator=seeded())
    assert not found.converged and found.residual > 1e-6 * abs(found.value)
    actual = torch.linalg.eigvalsh(exact_hessian(tiny, *points))
    assert (actual - found.value).abs().min() <= found.residual  # what the residual promises


def test_the_trace_is_that_of_the_exact_hessian_within_its_error(tiny, points):
    hessian = exact_hessian(tiny, *points)
    found = hessian_trace(tiny, *points, probes=200, generator=seeded())
    assert abs(found.mean - hessian.trace().item()) <= 3 * found.standard_error
    spread = 2 * (hessian.pow(2).sum() - hessian.diag().pow(2).sum())  # variance of one probe of random signs
    assert found.standard_error == pytest.approx(math.sqrt(spread / 200), rel=0.2)


def test_products_with_the_hessian_are_exact_through_norms_and_in_batches(monkeypatch, points):
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(2, 3))
    model = lively(nn.Sequential(*layers)).double().train().requires_grad_(False)  # training mode, and frozen
    exact = exact_hessian(model, *points)
    monkeypatch.setitem(surface.LAYER_VALUES, "cpu", 20)  # five images at a time
    product, like = curvature._hessian(model, *points)
    assert len(like) == len(exact) == 23  # all parameters, whatever requires_grad says
    for column in (0, 9, 22):
        torch.testing.assert_close(product(torch.eye(len(like)).double()[column]), exact[column])


def test_flatness_is_rises_along_lines_and_the_curvature(model, data):
    found = flatness(model, *data, radius=0.3, directions=3, iterations=2, probes=2, generator=seeded())
    generator = seeded()
    lines = [surface.random_direction(model, generator) for _ in range(3)]
    still = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    steps = [0.3 * i / 4 for i in range(-4, 5)]
    losses = torch.stack([naive(model, *data, steps, (line, still))[:, 0] for line in lines])
    rises = losses - losses[:, 4:5]
    assert isinstance(found, Flatness) and found.loss == pytest.approx(losses[0, 4].item(), rel=1e-5)
    assert found.rise == pytest.approx(rises[:, [0, -1]].mean().item(), rel=1e-3, abs=1e-5)
    assert found.sharpness == pytest.approx(rises.max().item(), rel=1e-3, abs=1e-5)
    assert found.eigenvalue == top_eigenvalue(model, *data, iterations=2, generator=generator)
    assert found.trace == hessian_trace(model, *data, probes=2, generator=generator)


class Wavy(nn.Module):
    """At the radius 1 the loss is what it is in the middle, and most a quarter of the way."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        logit = torch.cos(4 * math.pi * (self.weight[0] - 1)).expand(len(x))
        return torch.stack([logit, torch.zeros_like(logit)], 1)


def test_the_largest_rise_may_lie_within_the_radius():
    images, labels = torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.long)
    found = flatness(Wavy(), images, labels, radius=1, directions=1, iterations=1, probes=2, generator=seeded())
    assert found.rise == pytest.approx(0, abs=1e-5) and found.sharpness == pytest.approx(1, abs=1e-5)


def test_rises_are_the_same_however_long_the_curvature_is_looked_for(model, data):
    brief, long = (flatness(model, *data, directions=2, iterations=n, probes=2 * n, generator=seeded()) for n in (1, 4))
    assert (brief.rise, brief.sharpness) == (long.rise, long.sharpness) and brief.trace != long.trace


def test_the_mean_rise_needs_the_ends_alone(tiny, points):
    fine = rises(tiny, *points, radius=0.5, directions=3, generator=seeded())
    ends = rises(tiny, *points, radius=0.5, directions=3, points=1, generator=seeded())
    assert ends[:2] == fine[:2] and ends[2] <= fine[2]


def test_small_rises_are_those_of_the_curvature(tiny, points):
    radius = 1e-2
    found = flatness(tiny, *points, radius=radius, directions=2, iterations=1, probes=2, generator=seeded())
    hessian, generator = exact_hessian(tiny, *points), seeded()
    lines = [surface.random_direction(tiny, generator) for _ in range(2)]
    vectors = [torch.cat([part.flatten() for part in line.values()]) for line in lines]
    wanted = sum(float(v @ hessian @ v) for v in vectors) / len(vectors) * radius**2 / 2
    assert found.rise == pytest.approx(wanted, rel=0.02)


def test_a_flatter_model_is_called_flatter(tiny, points):
    steep = copy.deepcopy(tiny)
    with torch.no_grad():
        steep[3].weight.mul_(5)
    calm, wild = (
        flatness(m, *points, directions=3, iterations=200, probes=20, generator=seeded()) for m in (tiny, steep)
    )
    assert calm.rise < wild.rise and calm.sharpness < wild.sharpness
    assert calm.eigenvalue.value < wild.eigenvalue.value


BAD = {
    "points: expected an odd number of at least 3, got 4": {"points": 4},
    "points: expected an odd number of at least 3, got 1": {"points": 1},
    "span: expected a number above 0, got 0": {"span": 0},
    "span: expected a number above 0, got -1": {"span": -1},
    "span: expected a number above 0, got nan": {"span": math.nan},
    "batch_size: expected at least 1": {"batch_size": 0},
    "precision: expected 'bf16' or 'float32'": {"precision": "float8"},
    "labels: expected values in 0..2": {"labels": torch.arange(12) % 4},
    "labels: expected integers": {"labels": torch.zeros(12)},
    r"labels: expected shape \[12\], got shape \[5\]": {"labels": torch.zeros(5).long()},
    "images: expected at least one": {"images": torch.zeros(0, 1, 2, 2), "labels": torch.zeros(0).long()},
    r"images: expected shape \[N, C, H, W\]": {"images": torch.rand(12, 4)},
    "images: expected uint8, or float": {"images": torch.zeros(12, 1, 2, 2, dtype=torch.long)},
    "images: expected finite values": {"images": torch.full((12, 1, 2, 2), torch.nan).double()},
    r"model: expected logits of shape \[N, K\], got \[1, 4, 1, 1\]": {"model": nn.Sequential(nn.Conv2d(1, 4, 2))},
    "model: expected at least one parameter": {"model": nn.Flatten()},
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused(tiny, points, message):
    given = {"model": tiny, "images": points[0], "labels": points[1], "points": 3} | BAD[message]
    given["model"] = given["model"].double()
    with pytest.raises(ValueError, match=message):
        loss_surface(given.pop("model"), given.pop("images"), given.pop("labels"), **given)


def test_directions_that_do_not_fit_are_refused(tiny, points):
    first, second = random_directions(tiny, seeded())
    missing = {name: step for name, step in first.items() if name != "1.bias"}
    unlike, infinite = {"1.weight": torch.ones(4, 5)}, {"1.bias": torch.full((5,), math.inf)}
    cases = {
        "directions: expected a tensor for each parameter, got .*'1.bias'": (missing, second),
        "directions: expected a tensor for each parameter, got .*'9.bias'": (first, second | {"9.bias": torch.ones(1)}),
        r"directions: 1.weight: expected shape \[5, 4\], got shape \[4, 5\]": (first, second | unlike),
        "directions: 1.bias: expected finite": (first | infinite, second),
        "directions: expected two, got 1": (first,),
    }
    for message, directions in cases.items():
        with pytest.raises(ValueError, match=message):
            loss_surface(tiny, *points, points=3, directions=directions)


def test_bad_numbers_for_flatness_and_weights_that_are_not_finite_are_refused(tiny, points):
    cases = {
        "radius: expected a number above 0": lambda: flatness(tiny, *points, radius=0),
        "directions: expected at least 1": lambda: flatness(tiny, *points, directions=0),
        "iterations: expected at least 1": lambda: top_eigenvalue(tiny, *points, iterations=0),
        "tolerance: expected a number above 0": lambda: top_eigenvalue(tiny, *points, tolerance=0),
        "probes: expected at least 2": lambda: hessian_trace(tiny, *points, probes=1),
        "labels: expected values in 0..2": lambda: hessian_trace(tiny, points[0], points[1] + 1),
    }
    broken = copy.deepcopy(tiny)
    broken[1].weight.data[0, 0] = math.nan
    cases["model: 1.weight: expected finite"] = lambda: random_directions(broken)
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message):
            call()
