"""VICReg (Bardes, Ponce and LeCun 2022, arXiv 2105.04906): invariance, variance and covariance of embeddings.

Defaults: expander of three layers of width 4d (2,048 for a ResNet-18 of full width, as solo-learn has for CIFAR; the
paper has 8,192 for a ResNet-50), weights 25, 25, 1 (section 4.2), solarization of both views with probability 0.1
(appendix C.1), no blur at 32 px. Expected on CIFAR-10 with ResNet-18: linear 92.1 after 1,000 epochs (solo-learn's
table, online probe).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sslnb.core.checks import expect
from sslnb.core.distributed import gather
from sslnb.encoders.encoder import Encoder
from sslnb.objectives.parts import expect_embeddings, in_float32, mlp
from sslnb.objectives.two_views import TwoViews

__all__ = ["VICReg", "vicreg"]


@in_float32
def vicreg(z1: Tensor, z2: Tensor, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> Tensor:
    """Weighted sum of distance, lack of variance and covariance of z1, z2 [N,d]; scalar float32.

    Variance is a hinge that keeps each dimension's deviation (+1e-4 under the root) above 1, the mean of both views;
    covariances off the diagonal are squared, divided by d, and summed over both. ``ValueError`` for other shapes or
    fewer than 2 samples. Source: Bardes et al. 2022, equations 1–6, with the scales of the paper's algorithm 1.
    """
    expect_embeddings(z1, "z1", "N", "d")
    expect_embeddings(z2, "z2", *z1.shape, like=z1)
    expect(len(z1) >= 2, "z1", "at least 2 samples for a variance", f"{len(z1)}")
    loss = invariance * F.mse_loss(z1, z2)
    for z in (z1, z2):
        centred = z - z.mean(0)
        deviation = torch.sqrt(centred.square().sum(0) / (len(z) - 1) + 1e-4)
        loss = loss + variance * F.relu(1 - deviation).mean() / 2
        c = centred.T @ centred / (len(z) - 1)  # d×d
        loss = loss + covariance * (c.square().sum() - c.diagonal().square().sum()) / z.shape[1]
    return loss


class VICReg(TwoViews):
    """Two views, an expander, the three terms."""

    name, label = "vicreg", "VICReg"
    colour, marker = "#882255", "X"
    reference = "bardes2022vicreg"
    compares = "two views of an image, while every dimension varies and no two vary together"
    equation = (
        r"\tfrac{\lambda}{d}\lVert z_i-z_{i'}\rVert^2+\tfrac{\mu}{d}\sum_j\max\bigl(0,1-\sigma_j\bigr)"
        r"+\tfrac{\nu}{d}\sum_{j\neq k}C_{jk}^2"
    )
    learning_rate = 0.1

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        images: int,
        *,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        projection_dim: int | None = None,
        solarize: tuple[float, float] = (0.1, 0.1),
        **views: object,
    ) -> None:
        super().__init__(encoder, classes, images, solarize=solarize, **views)
        weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
        for name, weight in weights.items():
            expect(weight >= 0, name, "a value of at least 0", weight)
        self.weights = weights
        out = 4 * encoder.feature_dim if projection_dim is None else projection_dim
        self.expander = mlp((encoder.feature_dim, out, out, out), norm=True)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        z1, z2 = (gather(self.expander(self.encoder(view))) for view in views)
        return vicreg(z1, z2, **self.weights)
