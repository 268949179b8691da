"""Other people's networks as encoders: what they give and which of their layers run is found by running them once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sslnb.core.checks import expect, one_line
from sslnb.encoders.encoder import Encoder, evaluating

# Mean and deviation of each channel over a set's training images.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # as torchvision's weights expect them
LEVELS = 2  # of a network's modules that count as its layers
SIDE = 32  # px, at which a network runs that is made for no size
SIDES = (8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512, 518)  # tried, in pixels


class Wrapped(Encoder):
    """Somebody else's network, as ``model``: images in, features out.

    Its layers are its modules down to two levels that run once and give one tensor, in the order in which they finish;
    ``side``, of the images that its weights are made for, is the size at which it is run to find them. A network of
    one's own is a subclass that calls this constructor with ``spec={"family": its class's name}``.
    """

    def __init__(
        self, model: nn.Module, *, spec: dict, mean: Sequence[float], std: Sequence[float], side: int | None = None
    ) -> None:
        super().__init__(0, (), spec, tuple(mean), tuple(std), side)
        self.model = model
        self.feature_dim, self.layer_names = self._observed()

    def embed(self, x: Tensor) -> Tensor:
        return self.model(x)

    @torch.no_grad()
    def _observed(self) -> tuple[int, tuple[str, ...]]:
        """Number of features, and the layers that run once and give a tensor with a row for each image."""
        images, rows = noise(self), {}
        modules = {n: m for n, m in self.named_modules() if n.count(".") in range(1, LEVELS + 1)}

        def on_output(name: str, output: object) -> None:
            sound = isinstance(output, Tensor) and output.ndim >= 2 and len(output) == len(images)
            rows[name] = rows.get(name, 0) + (1 if sound else len(images))

        handles = [
            module.register_forward_hook(lambda _m, _x, output, name=name: on_output(name, output))
            for name, module in modules.items()
            if not isinstance(module, nn.Identity)
        ]
        try:
            with evaluating(self):
                features = self(images)
        finally:
            for handle in handles:
                handle.remove()
        return features.shape[1], tuple(name for name, count in rows.items() if count == 1)


def noise(encoder: Encoder, side: int | None = None, n: int = 2) -> Tensor:
    """The same random images [n,C,side,side] every time, where the encoder is; of its own size unless given."""
    side = side or encoder.side or SIDE
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, encoder.in_channels, side, side, generator=generator).to(encoder.mean.device)


def torchvision_encoder(name: str, *, pretrained: bool = True) -> Encoder:
    """One of torchvision's ImageNet classifiers with its last linear layer taken off.

    Normalisation and size are those of its default weights.
    """
    from torchvision import models

    known = models.list_models(module=models)
    expect(name in known, "spec", "a model that torchvision.models.list_models() lists", repr(name))
    weights = models.get_model_weights(name).DEFAULT
    made_for = weights.transforms()
    # These two fill their weights anew, slowly and with a warning, unless told not to.
    untouched = {} if pretrained or name not in ("googlenet", "inception_v3") else {"init_weights": False}
    model = models.get_model(name, weights=weights if pretrained else None, **untouched)
    linear = [n for n, module in model.named_modules() if isinstance(module, nn.Linear)]
    expect(bool(linear), "spec", "a model that ends in a linear layer", repr(name))
    parent, _, child = linear[-1].rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())
    if hasattr(model, "aux_logits"):
        _as_pretrained(model)
    return Wrapped(
        model,
        spec={"family": "torchvision", "name": name},
        mean=made_for.mean,
        std=made_for.std,
        side=made_for.crop_size[0],
    )


def _as_pretrained(model: nn.Module) -> None:
    """GoogLeNet and Inception as their weights make them: images scaled inside, no second classifiers.

    What torchvision sets so for pretrained weights alone is in no state dict.
    """
    model.transform_input, model.aux_logits = True, False
    for name in ("aux1", "aux2", "AuxLogits"):
        if hasattr(model, name):
            setattr(model, name, None)


def timm_encoder(name: str, *, pretrained: bool = True) -> Encoder:
    """One of timm's models with pooled features; ``ValueError`` when timm is not installed."""
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"spec: 'timm:{name}' needs the package timm: pip install timm") from error
    expect(timm.is_model(name), "spec", "a model that timm.list_models() lists", repr(name))
    model = timm.create_model(name, pretrained=pretrained, num_classes=0)
    made_for = timm.data.resolve_model_data_config(model)
    spec = {"family": "timm", "name": name}
    return Wrapped(model, spec=spec, mean=made_for["mean"], std=made_for["std"], side=made_for["input_size"][-1])


# --- which images an encoder takes ------------------------------------------------------------------------------------


def expect_takes(encoder: Encoder, images: Tensor, argument: str = "encoder") -> None:
    """``ValueError`` unless the encoder gives features of such images [N,C,H,W]; it names the size to ask for."""
    channels, height, width = images.shape[1:]
    expect(encoder.in_channels == channels, argument, f"images of {encoder.in_channels} channels", channels)
    problem = _problem(encoder, images[:2].to(encoder.mean.device).float() / 255)
    if problem is not None:
        side = smallest_side(encoder)
        wanted = "one that takes the images" if side is None else f"images of {side} px or what it takes (size={side})"
        raise ValueError(f"{argument}: expected {wanted}, got {width}×{height} px: {problem}")


def smallest_side(encoder: Encoder) -> int | None:
    """The smallest square images, in pixels, of which the encoder gives finite features; None where none is found."""
    tried = sorted({*SIDES, *([encoder.side] if encoder.side else [])})
    high = next((side for side in tried if _problem(encoder, noise(encoder, side)) is None), None)
    low = max((side for side in tried if high and side < high), default=0)
    while high is not None and high - low > 1:  # of a network for one size alone, all that are smaller fail
        middle = (low + high) // 2
        if middle > 0 and _problem(encoder, noise(encoder, middle)) is None:
            high = middle
        else:
            low = middle
    return high


@torch.no_grad()
def _problem(encoder: Encoder, images: Tensor) -> str | None:
    """Why an encoder gives no finite features of images, in one line; None where it does."""
    try:
        with evaluating(encoder):
            features = encoder(images)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a network of somebody else raises
        return one_line(error)
    return None if bool(torch.isfinite(features).all()) else "its features are not finite"
