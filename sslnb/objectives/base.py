"""What the training loop asks of an objective."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from sslnb.encoders import Encoder

View = Callable[[Tensor, torch.Generator | None], Tensor]


class Objective(nn.Module):
    """A training method: the views it wants, its heads, its loss, and what happens after a step.

    A subclass in a file of this package is found by its ``name``: no other edit is needed. The training loop draws
    ``views``, calls the objective on them, steps the optimizer over ``parameters()``, then calls ``after_step``.
    Momentum encoders, queues, prototypes and memory banks are submodules and buffers of the objective, so that
    checkpoints carry them.
    """

    name: ClassVar[str]
    uses_labels: ClassVar[bool] = False
    learning_rate: ClassVar[float]  # per 256 images, for SGD with momentum 0.9
    weight_decay: ClassVar[float] = 1e-4

    def __init__(self, encoder: Encoder, classes: int, *, crop_scale: tuple[float, float], flip: float) -> None:
        super().__init__()
        self.encoder, self.classes, self.crop_scale, self.flip = encoder, classes, crop_scale, flip

    def views(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        """Random views of uint8 images [N,C,H,W], each a float tensor in [0, 1]."""
        raise TypeError(f"{type(self).__name__} must define views(images, generator)")

    def forward(self, views: list[Tensor], labels: Tensor) -> Tensor:
        """Scalar loss in float32 of one batch; runs under the loop's autocast."""
        raise TypeError(f"{type(self).__name__} must define forward(views, labels)")

    def after_step(self, progress: float) -> None:
        """Called after every optimizer step with the share of training that is done, in (0, 1]."""


def projection_head(feature_dim: int, hidden: int, out: int) -> nn.Sequential:
    """Two-layer head: linear, ReLU, linear (Chen et al. 2020, section 4.2)."""
    return nn.Sequential(nn.Linear(feature_dim, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))
