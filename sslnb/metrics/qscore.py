"""Discriminative features of a representation, and the quality score of samples that they give.

Kalibhat et al. 2024, "Measuring Self-Supervised Representation Quality for Downstream Classification using
Discriminative Features". Features h are [N,d]: tensors, NumPy arrays or memory maps, which are read a few rows at a
time. Mean μ_i and deviation σ_i (of the population) of a sample are over its d features.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_finite, expect_floats, expect_shape, expect_tensor
from sslnb.core.numerics import floats, rounding, rows_scaled

Features = Tensor | np.ndarray
CHUNK_BYTES = 2**20  # of features worked on at a time: they stay in a processor's cache
TINY = 1e-30  # of a squared length, so that a sample of noughts has a gradient
STEADY = 1e-3  # variance below this share of the squared mean is computed again without cancellation


def highly_activating(h: Tensor, epsilon: float = 4.0) -> Tensor:
    """Which features stand out in each sample: L_i = {j : h_ij > μ_i + ε·σ_i}, as bool [N,d].

    The same at any scale of a sample. ``ValueError`` for other shapes, values that are not finite, a negative ε.
    Source: section "Understanding Representations and their Failure Modes".
    """
    _expect_features(h, epsilon)
    expect(h.shape[0] > 0, "h", "at least one sample", "none")
    h, _ = rows_scaled(floats(h))
    return h > _threshold(h, epsilon)[1]


def activation_rate(h: Features, epsilon: float = 4.0) -> Tensor:
    """A_j, the percentage [d] of samples in which each feature is highly activating; float64. Reads h in parts."""
    _expect_matrix(h)
    counts = torch.zeros(h.shape[1], dtype=torch.double, device=_device(h))
    for part, room in _parts(h, epsilon):
        counts += _above(part, _threshold(part, epsilon)[1], room).sum(0)
    return 100 * counts / len(h)


def discriminative(rate: Tensor, low: float = 50, high: float = 95) -> Tensor:
    """The features D, bool [d], whose rate [d] lies between two percentiles of all rates and is not nought.

    ``ValueError`` where no feature activates, or none within the band: it is then too narrow for so few features.
    Source: figure 1 and section "Discriminative Features".
    """
    expect_shape(rate, "rate", "d")
    expect_floats(rate, "rate")
    expect_finite(rate, "rate")
    expect(0 <= low < high <= 100, "low, high", "percentiles 0 <= low < high <= 100", (low, high))
    expect(bool((rate > 0).any()), "rate", "at least one feature that is highly activating in some sample", "none")
    bounds = torch.quantile(
        rate.double(), torch.tensor([low / 100, high / 100], dtype=torch.double, device=rate.device)
    )
    mask = (rate >= bounds[0]) & (rate <= bounds[1]) & (rate > 0)
    expect(bool(mask.any()), "low, high", f"a band that holds at least one of {len(rate)} features", (low, high))
    return mask


def q_score(h: Features, mask: Tensor, epsilon: float = 4.0) -> Tensor:
    """Q_i [N]: how far the highly activating discriminative features of a sample stand out, on average.

    The mean of h_ij − μ_i over L_i ∩ D, of h scaled to unit length; 0 where L_i ∩ D is empty. Differentiable where h
    is a tensor that asks for it; otherwise h is read in parts. ``mask`` D is bool [d]. Source: equation 1.
    """
    _expect_matrix(h)
    mask = _checked_mask(mask, h)
    if isinstance(h, Tensor) and h.requires_grad:
        _expect_features(h, epsilon)
        return _q_score(rows_scaled(floats(h))[0], mask, epsilon)
    scores = torch.empty(len(h), device=_device(h))
    done = 0
    for part, room in _parts(h, epsilon):
        scores[done : done + len(part)] = _q_score(part, mask, epsilon, room)
        done += len(part)
    return scores


def _q_score(h: Tensor, mask: Tensor, epsilon: float, room: Tensor | None = None) -> Tensor:
    mean, threshold, length = _threshold(h, epsilon)
    with torch.no_grad():
        standing_out = _above(h, threshold, room).mul_(mask)
        count = standing_out.sum(1)
    excess = torch.linalg.vecdot(h, standing_out) - count * mean[:, 0]
    return excess / count.clamp(min=1) / length[:, 0]


def _above(h: Tensor, threshold: Tensor, room: Tensor | None = None) -> Tensor:
    """1 where h is above its sample's threshold, else 0, as floats: unlike bool, they are summed at full speed.

    ``room`` is a place of h's shape to write them to.
    """
    return torch.gt(h, threshold, out=torch.empty_like(h) if room is None else room)


def q_score_penalty(
    h: Tensor, mask: Tensor, *, weight: float = 1e-4, norm_weight: float = 1e-4, epsilon: float = 4.0
) -> Tensor:
    """What to add to a loss that is minimised, so that samples of low quality gain and features active in all lose.

    −weight · mean_i 1[Q_i < α] Q_i + norm_weight · Σ_k 1[‖H_k‖₁ > β] ‖H_k‖₁, with α and β the batch means of Q_i and of
    the columns' l1 norms, which take no gradient; H is h [N,d] with rows of unit length. Scalar. Source: equation 3.
    """
    sound = 0 <= weight < math.inf and 0 <= norm_weight < math.inf
    expect(sound, "weight, norm_weight", "values of at least 0", (weight, norm_weight))
    _expect_features(h, epsilon)
    expect(h.shape[0] > 0, "h", "at least one sample", "none")
    mask = _checked_mask(mask, h)
    h, _ = rows_scaled(h.float())
    quality = _q_score(h, mask, epsilon)
    norms = torch.nn.functional.normalize(h, dim=1).abs().sum(0)
    low = quality < quality.detach().mean()
    common = norms > norms.detach().mean()
    return norm_weight * (norms * common).sum() - weight * (quality * low).mean()


def _threshold(h: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, μ + ε·σ, and length of each sample, [N,1] each."""
    d = h.shape[1]
    mean, square = h.mean(1, keepdim=True), torch.linalg.vecdot(h, h)[:, None]
    variance = square / d - mean**2
    unsteady = (variance < STEADY * mean**2)[:, 0]
    if bool(unsteady.any()):  # nearly equal features: the difference of two large numbers says nothing
        variance = variance.masked_scatter(unsteady[:, None], h[unsteady].var(1, correction=0, keepdim=True))
    deviation = variance.clamp(min=0).sqrt()
    # Where all features are equal none stands out, whatever rounding makes of their mean.
    deviation = torch.where(deviation > rounding(h.dtype) * mean.abs(), deviation, torch.inf)
    return mean, mean + epsilon * deviation, square.clamp(min=TINY).sqrt()


