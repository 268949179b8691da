"""Numbers about features that need no labels."""

import math

import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_finite, expect_real, expect_shape
from sslnb.core.numerics import scaled, unit


def rankme(features: Tensor) -> float:
    """Effective rank of features [N,d]: the exponential of the entropy of their singular values' shares.

    1 when all features are multiples of one, or all are 0; at most min(N, d). ``ValueError`` for no features, or values
    that are not finite. Source: Garrido et al. 2023, equation 1.
    """
    _check(features)
    values = torch.linalg.svdvals(scaled(features.detach().double()))
    shares = values / values.sum().clamp(min=1e-300) + 1e-12
    return float(torch.exp(-(shares * shares.log()).sum()))


def feature_deviation(features: Tensor) -> float:
    """Mean deviation of unit-length features [N,d] times √d: 0 when all are alike, 1 when they spread evenly.

    Source: Chen and He 2021 (SimSiam), section 4.1 and figure 2.
    """
    _check(features)
    return float(unit(features.detach().double()).std(0, correction=0).mean()) * math.sqrt(features.shape[1])


def _check(features: Tensor) -> None:
    expect_shape(features, "features", "N", "d")
    expect(features.numel() > 0, "features", "at least one sample and feature", f"shape {list(features.shape)}")
    expect_real(features, "features")
    expect_finite(features, "features")
