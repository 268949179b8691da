"""What the training loop asks of an objective, and the parts that several of them share."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from sslnb.core.checks import expect
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.resnet import resnet


class Objective(nn.Module):
    """A training method: the views it wants, its heads, its loss, and what happens around a step.

    A subclass in a file of this package is found by its ``name``: no other edit is needed. The training loop draws
    ``views``, calls the objective on them, lets it see the gradients in ``before_step``, steps the optimizer over
    ``parameters()``, then calls ``after_step``. Momentum encoders, queues, prototypes and memory banks are submodules
    and buffers of the objective, so that checkpoints carry them. Keyword arguments with a default are its options.
    ``view_size`` is the side of the views in pixels, the images' own unless given: smaller ones cost less.
    ``per_batch`` draws an augmentation once for a whole batch instead of for each image, which is worse.
    With several processes a loss is that of the joint batch (``sslnb.core.distributed.gather``).
    """

    name: ClassVar[str]
    label: ClassVar[str]  # as figures and tables write it
    colour: ClassVar[str] = "#4D4D4D"  # in all figures, as its marker (matplotlib's) is
    marker: ClassVar[str] = "."
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
        view_size: int | None = None,
        per_batch: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.classes, self.images = encoder, classes, images
        expect(view_size is None or view_size >= 8, "view_size", "at least 8 pixels", view_size)
        self.crop_scale, self.view_size = crop_scale, view_size
        self.shared = {
            "scale": crop_scale,
            "flip": flip,
            "size": view_size,
            "per_batch": per_batch,
        }  # by all augmentations

    @classmethod
    def build_encoder(cls, depth: int, *, width: int, stem: str, in_channels: int, **options: object) -> Encoder:
        """The encoder that this objective trains; a ResNet unless it says otherwise."""
        return resnet(depth, width=width, stem=stem, in_channels=in_channels)

    @classmethod
    def options(cls) -> dict[str, object]:
        """Names and defaults of the options that it takes."""
        defaults: dict[str, object] = {}
        for kind in reversed(cls.__mro__):
            defaults |= getattr(kind.__init__, "__kwdefaults__", None) or {}
        return defaults

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
