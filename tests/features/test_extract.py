import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sslnb.data import ImageSet
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.resnet import resnet
from sslnb.features.extract import as_float, extract
from sslnb.features.layers import channel_means
from sslnb.features.standardize import Standardizer
from sslnb.metrics import cka_matrix, feature_heatmaps

tried = settings(deadline=None, max_examples=25)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = resnet(18, width=4)
        encoder.train()(torch.rand(8, 3, 16, 16))
    return encoder.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(256, (11, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def image_set(images: Tensor) -> ImageSet:
    return ImageSet(images, torch.arange(len(images)) % 2, ("a", "b"), None, "toy")


def test_features_equal_a_plain_forward_in_evaluation_mode(encoder, images):
    with torch.no_grad():
        expected = encoder(images.float() / 255)
    encoder.train()
    found = extract(encoder, images)
    encoder.eval()
    assert found.dtype == torch.float32 and found.device.type == "cpu" and not found.requires_grad
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(extract(encoder, image_set(images)), extract(encoder, images))


@pytest.mark.parametrize("batch_size", [1, 4, 10, 11, 500])
def test_the_batch_size_changes_nothing(encoder, images, batch_size):
    torch.testing.assert_close(
        extract(encoder, images, batch_size=batch_size), extract(encoder, images), atol=1e-5, rtol=1e-5
    )


def test_uint8_and_float_images_give_the_same_features(encoder, images):
    torch.testing.assert_close(extract(encoder, images / 255), extract(encoder, images))
    assert as_float(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0, 1]
    assert as_float(torch.tensor([0.25])).tolist() == [0.25]


def test_modes_come_back_even_of_a_partly_frozen_encoder(images):
    for training in (True, False):
        encoder = resnet(18, width=4).train(training)
        encoder.layer1.train(not training)
        modes = [module.training for module in encoder.modules()]
        before = {k: v.clone() for k, v in encoder.state_dict().items()}
        extract(encoder, images)
        assert [module.training for module in encoder.modules()] == modes
        assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_named_layers_come_as_they_are_and_the_hooks_go(encoder, images):
    layers = ["stem", "layer2.0.residual", "layer2.0", "layer4.1", "pool"]
    found = extract(encoder, images, batch_size=4, layers=layers)
    shapes = {"stem": (4, 16, 16), "layer2.0.residual": (8, 8, 8), "layer2.0": (8, 8, 8), "layer4.1": (32, 2, 2)}
    assert {name: tuple(output.shape[1:]) for name, output in found.items()} == {**shapes, "pool": (32, 1, 1)}
    assert list(found) == layers and all(len(output) == 11 for output in found.values())
    torch.testing.assert_close(found["pool"].flatten(1), extract(encoder, images), atol=1e-6, rtol=0)
    torch.testing.assert_close(found["layer4.1"].mean((2, 3)), extract(encoder, images), atol=1e-6, rtol=0)
    assert not any(module._forward_hooks for module in encoder.modules())


def test_what_a_layer_gave_is_not_overwritten_by_an_in_place_relu_after_it(encoder, images):
    with torch.no_grad():
        inside = encoder.stem[1](encoder.stem[0]((images.float() / 255 - encoder.mean) / encoder.std))
    found = extract(encoder, images, layers=["stem.1", "stem"])
    assert inside.min() < 0
    torch.testing.assert_close(found["stem.1"], inside, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["stem"], inside.relu(), atol=1e-5, rtol=1e-5)


def test_hooks_and_modes_are_cleared_after_an_error(encoder, images):
    encoder.train()
    with pytest.raises(ValueError, match="images: expected shape"):
        extract(encoder, images[:, :2], layers=["stem"])
    assert encoder.training and not any(module._forward_hooks for module in encoder.modules())
    encoder.eval()


def test_a_layer_that_runs_twice_is_refused_rather_than_giving_twice_the_samples(images):
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.first(self.relu(x))).flatten(1)

    assert extract(Shared(), images).shape == (11, 768)
    with pytest.raises(ValueError, match=r"layers: .*'relu'"):
        extract(Shared(), images, layers=["relu"])


def test_unknown_layers_empty_sets_and_batch_sizes_are_refused_by_name(encoder, images):
    with pytest.raises(ValueError, match=r"layers: expected names of modules such as .*got 'layer9'"):
        extract(encoder, images, layers=["stem", "layer9"])
    with pytest.raises(ValueError, match="images: expected at least one image"):
        extract(encoder, images[:0])
    with pytest.raises(ValueError, match="batch_size: expected at least 1"):
        extract(encoder, images, batch_size=0)


def test_features_that_are_not_finite_are_refused_by_layer(encoder, images):
    broken = images / 255
    broken[3, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"^images: expected uint8, or floats in \[0, 1\].*got floats from nan to nan"):
        extract(encoder, broken)
    encoder = copy.deepcopy(encoder)
    encoder.stem[0].weight.data[0] = math.inf
    with pytest.raises(ValueError, match=r"features: expected finite values, got .* the first at"):
        extract(encoder, images)
    with pytest.raises(ValueError, match="features of layer 'stem': expected finite values"):
        extract(encoder, images, layers=["stem"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.float(), r"floats from 0 to 2\d\d"),
        (lambda x: x.float() / 127.5 - 1, r"floats from -1 to"),
        (lambda x: x.long(), "dtype torch.int64"),
        (lambda x: x > 100, "dtype torch.bool"),
    ],
)
def test_images_on_another_scale_are_refused_wherever_they_come_in(encoder, images, change, message):
    wanted = rf"^images: expected uint8, or floats in \[0, 1\].* got {message}"
    changed = change(images)
    calls = [
        lambda: extract(encoder, changed),
        lambda: channel_means(encoder, changed),
        lambda: cka_matrix(encoder, encoder, changed),
        lambda: feature_heatmaps(encoder, changed, [0]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=wanted):
            call()


# Standardizer


def cloud(seed: int, n: int, d: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return 5 * torch.randn(d, generator=g) + torch.randn(n, d, generator=g) * (0.1 + torch.rand(d, generator=g))


clouds = st.builds(cloud, st.integers(0, 2**31), st.integers(3, 40), st.integers(2, 9))


@given(clouds)
@tried
def test_unit_norm_centres_on_train_and_puts_every_sample_on_the_sphere(train):
    x = cloud(7, 5, train.shape[1])
    standardizer = Standardizer().fit(train)
    found = standardizer.transform(x)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))
    centred = x - train.mean(0)
    torch.testing.assert_close(found, centred / centred.norm(dim=1, keepdim=True), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(standardizer.mean, train.double().mean(0).float())


@given(clouds)
@tried
def test_unit_variance_gives_every_feature_mean_0_and_deviation_1_on_train(train):
    found = Standardizer("unit_variance").fit(train).transform(train).double()
    torch.testing.assert_close(found.mean(0), torch.zeros(train.shape[1]).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std(0, correction=0), torch.ones(train.shape[1]).double(), atol=1e-4, rtol=0)


def test_test_data_are_standardized_by_the_training_set():
    train = torch.tensor([[0.0, 10.0], [2.0, 14.0]])
    x = torch.tensor([[5.0, 12.0], [1.0, 20.0]])
    assert Standardizer("unit_variance").fit(train).transform(x).tolist() == [[4, 0], [0, 4]]
    assert Standardizer("unit_norm").fit(train).transform(x).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("scale", ["unit_norm", "unit_variance"])
@pytest.mark.parametrize("constant", [0.0, 3.3, 1e6, -1e-6])
def test_a_constant_feature_becomes_0_and_changes_no_other(scale, constant):
    train, x = cloud(0, 30, 4), cloud(1, 5, 4)
    alone = Standardizer(scale).fit(train).transform(x)
    column = torch.full((30, 1), constant)
    found = Standardizer(scale).fit(torch.cat([train, column], 1)).transform(torch.cat([x, column[:5]], 1))
    assert found[:, 4].tolist() == [0] * 5
    torch.testing.assert_close(found[:, :4], alone)


@pytest.mark.parametrize("scale", ["unit_norm", "unit_variance"])
def test_a_sample_on_the_mean_stays_at_0(scale):
    train = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    found = Standardizer(scale).fit(train).transform(torch.tensor([[1.0, 2.0], [1.0, 3.0]]))
    assert found[0].tolist() == [0, 0] and found[1].tolist() == [0, 1]
    assert Standardizer(scale).fit(train[:1]).transform(train).isfinite().all()


def test_a_standardizer_refuses_what_it_can_not_use():
    train = cloud(0, 10, 4)
    with pytest.raises(ValueError, match=r"scale: expected one of .*got 'unit'"):
        Standardizer("unit")
    with pytest.raises(ValueError, match=r"Standardizer: expected fit\(train\) before transform"):
        Standardizer().transform(train)
    with pytest.raises(ValueError, match=r"x: expected shape \[N, 4\], got shape \[2, 3\]"):
        Standardizer().fit(train).transform(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="train: expected at least one sample"):
        Standardizer().fit(train[:0])
    with pytest.raises(ValueError, match="train: expected shape"):
        Standardizer().fit(train[0])
    for value in (math.nan, math.inf):
        broken = train.clone()
        broken[1, 2] = value
        with pytest.raises(ValueError, match=r"train: expected finite values, got 1 non-finite, the first at \(1, 2\)"):
            Standardizer().fit(broken)
        with pytest.raises(ValueError, match="x: expected finite"):
            Standardizer().fit(train).transform(broken)
