"""SupCon (Khosla et al. 2020, arXiv 2004.11362): all images of a class attract each other.

Defaults: temperature 0.1 (section 4), head d → d → 128. The loss is the one with the sum outside the logarithm, which
the paper found better. Expected on CIFAR-10: linear 96.0 with ResNet-50 (table 2); 93.8 with ResNet-18 after 1,000
epochs (solo-learn's table, online probe).
"""

import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_one_device, expect_shape
from sslnb.core.distributed import gather
from sslnb.core.numerics import unit
from sslnb.objectives.parts import expect_embeddings, in_float32
from sslnb.objectives.two_views import ContrastiveViews

__all__ = ["SupCon", "sup_con"]


@in_float32
def sup_con(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss of V views z [N,V,d] of any length with labels [N]; scalar float32.

    Every view picks each other view of its class out of all other views; views without another one of their class
    have nothing to pick and are left out. ``ValueError`` when no view has one, for other shapes, or a temperature
    that is not positive. Source: Khosla et al. 2020, equation 2.
    """
    expect_embeddings(z, "z", "N", "V", "d")
    expect_shape(labels, "labels", len(z))
    expect_one_device(z=z, labels=labels)
    expect(temperature > 0, "temperature", "a positive value", temperature)
    n, v, _ = z.shape
    expect(n > 0, "z", "at least one image", "an empty batch")
    z = unit(z.flatten(0, 1))  # NV×d
    labels = labels.repeat_interleave(v)
    self_pair = torch.eye(n * v, dtype=torch.bool, device=z.device)
    log_probability = (z @ z.T / temperature).masked_fill(self_pair, float("-inf")).log_softmax(1)  # NV×NV
    positive = (labels[:, None] == labels) & ~self_pair
    count = positive.sum(1)
    # Both views of an image share its label: only with one view can an image be alone.
    expect(v > 1 or bool(count.any()), "labels", "two images of one class, or two views", "all classes different")
    picked = log_probability.masked_fill(~positive, 0).sum(1) / count.clamp(min=1)
    return -picked.sum() / (count > 0).sum()


class SupCon(ContrastiveViews):
    """Two views, a projection head, the supervised contrastive loss."""

    name, label = "supcon", "SupCon"
    colour, marker = "#009E73", "^"
    reference = "khosla2020supcon"
    compares = "all views of a class, against the views of other classes"
    equation = (
        r"-\frac1{|P(i)|}\sum_{p\in P(i)}\log\frac{\exp(z_i^\top z_p/\tau)}{\sum_{k\neq i}\exp(z_i^\top z_k/\tau)}"
    )
    uses_labels = True
    learning_rate = 0.1

    def __init__(self, *parts: object, temperature: float = 0.1, **options: object) -> None:
        super().__init__(*parts, temperature=temperature, **options)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        z = torch.stack(self.head(self.encoder(torch.cat(views))).chunk(2), 1)
        return sup_con(gather(z), gather(labels), self.temperature)
