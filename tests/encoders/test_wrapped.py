"""Other people's networks: what they give, which layers run, what images they take, saved and read again."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from sslnb.encoders import Encoder, save_encoder
from sslnb.encoders.encoder import weights_checksum
from sslnb.encoders.load import read_encoder
from sslnb.encoders.wrapped import Wrapped, expect_takes, noise, smallest_side, timm_encoder, torchvision_encoder
from sslnb.features import extract
from sslnb.features.layers import channel_means, channels_first
from sslnb.metrics import cka_matrix, feature_heatmaps
from sslnb.metrics.heatmaps import as_maps, map_layer
from sslnb.objectives.registry import get

# One of each kind: plain, residual, dense, inverted, with settings beside the weights, transformers of both layouts.
TORCHVISION = ("densenet121", "googlenet", "mobilenet_v3_small", "resnet18", "swin_t")
TIMM = ("mobilenetv3_small_050", "vit_tiny_patch16_224", "repvgg_a0", "mixer_s32_224", "levit_128s", "dla34")


def seeded(make, name: str) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make(name, pretrained=False).eval()


@pytest.mark.parametrize(
    ("make", "name"), [(torchvision_encoder, name) for name in TORCHVISION] + [(timm_encoder, name) for name in TIMM]
)
def test_what_an_encoder_says_of_itself_is_true_and_survives_a_file(make, name: str, tmp_path) -> None:
    encoder = seeded(make, name)
    images = noise(encoder, encoder.side, 4)
    features = extract(encoder, images)
    assert features.shape == (4, encoder.feature_dim)
    outputs = extract(encoder, images, layers=encoder.layer_names)
    assert len(outputs) == len(encoder.layer_names) > 3
    own = cka_matrix(encoder, encoder, images).values.diagonal()
    assert ((own - 1).abs() < 1e-4).logical_or(own == 0).all()  # 0: with random weights some layers do not vary
    save_encoder(encoder, tmp_path / "saved.pt")
    again = read_encoder(tmp_path / "saved.pt")
    assert weights_checksum(again) == weights_checksum(encoder) and again.layer_names == encoder.layer_names
    assert torch.equal(extract(again, images), features) and again.side == encoder.side


@pytest.mark.parametrize("name", ["efficientnet_v2_l", "resnet50", "inception_v3", "vit_b_16"])
def test_torchvisions_normalisation_and_size_are_those_of_its_weights(name: str, monkeypatch) -> None:
    monkeypatch.setattr(models, "get_model", lambda *_, **__: nn.Sequential(nn.Flatten(), nn.Linear(3 * 299**2, 4)))
    if name != "inception_v3":  # whose images the toy takes
        monkeypatch.setattr(Wrapped, "_observed", lambda _: (4, ()))
    encoder, made_for = torchvision_encoder(name), models.get_model_weights(name).DEFAULT.transforms()
    assert encoder.mean.flatten().tolist() == pytest.approx(made_for.mean) and encoder.side == made_for.crop_size[0]
    assert encoder.std.flatten().tolist() == pytest.approx(made_for.std)


def test_googlenet_gives_what_torchvision_gives_with_its_weights_settings() -> None:
    """``transform_input`` is in no state dict: without it features differ by more than their length."""
    encoder = seeded(torchvision_encoder, "googlenet")
    theirs = models.GoogLeNet(transform_input=True, aux_logits=False, init_weights=False).eval()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(encoder.model.state_dict())
    x = noise(encoder, 224)
    expected = theirs((x - encoder.mean) / encoder.std)
    torch.testing.assert_close(encoder(x), expected)
    theirs.transform_input = False
    assert (theirs((x - encoder.mean) / encoder.std) - expected).norm() > 0.1 * expected.norm()


def test_timms_classifier_free_features_are_timms_own() -> None:
    encoder = seeded(timm_encoder, "vit_tiny_patch16_224")
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    theirs.load_state_dict(encoder.model.state_dict())
    x = noise(encoder, 224)
    torch.testing.assert_close(encoder(x), theirs((x - encoder.mean) / encoder.std))


@pytest.mark.parametrize(
    ("name", "side"), [("vit_tiny_patch16_224", 224), ("convnext_atto", 32), ("resnet18", 1), ("inception_v4", 75)]
)
def test_the_smallest_side_is_where_it_begins_to_run(name: str, side: int) -> None:
    encoder = seeded(timm_encoder, name)
    assert smallest_side(encoder) == side
    small = noise(encoder, 64)
    if side > 64:
        with pytest.raises(
            ValueError, match=rf"^encoder: expected images of {side} px .*\(size={side}\), got 64×64 px"
        ):
            expect_takes(encoder, (255 * small).byte())
    else:
        expect_takes(encoder, (255 * small).byte())


def test_networks_without_a_linear_layer_and_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="spec: expected a model that ends in a linear layer, got 'squeezenet1_1'"):
        torchvision_encoder("squeezenet1_1", pretrained=False)
    with pytest.raises(ValueError, match="photos: expected images of 3 channels, got 1"):
        expect_takes(seeded(timm_encoder, "resnet18"), torch.zeros(2, 1, 32, 32, dtype=torch.uint8), "photos")


# --- a network of one's own -------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """Adds to its input in place, behind an in-place activation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.conv(x))
        out += x
        return out


