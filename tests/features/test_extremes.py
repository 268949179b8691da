"""Probes, neighbours and scores where scale, offset, precision or NaN leave little or nothing to measure."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from sslnb.core.numerics import lengths, rows_scaled, scaled, unit
from sslnb.features import LinearProbeGrid, Standardizer, knn_predict
from sslnb.features.mlp import MLPProbe
from sslnb.features.nearest import nearest_class_mean
from sslnb.features.scores import top1

LABELS = torch.arange(60) % 3


def draw(n: int = 60, d: int = 5, seed: int = 0) -> Tensor:
    centres = 3 * torch.eye(3, d, dtype=torch.float64)
    noise = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return centres[torch.arange(n) % 3] + noise


SCALES = [1e-30, 1e-20, 1e-9, 1.0, 1e20, 1e30]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_directions_and_lengths_are_right_at_any_scale(dtype, scale):
    x = draw().to(dtype)
    torch.testing.assert_close(unit(x * scale), torch.nn.functional.normalize(x, dim=1))
    torch.testing.assert_close(lengths(x * scale), x.double().norm(dim=1, keepdim=True) * scale, rtol=1e-6, atol=0)
    assert not unit(torch.zeros(2, 3)).any() and not lengths(torch.zeros(2, 3)).any()


def test_ordinary_magnitudes_are_left_alone_bit_for_bit():
    x = torch.cat([draw().float(), torch.zeros(1, 5), 1e-9 * draw(1).float()])
    rows, exponent = rows_scaled(x)
    assert torch.equal(rows[:-1], x[:-1]) and not exponent[:-1].any() and scaled(x) is x
    assert torch.equal((rows.double() * exponent.double().exp2()).float(), x) and 0.5 <= rows[-1].abs().max() <= 2
    assert torch.equal(unit(x)[:-1], torch.nn.functional.normalize(x, dim=1)[:-1])


def test_the_gradient_of_a_direction_is_that_of_the_vector_as_it_came():
    x = (1e-9 * draw()).requires_grad_()
    unit(x).cos().sum().backward()
    other = (1e-9 * draw()).requires_grad_()
    (other / other.norm(dim=1, keepdim=True)).cos().sum().backward()
    torch.testing.assert_close(x.grad, other.grad)


@pytest.mark.parametrize("scale", SCALES)
def test_neighbours_and_class_means_do_not_depend_on_the_scale(scale):
    train, x = draw().float(), draw(seed=1).float()
    assert torch.equal(knn_predict(train * scale, LABELS, x * scale, k=5), knn_predict(train, LABELS, x, k=5))
    wanted = nearest_class_mean(train, LABELS, x)
    torch.testing.assert_close(nearest_class_mean(train * scale, LABELS, x * scale), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("offset", [1e6, 1e8, 1e10])
def test_float64_features_on_a_large_offset_are_told_apart(offset):
    train, x = draw(), draw(seed=1)
    torch.testing.assert_close(
        nearest_class_mean(train + offset, LABELS, x + offset), nearest_class_mean(train, LABELS, x), rtol=0, atol=1e-3
    )
    for scale in ("unit_norm", "unit_variance"):
        wanted = Standardizer(scale).fit(train).transform(x)
        found = Standardizer(scale).fit(train + offset).transform(x + offset)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", ["unit_norm", "unit_variance"])
def test_standardized_features_do_not_depend_on_the_scale(kind, scale):
    train, x = draw().float(), draw(seed=1).float()
    wanted = Standardizer(kind).fit(train).transform(x)
    torch.testing.assert_close(Standardizer(kind).fit(train * scale).transform(x * scale), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_on_the_mean_has_no_direction_of_rounding(dtype):
    train = (torch.tensor([[-1.0, 2.0], [1.0, -2.0]], dtype=torch.float64).repeat(3, 1) + 1e4 / 3).to(dtype)
    standardizer = Standardizer().fit(train)
    at_mean = train.double().mean(0, keepdim=True).to(dtype) * (1 + torch.finfo(dtype).eps)
    assert not standardizer.transform(at_mean).any()
    torch.testing.assert_close(standardizer.transform(train).norm(dim=1), torch.ones(6, dtype=dtype))


def test_a_constant_feature_far_away_does_not_hide_the_others():
    train = torch.cat([draw().float(), torch.full((60, 1), 1e9)], 1)
    assert Standardizer().fit(train).transform(train).norm(dim=1) == pytest.approx(torch.ones(60), abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_features_and_labels_of_other_types_are_converted(dtype):
    train, x, labels = (10 * draw()).to(dtype), (10 * draw(seed=1)).to(dtype), LABELS.to(torch.uint8)
    for same in (train.float(), train):
        assert top1(knn_predict(train, labels, x.to(same.dtype), k=9), LABELS) > 0.8
    standardizer = Standardizer().fit(train)
    assert standardizer.transform(x).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    probe = LinearProbeGrid((0.01,), (0.0,), epochs=20, batch_size=20).fit(train, labels, x, labels.int())
    assert probe.weight.dtype == torch.float32 and probe.accuracy(x, labels) > 0.8


@pytest.fixture(scope="module")
def probes() -> list:
    train = draw().float()
    linear = LinearProbeGrid((0.1,), (0.0,), epochs=5).fit(train, LABELS, train, LABELS)
    with torch.inference_mode():  # training takes gradients, whatever is on around it
        return [linear, MLPProbe(8, (1e-2,), epochs=5).fit(train, LABELS, train, LABELS)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_accuracy_on_features_that_are_not_finite_is_refused(probes, value):
    x = draw().float()
    x[3, 2] = value
    for probe in probes:
        with pytest.raises(ValueError, match=r"x: expected finite values, got 1 non-finite, the first at \(3, 2\)"):
            probe.accuracy(x, LABELS)
    with pytest.raises(ValueError, match="x: expected finite"):
        probes[0].predict(x)
    with pytest.raises(ValueError, match="x: expected finite"):  # float32 can't hold it
        probes[0].predict(x.double().nan_to_num(1e300, 1e300))


def test_the_accuracy_of_a_diverged_probe_is_not_a_number(probes):
    x = draw().float()
    assert math.isnan(dataclasses.replace(probes[0], bias=probes[0].bias * math.nan).accuracy(x, LABELS))
    diverged = MLPProbe(8, (1e30,), epochs=5).fit(x * 1e15, LABELS, x * 1e15, LABELS)
    assert math.isnan(diverged.accuracy(x, LABELS)) and not diverged.converged


def test_accuracy_is_of_as_many_predictions_as_labels(probes):
    for bad in (torch.zeros(1), torch.zeros(0)):
        with pytest.raises(ValueError, match="labels: expected shape"):
            top1(LABELS, bad)
    with pytest.raises(ValueError, match="labels: expected at least one"):
        top1(LABELS[:0], LABELS[:0])
    with pytest.raises(ValueError, match="y: expected integers"):
        probes[0].accuracy(draw().float(), LABELS.float())
