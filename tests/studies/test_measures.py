"""Numbers of one encoder: as taken by hand, turned so that more is better, undefined with a reason."""

import math

import numpy as np
import pytest
import torch

from sslnb.data import load
from sslnb.encoders import resnet
from sslnb.features import LinearProbeGrid, Standardizer, extract
from sslnb.metrics import margins, rankme
from sslnb.metrics.labelfree import WIDEST
from sslnb.studies import measures
from sslnb.studies.measures import MEASURES, Sets


@pytest.fixture(scope="module")
def sets() -> dict:
    limits = {"train": 1000, "val": 300, "test": 200}
    return {split: load("digit-scenes", split, limit=n) for split, n in limits.items()}


@pytest.fixture(scope="module")
def encoder() -> torch.nn.Module:
    torch.manual_seed(0)
    return resnet(width=8, stem="imagenet").eval()


def test_preferences_rise_with_what_a_measures_paper_calls_better() -> None:
    assert list(measures.preferred("rankme", np.array([1.0, 2]))) == [1, 2]
    assert list(measures.preferred("uniformity", np.array([-2.0, -1]))) == [2, 1]
    order = measures.preferred("alpha_req", np.array([0.5, 1.0, 2.5])).argsort()
    assert list(order) == [2, 0, 1]  # 1 is best


def test_every_measure_is_taken_of_an_encoder_without_training_it(sets: dict, encoder: torch.nn.Module) -> None:
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    own = Sets.of(encoder, sets)
    view = measures.colour_view(0.6, 0.0, 0.1)
    views = measures.views_of(encoder, measures.drawn_views(sets["test"].images[:20], view, 3))
    head = measures.Head.trained(encoder, own, 10, epochs=2)
    taken = measures.joined(
        measures.label_free(own.features["test"], views, epsilon=1.0),
        measures.with_labels(own, measures.Probed.of(own, epochs=2), epsilon=1.0),
        measures.with_few_labels(own, epochs=2),
        measures.through_the_network(head, sets["train"].take(20), sets["test"].take(20), steps=2),
        measures.similarity_to(own.features["test"], own.features["test"]),
    )
    assert set(taken.values) == set(MEASURES) - {"transfer", "loss"}  # of other sets, and of a run
    assert taken.values["cka_supervised"] == pytest.approx(1, abs=1e-5)
    assert taken.values["rankme"] == pytest.approx(rankme(extract(encoder, sets["test"])), rel=0.05)  # bf16 or not
    assert views.shape == (20, 3, encoder.feature_dim)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_margins_and_accuracy_are_those_of_the_probe(sets: dict, encoder: torch.nn.Module) -> None:
    own = Sets.of(encoder, sets)
    scaled = Standardizer("unit_variance").fit(own.features["train"]).transform
    x = {split: scaled(h) for split, h in own.features.items()}
    y = own.labels
    probe = LinearProbeGrid(epochs=10, seed=0).fit(x["train"], y["train"], x["val"], y["val"])
    taken = measures.with_labels(own, measures.Probed.of(own, epochs=10)).values
    assert probe.converged
    assert taken["accuracy"] == pytest.approx(probe.accuracy(x["test"], y["test"]))
    margin = margins(probe.weight, probe.bias, x["test"], p=2, labels=y["test"]).nanmean()
    assert taken["margin"] == pytest.approx(float(margin))
    assert taken["effective"] <= taken["accuracy"]


def test_what_is_not_defined_is_not_a_number_and_says_why() -> None:
    h, views = torch.ones(50, 8), torch.ones(10, 2, 8)
    taken = measures.label_free(h, views)
    assert math.isnan(taken.values["alpha_req"]) and "2 directions" in taken.undefined["alpha_req"]
    assert taken.values["deviation"] == 0 and "deviation" not in taken.undefined
    assert set(taken.undefined) == {name for name, value in taken.values.items() if math.isnan(value)}


def test_features_too_many_for_their_products_leave_the_spectrum_undefined() -> None:
    wide = WIDEST + 1
    taken = measures.label_free(torch.rand(6, wide), torch.rand(3, 2, wide))
    assert set(taken.undefined) >= {"rankme", "alpha_req", "nesum", "lidar"} and "at most" in taken.undefined["rankme"]
    assert math.isfinite(taken.values["uniformity"])


def test_a_probe_that_finds_nothing_leaves_its_measures_undefined() -> None:
    generator = torch.Generator().manual_seed(0)
    features = {split: torch.ones(60, 4) for split in ("train", "val", "test")}
    labels = {split: torch.randint(3, (60,), generator=generator) for split in features}
    sets = Sets(features, labels)
    taken = measures.with_labels(sets, measures.Probed.of(sets, epochs=2))
    assert math.isnan(taken.values["accuracy"]) and "beat chance" in taken.undefined["accuracy"]
