"""Numbers about features that need no labels."""

import math

import torch
from torch import Tensor

from sslnb.core.checks import expect_finite, expect_shape


def rankme(features: Tensor) -> float:
    """Effective rank of features [N,d]: the exponential of the entropy of their singular values' shares.

    1 when all features are multiples of one; at most min(N, d). Source: Garrido et al. 2023, equation 1.
    """
    expect_shape(features, "features", "N", "d")
    expect_finite(features, "features")
    values = torch.linalg.svdvals(features.double())
    shares = values / values.sum().clamp(min=1e-300) + 1e-12
    return float(torch.exp(-(shares * shares.log()).sum()))


def feature_deviation(features: Tensor) -> float:
    """Mean deviation of unit-length features [N,d] times √d: 0 when all are alike, 1 when they spread evenly.

    Source: Chen and He 2021 (SimSiam), section 4.1 and figure 2.
    """
    expect_shape(features, "features", "N", "d")
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    return float(unit.std(0, correction=0).mean()) * math.sqrt(features.shape[1])
