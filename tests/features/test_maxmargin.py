"""The probe without a parameter is the support vector machine where there is one, and the end of the path elsewhere."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC, LinearSVC
from torch import Tensor

from sslnb.features import maxmargin as module
from sslnb.features.maxmargin import max_margin


def blobs(n: int, classes: int, d: int, apart: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % classes
    noise = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return noise + apart * torch.nn.functional.one_hot(labels, d), labels


def leads(probe: module.MaxMargin, x: Tensor, y: Tensor) -> Tensor:
    """By how much the own class leads the next one [N]."""
    logits = x.double() @ probe.weight.T + probe.bias
    own = logits.gather(1, y[:, None])[:, 0]
    return own - logits.scatter(1, y[:, None], -math.inf).amax(1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_two_classes_it_is_the_support_vector_machine(seed: int) -> None:
    x, y = blobs(60, 2, 5, 4.0, seed)
    x = x * torch.tensor([1.0, 2.0, 0.5, 1.0, 0.1])
    probe, peer = max_margin(x, y), SVC(kernel="linear", C=1e9, tol=1e-9).fit(x.numpy(), y.numpy())
    direction = (probe.weight[1] - probe.weight[0]).numpy()
    length = np.linalg.norm(direction)
    assert probe.separable
    np.testing.assert_allclose(direction / length, peer.coef_[0] / np.linalg.norm(peer.coef_), atol=2e-3)
    margin = float(leads(probe, x, y).min()) / length
    assert margin == pytest.approx(1 / np.linalg.norm(peer.coef_), rel=1e-3)


def test_of_many_classes_it_is_that_of_crammer_and_singer() -> None:
    x, y = blobs(200, 5, 20, 6.0)
    probe = max_margin(x, y)
    # liblinear counts the bias as a weight: as one of a large feature it costs next to nothing.
    peer = LinearSVC(multi_class="crammer_singer", C=1e5, tol=1e-8, max_iter=10**6, intercept_scaling=30)
    peer.fit(x.numpy(), y.numpy())
    centred = probe.weight - probe.weight.mean(0)
    theirs = module.MaxMargin(*(torch.from_numpy(v) for v in (peer.coef_, peer.intercept_)), True)
    cosine = float((centred * theirs.weight).sum() / centred.norm() / theirs.weight.norm())
    assert probe.separable and cosine > 1 - 1e-5
    ours = float(leads(probe, x, y).min() / centred.norm())
    assert ours == pytest.approx(float(leads(theirs, x, y).min() / theirs.weight.norm()), rel=1e-3)


def test_longer_features_give_the_same_boundary_and_a_shift_moves_it_along() -> None:
    x, y = blobs(60, 3, 4, 8.0)
    probe, moved = max_margin(x, y), max_margin(4 * x - 7, y)
    torch.testing.assert_close(moved.weight, probe.weight / 4, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(leads(moved, 4 * x - 7, y), leads(probe, x, y), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("d", [4, 12])
def test_without_a_margin_it_is_nearly_the_classifier_of_greatest_likelihood(d: int) -> None:
    x, y = blobs(400, 3, d, 1.5)
    probe, peer = max_margin(x, y), LogisticRegression(C=1e6, max_iter=10**4, tol=1e-8).fit(x.numpy(), y.numpy())
    assert not probe.separable
    centred = probe.weight - probe.weight.mean(0)
    np.testing.assert_allclose(centred, peer.coef_ - peer.coef_.mean(0), atol=5e-3)


def test_the_path_can_be_left_at_its_decay_and_leads_to_the_machine() -> None:
    x, y = blobs(60, 3, 4, 8.0)
    end = max_margin(x, y).weight
    far, near = (max_margin(x, y, decay=decay, hard=False) for decay in (1e-1, 1e-5))
    assert far.separable and near.separable
    directions = [(weight - weight.mean(0)).flatten() for weight in (far.weight, near.weight, end)]
    cosines = [float(torch.cosine_similarity(direction, directions[-1], 0)) for direction in directions[:2]]
    assert cosines[0] < cosines[1] and cosines[1] > 0.98


def test_the_decay_is_that_of_the_other_probes() -> None:
    x, y = blobs(300, 3, 4, 1.5)
    probe = max_margin(x, y, decay=0.05)
    # scikit-learn sums over samples and weighs the sum by C, biases free in both.
    peer = LogisticRegression(C=1 / (0.05 * 300), max_iter=10**4, tol=1e-8).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(probe.weight, peer.coef_, atol=1e-3)


def test_features_that_say_nothing_new_get_no_say() -> None:
    x, y = blobs(80, 3, 4, 6.0)
    probe = max_margin(torch.cat([x, torch.full((80, 1), 3.0)], 1), y)
    assert float(probe.weight[:, -1].abs().max()) < 1e-4
    torch.testing.assert_close(probe.weight[:, :4], max_margin(x, y).weight, rtol=1e-2, atol=1e-3)
    twice = max_margin(torch.cat([x, x], 1), y)
    torch.testing.assert_close(twice.weight[:, :4], twice.weight[:, 4:], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": torch.zeros(8, dtype=torch.long)}, "labels: expected at least two classes"),
        ({"labels": torch.arange(7)}, r"labels: expected shape \[8\]"),
        ({"labels": torch.arange(8) - 1}, "labels: expected values in"),
        ({"features": torch.zeros(8, 0)}, "features: expected at least one sample and feature"),
        ({"features": torch.full((8, 2), math.nan)}, "features: expected finite"),
        ({"decay": 0.0}, "decay: expected a value above 0"),
    ],
)
def test_what_it_cannot_use_is_refused_by_name(changes: dict, message: str) -> None:
    good = {"features": torch.randn(8, 2), "labels": torch.arange(8) % 2}
    with pytest.raises(ValueError, match=message):
        max_margin(**good | changes)
