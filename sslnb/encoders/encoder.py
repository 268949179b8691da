"""What every encoder is: images in, features out, layers by name."""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from sslnb.core.checks import one_line


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


def called(model: nn.Module, x: Tensor, argument: str = "x") -> Tensor:
    """What a model gives for x; ``ValueError`` naming the argument where its shape or type is none that it takes."""
    try:
        return model(x)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, IndexError) as error:
        what = f"shape {list(x.shape)} of {x.dtype}"
        raise ValueError(f"{argument}: expected what the model takes, got {what} ({one_line(error)})") from error


class Encoder(nn.Module):
    """An image encoder: x [N,C,H,W] in [0, 1] → features [N,feature_dim].

    ``layer_names`` lists the layers in the order of computation, each the path of a submodule
    (``encoder.get_submodule(name)``); ``spec`` is what :func:`build` needs to make the architecture again. Images are
    normalised inside, by buffers that a checkpoint carries along: whoever calls an encoder passes plain pixels.
    ``side``: of the images, in pixels, that its weights were made for; None where it takes all alike.
    ``differentiable``: whether features have a gradient in the images, which attacks need.
    """

    differentiable: ClassVar[bool] = True

    def __init__(
        self,
        feature_dim: int,
        layer_names: tuple[str, ...],
        spec: dict,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        side: int | None = None,
    ) -> None:
        super().__init__()
        self.feature_dim, self.layer_names, self.spec, self.side = feature_dim, layer_names, spec, side
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


def weights_checksum(encoder: nn.Module) -> str:
    """SHA-256 over all weights and buffers by name: equal exactly when two encoders are bit-identical."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
