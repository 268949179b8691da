"""A probe with one hidden layer."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslnb.core.checks import expect, expect_count, expect_finite, expect_real, expect_shape
from sslnb.core.numerics import gradients
from sslnb.features.linear import CHUNK, Splits, checked_labels
from sslnb.features.scores import above_chance, top1


class MLPProbe(nn.Module):
    """A classifier with one hidden layer, d → hidden → K, trained with Adam; the learning rate is chosen on val."""

    def __init__(
        self, hidden: int = 256, learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3), epochs: int = 30, seed: int = 0
    ) -> None:
        super().__init__()
        expect_count(hidden, "hidden")
        expect_count(epochs, "epochs")
        expect(len(learning_rates) > 0, "learning_rates", "at least one value", learning_rates)
        self.hidden, self.learning_rates, self.epochs, self.seed = hidden, tuple(learning_rates), epochs, seed
        self.layers: nn.Module = nn.Identity()
        self.learning_rate, self.converged = math.nan, False

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N,K] of features [N,d]."""
        weight = next(self.layers.parameters(), None)
        return self.layers(x if weight is None else x.to(weight.dtype))

    @torch.no_grad()
    def accuracy(self, x: Tensor, y: Tensor, per_class: bool = False) -> float:
        """Share of right predictions; with ``per_class`` the mean over classes of each one's share.

        NaN where the weights are not finite. ``ValueError`` for other shapes, or values that are not finite.
        """
        weight = next(self.layers.parameters(), None)
        expect_shape(x, "x", "N", "d" if weight is None else weight.shape[1])
        expect_real(x, "x")
        expect_finite(x.float(), "x")
        y = checked_labels(y, len(x), "y")
        expect(len(y) > 0, "y", "at least one sample", "none")
        if not all(bool(torch.isfinite(weight).all()) for weight in self.parameters()):
            return math.nan
        return top1(torch.cat([self(part).argmax(1) for part in x.split(CHUNK)]), y, per_class=per_class)

    def fit(self, train: Tensor, train_labels: Tensor, val: Tensor, val_labels: Tensor) -> "MLPProbe":
        """Train with each learning rate, keep the best on val, train it again on both; returns itself."""
        splits = Splits.checked(train, train_labels, val, val_labels)
        train, train_labels, val, val_labels = splits.train, splits.train_labels, splits.val, splits.val_labels
        scores = []
        for rate in self.learning_rates:
            self.layers = self._trained(train, train_labels, rate, splits.classes)
            score = self.accuracy(val, val_labels)
            scores.append(-1.0 if math.isnan(score) else score)  # training stopped being finite
        self.learning_rate = self.learning_rates[max(range(len(scores)), key=scores.__getitem__)]
        self.converged = above_chance(max(scores), val_labels)
        self.layers = self._trained(*splits.union(), self.learning_rate, splits.classes)
        return self

    @gradients()
    def _trained(self, x: Tensor, y: Tensor, rate: float, classes: int, batch_size: int = 256) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            layers = nn.Sequential(nn.Linear(x.shape[1], self.hidden), nn.ReLU(), nn.Linear(self.hidden, classes))
        layers.to(x.device)
        optimizer = torch.optim.Adam(layers.parameters(), lr=rate)
        steps = self.epochs * math.ceil(len(x) / batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.epochs):
            batches = torch.randperm(len(x), generator=generator).to(x.device).split(batch_size)
            train_epoch(batches, lambda batch: F.cross_entropy(layers(x[batch]), y[batch]), optimizer, schedule)
        return layers.requires_grad_(False)


def train_epoch(
    batches: Iterable[Tensor],
    loss_of: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> float:
    """One step of the optimizer, and of the schedule, on the loss of each batch of indices; returns the mean loss."""
    losses = []
    for batch in batches:
        loss = loss_of(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).sum()) / len(losses)
