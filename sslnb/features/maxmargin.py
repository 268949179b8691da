"""The linear probe without a parameter: where its path of ever smaller weight decay ends.

As the weight decay of multinomial logistic regression goes to 0, the direction of the weights goes to that of the
multiclass support vector machine with a hard margin, if the classes can be separated (Rosset, Zhu and Hastie 2003;
gradient descent without decay goes there, too: Soudry et al. 2018). If they can't, there is no greatest margin, and the
path ends at the maximum of the likelihood. Margins do not depend on the length of the weights, so both ends have some.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from torch import Tensor

from sslnb.core.checks import expect, expect_finite, expect_labels, expect_one_device, expect_real, expect_shape
from sslnb.features.linear import checked_labels

# A tenth of the least weight decay of the paper's grid. On the features of a supervised ResNet-18, mean margins change
# by 17 % from 1e-5 to 1e-6, and by 4 % from there to 1e-7, for twice the iterations.
DECAY = 1e-6
GRADIENT = 1e-5  # largest derivative of the loss, features having unit variance, at which iterations end
BALANCED = 1e-6  # the same where classes are separable; margins change by 0.4 % from there to 1e-8
ITERATIONS = 1000
VIOLATION = 1e-3  # share of the margin by which samples may be inside it
ROUNDS, INNER = 50, 200  # of multipliers, which are known after about 5, and iterations in each
NEAREST = 30  # samples per class that are taken for support vectors at first


class MaxMargin(NamedTuple):
    """Weight [K,d] and bias [K] at the end of the path, float64, and whether they separate the training classes."""

    weight: Tensor
    bias: Tensor
    separable: bool


def max_margin(features: Tensor, labels: Tensor, *, decay: float = DECAY, hard: bool = True) -> MaxMargin:
    """The linear classifier of greatest l2 margin on features [N,d] with labels [N], or what stands in for it.

    If logistic regression with the weight ``decay`` classifies every sample correctly, the multiclass support vector
    machine: the least ‖W‖² with w_y·x + b_y ≥ w_j·x + b_j + 1 for every sample and every other class, biases free
    (Crammer and Singer 2001). If not, there is no greatest margin, or one that only an even smaller decay would show:
    then that regression's weights, at the minimum of cross-entropy + ``decay`` / 2 · ‖W‖², which are near those of
    greatest likelihood. With ``hard=False`` they are it for separable classes, too, which for a hundred classes takes
    seconds instead of minutes. ``ValueError`` for shapes, labels and values that can't be used, and fewer than two
    classes.
    """
    expect_shape(features, "features", "N", "d")
    expect(features.numel() > 0, "features", "at least one sample and feature", f"shape {list(features.shape)}")
    labels = checked_labels(labels, len(features), "labels")
    expect_one_device(features=features, labels=labels)
    expect_real(features, "features")
    expect_finite(features, "features")
    expect(0 < decay < np.inf, "decay", "a value above 0", decay)
    present = labels.unique()
    expect(len(present) >= 2, "labels", "at least two classes", present.tolist())
    classes = int(present.max()) + 1
    labels = expect_labels(labels, classes, "labels")
    device, features, labels = features.device, features.detach().double().cpu(), labels.cpu()
    weight, bias = _regression(features, labels, classes, decay)
    lead = _leads(features @ weight.T + bias, labels).min()
    separable = bool(lead > 0)
    if separable and hard:
        weight, bias = _machine(features, labels, weight / lead, bias / lead)
    return MaxMargin(weight.to(device), bias.to(device), separable)


def _leads(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the own class leads every other one [N,K]; infinite at the own class."""
    own = logits.gather(1, labels[:, None])
    return (own - logits).scatter_(1, labels[:, None], torch.inf)