class TwoStage(Wrapped):
    """A network as users write them: one activation for all places, a block that runs twice, a module that does not."""

    def __init__(self, width: int = 6) -> None:
        block, relu = Residual(width), nn.ReLU(inplace=True)
        block.unused = nn.Linear(2, 2)
        stages = [nn.Conv2d(3, width, 3, padding=1), relu, block, block, nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        spec = {"family": "TwoStage", "width": width}
        super().__init__(nn.Sequential(*stages), spec=spec, mean=(0.5,) * 3, std=(0.2,) * 3, side=32)


def test_a_network_of_ones_own_is_saved_and_read_again(tmp_path) -> None:
    encoder, x = TwoStage(7).eval(), torch.rand(5, 3, 32, 32)
    assert encoder.feature_dim == 7 and encoder(x).shape == (5, 7)
    assert encoder.layer_names == ("model.0", "model.1", "model.4", "model.5")  # not what runs twice, or not at all
    save_encoder(encoder, tmp_path / "mine.pt")
    again = read_encoder(tmp_path / "mine.pt")
    assert isinstance(again, TwoStage) and torch.equal(again(x), encoder(x))
    twice = channel_means(encoder, x, ("model.2", "model.3"))
    assert set(twice) == {"model.2", "model.2#2", "model.3", "model.3#2"}


def test_a_file_of_a_class_that_is_not_defined_names_it(tmp_path) -> None:
    torch.save({"spec": {"family": "Elsewhere"}, "encoder": {}}, tmp_path / "theirs.pt")
    with pytest.raises(ValueError, match=r"^spec: expected a family of .*defined or imported before, got 'Elsewhere'$"):
        read_encoder(tmp_path / "theirs.pt")


class Scaled(TwoStage):
    """Multiplies by a number that is neither a weight nor in its spec."""

    scale = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.spec = {"family": "Scaled"}

    def embed(self, x: Tensor) -> Tensor:
        return self.scale * super().embed(x)


def test_what_a_file_would_lose_is_refused_before_anything_is_written(tmp_path) -> None:
    encoder = Scaled()
    encoder.scale = 2.31
    with pytest.raises(ValueError, match=r"^encoder: expected an encoder that its spec .* are then off by 56.7 %$"):
        save_encoder(encoder, tmp_path / "mine.pt")
    assert not list(tmp_path.iterdir())


# --- layers of any network --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((2, 5), (2, 5, 1)), ((2, 7, 5), (2, 5, 7)), ((2, 5, 4, 4), (2, 5, 4, 4)), ((2, 4, 4, 5), (2, 5, 4, 4))],
)
def test_channels_are_brought_forward(shape, wanted) -> None:
    assert channels_first(torch.zeros(shape)).shape == wanted


