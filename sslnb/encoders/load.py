"""Encoders: images in, features out, every layer with a name."""

import pickle
import pkgutil
import re
import urllib.parse
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from sslnb.core.checks import expect, expect_known
from sslnb.core.files import atomic
from sslnb.encoders import foreign
from sslnb.encoders.color_streams import color_streams
from sslnb.encoders.encoder import Encoder, Wrapped
from sslnb.encoders.resnet import resnet

OPTIONS = ("prefix", "arch", "stem", "normalisation")  # of another project's checkpoint


def load_encoder(spec: str) -> Encoder:
    """Encoder named by ``"resnet18"``, ``"torchvision:resnet50"``, ``"checkpoint:PATH"``, ``"pool:small/simclr/0"``, …

    ``resnetNN`` starts at random; torchvision and timm bring their default pretrained weights, which they download
    on first use; a checkpoint is one that ``sslnb pretrain`` or :func:`save_encoder` wrote, or another project's ResNet
    (``checkpoint:PATH?prefix=…&arch=…&stem=…&normalisation=…``, where the file does not tell); a pool's encoder is
    named by scale, variant, seed, and ``@STEP`` for an early one. Raises ``ValueError`` for anything else, naming the
    forms.
    """
    kind, _, rest = spec.partition(":")
    if not rest and kind in ("resnet18", "resnet34", "resnet50"):
        return resnet(int(kind.removeprefix("resnet")))
    loaders = {"torchvision": torchvision_encoder, "timm": timm_encoder, "checkpoint": _of_file, "pool": _of_pool}
    forms = "'resnet18', 'resnet34', 'resnet50', 'torchvision:NAME', 'timm:NAME', 'checkpoint:PATH' or 'pool:NAME'"
    expect(kind in loaders and bool(rest), "spec", forms, repr(spec))
    return loaders[kind](rest)


def _of_file(name: str) -> Encoder:
    """An encoder of ours, or of another project with what its name says after a question mark."""
    path, _, asked = name.partition("?")
    options = dict(urllib.parse.parse_qsl(asked, keep_blank_values=True))
    for option in options:
        expect_known(option, OPTIONS, "spec")
    state = read_checkpoint(path)
    ours = {"spec", "encoder"} <= set(state) and not options
    return _ours(state, path) if ours else foreign.encoder_from(state, **options)[0]


def _of_pool(name: str) -> Encoder:
    # By name at run time: pools are made of encoders, and imports point one way.
    return pkgutil.resolve_name("sslnb.pool.pool:encoder_by_name")(name)


def torchvision_encoder(name: str, *, pretrained: bool = True) -> Encoder:
    """One of torchvision's ImageNet classifiers with its last linear layer taken off."""
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    expect(name in known, "spec", "a model that torchvision.models.list_models() lists", repr(name))
    model = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
    linear = [n for n, module in model.named_modules() if isinstance(module, nn.Linear)]
    expect(bool(linear), "spec", "a model that ends in a linear layer", repr(name))
    last = linear[-1]
    parent, _, child = last.rpartition(".")
    feature_dim = model.get_submodule(last).in_features
    setattr(model.get_submodule(parent), child, nn.Identity())
    spec = {"family": "torchvision", "name": name}
    mean, std = foreign.IMAGENET
    return Wrapped(model, feature_dim, spec=spec, mean=mean, std=std)


def timm_encoder(name: str, *, pretrained: bool = True) -> Encoder:
    """One of timm's models with pooled features; ``ValueError`` when timm is not installed."""
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"spec: 'timm:{name}' needs the package timm: pip install timm") from error
    expect(timm.is_model(name), "spec", "a model that timm.list_models() lists", repr(name))
    model = timm.create_model(name, pretrained=pretrained, num_classes=0)
    config = timm.data.resolve_model_data_config(model)
    spec = {"family": "timm", "name": name}
    return Wrapped(model, model.num_features, spec=spec, mean=config["mean"], std=config["std"])


def save_encoder(encoder: Encoder, path: Path | str, **extra: object) -> None:
    """Write an encoder, its architecture and any ``extra`` plain values so that :func:`read_encoder` finds them."""
    with atomic(path) as partial:
        torch.save({"spec": encoder.spec, "encoder": encoder.state_dict(), **extra}, partial)


def read_encoder(path: Path | str) -> Encoder:
    """Encoder from a file written by :func:`save_encoder` or by a finished or running ``sslnb pretrain``.

    Raises ``ValueError`` naming the file when it is missing, cut short, or not a checkpoint of this package.
    """
    state = read_checkpoint(path)
    expect("spec" in state and "encoder" in state, f"checkpoint {path}", "keys 'spec' and 'encoder'", sorted(state))
    return _ours(state, path)


def _ours(state: dict, path: Path | str) -> Encoder:
    """The encoder of a checkpoint that this package wrote."""
    encoder = build(state["spec"])
    try:
        encoder.load_state_dict(state["encoder"])
    except RuntimeError as error:
        raise ValueError(f"checkpoint {path}: expected weights of {state['spec']}, got others: {error}") from error
    return encoder.eval()


def read_checkpoint(path: Path | str) -> dict:
    """Contents of a checkpoint: tensors and plain values only. ``ValueError`` names a missing or damaged file."""
    if not Path(path).is_file():
        raise ValueError(f"checkpoint: expected a file, got {path}, which does not exist")
    try:
        if Path(path).suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # whose text advises to execute what the file holds
        wanted = "a whole file of plain tensors, as torch.save(model.state_dict(), path) writes it"
        foreigner = re.search(r"GLOBAL ([\w.]+)", str(error))
        got = f"one that holds {foreigner[1]}, which loading would execute" if foreigner else "a damaged one"
        raise ValueError(f"checkpoint {path}: expected {wanted}, got {got}") from error
    except Exception as error:  # torch raises half a dozen kinds for a file that is cut short
        raise ValueError(f"checkpoint {path}: expected a whole file of plain tensors, got: {error}") from error
    expect(isinstance(state, dict), f"checkpoint {path}", "a dictionary", type(state).__name__)
    return state


def build(spec: dict) -> Encoder:
    """Encoder of the architecture that ``Encoder.spec`` describes, without trained weights."""
    options = {key: value for key, value in spec.items() if key != "family"}
    ours = {"resnet": resnet, "color_streams": color_streams, "foreign": foreign.rebuilt}
    makers = ours | {"torchvision": torchvision_encoder, "timm": timm_encoder}
    expect(spec.get("family") in makers, "spec", f"a family of {sorted(makers)}", spec.get("family"))
    return makers[spec["family"]](**options if spec["family"] in ours else {**options, "pretrained": False})
