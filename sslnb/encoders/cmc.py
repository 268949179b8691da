"""CMC's published encoder: two ResNet-50s of half the width, on the luma and on the colours of YDbDr.

Source: PyContrast, networks/resnet.py and build_backbone.py, datasets/util.py.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from sslnb.core.checks import expect
from sslnb.encoders.foreign import fill
from sslnb.encoders.wrapped import Wrapped
from sslnb.views.color_spaces import rgb_to_ydbdr

MEAN, STD = (0.457, -0.082, -0.052), (0.500, 1.331, 1.333)  # of the channels of YDbDr, as PyContrast normalises them
SIDE = 224
HALF = 32  # channels of the first stage; the stem keeps its 64


class CMC(Wrapped):
    """Features [N,2048]: 1,024 of the luma, then 1,024 of the colours."""

    differentiable: ClassVar[bool] = False  # colours are converted in place

    def __init__(self) -> None:
        spec = {"family": "cmc"}
        super().__init__(ColorHalves(), spec=spec, mean=(0.0,) * 3, std=(1.0,) * 3, side=SIDE)


class ColorHalves(nn.Module):
    """The two networks, and the colours that each is given."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder1, self.encoder2 = half(1), half(2)
        self.register_buffer("center", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            channels = (rgb_to_ydbdr(x.float()) - self.center) / self.scale
        return torch.cat([self.encoder1(channels[:, :1]), self.encoder2(channels[:, 1:])], 1)


def half(channels: int) -> nn.Module:
    """torchvision's ResNet-50 with stages of half the width, which its own ``width_per_group`` narrows only within."""
    from torchvision.models.resnet import Bottleneck, ResNet

    body = ResNet(Bottleneck, [3, 4, 6, 3])
    body.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    body.inplanes = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        layer = body._make_layer(Bottleneck, HALF * 2**stage, blocks, stride=1 if stage == 0 else 2)
        setattr(body, f"layer{stage + 1}", layer)
    body.fc = nn.Identity()
    return body


def cmc_from(state: Mapping[str, object]) -> CMC:
    """The encoder in a file's contents, in evaluation mode; ``ValueError`` where a parameter is missing or too many."""
    tensors = state.get("model") if isinstance(state, Mapping) else None
    expect(isinstance(tensors, Mapping), "checkpoint", "parameters under the key 'model'", sorted(map(str, state))[:8])
    encoder = CMC()
    for name in ("encoder1", "encoder2"):
        start = f"module.{name}."
        own = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        fill(encoder.model.get_submodule(name), own, f"CMC's {name}")
    return encoder.eval()
