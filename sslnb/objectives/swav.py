"""SwAV (Caron et al. 2020, arXiv 2006.09882): predict the cluster of one view from another.

Defaults: 100 prototypes (solo-learn's for CIFAR; the paper has 3,000 for ImageNet), temperature 0.1, codes by three
Sinkhorn iterations with epsilon 0.05, projector d → 4d → 128 with batch norm (section 4, appendix A), prototypes frozen
at first (2 % of the steps; the paper: one epoch). No queue: the prototypes are fewer than a batch. No small crops at
32 px; ``small_crops`` adds them. Expected on CIFAR-10 with ResNet-18: kNN 84.2 after 200 epochs (lightly's benchmark
table); linear 89.2 after 1,000 epochs (solo-learn's table, online probe).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslnb.core.checks import expect, expect_count, expect_floats, expect_shape
from sslnb.core.distributed import gather
from sslnb.encoders.encoder import Encoder
from sslnb.objectives.parts import by_size, expect_views, in_float32, mlp
from sslnb.objectives.two_views import MultiCropViews

__all__ = ["SwAV", "sinkhorn", "swav"]


@torch.no_grad()
@in_float32
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Codes [N,K] that spread N samples evenly over K prototypes and stay near the scores [N,K]; rows sum to 1.

    In logarithms, so that no score is too small to count. ``ValueError`` for other shapes, an empty batch, or
    parameters that are not positive. Source: Caron et al. 2020, equation 3 and algorithm 1.
    """
    expect_shape(scores, "scores", "N", "K")
    expect(scores.numel() > 0, "scores", "at least one sample and prototype", f"shape {list(scores.shape)}")
    expect_floats(scores, "scores")
    expect(epsilon > 0, "epsilon", "a positive value", epsilon)
    expect_count(iterations, "iterations")
    codes = scores / epsilon
    for _ in range(iterations):
        codes = codes.log_softmax(0).log_softmax(1)
    return codes.exp()


@in_float32
def swav(scores: Sequence[Tensor], temperature: float = 0.1, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Swapped prediction: cross-entropy of the first two views' codes with every other view's scores; scalar float32.

    ``scores``: per view the cosines [N,K] with the prototypes. ``ValueError`` for fewer than two views, other shapes,
    an empty batch, or temperatures that are not positive. Source: Caron et al. 2020, equations 1, 2 and 6.
    """
    expect_views(scores, "scores", 2)
    expect(scores[0].numel() > 0, "scores", "at least one image", "an empty batch")
    expect(temperature > 0, "temperature", "a positive value", temperature)
    terms = []
    for i in (0, 1):
        code = sinkhorn(scores[i].detach(), epsilon, iterations)
        terms += [F.cross_entropy(other / temperature, code) for j, other in enumerate(scores) if j != i]
    return torch.stack(terms).mean()


class SwAV(MultiCropViews):
    """Two or more views, a projector, prototypes of unit length, swapped prediction of their codes."""

    name, label = "swav", "SwAV"
    colour, marker = "#999933", "2"
    reference = "caron2020swav"
    compares = "the cluster of one view with the prediction from another, clusters being equally large"
    equation = (
        r"-\sum_k q_{i'k}\log\frac{\exp(z_i^\top c_k/\tau)}{\sum_{l}\exp(z_i^\top c_l/\tau)},\quad "
        r"q=\mathrm{sinkhorn}(z\,C)"
    )
    learning_rate = 0.1

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        images: int,
        *,
        prototypes: int = 100,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        projection_dim: int = 128,
        freeze: float = 0.02,
        **views: object,
    ) -> None:
        super().__init__(encoder, classes, images, **views)
        expect(prototypes >= 2, "prototypes", "at least 2", prototypes)
        expect(temperature > 0, "temperature", "a value above 0", temperature)
        expect(epsilon > 0, "epsilon", "a value above 0", epsilon)
        expect(iterations >= 1, "iterations", "at least 1", iterations)
        self.assign = {"temperature": temperature, "epsilon": epsilon, "iterations": iterations}
        self.freeze = freeze
        d = encoder.feature_dim
        expect(0 <= freeze <= 1, "freeze", "a share in [0, 1]", freeze)
        self.projector = mlp((d, 4 * d, projection_dim), norm=True)
        self.prototypes = nn.Linear(projection_dim, prototypes, bias=False)
        self.after_step(0.0)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        z = by_size(lambda view: self.projector(self.encoder(view)), views)
        return swav([gather(self.prototypes(F.normalize(embedding.float(), dim=1))) for embedding in z], **self.assign)

    def before_step(self, progress: float) -> None:
        if progress < self.freeze:
            self.prototypes.weight.grad = None

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))
