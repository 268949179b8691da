"""Indices of similarity where scale, offset or coincidence leave nothing to measure, or nearly nothing."""

import math

import pytest
import torch
from torch import Tensor

from sslnb.metrics.cka import Source, centred_gram, cka_matrix, linear_cka, similarity
from sslnb.metrics.indices import INDICES, cca, rbf_cka, rsa


def draw(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def one_differs(n: int, d: int, seed: int) -> Tensor:
    x = torch.zeros(n, d)
    x[seed % n] = draw(1, d, seed)[0]
    return x


def orthogonal(n: int, d: int, seed: int) -> Tensor:
    return torch.linalg.qr(draw(max(n, d), max(n, d), seed))[0][:n]


# Features that vary, and whose U-centred Gram matrix is 0: off its diagonal it is a_i + a_j.
WITHOUT_HSIC = {
    "equally far": lambda n, seed: torch.eye(n) * (1 + seed),
    "orthogonal": lambda n, seed: orthogonal(n, n, seed),
    "one differs": lambda n, seed: one_differs(n, 3, seed),
    "one differs in many": lambda n, seed: one_differs(n, 2 * n, seed),
    "one differs, far away": lambda n, seed: one_differs(n, 3, seed) + 100,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [5, 8, 50, 400])
@pytest.mark.parametrize("kind", WITHOUT_HSIC)
def test_the_unbiased_estimate_is_not_a_number_where_hsic_is_zero(kind, n, dtype):
    for seed in range(4):
        x, y = WITHOUT_HSIC[kind](n, seed).to(dtype), draw(n, 3, 99 + seed)
        values = [linear_cka(a, b, unbiased=True) for a, b in ((x, x), (x, y), (y, x), (x, draw(n, 2 * n, seed)))]
        assert all(value.isnan() for value in values), values
        assert linear_cka(x, x) == pytest.approx(1, abs=1e-5)  # the biased one is defined


def test_streamed_estimates_are_not_a_number_where_hsic_is_zero_in_all_batches():
    undefined = torch.cat([torch.eye(8)] * 2)
    sources = [Source("alike", torch.ones(16, 8)), Source("far", undefined), Source("sound", draw(16, 5))]
    found = similarity(sources, batch_size=8, permutations=3)
    for values in (found.values(), *found.bootstrap(rounds=3)):
        assert values[0].nan_to_num(0).eq(0).all() and values[1, 1:].isnan().all()
        assert values[2, 2] == pytest.approx(1)
    assert similarity(sources[1:], batch_size=16).values().isfinite().all()  # pairs of equal rows: it is defined


def test_a_layer_without_hsic_is_not_a_number_in_the_matrix():
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = torch.nn.Flatten(), torch.nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.eye(len(x)) + 0 * self.first(x)[:, :1])

    layers = ("first", "last")
    values = cka_matrix(Net(), Net(), torch.rand(6, 1, 2, 2), layers_a=layers, layers_b=layers).values
    assert values[0, 0] == pytest.approx(1) and values[1].isnan().all() and values[:, 1].isnan().all()


def test_a_weak_but_certain_hsic_is_measured():
    x = torch.eye(30) + 0.02 * draw(30, 30)  # nearly equally far
    exact = linear_cka(x.double(), draw(30, 30, 1).double(), unbiased=True)
    assert linear_cka(x, draw(30, 30, 1), unbiased=True) == pytest.approx(exact.item(), abs=1e-3)


@pytest.mark.parametrize("scale", [1e20, 1e-20, 1e30, 1e-30])
@pytest.mark.parametrize("d", [4, 60])
@pytest.mark.parametrize("name", INDICES)
def test_indices_do_not_depend_on_the_scale(name, d, scale):
    if name in ("CCA", "SVCCA") and d == 60:
        pytest.skip("takes more samples than features")
    x, y = draw(40, d), draw(40, d, 1)
    for a, b in ((x, x), (x, y)):
        assert INDICES[name](a * scale, b) == pytest.approx(INDICES[name](a, b).item(), abs=1e-5)
        assert INDICES[name](a.double() * scale**3, b / scale) == pytest.approx(INDICES[name](a, b).item(), abs=1e-5)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("scale", [1e20, 1e-20])
