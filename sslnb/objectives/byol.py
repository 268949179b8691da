"""BYOL (Grill et al. 2020, arXiv 2006.07733): predict what a slowly following copy of oneself sees.

Defaults: projector and predictor of hidden width 8d (4,096 for a ResNet-18 of full width) to 256 (section 3.3),
momentum 0.99 rising to 1 (for shorter trainings; the paper has 0.996 over 1,000 epochs), no blur at 32 px, solarization
of the second view with probability 0.2 (solo-learn's CIFAR-10 setting). Expected on CIFAR-10 with ResNet-18: kNN 86.8
after 200 epochs (lightly's benchmark table); linear 92.6 after 1,000 epochs (solo-learn's table, online probe).
"""

import torch
from torch import Tensor

from sslnb.core.checks import expect
from sslnb.core.distributed import gather
from sslnb.encoders.encoder import Encoder
from sslnb.objectives.parts import Momentum, mlp, rising
from sslnb.objectives.simsiam import negative_cosine
from sslnb.objectives.two_views import TwoViews

__all__ = ["BYOL"]


class BYOL(TwoViews):
    """Online encoder, projector and predictor; a momentum copy of the first two as target."""

    name, label = "byol", "BYOL"
    colour, marker = "#E69F00", "P"
    reference = "grill2020byol"
    compares = "the prediction from one view with a slower encoder's other view, and nothing else"
    equation = (
        r"4-2\cos\bigl(p_i,\mathrm{stop}(z^{\mathrm{slow}}_{i'})\bigr)"
        r"-2\cos\bigl(p_{i'},\mathrm{stop}(z^{\mathrm{slow}}_{i})\bigr)"
    )
    learning_rate = 0.1
    weight_decay = 5e-4

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        images: int,
        *,
        projection_dim: int = 256,
        hidden_dim: int | None = None,
        momentum: float = 0.99,
        solarize: tuple[float, float] = (0.0, 0.2),
        **views: object,
    ) -> None:
        super().__init__(encoder, classes, images, solarize=solarize, **views)
        expect(0 <= momentum <= 1, "momentum", "a value in [0, 1]", momentum)
        self.momentum = momentum
        hidden = 8 * encoder.feature_dim if hidden_dim is None else hidden_dim
        self.projector = mlp((encoder.feature_dim, hidden, projection_dim), norm=True)
        self.predictor = mlp((projection_dim, hidden, projection_dim), norm=True)
        self.slow = Momentum(encoder=encoder, projector=self.projector)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        p1, p2 = (gather(self.predictor(self.projector(self.encoder(view)))) for view in views)
        with torch.no_grad():
            z1, z2 = (gather(self.slow.projector(self.slow.encoder(view))) for view in views)
        return 4 + 2 * negative_cosine(p1, z2) + 2 * negative_cosine(p2, z1)

    def after_step(self, progress: float) -> None:
        self.slow.follow(rising(self.momentum, progress), encoder=self.encoder, projector=self.projector)
