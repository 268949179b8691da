"""Encoders: images in, features out, every layer with a name."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from sslnb.core.checks import expect, expect_known
from sslnb.core.files import atomic
from sslnb.views.color_spaces import rgb_to_lab, rgb_to_ydbdr

# How to convert, and what to divide by so that channels are about 1 wide.
COLOR_SPACES = {"lab": (rgb_to_lab, 100.0), "ydbdr": (rgb_to_ydbdr, 1.0)}
# Per-channel mean and deviation of ImageNet, as torchvision's weights expect them.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every module's own mode back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class Residual(nn.Module):
    """y = relu(shortcut(x) + residual(x)): He et al. 2016, equation 2.

    The branch is a module of its own, so that ``layer1.0.residual`` (odd layers) and ``layer1.0`` (even layers)
    can both be captured by name.
    """

    def __init__(self, residual: nn.Sequential, shortcut: nn.Module) -> None:
        super().__init__()
        self.residual, self.shortcut = residual, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.residual(x))


class Conv(nn.Conv2d):
    """A convolution that does not stride over a single pixel.

    There a stride changes nothing in the result, but oneDNN's bf16 kernels leave the weight's gradient uninitialised.
    """

    def forward(self, x: Tensor) -> Tensor:
        stride = 1 if x.shape[-2:] == (1, 1) else self.stride
        return nn.functional.conv2d(x, self.weight, self.bias, stride, self.padding)


def _conv(channels: int, out: int, kernel: int, stride: int = 1, *, padded: bool = True) -> list[nn.Module]:
    return [Conv(channels, out, kernel, stride, kernel // 2 if padded else 0, bias=False), nn.BatchNorm2d(out)]


def _shortcut(channels: int, out: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 and channels == out else nn.Sequential(*_conv(channels, out, 1, stride))


def basic_block(channels: int, width: int, stride: int) -> tuple[Residual, int]:
    """Two 3×3 convolutions; returns the block and its number of output channels."""
    branch = [*_conv(channels, width, 3, stride), nn.ReLU(inplace=True), *_conv(width, width, 3)]
    return Residual(nn.Sequential(*branch), _shortcut(channels, width, stride)), width


def bottleneck(channels: int, width: int, stride: int) -> tuple[Residual, int]:
    """1×1, 3×3 (with the stride, as torchvision does), 1×1 to four times the width."""
    branch = [*_conv(channels, width, 1), nn.ReLU(inplace=True), *_conv(width, width, 3, stride)]
    branch += [nn.ReLU(inplace=True), *_conv(width, 4 * width, 1)]
    return Residual(nn.Sequential(*branch), _shortcut(channels, 4 * width, stride)), 4 * width


STEMS = ("cifar", "imagenet", "unpadded")


def _stem(kind: str, in_channels: int, width: int) -> nn.Sequential:
    if kind == "imagenet":
        return nn.Sequential(*_conv(in_channels, width, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
    # cifar: keeps a 32-pixel image at 32 pixels
    return nn.Sequential(*_conv(in_channels, width, 3, padded=kind == "cifar"), nn.ReLU(inplace=True))


class Encoder(nn.Module):
    """An image encoder: x [N,C,H,W] in [0, 1] → features [N,feature_dim].

    ``layer_names`` lists the layers in the order of computation, each the path of a submodule
    (``encoder.get_submodule(name)``); ``spec`` is what :func:`build` needs to make the architecture again. Images are
    normalised inside, by buffers that a checkpoint carries along: whoever calls an encoder passes plain pixels.
    """

    def __init__(
        self,
        feature_dim: int,
        layer_names: tuple[str, ...],
        spec: dict,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.feature_dim, self.layer_names, self.spec = feature_dim, layer_names, spec
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    @property
    def in_channels(self) -> int:
        return self.mean.shape[1]

    def embed(self, x: Tensor) -> Tensor:
        """Features of normalised images; a subclass's own."""
        raise TypeError(f"{type(self).__name__} must define embed(x)")

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x: expected shape [N, {self.in_channels}, H, W], got shape {list(x.shape)}")
        return self.embed((x - self.mean) / self.std).flatten(1)


