import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sslnb.metrics import trajectory
from sslnb.metrics.trajectory import FLOOR, bhattacharyya, geodesic, inpca, progress, raw_progress

CAP = -math.log(FLOOR)
GRID = torch.linspace(0, 1, 10_001, dtype=torch.double)


def models(t: int = 7, n: int = 40, k: int = 4, seed: int = 0, confidence: float = 3.0) -> Tensor:
    """Probabilities [t,n,k] from vague to confident."""
    logits = torch.randn(t, n, k, generator=torch.Generator().manual_seed(seed))
    return (logits * torch.linspace(0.1, confidence, t)[:, None, None]).softmax(-1)


def truth(labels: Tensor, k: int = 4) -> Tensor:
    return torch.nn.functional.one_hot(labels, k).float()


def some_labels(n: int = 40, k: int = 4, seed: int = 1) -> Tensor:
    return torch.randint(k, (n,), generator=torch.Generator().manual_seed(seed))


def learners(labels: Tensor, k: int = 4, seed: int = 2) -> Tensor:
    """Models [6,N,k] that are right ever more often."""
    noise = torch.randn(6, len(labels), k, generator=torch.Generator().manual_seed(seed))
    return (noise + torch.linspace(0, 4, 6)[:, None, None] * truth(labels, k)).softmax(-1)


# Naive versions, straight from the paper's formulas


def naive_distance(p: np.ndarray, q: np.ndarray) -> float:
    affinities = [sum(math.sqrt(a * b) for a, b in zip(x, y, strict=True)) for x, y in zip(p, q, strict=True)]
    return -sum(math.log(max(affinity, FLOOR)) for affinity in affinities) / len(affinities)


def naive_distances(p: Tensor, q: Tensor) -> np.ndarray:
    return np.array([[naive_distance(a, b) for b in q.double().numpy()] for a in p.double().numpy()])


def naive_geodesic(p: np.ndarray, q: np.ndarray, position: float) -> np.ndarray:
    points = []
    for x, y in zip(np.sqrt(p), np.sqrt(q), strict=True):
        angle = math.acos(x @ y)
        points.append((math.sin((1 - position) * angle) * x + math.sin(position * angle) * y) / math.sin(angle))
    return np.square(points)


def naive_progress(values: Tensor, labels: Tensor) -> list[float]:
    """Nearest point of a dense grid, for values √p (or raw p) [T,N,K]."""
    uniform = torch.full(values.shape[1:], 1 / values.shape[2], dtype=torch.double)
    roots = geodesic(uniform, truth(labels, values.shape[2]).double(), GRID).sqrt()
    objective = torch.stack([(roots * one).sum(2).clamp(min=FLOOR).log().mean(1) for one in values.double()])
    return GRID[objective.argmax(1)].tolist()


def test_distances_equal_the_formula():
    p, q = models(5), models(9, seed=1)
    got = bhattacharyya(p, q)
    assert got.shape == (5, 9) and got.dtype == torch.float
    assert bhattacharyya(p.double(), q.double()).dtype == torch.double
    np.testing.assert_allclose(got, naive_distances(p, q), atol=1e-6)
    np.testing.assert_allclose(bhattacharyya(p, p), naive_distances(p, p), atol=1e-6)


@pytest.mark.parametrize("n", [1, 5, 6, 7, 40])
def test_any_number_of_blocks_and_groups_gives_the_same(n, monkeypatch):
    p, q = models(11, n), models(7, n, seed=1)
    monkeypatch.setattr(trajectory, "BLOCK", 4)
    np.testing.assert_allclose(bhattacharyya(p, q), naive_distances(p, q), atol=1e-6)
    own = bhattacharyya(p, p)
    np.testing.assert_allclose(own, naive_distances(p, p), atol=1e-6)
    assert torch.equal(own, own.T)


