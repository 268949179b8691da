"""Adversarial attacks on anything differentiable: pixels through a network, or features through a probe.

No attack changes the model: it runs in evaluation mode (batch norm's running statistics are read, not updated) and
gets its mode and its parameters' gradients back as they were.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslnb.core.checks import (
    as_values,
    expect,
    expect_count,
    expect_finite,
    expect_floats,
    expect_integers,
    expect_labels,
    expect_one_device,
    expect_tensor,
)
from sslnb.core.numerics import gradients, lengths, unit
from sslnb.encoders.encoder import called, evaluating

NORMS = ("linf", "l2")
Bounds = tuple[float, float]


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of the cross-entropy at x, and which predictions are still right."""
    with gradients():
        x, y = (part.clone() if part.is_inference() else part for part in (x.detach(), y))
        x.requires_grad_()
        logits = called(model, x).float()
        expect(logits.ndim == 2 and len(logits) == len(x), "model", f"logits [{len(x)}, K]", list(logits.shape))
        expect(logits.requires_grad, "model", "logits that have a gradient in x", "none")
        expect_labels(y, logits.shape[1], "y")
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), x, allow_unused=True)
        expect(gradient is not None, "model", "logits that have a gradient in x", "none: they do not depend on x")
        return gradient, logits.detach().argmax(1) == y


def _budget(eps: float | Tensor, x: Tensor, std: Tensor | None = None, argument: str = "eps") -> Tensor:
    """Budget as a tensor that broadcasts over x; one per sample, or one for all, scaled per channel by ``std``."""
    eps = as_values(eps, argument).to(x)
    expect(eps.ndim == 0 or eps.shape == x.shape[:1], argument, f"a number or shape [{len(x)}]", list(eps.shape))
    expect_finite(eps, argument)
    least = float(eps.min()) if eps.numel() else 0.0
    expect(least >= 0, argument, "values of at least 0", least)
    eps = eps.reshape(-1, *[1] * (x.ndim - 1))
    if std is None:
        return eps
    std = as_values(std, "std").to(x)
    expect(std.shape == x.shape[1:2], "std", f"one value per channel, shape [{x.shape[1]}]", list(std.shape))
    expect(bool((std > 0).all()), "std", "values above 0", std.tolist())
    return eps / std.view(1, -1, *[1] * (x.ndim - 2))


def _check(model: nn.Module, x: Tensor, y: Tensor, bounds: Bounds | None) -> tuple[Tensor, Bounds]:
    """The labels, as int64, and the bounds."""
    expect(isinstance(model, nn.Module), "model", "a module", type(model).__name__)
    expect_floats(x, "x")
    expect(x.ndim >= 2, "x", "shape [N, …]", f"shape {list(x.shape)}")
    weight = next(model.parameters(), x)
    same = f"a model's own, {weight.dtype} on {weight.device}"
    expect((weight.dtype, weight.device) == (x.dtype, x.device), "x", same, f"{x.dtype} on {x.device}")
    y = expect_integers(y, "y")
    expect_one_device(x=x, y=y)
    low, high = bounds if bounds is not None else (-math.inf, math.inf)
    expect(y.shape == x.shape[:1], "y", f"shape [{len(x)}]", list(y.shape))
    expect_finite(x, "x")
    expect(low < high, "bounds", "low < high", bounds)
    if x.numel():
        least, most = x.min().item(), x.max().item()
        wanted = f"values within bounds ({low}, {high})"
        expect(low <= least and most <= high, "x", wanted, f"{least:.4g} to {most:.4g}")
    return y, (low, high)


def fgsm(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float | Tensor,
    *,
    bounds: Bounds | None = (0, 1),
    std: Tensor | None = None,
) -> Tensor:
    """Fast gradient sign method: x + eps · sign(∇ loss), cut to ``bounds`` (None: no bounds).

    ``eps`` (a number, or one per sample [N]) and ``bounds`` are in x's own units; for inputs normalised per channel
    by ``std`` [C], eps is in the units before normalisation. Source: Goodfellow et al. 2015, section 4.
    """
    y, limits = _check(model, x, y, bounds)
    with evaluating(model):
        gradient, _ = _gradient(model, x, y)
    return _moved(x, _budget(eps, x, std), gradient.sign(), limits)


