import importlib
import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sslnb.metrics import attacks
from sslnb.metrics.margins import _class_distances, accuracy_at, effective_accuracy, margins, robust_accuracy

module = importlib.import_module("sslnb.metrics.margins")  # whose name in the package is the function's
NORMS = (1, 2, math.inf)
tried = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**31)


def problem(seed: int, samples: int, features: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weight [K,d], bias [K] and features [N,d] of a random classifier, float64."""
    g = torch.Generator().manual_seed(seed)
    draw = [torch.randn(*shape, generator=g).double() for shape in ((classes, features), (classes,))]
    return *draw, 2 * torch.randn(samples, features, generator=g).double()


problems = st.builds(problem, seeds, st.integers(1, 6), st.integers(1, 7), st.integers(2, 6))


def dual_norm(row: list[float], p: float) -> float:
    if p == 1:
        return max(abs(v) for v in row)
    return math.sqrt(math.fsum(v * v for v in row)) if p == 2 else math.fsum(abs(v) for v in row)


def naive_margins(weight: Tensor, bias: Tensor, features: Tensor, p: float) -> list[float]:
    """The definition, one sample, class and coordinate at a time."""
    found = []
    for x in features.tolist():
        logits = []
        for w, b in zip(weight.tolist(), bias.tolist(), strict=True):
            logits.append(b + math.fsum(wj * xj for wj, xj in zip(w, x, strict=True)))
        top = logits.index(max(logits))
        best = math.inf
        for other in range(len(logits)):
            if other != top:
                between = [a - b for a, b in zip(weight[top].tolist(), weight[other].tolist(), strict=True)]
                best = min(best, (logits[top] - logits[other]) / dual_norm(between, p))
        found.append(best)
    return found


def unit(direction: Tensor, p: float) -> Tensor:
    return direction / direction.norm(p=p, dim=-1, keepdim=True)


def steepest(between: Tensor, p: float) -> Tensor:
    """Direction of unit length in the norm along which the difference of two logits falls fastest."""
    if p == 1:
        largest = between.abs().argmax()
        return -torch.zeros_like(between).index_fill(0, largest, 1) * between[largest].sign()
    return -between / between.norm() if p == 2 else -between.sign()


@given(problems, st.sampled_from(NORMS))
@tried
def test_margins_equal_the_naive_loop(given_problem, p):
    weight, bias, features = given_problem
    found = margins(weight, bias, features, p=p)
    assert found.dtype == features.dtype and found.shape == features.shape[:1]
    torch.testing.assert_close(found, torch.tensor(naive_margins(weight, bias, features, p)).double())


@given(problems, st.sampled_from(NORMS))
@tried
def test_float32_margins_stay_close_to_the_naive_loop(given_problem, p):
    single = [t.float() for t in given_problem]
    expected = torch.tensor(naive_margins(*(t.double() for t in single), p)).float()
    reach = float(single[2].abs().max() * single[0].shape[1] + 1)
    torch.testing.assert_close(margins(*single, p=p), expected, rtol=1e-3, atol=1e-4 * reach)


@given(problems, st.sampled_from(NORMS), seeds)
@tried
def test_the_margin_is_the_smallest_perturbation_that_changes_the_prediction(given_problem, p, seed):
    weight, bias, features = given_problem
    predicted = (features @ weight.T + bias).argmax(1)
    g = torch.Generator().manual_seed(seed)
    for x, top, margin in zip(features, predicted, margins(weight, bias, features, p=p), strict=True):
        others = [k for k in range(len(weight)) if k != top]
        towards = torch.stack([steepest(weight[top] - weight[k], p) for k in others])
        beyond = x + margin * (1 + 1e-3) * towards
        assert ((beyond @ weight.T + bias).argmax(1) != top).any()
        axes = torch.eye(len(x)).double()
        anywhere = torch.randn(50, len(x), generator=g).double()
        directions = torch.cat([towards, axes, -axes, unit(anywhere, p), unit(anywhere.sign(), p)])
        torch.testing.assert_close(directions.norm(p=p, dim=1), torch.ones(len(directions)).double())
        short = x + margin * (1 - 1e-3) * directions
        assert ((short @ weight.T + bias).argmax(1) == top).all()


@given(problems, st.sampled_from(NORMS), seeds, st.floats(0.01, 100))
@tried
def test_margins_ignore_scale_order_of_classes_and_what_all_classes_share(given_problem, p, seed, scale):
    weight, bias, features = given_problem
    g = torch.Generator().manual_seed(seed)
    expected = margins(weight, bias, features, p=p)
    order = torch.randperm(len(weight), generator=g)
    shared = torch.randn(features.shape[1], generator=g).double()
    for changed in ((scale * weight, scale * bias), (weight[order], bias[order]), (weight + shared, bias + 3)):
        torch.testing.assert_close(margins(*changed, features, p=p), expected)


@given(problems, st.sampled_from(NORMS), seeds)
@tried
def test_margins_are_invariant_under_the_isometries_of_their_norm(given_problem, p, seed):
    weight, bias, features = given_problem
    g, d = torch.Generator().manual_seed(seed), features.shape[1]
    if p == 2:
        isometry = torch.linalg.qr(torch.randn(d, d, generator=g).double()).Q
    else:
        isometry = torch.eye(d).double()[torch.randperm(d, generator=g)] * torch.randn(d, generator=g).sign().double()
    moved = margins(weight @ isometry, bias, features @ isometry, p=p)
    torch.testing.assert_close(moved, margins(weight, bias, features, p=p))


@given(problems, st.sampled_from(NORMS))
@tried
def test_labels_make_exactly_the_wrong_predictions_nan(given_problem, p):
    weight, bias, features = given_problem
    labels = torch.arange(len(features)) % len(weight)
    right = (features @ weight.T + bias).argmax(1) == labels
    found = margins(weight, bias, features, p=p, labels=labels)
    assert torch.equal(found.isnan(), ~right)
    assert torch.equal(found[right], margins(weight, bias, features, p=p)[right])


def test_distances_between_nearly_equal_weights_do_not_cancel():
    weight = problem(1, 1, 64, 40)[0].float()
    weight = 100 + 0.01 * weight
    distance = _class_distances(weight, 2).double()
    expected = (weight.double()[:, None] - weight.double()).norm(dim=2)
    torch.testing.assert_close(distance, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
def test_chunks_change_nothing(monkeypatch, p, chunk):
    weight, bias, features = problem(0, 20, 5, 4)
    labels = torch.arange(20) % 4
    whole = margins(weight, bias, features, p=p, labels=labels)
    monkeypatch.setattr(sys.modules[margins.__module__], "CHUNK", chunk)
    torch.testing.assert_close(margins(weight, bias, features, p=p, labels=labels), whole, equal_nan=True)


@pytest.mark.parametrize("p", NORMS)
def test_a_class_of_equal_weights_is_never_reached(p):
    weight = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    x = torch.tensor([[2.0, 0.0], [5.0, 1.0]])
    alone = margins(weight[[0, 2]], torch.zeros(2), x, p=p)
    assert torch.equal(margins(weight, torch.tensor([0.0, -1.0, 0.0]), x, p=p), alone)
    unreachable = margins(weight[:2], torch.tensor([0.0, -1.0]), x, p=p)
    assert unreachable.tolist() == [math.inf, math.inf]


@pytest.mark.parametrize("p", NORMS)
@given(seed=seeds, classes=st.integers(2, 12), features=st.integers(1, 40))
@tried
def test_classes_that_are_tied_everywhere_have_margin_0(p, seed, classes, features):
    weight, bias, x = (t.float() for t in problem(seed, 8, features, classes))
    top = int((x[0] @ weight.T + bias).argmax())
    twice = torch.cat([weight, weight[top : top + 1]]), torch.cat([bias, bias[top : top + 1]])
    assert float(margins(*twice, x[:1], p=p)) == 0


@pytest.mark.parametrize("p", NORMS)
def test_a_tie_has_margin_0_and_all_zero_weights_leave_the_biases_to_decide(p):
    tied = margins(torch.eye(2), torch.zeros(2), torch.tensor([[3.0, 3.0]]), p=p)
    assert tied.tolist() == [0]
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert margins(torch.zeros(3, 3), torch.zeros(3), x, p=p).tolist() == [0] * 4
    assert margins(torch.zeros(3, 3), torch.tensor([0.0, 1.0, 0.5]), x, p=p).tolist() == [math.inf] * 4


def test_known_margins_in_the_plane():
    weight, bias = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([0.0, 0.0])
    x = torch.tensor([[3.0, 4.0], [-4.0, 3.0], [-3.0, -4.0]])
    for p, expected in ((1, 25 / 4), (2, 25 / 5), (math.inf, 25 / 7)):
        torch.testing.assert_close(margins(weight, bias, x, p=p), torch.tensor([expected, 0, expected]))


def test_no_samples_have_no_margins():
    assert margins(torch.eye(2), torch.zeros(2), torch.zeros(0, 2), p=2).shape == (0,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p": 3}, "p: expected 1, 2 or inf, got 3"),
        ({"p": 0}, "p: expected"),
        ({"weight": torch.ones(1, 2), "bias": torch.ones(1)}, "weight: expected at least two classes, got 1"),
        ({"weight": torch.ones(3)}, r"weight: expected shape \[K, d\]"),
        ({"bias": torch.ones(2)}, r"bias: expected shape \[3\], got shape \[2\]"),
        ({"bias": torch.ones(3, 1)}, "bias: expected shape"),
        ({"features": torch.ones(4, 3)}, r"features: expected shape \[N, 2\], got shape \[4, 3\]"),
        ({"features": torch.tensor([[0.0, math.nan]]), "labels": torch.tensor([0])}, "features: expected finite"),
        ({"weight": torch.full((3, 2), math.inf)}, "weight: expected finite"),
        ({"bias": torch.tensor([0, math.nan, 0])}, "bias: expected finite"),
        ({"labels": torch.tensor([0, 1, 2, 3])}, r"labels: expected values in 0\.\.2"),
        ({"labels": torch.tensor([0, 1, -1, 0])}, "labels: expected values"),
        ({"labels": torch.tensor([0, 1])}, r"labels: expected shape \[4\]"),
        ({"labels": torch.zeros(4)}, "labels: expected integers"),
    ],
)
def test_bad_input_is_refused_by_name(changes, message):
    good = {"weight": torch.arange(6.0).view(3, 2), "bias": torch.zeros(3), "features": torch.ones(4, 2), "p": 2}
    with pytest.raises(ValueError, match=message):
        margins(**{**good, **changes})


# Robust accuracy


@given(problems, st.sampled_from(NORMS), seeds)
@tried
def test_robust_accuracy_equals_counting(given_problem, p, seed):
    weight, bias, features = given_problem
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(weight), (len(features),), generator=g)
    margin = margins(weight, bias, features, p=p)
    budgets = torch.cat([torch.rand(5, generator=g).double() * 2, margin, torch.zeros(1).double()])
    budgets = budgets[torch.randperm(len(budgets), generator=g)]  # in no order, and some exactly at a margin
    expected = []
    for budget in budgets:
        survives = (features @ weight.T + bias).argmax(1) == labels
        expected.append(float((survives & ((margin > budget) | (budget == 0))).sum() / len(features)))
    found = robust_accuracy(weight, bias, features, labels, budgets, p=p)
    torch.testing.assert_close(found, torch.tensor(expected).double(), check_dtype=False)


def test_a_sample_exactly_a_budget_away_is_lost():
    weight, bias = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.zeros(2)
    x, labels = torch.tensor([[3.0, 7.0], [2.0, 0.0]]), torch.tensor([0, 0])
    found = robust_accuracy(weight, bias, x, labels, [1.99, 2.0, 2.01, 3.0], p=math.inf)
    assert found.tolist() == [1, 0.5, 0.5, 0]


@pytest.mark.parametrize("p", NORMS)
def test_budget_0_is_the_clean_accuracy_even_on_ties(p):
    weight, bias = torch.eye(3), torch.zeros(3)
    x = torch.tensor([[1.0, 1.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
    labels = (x @ weight.T + bias).argmax(1)
    labels[1] = 1
    found = robust_accuracy(weight, bias, x, labels, [0, 1e-6], p=p)
    assert found.tolist() == [0.75, 0.25]
    tied_everywhere = robust_accuracy(torch.zeros(3, 3), bias, x, torch.zeros(4, dtype=torch.long), [0.0, 0.1], p=p)
    assert tied_everywhere.tolist() == [1, 0]


def test_unreachable_boundaries_survive_any_budget():
    weight = torch.ones(2, 2)
    found = robust_accuracy(weight, torch.tensor([1.0, 0.0]), torch.ones(3, 2), torch.tensor([0, 0, 1]), [1e30], p=2)
    torch.testing.assert_close(found, torch.tensor([2 / 3]))


def test_per_class_is_the_mean_of_the_classes_own_accuracies():
    weight, bias, features = problem(3, 60, 4, 5)
    labels = (features @ weight.T + bias).argmax(1)
    labels[torch.arange(0, 60, 7)] = 2
    labels[labels == 4] = 3  # a class without samples does not count
    labels[:3] = 0
    budgets = [0.0, 0.2, 0.5, 1.0]
    found = robust_accuracy(weight, bias, features, labels, budgets, p=2, per_class=True)
    per_class = []
    for label in (0, 1, 2, 3):
        mine = labels == label
        per_class.append(robust_accuracy(weight, bias, features[mine], labels[mine], budgets, p=2))
    torch.testing.assert_close(found, torch.stack(per_class).mean(0))
    assert (found - robust_accuracy(weight, bias, features, labels, budgets, p=2)).abs().max() > 0.01
    doubled = torch.cat([torch.arange(60), (labels == 3).nonzero()[:, 0]])
    again = robust_accuracy(weight, bias, features[doubled], labels[doubled], budgets, p=2, per_class=True)
    torch.testing.assert_close(again, found)  # repeating a class changes nothing


@pytest.mark.parametrize(
    ("budgets", "message"),
    [([0, -0.1], "budgets: .*at least 0"), ([math.nan], "budgets: expected finite"), ([], "budgets"), (0.5, "budgets")],
)
def test_impossible_budgets_are_refused(budgets, message):
    with pytest.raises(ValueError, match=message):
        robust_accuracy(torch.eye(2), torch.zeros(2), torch.ones(3, 2), torch.zeros(3).long(), budgets, p=2)
    with pytest.raises(ValueError, match="at least one"):
        accuracy_at(torch.zeros(0), [0.0])


@pytest.mark.parametrize(("norm", "p"), [("l2", 2), ("linf", math.inf)])
def test_no_attack_beats_the_exact_accuracy_and_pgd_comes_within_a_point(norm, p):
    g = torch.Generator().manual_seed(5)
    centres = 1.2 * torch.randn(6, 12, generator=g)
    labels = torch.arange(600) % 6
    x = centres[labels] + torch.randn(600, 12, generator=g)
    weight, bias = centres, -0.5 * centres.square().sum(1)  # nearest centre: the best classifier of such data
    layer = torch.nn.Linear(12, 6)
    layer.load_state_dict({"weight": weight, "bias": bias})
    budgets = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.25]) * (1 if p == 2 else 0.4)
    exact = robust_accuracy(weight, bias, x, labels, budgets, p=p)
    assert exact[0] > 0.95 and exact[0] - exact[-1] > 0.15
    under_attack = []
    for budget in budgets:
        found = attacks.pgd(
            layer, x, labels, float(budget), norm=norm, steps=50, bounds=None, generator=g.manual_seed(0)
        )
        under_attack.append(float((layer(found).argmax(1) == labels).float().mean()))
    excess = torch.tensor(under_attack) - exact
    assert excess.min() >= 0 and excess.max() <= 0.01 and excess[0] == 0


# Effective accuracy


def test_effective_accuracy_of_curves_known_by_hand():
    for accuracies, budgets, expected in (
        ([0.8, 0.8, 0.8], [0, 1, 5], (0.8, 1.0, 0.8)),
        ([1, 1, 0, 0], [0, 1, 2, 3], (1.0, 0.5, 0.5)),
        ([0.5, 0.5, 0.0, 0.0], [0, 1, 1 + 1e-9, 2], (0.5, 0.5, 0.25)),
        ([1.0, 0.0], [0, 7], (1.0, 0.5, 0.5)),
        ([0.4, 0.8], [0, 2], (0.4, 0.75, 0.3)),  # divided by the largest accuracy, times the benign one
        ([0.0, 0.0, 0.0], [0, 1, 2], (0.0, 0.0, 0.0)),
    ):
        assert tuple(effective_accuracy(accuracies, budgets)) == pytest.approx(expected)


@given(problems, st.sampled_from(NORMS), st.floats(0.1, 5))
@settings(deadline=None, max_examples=15)
def test_the_area_under_the_exact_curve_is_the_mean_clipped_margin(given_problem, p, largest):
    weight, bias, features = given_problem
    labels = torch.arange(len(features)) % len(weight)
    budgets = torch.linspace(0, largest, 20_001, dtype=torch.float64)
    accuracies = robust_accuracy(weight, bias, features, labels, budgets, p=p)
    margin = margins(weight, bias, features, p=p, labels=labels).nan_to_num(nan=0)
    area = float(margin.clamp(max=largest).mean())
    found = effective_accuracy(accuracies, budgets)
    assert found.norm_auc * float(accuracies.max()) * largest == pytest.approx(area, abs=largest * 1e-4)
    assert found.effective == pytest.approx(area / largest, abs=1e-3)  # an exact curve never rises


@pytest.mark.parametrize(
    ("accuracies", "budgets", "message"),
    [
        ([0.5, 0.4, 0.3], [0, 2, 1], "budgets: expected increasing values"),
        ([0.5, 0.4, 0.3], [0, 1, 1], "budgets: expected increasing values"),
        ([0.5, 0.4], [-1, 1], "budgets: expected a first budget of 0"),
        ([0.5, 0.4], [0.1, 1], "budgets: expected a first budget of 0"),
        ([0.5, math.nan], [0, 1], "accuracies: expected finite"),
        ([0.5, 0.4], [0, math.inf], "budgets: expected finite"),
        ([1.1, 0.4], [0, 1], r"accuracies: expected values in \[0, 1\]"),
        ([0.5, -0.1], [0, 1], r"accuracies: expected values in \[0, 1\]"),
        ([0.5], [0], "budgets: expected at least two"),
        ([0.5, 0.4, 0.3], [0, 1], r"accuracies: expected shape \[2\]"),
    ],
)
def test_curves_that_are_none_are_refused(accuracies, budgets, message):
    with pytest.raises(ValueError, match=message):
        effective_accuracy(accuracies, budgets)


# Many classifiers at once


@given(seeds, st.integers(1, 6), st.integers(1, 5), st.integers(2, 5), st.integers(1, 4), st.booleans())
@tried
def test_stacked_margins_are_those_of_each_classifier(seed, samples, dims, classes, groups, labelled):
    problems = [problem(seed + g, samples, dims, classes) for g in range(groups)]
    weight, bias, features = (*(torch.stack(parts) for parts in list(zip(*problems, strict=True))[:2]), problems[0][2])
    weight[0, 1] = weight[0, 0]  # a class that is never reached
    labels = torch.randint(classes, (samples,), generator=torch.Generator().manual_seed(seed)) if labelled else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STACKED", 2 * groups * classes)  # two samples at a time
        together = module.stacked_margins(weight, bias, features, labels=labels)
    alone = [[margins(w, b, features, p=p, labels=labels) for w, b in zip(weight, bias, strict=True)] for p in NORMS]
    torch.testing.assert_close(together, torch.stack([torch.stack(row) for row in alone]), equal_nan=True)


def test_stacked_margins_come_in_the_norms_that_are_asked_for():
    weight, bias, features = problem(0, 5, 4, 3)
    found = module.stacked_margins(weight[None], bias[None], features.float(), orders=(math.inf, 2))
    assert found.shape == (2, 1, 5) and found.dtype == torch.float32
    torch.testing.assert_close(found[0, 0], margins(weight, bias, features.float(), p=math.inf))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": torch.zeros(2, 3)}, r"weight: expected shape \[G, K, d\]"),
        ({"weight": torch.zeros(2, 1, 4), "bias": torch.zeros(2, 1)}, "weight: expected at least two classes"),
        ({"weight": torch.zeros(0, 3, 4), "bias": torch.zeros(0, 3)}, "expected at least one each"),
        ({"bias": torch.zeros(3)}, r"bias: expected shape \[2, 3\]"),
        ({"orders": (3,)}, "p: expected 1, 2 or inf"),
        ({"orders": ()}, "expected at least one each"),
        ({"features": torch.zeros(5, 3)}, r"features: expected shape \[N, 4\]"),
        ({"features": torch.full((5, 4), math.nan)}, "features: expected finite"),
        ({"labels": torch.full((5,), 3)}, r"labels: expected values in 0\.\.2"),
    ],
)
def test_stacks_of_classifiers_that_make_no_sense_are_refused_by_name(changes, message):
    good = {"weight": torch.ones(2, 3, 4), "bias": torch.zeros(2, 3), "features": torch.zeros(5, 4)}
    with pytest.raises(ValueError, match=message):
        module.stacked_margins(**good | changes)