def test_confident_models_on_many_samples_stay_exact():
    p = models(12, 500, 5, confidence=60.0)  # affinities down to the floor: products of more would underflow
    expected = naive_distances(p, p)
    assert expected.max() > 5
    own = bhattacharyya(p, p)
    assert torch.equal(own, own.T)
    np.testing.assert_allclose(own, expected, atol=1e-5)
    np.testing.assert_allclose(bhattacharyya(p.double(), p.double()), expected, atol=1e-5)


def test_models_without_overlap_are_at_the_cap_and_equal_ones_at_0():
    labels = some_labels(500)
    p = torch.stack([truth(labels), truth((labels + 1) % 4)])
    assert pytest.approx(13.8155, abs=1e-4) == CAP
    np.testing.assert_allclose(bhattacharyya(p, p), [[0, CAP], [CAP, 0]], atol=1e-5)
    np.testing.assert_allclose(bhattacharyya(p, p.clone()), [[0, CAP], [CAP, 0]], atol=1e-5)
    half = p[:1].clone()
    half[:, ::2] = p[1, ::2]  # every other sample without overlap
    assert bhattacharyya(p[:1], half).item() == pytest.approx(CAP / 2, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.floats(0.1, 80.0))
def test_distances_are_symmetric_never_negative_and_do_not_care_for_order(seed, k, confidence):
    p, q = models(4, 13, k, seed, confidence), models(3, 13, k, seed + 1, confidence)
    got = bhattacharyya(p, q)
    assert ((got >= 0) & (got <= CAP + 1e-5)).all()
    torch.testing.assert_close(got, bhattacharyya(q, p).T, atol=1e-6, rtol=0)
    copied = bhattacharyya(p, p.clone()).diagonal()
    assert ((copied >= 0) & (copied < 1e-6)).all()
    own = bhattacharyya(p, p)
    assert torch.equal(own, own.T) and not own.diagonal().any()
    generator = torch.Generator().manual_seed(seed)
    samples, classes = torch.randperm(13, generator=generator), torch.randperm(k, generator=generator)
    shuffled = bhattacharyya(p[:, samples][..., classes], q[:, samples][..., classes])
    torch.testing.assert_close(got, shuffled, atol=2e-6, rtol=0)


def test_sums_that_low_precision_leaves_are_divided_out():
    p, q = models(3), models(2, seed=1)
    off = p * 1.0008
    torch.testing.assert_close(bhattacharyya(off, q), bhattacharyya(p, q), atol=1e-6, rtol=0)
    assert bhattacharyya(off, off.clone()).diagonal().abs().max() < 1e-6
    assert bhattacharyya(p / 1.0008, p / 1.0008 + 0).diagonal().abs().max() < 1e-6
    torch.testing.assert_close(bhattacharyya(p.half(), q.half()), bhattacharyya(p, q), atol=1e-3, rtol=0)


def test_the_geodesic_equals_the_formula_and_joins_its_ends():
    p, q = models(2, seed=3).double()
    positions = torch.tensor([0.0, 0.2, 0.5, 1.0])
    points = geodesic(p, q, positions)
    assert points.shape == (4, 40, 4) and geodesic(p.float(), q.float(), positions).dtype == torch.float32
    for position, point in zip(positions.tolist(), points, strict=True):
        np.testing.assert_allclose(point, naive_geodesic(p.numpy(), q.numpy(), position), atol=1e-6)
    torch.testing.assert_close(points[[0, 3]], torch.stack([p, q]), atol=1e-6, rtol=0)
    torch.testing.assert_close(points.sum(2), torch.ones(4, 40, dtype=torch.double))


def test_the_geodesic_is_walked_at_constant_speed():
    points = geodesic(*models(2, seed=3).double(), torch.linspace(0, 1, 5)).sqrt()
    steps = torch.acos((points[1:] * points[:-1]).sum(2))
    torch.testing.assert_close(steps, steps.mean(0).expand(4, -1), atol=1e-6, rtol=0)


