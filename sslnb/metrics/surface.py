"""How the loss changes around a model's weights: surfaces over a plane, and flatness in numbers.

No function changes the model it is given: all work on a private copy in evaluation mode (batch norm's running
statistics are read, not updated). All parameters take part, encoder and head, whatever their ``requires_grad`` says.
"""

import copy
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils.fusion import fuse_conv_bn_weights
from tqdm.auto import tqdm

from sslnb.core import device
from sslnb.core.checks import expect, expect_finite, expect_labels, expect_shape
from sslnb.encoders.encoder import called
from sslnb.encoders.resnet import Conv
from sslnb.features.extract import as_input, expect_images

# Values of a batch's largest layer output. A CPU works fastest on what stays in its cache; a GPU wants much at once.
LAYER_VALUES = {"cpu": 2**21, "accelerator": 2**27}
Direction = dict[str, Tensor]  # a step for each named parameter
Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class LossSurface:
    """Mean cross-entropy ``losses`` [A,B] at w + α d₁ + β d₂, steps ``alphas`` [A] and ``betas`` [B]; NaN: a gap."""

    alphas: Tensor
    betas: Tensor
    losses: Tensor

    @property
    def gaps(self) -> int:
        """Points where the loss was not finite."""
        return int(self.losses.isnan().sum())


def random_directions(model: nn.Module, generator: torch.Generator | None = None) -> tuple[Direction, Direction]:
    """Two Gaussian directions, each filter as long as the model's own; parameters of one dimension do not move.

    A filter is an index of the first dimension: a convolution's output channel, a linear layer's output. Numbers are
    drawn on the CPU in the order of the parameters, so one seed gives models of the same shapes the same numbers.
    Source: Li et al. 2018, section 4.
    """
    return random_direction(model, generator), random_direction(model, generator)


def random_direction(model: nn.Module, generator: torch.Generator | None) -> Direction:
    for name, weight in model.named_parameters():
        expect_finite(weight, f"model: {name}")
    return {name: _like(weight.detach(), generator) for name, weight in model.named_parameters()}


def _like(weight: Tensor, generator: torch.Generator | None) -> Tensor:
    if weight.ndim < 2:
        return torch.zeros_like(weight)
    direction = torch.randn(weight.shape, generator=generator).to(weight)
    lengths = weight.flatten(1).norm(dim=1) / direction.flatten(1).norm(dim=1)
    return direction * lengths.view(-1, *[1] * (weight.ndim - 1))


def loss_surface(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    directions: Sequence[Direction] | None = None,
    span: float = 1.0,
    points: int = 51,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
    precision: str = "float32",
) -> LossSurface:
    """Mean cross-entropy of a classifier [points,points] at its weights plus α d₁ + β d₂, α and β in [−span, span].

    Images are [N,C,H,W], uint8 or float in [0, 1]; labels [N] in 0..K-1; the model's outputs are logits [N,K].
    ``directions`` are by default :func:`random_directions`, drawn with the generator. The number of points is odd: the
    one in the middle is the model itself. Losses that are not finite are NaN. Batches are by default as large as is
    fast; ``precision`` is ``"float32"`` or ``"bf16"``. Sums in float64. ``ValueError`` for directions that do not fit
    the model, labels outside the classes, no images, and outputs of another shape. Source: Li et al. 2018, equation 1.
    """
    expect(isinstance(points, int) and points >= 3 and points % 2 == 1, "points", "an odd number of at least 3", points)
    expect(math.isfinite(span) and span > 0, "span", "a number above 0", span)
    directions = random_directions(model, generator) if directions is None else directions
    expect(len(directions) == 2, "directions", "two", len(directions))
    half = points // 2
    steps = span * torch.arange(-half, half + 1, dtype=torch.double) / half  # exactly 0 in the middle
    where = itertools.product(steps.tolist(), repeat=2)
    losses = losses_along(model, images, labels, directions, list(where), batch_size, precision)
    return LossSurface(steps.float(), steps.float(), losses.view(points, points).float())


@torch.no_grad()
def losses_along(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    directions: Sequence[Direction],
    where: list[tuple[float, ...]],
    batch_size: int | None = None,
    precision: str = "float32",
) -> Tensor:
    """Mean loss [P], float64, NaN where not finite, at P points given by their steps along each direction."""
    directions = [_fitting(direction, model) for direction in directions]
    model, batches = evaluation_copy(model, images, labels, batch_size)
    _fold_all(model, directions)
    move = _mover(model, directions)
    losses = torch.empty(len(where), dtype=torch.double)
    for i, steps in enumerate(tqdm(where, desc="losses around the weights", leave=False, delay=1)):
        move(steps)
        losses[i] = _mean_loss(model, batches, precision)
    return losses.where(losses.isfinite(), math.nan)


def _fitting(direction: Direction, model: nn.Module) -> Direction:
    """The direction on the model's device and in its precision, if it fits the model."""
    weights = dict(model.named_parameters())
    others = sorted(weights.keys() ^ direction.keys())
    expect(not others, "directions", "a tensor for each parameter", f"missing or unknown names such as {others[:3]}")
    for name, weight in weights.items():
        expect_shape(direction[name], f"directions: {name}", *weight.shape)
        expect_finite(direction[name], f"directions: {name}")
    return {name: direction[name].to(weight) for name, weight in weights.items()}