class ResNet(Encoder):
    """The stages of a residual network as direct children: ``stem``, ``layer1`` … ``layer4``, ``pool``."""

    def __init__(self, stages: dict[str, nn.Module], **description: object) -> None:
        super().__init__(**description)
        self._stages = tuple(stages)
        for name, stage in stages.items():
            self.add_module(name, stage)

    def embed(self, x: Tensor) -> Tensor:
        for name in self._stages:
            x = self.get_submodule(name)(x)
        return x


class Wrapped(Encoder):
    """Somebody else's network, as ``model``; its layers are its modules down to two levels."""

    def __init__(self, model: nn.Module, feature_dim: int, **description: object) -> None:
        names = (n for n, m in model.named_modules() if n and n.count(".") <= 1 and not isinstance(m, nn.Identity))
        super().__init__(feature_dim, tuple(f"model.{n}" for n in names), **description)
        self.model = model

    def embed(self, x: Tensor) -> Tensor:
        return self.model(x)


def resnet(depth: int = 18, *, width: int = 64, stem: str = "cifar", in_channels: int = 3) -> Encoder:
    """ResNet-18, -34 or -50 without its classifier; ``width`` is the first stage's, 64 in the paper.

    ``stem`` is ``"cifar"`` (3×3, stride 1, padded, no pooling), ``"imagenet"`` (7×7, stride 2, max-pooling), or
    ``"unpadded"`` (as cifar, without padding: each side loses two pixels).
    Weights are drawn from torch's global generator. Source: He et al. 2016, table 1.
    """
    blocks = {18: (basic_block, (2, 2, 2, 2)), 34: (basic_block, (3, 4, 6, 3)), 50: (bottleneck, (3, 4, 6, 3))}
    expect(depth in blocks, "depth", "18, 34 or 50", depth)
    expect(width >= 1, "width", "at least 1", width)
    expect(stem in STEMS, "stem", "'cifar', 'imagenet' or 'unpadded'", repr(stem))
    expect(in_channels >= 1, "in_channels", "at least 1", in_channels)
    make, counts = blocks[depth]
    stages: dict[str, nn.Module] = {"stem": _stem(stem, in_channels, width)}
    names, channels = ["stem"], width
    for stage, count in enumerate(counts):
        name, layer = f"layer{stage + 1}", nn.Sequential()
        for index in range(count):
            block, channels = make(channels, width * 2**stage, 2 if stage and not index else 1)
            layer.append(block)
            names += [f"{name}.{index}.residual", f"{name}.{index}"]
        stages[name] = layer
    stages["pool"] = nn.AdaptiveAvgPool2d(1)
    encoder = ResNet(
        stages,
        feature_dim=channels,
        layer_names=(*names, "pool"),
        spec={"family": "resnet", "depth": depth, "width": width, "stem": stem, "in_channels": in_channels},
        mean=(0.5,) * in_channels,  # the same for every data set: the stem's batch norm does the rest
        std=(0.25,) * in_channels,
    )
    _initialise(encoder)
    return encoder


def adopt(encoder: Encoder, source: Encoder) -> Encoder:
    """Give an encoder the weights of another with the same layers, taken in their order; returns the encoder.

    A ResNet of torchvision has the layers of :func:`resnet`'s in the same order. Where the first convolutions differ in
    shape, the encoder keeps its own. ``ValueError`` for a network of other layers or widths.
    """
    own, given = ({k: v for k, v in e.state_dict().items() if k not in ("mean", "std")} for e in (encoder, source))
    same = len(own) == len(given)
    expect(same, "source", f"the {len(own)} weights of {encoder.spec}", f"{len(given)} of {source.spec}")
    first = next(iter(own))
    with torch.no_grad():
        for (name, weight), value in zip(own.items(), given.values(), strict=True):
            fits = weight.shape == value.shape
            expect(fits or name == first, "source", f"{name} of shape {list(weight.shape)}", list(value.shape))
            if fits:
                weight.copy_(value)
    return encoder


