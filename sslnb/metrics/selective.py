"""What a classifier gains by leaving out samples of a low score: risk–coverage curves and the areas under them.

Coverage is the share of samples that are answered, those of the greatest scores; risk is the share of wrong ones among
them. El-Yaniv and Wiener 2010, "On the Foundations of Noise-free Selective Classification"; for networks Geifman and
El-Yaniv 2017.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_finite, expect_one_device, expect_real, expect_shape, expect_tensor

NEXT = 1e-9  # by which rounding may lift a number of samples above a whole one


@dataclass(frozen=True)
class RiskCoverage:
    """Risks [..., N] at the coverages 1/N, 2/N, …, 1 of one curve, or of one for each resampling, in float64."""

    risk: Tensor

    @property
    def coverage(self) -> Tensor:
        return _ranks(self.risk) / self.risk.shape[-1]

    @property
    def optimum(self) -> Tensor:
        """Risks [..., N] of as many wrong samples in the best order: none, until the right samples are used up."""
        n = self.risk.shape[-1]
        right = n - (n * self.risk[..., -1:]).round()
        return (_ranks(self.risk) - right).clamp(min=0) / _ranks(self.risk)

    @property
    def area(self) -> Tensor:
        """Mean risk over all coverages [...]. Source: Geifman, Uziel and El-Yaniv 2019 (AURC)."""
        return self.risk.mean(-1)

    @property
    def excess(self) -> Tensor:
        """Area above that of the best order [...], at least 0. Source: the same (E-AURC)."""
        return (self.risk - self.optimum).mean(-1).clamp(min=0)

    def at(self, coverages: Sequence[float]) -> Tensor:
        """Risks [..., C] where at least these shares of the samples are answered, in (0, 1], and none more than needed.

        ``ValueError`` for other shares.
        """
        sound = all(0 < share <= 1 for share in coverages)
        expect(sound, "coverages", "shares in (0, 1]", coverages)
        n = self.risk.shape[-1]
        return self.risk[..., [max(1, math.ceil(share * n - NEXT)) - 1 for share in coverages]]


def risk_coverage(scores: Tensor, right: Tensor, *, weights: Tensor | None = None) -> RiskCoverage:
    """Risk at every coverage of samples that are answered in the order of their scores [N], greatest first.

    ``right`` is bool [N]. Samples of one score are in random order, and the risk is what is to be expected: a score
    that does not vary has the error rate at every coverage. ``weights``, whole numbers [R,N], say how often each sample
    is drawn in each of R resamplings, all of the same number of samples M; risks are then [R,M]. ``ValueError`` for
    other shapes or types, no samples, scores that are not finite.
    """
    _expect_scored(scores, right)
    _, group = scores.detach().unique(return_inverse=True)
    group = group.max() - group  # the greatest score first
    wrong = (~right).double()
    if weights is None:
        return RiskCoverage(_risk(group, wrong, torch.ones_like(wrong)))
    _expect_weights(weights, scores)
    return RiskCoverage(torch.stack([_risk(group, wrong, drawn.double()) for drawn in weights]))


def _risk(group: Tensor, wrong: Tensor, drawn: Tensor) -> Tensor:
    """Risks [M] of samples in groups [N] of one score each: every sample is as wrong as its group on average."""
    size = group.bincount(drawn)
    share = group.bincount(drawn * wrong) / size.clamp(min=1)
    errors = share.repeat_interleave(size.long()).cumsum(0)
    return errors / _ranks(errors)


def _ranks(risk: Tensor) -> Tensor:
    return torch.arange(1, risk.shape[-1] + 1, dtype=torch.double, device=risk.device)


def _expect_scored(scores: Tensor, right: Tensor) -> None:
    expect_real(scores, "scores")
    expect_shape(scores, "scores", "N")
    expect(len(scores) > 0, "scores", "at least one sample", "none")
    expect_finite(scores, "scores")
    expect_tensor(right, "right")
    expect(right.dtype == torch.bool, "right", "bool", f"dtype {right.dtype}")
    expect_shape(right, "right", len(scores))
    expect_one_device(scores=scores, right=right)


def _expect_weights(weights: Tensor, scores: Tensor) -> None:
    expect_tensor(weights, "weights")
    whole = not (weights.is_floating_point() or weights.is_complex() or weights.dtype == torch.bool)
    expect(whole, "weights", "whole numbers", f"dtype {weights.dtype}")
    expect_shape(weights, "weights", "R", len(scores))
    expect(len(weights) > 0, "weights", "at least one resampling", "none")
    expect_one_device(scores=scores, weights=weights)
    total = weights.sum(1)
    alike = int(weights.min()) >= 0 and int(total.min()) == int(total.max()) > 0
    expect(alike, "weights", "rows of counts with one sum above 0", "others")
