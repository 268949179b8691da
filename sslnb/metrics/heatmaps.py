"""Where in an image a feature looks: Grad-CAM of features, and its overlap with masks."""

import contextlib
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from sslnb.core.checks import (
    expect,
    expect_count,
    expect_finite,
    expect_floats,
    expect_labels,
    expect_one_device,
    expect_real,
    expect_shape,
)
from sslnb.core.numerics import gradients, rows_scaled
from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import Encoder, called, evaluating
from sslnb.encoders.resnet import ResNet
from sslnb.features.extract import as_input, expect_images, watching
from sslnb.features.layers import channels_first, ratio_of

EXTRA_TOKENS = 8  # of a transformer, at most, that stand for no patch
SMALL = 256  # pixels of a map, up to which it is enlarged by a matrix product


def feature_heatmaps(
    encoder: Encoder,
    images: Tensor | ImageSet,
    features: Sequence[int],
    *,
    layer: str | None = None,
    batch_size: int = 256,
) -> Tensor:
    """Grad-CAM of features at a convolutional layer, [N,F,H,W] float32, at the images' own size (bilinear).

    ``features`` are indices in 0..d-1. By default the layer is the last one before average pooling, of a ResNet of this
    package: there the gradient of feature j is a constant on map j and nought elsewhere, so Grad-CAM is that map, and
    one forward pass serves all features. Other layers (``layer``: the path of a module) take one backward pass per
    feature. A transformer's tokens are taken as the map that they are of. Negative evidence is cut. Images are
    [N,C,H,W], uint8 or float in [0, 1]; the encoder runs in evaluation mode and gets its mode back. ``ValueError`` for
    unknown layers and features, and layers without height and width.
    Source: Selvaraju et al. 2017, equations 1 and 2.
    """
    images = images.images if isinstance(images, ImageSet) else images
    expect_images(images)
    expect_count(batch_size, "batch_size")
    expect_finite(images, "images")
    chosen = _indices(features)
    expect_shape(chosen, "features", "F")
    expect(len(chosen) > 0, "features", "at least one", "none")
    chosen = expect_labels(chosen, encoder.feature_dim, "features")
    pooled = isinstance(encoder, ResNet) and layer is None
    expect(pooled or layer is not None, "layer", "the path of a module, for other encoders than our ResNets", layer)
    name = layer or "layer4"
    _expect_module(encoder, name)
    on = next(encoder.parameters()).device
    heatmaps = torch.empty(len(images), len(chosen), *images.shape[-2:])
    done = 0
    with evaluating(encoder):
        for part in tqdm(images.split(batch_size), desc="heatmaps", leave=False, delay=1):
            x = as_input(part, encoder, on)
            make = _of_pooled if pooled else _by_gradient
            maps = make(encoder, name, x, chosen.to(on))
            _enlarge(maps, heatmaps[done : done + len(x)])
            done += len(x)
    return heatmaps


def _indices(features: object) -> Tensor:
    try:
        return torch.as_tensor(features)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"features: expected indices, got {type(features).__name__}") from error


@torch.no_grad()
def _of_pooled(encoder: Encoder, layer: str, x: Tensor, features: Tensor) -> Tensor:
    maps = _outputs(encoder, layer, x)[0][:, features]
    return maps.float().relu() / maps[0, 0].numel()  # the gradient of a mean


def _by_gradient(encoder: Encoder, layer: str, x: Tensor, features: Tensor) -> Tensor:
    with gradients():
        maps, outputs = _outputs(encoder, layer, x)
        return torch.stack([_cam(maps, outputs[:, feature].sum(), ratio_of(x)) for feature in features.tolist()], 1)


def _cam(maps: Tensor, score: Tensor, ratio: float) -> Tensor:
    """Grad-CAM [N,h,w] of a score that is a sum over samples, from a layer's output that it depends on."""
    (gradient,) = torch.autograd.grad(score, maps, retain_graph=True)
    weights = as_maps(gradient, ratio).mean((2, 3), keepdim=True)
    return (weights * as_maps(maps.detach(), ratio)).sum(1).float().relu()


def as_maps(output: Tensor, ratio: float = 1.0) -> Tensor:
    """A layer's output as maps [N,C,h,w]: as it is, channels last, or a transformer's tokens of the image's patches.

    ``ratio`` is the images' height over their width. Tokens that stand for no patch (class, distillation, registers)
    come first and are left aside. ``ValueError`` for an output that is no map.
    """
    maps, got = channels_first(output, ratio), f"one that gives {list(output.shape)}"
    if output.ndim == 3:
        tokens = maps.shape[2]
        widths = [round(math.sqrt((tokens - extra) / ratio)) for extra in range(min(tokens, EXTRA_TOKENS + 1))]
        grids = [(extra, round(w * ratio), w) for extra, w in enumerate(widths)]
        fitting = [grid for grid in grids if grid[1] * grid[2] == tokens - grid[0]]
        expect(bool(fitting), "layer", "tokens of the images' patches", got)
        extra, *sides = fitting[0]
        maps = maps[:, :, extra:].unflatten(2, sides)
    expect(maps.ndim == 4, "layer", "one with maps [N,C,h,w]", got)
    return maps


def map_layer(encoder: Encoder, images: Tensor, *, least: int = 4) -> str | None:
    """The last of an encoder's own layers with maps, at least ``least`` pixels a side, that features depend on.

    None where there is none. Of a transformer's last block only the class token goes on, so that it says nothing.
    """
    sides: dict[str, int] = {}

    def see(name: str, output: Tensor) -> None:
        with contextlib.suppress(ValueError):  # no map: features, or tokens of something else
            sides[name] = min(as_maps(output, ratio_of(images)).shape[-2:])

    x = as_input(images[:2], encoder, encoder.mean.device)
    with torch.no_grad(), evaluating(encoder), watching(encoder, encoder.layer_names, see):
        encoder(x)
    for name in reversed(encoder.layer_names):
        if sides.get(name, 0) >= least and _reaches_features(encoder, name, x):
            return name
    return None