def untrained(seed: int, depth: int = 18, **shape: object) -> Encoder:
    """:func:`resnet` with the weights that the seed draws, in evaluation mode: a control for trained ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return resnet(depth, **shape).eval()


class ColorStreams(Encoder):
    """Two networks, ``first`` on a colour space's lightness, ``second`` on its two colour channels, side by side."""

    def __init__(self, first: Encoder, second: Encoder, color: str, **description: object) -> None:
        names = tuple(f"{stream}.{n}" for stream in ("first", "second") for n in first.layer_names)
        super().__init__(first.feature_dim + second.feature_dim, names, **description)
        self.first, self.second, self._convert, self._scale = first, second, *COLOR_SPACES[color]

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N,d/2] of the lightness and [N,d/2] of the colour of images [N,3,H,W] in [0, 1]."""
        channels = self.channels(x)
        return self.first(channels[:, :1]), self.second(channels[:, 1:])

    def channels(self, x: Tensor) -> Tensor:
        """Lightness and two colour channels [N,3,H,W], all about [0, 1], 0.5 being no colour."""
        with torch.autocast(x.device.type, enabled=False):
            channels = self._convert(x.float()) / self._scale
            return torch.cat([channels[:, :1], channels[:, 1:] + 0.5], 1)

    def embed(self, x: Tensor) -> Tensor:
        return torch.cat(self.parts(x), 1)


def color_streams(
    depth: int = 18, *, width: int = 64, stem: str = "cifar", in_channels: int = 3, color: str = "lab"
) -> ColorStreams:
    """Two ResNets of half the width, on the lightness and on the colour channels of ``"lab"`` or ``"ydbdr"``.

    Together they give as many features as :func:`resnet` with the same arguments. ``ValueError`` for images without
    colour or an odd width. Source: Tian, Krishnan and Isola 2020, section 4.1.
    """
    expect(in_channels == 3, "in_channels", "3 channels (red, green, blue) to split by colour", in_channels)
    expect(width % 2 == 0, "width", "an even number, to be halved", width)
    expect_known(color, tuple(COLOR_SPACES), "color")
    first, second = (resnet(depth, width=width // 2, stem=stem, in_channels=channels) for channels in (1, 2))
    spec = {"family": "color_streams", "depth": depth, "width": width, "stem": stem, "color": color}
    return ColorStreams(first, second, color, spec=spec, mean=(0.0,) * 3, std=(1.0,) * 3)


def _initialise(encoder: nn.Module) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def load_encoder(spec: str) -> Encoder:
    """Encoder named by ``"resnet18"``, ``"torchvision:resnet50"``, ``"timm:NAME"`` or ``"checkpoint:PATH"``.

    ``resnetNN`` starts at random; torchvision and timm bring their default pretrained weights, which they download
    on first use; a checkpoint is one that ``sslnb pretrain`` or :func:`save_encoder` wrote. Raises ``ValueError``
    for anything else, naming the forms.
    """
    kind, _, rest = spec.partition(":")
    if not rest and kind in ("resnet18", "resnet34", "resnet50"):
        return resnet(int(kind.removeprefix("resnet")))
    loaders = {"torchvision": torchvision_encoder, "timm": timm_encoder, "checkpoint": read_encoder}
    forms = "'resnet18', 'resnet34', 'resnet50', 'torchvision:NAME', 'timm:NAME' or 'checkpoint:PATH'"
    expect(kind in loaders and bool(rest), "spec", forms, repr(spec))
    return loaders[kind](rest)


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
    return Wrapped(model, feature_dim, spec=spec, mean=IMAGENET_MEAN, std=IMAGENET_STD)


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
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a file that is cut short
        raise ValueError(f"checkpoint {path}: expected a whole file of plain tensors, got: {error}") from error
    expect(isinstance(state, dict), f"checkpoint {path}", "a dictionary", type(state).__name__)
    return state


def build(spec: dict) -> Encoder:
    """Encoder of the architecture that ``Encoder.spec`` describes, without trained weights."""
    options = {key: value for key, value in spec.items() if key != "family"}
    ours = {"resnet": resnet, "color_streams": color_streams}
    makers = ours | {"torchvision": torchvision_encoder, "timm": timm_encoder}
    expect(spec.get("family") in makers, "spec", f"a family of {sorted(makers)}", spec.get("family"))
    return makers[spec["family"]](**options if spec["family"] in ours else {**options, "pretrained": False})


def weights_checksum(encoder: nn.Module) -> str:
    """SHA-256 over all weights and buffers by name: equal exactly when two encoders are bit-identical."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
