"""Features of images, and how they are standardized before a probe sees them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sslnb.core import device as devices
from sslnb.core.checks import expect, expect_finite, expect_shape
from sslnb.data.images import ImageSet
from sslnb.encoders import evaluating

SCALES = ("unit_norm", "unit_variance")


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


class Standardizer:
    """Zero mean per feature on the training set, then a common scale.

    ``scale="unit_norm"`` (the text of Sehwag et al. 2020, section 2.1) divides each sample by its L2 norm, and leaves
    a sample that sits on the mean at zero. ``"unit_variance"`` divides each feature by its deviation on the training
    set, and leaves a constant feature at zero. Features [N,d], float32.
    """

    def __init__(self, scale: str = "unit_norm") -> None:
        expect(scale in SCALES, "scale", f"one of {SCALES}", repr(scale))
        self.scale = scale
        self.mean: Tensor | None = None
        self.deviation: Tensor | None = None

    def fit(self, train: Tensor) -> "Standardizer":
        """Take mean and deviation from training features [N,d]; returns itself."""
        expect_shape(train, "train", "N", "d")
        expect(len(train) > 0, "train", "at least one sample", "none")
        expect_finite(train, "train")
        double = train.double()
        self.mean = double.mean(0).float()
        deviation = double.std(0, correction=0)
        # What rounding leaves of a constant feature is no deviation.
        constant = deviation <= 1e-6 * double.abs().amax(0)
        self.deviation = torch.where(constant, torch.inf, deviation).float()
        return self

    def transform(self, x: Tensor) -> Tensor:
        """Standardized features [N,d]; ``ValueError`` before :meth:`fit`, or for another number of features."""
        expect(self.mean is not None, "Standardizer", "fit(train) before transform(x)", "an unfitted one")
        expect_shape(x, "x", "N", len(self.mean))
        expect_finite(x, "x")
        centred = torch.where(torch.isinf(self.deviation), 0.0, x - self.mean)
        if self.scale == "unit_variance":
            return centred / self.deviation
        return centred / centred.norm(dim=1, keepdim=True).clamp(min=torch.finfo(centred.dtype).tiny)
