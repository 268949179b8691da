"""How features are standardized before a probe sees them."""

import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_finite, expect_shape

SCALES = ("unit_norm", "unit_variance")


class Standardizer:
    """Zero mean per feature on the training set, then a common scale.

    ``scale="unit_norm"`` (the text of Sehwag et al. 2020, section 2.1) divides each sample by its L2 norm, and leaves
    a sample that sits on the mean at zero. ``"unit_variance"`` divides each feature by its deviation on the training
    set, and leaves a constant feature at zero. Features [N,d], float32.
    """

    def __init__(self, scale: str = "unit_norm") -> None:
        expect(scale in SCALES, "scale", f"one of {SCALES}", repr(scale))
        self.scale = scale
        self.mean: Tensor | None = None
        self.deviation: Tensor | None = None

    def fit(self, train: Tensor) -> "Standardizer":
        """Take mean and deviation from training features [N,d]; returns itself."""
        expect_shape(train, "train", "N", "d")
        expect(len(train) > 0, "train", "at least one sample", "none")
        expect_finite(train, "train")
        double = train.double()
        self.mean = double.mean(0).float()
        deviation = double.std(0, correction=0)
        # What rounding leaves of a constant feature is no deviation.
        constant = deviation <= 1e-6 * double.abs().amax(0)
        self.deviation = torch.where(constant, torch.inf, deviation).float()
        return self

    def transform(self, x: Tensor) -> Tensor:
        """Standardized features [N,d]; ``ValueError`` before :meth:`fit`, or for another number of features."""
        expect(self.mean is not None, "Standardizer", "fit(train) before transform(x)", "an unfitted one")
        expect_shape(x, "x", "N", len(self.mean))
        expect_finite(x, "x")
        centred = torch.where(torch.isinf(self.deviation), 0.0, x - self.mean)
        if self.scale == "unit_variance":
            return centred / self.deviation
        return centred / centred.norm(dim=1, keepdim=True).clamp(min=torch.finfo(centred.dtype).tiny)
