"""Probes: classifiers on frozen features. Selection uses the validation split; test data are never seen here."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sslnb.core.checks import (
    expect,
    expect_count,
    expect_finite,
    expect_integers,
    expect_labels,
    expect_one_device,
    expect_real,
    expect_shape,
)
from sslnb.features.scores import above_chance, top1

# The grid of Sehwag et al. 2020, section 2.1.
LEARNING_RATES = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
WEIGHT_DECAYS = (1e-5, 1e-4, 1e-3, 1e-2)
CHUNK = 4096  # samples whose logits or similarities are held at a time: a few MB for 1,000 classes
PADDING = -1  # label of a sample that is none: problems with fewer samples are filled up with them


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier with weight [K,d] and bias [K], and how it was chosen.

    ``grid`` [learning rates, weight decays] holds the validation accuracy of every candidate (NaN where training
    stopped being finite). ``converged`` is False when the best candidate does not beat chance on the validation
    split, or the final training was not finite.
    """

    weight: Tensor
    bias: Tensor
    learning_rate: float
    weight_decay: float
    converged: bool
    grid: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [N,K] of features [N,d]."""
        return x.to(self.weight.dtype) @ self.weight.T + self.bias

    @property
    def finite(self) -> bool:
        """Whether the weights are: otherwise predictions mean nothing."""
        return bool(torch.isfinite(self.weight).all() and torch.isfinite(self.bias).all())

    def predict(self, x: Tensor) -> Tensor:
        """Predicted classes [N] of features [N,d]; ``ValueError`` for other shapes or values that are not finite."""
        expect_shape(x, "x", "N", self.weight.shape[1])
        expect_one_device(weight=self.weight, x=x)
        expect_real(x, "x")
        expect_finite(x.to(self.weight.dtype), "x")
        return torch.cat([self(part).argmax(1) for part in x.split(CHUNK)])

    def accuracy(self, x: Tensor, y: Tensor, per_class: bool = False) -> float:
        """Share of right predictions; with ``per_class`` the mean over classes of each one's share.

        NaN where the weights are not finite. ``ValueError`` as in :meth:`predict`, for no samples, and for labels
        that are not integers.
        """
        predicted = self.predict(x)
        y = checked_labels(y, len(x), "y")
        expect(len(y) > 0, "y", "at least one sample", "none")
        return top1(predicted, y, per_class=per_class) if self.finite else math.nan


def checked_labels(labels: Tensor, count: int, argument: str) -> Tensor:
    """Labels [N] as int64."""
    expect_shape(labels, argument, count)
    return expect_integers(labels, argument)


@dataclass(frozen=True)
class Splits:
    """Checked training and validation features, float32, with the number of classes."""

    train: Tensor
    train_labels: Tensor
    val: Tensor
    val_labels: Tensor
    classes: int

    @staticmethod
    def checked(train: Tensor, train_labels: Tensor, val: Tensor, val_labels: Tensor) -> "Splits":
        expect_shape(train, "train", "N", "d")
        expect_shape(val, "val", "N", train.shape[1])
        expect(len(val) > 0, "val", "at least one sample to select on", "none")
        expect(train.shape[1] > 0, "train", "at least one feature", "none")
        expect_one_device(train=train, train_labels=train_labels, val=val, val_labels=val_labels)
        for part, name in ((train, "train"), (val, "val")):
            expect_real(part, name)
            expect_finite(part.float(), name)
        train_labels = checked_labels(train_labels, len(train), "train_labels")
        val_labels = checked_labels(val_labels, len(val), "val_labels")
        present = train_labels.unique()
        expect(len(present) >= 2, "train_labels", "at least two classes", present.tolist())
        classes = int(present.max()) + 1
        expect_labels(train_labels, classes, "train_labels")
        expect_labels(val_labels, classes, "val_labels")
        return Splits(train.float(), train_labels, val.float(), val_labels, classes)

    def union(self) -> tuple[Tensor, Tensor]:
        return torch.cat([self.train, self.val]), torch.cat([self.train_labels, self.val_labels])


@dataclass(frozen=True, eq=False)
class Candidates:
    """Every probe of a grid: weight [G,K,d], bias [G,K], one after another the weight decays of each learning rate.

    They have learned from the training split alone. ``grid`` as in :class:`LinearProbe`; ``converged`` [learning rates,
    weight decays], bool, as there, of each one.
    """

    weight: Tensor
    bias: Tensor
    grid: Tensor
    converged: Tensor


@dataclass(frozen=True)
class LinearProbeGrid:
    """A whole grid of linear probes trained at once, the best one on the validation split trained again on both.

    All G = len(learning_rates) · len(weight_decays) probes see the same minibatches, so a step is one product of the
    batch [B,d] with stacked weights [G·K,d] forward, and one backward. SGD with momentum 0.9 and a cosine schedule;
    biases do not decay. Features should be standardized. Float32. Source: Sehwag et al. 2020, section 2.1.
    """

    learning_rates: Sequence[float] = LEARNING_RATES
    weight_decays: Sequence[float] = WEIGHT_DECAYS
    epochs: int = 30
    batch_size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("learning_rates", "weight_decays"):
            values = getattr(self, name)
            expect(len(values) > 0 and min(values) >= 0, name, "at least one value, none negative", values)
        for name in ("epochs", "batch_size"):
            expect_count(getattr(self, name), name)

    def fit(self, train: Tensor, train_labels: Tensor, val: Tensor, val_labels: Tensor) -> LinearProbe:
        """Probe for features [N,d] with labels [N]; ``ValueError`` for shapes, labels or values that can't be used."""
        splits = Splits.checked(train, train_labels, val, val_labels)
        grid = self._candidates(splits).grid
        return self._chosen(splits, grid, [int(grid.nan_to_num(nan=-1).argmax())])[0]

    def fit_all(self, train: Tensor, train_labels: Tensor, val: Tensor, val_labels: Tensor) -> Candidates:
        """Every probe of the grid, trained on the training split; ``ValueError`` as in :meth:`fit`."""
        return self._candidates(Splits.checked(train, train_labels, val, val_labels))

    def fit_decays(
        self,
        train: Tensor,
        train_labels: Tensor,
        val: Tensor,
        val_labels: Tensor,
        *,
        candidates: Candidates | None = None,
    ) -> dict[float, LinearProbe]:
        """A probe for each weight decay, with the learning rate that is best for it on the validation split.

        ``candidates`` are what :meth:`fit_all` gave for the same data, which then need not be trained again.
        """
        splits = Splits.checked(train, train_labels, val, val_labels)
        grid = (candidates or self._candidates(splits)).grid
        best = grid.nan_to_num(nan=-1).argmax(0)  # of each column, the least rate among equals
        cells = [int(rate) * len(self.weight_decays) + column for column, rate in enumerate(best)]
        return dict(zip(self.weight_decays, self._chosen(splits, grid, cells), strict=True))

    def _cells(self, on: torch.device) -> tuple[Tensor, Tensor]:
        """Learning rate and weight decay of every cell of the grid, row by row."""
        rates, decays = (torch.as_tensor(v, device=on) for v in (self.learning_rates, self.weight_decays))
        return rates.repeat_interleave(len(decays)), decays.repeat(len(rates))

    def _candidates(self, splits: Splits) -> Candidates:
        weights = self.train(splits.train, splits.train_labels, *self._cells(splits.train.device), splits.classes)
        scores = self.scores(*weights, splits.val, splits.val_labels).cpu()
        converged = torch.tensor([above_chance(float(score), splits.val_labels) for score in scores])
        shape = len(self.learning_rates), len(self.weight_decays)
        return Candidates(*weights, scores.view(shape), converged.view(shape))

    def _chosen(self, splits: Splits, grid: Tensor, cells: list[int]) -> list[LinearProbe]:
        """Probes of some cells of the grid, trained again on both splits."""
        rates, decays = (values[cells] for values in self._cells(splits.train.device))
        probes = []
        for cell, weight, bias in zip(cells, *self.train(*splits.union(), rates, decays, splits.classes), strict=True):
            rate, decay = divmod(cell, len(self.weight_decays))
            probe = LinearProbe(
                weight,
                bias,
                learning_rate=float(self.learning_rates[rate]),
                weight_decay=float(self.weight_decays[decay]),
                converged=above_chance(float(grid[rate, decay]), splits.val_labels),
                grid=grid,
            )
            probes.append(probe if probe.finite else replace(probe, converged=False))
        return probes

    def train(
        self, x: Tensor, y: Tensor, rates: Tensor, decays: Tensor, classes: int, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Weights [G,K,d] and biases [G,K] of probes with the given learning rates [G] and weight decays [G].

        With ``masks`` [G,d], bool, each probe sees its own choice of features: the other weights stay nought.
        """
        weight = torch.zeros(len(rates), classes, x.shape[1], device=x.device)
        bias = torch.zeros(len(rates), classes, device=x.device)
        settings = {"epochs": self.epochs, "batch_size": self.batch_size, "seed": self.seed}
        for _ in descend(x, y, weight, bias, rates.float(), decays.float(), masks=masks, **settings):
            pass
        return weight, bias

    @staticmethod
    def scores(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Accuracy [G] of stacked probes; NaN for those that are not finite."""
        right = torch.zeros(len(weight), device=x.device)
        for features, labels in zip(x.split(CHUNK // 4), y.split(CHUNK // 4), strict=True):
            logits = torch.einsum("nd,gkd->ngk", features, weight) + bias
            right += (logits.argmax(2) == labels[:, None]).sum(0)
        finite = torch.isfinite(weight).all(2).all(1) & torch.isfinite(bias).all(1)
        return torch.where(finite, right / len(x), math.nan)


def descend(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    rates: Tensor,
    decays: Tensor,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    masks: Tensor | None = None,
) -> Iterator[int]:
    """Train G linear classifiers, weight [G,K,d] and bias [G,K], in place; yields after each epoch.

    Features are [N,d], the same for all, or [G,N,d]; labels [N] or [G,N], ``PADDING`` where there is no sample (its
    features are nought). Cross-entropy; SGD with momentum 0.9, learning rates [G] on a cosine schedule to 0, weight
    decays [G] without the biases. The incomplete last batch of an epoch is left out. ``masks`` as in
    :meth:`LinearProbeGrid.train`.
    """
    n, shared = y.shape[-1], x.ndim == 2
    if shared:  # a dimension for the classifiers behind the samples, so that the product needs no copy
        y, logits_of, gradient_of = y[:, None], "bd,gkd->bgk", "bgk,bd->gkd"
        samples, offset = 0, bias  # the dimension of samples, and the bias as it adds to logits
    else:
        logits_of, gradient_of = "gbd,gkd->gbk", "gbk,gbd->gkd"
        samples, offset = 1, bias[:, None]
    batch_size = min(batch_size, n)
    steps_per_epoch = n // batch_size
    targets = F.one_hot(y.clamp(min=0), weight.shape[1]).to(x) * (y != PADDING)[..., None]
    present = (y != PADDING).to(x)[..., None]
    rates, decays = rates.view(-1, 1, 1), decays.view(-1, 1, 1)
    velocity, bias_velocity = torch.zeros_like(weight), torch.zeros_like(bias)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        order = torch.randperm(n, generator=generator)[: steps_per_epoch * batch_size].to(x.device)
        for i, batch in enumerate(order.split(batch_size)):
            features, real = x.index_select(samples, batch), present.index_select(samples, batch)
            share = real / real.sum(samples, keepdim=True).clamp(min=1)
            logits = torch.einsum(logits_of, features, weight).add_(offset)  # B×G×K, or G×B×K
            error = logits.softmax(-1).sub_(targets.index_select(samples, batch)).mul_(share)  # ∂ loss / ∂ logits
            gradient = torch.einsum(gradient_of, error, features)
            if masks is not None:
                gradient.mul_(masks[:, None])
            rate = rates * (0.5 + 0.5 * math.cos(math.pi * (epoch + i / steps_per_epoch) / epochs))
            velocity.mul_(0.9).add_(gradient).addcmul_(decays, weight)
            bias_velocity.mul_(0.9).add_(error.sum(samples))
            weight -= rate * velocity
            bias -= rate[:, 0] * bias_velocity
        yield epoch
