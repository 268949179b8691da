"""RotNet (Gidaris, Singh and Komodakis 2018, arXiv 1803.07728): by how much was the image turned?

Defaults: crop and flip, then all four rotations of each image in one batch (section 2.2), weight decay 5e-4, learning
rate 0.1 (section 3.1). Expected on CIFAR-10: 89.1 with a non-linear classifier on its Network-in-Network's features
(table 3).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslnb.encoders.encoder import Encoder
from sslnb.objectives.objective import Objective
from sslnb.views.augment import Augmentation
from sslnb.views.patches import rotate90, rotation_labels, rotations

__all__ = ["RotNet"]


class RotNet(Objective):
    """One view in four rotations, a linear classifier of the rotation."""

    name, label = "rotnet", "RotNet"
    colour, marker = "#CC79A7", "D"
    reference = "gidaris2018"
    compares = "an image turned by 0, 90, 180 or 270°, with the weight vector of that rotation"
    equation = (
        r"-\frac14\sum_{r=0}^{3}\log\frac{\exp(w_r^\top h_{ir})}{\sum_{s}\exp(w_s^\top h_{ir})},\quad "
        r"h_{ir}=f(\mathrm{rot}_{90r}\,x_i)"
    )
    learning_rate = 0.1
    weight_decay = 5e-4

    def __init__(
        self, encoder: Encoder, classes: int, images: int, *, one_rotation: bool = False, **views: object
    ) -> None:
        super().__init__(encoder, classes, images, **views)
        self.one_rotation = one_rotation
        self.head = nn.Linear(encoder.feature_dim, 4)
        self.view = Augmentation(**self.shared)

    def views(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        view = self.view(images, generator)
        return [rotate90(view, self._turns(len(view), view.device)) if self.one_rotation else rotations(view)]

    def pictures(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        return list(self.views(images, generator)[0].split(len(images)))

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        return F.cross_entropy(self.head(self.encoder(views[0])).float(), self._turns(len(labels), labels.device))

    def _turns(self, n: int, device: torch.device) -> Tensor:
        """Quarter turns of a batch: all four of each image, or one of each, dealt out by its random order."""
        return torch.arange(n, device=device) % 4 if self.one_rotation else rotation_labels(n, device)
