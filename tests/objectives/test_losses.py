"""Every loss by itself: against loops written from the papers' equations, and against lightly's implementations."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sslnb.objectives import (
    barlow_twins,
    dino,
    info_nce,
    lejepa,
    nce,
    negative_cosine,
    nt_xent,
    sigreg,
    sinkhorn,
    sup_con,
    swav,
    vicreg,
)

tried = settings(deadline=None, max_examples=25)
few = settings(deadline=None, max_examples=10)


def pair(seed: int, n: int, d: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    first = torch.randn(n, d, generator=g)
    return first, first + torch.randn(n, d, generator=g)


pairs = st.builds(pair, st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 9))
temperatures = st.floats(0.05, 2)


# The papers' equations, one sample at a time. All of these are called with float64.


def unit(rows: Tensor) -> list[Tensor]:
    return [row / row.norm() for row in rows]


def naive_nt_xent(z1: Tensor, z2: Tensor, temperature: float = 0.5) -> Tensor:
    """Chen et al. 2020, equation 1."""
    z = unit(torch.cat([z1, z2]))
    n, losses = len(z1), []
    for i in range(2 * n):
        partner = i + n if i < n else i - n
        terms = [torch.exp(z[i] @ z[k] / temperature) for k in range(2 * n) if k != i]
        losses.append(-torch.log(torch.exp(z[i] @ z[partner] / temperature) / sum(terms)))
    return sum(losses) / (2 * n)


def naive_sup_con(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Khosla et al. 2020, equation 2, over the views that have another one of their class."""
    views = [v for image in z for v in unit(image)]
    of = [int(label) for label in labels for _ in range(z.shape[1])]
    losses = []
    for i in range(len(views)):
        positives = [p for p in range(len(views)) if p != i and of[p] == of[i]]
        if positives:
            total = sum(torch.exp(views[i] @ views[a] / temperature) for a in range(len(views)) if a != i)
            picked = [torch.log(torch.exp(views[i] @ views[p] / temperature) / total) for p in positives]
            losses.append(-sum(picked) / len(positives))
    return sum(losses) / len(losses)


def softmax_over_positive_and_negatives(
    query: Tensor, positive: Tensor, negatives: Tensor, temperature: float, leave_out: Tensor | None
) -> list[tuple[Tensor, list[Tensor]]]:
    """Per query the probability of its positive, and those of the negatives that count."""
    others, found = unit(negatives), []
    for i, (q, k) in enumerate(zip(unit(query), unit(positive), strict=True)):
        kept = [m for m in range(len(others)) if leave_out is None or not leave_out[i, m]]
        scores = [torch.exp(q @ k / temperature), *(torch.exp(q @ others[m] / temperature) for m in kept)]
        found.append((scores[0] / sum(scores), [score / sum(scores) for score in scores[1:]]))
    return found


def naive_info_nce(query, positive, negatives, temperature=0.2, *, leave_out=None) -> Tensor:
    """He et al. 2020, equation 1."""
    shares = softmax_over_positive_and_negatives(query, positive, negatives, temperature, leave_out)
    return sum(-torch.log(own) for own, _ in shares) / len(shares)


def naive_nce(z, positive, negatives, temperature=0.07, *, leave_out=None) -> Tensor:
    """Misra and van der Maaten 2020, equations 2 and 3."""
    shares = softmax_over_positive_and_negatives(z, positive, negatives, temperature, leave_out)
    terms = [-torch.log(own) - sum(torch.log(1 - other) for other in others) for own, others in shares]
    return sum(terms) / len(terms)


def naive_negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """Chen and He 2021, equation 1."""
    return sum(-(a @ b) for a, b in zip(unit(p), unit(z), strict=True)) / len(p)


def naive_barlow_twins(z1: Tensor, z2: Tensor, off_diagonal_weight: float = 0.005) -> Tensor:
    """Zbontar et al. 2021, equations 1 and 2, with 1e-5 under the root as their batch norm has it."""
    (n, d), columns = z1.shape, []
    for z in (z1, z2):
        centred = [z[:, j] - sum(z[:, j]) / n for j in range(d)]
        columns.append([c / torch.sqrt(c @ c / n + 1e-5) for c in centred])
    loss = 0
    for j in range(d):
        for k in range(d):
            c = columns[0][j] @ columns[1][k] / n
            loss = loss + ((1 - c) ** 2 if j == k else off_diagonal_weight * c**2)
    return loss


def naive_vicreg(z1, z2, invariance=25.0, variance=25.0, covariance=1.0) -> Tensor:
    """Bardes et al. 2022, equations 1 to 6; distance per dimension and variance per view, as in their algorithm 1."""
    n, d = z1.shape
    loss = invariance * sum((a - b) @ (a - b) for a, b in zip(z1, z2, strict=True)) / (n * d)
    for z in (z1, z2):
        centred = [z[:, j] - sum(z[:, j]) / n for j in range(d)]
        for j in range(d):
            deviation = torch.sqrt(centred[j] @ centred[j] / (n - 1) + 1e-4)
            loss = loss + variance / 2 * max(torch.zeros_like(deviation), 1 - deviation) / d
            loss = loss + covariance * sum((centred[j] @ centred[k] / (n - 1)) ** 2 for k in range(d) if k != j) / d
    return loss


def naive_sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> list[list[float]]:
    """Caron et al. 2020, algorithm 1 in Python's numbers: prototypes to mass 1/K, then samples to mass 1/N."""
    n, k = scores.shape
    q = [[math.exp(float(scores[i, j]) / epsilon) for j in range(k)] for i in range(n)]
    for _ in range(iterations):
        for j in range(k):
            mass = sum(q[i][j] for i in range(n))
            for i in range(n):
                q[i][j] /= mass * k
        for i in range(n):
            mass = sum(q[i])
            q[i] = [value / (mass * n) for value in q[i]]
    return [[value * n for value in row] for row in q]


