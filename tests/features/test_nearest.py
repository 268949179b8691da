import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from sslnb.features.nearest import nearest_class_mean


def clusters(n: int, apart: float = 3.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    return torch.randn(n, 5, generator=generator) + apart * torch.nn.functional.one_hot(labels, 5), labels


def test_the_most_likely_class_is_scikit_learns_nearest_centroid() -> None:
    (train, labels), (x, _) = clusters(80), clusters(60, seed=1)
    p = nearest_class_mean(train, labels, x)
    assert p.shape == (60, 4) and p.dtype == torch.float32
    torch.testing.assert_close(p.sum(1), torch.ones(60))
    expected = NearestCentroid().fit(train.numpy(), labels.numpy()).predict(x.numpy())
    assert (p.argmax(1).numpy() == expected).all()


def test_confidence_is_about_accuracy() -> None:
    for apart in (0.5, 2.0, 6.0):
        (train, labels), (x, own) = clusters(400, apart), clusters(400, apart, 1)
        p = nearest_class_mean(train, labels, x)
        right = float((p.argmax(1) == own).double().mean())
        assert float(p.amax(1).mean()) == pytest.approx(right, abs=0.08)


def test_units_do_not_matter() -> None:
    (train, labels), (x, _) = clusters(80), clusters(40, seed=1)
    torch.testing.assert_close(nearest_class_mean(train, labels, x), nearest_class_mean(7 * train, labels, 7 * x))


def test_random_labels_are_near_ignorance() -> None:
    train, _ = clusters(200, 0.0)
    labels = torch.from_numpy(np.random.default_rng(0).permutation(np.arange(200) % 4))
    assert float(nearest_class_mean(train, labels, train[:50]).max()) < 0.5


def test_features_that_do_not_vary_say_nothing() -> None:
    p = nearest_class_mean(torch.full((60, 3), 0.1), torch.arange(60) % 4, torch.full((5, 3), 0.1))
    torch.testing.assert_close(p, torch.full((5, 4), 0.25))


def test_bad_input_is_refused() -> None:
    train, labels = clusters(8)
    with pytest.raises(ValueError, match="labels: expected at least two samples of each class"):
        nearest_class_mean(train[:5], labels[:5], train)
    with pytest.raises(ValueError, match="x: expected shape"):
        nearest_class_mean(train, labels, train[:, :3])
    with pytest.raises(ValueError, match="x: expected finite"):
        nearest_class_mean(train, labels, train / 0)
    with pytest.raises(ValueError, match="labels: expected shape"):
        nearest_class_mean(train, labels[:4], train)
