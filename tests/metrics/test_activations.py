import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from sklearn.metrics import mutual_info_score

from sslnb.metrics.activations import (
    class_rates,
    excess_kurtosis,
    mutual_information,
    near_zero_share,
    neighbour_similarity,
    sample_scores,
    subsets,
    view_agreement,
)
from sslnb.metrics.qscore import discriminative, highly_activating, q_score


def features(n: int = 200, d: int = 30, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).relu() ** 2


def test_near_zeros_are_under_a_hundredth_of_their_samples_greatest():
    h = torch.tensor([[1.0, 0.02, 0.009, 0.0], [-100.0, 2.0, 0.5, 0.9]])
    assert near_zero_share(h) == 4 / 8
    assert near_zero_share(torch.zeros(3, 4)) == 0  # nothing is small beside nothing


def test_kurtosis_is_scipys_and_leaves_constant_samples_out():
    h = features()
    wanted = stats.kurtosis(h.double().numpy(), axis=1).mean()
    assert excess_kurtosis(h) == pytest.approx(wanted, rel=1e-9)
    assert excess_kurtosis(torch.cat([h, torch.ones(5, 30)])) == pytest.approx(wanted, rel=1e-9)


def test_class_rates_and_information_are_those_of_the_contingency_table():
    h, labels = features(), torch.arange(200) % 3
    on = highly_activating(h, 1.0)
    rates = class_rates(h, labels, 4, 1.0)
    for j in (0, 7):
        for k in range(3):
            assert rates[j, k] == pytest.approx(float(on[labels == k, j].double().mean()))
    assert rates[:, 3].isnan().all()  # no such sample
    bits = mutual_information(rates, labels)
    naive = [mutual_info_score(labels.numpy(), on[:, j].numpy()) / np.log(2) for j in range(30)]
    np.testing.assert_allclose(bits, naive, atol=1e-12)


def test_a_feature_that_gives_the_class_away_tells_all_and_one_that_never_acts_nothing():
    labels = torch.arange(100) % 2
    h = torch.zeros(100, 20)
    h[labels == 0, 4], h[labels == 1, 5] = 1.0, 1.0
    bits = mutual_information(class_rates(h, labels, 2, 2.0), labels)
    assert bits[4] == pytest.approx(1) and bits[5] == pytest.approx(1) and float(bits[6:].abs().max()) == 0


@pytest.mark.parametrize("share", [0.01, 0.25, 0.6, 1.0])
def test_subsets_keep_as_many_features_each_from_where_they_should(share):
    rate = torch.rand(40, generator=torch.Generator().manual_seed(0))
    found = subsets(rate, share, random=3)
    wanted = max(1, round(40 * share))
    assert all(bool((mask.sum(-1) == wanted).all()) for mask in found.values()) and found["random"].shape == (3, 40)
    ranks = rate.argsort().argsort()
    assert ranks[found["lower"]].max() == wanted - 1 and ranks[found["upper"]].min() == 40 - wanted
    middle = ranks[found["discriminative"]].double()
    assert abs(float(middle.mean()) - 19.5) <= 0.5 and middle.max() - middle.min() == wanted - 1
    if wanted < 40:
        assert len({tuple(mask.tolist()) for mask in found["random"]}) == 3
    assert torch.equal(subsets(rate, share, random=3)["random"], found["random"])


def test_scores_of_samples_are_what_their_names_say():
    h, train = features(50), features(80, seed=1)
    mask = torch.arange(30) < 15
    found = sample_scores(h, train, mask, 1.0)
    assert torch.equal(found["qscore"], q_score(h, mask, 1.0))
    i = 3
    assert found["norm"][i] == pytest.approx(float((h[i] ** 2).sum().sqrt()), rel=1e-6)
    assert found["max"][i] == h[i].max()
    near = max(float(F.cosine_similarity(h[i], other, dim=0)) for other in train)
    assert found["neighbour"][i] == pytest.approx(near, rel=1e-5)
    assert "qscore" not in sample_scores(h, train, None)


@pytest.mark.parametrize("k", [1, 7, 80])
def test_density_is_the_similarity_to_the_kth_nearest_and_falls_as_its_distance_rises(k):
    h, train = features(50), features(80, seed=1)
    density = neighbour_similarity(h, train, k=k)
    for i in (0, 30):
        similarities = sorted((float(F.cosine_similarity(h[i], other, dim=0)) for other in train), reverse=True)
        assert float(density[i]) == pytest.approx(similarities[k - 1], abs=1e-5)
    distances = torch.cdist(F.normalize(h), F.normalize(train)).sort(1).values[:, k - 1]
    assert density.numpy() == pytest.approx((1 - distances.square() / 2).numpy(), abs=1e-4)
    if k == 1:
        assert torch.equal(density, sample_scores(h, train, None)["neighbour"])
    with pytest.raises(ValueError, match="k: expected at most the 80 training samples, got 81"):
        neighbour_similarity(h, train, k=81)


def test_agreement_is_the_mean_cosine_over_pairs_of_views():
    views = torch.stack([features(20, seed=s) for s in range(3)], 1) - 0.3
    agreement = view_agreement(views)
    pairs = [F.cosine_similarity(views[:, a], views[:, b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert agreement.numpy() == pytest.approx((sum(pairs) / 3).numpy(), abs=1e-6)
    scaled = views * torch.tensor([1.0, 5.0, 0.1])[:, None]
    assert view_agreement(scaled).numpy() == pytest.approx(agreement.numpy(), abs=1e-6)
    alike = features(20)[:, None].expand(-1, 4, -1)
    assert view_agreement(alike).numpy() == pytest.approx(np.ones(20), abs=1e-6)
    assert view_agreement(torch.zeros(2, 3, 4)).tolist() == [0, 0]
    with pytest.raises(ValueError, match="views: expected at least one sample with 2 views"):
        view_agreement(views[:, :1])


def test_what_can_not_be_measured_is_refused():
    h = features()
    for bad, message in ((torch.zeros(0, 3), "at least one sample"), (torch.full((2, 3), torch.nan), "h: ")):
        with pytest.raises(ValueError, match=message):
            near_zero_share(bad)
    with pytest.raises(ValueError, match="labels"):
        class_rates(h, torch.full((200,), 5), 4)
    with pytest.raises(ValueError, match="share: expected"):
        subsets(torch.rand(4), 0.0)
    with pytest.raises(ValueError, match="rate: expected at least one feature"):
        discriminative(torch.zeros(10))