def _moved(x: Tensor, budget: Tensor, direction: Tensor, bounds: Bounds) -> Tensor:
    return (x + budget * direction).clamp(*bounds).detach()


def _project(delta: Tensor, eps: Tensor, norm: str) -> Tensor:
    """Nearest point of the ball of radius eps."""
    if norm == "linf":
        return torch.minimum(torch.maximum(delta, -eps), eps)
    length = _length(delta)
    return delta * (eps / length.clamp(min=torch.finfo(delta.dtype).tiny)).clamp(max=1)


def _length(delta: Tensor) -> Tensor:
    return lengths(delta.flatten(1)).to(delta.dtype).view(-1, *[1] * (delta.ndim - 1))


def _random_start(x: Tensor, eps: Tensor, norm: str, generator: torch.Generator | None) -> Tensor:
    """Uniform in the l∞ ball; in l2 a uniform direction with a radius uniform up to eps."""
    if norm == "linf":
        return eps * torch.empty_like(x).uniform_(-1, 1, generator=generator)
    direction = torch.empty_like(x).normal_(generator=generator)
    radius = torch.empty(len(x), device=x.device, dtype=x.dtype).uniform_(generator=generator)
    return eps * radius.view_as(_length(x)) * direction / _length(direction)


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float | Tensor,
    *,
    norm: str = "linf",
    steps: int = 10,
    step_size: float | Tensor | None = None,
    bounds: Bounds | None = (0, 1),
    random_start: bool = True,
    until_beaten: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient descent on the cross-entropy within an l∞ or l2 ball around x.

    ``step_size`` is by default 2.5 · eps / steps. A sample keeps the first point found that is misclassified (x
    itself, if it is), so no later step undoes it; with ``until_beaten=False``, as adversarial training wants it, all
    samples take all steps. ``bounds=None`` for features, which have none.
    ``ValueError`` for a negative budget, an unknown norm, or x outside the bounds. Source: Madry et al. 2018,
    section 2.1.
    """
    expect(norm in NORMS, "norm", f"one of {NORMS}", repr(norm))
    expect_count(steps, "steps")
    y, (low, high) = _check(model, x, y, bounds)
    budget = _budget(eps, x).expand(len(x), *[1] * (x.ndim - 1))
    step = 2.5 * budget / steps if step_size is None else _budget(step_size, x, argument="step_size").expand_as(budget)
    x = x.detach()
    delta = _random_start(x, budget, norm, generator) if random_start else torch.zeros_like(x)
    point, adversarial = (x + delta).clamp(low, high), x.clone()
    with evaluating(model):
        # Only the samples that still are classified rightly are worked on: the others stay where they were beaten.
        alive = torch.arange(len(x), device=x.device)
        alive = alive[_correct(model, x, y)] if until_beaten else alive
        point = point[alive]
        for _ in range(steps if len(alive) else 0):
            gradient, right = _gradient(model, point, y[alive])
            if until_beaten:
                adversarial[alive] = point
                alive, point, gradient = alive[right], point[right], gradient[right]
                if not len(alive):
                    break
            delta = point - x[alive] + step[alive] * _direction(gradient, norm)
            point = (x[alive] + _project(delta, budget[alive], norm)).clamp(low, high)
    adversarial[alive] = point
    return adversarial


def _direction(gradient: Tensor, norm: str) -> Tensor:
    """Steepest ascent of unit length in the norm."""
    if norm == "linf":
        return gradient.sign()
    return unit(gradient.flatten(1)).view_as(gradient)


@torch.no_grad()
def _correct(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return called(model, x).argmax(1) == y


def fgsm_correct(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    budgets: Sequence[float] | Tensor,
    *,
    bounds: Bounds | None = (0, 1),
    std: Tensor | None = None,
    batch_size: int = 512,
) -> Tensor:
    """Which samples [B,N] stay right under :func:`fgsm` at each budget; a batch has one gradient for all of them."""
    budgets = _expect_budgets(budgets).tolist()
    _expect_samples(x, y)
    expect_count(batch_size, "batch_size")
    right = torch.zeros(len(budgets), len(x), dtype=torch.bool)
    with evaluating(model):
        for rows in torch.arange(len(x)).split(batch_size):
            images, labels = x[rows.to(x.device)], y[rows.to(y.device)]
            labels, limits = _check(model, images, labels, bounds)
            direction = _gradient(model, images, labels)[0].sign()
            for i, eps in enumerate(budgets):
                moved = _moved(images, _budget(eps, images, std), direction, limits)
                right[i, rows] = _correct(model, moved, labels).cpu()
    return right


def fgsm_accuracy(
    model: nn.Module, x: Tensor, y: Tensor, budgets: Sequence[float] | Tensor, **settings: object
) -> Tensor:
    """Accuracy [B] under :func:`fgsm` at each budget [B]: the means of :func:`fgsm_correct`, whose settings it has."""
    return fgsm_correct(model, x, y, budgets, **settings).double().mean(1)


def pgd_accuracy(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    budgets: Sequence[float] | Tensor,
    *,
    norm: str = "linf",
    steps: int = 10,
    relative_step: float = 0.25,
    bounds: Bounds | None = (0, 1),
    batch_size: int = 512,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Accuracy [B] under :func:`pgd` at each budget [B], with steps of ``relative_step`` · budget.

    A ball holds every smaller one, so a sample that was lost at a smaller budget stays lost, and in l∞ one that
    :func:`fgsm` beats is lost: the accuracy never rises with the budget and is never above that under FGSM. Memory is
    that of one batch, whatever the number of budgets. The accuracy at budget 0 is the clean one.
    """
    budgets = _expect_budgets(budgets)
    _expect_samples(x, y)
    expect_count(batch_size, "batch_size")
    right = torch.zeros(len(budgets), dtype=torch.double)
    with evaluating(model):
        for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            labels, limits = _check(model, images, labels, bounds)
            gradient, correct = _gradient(model, images, labels)
            reached = _selected(correct, images, labels, gradient.sign())
            for i in budgets.argsort().tolist():
                eps = float(budgets[i])
                if eps > 0 and norm == "linf":
                    moved = _moved(reached[0], _budget(eps, reached[0]), reached[2], limits)
                    reached = _selected(_correct(model, moved, reached[1]), *reached)
                if eps > 0:
                    settings = {"norm": norm, "steps": steps, "step_size": relative_step * eps, "generator": generator}
                    moved = pgd(model, *reached[:2], eps, bounds=bounds, **settings)
                    reached = _selected(_correct(model, moved, reached[1]), *reached)
                right[i] += len(reached[0])
    return right / len(x)


def _selected(correct: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """The rows that are left of each."""
    return tuple(value[correct] for value in values)


def _expect_samples(x: Tensor, y: Tensor) -> None:
    expect_tensor(x, "x")
    expect_tensor(y, "y")
    expect(x.ndim >= 2 and len(x) > 0, "x", "shape [N, …], at least one sample", f"shape {list(x.shape)}")
    expect(y.shape == x.shape[:1], "y", f"shape [{len(x)}]", list(y.shape))


def _expect_budgets(budgets: Sequence[float] | Tensor) -> Tensor:
    budgets = as_values(budgets, "budgets").cpu()
    expect(budgets.ndim == 1 and len(budgets) > 0, "budgets", "a list of at least one value", list(budgets.shape))
    expect_finite(budgets, "budgets")
    expect(bool((budgets >= 0).all()), "budgets", "values of at least 0", float(budgets.min()))
    return budgets