@pytest.mark.parametrize("d", [4, 60])
def test_streamed_and_exact_estimates_do_not_depend_on_the_scale(d, scale, unbiased):
    x, y = draw(40, d), draw(40, d, 1)
    found = similarity([Source("x", x * scale), Source("y", y)], batch_size=40, unbiased=unbiased).values()
    assert found[0, 1] == pytest.approx(linear_cka(x, y, unbiased=unbiased).item(), abs=1e-5)
    assert linear_cka(x * scale, y / scale, unbiased=unbiased) == pytest.approx(found[0, 1].item(), abs=1e-5)
    torch.testing.assert_close(centred_gram(x * scale) / scale**2, centred_gram(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("offset", [1e6, 1e8, 1e10])
@pytest.mark.parametrize("d", [4, 60])
@pytest.mark.parametrize("name", INDICES)
def test_float64_features_on_a_large_offset_are_seen(name, d, offset):
    if name in ("CCA", "SVCCA") and d == 60:
        pytest.skip("takes more samples than features")
    x, y = draw(40, d, dtype=torch.float64), draw(40, d, 1, torch.float64)
    for a, b in ((x, x), (x, y)):
        assert INDICES[name](a + offset, b) == pytest.approx(INDICES[name](a, b).item(), abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.1, 1e-20, 1e20, -1 / 3])
@pytest.mark.parametrize("name", INDICES)
def test_what_rounding_leaves_of_constant_features_shares_nothing(name, value, dtype):
    constant = torch.full((37, 5), value, dtype=dtype)
    noisy = torch.where(draw(37, 5) > 0, constant, constant * (1 + torch.finfo(dtype).eps))
    for x in (constant, noisy):
        assert INDICES[name](x, draw(37, 5)) == 0 and INDICES[name](draw(37, 5), x) == 0


@pytest.mark.parametrize("distinct", [1, 10])
@pytest.mark.parametrize("n", [12, 50])
def test_the_width_of_a_kernel_is_not_defined_where_most_samples_are_alike(n, distinct):
    x = torch.cat([torch.full((n - min(distinct, n // 4), 6), 0.3), draw(min(distinct, n // 4), 6)])
    assert rbf_cka(x, x).isnan() and rbf_cka(x, draw(n, 3)).isnan() and rbf_cka(draw(n, 3), x).isnan()
    assert math.isfinite(linear_cka(x, x))


def test_a_kernel_that_is_too_wide_to_see_anything_is_not_a_number():
    x = draw(20, 3)
    assert rbf_cka(x, x, bandwidth=1e9).isnan()
    assert rbf_cka(x, x, bandwidth=1e3) == pytest.approx(1)


def test_ranks_of_equal_distances_are_not_those_of_their_rounding():
    assert rsa(torch.eye(9), torch.eye(9)).isnan() and rsa(draw(9, 4), torch.eye(9) * 0.1).isnan()
    labels = torch.arange(30) % 3
    one_hot = torch.nn.functional.one_hot(labels, 3)
    same = (labels[:, None] == labels)[torch.ones(30, 30).triu(1).bool()]
    assert rsa(one_hot * 0.1 + 7, one_hot.double() / 3) == pytest.approx(1)
    assert len(same) and rsa(one_hot.float(), one_hot.flip(1).double() * 1e-8) == pytest.approx(1)


def test_small_directions_count_where_the_type_can_tell_them_from_rounding():
    x = draw(40, 3, dtype=torch.float64)
    assert cca(x * torch.tensor([1.0, 1.0, 1e-9]), x) == pytest.approx(1)  # all three correlate with themselves
    thin = (x * torch.tensor([1.0, 1.0, 1e-9])).float()
    assert cca(thin, x[:, 2:]) < 0.5  # float32 has lost the third


@pytest.mark.parametrize("name", INDICES)
@pytest.mark.parametrize(
    ("x", "says"), [(torch.ones(9, 3, dtype=torch.cfloat), "x: expected real"), ([1], "x: expected a tensor")]
)
def test_indices_take_tensors_of_real_numbers(name, x, says):
    with pytest.raises(ValueError, match=says):
        INDICES[name](x, draw(9, 3))
