"""PIRL (Misra and van der Maaten 2020, arXiv 1912.01991): an image and its shuffled patches should look the same.

Defaults: 3 × 3 jigsaw, temperature 0.07, weight 0.5 of the jigsaw term, memory bank with momentum 0.5 (section 3),
4,096 negatives (the paper has 32,000 of ImageNet's 1.28 million). Patches pass through the encoder one by one, are
projected to 128 dimensions, put side by side and projected to 128 again. With ``memory=False`` the jigsaw is told to be
the image of the same batch, as in the loss before the memory comes in (equation 3); why, :mod:`~sslnb.objectives.cmc`
says. Expected on CIFAR-10: linear 85.5 with a ResNet-50 pretrained on ImageNet (Sehwag et al. 2020, table 1); a source
that pretrains on CIFAR-10 was not found.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslnb.core.checks import expect
from sslnb.core.distributed import gather
from sslnb.core.numerics import unit
from sslnb.encoders.encoder import Encoder
from sslnb.objectives.parts import MemoryBank, expect_embeddings, expect_left_out, in_float32
from sslnb.objectives.two_views import TwoViews
from sslnb.views.patches import jigsaw, joined

__all__ = ["PIRL", "nce"]

GRID = 3  # patches along a side of the jigsaw: nine, as in the paper


@in_float32
def nce(
    z: Tensor, positive: Tensor, negatives: Tensor, temperature: float = 0.07, *, leave_out: Tensor | None = None
) -> Tensor:
    """Noise-contrastive estimation: z [N,d] is told to be its positive [N,d], and none of the negatives [M,d].

    −log h(positive) − Σ log(1 − h(negative)), h being the softmax over the positive and the negatives; scalar float32.
    h of a negative counts as at most 1 − 1e-6. Vectors are of any length; ``leave_out`` [N,M] marks negatives that are
    none for a sample. ``ValueError`` for other shapes, an empty batch, or a temperature that is not positive. Source:
    Misra and van der Maaten 2020, equations 2 and 3.
    """
    expect_embeddings(z, "z", "N", "d")
    expect_embeddings(positive, "positive", *z.shape, like=z)
    expect_embeddings(negatives, "negatives", "M", z.shape[1], like=z)
    expect_left_out(leave_out, z, negatives)
    expect(len(z) > 0, "z", "at least one", "an empty batch")
    expect(temperature > 0, "temperature", "a positive value", temperature)
    z, positive, negatives = (unit(x) for x in (z, positive, negatives))
    others = z @ negatives.T
    if leave_out is not None:
        others = others.masked_fill(leave_out, float("-inf"))
    logits = torch.cat([(z * positive).sum(1, keepdim=True), others], 1) / temperature
    log_h = logits.log_softmax(1)
    not_negative = torch.log1p(-log_h[:, 1:].exp().clamp(max=1 - 1e-6)).sum(1)
    return -(log_h[:, 0] + not_negative).mean()


class PIRL(TwoViews):
    """A view, the jigsaw of another one, and the image's remembered representation, which both should match."""

    name, label = "pirl", "PIRL"
    colour, marker = "#C8B400", "<"
    reference = "misra2020pirl"
    compares = "an image and its shuffled patches with its remembered representation, against other images'"
    equation = (
        r"\lambda\,L_{\mathrm{NCE}}\bigl(m_i,g(\mathrm{jigsaw}\,x_i)\bigr)"
        r"+(1-\lambda)\,L_{\mathrm{NCE}}\bigl(m_i,f(x_i)\bigr)"
    )
    learning_rate = 0.03  # the paper's 0.12 at batch 1,024

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        images: int,
        *,
        temperature: float = 0.07,
        jigsaw_weight: float = 0.5,
        negatives: int = 4096,
        bank_momentum: float = 0.5,
        projection_dim: int = 128,
        memory: bool = True,
        **views: object,
    ) -> None:
        super().__init__(encoder, classes, images, **views)
        expect(temperature > 0, "temperature", "a value above 0", temperature)
        expect(0 <= jigsaw_weight <= 1, "jigsaw_weight", "a share in [0, 1]", jigsaw_weight)
        expect(negatives >= 1, "negatives", "at least 1", negatives)
        expect(projection_dim >= 1, "projection_dim", "at least 1", projection_dim)
        self.temperature, self.jigsaw_weight = temperature, jigsaw_weight
        self.of_image = nn.Linear(encoder.feature_dim, projection_dim)
        self.of_patch = nn.Linear(encoder.feature_dim, projection_dim)
        self.of_patches = nn.Linear(GRID**2 * projection_dim, projection_dim)
        same = {"momentum": bank_momentum, "negatives": negatives}
        self.bank = MemoryBank(images, projection_dim, **same) if memory else None

    def views(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        whole, cut = super().views(images, generator)
        tiles, _ = jigsaw(cut, grid=GRID, generator=generator)
        return [whole, tiles.flatten(0, 1)]

    def pictures(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        whole, tiles = self.views(images, generator)
        return [whole, joined(tiles.unflatten(0, (len(images), GRID**2)))]

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        whole, tiles = views
        image = gather(F.normalize(self.of_image(self.encoder(whole)).float(), dim=1))
        patches = self.of_patch(self.encoder(tiles)).view(len(whole), -1)
        shuffled, index = gather(self.of_patches(patches)), gather(index)
        if self.bank is None:
            return nce(shuffled, image, image, self.temperature, leave_out=index[:, None] == index)
        negatives, own = self.bank.negatives(index)
        same = {"positive": self.bank.entries[index], "negatives": negatives, "temperature": self.temperature}
        loss = self.jigsaw_weight * nce(shuffled, **same, leave_out=own)
        loss = loss + (1 - self.jigsaw_weight) * nce(image, **same, leave_out=own)
        self.bank.update(index, image)
        return loss