def evaluation_copy(
    model: nn.Module, images: Tensor, labels: Tensor, batch_size: int | None = None
) -> tuple[nn.Module, Batches]:
    """A private copy of a model in evaluation mode, and the data on its device in batches."""
    expect(isinstance(model, nn.Module), "model", "a module", type(model).__name__)
    expect(any(True for _ in model.parameters()), "model", "at least one parameter", "none")
    expect_shape(images, "images", "N", "C", "H", "W")
    expect(len(images) > 0, "images", "at least one", "none")
    expect_images(images)
    expect_finite(images, "images")
    expect_shape(labels, "labels", len(images))
    expect(
        batch_size is None or (isinstance(batch_size, int) and batch_size >= 1), "batch_size", "at least 1", batch_size
    )
    on = next(model.parameters()).device
    layout = device.training_layout(model, on)  # curvatures have gradients in the weights
    model = copy.deepcopy(model).eval().requires_grad_(False).to(memory_format=layout)
    x = as_input(images, model, on).contiguous(memory_format=layout)
    x = x.clone() if x.is_inference() else x  # which could not be differentiated through
    shape, largest = _tried(model, x[:1])
    expect(len(shape) == 2 and shape[0] == 1, "model", "logits of shape [N, K]", f"{shape} for N = 1")
    labels = expect_labels(labels, shape[1]).to(on)
    labels = labels.clone() if labels.is_inference() else labels
    fast = max(1, LAYER_VALUES["cpu" if on.type == "cpu" else "accelerator"] // largest)
    size = batch_size or fast
    return model, list(zip(x.split(size), labels.split(size), strict=True))


@torch.no_grad()
def _tried(model: nn.Module, image: Tensor) -> tuple[list[int], int]:
    """The shape of what a model gives for one image, and how many values its largest layer gives."""
    shapes: list[list[int]] = []
    with register_module_forward_hook(lambda m, given, output: shapes.append(list(getattr(output, "shape", [])))):
        called(model, image, "images")
    return shapes[-1], max(map(math.prod, shapes))


def _fold_all(model: nn.Module, directions: list[Direction]) -> None:
    """Fold batch norms into the convolutions before them, in place, and the directions likewise.

    Done where it changes nothing but rounding: in a plain sequence, for layers used once and a norm that stays put.
    """
    parts = itertools.chain(model.named_modules(remove_duplicate=False), model.named_parameters(remove_duplicate=False))
    uses = Counter(id(part) for _, part in parts)
    for path, parent in model.named_modules():
        if type(parent).forward is not nn.Sequential.forward:
            continue
        for (first, conv), (second, norm) in itertools.pairwise(list(parent._modules.items())):
            names = [f"{path}.{child}".lstrip(".") for child in (first, second)]
            if _alone(conv, uses) and _alone(norm, uses) and _foldable(conv, norm, names[1], directions):
                _fold(conv, norm, names[0], directions)
                parent._modules[second] = nn.Identity()


def _alone(module: nn.Module, uses: Counter[int]) -> bool:
    """Nothing else uses the module or its parameters, or looks at what goes in and out."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return not hooked and all(uses[id(part)] == 1 for part in (module, *module.parameters()))


def _foldable(conv: nn.Module, norm: nn.Module, norm_name: str, directions: list[Direction]) -> bool:
    # Exact types: a subclass may do anything with its weights.
    kinds = type(conv) in (nn.Conv2d, Conv) and type(norm) is nn.BatchNorm2d
    still = not any(bool(d[name].any()) for d in directions for name in d if name.startswith(f"{norm_name}."))
    return kinds and still and norm.running_var is not None


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d, name: str, directions: list[Direction]) -> None:
    spread = (norm.running_var, norm.eps, norm.weight)
    for d in directions:
        step = (d[f"{name}.weight"], d.get(f"{name}.bias"), torch.zeros_like(norm.running_mean))
        d[f"{name}.weight"], d[f"{name}.bias"] = fuse_conv_bn_weights(*step, *spread, None)
    conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, norm.running_mean, *spread, norm.bias)


def _mover(model: nn.Module, directions: list[Direction]) -> Callable[[Iterable[float]], None]:
    """Sets a model's weights to where they are now plus the given steps along the directions."""
    weights = dict(model.named_parameters())
    names = [name for name in weights if any(name in d and d[name].any() for d in directions)]
    moved = [weights[name] for name in names]
    start = [weight.clone() for weight in moved]
    along = [[torch.empty_like(weights[name]).copy_(d[name]) for name in names] for d in directions]  # same layout

    def move(steps: Iterable[float]) -> None:
        torch._foreach_copy_(moved, start)
        for step, direction in zip(steps, along, strict=True):
            torch._foreach_add_(moved, direction, alpha=step)

    return move


def _mean_loss(model: nn.Module, batches: Batches, precision: str) -> float:
    total = 0.0
    for x, y in batches:
        with device.autocast(x.device, precision):
            logits = model(x)
        total += float(F.cross_entropy(logits.float(), y, reduction="sum"))
    return total / sum(len(y) for _, y in batches)
