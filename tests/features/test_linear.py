import inspect
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from sslnb.features import linear as module
from sslnb.features.linear import LinearProbe, LinearProbeGrid
from sslnb.features.mlp import MLPProbe
from sslnb.features.nearest import knn_predict
from sslnb.features.scores import above_chance, top1
from sslnb.features.standardize import Standardizer

tried = settings(deadline=None, max_examples=25)
Data = tuple[Tensor, Tensor]


def blobs(n: int, seed: int, *, classes: int = 4, d: int = 6, spread: float = 1.0) -> Data:
    """Features [n,d] around one centre per class."""
    centres = 2 * torch.randn(classes, d, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(n) % classes
    return centres[labels] + spread * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), labels


def linear(weight: Tensor, bias: Tensor) -> LinearProbe:
    return LinearProbe(weight, bias, 0.1, 0.0, True, torch.zeros(1, 1))


# The grid


def trained_by_torch(grid: LinearProbeGrid, x: Tensor, y: Tensor, rate: float, decay: float) -> tuple[Tensor, Tensor]:
    """One probe by autograd and torch's own SGD and cosine."""
    layer = torch.nn.Linear(x.shape[1], int(y.max()) + 1)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    groups = [{"params": [layer.weight], "weight_decay": decay}, {"params": [layer.bias]}]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9)
    steps = len(x) // grid.batch_size
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, grid.epochs * steps)
    generator = torch.Generator().manual_seed(grid.seed)
    for _ in range(grid.epochs):
        order = torch.randperm(len(x), generator=generator)
        for batch in order[: steps * grid.batch_size].split(grid.batch_size):
            optimizer.zero_grad()
            F.cross_entropy(layer(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return layer.weight.detach(), layer.bias.detach()


def test_the_stacked_grid_equals_every_probe_trained_alone_and_by_torch():
    x, y = blobs(70, 0)
    grid = LinearProbeGrid(epochs=4, batch_size=16, seed=3)
    rates = torch.tensor([0.01, 0.01, 0.1, 0.1, 1.0, 1.0])
    decays = torch.tensor([1e-4, 1e-1, 1e-4, 1e-1, 1e-4, 1e-2])
    weight, bias = grid.train(x, y, rates, decays, 4)
    assert weight.shape == (6, 4, 6) and bias.shape == (6, 4)
    for g in range(6):
        alone = grid.train(x, y, rates[g : g + 1], decays[g : g + 1], 4)
        torch.testing.assert_close(weight[g], alone[0][0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(bias[g], alone[1][0], atol=1e-5, rtol=1e-4)
        expected = trained_by_torch(grid, x, y, float(rates[g]), float(decays[g]))
        torch.testing.assert_close(weight[g], expected[0], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(bias[g], expected[1], atol=1e-4, rtol=1e-3)


def test_the_grid_holds_every_candidates_validation_accuracy_and_the_best_is_trained_again_on_both():
    train, val = blobs(120, 0, spread=2.0), blobs(60, 1, spread=2.0)
    grid = LinearProbeGrid((1e-4, 0.1, 1.0), (1e-4, 1.0), epochs=3, batch_size=32)
    found = grid.fit(*train, *val)
    for i, rate in enumerate(grid.learning_rates):
        for j, decay in enumerate(grid.weight_decays):
            weight, bias = grid.train(*train, torch.tensor([rate]), torch.tensor([decay]), 4)
            assert float(found.grid[i, j]) == pytest.approx(linear(weight[0], bias[0]).accuracy(*val), abs=1e-6)
    best = int(found.grid.argmax())
    assert (found.learning_rate, found.weight_decay) == (grid.learning_rates[best // 2], grid.weight_decays[best % 2])
    both = torch.cat([train[0], val[0]]), torch.cat([train[1], val[1]])
    chosen = torch.tensor([found.learning_rate]), torch.tensor([found.weight_decay])
    weight, bias = grid.train(*both, *chosen, 4)
    assert torch.equal(found.weight, weight[0]) and torch.equal(found.bias, bias[0])
    assert found.converged


def test_all_probes_of_a_grid_are_handed_out_and_not_trained_again(monkeypatch):
    train, val = blobs(80, 0, spread=2.0), blobs(40, 1, spread=2.0)
    grid = LinearProbeGrid((0.01, 1e30, 1.0), (1e-4, 1.0), epochs=3, batch_size=20)
    candidates, alone = grid.fit_all(*train, *val), grid.fit_decays(*train, *val)
    assert candidates.weight.shape == (6, 4, 6) and candidates.bias.shape == (6, 4)
    for g, (rate, decay) in enumerate([(r, d) for r in grid.learning_rates for d in grid.weight_decays]):
        weight, _ = grid.train(*train, torch.tensor([rate]), torch.tensor([decay]), 4)
        torch.testing.assert_close(candidates.weight[g], weight[0], equal_nan=True)
        score = float(candidates.grid.flatten()[g])
        assert bool(candidates.converged.flatten()[g]) == above_chance(score, val[1])
    sizes, train_stack = [], LinearProbeGrid.train
    watched = lambda self, x, y, rates, *rest: (sizes.append(len(rates)), train_stack(self, x, y, rates, *rest))[1]  # noqa: E731
    monkeypatch.setattr(LinearProbeGrid, "train", watched)
    again = grid.fit_decays(*train, *val, candidates=candidates)
    assert sizes == [2]  # the chosen ones, on both splits
    assert all(torch.equal(again[decay].weight, alone[decay].weight) for decay in grid.weight_decays)


def test_among_equals_the_first_candidate_is_chosen():
    train, val = blobs(80, 0, spread=0.1), blobs(40, 1, spread=0.1)
    found = LinearProbeGrid((0.1, 0.5, 1.0), (1e-5, 1e-4), epochs=5, batch_size=20).fit(*train, *val)
    assert (found.grid == 1).all() and (found.learning_rate, found.weight_decay) == (0.1, 1e-5)


def test_accuracy_comes_within_a_point_of_a_tuned_logistic_regression():
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    features, labels = torch.tensor(digits.data[order]).float(), torch.tensor(digits.target[order]).long()
    standardize = Standardizer().fit(features[:1000]).transform
    x, y = standardize(features), labels
    train, val, test = ((x[part], y[part]) for part in (slice(0, 1000), slice(1000, 1300), slice(1300, None)))
    ours = LinearProbeGrid().fit(*train, *val)
    scores = {}
    for c in 10.0 ** np.arange(-1, 4):
        fitted = LogisticRegression(C=c, max_iter=300).fit(train[0].numpy(), train[1].numpy())
        scores[fitted.score(val[0].numpy(), val[1].numpy())] = c
    both = torch.cat([train[0], val[0]]).numpy(), torch.cat([train[1], val[1]]).numpy()
    peer = LogisticRegression(C=scores[max(scores)], max_iter=300).fit(*both)
    assert ours.converged
    assert ours.accuracy(*test) >= peer.score(test[0].numpy(), test[1].numpy()) - 0.01
    assert ours.accuracy(*test) > 0.93


def test_the_validation_split_alone_chooses():
    train, val = blobs(120, 0), blobs(60, 1)
    grid = LinearProbeGrid((0.0, 0.5), (1e-4,), epochs=3, batch_size=30)  # a rate of 0 always names class 0
    assert grid.fit(*train, *val).learning_rate == 0.5
    assert grid.fit(*train, val[0], torch.zeros(60, dtype=torch.long)).learning_rate == 0.0
    shuffled = val[1][torch.randperm(60, generator=torch.Generator().manual_seed(0))]
    assert not torch.equal(grid.fit(*train, val[0], shuffled).grid, grid.fit(*train, *val).grid)


@pytest.mark.parametrize("kind", [LinearProbeGrid, MLPProbe])
def test_no_probe_ever_sees_test_data(kind):
    assert list(inspect.signature(kind.fit).parameters) == ["self", "train", "train_labels", "val", "val_labels"]


def test_diverged_candidates_are_nan_and_never_chosen():
    train, val = blobs(80, 0), blobs(40, 1)
    found = LinearProbeGrid((1e30, 0.1), (1e-4, 1e20), epochs=3, batch_size=20).fit(*train, *val)
    assert math.isnan(found.grid[0, 1]) and math.isnan(found.grid[1, 1])
    assert math.isfinite(found.grid[1, 0])
    assert found.learning_rate == 0.1 and found.weight_decay == 1e-4 and found.converged
    hopeless = LinearProbeGrid((1e30,), (1e20,), epochs=3, batch_size=20).fit(*train, *val)
    assert hopeless.grid.isnan().all() and not hopeless.converged


@pytest.mark.parametrize("classes", [2, 10])
def test_a_probe_on_random_labels_has_not_converged(classes):
    g = torch.Generator().manual_seed(0)
    features = torch.randn(1400, 16, generator=g)
    labels = torch.randint(classes, (1400,), generator=g)
    grid = LinearProbeGrid((0.01, 0.1, 1.0), epochs=5)
    assert not grid.fit(features[:1000], labels[:1000], features[1000:], labels[1000:]).converged
    assert (
        not MLPProbe(16, (1e-3,), epochs=5)
        .fit(features[:1000], labels[:1000], features[1000:], labels[1000:])
        .converged
    )


def test_above_chance_means_two_standard_errors_above_the_commonest_class():
    labels = torch.tensor([0] * 50 + [1] * 50)
    assert above_chance(0.61, labels) and not above_chance(0.59, labels)
    skewed = torch.tensor([0] * 90 + [1] * 10)
    assert above_chance(0.97, skewed) and not above_chance(0.95, skewed)
    assert not above_chance(math.nan, labels)


def test_the_number_of_classes_is_that_of_the_training_labels():
    train, val = blobs(80, 0), blobs(40, 1)
    few = val[1] < 2
    found = LinearProbeGrid((0.1,), (1e-4,), epochs=2, batch_size=20).fit(*train, val[0][few], val[1][few])
    assert found.weight.shape == (4, 6) and found.bias.shape == (4,)
    gap = torch.where(train[1] == 3, 5, train[1])  # classes 3 and 4 have no sample
    assert LinearProbeGrid((0.1,), (1e-4,), epochs=2).fit(train[0], gap, val[0][few], val[1][few]).weight.shape == (
        6,
        6,
    )


def test_the_seed_decides_the_batches():
    train, val = blobs(80, 0), blobs(40, 1)
    weights = [LinearProbeGrid((0.1,), (0.0,), 2, 20, seed).fit(*train, *val).weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


GOOD = dict(zip(("train", "train_labels", "val", "val_labels"), (*blobs(40, 0), *blobs(20, 1)), strict=True))


@pytest.mark.parametrize("kind", [LinearProbeGrid(epochs=1), MLPProbe(epochs=1)])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_labels": torch.zeros(40, dtype=torch.long)},
            r"train_labels: expected at least two classes, got \[0\]",
        ),
        ({"train_labels": torch.arange(40) - 1}, "train_labels: expected values in"),
        ({"train_labels": torch.arange(39)}, r"train_labels: expected shape \[40\]"),
        ({"val_labels": torch.full((20,), 4)}, r"val_labels: expected values in 0\.\.3"),
        ({"val_labels": torch.full((20,), -1)}, r"val_labels: expected values in 0\.\.3"),
        ({"val": torch.zeros(20, 5)}, r"val: expected shape \[N, 6\], got shape \[20, 5\]"),
        ({"val": torch.zeros(0, 6), "val_labels": torch.zeros(0).long()}, "val: expected at least one sample"),
        ({"train": torch.zeros(0, 6), "train_labels": torch.zeros(0).long()}, "train_labels: expected at least two"),
        ({"train": torch.full((40, 6), math.nan)}, "train: expected finite"),
        ({"val": torch.full((20, 6), math.inf)}, "val: expected finite"),
        ({"train_labels": torch.arange(40) % 4 / 1.0}, "train_labels: expected integers"),
    ],
)
def test_unusable_data_are_refused_by_name(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        kind.fit(**{**GOOD, **changes})


@pytest.mark.parametrize(
    ("kind", "settings_", "name"),
    [
        (LinearProbeGrid, {"learning_rates": ()}, "learning_rates"),
        (LinearProbeGrid, {"learning_rates": (-0.1,)}, "learning_rates"),
        (LinearProbeGrid, {"weight_decays": (-1e-4,)}, "weight_decays"),
        (LinearProbeGrid, {"weight_decays": ()}, "weight_decays"),
        (LinearProbeGrid, {"epochs": 0}, "epochs"),
        (LinearProbeGrid, {"batch_size": 0}, "batch_size"),
        (MLPProbe, {"hidden": 0}, "hidden"),
        (MLPProbe, {"epochs": 0}, "epochs"),
        (MLPProbe, {"learning_rates": ()}, "learning_rates"),
    ],
)
def test_impossible_settings_are_refused_by_name(kind, settings_, name):
    with pytest.raises(ValueError, match=f"{name}: expected at least"):
        kind(**settings_).fit(**GOOD)


# What a probe answers


def test_predictions_and_accuracies_equal_the_naive_loop(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 7)
    (x, y), probe = blobs(45, 0, spread=3.0), linear(blobs(4, 5)[0], torch.tensor([0.1, -0.2, 0.3, 0.0]))
    y[:25] = 1  # imbalanced
    predicted = [
        int(torch.stack([w @ v + b for w, b in zip(probe.weight, probe.bias, strict=True)]).argmax()) for v in x
    ]
    right = [a == b for a, b in zip(predicted, y.tolist(), strict=True)]
    assert probe.predict(x).tolist() == predicted
    assert probe.accuracy(x, y) == pytest.approx(sum(right) / 45)
    per_class = []
    for label in range(4):
        of_class = [r for r, t in zip(right, y.tolist(), strict=True) if t == label]
        per_class.append(sum(of_class) / len(of_class))
    assert probe.accuracy(x, y, per_class=True) == pytest.approx(sum(per_class) / 4)
    assert probe.accuracy(x, y, per_class=True) != pytest.approx(probe.accuracy(x, y), abs=0.01)
    with pytest.raises(ValueError, match=r"x: expected shape \[N, 6\]"):
        probe.predict(x[:, :3])
    with pytest.raises(ValueError, match=r"y: expected shape \[45\]"):
        probe.accuracy(x, y[:3])


def test_per_class_accuracy_ignores_how_often_a_class_occurs():
    predicted, labels = torch.tensor([0, 0, 0, 0, 1, 0]), torch.tensor([0, 0, 0, 0, 1, 1])
    assert top1(predicted, labels) == pytest.approx(5 / 6)
    assert top1(predicted, labels, per_class=True) == pytest.approx(0.75)


# The multi-layer probe


def xor(n: int, seed: int) -> Data:
    x = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return x, (x[:, 0] * x[:, 1] > 0).long()


def test_a_multi_layer_probe_solves_what_no_linear_one_can():
    train, val, test = xor(600, 0), xor(300, 1), xor(300, 2)
    state = torch.get_rng_state()
    deep = MLPProbe(32, (3e-3, 3e-2), epochs=40).fit(*train, *val)
    assert torch.equal(torch.get_rng_state(), state)
    assert deep.converged and deep.accuracy(*test) > 0.93
    flat = LinearProbeGrid((0.1, 1.0), (1e-4,), epochs=10).fit(*train, *val)
    assert flat.accuracy(*test) < 0.75
    assert deep.accuracy(*test, per_class=True) == pytest.approx(top1(deep(test[0]).argmax(1), test[1], per_class=True))
    again = MLPProbe(32, (3e-3, 3e-2), epochs=40).fit(*train, *val)
    assert torch.equal(deep(test[0]), again(test[0]))
    assert not any(p.requires_grad for p in deep.parameters())


def test_a_multi_layer_probe_chooses_its_rate_on_val():
    train, val = xor(400, 0), xor(200, 1)
    assert MLPProbe(16, (1e-7, 3e-2), epochs=15).fit(*train, *val).learning_rate == 3e-2
    untrained = MLPProbe(16, (0.0,), epochs=15).fit(*train, *val)
    whims = untrained(val[0]).argmax(1)  # labels that only the untrained network gets right
    assert MLPProbe(16, (0.0, 3e-2), epochs=15).fit(*train, val[0], whims).learning_rate == 0.0
    fresh = MLPProbe(16, (1e-3,))
    assert math.isnan(fresh.learning_rate) and not fresh.converged


# Nearest neighbours


def naive_knn(train: Tensor, labels: Tensor, x: Tensor, k: int, temperature: float) -> list[dict[int, float]]:
    """Votes per class, one sample and neighbour at a time, in float64."""
    found = []
    for v in x.double():
        similarity = [float(v @ t / (v.norm() * t.norm())) for t in train.double()]
        votes: dict[int, float] = {}
        for i in sorted(range(len(train)), key=lambda i: -similarity[i])[:k]:
            votes[int(labels[i])] = votes.get(int(labels[i]), 0.0) + math.exp(similarity[i] / temperature)
        found.append(votes)
    return found


@given(st.integers(0, 2**31), st.integers(1, 30), st.sampled_from([0.07, 0.1, 1.0]))
@tried
def test_knn_equals_the_naive_loop(seed, k, temperature):
    (train, labels), (x, _) = blobs(23, seed, spread=3.0), blobs(9, seed + 1, spread=3.0)
    found = knn_predict(train, labels, x, k=k, temperature=temperature).tolist()
    for predicted, votes in zip(found, naive_knn(train, labels, x, k, temperature), strict=True):
        assert votes.get(predicted, 0.0) >= max(votes.values()) * (1 - 1e-4)


def test_one_neighbour_is_that_of_scikit_learn_whatever_the_temperature(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 11)
    (train, labels), (x, _) = blobs(60, 0, spread=3.0), blobs(40, 1, spread=3.0)
    peer = KNeighborsClassifier(1, metric="cosine").fit(train.numpy(), labels.numpy()).predict(x.numpy())
    for temperature in (0.001, 0.1, 10.0):
        assert knn_predict(train, labels, x, k=1, temperature=temperature).tolist() == peer.tolist()


@pytest.mark.parametrize("temperature", [0.001, 0.1])
def test_far_neighbours_vote_too_where_there_are_no_nearer_ones(temperature):
    train, labels = torch.tensor([[1.0, 0.0], [0.9, 0.1]]), torch.tensor([2, 2])
    assert knn_predict(train, labels, torch.tensor([[-1.0, 0.0]]), k=2, temperature=temperature).tolist() == [2]


def test_more_neighbours_than_samples_are_all_samples():
    (train, labels), (x, _) = blobs(12, 0, spread=3.0), blobs(30, 1, spread=3.0)
    assert torch.equal(knn_predict(train, labels, x, k=500), knn_predict(train, labels, x, k=12))


def test_the_length_of_features_does_not_matter_to_knn():
    (train, labels), (x, _) = blobs(40, 0, spread=3.0), blobs(30, 1, spread=3.0)
    lengths = torch.rand(40, 1, generator=torch.Generator().manual_seed(0)) + 0.1
    assert torch.equal(knn_predict(lengths * train, labels, 7 * x, k=5), knn_predict(train, labels, x, k=5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0}, "k: expected at least 1"),
        ({"temperature": 0.0}, "temperature: expected a positive value"),
        ({"x": torch.zeros(3, 5)}, r"x: expected shape \[N, 6\]"),
        ({"train_labels": torch.zeros(3, dtype=torch.long)}, r"train_labels: expected shape \[40\]"),
        ({"train_labels": torch.full((40,), -1)}, "train_labels: expected values"),
        ({"train": torch.zeros(0, 6), "train_labels": torch.zeros(0).long()}, "k: expected .*at least one training"),
        ({"train": torch.full((40, 6), math.nan)}, "train: expected finite"),
        ({"x": torch.full((3, 6), math.nan)}, "x: expected finite"),
    ],
)
def test_knn_refuses_what_it_can_not_use(changes, message):
    good = {"train": GOOD["train"], "train_labels": GOOD["train_labels"], "x": GOOD["val"]}
    with pytest.raises(ValueError, match=message):
        knn_predict(**{**good, **changes})


def test_probes_on_masked_features_are_those_on_the_features_that_are_left():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    x = torch.randn(300, 10, generator=generator) + 2 * torch.nn.functional.one_hot(y, 10)
    masks = torch.stack([torch.arange(10) < 3, torch.arange(10) > 2, torch.ones(10, dtype=torch.bool)])
    grid = LinearProbeGrid(epochs=3)
    rates, decays = torch.full((3,), 0.1), torch.full((3,), 1e-4)
    weight, bias = grid.train(x, y, rates, decays, 3, masks)
    for g, mask in enumerate(masks):
        alone, shift = grid.train(x[:, mask], y, rates[:1], decays[:1], 3)
        torch.testing.assert_close(weight[g][:, mask], alone[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(bias[g], shift[0], atol=1e-5, rtol=1e-4)
        assert not weight[g][:, ~mask].any()
    scores = grid.scores(weight, bias, x, y)
    assert scores[0] > 0.8 > 0.5 > scores[1]
