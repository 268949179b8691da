"""SimCLR (Chen et al. 2020, arXiv 2002.05709): agreement of two views of an image against all other images.

Defaults: temperature 0.5, head d → d → 128, colour jitter of strength 0.5 (its CIFAR-10 setting, appendix B.9).
Expected on CIFAR-10 with ResNet-18: kNN 84.8 after 200 epochs at batch 512 (lightly's benchmark table);
linear 90.7 (online probe) after 1,000 epochs (solo-learn's table).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sslnb.augment import Augmentation
from sslnb.checks import expect, expect_shape
from sslnb.encoders import Encoder
from sslnb.objectives.base import Objective, projection_head

__all__ = ["SimCLR", "nt_xent"]


def nt_xent(z1: Tensor, z2: Tensor, temperature: float = 0.5) -> Tensor:
    """Normalised temperature-scaled cross-entropy of N pairs; z1, z2 [N,d] of any length, scalar float32.

    Each of the 2N embeddings must pick its partner out of the 2N − 1 others by cosine similarity. With N = 1 the
    partner is the only choice and the loss is 0. ``ValueError`` for other shapes or a temperature that is not
    positive. Source: Chen et al. 2020, equation 1 and algorithm 1.
    """
    expect_shape(z1, "z1", "N", "d")
    expect_shape(z2, "z2", *z1.shape)
    expect(len(z1) > 0, "z1", "at least one pair", "an empty batch")
    expect(temperature > 0, "temperature", "a positive value", temperature)
    n = len(z1)
    z = F.normalize(torch.cat([z1, z2]).float(), dim=1)  # 2N×d
    with torch.autocast(z.device.type, enabled=False):
        similarity = z @ z.T / temperature  # 2N×2N
    similarity.fill_diagonal_(float("-inf"))
    partner = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(similarity, partner)


class SimCLR(Objective):
    """Two views, a projection head, NT-Xent."""

    name = "simclr"
    learning_rate = 0.12  # lightly's for SGD; the paper's 0.3 is for LARS

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        *,
        temperature: float = 0.5,
        projection_dim: int = 128,
        jitter_strength: float = 0.5,
        **views: object,
    ) -> None:
        super().__init__(encoder, classes, **views)
        expect(temperature > 0, "temperature", "a value above 0", temperature)
        self.temperature = temperature
        self.head = projection_head(encoder.feature_dim, encoder.feature_dim, projection_dim)
        s = jitter_strength
        jitter = (0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s)
        self.view = Augmentation(scale=self.crop_scale, flip=self.flip, jitter=jitter, greyscale=0.2)

    def views(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        return [self.view(images, generator), self.view(images, generator)]

    def forward(self, views: list[Tensor], labels: Tensor) -> Tensor:
        z1, z2 = self.head(self.encoder(torch.cat(views))).chunk(2)
        return nt_xent(z1, z2, self.temperature)
