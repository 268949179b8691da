import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sslnb.metrics import collapse
from sslnb.metrics.collapse import neural_collapse


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def classes(sizes: list[int], d: int, noise: float = 0.5) -> tuple[Tensor, Tensor]:
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return draw(len(sizes), d)[labels] + noise * draw(len(labels), d, seed=1) + 2, labels


def naive(h: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> list[float]:
    """Papyan et al. 2020, by whole covariance matrices."""
    x, y, w, b = h.double().numpy(), labels.numpy(), weight.double().numpy(), bias.double().numpy()
    k, mean = len(w), x.mean(0)
    means = np.stack([x[y == c].mean(0) for c in range(k)])
    m = means - mean
    within = sum(np.outer(row - means[c], row - means[c]) for row, c in zip(x, y, strict=True)) / len(x)
    between = sum(np.outer(row, row) for row in m) / k
    lengths = [math.sqrt(row @ row) for row in m]
    cosines = [m[i] @ m[j] / lengths[i] / lengths[j] for i in range(k) for j in range(i)]
    linear = [np.argmax(w @ row + b) for row in x]
    nearest = [np.argmin([((row - centre) ** 2).sum() for centre in means]) for row in x]
    return [
        np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / k,
        np.std(lengths) / np.mean(lengths),
        np.std(cosines),
        np.mean([abs(cosine + 1 / (k - 1)) for cosine in cosines]),
        ((w / np.linalg.norm(w) - m / np.linalg.norm(m)) ** 2).sum(),
        np.mean([a != b for a, b in zip(linear, nearest, strict=True)]),
    ]


CASES = pytest.mark.parametrize(
    ("sizes", "d"), [([20, 20, 20], 8), ([5, 30, 12, 9], 6), ([15] * 6, 3), ([7, 11], 4)], ids=str
)


@CASES
def test_neural_collapse_equals_the_naive_version(sizes, d):
    h, labels = classes(sizes, d)
    weight, bias = draw(len(sizes), d, seed=2), draw(len(sizes), seed=3)
    assert list(neural_collapse(h, labels, weight, bias)) == pytest.approx(naive(h, labels, weight, bias), rel=1e-6)


@CASES
def test_neural_collapse_agrees_with_ssrlib(sizes, d):
    theirs = pytest.importorskip(
        "ssrlib.processing.neural_collapse", reason="ssrlib is not installed: see tests/requirements.txt"
    )
    h, labels = classes(sizes, d)
    weight, bias = draw(len(sizes), d, seed=2).double(), draw(len(sizes), seed=3).double()
    expected = theirs.NeuralCollapseProcessor().process(
        h.double().numpy(), labels.numpy(), weight.numpy(), bias.numpy()
    )
    assert list(neural_collapse(h.double(), labels, weight, bias)) == pytest.approx(list(expected), rel=1e-6)


def test_a_simplex_with_itself_as_classifier_has_collapsed_completely():
    simplex = torch.eye(5) - 1 / 5
    labels = torch.arange(50) % 5
    found = neural_collapse(3 * simplex[labels] + 1, labels, 7 * simplex)
    assert list(found) == pytest.approx([0] * 6, abs=1e-6)
    orthogonal = neural_collapse(torch.eye(5, 9)[labels], labels)  # its means about their mean are the simplex
    assert list(orthogonal[:4]) == pytest.approx([0] * 4, abs=1e-6)
    assert math.isnan(orthogonal.nc3) and math.isnan(orthogonal.nc4)


def test_each_number_sees_its_own_departure_from_collapse():
    simplex, labels = torch.eye(4) - 1 / 4, torch.arange(4000) % 4
    noisy = neural_collapse(simplex[labels] + 0.1 * draw(4000, 4), labels)
    # Σ_W = 0.01 I, Σ_B has three eigenvalues of 1/4: (3 · 0.01 · 4) / 4.
    assert noisy.nc1 == pytest.approx(0.03, rel=0.05) and noisy.equinorm < 0.02
    longer = simplex * torch.tensor([[1.0], [1.0], [1.0], [3.0]])
    assert neural_collapse(longer[labels], labels).equinorm > 0.1
    opposite = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    square = neural_collapse(opposite[labels], labels)
    assert square.equinorm == pytest.approx(0, abs=1e-9)
    assert square.max_angle == pytest.approx((2 * 2 / 3 + 4 / 3) / 6)  # cosines of −1 twice and 0 four times
    assert neural_collapse(simplex[labels], labels, -simplex).nc3 == pytest.approx(4)
    assert neural_collapse(simplex[labels], labels, -simplex).nc4 == 1
    assert neural_collapse(simplex[labels], labels, simplex, torch.tensor([9.0, 0, 0, 0])).nc4 == pytest.approx(0.75)


def test_numbers_without_a_classifier_ignore_order_scale_rotation_and_shift(monkeypatch):
    h, labels = classes([30, 10, 20], 5)
    expected = list(neural_collapse(h, labels)[:4])
    rotation = torch.linalg.qr(draw(5, 5, seed=4)).Q
    for changed, label in ((h.flip(0), labels.flip(0)), (9 * h, labels), (h @ rotation, labels), (h - 5, labels)):
        assert list(neural_collapse(changed, label)[:4]) == pytest.approx(expected, rel=1e-4)
    monkeypatch.setattr(collapse, "ROWS", 7)
    assert list(neural_collapse(h, labels)[:4]) == pytest.approx(expected, rel=1e-10)


H, LABELS = draw(6, 3), torch.arange(6) % 2


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: neural_collapse(torch.ones(6), LABELS), r"h: expected shape \[N, d\], got shape \[6\]"),
        (lambda: neural_collapse(H, LABELS[:4]), r"labels: expected shape \[6\], got shape \[4\]"),
        (lambda: neural_collapse(H[:0], LABELS[:0]), r"h: expected at least one sample and feature, got shape \[0, "),
        (lambda: neural_collapse(H / 0, LABELS), "h: expected finite values"),
        (lambda: neural_collapse(H, LABELS.float()), "labels: expected integers"),
        (lambda: neural_collapse(H, LABELS - 1), r"labels: expected values in 0\.\.\d+, got values from -1 to 0"),
        (lambda: neural_collapse(H, 0 * LABELS), "labels: expected at least 2 classes, got 1"),
        (lambda: neural_collapse(H, 2 * LABELS), r"labels: expected samples of each class, got \[3, 0, 3\]"),
        (lambda: neural_collapse(torch.ones(6, 3), LABELS), "h: expected class means that differ from the mean of all"),
        (lambda: neural_collapse(H, LABELS, torch.ones(3, 3)), r"weight: expected shape \[2, 3\], got shape \[3, 3\]"),
        (lambda: neural_collapse(H, LABELS, torch.ones(2, 3), torch.ones(3)), r"bias: expected shape \[2\]"),
        (lambda: neural_collapse(H, LABELS, torch.zeros(2, 3)), "weight: expected weights that are not all 0"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
