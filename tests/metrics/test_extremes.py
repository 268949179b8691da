"""Metrics whose result scale, offset, precision or ``no_grad`` around them must not change."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sslnb.metrics import (
    activation_rate,
    activations,
    bhattacharyya,
    curvature,
    effective_accuracy,
    fgsm,
    highly_activating,
    inpca,
    margins,
    mask_iou,
    pgd,
    progress,
    q_score,
    q_score_penalty,
    rankme,
    robust_accuracy,
)
from sslnb.metrics.labelfree import feature_deviation

SCALES = [1e-30, 1e-20, 1e-9, 1e20, 1e30]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spiky(n: int = 40, d: int = 30) -> Tensor:
    """Features of which a few stand out in each sample."""
    return draw(n, d).exp() + 20 * (draw(n, d, seed=1) > 1.8)


MASK = torch.arange(30) % 2 == 0


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", [torch.Tensor.float, torch.Tensor.double, lambda h: h.float().numpy()])
def test_scores_of_samples_do_not_depend_on_their_scale(kind, scale):
    h = spiky()
    rate = activation_rate(kind(h))
    assert rate.max() > 0 and torch.equal(activation_rate(kind(h * scale)), rate)
    torch.testing.assert_close(q_score(kind(h * scale), MASK), q_score(kind(h), MASK), rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", SCALES)
def test_the_penalty_and_its_gradient_hold_at_any_scale(scale):
    h, other = (part.float().requires_grad_() for part in (spiky() * scale, spiky()))
    found, wanted = (
        q_score_penalty(h, MASK, weight=1, norm_weight=1),
        q_score_penalty(other, MASK, weight=1, norm_weight=1),
    )
    found.backward(), wanted.backward()
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(h.grad.double() * scale, other.grad.double(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("offset", [1e6, 1e8, 1e10])
@pytest.mark.parametrize("kind", [lambda h: h, lambda h: h.numpy()])
def test_what_stands_out_in_float64_stands_out_on_a_large_offset(kind, offset):
    h = spiky()
    assert torch.equal(highly_activating(h + offset), highly_activating(h))
    assert torch.equal(activation_rate(kind(h + offset)), activation_rate(h))
    length = (h + offset).norm(dim=1)
    wanted = q_score(h, MASK).double() * h.norm(dim=1) / length
    torch.testing.assert_close(q_score(kind(h + offset), MASK).double(), wanted, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.1, 1 / 3, -0.7, 1e-20, 1e20, 0.0])
@pytest.mark.parametrize("epsilon", [0.0, 4.0])
def test_nothing_stands_out_of_equal_features(epsilon, value, dtype):
    for d in (3, 7, 64, 101):
        h = torch.full((2, d), value, dtype=dtype)
        assert not highly_activating(h, epsilon).any() and not activation_rate(h, epsilon).any()
        assert not q_score(h, torch.ones(d, dtype=torch.bool), epsilon).any()


@pytest.mark.parametrize("p", [1, 2, math.inf])
@pytest.mark.parametrize("scale", SCALES)
def test_margins_scale_with_the_features_and_not_with_the_weights(scale, p):
    weight, bias, x = draw(4, 6).float(), draw(4).float(), draw(20, 6, seed=1).float()
    wanted = margins(weight, bias, x, p=p)
    torch.testing.assert_close(margins(weight, bias * scale, x * scale, p=p) / scale, wanted, rtol=1e-4, atol=1e-5)
    bias = bias * 0
    wanted = margins(weight, bias, x, p=p)
    torch.testing.assert_close(margins(weight * scale, bias, x, p=p), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_margins_of_other_precision_are_those_of_their_values(dtype):
    weight, bias, x = (part.to(dtype) for part in (draw(4, 6), draw(4), draw(20, 6, seed=1)))
    labels = torch.arange(20, dtype=torch.uint8) % 4
    wanted = margins(weight.double(), bias.double(), x.double(), p=2, labels=labels.long())
    found = margins(weight, bias, x, p=2, labels=labels)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), wanted, equal_nan=True, rtol=1e-4, atol=1e-5)
    assert margins(weight.float(), bias, x, p=2).isfinite().all()  # mixed


@pytest.mark.parametrize("scale", [1e-20, 1e20, 1e150])
def test_effective_accuracy_does_not_depend_on_the_unit_of_the_budget(scale):
    budgets = torch.tensor([0.0, 1, 2, 5], dtype=torch.float64)
    curve = [0.9, 0.7, 0.4, 0.0]
    assert effective_accuracy(curve, budgets * scale) == pytest.approx(effective_accuracy(curve, budgets))


@pytest.mark.parametrize("scale", SCALES)
def test_label_free_numbers_do_not_depend_on_the_scale(scale):
    h = spiky().float()
    for metric in (rankme, feature_deviation, activations.near_zero_share, activations.excess_kurtosis):
        assert metric(h * scale) == pytest.approx(metric(h), rel=1e-4)
        assert metric(h.double() * scale**5) == pytest.approx(metric(h), rel=1e-4)
    found, wanted = (activations.sample_scores(part, part.roll(1, 0), MASK) for part in (h * scale, h))
    for name, units in {"qscore": 1, "norm": scale, "max": scale, "neighbour": 1}.items():
        torch.testing.assert_close(found[name] / units, wanted[name], rtol=1e-4, atol=1e-5)


def test_samples_of_equal_features_have_no_kurtosis():
    equal = torch.full((3, 7), 0.1) * (1 + torch.finfo(torch.float32).eps * draw(3, 7).sign().float())
    assert math.isnan(activations.excess_kurtosis(equal))


@pytest.mark.parametrize("scale", [*SCALES, 1e-150, 1e300])
def test_overlap_with_a_mask_does_not_depend_on_the_heat(scale):
    heat, masks = draw(5, 4, 4).abs(), torch.rand(5, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mask_iou(heat * scale, masks), mask_iou(heat, masks))
    whole = (heat * 10).round()
    torch.testing.assert_close(mask_iou(whole.int(), masks), mask_iou(whole, masks))  # soft masks stay soft


@pytest.mark.parametrize("scale", [1e-150, 1e-20, 1e20, 1e150])
def test_coordinates_scale_with_the_root_of_distances(scale):
    distances = (draw(6, 1, 3) - draw(1, 6, 3)).abs().sum(2)
    distances = (distances + distances.T).fill_diagonal_(0)
    found, wanted = inpca(distances * scale), inpca(distances)
    torch.testing.assert_close(found.coordinates / scale**0.5, wanted.coordinates)


def close(gap: float, size: int = 300) -> Tensor:
    """Eigenvalues of which the second comes within a gap of the first."""
    rest = torch.rand(size, generator=torch.Generator().manual_seed(0)) * 0.3 - 0.1
    return torch.cat([torch.tensor([1.0, 1 - gap]), rest])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("gap", [0.002, 0.005, 0.02])
def test_what_is_called_converged_is_the_largest_eigenvalue(gap, sign):
    eigenvalues, converged = sign * close(gap), 0
    for seed in range(50):
        start = draw(len(eigenvalues), seed=seed).float()
        found, _ = curvature._power_iteration(lambda v: eigenvalues * v, start, 0.0, 200, 1e-3)
        converged += found.converged
        assert not found.converged or sign * found.value == pytest.approx(1, abs=1.1e-3)
    assert converged >= 15


def test_a_start_at_the_second_eigenvector_does_not_end_there():
    eigenvalues = close(0.005)
    start = torch.zeros(len(eigenvalues))
    start[0], start[1] = 0.02, 1  # residual 1e-4
    found, _ = curvature._power_iteration(lambda v: eigenvalues * v, start, 0.0, 50, 1e-3)
    assert found.converged and found.value == pytest.approx(1, abs=1e-4)
    lost, _ = curvature._power_iteration(lambda v: eigenvalues * v, start, 0.0, 1, 1e-3)
    assert not lost.converged  # found again, but no product is left to say how well


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_hessian_smaller_than_the_search_or_of_zeros_converges(size):
    for eigenvalues in (torch.zeros(size), torch.ones(size), torch.arange(size) + 1.0):
        found, _ = curvature._power_iteration(lambda v, e=eigenvalues: e * v, draw(size).float(), 0.0, 300, 1e-4)
        assert found.converged and found.value == pytest.approx(eigenvalues.max().item(), rel=1e-3)


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))


AROUND = [torch.no_grad, torch.inference_mode, torch.enable_grad]


@pytest.mark.parametrize("around", AROUND)
def test_what_takes_gradients_takes_them_whatever_is_on_around_it(around):
    model, labels = classifier(), torch.arange(9) % 3
    images = draw(9, 3, 2, 2).sigmoid().float()
    settings = {"steps": 3, "random_start": False}
    wanted = [fgsm(model, images, labels, 0.1), pgd(model, images, labels, 0.1, **settings)]
    seeded = [torch.Generator().manual_seed(0) for _ in range(4)]
    top = curvature.top_eigenvalue(model, images, labels, iterations=5, generator=seeded[0])
    trace = curvature.hessian_trace(model, images, labels, probes=2, generator=seeded[1])
    with around():
        x, y = images.clone(), labels.clone()
        found = [fgsm(model, x, y, 0.1), pgd(model, x, y, 0.1, **settings)]
        assert curvature.top_eigenvalue(model, x, y, iterations=5, generator=seeded[2]) == top
        assert curvature.hessian_trace(model, x, y, probes=2, generator=seeded[3]) == trace
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_the_l2_attack_uses_all_of_its_budget_at_any_scale_of_gradients_and_features(scale):
    model = nn.Linear(6, 3)
    with torch.no_grad():
        model.weight.copy_(1e-2 * draw(3, 6))
        model.bias.zero_()
    x, y = 0.1 * draw(20, 6, seed=1).float(), torch.arange(20) % 3
    settings = {"norm": "l2", "steps": 4, "bounds": None, "random_start": False, "until_beaten": False}
    wanted = pgd(model, x, y, 1.0, **settings) - x
    flat = nn.Linear(6, 3)
    with torch.no_grad():  # the same logits of features at another scale
        flat.weight.copy_(model.weight / scale)
        flat.bias.zero_()
    moved = pgd(flat, x * scale, y, scale, **settings) - x * scale
    torch.testing.assert_close(moved / scale, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_probabilities_of_other_precision_give_the_distances_of_their_values(dtype):
    p = draw(3, 10, 4).softmax(2).to(dtype)
    exact = p.double() / p.double().sum(2, keepdim=True)
    torch.testing.assert_close(bhattacharyya(p, p).double(), bhattacharyya(exact, exact), rtol=1e-3, atol=1e-4)
    assert progress(p, torch.arange(10, dtype=torch.int32) % 4).isfinite().all()


def test_robust_accuracy_takes_lists_arrays_and_tensors_of_budgets():
    given = (draw(3, 5).float(), draw(3).float(), draw(9, 5).float(), torch.arange(9) % 3)
    values = [robust_accuracy(*given, b, p=2) for b in ([0, 0.1], np.array([0, 0.1]), torch.tensor([0, 0.1]))]
    assert torch.equal(values[0], values[1]) and torch.equal(values[0], values[2])
    with pytest.raises(ValueError, match="budgets: expected numbers, got list"):
        robust_accuracy(*given, ["a"], p=2)
