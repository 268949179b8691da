"""Supervised cross-entropy (SupCE; He et al. 2016, arXiv 1512.03385): what self-supervised encoders are compared with.

Defaults: crop and flip only. Expected on CIFAR-10 with ResNet-18: more than the 93.6 and 91.3 % top-1 of their own
ResNet-110 and ResNet-20 (table 6), which are narrower.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslnb.augment import Augmentation
from sslnb.checks import expect
from sslnb.encoders import Encoder
from sslnb.objectives.base import Objective

__all__ = ["Supervised"]


class Supervised(Objective):
    """One view, a linear classifier, cross-entropy with the labels."""

    name, label = "supervised", "Supervised"
    reference = "he2016"
    compares = "an image with the weight vector of its class, against those of the other classes"
    equation = r"-\log\frac{\exp(w_{y_i}^\top h_i)}{\sum_k\exp(w_k^\top h_i)}"
    uses_labels = True
    learning_rate = 0.1
    weight_decay = 5e-4

    def __init__(self, encoder: Encoder, classes: int, images: int, **views: object) -> None:
        super().__init__(encoder, classes, images, **views)
        expect(classes >= 2, "classes", "at least 2 classes to tell apart", classes)
        self.head = nn.Linear(encoder.feature_dim, classes)
        self.view = Augmentation(**self.shared)

    def views(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        return [self.view(images, generator)]

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        return F.cross_entropy(self.head(self.encoder(views[0])).float(), labels)
