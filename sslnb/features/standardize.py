"""How features are standardized before a probe sees them."""

import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_finite, expect_one_device, expect_real, expect_shape
from sslnb.core.numerics import floats, lengths, rounding, unit

SCALES = ("unit_norm", "unit_variance")


class Standardizer:
    """Zero mean per feature on the training set, then a common scale.

    ``scale="unit_norm"`` (the text of Sehwag et al. 2020, section 2.1) divides each sample by its L2 norm, and leaves
    a sample that sits on the mean at zero. ``"unit_variance"`` divides each feature by its deviation on the training
    set, and leaves a constant feature at zero. Features [N,d], float32 or float64, which results are too. Means are
    taken in float64 and kept in the features' type, whose own rounding is as large.
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
        expect(train.shape[1] > 0, "train", "at least one feature", "none")
        expect_real(train, "train")
        expect_finite(train, "train")
        kind, double = floats(train).dtype, train.double()
        self.mean = double.mean(0).to(kind)
        deviation = double.std(0, correction=0)
        # What rounding leaves of a constant feature is no deviation.
        constant = deviation <= rounding(kind) * double.abs().amax(0)
        self.deviation = torch.where(constant, torch.inf, deviation).to(kind)
        return self

    def transform(self, x: Tensor) -> Tensor:
        """Standardized features [N,d]; ``ValueError`` before :meth:`fit`, or for another number of features."""
        expect(self.mean is not None, "Standardizer", "fit(train) before transform(x)", "an unfitted one")
        expect_shape(x, "x", "N", len(self.mean))
        expect_real(x, "x")
        expect_finite(x, "x")
        expect_one_device(mean=self.mean, x=x)
        x, constant = floats(x), torch.isinf(self.deviation)
        centred = torch.where(constant, 0.0, x - self.mean)
        if self.scale == "unit_variance":
            standardized = (centred / self.deviation).to(x.dtype)
            expect_finite(standardized, "x, in training deviations")  # which may be beyond float32
            return standardized
        # What rounding leaves of a sample on the mean has a length, but no direction.
        coarser = max(rounding(x.dtype), rounding(self.mean.dtype))
        away = lengths(centred) > coarser * self.mean.masked_fill(constant, 0).double().norm()
        return torch.where(away, unit(centred), 0.0).to(x.dtype)
