import importlib.util
import math

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from sslnb.encoders.encoder import Encoder, weights_checksum
from sslnb.encoders.load import build, load_encoder, read_checkpoint, read_encoder, save_encoder, torchvision_encoder
from sslnb.encoders.resnet import resnet


def images(n: int = 3, side: int = 32, channels: int = 3) -> Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0))


def drawn(seed: int = 0, **options: object) -> Encoder:
    """A small encoder in evaluation mode, with running statistics that are not the initial ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = resnet(**{"width": 4, **options})
        encoder.train()(torch.rand(8, encoder.in_channels, 32, 32))
    return encoder.eval()


@pytest.mark.parametrize(("depth", "blocks"), [(18, (2, 2, 2, 2)), (34, (3, 4, 6, 3)), (50, (3, 4, 6, 3))])
def test_layers_are_named_in_the_order_of_computation(depth, blocks):
    encoder = drawn(depth=depth)
    expected = ["stem"]
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            expected += [f"layer{stage}.{block}.residual", f"layer{stage}.{block}"]
    assert list(encoder.layer_names) == [*expected, "pool"]
    finished: list[str] = []
    for name in encoder.layer_names:
        encoder.get_submodule(name).register_forward_hook(lambda *_, name=name: finished.append(name))
    encoder(images())
    assert finished == list(encoder.layer_names)


@pytest.mark.parametrize("depth", [18, 50])
def test_even_layers_are_the_sum_of_the_shortcut_and_the_odd_layers(depth):
    encoder, outputs, inputs = drawn(depth=depth), {}, {}

    def keep(name: str):
        def hook(module: nn.Module, given: tuple, output: Tensor) -> None:
            inputs[name], outputs[name] = given[0].clone(), output.clone()

        return hook

    for name in encoder.layer_names:
        encoder.get_submodule(name).register_forward_hook(keep(name))
    encoder(images())
    blocks = [name.removesuffix(".residual") for name in encoder.layer_names if name.endswith(".residual")]
    for name in blocks:
        shortcut = encoder.get_submodule(f"{name}.shortcut")(inputs[name])
        torch.testing.assert_close(outputs[name], torch.relu(shortcut + outputs[f"{name}.residual"]))
    assert torch.equal(inputs["layer1.1"], outputs["layer1.0"])
    assert any(outputs[f"{name}.residual"].min() < 0 for name in blocks)  # before the ReLU


@pytest.mark.parametrize(("depth", "count"), [(18, 11_176_512), (34, 21_284_672), (50, 23_508_032)])
def test_parameter_counts_are_those_of_torchvision_without_its_classifier(depth, count):
    encoder = resnet(depth, stem="imagenet")
    assert sum(p.numel() for p in encoder.parameters()) == count
    theirs = models.get_model(f"resnet{depth}", weights=None)
    assert sum(p.numel() for name, p in theirs.named_parameters() if not name.startswith("fc.")) == count


@pytest.mark.parametrize("depth", [18, 50])
def test_features_equal_those_of_torchvision_with_the_same_weights(depth):
    encoder, theirs = resnet(depth, stem="imagenet").eval(), models.get_model(f"resnet{depth}", weights=None).eval()
    theirs.fc = nn.Identity()
    convolutions = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}
    renamed = {}
    for name, tensor in encoder.state_dict().items():
        stage, *path = name.split(".")
        if stage == "stem":
            renamed[".".join([convolutions[path[0]], path[1]])] = tensor
        elif path[1:2] == ["shortcut"]:
            renamed[".".join([stage, path[0], "downsample", *path[2:]])] = tensor
        elif path[1:2] == ["residual"]:
            renamed[".".join([stage, path[0], convolutions[path[2]], path[3]])] = tensor
    theirs.load_state_dict(renamed)
    x = images(2, 64)
    with torch.no_grad():
        expected = theirs((x - 0.5) / 0.25)
        torch.testing.assert_close(encoder(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("stem", "side"), [("cifar", 32), ("imagenet", 8), ("unpadded", 30)])
@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize(("depth", "times"), [(18, 8), (50, 32)])
def test_shapes_follow_stem_width_and_depth(stem, side, width, depth, times):
    encoder, sides = resnet(depth, width=width, stem=stem).eval(), []
    encoder.stem.register_forward_hook(lambda module, given, output: sides.append(output.shape[1:]))
    with torch.no_grad():
        features = encoder(images())
    assert features.shape == (3, encoder.feature_dim) == (3, width * times)
    assert sides == [(width, side, side)]


def test_one_channel_and_any_size_of_image_are_taken():
    encoder = drawn(in_channels=1)
    assert encoder.in_channels == 1
    for side in (8, 28, 33):
        assert encoder(images(2, side, 1)).shape == (2, 32)


def test_pixels_are_normalised_inside_and_the_buffers_travel_with_the_weights():
    encoder = drawn()
    seen = []
    encoder.stem.register_forward_hook(lambda module, given, output: seen.append(given[0]))
    encoder(images())
    torch.testing.assert_close(seen[0], (images() - 0.5) / 0.25)
    assert {"mean", "std"} <= set(encoder.state_dict())


def test_the_global_generator_decides_the_weights():
    torch.manual_seed(3)
    first = weights_checksum(resnet(18, width=4))
    torch.manual_seed(3)
    assert weights_checksum(resnet(18, width=4)) == first
    assert weights_checksum(resnet(18, width=4)) != first


def test_convolutions_start_with_the_variance_of_he_initialisation():
    for module in resnet(18, width=32).modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert float(module.weight.detach().std()) == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 101}, "depth: expected 18, 34 or 50, got 101"),
        ({"width": 0}, "width: expected at least 1"),
        ({"stem": "vit"}, "stem: expected 'cifar', 'imagenet' or 'unpadded', got 'vit'"),
        ({"in_channels": 0}, "in_channels: expected at least 1"),
    ],
)
def test_impossible_architectures_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        resnet(**options)


@pytest.mark.parametrize("x", [images(channels=1), images()[0], images().flatten(1)])
def test_images_of_another_shape_are_refused(x):
    with pytest.raises(ValueError, match=r"x: expected shape \[N, 3, H, W\], got shape"):
        drawn()(x)


# Checkpoints


@pytest.mark.parametrize(
    "options", [{}, {"depth": 50, "stem": "imagenet"}, {"in_channels": 1}, {"width": 8, "depth": 34}]
)
def test_a_saved_encoder_comes_back_bit_identical_in_evaluation_mode(tmp_path, options):
    encoder, path = drawn(1, **options), tmp_path / "encoder.pt"
    save_encoder(encoder, path, epochs=3)
    for again in (read_encoder(path), read_encoder(str(path)), load_encoder(f"checkpoint:{path}")):
        assert not again.training
        assert again.spec == encoder.spec and again.layer_names == encoder.layer_names
        assert weights_checksum(again) == weights_checksum(encoder)
        x = images(2, 32, encoder.in_channels)
        assert torch.equal(again(x), encoder(x))
    assert read_checkpoint(path)["epochs"] == 3


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused_by_name(tmp_path, share):
    path = tmp_path / "cut.pt"
    save_encoder(drawn(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    for read in (read_encoder, read_checkpoint, lambda p: load_encoder(f"checkpoint:{p}")):
        with pytest.raises(ValueError, match=r"checkpoint .*cut\.pt: expected a whole file of plain tensors"):
            read(path)


@pytest.mark.parametrize("content", [{"model": torch.zeros(2)}, [1, 2], torch.zeros(3), 5, {"spec": {}}])
def test_a_file_that_is_no_checkpoint_of_this_package_is_refused_by_name(tmp_path, content):
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"checkpoint .*other\.pt: expected"):
        read_encoder(path)


def test_weights_that_do_not_fit_their_architecture_are_refused_by_name(tmp_path):
    path, encoder = tmp_path / "mixed.pt", drawn()
    torch.save({"spec": {**encoder.spec, "width": 8}, "encoder": encoder.state_dict()}, path)
    with pytest.raises(ValueError, match=r"mixed\.pt"):
        read_encoder(path)


def test_text_missing_files_and_folders_are_refused_by_name(tmp_path):
    (tmp_path / "notes.pt").write_text("not a checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint .*notes\.pt: expected a whole file"):
        read_encoder(tmp_path / "notes.pt")
    with pytest.raises(ValueError, match=r"checkpoint: expected a file, got .*absent\.pt, which does not exist"):
        load_encoder(f"checkpoint:{tmp_path / 'absent.pt'}")
    with pytest.raises(ValueError, match="checkpoint: expected a file"):
        read_encoder(tmp_path)


class Payload:
    def __reduce__(self):
        return print, ("this must not run",)


def test_code_in_a_checkpoint_never_runs(tmp_path, capsys):
    torch.save({"spec": Payload(), "encoder": {}}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil\.pt"):
        read_encoder(tmp_path / "evil.pt")
    assert "must not run" not in capsys.readouterr().out


def test_an_interrupted_save_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "encoder.pt"
    save_encoder(drawn(1), path)
    before = path.read_bytes()

    def full(state: object, file: object) -> None:
        file.write_bytes(before[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_encoder(drawn(2), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_the_checksum_changes_with_one_weight_or_buffer_and_nothing_else():
    encoder = drawn()
    before = weights_checksum(encoder)
    assert weights_checksum(encoder.train().to(memory_format=torch.channels_last)) == before
    for name in ("layer3.1.residual.0.weight", "layer4.0.shortcut.1.running_var", "stem.1.num_batches_tracked"):
        tensor = encoder.state_dict()[name]
        tensor = tensor[tuple(side - 1 for side in tensor.shape)]
        kept = tensor.clone()
        tensor.copy_(kept + 1 if "num" in name else torch.nextafter(kept, torch.tensor(math.inf)))
        assert weights_checksum(encoder) != before
        tensor.copy_(kept)
        assert weights_checksum(encoder) == before


# Other people's encoders


def test_a_torchvision_encoder_gives_the_features_before_the_classifier():
    encoder = torchvision_encoder("resnet18", pretrained=False).eval()
    original = models.resnet18(weights=None).eval()
    weights = {k.removeprefix("model."): v for k, v in encoder.state_dict().items() if k.startswith("model.")}
    missing = original.load_state_dict(weights, strict=False)
    assert missing.missing_keys == ["fc.weight", "fc.bias"] and not missing.unexpected_keys
    original.fc = nn.Identity()
    x = images(2, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), original((x - mean) / std))
    assert encoder.feature_dim == 512
    assert {"model.conv1", "model.layer1", "model.layer4.1"} <= set(encoder.layer_names)
    assert all(isinstance(encoder.get_submodule(name), nn.Module) for name in encoder.layer_names)


def test_a_torchvision_encoder_survives_a_checkpoint_without_a_download(tmp_path):
    encoder = torchvision_encoder("mobilenet_v3_small", pretrained=False).eval()
    save_encoder(encoder, tmp_path / "mobile.pt")
    assert weights_checksum(read_encoder(tmp_path / "mobile.pt")) == weights_checksum(encoder)
    with torch.no_grad():
        assert encoder(images(2, 32)).shape == (2, encoder.feature_dim)


def test_a_torchvision_model_without_a_linear_classifier_is_refused():
    with pytest.raises(ValueError, match=r"spec: expected .*squeezenet1_1"):
        torchvision_encoder("squeezenet1_1", pretrained=False)


@pytest.mark.parametrize(
    "spec", ["", "resnet", "resnet101", "resnet18:1", "torchvision:", "checkpoint:", "timm", "clip:vit", "RESNET18"]
)
def test_an_unknown_spec_names_the_known_forms(spec):
    with pytest.raises(ValueError) as error:
        load_encoder(spec)
    for form in ("'resnet18'", "'torchvision:NAME'", "'timm:NAME'", "'checkpoint:PATH'", repr(spec)):
        assert form in str(error.value)


def test_unknown_models_of_torchvision_and_unknown_families_are_refused():
    with pytest.raises(ValueError, match=r"spec: expected a model that torchvision.*got 'resnet19'"):
        load_encoder("torchvision:resnet19")
    with pytest.raises(ValueError, match="spec: expected a family of"):
        build({"family": "jax"})


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed, so it can't be missing")
def test_without_timm_the_message_says_how_to_get_it():
    with pytest.raises(ValueError, match="pip install timm"):
        load_encoder("timm:resnet18")


def test_the_plain_names_give_fresh_networks_of_full_width():
    encoder = load_encoder("resnet18")
    assert encoder.spec == {"family": "resnet", "depth": 18, "width": 64, "stem": "cifar", "in_channels": 3}
    assert encoder.feature_dim == 512


def test_an_encoder_without_features_of_its_own_says_what_to_define():
    class Nothing(Encoder):
        pass

    with pytest.raises(TypeError, match=r"Nothing must define embed\(x\)"):
        Nothing(1, (), {}, (0.5,) * 3, (0.5,) * 3)(images())


@pytest.mark.parametrize("channels", [16, 32, 64])
def test_gradients_are_right_where_the_map_is_a_single_pixel_before_a_stride(channels):
    """oneDNN's bf16 convolution with stride 2 leaves its weight's gradient uninitialised on one pixel."""
    torch.manual_seed(0)
    block = resnet(18, width=channels, stem="imagenet").get_submodule("layer2.0.residual.0")
    assert block.stride == (2, 2)
    x, gradients = torch.randn(256, channels, 1, 1), []
    for low in (False, True):
        block.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            block(x).float().square().mean().backward()
        gradients.append(block.weight.grad.clone())
    exact, rounded = gradients
    assert (exact - rounded).norm() < 0.05 * exact.norm()
    assert block(torch.randn(2, channels, 4, 4)).shape[-1] == 2