def test_the_geodesic_is_defined_where_its_ends_are_equal_or_apart():
    p = truth(some_labels()).double()
    positions = torch.tensor([0.0, 0.3, 1.0])
    torch.testing.assert_close(geodesic(p, p, positions), p.expand(3, -1, -1))
    any_p = models(1, 500)[0].double()
    torch.testing.assert_close(geodesic(any_p, any_p, positions), any_p.expand(3, -1, -1))
    nearly = (p + 1e-18) / (1 + 4e-18)
    torch.testing.assert_close(geodesic(p, nearly, positions), p.expand(3, -1, -1))
    halfway = geodesic(p, p.roll(1, 1), torch.tensor([0.5]))[0]
    torch.testing.assert_close(halfway, (p + p.roll(1, 1)) / 2)


@pytest.mark.parametrize("k", [2, 4, 10])
def test_progress_is_the_nearest_point_of_a_dense_grid(k):
    labels = some_labels(k=k)
    p = torch.cat([learners(labels, k), models(4, k=k, confidence=30.0)])
    assert progress(p, labels).tolist() == pytest.approx(naive_progress(p.sqrt(), labels), abs=1e-4)
    assert raw_progress(p, labels).tolist() == pytest.approx(naive_progress(p, labels), abs=1e-4)


def test_progress_is_nearest_in_our_own_distance_too():
    labels = some_labels()
    p = learners(labels)[2:]
    ways = geodesic(torch.full((40, 4), 0.25), truth(labels), torch.linspace(0, 1, 101))
    nearest = bhattacharyya(p, ways).argmin(1) / 100
    torch.testing.assert_close(progress(p, labels).float(), nearest, atol=6e-3, rtol=0)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.integers(2, 12))
def test_progress_of_a_point_on_the_geodesic_is_its_position(position, k):
    labels = some_labels(10, k)
    uniform = torch.full((10, k), 1 / k, dtype=torch.double)
    points = geodesic(uniform, truth(labels, k).double(), torch.tensor([position], dtype=torch.double))
    assert progress(points, labels).item() == pytest.approx(position, abs=1e-6)


def test_progress_runs_from_0_for_uniform_or_worse_to_1_for_truth():
    labels = some_labels()
    wrong = truth((labels + 1) % 4)
    p = torch.stack([torch.full((40, 4), 0.25), wrong, truth(labels)])
    for measure in (progress, raw_progress):
        assert measure(p, labels).tolist() == pytest.approx([0, 0, 1], abs=1e-6)
    rising = progress(learners(labels), labels)
    assert (rising.diff() > 0).all()


def test_one_confident_error_is_not_infinitely_far():
    labels = torch.zeros(100, dtype=torch.long)
    p = truth(labels)[None].clone()
    p[0, 0] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    assert 0.85 < progress(p, labels).item() < 1
    assert progress(p, labels).tolist() == pytest.approx(naive_progress(p.sqrt(), labels), abs=1e-4)


def test_progress_does_not_care_for_the_order_of_samples_and_classes():
    labels = some_labels()
    p, samples, classes = learners(labels), torch.arange(40).flip(0), torch.tensor([2, 0, 3, 1])
    shuffled = progress(p[:, samples][..., classes], classes.argsort()[labels[samples]])
    torch.testing.assert_close(progress(p, labels), shuffled, atol=1e-6, rtol=0)


def test_raw_probabilities_inflate_progress():
    labels = some_labels(5000, 5)
    noise = torch.randn(5000, 5, generator=torch.Generator().manual_seed(0))
    p = (noise + 1.9 * truth(labels, 5)).softmax(1)
    assert float((p.argmax(1) == labels).float().mean()) == pytest.approx(0.77, abs=0.02)
    assert progress(p[None], labels).item() == pytest.approx(0.37, abs=0.02)
    assert raw_progress(p[None], labels).item() == pytest.approx(0.55, abs=0.02)


