"""DINO (Caron et al. 2021, arXiv 2104.14294): match the sharpened, centred output of a slower copy of oneself.

Defaults: 4,096 outputs (solo-learn's for CIFAR; the paper has 65,536), temperatures 0.1 and 0.04, centre momentum 0.9,
head d → 4d → 4d → 256 with batch norm (for convolutional networks; none for transformers), last layer of unit rows that
is frozen at first (2 % of the steps; the paper: one epoch), gradients clipped to norm 3 per tensor (section 3 and
appendix), momentum 0.99 rising to 1 (the paper: 0.996, over longer trainings), no blur at 32 px, solarization of the
second view with probability 0.2. No small crops at 32 px; ``small_crops`` adds them. Expected on CIFAR-10 with
ResNet-18: kNN 81.3 after 200 epochs (lightly's benchmark table); linear 89.5 after 1,000 (solo-learn's, online probe).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslnb.core.checks import expect
from sslnb.core.distributed import gather
from sslnb.encoders.encoder import Encoder
from sslnb.objectives.parts import Momentum, by_size, expect_embeddings, expect_views, in_float32, mlp, rising
from sslnb.objectives.two_views import MultiCropViews

__all__ = ["DINO", "dino"]


@in_float32
def dino(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    center: Tensor,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Tensor:
    """Cross-entropy of every teacher view with every other student view; scalar float32.

    ``student``: outputs [N,K] per view; ``teacher``: those [N,K] of the first views; ``center`` [K]. Gradients reach
    the student alone. ``ValueError`` for other shapes, an empty batch, fewer than two student views or no teacher's,
    or temperatures that are not positive. Source: Caron et al. 2021, equations 1–4 and algorithm 1.
    """
    expect_views(student, "student", 2)
    expect_views(teacher, "teacher", 1, like=student[0])
    expect_embeddings(center, "center", student[0].shape[1], like=student[0])
    expect(student[0].numel() > 0, "student", "at least one image", "an empty batch")
    for name, value in {"student_temperature": student_temperature, "teacher_temperature": teacher_temperature}.items():
        expect(value > 0, name, "a positive value", value)
    terms = []
    for i, target in enumerate(teacher):
        probability = ((target.detach() - center) / teacher_temperature).softmax(1)
        terms += [F.cross_entropy(s / student_temperature, probability) for j, s in enumerate(student) if j != i]
    return torch.stack(terms).mean()


class Head(nn.Module):
    """An MLP to 256 dimensions, unit length, then cosines with unit rows."""

    def __init__(self, d: int, outputs: int) -> None:
        super().__init__()
        self.mlp = mlp((d, 4 * d, 4 * d, 256), norm=True)
        self.last = nn.Linear(256, outputs, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(F.normalize(self.mlp(h), dim=1), F.normalize(self.last.weight, dim=1))


class DINO(MultiCropViews):
    """A student, a teacher that follows it, and a centre of the teacher's outputs."""

    name, label = "dino", "DINO"
    colour, marker = "#332288", "3"
    reference = "caron2021dino"
    compares = "the soft cluster of one view with a slower encoder's, centred and sharpened, of another"
    equation = (
        r"-\sum_k P^{\mathrm{slow}}_{i'k}\log P_{ik},\quad P=\mathrm{softmax}(s/\tau),\quad "
        r"P^{\mathrm{slow}}=\mathrm{softmax}\bigl((t-c)/\tau_t\bigr)"
    )
    learning_rate = 0.1

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        images: int,
        *,
        outputs: int = 4096,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        center_momentum: float = 0.9,
        momentum: float = 0.99,
        freeze: float = 0.02,
        solarize: tuple[float, float] = (0.0, 0.2),
        **views: object,
    ) -> None:
        super().__init__(encoder, classes, images, solarize=solarize, **views)
        for name, value in {"momentum": momentum, "center_momentum": center_momentum}.items():
            expect(0 <= value <= 1, name, "a value in [0, 1]", value)
        expect(outputs >= 2, "outputs", "at least 2", outputs)
        self.sharpness = {"student_temperature": student_temperature, "teacher_temperature": teacher_temperature}
        for name, value in self.sharpness.items():
            expect(value > 0, name, "a value above 0", value)
        self.center_momentum, self.momentum, self.freeze = center_momentum, momentum, freeze
        expect(0 <= freeze <= 1, "freeze", "a share in [0, 1]", freeze)
        self.head = Head(encoder.feature_dim, outputs)
        self.slow = Momentum(encoder=encoder, head=self.head)
        self.register_buffer("center", torch.zeros(outputs))

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        student = [gather(s.float()) for s in by_size(lambda view: self.head(self.encoder(view)), views)]
        with torch.no_grad():
            teacher = by_size(lambda view: self.slow.head(self.slow.encoder(view)), views[:2])
            teacher = [gather(t.float()) for t in teacher]
        loss = dino(student, teacher, self.center.clone(), **self.sharpness)
        self.center.lerp_(torch.cat(teacher).mean(0), 1 - self.center_momentum)
        return loss

    @torch.no_grad()
    def before_step(self, progress: float) -> None:
        if progress < self.freeze:
            self.head.last.weight.grad = None
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norms = torch._foreach_norm(gradients)
        torch._foreach_mul_(gradients, [(3.0 / (norm + 1e-6)).clamp(max=1.0) for norm in norms])

    def after_step(self, progress: float) -> None:
        self.slow.follow(rising(self.momentum, progress), encoder=self.encoder, head=self.head)
