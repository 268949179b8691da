"""Two networks side by side, on the lightness and on the colour of an image."""

import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_known
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.resnet import resnet
from sslnb.views.color_spaces import rgb_to_lab, rgb_to_ydbdr

# How to convert, and what to divide by so that channels are about 1 wide.
COLOR_SPACES = {"lab": (rgb_to_lab, 100.0), "ydbdr": (rgb_to_ydbdr, 1.0)}


class ColorStreams(Encoder):
    """Two networks, ``first`` on a colour space's lightness, ``second`` on its two colour channels, side by side."""

    differentiable = False  # colours are converted in place

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
