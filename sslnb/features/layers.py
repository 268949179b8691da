"""Layers of a network by name, seen while it runs and kept no longer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sslnb.core import device as devices
from sslnb.core.checks import expect, expect_count, expect_known, expect_tensor
from sslnb.encoders.encoder import Encoder, called, evaluating
from sslnb.features.extract import as_input, watching


def layer_names(model: nn.Module, layers: Sequence[str] | None = None) -> tuple[str, ...]:
    """The layers asked for, else all that an encoder lists; ``ValueError`` for one that the model does not have.

    Any path of a submodule is a name. A model that is no ``Encoder`` has no list, so its layers must be named.
    """
    listed = isinstance(model, Encoder)
    expect(listed or layers is not None, "layers", "names, for a model that lists none", type(model).__name__)
    names = tuple(model.layer_names if layers is None else layers)
    expect(len(names) > 0, "layers", "at least one name", "none")
    expect(len(set(names)) == len(names), "layers", "distinct names", list(names))
    known = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    for name in names:
        expect_known(name, known, "layers")
    return names


@torch.no_grad()
def run(model: nn.Module, images: Tensor) -> None:
    """One batch of images [N,C,H,W] (uint8, or float in [0, 1]) through a model, where its weights are."""
    expect(isinstance(model, nn.Module), "model", "a module", type(model).__name__)
    expect_tensor(images, "images")
    called(model, as_input(images, model, where(model)), "images")


def where(model: nn.Module) -> torch.device:
    """The device of a model's weights; the best one for a model without any."""
    return next((p.device for p in model.parameters()), devices.best_device())


def ratio_of(images: Tensor) -> float:
    """Height over width of images [N,C,H,W]."""
    return images.shape[-2] / images.shape[-1]


def channels_first(output: Tensor, ratio: float = 1.0) -> Tensor:
    """A layer's output as [N,C,…]: tokens [N,T,C] and maps [N,H,W,C] with the channels brought forward.

    Which of four dimensions are space, the sides tell, whose ``ratio`` of height to width is that of the images.
    Features [N,d] are [N,d,1].
    """
    if output.ndim == 2:
        return output[:, :, None]
    last_is_channels = output.ndim == 3
    if output.ndim == 4:
        _, a, b, c = output.shape
        last_is_channels = _is_space(a, b, ratio) and not _is_space(b, c, ratio)
    return output.movedim(-1, 1) if last_is_channels else output


def _is_space(height: int, width: int, ratio: float) -> bool:
    """Whether two sides are those of images of this ratio, up to the pixel that strides round away."""
    return abs(height - width * ratio) < (1 if ratio != 1 else 0.5)


def channel_means(
    model: nn.Module, images: Tensor, layers: Sequence[str] | None = None, *, batch_size: int = 256
) -> dict[str, Tensor]:
    """Mean over space of every layer's channels, float32 [N,C] on the CPU, for each of the images [N,C,H,W].

    Space is the height and width of maps, or the tokens of a transformer. The model runs in evaluation mode and gets
    its mode back; what is kept does not grow with the layers' resolution.
    """
    expect_tensor(images, "images")
    expect(images.ndim >= 2 and len(images) > 0, "images", "at least one image", f"shape {list(images.shape)}")
    expect_count(batch_size, "batch_size")
    means_of: dict[str, list[Tensor]] = {}

    def see(name: str, output: Tensor) -> None:
        means_of.setdefault(name, []).append(channels_first(output, ratio_of(images)).flatten(2).mean(2).float().cpu())

    with evaluating(model), watching(model, layer_names(model, layers), see):
        for part in tqdm(images.split(batch_size), desc="layers", leave=False, delay=1):
            run(model, part)
    return {name: torch.cat(parts) for name, parts in means_of.items()}
