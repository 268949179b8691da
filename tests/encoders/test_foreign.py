"""Other projects' checkpoints: each layout, written as its project does, gives the features of its own network."""

import argparse
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from lightly.models import ResNetGenerator
from torch import Tensor, nn

from sslnb.encoders import load_encoder, save_encoder
from sslnb.encoders.foreign import describe, encoder_from


def network(name: str = "resnet18", *, stem: str = "imagenet", padding: int = 1) -> nn.Module:
    """torchvision's network with random weights and running statistics, its stem as projects change it for CIFAR."""
    torch.manual_seed(0)
    body = getattr(torchvision.models, name)(weights=None)
    if stem == "cifar":
        body.conv1, body.maxpool = nn.Conv2d(3, 64, 3, 1, padding, bias=False), nn.Identity()
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    body.fc = nn.Identity()
    return body.eval()


def prefixed(body: nn.Module, prefix: str, **more: Tensor) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in body.state_dict().items()} | more


HEAD = {"projector.0.weight": torch.zeros(4, 512), "classifier.weight": torch.zeros(10, 512)}
LAYOUTS: dict[str, tuple[dict[str, object], Callable[[nn.Module], dict]]] = {
    "solo-learn": (
        {"stem": "cifar", "padding": 2},
        lambda b: {
            "pytorch-lightning_version": "2.0",
            "state_dict": prefixed(b, "backbone.") | prefixed(b, "momentum_backbone.") | HEAD,
        },
    ),
    "lightly": (
        {},
        lambda b: {"state_dict": prefixed(nn.Sequential(*list(b.children())[:-1]), "backbone."), "epoch": 3},
    ),
    "Lightning, named": ({}, lambda b: {"state_dict": prefixed(b, "backbone."), "epoch": 3}),
    "MoCo": (
        {"name": "resnet50"},
        lambda b: {
            "arch": "resnet50",
            "state_dict": prefixed(b, "module.encoder_q.")
            | prefixed(b, "module.encoder_k.")
            | {"module.queue": torch.zeros(128, 8), "module.encoder_q.fc.0.weight": torch.zeros(8, 2048)},
        },
    ),
    "VISSL": (
        {"name": "resnet50"},
        lambda b: {
            "classy_state_dict": {
                "base_model": {"model": {"trunk": prefixed(b, "_feature_blocks."), "heads": {"0.w": torch.zeros(2)}}}
            }
        },
    ),
    "SupContrast": (
        {"stem": "cifar"},
        lambda b: {
            "model": {k.replace("downsample", "shortcut"): v for k, v in prefixed(b, "encoder.module.").items()}
            | {"head.0.w": HEAD["projector.0.weight"]},
            "opt": argparse.Namespace(epochs=1000, model="resnet18"),
            "best_acc": np.float64(91.7),
        },
    ),
    "DINO": (
        {"name": "resnet50"},
        lambda b: {"student": prefixed(b, "module.backbone."), "teacher": prefixed(b, "backbone.")},
    ),
    "SimSiam": ({"name": "resnet50"}, lambda b: {"state_dict": prefixed(b, "module.encoder.")}),
    "BYOL": ({"name": "resnet50"}, lambda b: {"online_network_state_dict": prefixed(b, "encoder.")}),
    "Barlow Twins, bare": ({"name": "resnet50"}, lambda b: prefixed(b, "")),
    "Barlow Twins, wrapped": (
        {"name": "resnet50"},
        lambda b: {"model": prefixed(b, "module.backbone.") | {"module.bn.running_mean": torch.zeros(8)}},
    ),
    "SwAV": (
        {"name": "resnet50"},
        lambda b: (
            prefixed(b, "module.")
            | {"module.projection_head.0.weight": torch.zeros(4, 2048), "module.prototypes.weight": torch.zeros(9, 4)}
        ),
    ),
    "PyContrast": (
        {"name": "resnet50"},
        lambda b: {
            "model": prefixed(b, "module.encoder.")
            | {"module.head.0.weight": torch.zeros(4, 2048), "module.head_jig.fc1.0.weight": torch.zeros(4, 2048)},
            "model_ema": prefixed(b, "encoder."),
            "epoch": 800,
        },
    ),
    "OpenMMLab": (
        {"name": "resnet50"},
        lambda b: {
            "meta": {"epoch": 800},
            "state_dict": prefixed(b, "backbone.") | {"neck.fc0.weight": torch.zeros(4, 2048)},
        },
    ),
    "VICReg": ({"name": "resnet50"}, lambda b: {"model": prefixed(b, "module.backbone.")}),
    "torchvision": (
        {"name": "resnet34"},
        lambda b: prefixed(b, "") | {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)},
    ),
    "wide": ({"name": "wide_resnet50_2"}, lambda b: prefixed(b, "")),
    "grouped": ({"name": "resnext50_32x4d"}, lambda b: prefixed(b, "")),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_projects_layout_gives_the_features_of_its_own_network(name: str, tmp_path) -> None:
    how, write = LAYOUTS[name]
    body = network(how.get("name", "resnet18"), **{k: v for k, v in how.items() if k != "name"})
    torch.save(write(body), tmp_path / "theirs.pth")
    encoder = load_encoder(f"checkpoint:{tmp_path / 'theirs.pth'}?normalisation=none")
    x = torch.rand(2, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(encoder(x), body(x)) and encoder.feature_dim == body(x).shape[1]


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("name", ["resnet-18", "resnet-50"])
def test_lightlys_own_networks_give_their_features(name: str, cut: bool, tmp_path) -> None:
    """Whole, and cut open as its examples do; its stem is CIFAR's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = ResNetGenerator(name)
        theirs.train()(torch.rand(8, 3, 32, 32))
    theirs.linear = nn.Identity()
    x = torch.rand(2, 3, 32, 32)
    backbone = nn.Sequential(*list(theirs.children())[:-1], nn.AdaptiveAvgPool2d(1)) if cut else theirs
    with torch.no_grad():
        expected = backbone.eval()(x).flatten(1)  # cut open, it has no activation behind the stem
    about = {"pytorch-lightning_version": "2.0", "epoch": 3}
    torch.save(about | {"state_dict": prefixed(backbone, "backbone.")}, tmp_path / "theirs.ckpt")
    encoder = load_encoder(f"checkpoint:{tmp_path / 'theirs.ckpt'}?normalisation=none")
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_timms_state_dicts_give_timms_features(name: str, tmp_path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = timm.create_model(name).eval()
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    encoder = load_encoder(f"checkpoint:{tmp_path / 'timm.pth'}?normalisation=none")
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.forward_head(theirs.forward_features(x), pre_logits=True)
        torch.testing.assert_close(encoder(x), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["MoCo", "torchvision", "solo-learn"])
def test_what_is_no_part_of_the_encoder_is_listed(name: str) -> None:
    how, write = LAYOUTS[name]
    body = network(how.get("name", "resnet18"), **{k: v for k, v in how.items() if k != "name"})
    layout, own = describe(write(body))
    aside = {"MoCo": "module.queue", "torchvision": "fc.weight", "solo-learn": "projector.0.weight"}[name]
    assert aside in layout.aside and set(own) == set(body.state_dict())
    if name == "MoCo":
        assert "module.encoder_k.conv1.weight" in layout.aside and layout.project == "MoCo"


def test_normalisation_is_imagenets_or_cifars_by_the_stem_unless_named(tmp_path) -> None:
    for stem, mean in (("imagenet", 0.485), ("cifar", 0.4914)):
        encoder, _ = encoder_from(prefixed(network(stem=stem), ""))
        assert float(encoder.mean[0, 0, 0, 0]) == pytest.approx(mean)
    with pytest.raises(ValueError, match="normalisation: expected one of"):
        encoder_from(prefixed(network(), ""), normalisation="imagnet")


def test_it_is_saved_and_read_as_an_encoder_of_ours(tmp_path) -> None:
    encoder, _ = encoder_from(prefixed(network(stem="cifar"), "net."))
    save_encoder(encoder, tmp_path / "ours.pt")
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(load_encoder(f"checkpoint:{tmp_path / 'ours.pt'}")(x), encoder(x))
    safetensors.torch.save_file(prefixed(network(stem="cifar"), "net."), tmp_path / "theirs.safetensors")
    with torch.no_grad():
        assert torch.equal(load_encoder(f"checkpoint:{tmp_path / 'theirs.safetensors'}")(x), encoder(x))


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            lambda s: without(s, "layer3.1.conv2.weight"),
            {},
            "expected all parameters of resnet18, got none for .*layer3",
        ),
        (
            lambda s: s | {"layer5.0.conv1.weight": torch.zeros(2)},
            {},
            "expected parameters of resnet18 alone, got also",
        ),
        (lambda s: s | {"bn1.weight": torch.zeros(32)}, {}, "expected the shapes of resnet18, got others for .*bn1"),
        (lambda s: s, {"arch": "resnet50"}, "arch: expected resnet18, as the weights are, got resnet50"),
        (lambda s: s, {"stem": "cifar"}, "stem: expected imagenet, as the weights are, got cifar"),
        (lambda s: s, {"prefix": "encoder."}, "prefix: expected one before 'conv1.weight'"),
        (
            lambda s: {f"a.{k}": v for k, v in s.items()} | {f"b.{k}": v for k, v in s.items()},
            {},
            "prefix: expected one",
        ),
        (lambda s: {"weights": torch.zeros(3)}, {}, "checkpoint: expected a ResNet's parameters"),
        (lambda s: {k: v for k, v in s.items() if not k.startswith("layer4.1")}, {}, "a ResNet of 18, 34, 50"),
    ],
)
def test_what_is_missing_unclear_or_contradicted_is_refused(change, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder_from(change(network().state_dict()), **options)


def test_two_encoders_are_told_apart_by_their_prefix() -> None:
    both = prefixed(network(), "a.") | prefixed(network(), "b.")
    assert describe(both, prefix="b.")[0].prefix == "b."


class Hostile:
    def __reduce__(self) -> tuple:
        return print, ("executed",)


def test_a_file_that_would_execute_something_is_refused_without_advice_to_do_so(tmp_path, capsys) -> None:
    (tmp_path / "bad.pth").write_bytes(pickle.dumps({"state_dict": Hostile()}))
    torch.save({"state_dict": Hostile()}, tmp_path / "worse.pth")
    for name in ("bad.pth", "worse.pth"):
        with pytest.raises(ValueError, match="expected") as caught:
            load_encoder(f"checkpoint:{tmp_path / name}")
        assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)
    assert "executed" not in capsys.readouterr().out


def test_an_unknown_option_names_the_nearest(tmp_path) -> None:
    torch.save(network().state_dict(), tmp_path / "x.pth")
    with pytest.raises(ValueError, match="did you mean 'stem'"):
        load_encoder(f"checkpoint:{tmp_path / 'x.pth'}?stm=cifar")
