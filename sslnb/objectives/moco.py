"""MoCo v2 (He et al. 2020, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297): a queue of keys to contrast with.

Defaults: temperature 0.2 and MLP head (v2), momentum 0.99 and a queue of 4,096 keys, which suit CIFAR-10 (the authors'
own CIFAR-10 demo); the papers have 0.999 and 65,536 for ImageNet. No blur at 32 px, as in that demo. Batch norm is
not shuffled: queries and keys pass through it separately. Expected on CIFAR-10 with ResNet-18: kNN 84.7 after 200
epochs (lightly's benchmark table); linear 92.9 after 1,000 epochs (solo-learn's table, online probe).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sslnb.core.checks import expect
from sslnb.core.distributed import gather
from sslnb.core.numerics import unit
from sslnb.objectives.parts import Momentum, expect_embeddings, expect_left_out, in_float32
from sslnb.objectives.two_views import ContrastiveViews

__all__ = ["MoCo", "info_nce"]


@in_float32
def info_nce(
    query: Tensor, positive: Tensor, negatives: Tensor, temperature: float = 0.2, *, leave_out: Tensor | None = None
) -> Tensor:
    """Cross-entropy of picking the positive [N,d] for a query [N,d] among negatives [M,d]; scalar float32.

    Vectors are of any length. ``leave_out`` [N,M] marks negatives that are none for a query. ``ValueError`` for other
    shapes, an empty batch, or a temperature that is not positive. Source: He et al. 2020, equation 1.
    """
    expect_embeddings(query, "query", "N", "d")
    expect_embeddings(positive, "positive", *query.shape, like=query)
    expect_embeddings(negatives, "negatives", "M", query.shape[1], like=query)
    expect_left_out(leave_out, query, negatives)
    expect(len(query) > 0, "query", "at least one", "an empty batch")
    expect(temperature > 0, "temperature", "a positive value", temperature)
    query, positive, negatives = (unit(x) for x in (query, positive, negatives))
    others = query @ negatives.T
    if leave_out is not None:
        others = others.masked_fill(leave_out, float("-inf"))
    logits = torch.cat([(query * positive).sum(1, keepdim=True), others], 1) / temperature  # N×(1 + M)
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


class MoCo(ContrastiveViews):
    """A query, a key of the momentum encoder, a queue of earlier keys, InfoNCE."""

    name, label = "moco", "MoCo v2"
    colour, marker = "#56B4E9", "v"
    reference = "he2020moco,chen2020mocov2"
    compares = "a view with a slower encoder's view of the same image, against a queue of earlier images"
    equation = (
        r"-\log\frac{\exp(q_i^\top k_i/\tau)}{\exp(q_i^\top k_i/\tau)+\sum_{k\in\mathrm{queue}}\exp(q_i^\top k/\tau)}"
    )
    learning_rate = 0.06  # the authors' CIFAR-10 demo, at batch 512 (0.03 per 256 on ImageNet)
    weight_decay = 5e-4

    def __init__(
        self,
        *parts: object,
        temperature: float = 0.2,
        momentum: float = 0.99,
        queue_size: int = 4096,
        **options: object,
    ) -> None:
        super().__init__(*parts, temperature=temperature, **options)
        expect(0 <= momentum <= 1, "momentum", "a value in [0, 1]", momentum)
        expect(queue_size >= 1, "queue_size", "at least 1", queue_size)
        self.momentum = momentum
        self.slow = Momentum(encoder=self.encoder, head=self.head)
        self.register_buffer("queue", F.normalize(torch.randn(queue_size, self.head[-1].out_features), dim=1))
        self.register_buffer("next", torch.zeros((), dtype=torch.long))

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        query = gather(self.head(self.encoder(views[0])))
        with torch.no_grad():
            key = gather(F.normalize(self.slow.head(self.slow.encoder(views[1])).float(), dim=1))
        # The loss goes backward after the queue has moved on: it needs a copy.
        loss = info_nce(query, key, self.queue.clone(), self.temperature)
        self._enqueue(key)
        return loss

    @torch.no_grad()
    def _enqueue(self, key: Tensor) -> None:
        key = key[-len(self.queue) :]
        place = (self.next + torch.arange(len(key), device=key.device)) % len(self.queue)
        self.queue[place] = key
        self.next.add_(len(key)).remainder_(len(self.queue))

    def after_step(self, progress: float) -> None:
        self.slow.follow(self.momentum, encoder=self.encoder, head=self.head)