def test_all_components_give_the_distances_back():
    p = torch.cat([models(9, 60), truth(some_labels(60))[None]])
    torch.testing.assert_close(inpca(bhattacharyya(p, p), 10).reconstruct(), bhattacharyya(p, p), atol=1e-5, rtol=0)
    p = p.double()
    d = bhattacharyya(p, p)
    found = inpca(d, 10)
    assert found.coordinates.shape == (10, 10) and found.eigenvalues.shape == (10,)
    torch.testing.assert_close(found.reconstruct(), d, atol=1e-9, rtol=0)
    assert (found.eigenvalues.abs().diff() <= 0).all() and (found.eigenvalues < -1e-3).any()
    points = found.coordinates
    naive = [
        [sum(s * (a - b) ** 2 for s, a, b in zip(found.eigenvalues.sign(), x, y, strict=True)) for y in points]
        for x in points
    ]
    np.testing.assert_allclose(naive, d, atol=1e-9)


def test_fewer_components_are_the_first_of_all():
    d = bhattacharyya(models(9), models(9))
    few, every = inpca(d), inpca(d, 9)
    assert torch.equal(few.coordinates, every.coordinates[:, :3]) and torch.equal(few.eigenvalues, every.eigenvalues)
    parts = every.coordinates[:, :3]
    signs = every.eigenvalues[:3].sign()
    expected = ((parts[:, None] - parts) ** 2 * signs).sum(2)
    torch.testing.assert_close(few.reconstruct(), expected)


def test_eigenvalues_are_those_of_the_centred_distances():
    d = bhattacharyya(models(8), models(8))
    centring = np.eye(8) - np.ones((8, 8)) / 8
    expected = np.linalg.eigvalsh(-centring @ d.numpy() @ centring / 2)
    np.testing.assert_allclose(sorted(inpca(d).eigenvalues.tolist()), expected, atol=1e-12)


