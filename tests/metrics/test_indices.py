import numpy as np
import pytest
import torch
from scipy.spatial import procrustes as scipy_procrustes
from sklearn.cross_decomposition import CCA
from torch import Tensor

from sslnb.metrics.indices import INDICES, cca, procrustes, rbf_cka, rsa, svcca


def draw(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", INDICES)
def test_every_index_is_one_for_itself_symmetric_and_blind_to_rotation_scale_and_shift(name: str) -> None:
    index, x, y = INDICES[name], draw(60, 6), draw(60, 6) + 2 * draw(60, 6, 1)
    assert float(index(x, x)) == pytest.approx(1, abs=1e-5)
    rotation = torch.linalg.qr(draw(6, 6, 2))[0]
    before = float(index(x, y))
    assert 0 < before < 1
    assert float(index(y, x)) == pytest.approx(before, abs=1e-5)
    assert float(index(2 * x @ rotation - 4, y)) == pytest.approx(before, abs=1e-4)


@pytest.mark.parametrize("name", INDICES)
def test_other_linear_maps_are_seen_by_all_but_cca(name: str) -> None:
    x, y = draw(60, 6), draw(60, 6) + draw(60, 6, 1)
    change = abs(float(INDICES[name](x @ torch.diag(torch.logspace(0, 2, 6)), y) - INDICES[name](x, y)))
    assert change < 1e-4 if name == "CCA" else change > 0.02


@pytest.mark.parametrize("name", INDICES)
def test_features_that_do_not_vary_share_nothing(name: str) -> None:
    assert float(INDICES[name](torch.full((30, 4), 2.0), draw(30, 4))) == 0
    assert float(INDICES[name](torch.zeros(30, 4), torch.zeros(30, 4))) == 0


@pytest.mark.parametrize("name", INDICES)
def test_unrelated_samples_are_less_alike_than_related_ones(name: str) -> None:
    x = draw(400, 5)
    assert float(INDICES[name](x, draw(400, 5, 1))) < 0.35 < float(INDICES[name](x, x + 0.1 * draw(400, 5, 2)))


def test_cca_equals_scikit_learns() -> None:
    x, y = draw(200, 3), draw(200, 4, 1) + draw(200, 1)
    a, b = CCA(3, max_iter=5000, tol=1e-10).fit_transform(x.double().numpy(), y.double().numpy())
    correlations = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3)]
    assert float(cca(x, y)) == pytest.approx(np.mean(np.square(correlations)), abs=1e-4)
    assert float(svcca(x, y, explained=1.0)) == pytest.approx(np.mean(correlations), abs=1e-4)


def test_svcca_leaves_out_what_explains_little() -> None:
    common = draw(200, 2)
    x = torch.cat([common, 1e-3 * draw(200, 4, 1)], 1)
    y = torch.cat([common, 1e-3 * draw(200, 4, 2)], 1)
    assert float(svcca(x, y)) == pytest.approx(1, abs=1e-3)
    assert float(svcca(x, y, explained=1.0)) < 0.6


def test_procrustes_equals_scipys() -> None:
    x, y = draw(50, 4), draw(50, 4, 1) + draw(50, 4)
    disparity = scipy_procrustes(x.double().numpy(), y.double().numpy())[2]
    assert float(procrustes(x, y)) ** 2 == pytest.approx(1 - disparity, abs=1e-5)


def test_rank_correlation_ignores_monotone_changes_of_the_distances() -> None:
    line = torch.sort(draw(40, 1), 0).values
    assert float(rsa(line, line * 5)) == pytest.approx(1, abs=1e-6)
    assert float(rsa(line, draw(40, 1, 3))) < 0.5


def test_a_narrow_kernel_sees_neighbourhoods_a_wide_one_what_linear_cka_sees() -> None:
    x, y = draw(80, 5), draw(80, 5) + draw(80, 5, 1)
    wide = float(rbf_cka(x, y, bandwidth=50.0))
    assert wide == pytest.approx(float(INDICES["linear CKA"](x, y)), abs=1e-2)
    assert abs(float(rbf_cka(x, y, bandwidth=0.2)) - wide) > 0.05


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cca(draw(5, 6), draw(5, 6)), "x: expected more samples than the 6 features"),
        (lambda: svcca(draw(6, 9), draw(6, 9)), "x: expected more samples than directions"),
        (lambda: svcca(draw(9, 2), draw(9, 2), explained=0.0), r"explained: expected a share in \(0, 1\]"),
        (lambda: rbf_cka(draw(9, 2), draw(9, 2), bandwidth=0), "bandwidth: expected a positive value"),
        (lambda: rsa(draw(3, 2), draw(3, 2)), "x: expected at least 4 samples"),
        (lambda: procrustes(draw(9, 2), draw(8, 2)), "y: expected shape"),
        (lambda: procrustes(draw(9, 2), draw(9, 2) / 0), "y: expected finite values"),
    ],
)
def test_bad_input_is_refused(call: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
