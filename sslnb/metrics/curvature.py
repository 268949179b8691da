"""How the loss curves around a model's weights: the Hessian's largest eigenvalue and trace, and flatness in numbers."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from sslnb.core.checks import expect, expect_count
from sslnb.core.numerics import gradients, rounding
from sslnb.metrics.surface import evaluation_copy, losses_along, random_direction

STEPS = 10  # products with the Hessian that look for an eigenvalue which power iteration has missed
OFFSETS = 4  # points on either side of a line, the last one at the radius


@dataclass(frozen=True)
class Eigenvalue:
    """Largest eigenvalue λ with its residual ‖Hv − λv‖, v of length 1: some eigenvalue is at most that far from it.

    ``converged``: the residual is small, and a look around v found no larger eigenvalue (:func:`top_eigenvalue`).
    """

    value: float
    residual: float
    converged: bool


@dataclass(frozen=True)
class Trace:
    """Mean over random probes, and its standard error."""

    mean: float
    standard_error: float


@dataclass(frozen=True)
class Flatness:
    """The loss at the weights; its mean and largest rise around them (see :func:`flatness`); its curvature."""

    loss: float
    rise: float
    sharpness: float
    eigenvalue: Eigenvalue
    trace: Trace


@gradients()
def top_eigenvalue(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    iterations: int = 100,
    tolerance: float = 1e-3,
    generator: torch.Generator | None = None,
) -> Eigenvalue:
    """Largest (not largest in magnitude) eigenvalue of the Hessian of the mean cross-entropy in all parameters.

    Power iteration, which finds the eigenvalue of largest magnitude; unless that is clearly positive, again on the
    Hessian plus its norm times the identity, whose dominant eigenvalue belongs to the largest. It ends after
    ``iterations`` products with the Hessian, or when the residual is at most ``tolerance`` · |λ|, which a mixture of
    two close eigenvectors can have too. So ten more products, of Lanczos' method from there, have to find nothing that
    is larger by more than ``tolerance`` · |λ|; if they do, the iteration goes on from what they found. The eigenvalue
    depends on how weights are scaled (Dinh et al. 2017). ``ValueError`` as in :func:`loss_surface`.
    """
    expect_count(iterations, "iterations")
    expect(tolerance > 0, "tolerance", "a number above 0", tolerance)
    product, like = _hessian(model, images, labels)
    # Both are drawn, so that what is drawn afterwards does not depend on how this ends.
    starts = torch.randn(2, len(like), generator=generator).to(like)
    value, norm = _power_iteration(product, starts[0], 0.0, iterations, tolerance)
    if value.value >= 0 and value.residual <= value.value / 2:  # what dominates is positive
        return value
    shifted = _power_iteration(product, starts[1], norm, iterations, tolerance)[0]
    return max(value, shifted, key=lambda one: one.value)  # both are lower bounds of the largest


def _power_iteration(
    product: Callable[[Tensor], Tensor], start: Tensor, shift: float, iterations: int, tolerance: float
) -> tuple[Eigenvalue, float]:
    """Dominant eigenvalue of H + shift · 1, less the shift; and the last ‖Hv‖: without shift, about the norm of H."""
    v, converged = start / start.norm(), False
    for _ in tqdm(range(iterations), desc="power iteration", leave=False, delay=1):
        hv = product(v)
        value = float(v @ hv)
        residual = float((hv - value * v).norm())
        if not residual > tolerance * abs(value):  # NaN ends it too
            dominant, found = _lanczos(product, v, shift) if math.isfinite(residual) else (math.nan, v)
            if not abs(dominant) > abs(value + shift) + tolerance * abs(value):
                converged = math.isfinite(dominant)
                break
            v = found
            continue
        v = hv + shift * v
        v = v / v.norm()
    return Eigenvalue(value, residual, converged), float(hv.norm())


def _lanczos(product: Callable[[Tensor], Tensor], start: Tensor, shift: float) -> tuple[float, Tensor]:
    """Dominant eigenvalue of H + shift · 1 in the Krylov space of a vector of length 1, and its vector."""
    basis, diagonal, beside = [start], [], []
    for _ in range(STEPS):
        w = product(basis[-1]) + shift * basis[-1]
        diagonal.append(float(w @ basis[-1]))
        for _ in range(2):  # once leaves what rounding makes of nearly parallel vectors
            for v in basis:
                w = w - (w @ v) * v
        beside.append(float(w.norm()))
        if not beside[-1] > rounding(w.dtype) * abs(diagonal[0]):  # the space holds eigenvectors alone
            break
        basis.append(w / w.norm())
    size = len(diagonal)
    if not all(map(math.isfinite, diagonal + beside)):
        return math.nan, start
    off = torch.tensor(beside[: size - 1], dtype=torch.double)
    tridiagonal = torch.tensor(diagonal, dtype=torch.double).diag() + off.diag(1) + off.diag(-1)
    values, vectors = torch.linalg.eigh(tridiagonal)
    which = int(values.abs().argmax())
    found = sum(share * v for share, v in zip(vectors[:, which].tolist(), basis[:size], strict=True))
    return float(values[which]), found / found.norm()


@gradients()
def hessian_trace(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    probes: int = 20,
    generator: torch.Generator | None = None,
) -> Trace:
    """Trace of the Hessian of the mean cross-entropy in all parameters: mean of zᵀHz over z of random signs.

    ``ValueError`` for fewer than two probes, and as in :func:`loss_surface`. Source: Hutchinson 1990.
    """
    expect_count(probes, "probes", 2)
    product, like = _hessian(model, images, labels)
    estimates = torch.empty(probes, dtype=torch.double)
    for i in tqdm(range(probes), desc="trace", leave=False, delay=1):
        signs = (2 * torch.randint(0, 2, like.shape, generator=generator) - 1).to(like)
        estimates[i] = float(signs @ product(signs))
    return Trace(float(estimates.mean()), float(estimates.std()) / math.sqrt(probes))


def _hessian(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Product [P] of the Hessian with a vector [P], and the weights as such a vector."""
    model, batches = evaluation_copy(model, images, labels)
    weights = list(model.requires_grad_(True).parameters())
    sizes = [weight.numel() for weight in weights]

    def product(vector: Tensor) -> Tensor:
        along = [part.view(weight.shape) for part, weight in zip(vector.split(sizes), weights, strict=True)]
        total = torch.zeros_like(vector)
        for x, y in batches:
            loss = F.cross_entropy(model(x), y, reduction="sum") / len(images)
            gradients = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
            slope = sum((g * v).sum() for g, v in zip(gradients, along, strict=True))
            second = torch.autograd.grad(slope, weights, materialize_grads=True)
            total += torch.cat([part.flatten() for part in second])
        return total

    return product, torch.cat([weight.detach().flatten() for weight in weights])


