import math

import pytest
import torch
from sklearn.metrics import roc_auc_score, top_k_accuracy_score

from sslnb.features.scores import auc, scores, top_k


def outputs(n: int = 60, classes: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    return torch.randn(n, classes, generator=generator) + torch.nn.functional.one_hot(labels, classes), labels


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k_is_scikit_learns(k):
    logits, labels = outputs()
    assert top_k(logits, labels, k) == pytest.approx(top_k_accuracy_score(labels, logits, k=k))


def test_all_classes_are_always_enough_and_equal_logits_say_nothing():
    logits, labels = outputs()
    assert top_k(logits, labels, 5) == 1.0
    assert top_k(torch.zeros(8, 4), torch.arange(8) % 4, 1) == 0.0


def test_the_auc_is_scikit_learns_of_softmax_and_0_5_without_knowledge():
    logits, labels = outputs()
    assert auc(logits, labels) == pytest.approx(
        roc_auc_score(labels, logits.double().softmax(1), multi_class="ovr", average="macro")
    )
    assert auc(torch.zeros(10, 5), torch.arange(10) % 5) == 0.5
    two, which = outputs(classes=2)
    assert auc(two, which) == pytest.approx(roc_auc_score(which, (two[:, 1] - two[:, 0]).double().sigmoid()))


def test_scores_are_the_accuracies_and_the_auc():
    logits, labels = outputs(classes=2)
    found = scores(logits, labels)
    assert found == [top_k(logits, labels, 1), 1.0, 1.0, auc(logits, labels)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: top_k(x, y, 6), r"k: expected a value in 1..5, got 6"),
        (lambda x, y: top_k(x, y[:3]), "labels: expected shape"),
        (lambda x, y: auc(x, y % 3), "labels: expected all 5 classes, at least 2, got 3"),
        (lambda x, y: auc(x[:, :1], y * 0), "labels: expected all 1 classes, at least 2"),
        (lambda x, y: auc(x * math.nan, y), "logits: expected finite"),
        (lambda x, y: top_k(x[:0], y[:0]), "logits: expected at least one sample"),
        (lambda x, y: top_k(x, y + 1), r"labels: expected values in 0..4"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call(*outputs())