def _device(h: Features) -> torch.device:
    return h.device if isinstance(h, Tensor) else torch.device("cpu")


def _parts(h: Features, epsilon: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Float tensors of a few rows each, and room of the same shape to work in.

    All parts share one place, as all rooms do: whoever wants to keep one has to copy it.
    """
    rows, d = min(len(h), max(1, CHUNK_BYTES // (4 * h.shape[1]))), h.shape[1]
    double = h.dtype in (torch.float64, np.float64)
    room = torch.empty(rows, d, device=_device(h), dtype=torch.float64 if double else torch.float32)
    if isinstance(h, Tensor):
        for part in h.split(rows):
            _expect_features(part, epsilon)
            yield rows_scaled(floats(part.detach()))[0], room[: len(part)]
        return
    buffer = np.empty((rows, d), np.float64 if double else np.float32)
    with _rows_into(h) as read:
        for start in range(0, len(h), len(buffer)):
            part = buffer[: len(h) - start]
            read(start, part)
            tensor = torch.from_numpy(part)
            _expect_features(tensor, epsilon)
            yield rows_scaled(tensor)[0], room[: len(part)]


@contextlib.contextmanager
def _rows_into(h: np.ndarray) -> Iterator[Callable[[int, np.ndarray], None]]:
    """How to fill rows from a start. A float32 map is read from its file, since touched pages count as memory."""
    if not (isinstance(h, np.memmap) and h.dtype == np.float32 and h.flags.c_contiguous and h.base is h._mmap):
        yield lambda start, into: np.copyto(into, h[start : start + len(into)], casting="same_kind")
        return
    with Path(h.filename).open("rb", buffering=0) as file:

        def read(start: int, into: np.ndarray) -> None:
            file.seek(h.offset + start * into.shape[1] * into.itemsize)
            view = memoryview(into).cast("B")
            while view:  # a read may stop early
                got = file.readinto(view)
                expect(got > 0, "h", f"{h.shape} floats in {h.filename}", "a file that ends before")
                view = view[got:]

        yield read


def _expect_matrix(h: Features) -> None:
    """Refuse what is no matrix of floats with at least one sample, by its description alone."""
    if isinstance(h, np.ndarray):
        kind = np.issubdtype(h.dtype, np.floating)
    else:
        expect_tensor(h, "h")
        kind = h.is_floating_point()
    expect(h.ndim == 2 and len(h) > 0, "h", "shape [N, d] with at least one sample", list(h.shape))
    expect(kind and h.shape[1] >= 2, "h", "floats, at least two features", f"{h.dtype} {list(h.shape)}")


def _checked_mask(mask: Tensor, h: Features) -> Tensor:
    """The mask where h is."""
    expect_shape(mask, "mask", h.shape[1])
    expect(mask.dtype == torch.bool and bool(mask.any()), "mask", "bool, at least one feature", mask.dtype)
    return mask.to(_device(h))


def _expect_features(h: Tensor, epsilon: float) -> None:
    expect_shape(h, "h", "N", "d")
    expect(
        h.is_floating_point() and h.shape[1] >= 2, "h", "floats, at least two features", f"{h.dtype} {list(h.shape)}"
    )
    expect(epsilon >= 0, "epsilon", "a value of at least 0", epsilon)
    if not bool(torch.isfinite(h.detach().sum())):  # a sum is finite where everything is, unless it is too large
        expect_finite(h, "h")
