"""How the studies pretrain for a few hundred steps: in one way, so that what several of them need is trained once."""

import math

from sslnb.objectives import registry
from sslnb.training.config import PretrainConfig

# Presets that several studies share: their encoders are then the same files of the cache.
QUICK = {
    "seeds": (0, 1),
    "depth": 18,
    "width": 8,
    "stem": "imagenet",
    "steps": 150,
    "batch_size": 128,
    "optimizer": "adamw",
    "learning_rate": None,
    "jitter_strength": 0.1,
    "temperature": 0.1,
    "crop_scale": 0.6,
    "flip": 0.0,
    "size": None,
    "limit": 6000,
}
SMALL = {"width": 16, "batch_size": 256, "jitter_strength": 0.5, "crop_scale": 0.2, "flip": 0.5, "limit": None}
SHAPE = ("depth", "width", "stem", "optimizer", "learning_rate", "crop_scale", "flip", "steps")


def short_config(
    parameters: object,
    objective: str,
    seed: int,
    images: int,
    options: dict[str, object] | None = None,
    **changes: object,
) -> PretrainConfig:
    """A configuration from a study's parameters for so many images; a batch larger than that is all of them.

    ``parameters`` has the fields of :data:`SHAPE`, ``batch_size``, and those that the objective calls ``common``;
    ``options`` are more of the objective's, ``changes`` replace fields of the configuration.
    """
    kind = registry.get(objective)
    own = kind.short | {name: getattr(parameters, name) for name in kind.common}
    batch_size = min(parameters.batch_size, max(2, images))
    fields = {name: getattr(parameters, name) for name in SHAPE} | {"options": own | (options or {})} | changes
    fields["epochs"] = math.ceil(fields["steps"] / max(1, images // batch_size))
    return PretrainConfig(objective=objective, seed=seed, batch_size=batch_size, **fields)