def _reaches_features(encoder: Encoder, layer: str, x: Tensor) -> bool:
    with evaluating(encoder), gradients():
        maps, outputs = _outputs(encoder, layer, x)
        (gradient,) = torch.autograd.grad(outputs.sum(), maps)
    return bool(as_maps(gradient, ratio_of(x)).any())


def _expect_module(encoder: Encoder, name: str) -> None:
    modules = dict(encoder.named_modules(remove_duplicate=False))
    expect(name in modules, "layer", f"the path of a module such as {list(modules)[1:4]}", repr(name))


def _outputs(encoder: Encoder, layer: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a layer of the encoder gives, and what the encoder gives."""
    captured: list[Tensor] = []

    def keep(_name: str, output: Tensor) -> Tensor:
        # The gradient begins here: nothing before it has to be differentiable.
        captured.append(output.detach().requires_grad_())
        return captured[-1].clone()  # an in-place activation right behind the layer would overwrite what it gave

    with watching(encoder, [layer], keep):
        outputs = called(encoder, x, "images")
    expect(len(captured) == 1, "layer", "a module that runs once", f"one that ran {len(captured)} times")
    return captured[0], outputs


def direction_heatmaps(
    encoder: Encoder,
    images: Tensor | ImageSet,
    directions: Tensor,
    *,
    layer: str = "layer4",
    batch_size: int = 256,
) -> Tensor:
    """Grad-CAM of directions in feature space, [N,H,W] float32, at the images' own size (bilinear).

    ``directions`` [d] for all images, or [N,d], one for each: a feature, a group of features, a principal component,
    or each sample's own highly activating features. The map is that of h · v, h being the features, so one backward
    pass serves a batch, whatever is in v. Negative evidence is cut. ``ValueError`` as in :func:`feature_heatmaps`.
    Source: Selvaraju et al. 2017, equations 1 and 2, of a weighted sum of features instead of a class's score.
    """
    images = images.images if isinstance(images, ImageSet) else images
    expect_images(images)
    expect_count(batch_size, "batch_size")
    expect_finite(images, "images")
    expect_floats(directions, "directions")
    wanted = (encoder.feature_dim,) if directions.ndim == 1 else (len(images), encoder.feature_dim)
    expect_shape(directions, "directions", *wanted)
    expect_finite(directions, "directions")
    _expect_module(encoder, layer)
    on = next(encoder.parameters()).device
    heatmaps = torch.empty(len(images), *images.shape[-2:])
    with evaluating(encoder), gradients():
        for start in tqdm(range(0, len(images), batch_size), desc="heatmaps", leave=False, delay=1):
            part = slice(start, start + batch_size)
            x = as_input(images[part], encoder, on)
            maps, outputs = _outputs(encoder, layer, x)
            along = (directions if directions.ndim == 1 else directions[part]).to(on, outputs.dtype)
            _enlarge(_cam(maps, (outputs * along).sum(), ratio_of(x))[:, None], heatmaps[part][:, None])
    return heatmaps


def _enlarge(maps: Tensor, out: Tensor) -> None:
    """Write maps [N,F,h,w], enlarged bilinearly, to a place [N,F,H,W].

    Enlarging is linear: for small maps one product with what it makes of each pixel is many times as fast.
    """
    pixels, size = maps.shape[-2] * maps.shape[-1], out.shape[-2:]
    if pixels > SMALL:
        out.copy_(F.interpolate(maps.contiguous(), size, mode="bilinear"))
        return
    each = torch.eye(pixels, device=maps.device).view(pixels, 1, *maps.shape[-2:])
    spread = F.interpolate(each, size, mode="bilinear").flatten(1)
    out.copy_((maps.reshape(-1, pixels) @ spread).view(out.shape))


def mask_iou(heatmaps: Tensor, masks: Tensor) -> Tensor:
    """Overlap [N] of heatmaps [N,H,W] with masks [N,H,W], in [0, 1]: the share of a heatmap's heat inside its mask.

    s(A ∩ M) / s(A ∪ M), s being the heatmap's sum over an area and A all of it: what of M is cold adds nothing to the
    union. Masks are bool, or weights in [0, 1] where they are soft. A heatmap without heat overlaps nothing.
    ``ValueError`` for masks of another size or empty ones, and for negative heat. Source: Kalibhat et al. 2024, section
    "Quantifying Representation Interpretability".
    """
    expect_shape(heatmaps, "heatmaps", "N", "H", "W")
    expect_shape(masks, "masks", *heatmaps.shape)
    expect_finite(heatmaps, "heatmaps")
    for tensor, name in ((heatmaps, "heatmaps"), (masks, "masks")):
        expect_real(tensor, name)
    expect_one_device(heatmaps=heatmaps, masks=masks)
    weights = masks.double()
    expect_finite(weights, "masks")
    expect(bool((heatmaps >= 0).all()), "heatmaps", "values of at least 0", "negative ones")
    within = bool(((weights >= 0) & (weights <= 1)).all())
    expect(within, "masks", "bool, or weights in [0, 1]", "others")
    empty = (weights.flatten(1).sum(1) == 0).nonzero().flatten().tolist()
    expect(not empty, "masks", "at least one pixel in every mask", f"{len(empty)} empty, the first at {empty[:1]}")
    heat, _ = rows_scaled(heatmaps.flatten(1).double())
    return ((heat * weights.flatten(1)).sum(1) / heat.sum(1).clamp(min=torch.finfo(torch.double).tiny)).float()