def naive_cross_entropy(probability: list, scores: Tensor) -> Tensor:
    exps = [torch.exp(score) for score in scores]
    return -sum(p * torch.log(e / sum(exps)) for p, e in zip(probability, exps, strict=True))


def naive_swav(*scores: Tensor, temperature: float = 0.1, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Caron et al. 2020, equations 1, 2 and 6: the codes of the first two views, predicted from all the others."""
    n, terms = len(scores[0]), []
    for i in (0, 1):
        codes = naive_sinkhorn(scores[i].detach(), epsilon, iterations)
        for j, other in enumerate(scores):
            if j != i:
                terms.append(sum(naive_cross_entropy(codes[m], other[m] / temperature) for m in range(n)) / n)
    return sum(terms) / len(terms)


def naive_dino(
    student: list[Tensor], teacher: list[Tensor], center: Tensor, student_temperature=0.1, teacher_temperature=0.04
) -> Tensor:
    """Caron et al. 2021, equations 1 to 4 and the centring of algorithm 1."""
    n, terms = len(center.new_empty(len(student[0]))), []
    for i, target in enumerate(teacher):
        for j, other in enumerate(student):
            for m in range(n if i != j else 0):
                exps = [math.exp(float(t - c) / teacher_temperature) for t, c in zip(target[m], center, strict=True)]
                share = [e / sum(exps) for e in exps]
                terms.append(naive_cross_entropy(share, other[m] / student_temperature))
    return sum(terms) / len(terms)


def naive_sigreg(z: Tensor, directions: Tensor) -> Tensor:
    """Balestriero and LeCun 2025, definition 2 with the statistic of Epps and Pulley: trapezoids from -5 to 5."""
    n, step, statistics = len(z), 10 / 16, []
    for a in directions:
        values = []
        for t in (step * k - 5 for k in range(17)):
            empirical = sum(torch.exp(1j * t * (a @ row)) for row in z) / n
            values.append((empirical - math.exp(-(t**2) / 2)).abs() ** 2 * math.exp(-(t**2) / 2))
        statistics.append(n * step * sum((left + right) / 2 for left, right in itertools.pairwise(values)))
    return sum(statistics) / len(directions)


def naive_lejepa(views: list[Tensor], directions: Tensor, weight: float = 0.05, targets: int = 2) -> Tensor:
    """Their section 5, with the squared distance divided by the number of dimensions."""
    (n, d), loss = views[0].shape, 0
    for z in views:
        loss = loss + weight / len(views) * naive_sigreg(z, directions)
        for i in range(n):
            away = z[i] - sum(target[i] for target in views[:targets]) / targets
            loss = loss + (1 - weight) / len(views) * (away @ away) / (n * d)
    return loss


# One table of losses: what the common tests below call, on inputs that the loss differentiates and others.


@dataclass(frozen=True)
class Loss:
    ours: Callable[..., Tensor]
    naive: Callable[..., Tensor]
    draw: Callable[[int, int, torch.Generator], tuple[list[Tensor], dict]]  # N, d → trained inputs, other inputs


def normal(*shape: int, g: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=g)


def two(n: int, d: int, g: torch.Generator) -> tuple[list[Tensor], dict]:
    first = normal(n, d, g=g)
    return [first, first + normal(n, d, g=g)], {}


def labelled(n: int, d: int, g: torch.Generator) -> tuple[list[Tensor], dict]:
    return [normal(n, 2, d, g=g)], {"labels": torch.randint(3, (n,), generator=g)}


def remembered(n: int, d: int, g: torch.Generator) -> tuple[list[Tensor], dict]:
    """At a temperature at which no negative takes all the probability: there nce bounds its logarithm."""
    (query, positive), _ = two(n, d, g)
    rest = {"leave_out": torch.rand(n, 5, generator=g) < 0.3, "temperature": 0.5}
    return [query, positive, normal(5, d, g=g)], rest


def cosines(n: int, d: int, g: torch.Generator) -> tuple[list[Tensor], dict]:
    return [torch.rand(n, d, generator=g) * 2 - 1 for _ in range(3)], {}


def followed(n: int, d: int, g: torch.Generator) -> tuple[list[Tensor], dict]:
    views, _ = cosines(n, d, g)
    return views, {"teacher": [torch.rand(n, d, generator=g) for _ in (0, 1)], "center": torch.rand(d, generator=g)}


def sketched(n: int, d: int, g: torch.Generator) -> tuple[list[Tensor], dict]:
    views, _ = two(n, d, g)
    directions = torch.nn.functional.normalize(normal(3, d, g=g), dim=1)
    return [*views, normal(n, d, g=g)], {"directions": directions}


LOSSES = {
    "nt_xent": Loss(nt_xent, naive_nt_xent, two),
    "sup_con": Loss(sup_con, naive_sup_con, labelled),
    "info_nce": Loss(info_nce, naive_info_nce, remembered),
    "nce": Loss(nce, naive_nce, remembered),
    "negative_cosine": Loss(negative_cosine, naive_negative_cosine, two),
    "barlow_twins": Loss(barlow_twins, naive_barlow_twins, two),
    "vicreg": Loss(vicreg, naive_vicreg, two),
    "swav": Loss(lambda *scores: swav(scores), naive_swav, cosines),
    "dino": Loss(lambda *views, **rest: dino(views, **rest), lambda *v, **rest: naive_dino(list(v), **rest), followed),
    "lejepa": Loss(lambda *v, **rest: lejepa(v, **rest), lambda *v, **rest: naive_lejepa(list(v), **rest), sketched),
}
every_loss = pytest.mark.parametrize("name", sorted(LOSSES))
OF_A_BATCH = ("barlow_twins", "vicreg")  # need two samples: statistics of one say nothing


def smallest(name: str) -> int:
    return 2 if name in OF_A_BATCH else 1


def run(
    loss: Callable[..., Tensor], trained: list[Tensor], rest: dict, dtype: torch.dtype, autocast: bool = False
) -> tuple[Tensor, list]:
    """Value and gradients of a loss at inputs of this type."""

    def cast(value: object) -> object:
        if isinstance(value, list):
            return [cast(one) for one in value]
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    leaves = [t.detach().to(dtype).requires_grad_() for t in trained]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        value = loss(*leaves, **{key: cast(one) for key, one in rest.items()})
    return value.detach(), list(torch.autograd.grad(value, leaves))


def assert_same(found: tuple[Tensor, list], expected: tuple[Tensor, list], tolerance: float) -> None:
    """Value and gradients, each to the tolerance as a share of the larger of 1 and its own largest entry."""
    for a, b in zip([found[0], *found[1]], [expected[0], *expected[1]], strict=True):
        assert torch.isfinite(a).all()
        assert float((a.double() - b.double()).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


@every_loss
@given(seed=st.integers(0, 2**31), n=st.integers(1, 5), d=st.integers(2, 6))
@few
def test_a_loss_and_its_gradients_equal_the_naive_loop(name, seed, n, d):
    loss, g = LOSSES[name], torch.Generator().manual_seed(seed)
    trained, rest = loss.draw(max(n, smallest(name)), d, g)
    assert_same(run(loss.ours, trained, rest, torch.float64), run(loss.naive, trained, rest, torch.float64), 1e-9)
    # In float32 with a few more samples: the correlation of two is ±1, and its gradient a difference of equals.
    trained, rest = loss.draw(n + 4, d, g)
    expected = run(loss.naive, trained, rest, torch.float64)
    assert_same(run(loss.ours, trained, rest, torch.float32), expected, 1e-5)


@given(pairs, temperatures)
@tried
def test_nt_xent_equals_the_naive_loop_at_any_temperature(views, temperature):
    expected = run(lambda *z: naive_nt_xent(*z, temperature), list(views), {}, torch.float64)
    assert_same(run(lambda *z: nt_xent(*z, temperature), list(views), {}, torch.float32), expected, 1e-5)


@given(st.integers(0, 2**31), temperatures, st.integers(1, 3))
@few
def test_sup_con_equals_the_naive_loop_with_any_number_of_views(seed, temperature, views):
    g = torch.Generator().manual_seed(seed)
    z, labels = normal(6, views, 4, g=g), torch.tensor([0, 0, 1, 2, 1, 0])
    expected = run(lambda z: naive_sup_con(z, labels, temperature), [z], {}, torch.float64)
    assert_same(run(lambda z: sup_con(z, labels, temperature), [z], {}, torch.float32), expected, 1e-5)


@pytest.mark.parametrize(("epsilon", "iterations", "temperature"), [(0.02, 1, 0.2), (0.5, 10, 1.0)])
def test_swav_passes_its_parameters_on(epsilon, iterations, temperature):
    same = {"epsilon": epsilon, "iterations": iterations, "temperature": temperature}
    scores, _ = cosines(5, 4, torch.Generator().manual_seed(0))
    expected = run(lambda *s: naive_swav(*s, **same), scores, {}, torch.float64)
    assert_same(run(lambda *s: swav(s, **same), scores, {}, torch.float32), expected, 1e-5)


@every_loss
def test_low_precision_input_gives_a_float32_loss_near_the_exact_one(name):
    loss = LOSSES[name]
    trained, rest = loss.draw(32, 16, torch.Generator().manual_seed(1))
    exact, exact_gradients = run(loss.ours, trained, rest, torch.float32)
    low, gradients = run(loss.ours, trained, rest, torch.bfloat16)
    assert low.dtype == torch.float32 and exact.dtype == torch.float32
    assert float(low) == pytest.approx(float(exact), rel=0.05, abs=0.01)
    for a, b in zip(gradients, exact_gradients, strict=True):
        assert torch.isfinite(a).all() and float((a - b).norm()) < 0.15 * float(b.norm())


@every_loss
def test_autocast_around_a_loss_changes_nothing(name):
    loss = LOSSES[name]
    trained, rest = loss.draw(16, 8, torch.Generator().manual_seed(2))
    outside = run(loss.ours, trained, rest, torch.float32)
    inside = run(loss.ours, trained, rest, torch.float32, autocast=True)
    assert torch.equal(outside[0], inside[0])
    assert all(torch.equal(a, b) for a, b in zip(outside[1], inside[1], strict=True))


# Invariances


@every_loss
@given(seed=st.integers(0, 2**31))
@few
def test_the_order_of_the_batch_does_not_matter(name, seed):
    loss, g = LOSSES[name], torch.Generator().manual_seed(seed)
    trained, rest = loss.draw(6, 4, g)
    order = torch.randperm(6, generator=g)

    def moved(value: object) -> object:
        if isinstance(value, list):
            return [moved(one) for one in value]
        per_sample = isinstance(value, Tensor) and len(value) == 6
        return value[order] if per_sample else value  # what is per sample: not the 5 negatives, nor the centre

    before = run(loss.ours, trained, rest, torch.float64)
    after = run(loss.ours, moved(trained), {key: moved(value) for key, value in rest.items()}, torch.float64)
    assert_same(after, (before[0], moved(before[1])), 1e-9)


@pytest.mark.parametrize("name", ["nt_xent", "sup_con", "info_nce", "nce", "negative_cosine"])
@given(seed=st.integers(0, 2**31))
@few
def test_losses_of_directions_ignore_lengths_and_a_common_rotation(name, seed):
    loss, g = LOSSES[name], torch.Generator().manual_seed(seed)
    trained, rest = loss.draw(5, 4, g)
    trained = [t.double() for t in trained]
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=g, dtype=torch.float64)).Q
    expected = loss.ours(*trained, **rest)
    scaled = [t * (0.1 + 10 * torch.rand(*t.shape[:-1], 1, generator=g, dtype=torch.float64)) for t in trained]
    torch.testing.assert_close(loss.ours(*scaled, **rest), expected)
    torch.testing.assert_close(loss.ours(*(t @ rotation for t in trained), **rest), expected)


@pytest.mark.parametrize("name", ["nt_xent", "negative_cosine", "barlow_twins", "vicreg"])
def test_losses_of_two_views_ignore_which_is_first(name):
    (z1, z2), _ = two(6, 4, torch.Generator().manual_seed(3))
    torch.testing.assert_close(LOSSES[name].ours(z1, z2), LOSSES[name].ours(z2, z1))


def test_barlow_twins_ignores_the_units_of_each_dimension_and_vicreg_a_common_shift():
    (z1, z2), _ = two(64, 5, torch.Generator().manual_seed(4))
    shift = torch.arange(5.0)
    stretched = barlow_twins(100 * z1 * (1 + shift) + shift, 50 * z2 - shift)
    torch.testing.assert_close(stretched, barlow_twins(z1, z2), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(vicreg(z1 + shift, z2 + shift), vicreg(z1, z2), atol=1e-4, rtol=1e-5)
    assert vicreg(2 * z1, 2 * z2) != vicreg(z1, z2)  # and it does know about size


def test_swav_and_dino_ignore_what_is_added_to_all_outputs_of_a_view():
    g = torch.Generator().manual_seed(5)
    scores, _ = cosines(6, 4, g)
    torch.testing.assert_close(swav([scores[0] + 0.3, scores[1] - 0.2, scores[2]]), swav(scores))
    views, rest = followed(6, 4, g)
    moved = {"teacher": [t + 0.5 for t in rest["teacher"]], "center": rest["center"] + 0.1}
    torch.testing.assert_close(dino([v - 0.7 for v in views], **moved), dino(views, **rest))


@given(pairs, temperatures, st.integers(0, 2**31))
@tried
def test_nt_xent_ignores_length_rotation_order_of_views_and_of_pairs(views, temperature, seed):
    z1, z2 = views
    g = torch.Generator().manual_seed(seed)
    loss = nt_xent(z1, z2, temperature)
    order = torch.randperm(len(z1), generator=g)
    rotation = torch.linalg.qr(torch.randn(z1.shape[1], z1.shape[1], generator=g)).Q
    lengths = 0.1 + 10 * torch.rand(2, len(z1), 1, generator=g)
    for changed in (
        (z2, z1),
        (z1[order], z2[order]),
        (z1 @ rotation, z2 @ rotation),
        (lengths[0] * z1, lengths[1] * z2),
    ):
        torch.testing.assert_close(nt_xent(*changed, temperature), loss, atol=1e-4, rtol=1e-4)


# Degenerate batches


DEGENERATE = {
    "one sample": lambda t: t[:1],
    "two samples": lambda t: t[:2],
    "all samples equal": lambda t: t[:1].expand_as(t).clone(),
    "all zeros": torch.zeros_like,
    "one zero": lambda t: torch.cat([torch.zeros_like(t[:1]), t[1:]]),
    "huge": lambda t: 1e4 * t,
    "tiny": lambda t: 1e-12 * t,
}


@every_loss
@pytest.mark.parametrize("kind", sorted(DEGENERATE))
def test_a_degenerate_batch_has_finite_loss_and_gradients_or_is_refused(name, kind):
    loss = LOSSES[name]
    trained, rest = loss.draw(6, 4, torch.Generator().manual_seed(6))

    def changed(value: object) -> object:
        if isinstance(value, list):
            return [changed(one) for one in value]
        if not isinstance(value, Tensor):
            return value
        return DEGENERATE[kind](value) if value.is_floating_point() and value.ndim > 1 else value

    # Negatives are as many as they are; masks and labels follow the number of samples.
    trained, rest = changed(trained), {key: changed(value) for key, value in rest.items()}
    n = len(trained[0])
    rest = {key: value[:n] if key in ("labels", "leave_out") else value for key, value in rest.items()}
    if "leave_out" in rest:
        rest["leave_out"] = rest["leave_out"][:, : len(trained[2])]
    if n < smallest(name):
        with pytest.raises(ValueError, match=r"z1: expected at least 2 samples for a (correlation|variance), got 1"):
            loss.ours(*trained, **rest)
        return
    value, gradients = run(loss.ours, trained, rest, torch.float32)
    assert value.shape == () and torch.isfinite(value)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@every_loss
def test_identical_views_have_finite_loss_and_gradients_and_are_no_worse_than_different_ones(name):
    loss = LOSSES[name]
    trained, rest = loss.draw(6, 4, torch.Generator().manual_seed(7))
    same = [trained[0][:, :1].expand_as(trained[0])] if name == "sup_con" else [trained[0]] * 2 + trained[2:]
    value, gradients = run(loss.ours, same, rest, torch.float32)
    assert torch.isfinite(value) and all(torch.isfinite(gradient).all() for gradient in gradients)
    if name in ("nt_xent", "info_nce", "nce", "negative_cosine", "barlow_twins"):
        assert value <= loss.ours(*trained, **rest)


@pytest.mark.parametrize("labels", [torch.zeros(5), torch.arange(5)], ids=["one class", "all classes different"])
def test_sup_con_of_two_views_is_finite_whatever_the_classes(labels):
    z = normal(5, 2, 4, g=torch.Generator().manual_seed(8))
    value, gradients = run(lambda z: sup_con(z, labels.long()), [z], {}, torch.float32)
    assert torch.isfinite(value) and torch.isfinite(gradients[0]).all()


def test_sup_con_with_all_classes_different_is_nt_xent():
    z = normal(5, 2, 4, g=torch.Generator().manual_seed(9))
    torch.testing.assert_close(sup_con(z, torch.arange(5), 0.3), nt_xent(z[:, 0], z[:, 1], 0.3))


def test_sup_con_of_one_view_leaves_out_lone_images_and_refuses_a_batch_of_them():
    z = normal(4, 1, 3, g=torch.Generator().manual_seed(10)).requires_grad_()
    loss = sup_con(z, torch.tensor([0, 0, 1, 2]))
    torch.testing.assert_close(loss.double(), naive_sup_con(z.double(), torch.tensor([0, 0, 1, 2])))
    (gradient,) = torch.autograd.grad(loss, z)
    assert torch.isfinite(gradient).all()
    for alone in (z, z[:1]):
        with pytest.raises(ValueError, match="labels: expected two images of one class, or two views, got all"):
            sup_con(alone, torch.arange(len(alone)))


def test_negatives_that_are_all_left_out_leave_nothing_to_choose():
    trained, _ = remembered(3, 4, torch.Generator().manual_seed(11))
    for loss in (info_nce, nce):
        value, gradients = run(loss, trained, {"leave_out": torch.ones(3, 5, dtype=torch.bool)}, torch.float32)
        assert float(value) == pytest.approx(0, abs=1e-6)
        assert all(float(gradient.abs().max()) < 1e-6 for gradient in gradients)
        none = [*trained[:2], trained[2][:0]]
        assert float(run(loss, none, {}, torch.float32)[0]) == pytest.approx(0, abs=1e-6)


def test_negatives_that_are_left_out_do_not_matter():
    (z, positive, negatives), _ = remembered(3, 4, torch.Generator().manual_seed(12))
    leave_out = torch.tensor([False, True, False, True, True]).expand(3, 5)
    for loss in (info_nce, nce):
        expected = loss(z, positive, negatives[[0, 2]])
        torch.testing.assert_close(loss(z, positive, negatives, leave_out=leave_out), expected)


def test_a_negative_that_equals_a_far_positive_keeps_nce_finite():
    z = torch.tensor([[1.0, 0.0]])
    value, gradients = run(nce, [z, -z, z.clone()], {"temperature": 0.01}, torch.float32)
    assert torch.isfinite(value) and float(value) > 100
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_one_pair_has_no_loss():
    z1, z2 = pair(0, 1, 8)
    assert float(nt_xent(z1, z2)) == 0


@pytest.mark.parametrize("n", [2, 7, 64])
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_collapsed_embeddings_leave_the_choice_among_all_others(n, temperature):
    z, labels = torch.ones(n, 16), torch.zeros(n, dtype=torch.long)
    for collapsed in (z, 0 * z):
        assert float(nt_xent(collapsed, 3 * collapsed, temperature)) == pytest.approx(math.log(2 * n - 1), abs=1e-5)
        alike = torch.stack([collapsed] * 2, 1)
        assert float(sup_con(alike, labels, temperature)) == pytest.approx(math.log(2 * n - 1), abs=1e-5)
        chance = float(info_nce(collapsed, collapsed, torch.ones(9, 16) * collapsed[0], temperature))
        assert chance == pytest.approx(math.log(10), abs=1e-5)
        noise = float(nce(collapsed, collapsed, torch.ones(9, 16) * collapsed[0], temperature))
        assert noise == pytest.approx(math.log(10) - 9 * math.log(1 - 1 / 10), abs=1e-5)


def test_collapsed_embeddings_have_the_loss_of_the_other_equations():
    z = torch.ones(8, 6)
    assert float(negative_cosine(z, 2 * z)) == pytest.approx(-1)  # its optimum: only the stopped gradient helps
    assert float(negative_cosine(0 * z, z)) == 0
    assert float(barlow_twins(z, z)) == pytest.approx(6)
    assert float(vicreg(z, z)) == pytest.approx(25 * (1 - 0.01), abs=1e-4)
    assert float(swav([z, z])) == pytest.approx(math.log(6), abs=1e-5)
    assert float(dino([z, z], [z, z], torch.zeros(6))) == pytest.approx(math.log(6), abs=1e-5)


def test_identical_orthogonal_views_have_the_loss_of_the_formula():
    z, t = torch.eye(4), 0.5
    expected = -math.log(math.exp(1 / t) / (math.exp(1 / t) + 6))
    assert float(nt_xent(z, z, t)) == pytest.approx(expected, abs=1e-5)
    swapped = nt_xent(z, z.roll(1, 0), t)  # the partner is now a stranger, and a stranger looks like oneself
    assert float(swapped) == pytest.approx(-math.log(1 / (math.exp(1 / t) + 6)), abs=1e-5)


def test_decorrelated_identical_views_satisfy_barlow_twins_and_vicreg():
    z = 2 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(barlow_twins(z, z)) == pytest.approx(0, abs=1e-6)
    assert float(vicreg(z, z)) == 0
    assert float(vicreg(z, z + 1)) == pytest.approx(25)  # distance alone
    assert float(vicreg(z, z + 1, invariance=0)) == 0
    assert float(barlow_twins(z, -z)) == pytest.approx(8, abs=1e-4)


# Sketched isotropic Gaussian regularization


def sphere(m: int, d: int, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(normal(m, d, g=torch.Generator().manual_seed(seed)), dim=1)


def closed_form(x: Tensor) -> Tensor:
    """The integral from minus to plus infinity of one projection x [N], without any points of integration."""
    n, apart = len(x), x[:, None] - x
    pairs = math.sqrt(2 * math.pi) * (-apart.square() / 2).exp().sum() / n
    return pairs - 2 * math.sqrt(math.pi) * (-x.square() / 4).exp().sum() + n * math.sqrt(2 * math.pi / 3)


def test_the_statistic_is_the_integral():
    z, directions = normal(40, 6, g=torch.Generator().manual_seed(29)).double(), sphere(8, 6).double()
    # The points resolve samples less than 10 apart: of wide ones a few are further.
    for scale, tolerance in ((0.1, 1e-4), (1.0, 1e-4), (2.0, 0.03)):
        expected = torch.stack([closed_form(scale * z @ a) for a in directions]).mean()
        torch.testing.assert_close(sigreg(scale * z, directions), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("n", [16, 128, 1024])
def test_gaussian_samples_have_the_expected_statistic_whatever_their_number_and_collapsed_ones_a_large_one(n):
    g, directions = torch.Generator().manual_seed(30), sphere(64, 32)
    drawn = torch.stack([sigreg(normal(n, 32, g=g), directions) for _ in range(20)]).mean()
    assert float(drawn) == pytest.approx(math.sqrt(2 * math.pi) - math.sqrt(2 * math.pi / 3), rel=0.1)
    nothing = math.sqrt(2 * math.pi) - 2 * math.sqrt(math.pi) + math.sqrt(2 * math.pi / 3)
    assert float(sigreg(torch.zeros(n, 32), directions)) == pytest.approx(n * nothing, rel=1e-4)
    z = normal(n, 32, g=g)
    others = {
        "one point": torch.ones(n, 32),
        "one line": z[:, :1].expand(n, 32),
        "off centre": z + 1,
        "wide": 3 * z,
        "narrow": z / 3,
    }
    for name, other in others.items():
        assert sigreg(other, directions) > 2 * drawn, name


def test_a_rotation_of_samples_and_directions_changes_nothing_and_one_of_the_samples_little():
    g = torch.Generator().manual_seed(31)
    z = torch.relu(normal(100, 8, g=g))
    rotation = torch.linalg.qr(normal(8, 8, g=g)).Q
    directions = sphere(4096, 8)
    torch.testing.assert_close(sigreg(z @ rotation, directions @ rotation), sigreg(z, directions))
    assert float(sigreg(z @ rotation, directions)) == pytest.approx(float(sigreg(z, directions)), rel=0.03)
    assert float(sigreg(z, -directions)) == pytest.approx(float(sigreg(z, directions)), rel=1e-5)


def test_samples_that_follow_the_gradient_become_gaussian():
    g = torch.Generator().manual_seed(32)
    z = (0.05 * normal(256, 4, g=g) + 1).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    for step in range(300):
        optimizer.zero_grad()
        sigreg(z, sphere(32, 4, seed=step)).backward()
        optimizer.step()
    assert torch.linalg.matrix_norm(z.detach().T.cov() - torch.eye(4)) < 0.3
    assert z.detach().mean(0).abs().max() < 0.1 and sigreg(z, sphere(512, 4, seed=999)) < 1.06


def test_lejepa_is_a_share_of_distance_and_of_the_statistic():
    trained, rest = sketched(8, 6, torch.Generator().manual_seed(33))
    distance, statistic = (lejepa(trained, **rest, weight=weight) for weight in (0.0, 1.0))
    torch.testing.assert_close(lejepa(trained, **rest, weight=0.3), 0.7 * distance + 0.3 * statistic)
    torch.testing.assert_close(statistic, torch.stack([sigreg(z, **rest) for z in trained]).mean())
    z1, z2 = trained[:2]
    torch.testing.assert_close(lejepa([z1, z2], **rest, weight=0.0), (z1 - z2).square().mean() / 4)
    assert float(lejepa([z1, z1], **rest, weight=0.0)) == 0
    expected = naive_lejepa([z.double() for z in trained], rest["directions"].double(), 0.2, 1)
    torch.testing.assert_close(lejepa(trained, **rest, weight=0.2, targets=1).double(), expected, atol=1e-5, rtol=1e-5)


# Sinkhorn


@given(st.integers(0, 2**31), st.integers(1, 7), st.integers(2, 6), st.floats(0.02, 1), st.integers(1, 6))
@tried
def test_sinkhorn_equals_the_naive_loop(seed, n, k, epsilon, iterations):
    scores = torch.rand(n, k, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    expected = torch.tensor(naive_sinkhorn(scores.double(), epsilon, iterations), dtype=torch.float64)
    torch.testing.assert_close(sinkhorn(scores.double(), epsilon, iterations), expected, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(sinkhorn(scores, epsilon, iterations).double(), expected, atol=1e-5, rtol=1e-4)


def test_sinkhorn_ends_with_samples_spread_evenly_over_prototypes():
    scores = torch.rand(12, 4, generator=torch.Generator().manual_seed(13))
    codes = sinkhorn(scores, 0.1, 200)
    torch.testing.assert_close(codes.sum(1), torch.ones(12))
    torch.testing.assert_close(codes.sum(0), torch.full((4,), 3.0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sinkhorn(torch.ones(5, 3)), torch.full((5, 3), 1 / 3))


@given(st.integers(0, 2**31), st.floats(1e-3, 10), st.floats(1, 1e3), st.sampled_from([torch.float32, torch.bfloat16]))
@tried
def test_the_codes_of_every_sample_sum_to_one_whatever_the_scores(seed, epsilon, size, dtype):
    scores = size * torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
    codes = sinkhorn(scores.to(dtype), epsilon)
    assert codes.dtype == torch.float32 and (codes >= 0).all()
    torch.testing.assert_close(codes.sum(1), torch.ones(6))


def test_no_gradient_passes_through_the_codes():
    assert not sinkhorn(torch.rand(4, 3, requires_grad=True)).requires_grad


# Targets


def test_no_gradient_reaches_the_teacher_or_the_centre():
    student, rest = followed(4, 3, torch.Generator().manual_seed(14))
    teacher = [t.requires_grad_() for t in rest["teacher"]]
    leaf = student[0].requires_grad_()
    dino([leaf, *student[1:]], teacher, rest["center"]).backward()
    assert leaf.grad.any() and all(t.grad is None for t in teacher)


def test_small_views_are_predicted_but_give_no_codes():
    g = torch.Generator().manual_seed(15)
    scores, _ = cosines(6, 4, g)
    small = torch.rand(6, 4, generator=g).requires_grad_()
    swav([*scores[:2], small]).backward()
    code = (sinkhorn(scores[0]) + sinkhorn(scores[1])) / 2  # two of the four terms, each a mean over 6 samples
    expected = ((small / 0.1).softmax(1) - code) / 0.1 / 6 * 2 / 4
    torch.testing.assert_close(small.grad, expected.detach(), atol=1e-6, rtol=1e-4)


# Refusals

ONES = torch.ones(4, 8)
BAD_PAIRS = [
    ((ONES, torch.ones(3, 8)), r"expected shape \[4, 8\], got shape \[3, 8\]"),
    ((ONES, torch.ones(4, 7)), r"expected shape \[4, 8\], got shape \[4, 7\]"),
    ((torch.ones(4), torch.ones(4)), r"expected shape \[N, d\], got shape \[4\]"),
    ((torch.ones(4, 2, 2), torch.ones(4, 2, 2)), r"expected shape \[N, d\], got shape \[4, 2, 2\]"),
    ((torch.ones(0, 8), torch.ones(0, 8)), "expected at least (one|2)"),
]


@pytest.mark.parametrize("loss", [nt_xent, negative_cosine, barlow_twins, vicreg])
@pytest.mark.parametrize(("views", "message"), BAD_PAIRS)
def test_losses_of_two_views_refuse_other_shapes(loss, views, message):
    with pytest.raises(ValueError, match=rf"(z1|z2|p|z): {message}"):
        loss(*views)


@pytest.mark.parametrize("loss", [info_nce, nce])
@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ((torch.ones(4), ONES, ONES), r"(query|z): expected shape \[N, d\]"),
        ((ONES, torch.ones(3, 8), ONES), r"positive: expected shape \[4, 8\], got shape \[3, 8\]"),
        ((ONES, ONES, torch.ones(5, 7)), r"negatives: expected shape \[M, 8\], got shape \[5, 7\]"),
        ((torch.ones(0, 8), torch.ones(0, 8), ONES), "(query|z): expected at least one, got an empty batch"),
    ],
)
def test_losses_with_negatives_refuse_other_shapes(loss, tensors, message):
    with pytest.raises(ValueError, match=message):
        loss(*tensors)


@pytest.mark.parametrize(
    ("z", "labels", "message"),
    [
        (ONES, torch.zeros(4), r"z: expected shape \[N, V, d\], got shape \[4, 8\]"),
        (torch.ones(4, 2, 8), torch.zeros(3), r"labels: expected shape \[4\], got shape \[3\]"),
        (torch.ones(4, 2, 8), torch.zeros(4, 1), r"labels: expected shape \[4\], got shape \[4, 1\]"),
        (torch.ones(0, 2, 8), torch.zeros(0), "z: expected at least one image, got an empty batch"),
    ],
)
def test_sup_con_refuses_other_shapes(z, labels, message):
    with pytest.raises(ValueError, match=message):
        sup_con(z, labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: swav([ONES]), "scores: expected at least 2 views, got 1"),
        (lambda: swav([]), "scores: expected at least 2 views, got 0"),
        (lambda: swav([ONES, torch.ones(4, 7)]), r"scores\[1\]: expected shape \[4, 8\], got shape \[4, 7\]"),
        (lambda: swav([torch.ones(8)] * 2), r"scores\[0\]: expected shape \[N, K\], got shape \[8\]"),
        (lambda: swav([torch.ones(0, 8)] * 2), "scores: expected at least one image, got an empty batch"),
        (lambda: swav([ONES, ONES], epsilon=0.0), "epsilon: expected a positive value, got 0.0"),
        (lambda: swav([ONES, ONES], iterations=0), "iterations: expected at least 1, got 0"),
        (lambda: sinkhorn(torch.ones(8)), r"scores: expected shape \[N, K\], got shape \[8\]"),
        (lambda: sinkhorn(torch.ones(0, 8)), "scores: expected at least one sample and prototype"),
        (lambda: sinkhorn(torch.ones(8, 0)), "scores: expected at least one sample and prototype"),
        (lambda: sigreg(torch.ones(8), ONES), r"z: expected shape \[N, d\], got shape \[8\]"),
        (lambda: sigreg(ONES, torch.ones(3, 7)), r"directions: expected shape \[M, 8\], got shape \[3, 7\]"),
        (lambda: sigreg(ONES[:0], ONES), "z: expected at least one sample, got an empty batch"),
        (lambda: sigreg(ONES, ONES[:0]), "directions: expected at least one, got none"),
        (lambda: lejepa([ONES], ONES), "views: expected at least 2 views, got 1"),
        (lambda: lejepa([ONES, torch.ones(4, 7)], ONES), r"views\[1\]: expected shape \[4, 8\], got shape \[4, 7\]"),
        (lambda: lejepa([ONES] * 2, ONES, 1.5), r"weight: expected a share in \[0, 1\], got 1.5"),
        (lambda: lejepa([ONES] * 2, ONES, targets=3), "targets: expected at least 1 and at most 2 views, got 3"),
        (lambda: dino([], [ONES], torch.zeros(8)), "student: expected at least 2 views, got 0"),
        (lambda: dino([ONES], [ONES], torch.zeros(8)), "student: expected at least 2 views, got 1"),
        (lambda: dino([ONES] * 2, [], torch.zeros(8)), "teacher: expected at least 1 view, got 0"),
        (lambda: dino([ONES] * 2, [torch.ones(3, 8)], torch.zeros(8)), r"teacher\[0\]: expected shape \[4, 8\]"),
        (lambda: dino([ONES, torch.ones(4, 7)], [ONES], torch.zeros(8)), r"student\[1\]: expected shape \[4, 8\]"),
        (lambda: dino([ONES] * 2, [ONES], torch.zeros(7)), r"center: expected shape \[8\], got shape \[7\]"),
        (lambda: dino([torch.ones(0, 8)] * 2, [torch.ones(0, 8)], torch.zeros(8)), "student: expected at least one im"),
        (lambda: dino([ONES] * 2, [ONES], torch.zeros(8), 0.0), "student_temperature: expected a positive value"),
        (lambda: dino([ONES] * 2, [ONES], torch.zeros(8), 0.1, -1.0), "teacher_temperature: expected a positive value"),
    ],
)
def test_losses_of_clusters_refuse_what_they_can_not_use(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperatures_that_are_not_positive_are_refused(temperature):
    labels, images = torch.zeros(4, dtype=torch.long), torch.ones(4, 2, 8)
    for call in (
        lambda: nt_xent(ONES, ONES, temperature),
        lambda: sup_con(images, labels, temperature),
        lambda: info_nce(ONES, ONES, ONES, temperature),
        lambda: nce(ONES, ONES, ONES, temperature),
        lambda: swav([ONES, ONES], temperature),
    ):
        with pytest.raises(ValueError, match=f"temperature: expected a positive value, got {temperature}"):
            call()


def test_losses_take_their_arguments_by_name_too():
    z1, z2 = pair(16, 4, 8)
    assert torch.equal(nt_xent(z1=z1, z2=z2, temperature=0.2), nt_xent(z1, z2, 0.2))
    assert torch.equal(swav(scores=[z1, z2]), swav([z1, z2]))


# lightly, an independent implementation (of which SupCon is not a part)


@pytest.fixture(scope="module")
def lightly():
    return pytest.importorskip("lightly.loss", reason="lightly is not installed: see tests/requirements.txt")


def assert_as_lightly(ours: Callable[..., Tensor], theirs: Callable[..., Tensor], trained: list[Tensor]) -> None:
    expected = run(lambda *z: theirs(*z).squeeze(), trained, {}, torch.float32)
    assert_same(run(ours, trained, {}, torch.float32), expected, 1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_agrees_with_lightly(lightly, temperature):
    theirs = lightly.NTXentLoss(temperature=temperature)
    assert_as_lightly(lambda *z: nt_xent(*z, temperature), theirs, list(pair(20, 32, 16)))


def test_info_nce_agrees_with_lightlys_loss_with_a_memory_bank(lightly):
    query, positive = pair(21, 8, 16)
    theirs = lightly.NTXentLoss(temperature=0.2, memory_bank_size=(24, 16))
    with torch.no_grad():
        theirs(normal(24, 16, g=torch.Generator().manual_seed(22)).requires_grad_(), torch.randn(24, 16))  # fills it
    negatives = theirs.memory_bank.bank.clone()
    assert negatives.shape == (24, 16)
    # Their bank hands the positive on without its gradient.
    assert_as_lightly(lambda q: info_nce(q, positive, negatives, 0.2), lambda q: theirs(q, positive), [query])


def test_sup_con_with_all_classes_different_agrees_with_lightlys_nt_xent(lightly):
    z1, z2 = pair(23, 16, 8)
    ours = lambda a, b: sup_con(torch.stack([a, b], 1), torch.arange(16), 0.1)  # noqa: E731
    assert_as_lightly(ours, lightly.NTXentLoss(temperature=0.1), [z1, z2])


@pytest.mark.parametrize("weight", [0.005, 0.5])
def test_barlow_twins_agrees_with_lightly(lightly, weight):
    theirs = lightly.BarlowTwinsLoss(lambda_param=weight)
    assert_as_lightly(lambda *z: barlow_twins(*z, weight), theirs, list(pair(24, 32, 16)))


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (10.0, 5.0, 2.0)])
def test_vicreg_agrees_with_lightly(lightly, weights):
    theirs = lightly.VICRegLoss(*weights)
    spread = [0.3 * z for z in pair(25, 32, 16)]  # some deviations below 1, so that the hinge works
    assert_as_lightly(lambda *z: vicreg(*z, *weights), theirs, spread)


def test_negative_cosine_agrees_with_lightly(lightly):
    assert_as_lightly(negative_cosine, lightly.NegativeCosineSimilarity(), list(pair(26, 32, 16)))


@pytest.mark.parametrize("small", [0, 2])
def test_swav_and_sinkhorn_agree_with_lightly(lightly, small):
    g = torch.Generator().manual_seed(27)
    views = [torch.rand(16, 10, generator=g) * 2 - 1 for _ in range(2 + small)]
    theirs = lightly.SwaVLoss(temperature=0.2, sinkhorn_iterations=4, sinkhorn_epsilon=0.1)
    ours = lambda *s: swav(s, temperature=0.2, iterations=4, epsilon=0.1)  # noqa: E731
    assert_as_lightly(ours, lambda *s: theirs(list(s[:2]), list(s[2:])), views)
    from lightly.loss.swav_loss import sinkhorn as their_sinkhorn

    codes = their_sinkhorn(views[0], iterations=3, epsilon=0.05)
    torch.testing.assert_close(sinkhorn(views[0]), codes, atol=1e-5, rtol=1e-5)


def test_dino_agrees_with_lightly_with_and_without_a_centre(lightly):
    g = torch.Generator().manual_seed(28)
    student, rest = followed(16, 10, g)
    theirs = lightly.DINOLoss(output_dim=10, warmup_teacher_temp_epochs=0, center_momentum=0.9)
    centers = []

    def their_loss(*views: Tensor) -> Tensor:
        centers.append(theirs.center.flatten().clone())
        return theirs(rest["teacher"], list(views))

    for step in (0, 1):  # their centre is 0 at first, and has moved at the second call
        expected = run(their_loss, student, {}, torch.float32)
        found = run(lambda *v: dino(v, rest["teacher"], centers[-1]), student, {}, torch.float32)
        assert_same(found, expected, 1e-5)
        assert centers[-1].any() == bool(step)
