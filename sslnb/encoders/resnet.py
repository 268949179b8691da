"""Residual networks of any width, with stems for small and large images."""

import torch
from torch import Tensor, nn

from sslnb.core.checks import expect
from sslnb.encoders.encoder import Encoder


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
    own, weights = ({k: v for k, v in e.state_dict().items() if k not in ("mean", "std")} for e in (encoder, source))
    same = len(own) == len(weights)
    expect(same, "source", f"the {len(own)} weights of {encoder.spec}", f"{len(weights)} of {source.spec}")
    first = next(iter(own))
    with torch.no_grad():
        for (name, weight), value in zip(own.items(), weights.values(), strict=True):
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


def _initialise(encoder: nn.Module) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