def test_points_of_a_plane_come_back_with_their_signs_settled():
    points = torch.randn(12, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    found = inpca(torch.cdist(points, points) ** 2, 2)
    torch.testing.assert_close(torch.cdist(found.coordinates, found.coordinates), torch.cdist(points, points))
    assert found.eigenvalues[2:].abs().max() < 1e-10
    largest = found.coordinates.gather(0, found.coordinates.abs().argmax(0, keepdim=True))
    assert (largest > 0).all()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    shuffled = inpca(torch.cdist(points[order], points[order]) ** 2, 2)
    torch.testing.assert_close(shuffled.coordinates, found.coordinates[order])


def test_a_negative_axis_is_kept_with_its_sign():
    d = torch.tensor([[0.0, 1, 9], [1, 0, 1], [9, 1, 0]])  # 3 apart although each is 1 from the middle
    found = inpca(d, 2)
    assert found.eigenvalues[0] > 0 > found.eigenvalues[1]
    torch.testing.assert_close(found.reconstruct(), d)


def test_rounding_may_leave_distances_a_little_uneven():
    d = bhattacharyya(models(9), models(9)).double()
    noise = 1e-6 * torch.rand(9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    uneven, even = inpca(d + noise, 9), inpca(d + (noise + noise.T) / 2, 9)
    torch.testing.assert_close(uneven.eigenvalues, even.eigenvalues, atol=1e-12, rtol=0)
    torch.testing.assert_close(uneven.reconstruct(), d, atol=1e-5, rtol=0)


def test_equal_models_lie_on_one_point():
    found = inpca(torch.zeros(3, 3))
    assert not found.coordinates.any() and not found.eigenvalues.any()


def test_integer_labels_of_any_size_do():
    labels = some_labels()
    assert torch.equal(progress(models(), labels.to(torch.uint8)), progress(models(), labels))


P, LABELS = models(), some_labels()
UNEVEN = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
HALF = torch.tensor([0.5])


def with_entry(value: float) -> Tensor:
    changed = P.clone()
    changed[1, 2, 3] = value
    return changed


def with_sum(total: float) -> Tensor:
    changed = P.clone()
    changed[1, 2] *= total
    return changed


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bhattacharyya(P[0], P), r"p: expected shape \[T, N, K\], got shape \[40, 4\]"),
        (lambda: bhattacharyya(P, P[:, :39]), r"q: expected shape \[S, 40, 4\], got shape \[7, 39, 4\]"),
        (lambda: bhattacharyya(P, models(k=5)), r"q: expected shape \[S, 40, 4\], got shape \[7, 40, 5\]"),
        (lambda: bhattacharyya(P[:0], P), "p: expected floats, at least one"),
        (lambda: bhattacharyya(P.long(), P), "p: expected floats"),
        (lambda: bhattacharyya(with_entry(math.nan), P), "p: expected finite"),
        (lambda: bhattacharyya(P, with_entry(math.inf)), "q: expected finite"),
        (lambda: bhattacharyya(with_entry(-0.1), P), r"p: expected probabilities of at least 0, got -0\.1"),
        (
            lambda: bhattacharyya(P, with_sum(1.5)),
            r"q: expected probabilities that sum to 1 within 0\.001, got 1\.4999",
        ),
        (
            lambda: bhattacharyya(with_sum(0.998), P),
            r"p: expected probabilities that sum to 1 within 0\.001, got 0\.99",
        ),
        (lambda: geodesic(P, P, HALF), r"p: expected shape \[N, K\]"),
        (lambda: geodesic(P[0], P[0, :, :3], HALF), r"q: expected shape \[40, 4\], got shape \[40, 3\]"),
        (lambda: geodesic(P[0], with_sum(2.0)[1], HALF), "q: expected probabilities that sum to 1"),
        (lambda: geodesic(P[0], P[1], torch.tensor(0.5)), r"positions: expected shape \[M\]"),
        (lambda: geodesic(P[0], P[1], HALF / 0), "positions: expected finite"),
        (lambda: geodesic(P[0], P[1], HALF * 3), r"positions: expected values in \[0, 1\], got \[1\.5\]"),
        (lambda: progress(P[0], LABELS), r"p: expected shape \[T, N, K\]"),
        (lambda: progress(with_sum(1.1), LABELS), "p: expected probabilities that sum to 1"),
        (lambda: progress(P[..., :1] * 0 + 1, LABELS * 0), "p: expected at least two classes, got 1"),
        (lambda: progress(P, LABELS[:39]), r"labels: expected shape \[40\], got shape \[39\]"),
        (lambda: progress(P, LABELS + 1), r"labels: expected values in 0\.\.3, got values from 1 to 4"),
        (lambda: progress(P, LABELS.float()), "labels: expected integers"),
        (lambda: raw_progress(P, LABELS - 1), r"labels: expected values in 0\.\.3"),
        (lambda: raw_progress(with_entry(-1.0), LABELS), "p: expected probabilities of at least 0"),
        (lambda: inpca(torch.zeros(1, 1), 1), "distances: expected at least two models, got 1"),
        (lambda: inpca(torch.zeros(3, 4)), r"distances: expected shape \[3, 3\], got shape \[3, 4\]"),
        (lambda: inpca(torch.zeros(3)), r"distances: expected shape \[T, T\]"),
        (lambda: inpca(UNEVEN, 1), r"distances: expected a symmetric matrix, got entries that differ by 1\.0"),
        (lambda: inpca(torch.eye(3)), r"distances: expected 0 on the diagonal, got 1\.0"),
        (lambda: inpca(torch.zeros(3, 3) / 0), "distances: expected finite"),
        (lambda: inpca(torch.zeros(3, 3), 0), r"components: expected a number in 1\.\.3, got 0"),
        (lambda: inpca(torch.zeros(3, 3), 4), r"components: expected a number in 1\.\.3, got 4"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
