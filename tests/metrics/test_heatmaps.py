import copy

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from sslnb.data.digit_scenes import digit_scenes
from sslnb.encoders.load import torchvision_encoder
from sslnb.encoders.resnet import resnet, untrained
from sslnb.features.extract import as_float
from sslnb.metrics import heatmaps
from sslnb.metrics.heatmaps import direction_heatmaps, feature_heatmaps, mask_iou


@pytest.fixture(scope="module")
def encoder() -> nn.Module:
    found = untrained(0, width=4)
    for module in found.modules():  # no layer should be idle, or equality would be that of noughts
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.fill_(0.2)
    return found


@pytest.fixture(scope="module")
def images() -> Tensor:
    return digit_scenes("test", scenes=10).images[:6]


def peers(encoder: nn.Module, layer: nn.Module, x: Tensor, feature: int) -> Tensor:
    found = LayerGradCam(lambda part: encoder(part), layer).attribute(x, target=feature, relu_attributions=True)
    return nn.functional.interpolate(found, x.shape[-2:], mode="bilinear")[:, 0].detach()


@pytest.mark.parametrize("layer", [None, "layer4", "layer3", "layer2.1"])
def test_heatmaps_are_captums(encoder, images, layer):
    features = [0, 5, 31]
    found = feature_heatmaps(encoder, images, features, layer=layer, batch_size=4)
    assert found.shape == (6, 3, 32, 32) and found.dtype == torch.float32 and found.max() > 0
    module = encoder.get_submodule(layer or "layer4")
    for i, feature in enumerate(features):
        theirs = peers(encoder, module, as_float(images), feature)
        torch.testing.assert_close(found[:, i], theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("layer", ["stem.1", "layer1.0.residual.1", "layer2.0.residual.1", "layer4.1.residual.1"])
def test_an_in_place_activation_behind_the_layer_changes_nothing(encoder, images, layer):
    plain = copy.deepcopy(encoder)
    activations = [module for module in plain.modules() if isinstance(module, nn.ReLU)]
    assert activations and all(module.inplace for module in activations)
    for module in activations:
        module.inplace = False
    theirs = peers(plain, plain.get_submodule(layer), as_float(images), 5)
    for network in (encoder, plain):
        found = feature_heatmaps(network, images, [5], layer=layer)[:, 0]
        torch.testing.assert_close(found, theirs, atol=1e-6, rtol=1e-4)
        along = nn.functional.one_hot(torch.tensor(5), network.feature_dim).float()
        torch.testing.assert_close(
            direction_heatmaps(network, images, along, layer=layer), theirs, atol=1e-6, rtol=1e-4
        )


def test_the_model_comes_back_as_it_was_and_images_too(images):
    encoder = resnet(18, width=4).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    pixels = as_float(images)
    for layer in (None, "layer3"):
        found = feature_heatmaps(encoder, pixels, [1], layer=layer)
        assert not found.requires_grad and not pixels.requires_grad
    assert all(module.training for module in encoder.modules())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_other_peoples_networks_need_a_layer(images):
    theirs = torchvision_encoder("resnet18", pretrained=False)
    with pytest.raises(ValueError, match="layer: expected the path of a module, for other encoders"):
        feature_heatmaps(theirs, images, [0])
    found = feature_heatmaps(theirs, images[:2], [0], layer="model.layer4")
    assert found.shape == (2, 1, 32, 32)


@pytest.mark.parametrize(
    ("features", "layer", "message"),
    [
        ([], None, "features: expected at least one"),
        ([32], None, r"features: expected values in 0..31"),
        ([0.5], None, "features: expected integers"),
        ([0], "layer9", "layer: expected the path of a module such as"),
        ([0], "pool", None),
    ],
)
def test_bad_features_and_layers_are_refused(encoder, images, features, layer, message):
    if message is None:
        assert feature_heatmaps(encoder, images, features, layer=layer).shape == (6, 1, 32, 32)
        return
    with pytest.raises(ValueError, match=message):
        feature_heatmaps(encoder, images, features, layer=layer)


def test_the_overlap_is_the_share_of_heat_inside_the_mask():
    heat = torch.tensor([[[1.0, 3.0], [0.0, 4.0]]]).repeat(3, 1, 1)
    masks = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [1, 0]], [[1, 1], [1, 1]]]).bool()
    assert mask_iou(heat, masks).tolist() == [0.5, 0.0, 1.0]
    soft = torch.full((3, 2, 2), 0.25)
    assert mask_iou(heat, soft).tolist() == pytest.approx([0.25] * 3)
    assert mask_iou(torch.zeros(1, 2, 2), masks[:1]).tolist() == [0.0]


