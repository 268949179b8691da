"""What the training loop asks of an objective, and the parts that several of them share."""

import copy
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from sslnb.core.checks import expect
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.resnet import resnet
from sslnb.views.augment import Augmentation, MultiCrop


class Objective(nn.Module):
    """A training method: the views it wants, its heads, its loss, and what happens around a step.

    A subclass in a file of this package is found by its ``name``: no other edit is needed. The training loop draws
    ``views``, calls the objective on them, lets it see the gradients in ``before_step``, steps the optimizer over
    ``parameters()``, then calls ``after_step``. Momentum encoders, queues, prototypes and memory banks are submodules
    and buffers of the objective, so that checkpoints carry them. Keyword arguments with a default are its options.
    ``per_batch`` draws an augmentation once for a whole batch instead of for each image, which is worse.
    With several processes a loss is that of the joint batch (``sslnb.core.distributed.gather``).
    """

    name: ClassVar[str]
    label: ClassVar[str]  # as figures and tables write it
    reference: ClassVar[str] = ""  # keys of its papers in book/references.bib, separated by commas
    compares: ClassVar[str]  # what the loss pulls together and what it pushes apart, in a few words
    equation: ClassVar[str]  # LaTeX
    uses_labels: ClassVar[bool] = False
    learning_rate: ClassVar[float]  # per 256 images, for SGD with momentum 0.9
    weight_decay: ClassVar[float] = 1e-4

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        images: int,
        *,
        crop_scale: tuple[float, float],
        flip: float,
        per_batch: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.classes, self.images = encoder, classes, images
        self.crop_scale = crop_scale
        self.shared = {"scale": crop_scale, "flip": flip, "per_batch": per_batch}  # by all augmentations

    @classmethod
    def build_encoder(cls, depth: int, *, width: int, stem: str, in_channels: int, **options: object) -> Encoder:
        """The encoder that this objective trains; a ResNet unless it says otherwise."""
        return resnet(depth, width=width, stem=stem, in_channels=in_channels)

    @classmethod
    def options(cls) -> dict[str, object]:
        """Names and defaults of the options that it takes."""
        found: dict[str, object] = {}
        for kind in reversed(cls.__mro__):
            found |= getattr(kind.__init__, "__kwdefaults__", None) or {}
        return found

    def views(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        """Random views of uint8 images [N,C,H,W], each a float tensor in [0, 1]."""
        raise TypeError(f"{type(self).__name__} must define views(images, generator)")

    def pictures(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        """What the network sees of the images, as pictures [N,C,h,w] in [0, 1]: the views, unless it says otherwise."""
        return self.views(images, generator)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        """Scalar loss in float32 of one batch; runs under the loop's autocast.

        ``labels`` [N], and ``index`` [N] of the images in the training set, for those that remember each image.
        """
        raise TypeError(f"{type(self).__name__} must define forward(views, labels, index)")

    def before_step(self, progress: float) -> None:
        """Called when gradients are there, with the share of training that is done, in [0, 1)."""

    def after_step(self, progress: float) -> None:
        """Called after every optimizer step with the share of training that is done, in (0, 1]."""


class TwoViews(Objective):
    """Two views of each image: crop, flip, colour jitter, greyscale, and where asked for blur and solarization.

    The defaults are those that SimCLR found for CIFAR-10 (Chen et al. 2020, appendix B.9): jitter of strength 0.5, no
    blur. ``blur`` and ``solarize`` are the probabilities in the first and second view.
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        images: int,
        *,
        jitter_strength: float = 0.5,
        greyscale: float = 0.2,
        blur: tuple[float, float] = (0.0, 0.0),
        solarize: tuple[float, float] = (0.0, 0.0),
        **views: object,
    ) -> None:
        super().__init__(encoder, classes, images, **views)
        expect(jitter_strength >= 0, "jitter_strength", "a value of at least 0", jitter_strength)
        for name, shares in {"greyscale": (greyscale,), "blur": blur, "solarize": solarize}.items():
            expect(all(0 <= share <= 1 for share in shares), name, "probabilities", shares)
        expect(
            len(blur) == len(solarize) == 2, "blur, solarize", "a probability for each of two views", (blur, solarize)
        )
        s = jitter_strength
        jitter = (0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s)
        same = self.shared | {"jitter": jitter, "greyscale": greyscale}
        self.augmentations = [Augmentation(**same, blur=blur[i], solarize=solarize[i]) for i in (0, 1)]

    def views(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        return [view(images, generator) for view in self.augmentations]


class ContrastiveViews(TwoViews):
    """Two views, a projection head d → d → ``projection_dim``, and the temperature of a loss that compares in it.

    Source of the head: Chen et al. 2020, section 2.1; the others took it over.
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        images: int,
        *,
        temperature: float,
        projection_dim: int = 128,
        **views: object,
    ) -> None:
        super().__init__(encoder, classes, images, **views)
        expect(temperature > 0, "temperature", "a value above 0", temperature)
        self.temperature = temperature
        self.head = mlp((encoder.feature_dim, encoder.feature_dim, projection_dim))


class MultiCropViews(TwoViews):
    """Two large crops and ``small_crops`` small ones, of half the side and up to the least share of a large crop.

    Caron et al. 2020 (SwAV), section 3.2. None by default: at 32 px solo-learn's settings have none either.
    """

    def __init__(self, encoder: Encoder, classes: int, images: int, *, small_crops: int = 0, **views: object) -> None:
        super().__init__(encoder, classes, images, **views)
        expect(small_crops >= 0, "small_crops", "at least 0", small_crops)
        self.small_crops = small_crops

    def views(self, images: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        least, side = self.crop_scale[0], max(1, images.shape[-2] // 2)
        small = dataclasses.replace(self.augmentations[0], scale=(least / 4, least), size=side)
        return MultiCrop(tuple(self.augmentations), small, self.small_crops)(images, generator)


def by_size(model: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of each view, those of one size together in one pass."""
    found: list[Tensor] = []
    for _, group in itertools.groupby(views, key=lambda view: view.shape[-1]):
        group = list(group)
        found += model(torch.cat(group)).chunk(len(group))
    return found


def in_float32(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss that computes in float32 whatever it is given, and whatever autocast is on around it."""

    def raised(value: object) -> object:
        if isinstance(value, list | tuple):
            return [raised(one) for one in value]
        low = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
        return value.float() if low else value

    @functools.wraps(loss)
    def run(*args: object, **kwargs: object) -> Tensor:
        first = next(iter((*args, *kwargs.values())), None)
        first = first[0] if isinstance(first, list | tuple) and first else first
        with torch.autocast(first.device.type if isinstance(first, Tensor) else "cpu", enabled=False):
            return loss(*map(raised, args), **{name: raised(value) for name, value in kwargs.items()})

    return run


def mlp(widths: Sequence[int], *, norm: bool = False, last_norm: bool = False) -> nn.Sequential:
    """Linear layers with ReLU between them; ``norm``: batch norm before each ReLU, ``last_norm``: one at the end.

    The batch norm at the end has no scale and shift of its own, as in SimSiam's projector.
    """
    expect(min(widths) >= 1, "widths", "at least 1", tuple(widths))
    head = nn.Sequential()
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        last = i == len(widths) - 2
        normed = last_norm if last else norm
        head.append(nn.Linear(a, b, bias=not normed))
        if normed:
            head.append(nn.BatchNorm1d(b, affine=not last))
        if not last:
            head.append(nn.ReLU(inplace=True))
    return head


class Momentum(nn.Module):
    """A copy of modules that takes no gradient and follows them: w' ← m·w' + (1 − m)·w."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, copy.deepcopy(module).requires_grad_(False))

    @torch.no_grad()
    def follow(self, momentum: float, **modules: nn.Module) -> None:
        """One step towards the modules; buffers such as batch statistics are its own."""
        for name, module in modules.items():
            mine = list(self.get_submodule(name).parameters())
            torch._foreach_lerp_(mine, [p.detach() for p in module.parameters()], 1 - momentum)


def rising(start: float, progress: float) -> float:
    """Momentum that rises from ``start`` to 1 by half a cosine: Grill et al. 2020 (BYOL), section 3.3."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


class MemoryBank(nn.Module):
    """One remembered unit vector per training image, and a moving window of others to contrast with.

    ``entries`` [images,d] start at random; an update is a running mean of weight ``momentum``, normalised again.
    The window runs through the images in a fixed random order, so that negatives are random, the same on every rank,
    and no random state has to be kept. Source: Wu et al. 2018, section 3; Misra and van der Maaten 2020, section 3.1.
    """

    def __init__(self, images: int, d: int, *, momentum: float = 0.5, negatives: int = 4096) -> None:
        super().__init__()
        expect(images >= 2, "images", "at least 2 to tell apart", images)
        expect(0 <= momentum < 1, "bank momentum", "a value in [0, 1)", momentum)
        self.momentum, self.count = momentum, min(negatives, images)
        self.register_buffer("entries", nn.functional.normalize(torch.randn(images, d), dim=1))
        self.register_buffer("order", torch.randperm(images))
        self.register_buffer("start", torch.zeros((), dtype=torch.long))

    def negatives(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Entries [M,d] of the window, which moves on, and a mask [N,M] of those that are the images' own."""
        window = (self.start + torch.arange(self.count, device=self.start.device)) % len(self.order)
        chosen = self.order[window]
        self.start.add_(self.count).remainder_(len(self.order))
        return self.entries[chosen], index[:, None] == chosen

    @torch.no_grad()
    def update(self, index: Tensor, z: Tensor) -> None:
        """Move the images' entries towards their new embeddings z [N,d]."""
        mixed = self.momentum * self.entries[index] + (1 - self.momentum) * z.detach().float()
        self.entries[index] = nn.functional.normalize(mixed, dim=1)
