"""SimSiam (Chen and He 2021, arXiv 2011.10566): a view predicts the other one; a stopped gradient prevents collapse.

Defaults: projector of three layers with batch norm, also at its end, of width 4d (2,048 for a ResNet-18 of full
width, as in the paper), predictor with a bottleneck of a quarter (section 3); its predictor keeps a constant
learning rate in the paper, which is a refinement that we leave out. Expected on CIFAR-10 with ResNet-18: linear 91.8
after 800 epochs (figure D.1); kNN 76.4 after 200 (lightly's benchmark table).
"""

import torch.nn.functional as F
from torch import Tensor

from sslnb.core.checks import expect
from sslnb.core.distributed import gather
from sslnb.core.numerics import rows_scaled
from sslnb.encoders.encoder import Encoder
from sslnb.objectives.parts import expect_embeddings, in_float32, mlp
from sslnb.objectives.two_views import TwoViews

__all__ = ["SimSiam", "negative_cosine"]


@in_float32
def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """Mean of −cos(p, z) over pairs p, z [N,d] of any length; scalar float32 in [−1, 1].

    Gradients flow to both: callers stop that of z. ``ValueError`` for other shapes or an empty batch. Source: Chen
    and He 2021, equation 1.
    """
    expect_embeddings(p, "p", "N", "d")
    expect_embeddings(z, "z", *p.shape, like=p)
    expect(len(p) > 0, "p", "at least one", "an empty batch")
    # torch's cosine counts lengths below 1e-8 as that.
    return -F.cosine_similarity(rows_scaled(p)[0], rows_scaled(z)[0], dim=1).mean()


class SimSiam(TwoViews):
    """Two views, projector and predictor, negative cosine in both directions."""

    name, label = "simsiam", "SimSiam"
    colour, marker = "#117733", "4"
    reference = "chen2021simsiam"
    compares = "the prediction from one view with the other view, and nothing else"
    equation = r"-\tfrac12\cos\bigl(p_i,\mathrm{stop}(z_{i'})\bigr)-\tfrac12\cos\bigl(p_{i'},\mathrm{stop}(z_i)\bigr)"
    learning_rate = 0.03  # the paper's for CIFAR-10
    weight_decay = 5e-4

    def __init__(
        self, encoder: Encoder, classes: int, images: int, *, projection_dim: int | None = None, **views: object
    ) -> None:
        super().__init__(encoder, classes, images, **views)
        d = encoder.feature_dim
        out = 4 * d if projection_dim is None else projection_dim
        self.projector = mlp((d, out, out, out), norm=True, last_norm=True)
        self.predictor = mlp((out, max(1, out // 4), out), norm=True)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        z1, z2 = (self.projector(self.encoder(view)) for view in views)
        p1, p2 = gather(self.predictor(z1)), gather(self.predictor(z2))
        return (negative_cosine(p1, gather(z2.detach())) + negative_cosine(p2, gather(z1.detach()))) / 2
