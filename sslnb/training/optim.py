"""Optimizers and learning-rate schedules that the papers train with."""

import functools
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from sslnb.core.checks import expect


class LARS(torch.optim.Optimizer):
    """SGD whose step is scaled, per weight tensor, to a share of the weight's norm.

    For groups with ``adapt`` (weights) the update g + wd·w is multiplied by trust · ‖w‖ / ‖g + wd·w‖ before momentum;
    the others (biases, norms) step as in plain SGD with momentum. Source: You, Gitman and Ginsburg 2017, algorithm 1,
    whose denominator is ‖g‖ + wd·‖w‖, where the code of SimCLR and BYOL, and this, have the norm of the sum; with the
    exclusions of Chen et al. 2020 (SimCLR, appendix B.6) and Grill et al. 2020 (BYOL, section 3.3).
    """

    def __init__(
        self,
        groups: Iterable[Tensor | dict],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        expect(trust > 0, "trust", "a value above 0", trust)
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": True}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:
        expect(closure is None, "closure", "none", closure)
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)

    def _update(self, weight: Tensor, group: dict) -> None:
        update = weight.grad.add(weight, alpha=group["weight_decay"])
        if group["adapt"]:
            weight_norm, update_norm = weight.norm(), update.norm()
            ratio = group["trust"] * weight_norm / update_norm
            update.mul_(torch.where((weight_norm > 0) & (update_norm > 0), ratio, 1.0))
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        weight.sub_(state["momentum"].mul_(group["momentum"]).add_(update), alpha=group["lr"])


OPTIMIZERS = {
    "sgd": functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "lars": LARS,
}
# Per 256 images, where the objective's own (which is for SGD) does not apply. LARS: SimCLR, section 2.2.
LEARNING_RATES = {"adam": 0.002, "adamw": 0.002, "lars": 0.3}


def make(name: str, model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """The optimizer over a model's trainable parameters; biases and norms neither decay nor adapt (LARS)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rest = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
    if name == "lars":
        rest["adapt"] = False
    groups = [{"params": [p for p in parameters if p.ndim > 1]}, rest]
    return OPTIMIZERS[name](groups, lr=learning_rate, weight_decay=weight_decay)


def _rise(steps: int, warmup: float) -> int:
    """How many steps the learning rate rises for."""
    return max(1, round(warmup * steps)) if warmup else 0


def cosine_with_warmup(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate at a step: linear rise over ``warmup`` · steps, then half a cosine to 0."""
    rise = _rise(steps, warmup)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def steps_with_warmup(step: int, steps: int, warmup: float) -> float:
    """Linear rise, then 1, a tenth after 60 % of the steps, a hundredth after 80 % (MoCo, section 4)."""
    rise = _rise(steps, warmup)
    return (step + 1) / rise if step < rise else 0.1 ** sum(step >= share * steps for share in (0.6, 0.8))


def constant_with_warmup(step: int, steps: int, warmup: float) -> float:
    """Linear rise, then 1."""
    rise = _rise(steps, warmup)
    return (step + 1) / rise if step < rise else 1.0


def cuts_with_warmup(step: int, steps: int, warmup: float) -> float:
    """Linear rise, then 1, and a tenth after every fifth of the rest: 1,000 of 5,000 steps in one paper's code."""
    rise = _rise(steps, warmup)
    return (step + 1) / rise if step < rise else 0.1 ** (5 * (step - rise) // (steps - rise))


SCHEDULES = {"cosine": cosine_with_warmup, "step": steps_with_warmup, "constant": constant_with_warmup} | {
    "cuts": cuts_with_warmup,
}
