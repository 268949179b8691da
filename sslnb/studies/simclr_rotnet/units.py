"""The report's units of an attack's budget: those of images normalised by channel means and deviations."""

import torch
from torch import Tensor

from sslnb.data import ImageSet
from sslnb.features.extract import as_float


def normalisation(images: ImageSet) -> tuple[Tensor, Tensor]:
    """Mean of each channel [C], and its deviation within an image [C], the mean over the images."""
    pixels = (as_float(part).flatten(2) for part in images.images.split(2048))
    mean, std = torch.cat([torch.stack([x.mean(2), x.std(2)]) for x in pixels], 1).mean(1)
    return mean, std


class Denormalised(torch.nn.Module):
    """A model of pixels, as a function of normalised images."""

    def __init__(self, model: torch.nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x * self.std + self.mean)


def normalised(
    model: torch.nn.Module, x: Tensor, mean: Tensor, std: Tensor
) -> tuple[torch.nn.Module, Tensor, tuple[float, float]]:
    """Model, images and bounds in the report's units; one range for all channels bounds them, as in its code."""
    on = next(model.parameters()).device
    scaled = (x - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    low, high = float((-mean / std).min()), float(((1 - mean) / std).max())
    return Denormalised(model, mean, std).to(on), scaled, (low, high)
