"""Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230): the cross-correlation of two views should be the identity.

Defaults: projector of three layers of width 4d (2,048 for a ResNet-18 of full width, as solo-learn has for CIFAR; the
paper has 8,192 for a ResNet-50), off-diagonal weight 0.005 (section 2.2), solarization of the second view with
probability 0.2 (as BYOL), no blur at 32 px. Expected on CIFAR-10 with ResNet-18: kNN 81.9 after 200 epochs (lightly's
benchmark table); linear 92.1 after 1,000 epochs (solo-learn's table, online probe).
"""

from torch import Tensor

from sslnb.core.checks import expect
from sslnb.core.distributed import gather
from sslnb.encoders.encoder import Encoder
from sslnb.objectives.parts import expect_embeddings, in_float32, mlp
from sslnb.objectives.two_views import TwoViews

__all__ = ["BarlowTwins", "barlow_twins"]


@in_float32
def barlow_twins(z1: Tensor, z2: Tensor, off_diagonal_weight: float = 0.005) -> Tensor:
    """Distance of the cross-correlation of z1 and z2 [N,d] from the identity; scalar float32.

    Dimensions are standardized over the batch (with 1e-5 added to the variance, so that a constant one counts as
    uncorrelated). ``ValueError`` for other shapes or fewer than 2 samples. Source: Zbontar et al. 2021, equations 1, 2.
    """
    expect_embeddings(z1, "z1", "N", "d")
    expect_embeddings(z2, "z2", *z1.shape, like=z1)
    expect(len(z1) >= 2, "z1", "at least 2 samples for a correlation", f"{len(z1)}")
    a, b = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (z1, z2))
    c = a.T @ b / len(z1)  # d×d
    diagonal = c.diagonal()
    return (1 - diagonal).square().sum() + off_diagonal_weight * (c.square().sum() - diagonal.square().sum())


class BarlowTwins(TwoViews):
    """Two views, a projector, the cross-correlation matrix."""

    name, label = "barlow_twins", "Barlow Twins"
    colour, marker = "#44AA99", "h"
    reference = "zbontar2021barlow"
    compares = "each dimension across two views with itself, against all other dimensions"
    equation = r"\sum_j(1-C_{jj})^2+\lambda\sum_j\sum_{k\neq j}C_{jk}^2"
    learning_rate = 0.05

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        images: int,
        *,
        off_diagonal_weight: float = 0.005,
        projection_dim: int | None = None,
        solarize: tuple[float, float] = (0.0, 0.2),
        **views: object,
    ) -> None:
        super().__init__(encoder, classes, images, solarize=solarize, **views)
        expect(off_diagonal_weight >= 0, "off_diagonal_weight", "a value of at least 0", off_diagonal_weight)
        self.off_diagonal_weight = off_diagonal_weight
        out = 4 * encoder.feature_dim if projection_dim is None else projection_dim
        self.projector = mlp((encoder.feature_dim, out, out, out), norm=True)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        z1, z2 = (gather(self.projector(self.encoder(view))) for view in views)
        return barlow_twins(z1, z2, self.off_diagonal_weight)
