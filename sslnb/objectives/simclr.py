"""SimCLR (Chen et al. 2020, arXiv 2002.05709): agreement of two views of an image against all other images.

Defaults: temperature 0.5, head d → d → 128, colour jitter of strength 0.5 (its CIFAR-10 setting, appendix B.9).
Expected on CIFAR-10 with ResNet-18: kNN 84.8 after 200 epochs at batch 512 (lightly's benchmark table);
linear 90.7 (online probe) after 1,000 epochs (solo-learn's table).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sslnb.core.checks import expect
from sslnb.core.distributed import gather
from sslnb.core.numerics import unit
from sslnb.objectives.parts import expect_embeddings, in_float32
from sslnb.objectives.two_views import ContrastiveViews

__all__ = ["SimCLR", "nt_xent"]


@in_float32
def nt_xent(z1: Tensor, z2: Tensor, temperature: float = 0.5) -> Tensor:
    """Normalised temperature-scaled cross-entropy of N pairs; z1, z2 [N,d] of any length, scalar float32.

    Each of the 2N embeddings must pick its partner out of the 2N − 1 others by cosine similarity. With N = 1 the
    partner is the only choice and the loss is 0. ``ValueError`` for other shapes or a temperature that is not
    positive. Source: Chen et al. 2020, equation 1 and algorithm 1.
    """
    expect_embeddings(z1, "z1", "N", "d")
    expect_embeddings(z2, "z2", *z1.shape, like=z1)
    expect(len(z1) > 0, "z1", "at least one pair", "an empty batch")
    expect(temperature > 0, "temperature", "a positive value", temperature)
    n = len(z1)
    z = unit(torch.cat([z1, z2]))  # 2N×d
    similarity = (z @ z.T / temperature).fill_diagonal_(float("-inf"))  # 2N×2N
    partner = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(similarity, partner)


class SimCLR(ContrastiveViews):
    """Two views, a projection head, NT-Xent."""

    name, label = "simclr", "SimCLR"
    colour, marker = "#0072B2", "o"
    reference = "chen2020simclr"
    compares = "two views of an image, against all other images of the batch"
    equation = r"-\log\frac{\exp(z_i^\top z_{i'}/\tau)}{\sum_{k\neq i}\exp(z_i^\top z_k/\tau)}"
    learning_rate = 0.12  # lightly's for SGD; the paper's 0.3 is for LARS

    def __init__(self, *parts: object, temperature: float = 0.5, **options: object) -> None:
        super().__init__(*parts, temperature=temperature, **options)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        z1, z2 = self.head(self.encoder(torch.cat(views))).chunk(2)
        return nt_xent(gather(z1), gather(z2), self.temperature)