def _regression(x: Tensor, y: Tensor, classes: int, decay: float) -> tuple[Tensor, Tensor]:
    """Minimum of cross-entropy + decay / 2 · ‖W‖²: weight [K,d] and bias [K].

    Iterations see uncorrelated features of unit variance, in which the loss is about equally curved along all of them.
    """
    mean, targets = x.mean(0), F.one_hot(y, classes).to(x)
    _, scale, directions = torch.linalg.svd(x - mean, full_matrices=False)
    real = scale > 1e-10 * scale.max()  # what rounding leaves of features that others determine, or of constant ones
    whiten = directions[real].T / scale[real] * len(x) ** 0.5  # d×r
    z = F.pad((x - mean) @ whiten, (0, 1), value=1.0)  # N×(r+1), the last for the bias

    def loss(v: Tensor) -> tuple[Tensor, Tensor]:
        logits, weight = z @ v.T, v[:, :-1] @ whiten.T
        total = logits.logsumexp(1, keepdim=True)
        value = (total[:, 0] - (logits * targets).sum(1)).mean() + decay / 2 * weight.square().sum()
        gradient = (logits - total).exp_().sub_(targets).T @ z / len(z)
        gradient[:, :-1] += decay * (weight @ whiten)
        return value, gradient

    v = _minimum(loss, z.new_zeros(classes, z.shape[1]), GRADIENT, ITERATIONS)
    if bool((_leads(z @ v.T, y) > 0).all()):  # cross-entropy and its derivative vanish: only balanced, the decay shows
        v = _minimum(loss, v, BALANCED, ITERATIONS)
    weight = v[:, :-1] @ whiten.T
    return weight, v[:, -1] - weight @ mean


def _machine(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Least ½ ‖W‖² with all leads at least 1, from weights that have them.

    Few samples are near the boundary, and only they matter: those that lead least at first, then all that come inside.
    """
    leads = _leads(x @ weight.T + bias, y).amin(1)
    near = leads <= max(2.0, float(leads.sort().values[: NEAREST * len(weight)][-1]))
    while True:
        weight, bias = _by_multipliers(x[near], y[near], weight, bias)
        inside = _leads(x @ weight.T + bias, y).amin(1) < 1 - VIOLATION
        if not bool((inside & ~near).any()):
            return weight, bias
        near |= inside


def _by_multipliers(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The same, all samples taken together, by the method of multipliers.

    Multipliers are the forces with which samples hold the boundary: at the solution they sum to ‖W‖², and only those of
    support vectors are above 0. Source: Bertsekas 1996, chapter 3.
    """
    z, v = F.pad(x, (0, 1), value=1.0), torch.cat([weight, bias[:, None]], 1)
    multipliers, strength = z.new_zeros(len(z), len(v)), float(weight.square().sum()) / len(v)
    outside = np.inf
    for _ in range(ROUNDS):

        def lagrangian(v: Tensor, multipliers: Tensor = multipliers, strength: float = strength) -> tuple:
            force = (multipliers + strength * (1 - _leads(z @ v.T, y))).clamp_(min=0)  # N×K, nought at the own class
            value = v[:, :-1].square().sum() / 2 + force.square().sum() / (2 * strength)
            gradient = force.scatter(1, y[:, None], -force.sum(1, keepdim=True)).T @ z
            gradient[:, :-1] += v[:, :-1]
            return value, gradient

        v = _minimum(lagrangian, v, 1e-5 * float(v[:, :-1].norm()), INNER)
        leads = _leads(z @ v.T, y)
        multipliers = (multipliers + strength * (1 - leads)).clamp_(min=0)
        before, outside = outside, float(1 - leads.min())
        length = float(v[:, :-1].square().sum())
        if outside < VIOLATION and abs(float(multipliers.sum()) - length) < VIOLATION * length:
            break
        strength *= 2 if outside > before / 4 else 1
    return v[:, :-1], v[:, -1]


def _minimum(
    function: Callable[[Tensor], tuple[Tensor, Tensor]], start: Tensor, gradient: float, iterations: int
) -> Tensor:
    """Where a convex function, which gives value and gradient, is least, by L-BFGS."""

    def flat(v: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = function(torch.from_numpy(v).view_as(start))
        return float(value), slope.numpy().ravel()

    settings = {"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 20, "gtol": gradient, "ftol": 0.0}
    result = scipy.optimize.minimize(flat, start.numpy().ravel(), jac=True, method="L-BFGS-B", options=settings)
    return torch.from_numpy(result.x).view_as(start)