HIGH = [(64, 64, 32), (64, 32, 16), (14, 7, 384), (128, 9), (129, 9)]


@pytest.mark.parametrize(("shape", "sides"), zip(HIGH, [(64, 32), (32, 16), (14, 7), (16, 8), (16, 8)], strict=True))
def test_images_that_are_not_square_tell_space_by_their_ratio(shape, sides) -> None:
    """Twice as high as wide: maps of 64 channels, of Swin with channels last, tokens of 16 × 8 patches."""
    assert as_maps(torch.zeros(2, *shape), ratio=2.0).shape[2:] == sides


def test_means_of_tokens_are_over_tokens() -> None:
    encoder = seeded(timm_encoder, "vit_tiny_patch16_224")
    x = noise(encoder, 224)
    tokens = extract(encoder, x, layers=["model.blocks.3"])["model.blocks.3"]
    assert tokens.shape == (2, 197, 192)
    means = channel_means(encoder, x, ["model.blocks.3"])["model.blocks.3"]
    torch.testing.assert_close(means, tokens.mean(1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("tokens", "extra"), [(49, 0), (50, 1), (198, 2), (201, 5)])
def test_tokens_are_maps_without_those_of_no_patch(tokens: int, extra: int) -> None:
    output = torch.arange(tokens).float()[None, :, None].expand(2, tokens, 3)
    maps, side = as_maps(output), math.isqrt(tokens)
    assert maps.shape == (2, 3, side, side)
    assert torch.equal(maps[1, 2].flatten(), torch.arange(extra, tokens).float())
    with pytest.raises(ValueError, match="layer: expected tokens of the images' patches"):
        as_maps(torch.zeros(2, 77, 3))


def test_a_transformers_heatmap_is_grad_cam_of_its_tokens() -> None:
    encoder = seeded(timm_encoder, "vit_tiny_patch16_224")
    x, layer = noise(encoder, 224), "model.blocks.8"
    captured = []

    def keep(_module, _inputs, output: Tensor) -> None:
        output.retain_grad()
        captured.append(output)

    handle = encoder.get_submodule(layer).register_forward_hook(keep)
    encoder(x)[:, 5].sum().backward()
    handle.remove()
    values, gradient = (t.detach()[:, 1:].unflatten(1, (14, 14)) for t in (captured[0], captured[0].grad))
    cam = (gradient.mean((1, 2), keepdim=True) * values).sum(3).relu()
    expected = F.interpolate(cam[:, None], (224, 224), mode="bilinear")[:, 0]
    found = feature_heatmaps(encoder, x, [5], layer=layer)[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.max()), rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("vit_tiny_patch16_224", "model.blocks.10"),  # of the last block only the class token goes on
        ("repvgg_a0", "model.stages"),
        ("dla34", "model.level5"),
    ],
)
def test_a_sensible_layer_is_found_for_heatmaps(name: str, layer: str) -> None:
    encoder = seeded(timm_encoder, name)
    images = (255 * noise(encoder, 224)).byte()
    found = map_layer(encoder, images)
    assert found == layer
    assert min(as_maps(extract(encoder, images, layers=[found])[found]).shape[-2:]) >= 4
    assert map_layer(encoder, images, least=500) is None
    heat = feature_heatmaps(encoder, images, range(8), layer=found)
    assert heat.shape == (2, 8, 224, 224) and (name == "repvgg_a0" or heat.sum() > 0)


def test_an_encoder_of_colours_that_has_no_gradient_in_its_images_has_heatmaps() -> None:
    encoder = get("cmc").build_encoder(18, width=4, stem="cifar", in_channels=3).eval()
    heat = feature_heatmaps(encoder, noise(encoder, 32), [0, 1, 30], layer="second.layer2")
    assert heat.shape == (2, 3, 32, 32) and torch.isfinite(heat).all()
