"""Supervised cross-entropy (SupCE; He et al. 2016, arXiv 1512.03385): what self-supervised encoders are compared with.

Defaults: crop and flip only. Expected on CIFAR-10 with ResNet-18: more than the 93.6 and 91.3 % top-1 of their own
ResNet-110 and ResNet-20 (table 6), which are narrower. With ``attack_budget`` it is adversarial training (Madry et al.
2018, arXiv 1706.06083, section 2): each image is first moved, within an l2 ball in units of the pixels' range, to where
the loss is greater.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslnb.core.checks import expect
from sslnb.encoders.encoder import Encoder
from sslnb.metrics.attacks import pgd
from sslnb.objectives.objective import Objective
from sslnb.views.augment import Augmentation

__all__ = ["Supervised"]


class Supervised(Objective):
    """One view, a linear classifier, cross-entropy with the labels."""

    name, label = "supervised", "Supervised"
    colour, marker = "#D55E00", "s"
    reference = "he2016"
    compares = "an image with the weight vector of its class, against those of the other classes"
    equation = r"-\log\frac{\exp(w_{y_i}^\top h_i)}{\sum_k\exp(w_k^\top h_i)}"
    uses_labels = True
    learning_rate = 0.1
    weight_decay = 5e-4

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        images: int,
        *,
        attack_budget: float = 0.0,
        attack_steps: int = 3,
        simclr_views: bool = False,
        **views: object,
    ) -> None:
        super().__init__(encoder, classes, images, **views)
        expect(classes >= 2, "classes", "at least 2 classes to tell apart", classes)
        expect(attack_budget >= 0, "attack_budget", "a value of at least 0", attack_budget)
        expect(attack_steps >= 1, "attack_steps", "at least 1", attack_steps)
        self.attack_budget, self.attack_steps = attack_budget, attack_steps
        self.head = nn.Linear(encoder.feature_dim, classes)
        colours = {"jitter": (0.4, 0.4, 0.4, 0.1), "greyscale": 0.2} if simclr_views else {}
        self.view, self.count = Augmentation(**self.shared, **colours), 2 if simclr_views else 1

    def views(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        return [self.view(images, generator) for _ in range(self.count)]

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        x, labels = torch.cat(views), labels.repeat(self.count)
        x = self._attacked(x, labels) if self.attack_budget else x
        return F.cross_entropy(self.head(self.encoder(x)).float(), labels)

    def _attacked(self, x: Tensor, labels: Tensor) -> Tensor:
        """Images at the end of all steps, as in the paper: those that are beaten early go on."""
        settings = {"norm": "l2", "steps": self.attack_steps, "until_beaten": False}
        return pgd(nn.Sequential(self.encoder, self.head), x, labels, self.attack_budget, **settings)