@gradients()
def flatness(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    radius: float = 0.25,
    directions: int = 10,
    iterations: int = 100,
    probes: int = 20,
    generator: torch.Generator | None = None,
) -> Flatness:
    """Rise of the loss near the weights, and the Hessian's largest eigenvalue and trace.

    ``rise`` is the mean, over random directions d as in :func:`random_directions` and both signs, of
    loss(w ± radius · d) − loss(w): a radius of 0.25 changes each filter by a quarter of its length. ``sharpness`` is
    the largest such rise at a quarter, a half, three quarters and all of the radius: a lower bound of the largest
    within it, which an attack on the weights would look for. NaN where one of the losses is not finite, and
    unlike the curvature they do not depend on how filters are scaled. ``ValueError`` as in :func:`loss_surface`.
    """
    loss, rise, sharpness = rises(model, images, labels, radius=radius, directions=directions, generator=generator)
    eigenvalue = top_eigenvalue(model, images, labels, iterations=iterations, generator=generator)
    trace = hessian_trace(model, images, labels, probes=probes, generator=generator)
    return Flatness(loss, rise, sharpness, eigenvalue, trace)


def rises(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    radius: float = 0.25,
    directions: int = 10,
    points: int = OFFSETS,
    generator: torch.Generator | None = None,
) -> tuple[float, float, float]:
    """The loss at the weights, its mean and its largest rise around them, as in :func:`flatness`, without curvature.

    The largest is over so many ``points`` on either side; the mean is that of the last ones, whatever their number.
    """
    expect(math.isfinite(radius) and radius > 0, "radius", "a number above 0", radius)
    expect_count(directions, "directions")
    expect_count(points, "points")
    offsets = [(radius * i / points,) for i in range(-points, points + 1)]
    lines = [random_direction(model, generator) for _ in range(directions)]
    losses = torch.stack([losses_along(model, images, labels, [line], offsets) for line in lines])
    loss = losses[0, points]
    change = losses - loss
    return float(loss), float(change[:, [0, -1]].mean()), float(change.max())
