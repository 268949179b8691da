"""Linear classifiers on many encoders and tasks, trained together as one problem, with all of their epochs kept."""

import dataclasses
import math

import torch
from torch import Tensor
from tqdm.auto import tqdm

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
from sslnb.core.numerics import floats
from sslnb.features.linear import PADDING, descend


@dataclasses.dataclass(frozen=True, eq=False)
class Heads:
    """Weights [E+1,G,K,d] and biases [E+1,G,K] of G linear classifiers after each of E epochs, the start first."""

    weight: Tensor
    bias: Tensor

    def of(self, g: int) -> "Heads":
        """One problem's alone."""
        return Heads(self.weight[:, g : g + 1], self.bias[:, g : g + 1])

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities [E+1,G,N,K] of features [G,N,d]."""
        expect_shape(x, "x", self.weight.shape[1], "N", self.weight.shape[3])
        pairs = zip(self.weight, self.bias, strict=True)
        return torch.stack([torch.baddbmm(b[:, None], x, w.transpose(1, 2)).softmax(2) for w, b in pairs])


def stacked(features: list[Tensor], labels: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Problems of different size as x [G,N,d] and y [G,N], filled up with zeros and ``PADDING``."""
    return (
        torch.nn.utils.rnn.pad_sequence(features, batch_first=True),
        torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=PADDING),
    )


def train_heads(
    x: Tensor,
    y: Tensor,
    classes: int,
    *,
    epochs: int = 30,
    learning_rate: float = 0.1,
    batch_size: int = 256,
    seeds: list[int] | None = None,
) -> Heads:
    """Train G linear classifiers on features x [G,N,d] and labels y [G,N] (-1: no sample) by SGD, all in one product.

    Cross-entropy, momentum 0.9, no weight decay, a cosine schedule to 0. All problems see the same positions in a
    batch; starts are uniform in ±1/√d, drawn from each one's seed (0, 1, … unless given). ``ValueError`` for shapes,
    labels, or values that can't be used, or a problem without a sample. Source: Cowlagi, Liu and Neervannan 2022,
    section 4; their code ends at a 125th of the rate.
    """
    expect_shape(x, "x", "G", "N", "d")
    expect_shape(y, "y", *x.shape[:2])
    expect(x.numel() > 0, "x", "at least one problem, sample and feature", f"shape {list(x.shape)}")
    expect_one_device(x=x, y=y)
    expect_real(x, "x")
    expect_finite(x, "x")
    x = floats(x)
    expect_count(classes, "classes", 2)
    y = expect_labels(expect_integers(y, "y") + 1, classes + 1, "y, plus one") - 1
    expect(bool((y >= 0).any(1).all()), "y", "at least one sample in each problem", "a problem without any")
    for name, value in {"epochs": epochs, "batch_size": batch_size}.items():
        expect_count(value, name)
    expect(0 < learning_rate < math.inf, "learning_rate", "a value above 0", learning_rate)
    groups, _, d = x.shape
    seeds = list(range(groups)) if seeds is None else seeds
    expect(len(seeds) == groups, "seeds", f"one for each of {groups} problems", len(seeds))
    weight, bias = _starts(seeds, classes, d)
    weight, bias = weight.to(x), bias.to(x)
    epoch_weights, epoch_biases = [weight.clone()], [bias.clone()]
    rates, decays = torch.full((groups,), learning_rate).to(x), torch.zeros(groups).to(x)
    settings = {"epochs": epochs, "batch_size": batch_size, "seed": seeds[0]}
    passes = descend(x, y, weight, bias, rates, decays, **settings)
    for _ in tqdm(passes, total=epochs, desc="heads", unit="epoch", leave=False, delay=1):
        epoch_weights.append(weight.clone())
        epoch_biases.append(bias.clone())
    return Heads(torch.stack(epoch_weights), torch.stack(epoch_biases))


def _starts(seeds: list[int], classes: int, d: int) -> tuple[Tensor, Tensor]:
    """Weights [G,K,d] and biases [G,K] as torch's linear layers begin."""
    weight, bias = torch.empty(len(seeds), classes, d), torch.empty(len(seeds), classes)
    for g, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        uniform = (2 * torch.rand(classes, d + 1, generator=generator) - 1) / math.sqrt(d)
        weight[g], bias[g] = uniform[:, :d], uniform[:, d]
    return weight, bias
