"""Layers of a network by name, seen while it runs and kept no longer."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sslnb.core import device as devices
from sslnb.core.checks import expect, expect_known
from sslnb.encoders.encoder import Encoder, evaluating
from sslnb.features.extract import as_float

See = Callable[[str, Tensor], None]  # is told a layer's name and its output for a batch


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


@contextlib.contextmanager
def watching(model: nn.Module, names: Sequence[str], see: See) -> Iterator[None]:
    """Inside, ``see`` is told every output of the named layers; a layer's second call is ``name#2``, and so on.

    The count starts anew with each call of the model. ``ValueError`` for an output that is not one tensor.
    """
    calls: dict[str, int] = {}

    def hook(name: str) -> Callable[..., None]:
        def told(_module: nn.Module, _inputs: object, output: object) -> None:
            one = isinstance(output, Tensor) and output.ndim >= 2
            got = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            expect(one, f"layer {name!r}", "an output of one tensor [N, …]", got)
            calls[name] = calls.get(name, 0) + 1
            see(name if calls[name] == 1 else f"{name}#{calls[name]}", output.detach())

        return told

    modules = dict(model.named_modules(remove_duplicate=False))
    handles = [model.register_forward_pre_hook(lambda *_: calls.clear())]
    handles += [modules[name].register_forward_hook(hook(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def run(model: nn.Module, images: Tensor) -> None:
    """One batch of images [N,C,H,W] (uint8, or float in [0, 1]) through a model, where its weights are."""
    layout = torch.channels_last if images.ndim == 4 else torch.preserve_format
    model(as_float(images.to(where(model), memory_format=layout)))


def where(model: nn.Module) -> torch.device:
    """The device of a model's weights; the best one for a model without any."""
    return next((p.device for p in model.parameters()), devices.best_device())


def channel_means(
    model: nn.Module, images: Tensor, layers: Sequence[str] | None = None, *, batch_size: int = 256
) -> dict[str, Tensor]:
    """Mean over space of every layer's channels, float32 [N,C] on the CPU, for each of the images [N,C,H,W].

    The model runs in evaluation mode and gets its mode back; what is kept does not grow with the layers' resolution.
    """
    expect(len(images) > 0, "images", "at least one image", "none")
    found: dict[str, list[Tensor]] = {}

    def see(name: str, output: Tensor) -> None:
        means = output if output.ndim == 2 else output.flatten(2).mean(2)
        found.setdefault(name, []).append(means.float().cpu())

    with evaluating(model), watching(model, layer_names(model, layers), see):
        for part in tqdm(images.split(batch_size), desc="layers", leave=False, delay=1):
            run(model, part)
    return {name: torch.cat(parts) for name, parts in found.items()}
