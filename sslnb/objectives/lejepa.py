"""LeJEPA (Balestriero and LeCun 2025, arXiv 2511.08544): views predict their mean, and look Gaussian from every side.

Defaults: weight λ 0.05 of the regularizer, 17 points of integration from −5 to 5 (section 5), 256 directions drawn anew
at every step (the authors' minimal example; the paper has 1,024, which take as long as a small network and gave digit
scenes the same accuracy), projector of three layers with hidden width 4d and 128 outputs; two views, no blur or
solarization and no small crops at 32 px (``small_crops`` adds them; the paper: two large and eight small views). No
stopped gradient, no second network. The squared distance is divided by the number of dimensions, as in their code.
Expected on CIFAR-10 with ResNet-18: no published number is known to us; the paper has ImageNet (ViT-H/14: linear 79).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sslnb.core.checks import expect, expect_real, expect_shape
from sslnb.core.distributed import gather
from sslnb.encoders.encoder import Encoder
from sslnb.objectives.parts import by_size, expect_embeddings, expect_views, in_float32, mlp
from sslnb.objectives.two_views import MultiCropViews

__all__ = ["LeJEPA", "lejepa", "sigreg"]

REACH, POINTS = 5.0, 17  # of the integral over t: the weight is 4e-6 at its ends


@in_float32
def sigreg(z: Tensor, directions: Tensor) -> Tensor:
    """Mean Epps–Pulley statistic of z [N,d] along unit directions [M,d]: how far from N(0, I); scalar float32.

    N ∫ |φ_N(t) − φ(t)|² w(t) dt, with φ_N(t) the mean of exp(i·t·aᵀz) and φ(t) = w(t) = exp(−t²/2), by trapezoids.
    √(2π) − √(2π/3) ≈ 1.06 is expected of a Gaussian sample of any size, 0.41·N is that of z = 0. ``ValueError`` for
    other shapes or no samples. Source: Balestriero and LeCun 2025, definition 2 and section 4.2.3.
    """
    expect_embeddings(z, "z", "N", "d")
    expect_real(directions, "directions")
    expect_shape(directions, "directions", "M", z.shape[1])
    expect(len(z) > 0, "z", "at least one sample", "an empty batch")
    expect(len(directions) > 0, "directions", "at least one", "none")
    # The integrand is even: from 0 to REACH, twice.
    t = torch.linspace(0, REACH, POINTS // 2 + 1, dtype=z.dtype, device=z.device)
    phi = (-t.square() / 2).exp()
    weight = 2 * t[1] * phi
    weight[[0, -1]] /= 2
    x = (z @ directions.to(z).T)[..., None] * t  # N×M×T
    error = (x.cos().mean(0) - phi).square() + x.sin().mean(0).square()  # M×T
    return len(z) * (error @ weight).mean()


@in_float32
def lejepa(views: Sequence[Tensor], directions: Tensor, weight: float = 0.05, targets: int = 2) -> Tensor:
    """(1 − λ) · distance of views [N,d] from the mean of the first ``targets`` + λ · their ``sigreg``; scalar float32.

    The distance is squared and a mean over views, samples and dimensions; the regularizer is that of each view by
    itself, along directions [M,d]. ``ValueError`` for other shapes, an empty batch, fewer than two views, λ outside
    [0, 1], or targets that are not in 1..V. Source: Balestriero and LeCun 2025, definition 2 and section 5.
    """
    expect_views(views, "views", 2)
    expect(0 <= weight <= 1, "weight", "a share in [0, 1]", weight)
    expect(1 <= targets <= len(views), "targets", f"at least 1 and at most {len(views)} views", targets)
    regularizer = torch.stack([sigreg(z, directions) for z in views]).mean()
    center = torch.stack(list(views[:targets])).mean(0)  # N×d
    distance = torch.stack([(z - center).square().mean() for z in views]).mean()
    return (1 - weight) * distance + weight * regularizer


class LeJEPA(MultiCropViews):
    """Views, a projector, and directions that are the same on every rank and new at every step."""

    name, label = "lejepa", "LeJEPA"
    colour, marker = "#6A8CFF", "d"
    reference = "balestriero2025lejepa"
    compares = (
        "views of an image with their mean, while embeddings follow an isotropic Gaussian along random directions"
    )
    equation = (
        r"\tfrac{1-\lambda}{V}\sum_v\lVert z_v-\mu\rVert^2"
        r"+\tfrac{\lambda N}{V|A|}\sum_{v,a}\int\bigl|\hat\varphi_{va}(t)-e^{-t^2/2}\bigr|^2e^{-t^2/2}\,dt"
    )
    learning_rate = 0.1

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        images: int,
        *,
        weight: float = 0.05,
        directions: int = 256,
        projection_dim: int = 128,
        **views: object,
    ) -> None:
        super().__init__(encoder, classes, images, **views)
        expect(0 <= weight <= 1, "weight", "a share in [0, 1]", weight)
        expect(directions >= 1, "directions", "at least 1", directions)
        self.weight, self.shape = weight, (directions, projection_dim)
        hidden = 4 * encoder.feature_dim
        self.projector = mlp((encoder.feature_dim, hidden, hidden, projection_dim), norm=True)
        self.register_buffer("seed", torch.randint(2**31, ()))  # kept by checkpoints, counted up at every step

    def directions(self) -> Tensor:
        """Unit rows, drawn on the CPU so that they are the same on every device."""
        generator = torch.Generator().manual_seed(int(self.seed))
        self.seed += 1
        return F.normalize(torch.randn(self.shape, generator=generator), dim=1).to(self.seed.device)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        embeddings = by_size(lambda view: self.projector(self.encoder(view)), views)
        return lejepa([gather(z) for z in embeddings], self.directions(), self.weight)
