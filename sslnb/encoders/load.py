"""Encoders: images in, features out, every layer with a name."""

import argparse
import importlib.util
import pickle
import pkgutil
import re
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from sslnb.core.checks import expect, expect_known, one_line
from sslnb.core.files import atomic, home
from sslnb.encoders import foreign
from sslnb.encoders.cmc import CMC
from sslnb.encoders.color_streams import color_streams
from sslnb.encoders.encoder import Encoder, evaluating
from sslnb.encoders.resnet import resnet
from sslnb.encoders.wrapped import noise, timm_encoder, torchvision_encoder

SAME = 1e-3  # relative difference of features, above which two networks differ by more than rounding
OWN = {"resnet": resnet, "color_streams": color_streams}  # families of this package
# What projects put beside their weights: options of the command line, and accuracies as NumPy has them.
HARMLESS = [
    argparse.Namespace,
    np._core.multiarray.scalar,
    np.dtype,
    *(type(np.dtype(kind)) for kind in "?bhilBHILefd"),
]
OPTIONS = ("prefix", "arch", "stem", "padding", "normalisation")  # of another project's checkpoint


def load_encoder(spec: str) -> Encoder:
    """Encoder named by ``"resnet18"``, ``"torchvision:resnet50"``, ``"checkpoint:PATH"``, ``"pool:small/simclr/0"``, …

    ``resnetNN`` starts at random; torchvision and timm bring their default pretrained weights, which they download
    on first use; a checkpoint is one that ``sslnb pretrain`` or :func:`save_encoder` wrote, or another project's ResNet
    (``checkpoint:PATH?prefix=…&arch=…&stem=…&padding=…&normalisation=…``, where the file does not tell);
    ``python:FILE.py:NAME`` is what NAME() gives in a file of one's own, which is executed; a pool's encoder is named by
    scale, variant, seed, and ``@STEP`` for an early one. Raises ``ValueError`` for anything else, naming the forms.
    """
    kind, _, rest = spec.partition(":")
    if not rest and kind in ("resnet18", "resnet34", "resnet50"):
        return resnet(int(kind.removeprefix("resnet")))
    libraries = {"torchvision": torchvision_encoder, "timm": timm_encoder}
    loaders = libraries | {"checkpoint": _of_file, "python": _of_code, "pool": _of_pool}
    forms = "'resnet18', 'resnet34', 'resnet50', 'torchvision:NAME', 'timm:NAME', 'checkpoint:PATH', "
    forms += "'python:FILE.py:NAME' or 'pool:NAME'"
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


def _of_code(name: str) -> Encoder:
    """What a class or function of the user's own file gives, called without arguments."""
    path, _, attribute = name.rpartition(":")
    whole = home(path).is_file() and attribute.isidentifier()
    expect(whole, "spec", "python:FILE.py:NAME with a file that exists", f"'python:{name}'")
    module_spec = importlib.util.spec_from_file_location(home(path).stem, home(path))
    expect(module_spec is not None, "spec", "a file of Python code", repr(path))
    module = sys.modules[module_spec.name] = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        encoder = getattr(module, attribute)()
    except Exception as error:  # of somebody else's code
        got = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(f"spec: expected an encoder from {attribute}() of {path}, got {got}") from error
    expect(isinstance(encoder, Encoder), "spec", f"an Encoder from {attribute}()", type(encoder).__name__)
    return encoder.eval()


def _of_pool(name: str) -> Encoder:
    # By name at run time: pools are made of encoders, and imports point one way.
    return pkgutil.resolve_name("sslnb.pool.pool:encoder_by_name")(name)


def save_encoder(encoder: Encoder, path: Path | str, **extra: object) -> None:
    """Write an encoder, its architecture and any ``extra`` plain values so that :func:`read_encoder` finds them.

    ``ValueError``, and nothing is written, where what would be read gives other features: a network with settings that
    are neither weights nor in its ``spec``.
    """
    _expect_same(_ours({"spec": encoder.spec, "encoder": encoder.state_dict()}, path), encoder)
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
    spec, weights = state["spec"], state["encoder"]
    for name, value in (("spec", spec), ("encoder", weights)):
        expect(isinstance(value, dict), f"checkpoint {path}", f"names and values as its {name}", type(value).__name__)
    if spec.get("family") in OWN:  # before a number in the file takes memory
        with torch.device("meta"):
            wanted = {name: value.shape for name, value in build(spec).state_dict().items()}
        wrong = [name for name, shape in wanted.items() if getattr(weights.get(name), "shape", None) != shape]
        expect(not wrong, f"checkpoint {path}", f"weights of {spec}", f"none or others for {wrong[:3]}")
    encoder = build(spec)
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"checkpoint {path}: expected weights of {spec}, got others: {one_line(error)}") from error
    return encoder.eval()


def read_checkpoint(path: Path | str) -> dict:
    """Contents of a checkpoint: tensors and plain values only. ``ValueError`` names a missing or damaged file."""
    path = home(path)
    if not path.is_file():
        raise ValueError(f"checkpoint: expected a file, got {path}, which does not exist")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(HARMLESS):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # whose text advises to execute what the file holds
        wanted = "a whole file of plain tensors, as torch.save(model.state_dict(), path) writes it"
        foreigner = re.search(r"GLOBAL ([\w.]+)", str(error))
        got = f"one that holds {foreigner[1]}, which loading would execute" if foreigner else "a damaged one"
        raise ValueError(f"checkpoint {path}: expected {wanted}, got {got}") from error
    except Exception as error:  # torch raises half a dozen kinds for a file that is cut short
        wanted = "a whole file of plain tensors"
        raise ValueError(f"checkpoint {path}: expected {wanted}, got: {one_line(error)}") from error
    expect(isinstance(state, dict), f"checkpoint {path}", "a dictionary", type(state).__name__)
    return state


def build(spec: dict) -> Encoder:
    """Encoder of the architecture that ``Encoder.spec`` describes, without trained weights.

    Its family is one of this package, or the name of a class of encoders that the program has defined.
    """
    options = {key: value for key, value in spec.items() if key != "family"}
    ours = OWN | {"foreign": foreign.rebuilt, "cmc": CMC}
    libraries = {"torchvision": torchvision_encoder, "timm": timm_encoder}
    defined = {kind.__name__: kind for kind in _subclasses(Encoder)}
    makers, family = defined | ours | libraries, spec.get("family")
    wanted = f"a family of {sorted(ours | libraries)}, or a class of encoders that is defined or imported before"
    expect(family in makers, "spec", wanted, repr(family))
    try:
        return makers[family](**options, **({"pretrained": False} if family in libraries else {}))
    except TypeError as error:  # of names and values that it does not have
        raise ValueError(f"spec: expected the options of {family}, got {options}: {one_line(error)}") from error


def _subclasses(kind: type) -> Iterator[type]:
    for below in kind.__subclasses__():
        yield below
        yield from _subclasses(below)


@torch.no_grad()
def _expect_same(again: Encoder, encoder: Encoder) -> None:
    """Refuse an encoder of which its ``spec`` and weights are not the whole."""
    images = noise(encoder)
    with evaluating(encoder):
        features, expected = again.to(images.device)(images), encoder(images)
    far = float((features - expected).norm() / expected.norm().clamp(min=torch.finfo(expected.dtype).tiny))
    wanted = "an encoder that its spec and weights make again"
    expect(far < SAME, "encoder", wanted, f"one of {encoder.spec} whose features are then off by {100 * far:.3g} %")
