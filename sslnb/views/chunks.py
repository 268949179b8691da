"""How many images are worked on at a time."""

from torch import Tensor

CHUNK = 128  # images worked on at a time on a CPU, so that they stay in its cache; a GPU takes the whole batch


def chunk_size(images: Tensor) -> int:
    """How many images to work on at a time."""
    return CHUNK if images.device.type == "cpu" else max(1, len(images))