def test_a_glyphs_own_heat_overlaps_its_mask_and_the_rest_the_background():
    scenes = digit_scenes("test", scenes=20)
    core = scenes.masks
    heat = core.float() + 0.1
    assert (mask_iou(heat, core) > mask_iou(heat, ~core)).all()
    torch.testing.assert_close(mask_iou(heat, core) + mask_iou(heat, ~core), torch.ones(20))


@pytest.mark.parametrize(
    ("heatmaps", "masks", "message"),
    [
        (torch.ones(2, 4, 4), torch.ones(2, 5, 4).bool(), r"masks: expected shape \[2, 4, 4\]"),
        (
            torch.ones(2, 4, 4),
            torch.zeros(2, 4, 4).bool(),
            "masks: expected at least one pixel in every mask, got 2 empty",
        ),
        (-torch.ones(1, 4, 4), torch.ones(1, 4, 4).bool(), "heatmaps: expected values of at least 0"),
        (torch.ones(1, 4, 4), 2 * torch.ones(1, 4, 4), r"masks: expected bool, or weights in \[0, 1\]"),
        (torch.ones(1, 4, 4) / 0, torch.ones(1, 4, 4).bool(), "heatmaps: expected finite"),
    ],
)
def test_bad_masks_are_refused(heatmaps, masks, message):
    with pytest.raises(ValueError, match=message):
        mask_iou(heatmaps, masks)


def test_a_direction_along_a_feature_is_that_features_heatmap():
    encoder, x = untrained(0, width=4), torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for layer in ("layer2", "layer4"):
        wanted = feature_heatmaps(encoder, x, [5], layer=layer)[:, 0]
        found = direction_heatmaps(encoder, x, torch.eye(encoder.feature_dim)[5], layer=layer, batch_size=2)
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)


def test_each_sample_can_have_its_own_direction_and_all_weights_stay_as_they_were():
    encoder, x = untrained(0, width=4).train(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    one, other = torch.eye(encoder.feature_dim)[3], torch.full((encoder.feature_dim,), 0.1)
    both = direction_heatmaps(encoder, x, torch.stack([one, other]), layer="layer2")
    for i, direction in enumerate((one, other)):
        torch.testing.assert_close(both[i], direction_heatmaps(encoder, x, direction, layer="layer2")[i])
    assert encoder.training and all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())
    assert all(p.grad is None for p in encoder.parameters())
    for bad, message in ((torch.ones(3), "directions: expected shape"), (torch.full((32,), torch.nan), "directions")):
        with pytest.raises(ValueError, match=message):
            direction_heatmaps(encoder, x, bad)
    with pytest.raises(ValueError, match="layer: expected the path"):
        direction_heatmaps(encoder, x, one, layer="layer9")


@pytest.mark.parametrize("side", [1, 3, 16, 20])
def test_maps_of_any_size_are_enlarged_as_torch_does(side):
    maps = torch.rand(2, 3, side, side + 1, generator=torch.Generator().manual_seed(0))
    out = torch.empty(2, 3, 30, 41)
    heatmaps._enlarge(maps, out)
    wanted = nn.functional.interpolate(maps, (30, 41), mode="bilinear")
    torch.testing.assert_close(out, wanted, atol=1e-5, rtol=1e-5)
