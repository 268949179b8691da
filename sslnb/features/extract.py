"""Features of images, and how they are standardized before a probe sees them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sslnb.core import device as devices
from sslnb.core.checks import expect, expect_count, expect_finite, expect_shape
from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import Encoder, called, evaluating

ROUNDING = 1e-4  # by which an image may leave [0, 1]
See = Callable[[str, Tensor], Tensor | None]  # is told a layer's name and its output for a batch


@contextlib.contextmanager
def watching(model: nn.Module, names: Sequence[str], see: See) -> Iterator[None]:
    """Inside, ``see`` is told every output of the named layers; a layer's second call is ``name#2``, and so on.

    The count starts anew with each call of the model. What ``see`` returns, unless it is None, takes the output's
    place. Of several outputs, as attention's values and weights, the first counts. The empty name is the model itself.
    ``ValueError`` for an output that is no tensor with a row for each image.
    """
    calls: dict[str, int] = {}

    def hook(name: str) -> Callable[..., Tensor | None]:
        def on_output(_module: nn.Module, _inputs: object, output: object) -> object:
            several = isinstance(output, tuple | list) and len(output) > 0
            first = output[0] if several else output
            is_features = isinstance(first, Tensor) and first.ndim >= 2
            got = list(first.shape) if isinstance(first, Tensor) else type(output).__name__
            expect(is_features, f"layer {name!r}", "an output of one tensor [N, …]", got)
            calls[name] = calls.get(name, 0) + 1
            other = see(name if calls[name] == 1 else f"{name}#{calls[name]}", first)
            return other if other is None or not several else type(output)([other, *output[1:]])

        return on_output

    modules = dict(model.named_modules(remove_duplicate=False))
    handles = [model.register_forward_pre_hook(lambda *_: calls.clear())]
    handles += [modules[name].register_forward_hook(hook(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def extract(
    encoder: nn.Module,
    images: Tensor | ImageSet,
    *,
    batch_size: int = 512,
    layers: Sequence[str] | None = None,
    device: torch.device | None = None,
    precision: str = "float32",
) -> Tensor | dict[str, Tensor]:
    """Features [N,d] of images [N,C,H,W] (uint8, or float in [0, 1]), float32 on the CPU.

    ``precision="bf16"`` runs the encoder under autocast, three times as fast on processors that compute in it.
    With ``layers`` (names out of ``encoder.layer_names``, or any module paths) a dict of those layers' outputs
    instead, each as the layer gives it. The encoder runs in evaluation mode and gets its mode back. Raises
    ``ValueError`` for unknown layers, images of other shapes or types, an empty set, or values that are not finite.
    """
    images = images.images if isinstance(images, ImageSet) else images
    expect_images(images)
    expect_count(batch_size, "batch_size")
    modules = dict(encoder.named_modules(remove_duplicate=False))
    for name in layers or ():
        expect(name in modules, "layers", f"names of modules such as {list(modules)[1:4]}", repr(name))
    on = device or next((p.device for p in encoder.parameters()), devices.best_device())
    names = ("",) if layers is None else tuple(layers)
    captured: dict[str, list[Tensor]] = {}

    def keep(name: str, output: Tensor) -> None:
        # A copy: an in-place activation right behind the layer would overwrite what it gave.
        captured.setdefault(name, []).append(output.detach().to("cpu", torch.float32, copy=True))

    encoder.to(on)
    with evaluating(encoder), watching(encoder, names, keep):
        for part in tqdm(images.split(batch_size), desc="features", leave=False, delay=1):
            with devices.autocast(on, precision):
                called(encoder, as_input(part, encoder, on), "images")
    outputs = {name: torch.cat(parts) for name, parts in captured.items()}
    for name in names:
        rows = sum(len(output) for key, output in outputs.items() if key.partition("#")[0] == name)
        once = rows == len(images)
        expect(once, "layers", "modules that run once per image", f"{name!r}, which gave {rows} rows")
        expect_finite(outputs[name], f"features of layer {name!r}" if name else "features")
    return outputs if layers is not None else outputs[""]


def expect_images(images: Tensor, argument: str = "images") -> None:
    """Refuse what is no tensor of at least one image [N,C,H,W]; of what values, :func:`as_float` says."""
    expect_shape(images, argument, "N", "C", "H", "W")
    expect(images.shape[0] > 0, argument, "at least one image", "none")
    expect(images.numel() > 0, argument, "at least one channel and pixel", f"shape {list(images.shape)}")


def as_input(images: Tensor, model: nn.Module, device: torch.device) -> Tensor:
    """Images in [0, 1] on a device, in the type of the model's weights."""
    kind = next((p.dtype for p in model.parameters()), torch.float32)
    if isinstance(model, Encoder):
        expect_shape(images, "images", "N", model.in_channels, "H", "W")
    layout = torch.channels_last if images.ndim == 4 else torch.preserve_format
    return as_float(images.to(device, memory_format=layout)).to(kind)


def as_float(images: Tensor) -> Tensor:
    """Images in [0, 1]: uint8 divided by 255, floats as they are; ``ValueError`` for other values."""
    if images.dtype == torch.uint8:
        return images.float() / 255
    expect(images.is_floating_point(), "images", "uint8, or floats in [0, 1]", f"dtype {images.dtype}")
    if images.numel():
        low, high = (float(bound) for bound in images.detach().aminmax())
        wanted = "uint8, or floats in [0, 1]: an encoder normalises them itself"
        expect(low >= -ROUNDING and high <= 1 + ROUNDING, "images", wanted, f"floats from {low:.4g} to {high:.4g}")
    return images
