"""CMC (Tian, Krishnan and Isola 2020, arXiv 1906.05849): the colour channels of an image should find its lightness.

Defaults: Lab, crop and flip alone (section 4.1), temperature 0.07, memory banks with momentum 0.5, 4,096 negatives
(the paper has 16,384), softmax instead of noise-contrastive estimation (the authors' code offers both). Two networks of
half the width, one on L, one on ab; their features side by side are the representation. Remembered embeddings are an
epoch old: in the first epochs the networks change faster than that, and learn next to nothing. With ``memory=False``
both sides are of one batch, as in the loss before the memory comes in (section 3.2). Expected on CIFAR-10: linear 82.6
with ResNet-50s pretrained on ImageNet (Sehwag et al. 2020, table 1); a source that pretrains on CIFAR-10 was not found.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sslnb.core.checks import expect
from sslnb.core.distributed import gather
from sslnb.encoders.color_streams import ColorStreams, color_streams
from sslnb.encoders.encoder import Encoder
from sslnb.objectives.moco import info_nce
from sslnb.objectives.objective import Objective
from sslnb.objectives.parts import MemoryBank, mlp
from sslnb.views.augment import Augmentation

__all__ = ["CMC"]


class CMC(Objective):
    """One view, two encoders of its colour channels, each contrasted with the other one's memory bank or batch."""

    name, label = "cmc", "CMC"
    colour, marker = "#AA4499", "p"
    reference = "tian2020cmc"
    compares = "the lightness of an image with its colours, against those of other images"
    equation = (
        r"L(z^L_i,m^{ab})+L(z^{ab}_i,m^{L}),\quad "
        r"L(z_i,m)=-\log\frac{\exp(z_i^\top m_i/\tau)}{\sum_{k}\exp(z_i^\top m_k/\tau)}"
    )
    learning_rate = 0.03  # the paper's

    def __init__(
        self,
        encoder: ColorStreams,
        classes: int,
        images: int,
        *,
        color: str = "lab",
        temperature: float = 0.07,
        negatives: int = 4096,
        bank_momentum: float = 0.5,
        projection_dim: int = 128,
        memory: bool = True,
        **views: object,
    ) -> None:
        super().__init__(encoder, classes, images, **views)
        expect(isinstance(encoder, ColorStreams), "encoder", "one made by color_streams", type(encoder).__name__)
        expect(temperature > 0, "temperature", "a value above 0", temperature)
        expect(negatives >= 1, "negatives", "at least 1", negatives)
        self.temperature = temperature
        self.view = Augmentation(**self.shared)
        self.heads = torch.nn.ModuleList(mlp((encoder.feature_dim // 2, projection_dim)) for _ in range(2))
        same = {"momentum": bank_momentum, "negatives": negatives}
        self.banks = torch.nn.ModuleList(MemoryBank(images, projection_dim, **same) for _ in range(2 * memory))

    @classmethod
    def build_encoder(
        cls, depth: int, *, width: int, stem: str, in_channels: int, color: str = "lab", **options: object
    ) -> Encoder:
        return color_streams(depth, width=width, stem=stem, in_channels=in_channels, color=color)

    def views(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        return [self.view(images, generator)]

    def pictures(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        """The lightness alone, and the colour alone, its two channels shown as red and blue."""
        light, color = self.encoder.channels(self.views(images, generator)[0]).split((1, 2), 1)
        grey = torch.full_like(light, 0.5)
        return [light.clamp(0, 1), torch.cat([color[:, :1], grey, color[:, 1:]], 1).clamp(0, 1)]

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        parts, index = self.encoder(views[0]).chunk(2, dim=1), gather(index)
        z = [gather(F.normalize(head(h).float(), dim=1)) for head, h in zip(self.heads, parts, strict=True)]
        loss = sum(self._contrast(anchor, other, z, index) for anchor, other in ((0, 1), (1, 0)))
        for bank, embedding in zip(self.banks, z, strict=False):
            bank.update(index, embedding)
        return loss

    def _contrast(self, anchor: int, other: int, z: list[Tensor], index: Tensor) -> Tensor:
        """One stream's embeddings against the other one's: remembered ones, or of the same batch."""
        if self.banks:
            positive = self.banks[other].entries[index]
            negatives, own = self.banks[other].negatives(index)
        else:
            positive, negatives, own = z[other], z[other], index[:, None] == index
        return info_nce(z[anchor], positive, negatives, self.temperature, leave_out=own)
