"""Features of images, and how they are standardized before a probe sees them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sslnb.core import device as devices
from sslnb.core.checks import expect, expect_finite
from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import evaluating


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
    ``ValueError`` for unknown layers, an empty set, or features that are not finite.
    """
    images = images.images if isinstance(images, ImageSet) else images
    expect(len(images) > 0, "images", "at least one image", "none")
    expect(batch_size >= 1, "batch_size", "at least 1", batch_size)
    modules = dict(encoder.named_modules())
    for name in layers or ():
        expect(name in modules, "layers", f"names of modules such as {list(modules)[1:4]}", repr(name))
    on = device or next((p.device for p in encoder.parameters()), devices.best_device())
    captured: dict[str, list[Tensor]] = {name: [] for name in (("",) if layers is None else layers)}
    hooks = [modules[name].register_forward_hook(_keep(captured[name])) for name in captured]
    encoder.to(on)
    try:
        with evaluating(encoder):
            for part in tqdm(images.split(batch_size), desc="features", leave=False, delay=1):
                with devices.autocast(on, precision):
                    encoder(as_float(part.to(on, memory_format=torch.channels_last)))
    finally:
        for hook in hooks:
            hook.remove()
    outputs = {name: torch.cat(parts) for name, parts in captured.items()}
    for name, output in outputs.items():
        once = len(output) == len(images)
        expect(once, "layers", "modules that run once per image", f"{name!r}, which gave {len(output)} rows")
        expect_finite(output, f"features of layer {name!r}" if name else "features")
    return outputs if layers is not None else outputs[""]


def _keep(parts: list[Tensor]):
    # A copy: an in-place activation right behind the layer would overwrite what it gave.
    return lambda module, inputs, output: parts.append(output.detach().to("cpu", torch.float32, copy=True))


def as_float(images: Tensor) -> Tensor:
    """Images in [0, 1]: uint8 divided by 255, floats as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images
