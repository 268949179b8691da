"""What determines a pretraining run, checked before anything is trained."""

import dataclasses
import math
from dataclasses import dataclass, field

import torch

from sslnb.core import device
from sslnb.core.checks import expect, expect_known
from sslnb.encoders.resnet import STEMS
from sslnb.objectives import registry
from sslnb.training import optim


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that determines a pretrained encoder, besides the data and the code."""

    objective: str = "simclr"
    depth: int = 18
    width: int = 64
    stem: str = "cifar"
    epochs: int = 200
    steps: int | None = None  # ends the run earlier than its epochs do; schedules are over what is run
    batch_size: int = 512  # a smaller set is one batch
    optimizer: str = "sgd"  # sgd (momentum 0.9, Nesterov) | lars | adam | adamw, quick untuned on small networks
    schedule: str = "cosine"  # cosine | step | cuts | constant, after the warm-up
    learning_rate: float | None = None  # per 256 images; None: the objective's for sgd, optim.LEARNING_RATES else
    weight_decay: float | None = None  # None takes the objective's own
    warmup: float = 0.05  # share of the steps over which the learning rate rises linearly
    crop_scale: float = 0.2  # least share of the image's area in a crop; 0.5 keeps digits whole
    flip: float = 0.5  # probability of mirroring; 0 for digits
    seed: int = 0
    precision: str = "auto"  # bf16 | float32 | auto: what the device computes well in
    compile: bool = False  # torch.compile of the encoder: minutes of preparation, then faster steps on a GPU
    options: dict = field(default_factory=dict)  # the objective's own hyperparameters

    def __post_init__(self) -> None:
        registry.get(self.objective)
        expect(self.depth in (18, 34, 50), "depth", "18, 34 or 50", self.depth)
        expect(self.width >= 1, "width", "at least 1", self.width)
        expect(self.stem in STEMS, "stem", "'cifar', 'imagenet' or 'unpadded'", repr(self.stem))
        expect(self.seed >= 0, "seed", "at least 0", self.seed)
        for name in ("learning_rate", "weight_decay"):
            value = getattr(self, name)
            expect(value is None or 0 <= value < math.inf, name, "a finite value of at least 0", value)
        expect(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        expect(self.steps is None or self.steps >= 1, "steps", "at least 1", self.steps)
        expect(self.batch_size >= 2, "batch_size", "at least 2", self.batch_size)
        expect(0 <= self.warmup < 1, "warmup", "a share in [0, 1)", self.warmup)
        expect(0 < self.crop_scale <= 1, "crop_scale", "a share in (0, 1]", self.crop_scale)
        expect(0 <= self.flip <= 1, "flip", "a probability", self.flip)
        expect_known(self.optimizer, tuple(optim.OPTIMIZERS), "optimizer")
        expect_known(self.schedule, tuple(optim.SCHEDULES), "schedule")
        _check_options(self.objective, self.options)
        expect(self.precision in ("auto", "bf16", "float32"), "precision", "auto, bf16 or float32", self.precision)

    def resolved(self, on: torch.device) -> "PretrainConfig":
        """The same with every default filled in, for this device."""
        objective = registry.get(self.objective)
        own = optim.LEARNING_RATES.get(self.optimizer, objective.learning_rate)
        return dataclasses.replace(
            self,
            learning_rate=own if self.learning_rate is None else self.learning_rate,
            weight_decay=objective.weight_decay if self.weight_decay is None else self.weight_decay,
            precision=device.best_precision(on) if self.precision == "auto" else self.precision,
            options={name: list(v) if isinstance(v, tuple) else v for name, v in self.options.items()},
        )


def _check_options(objective: str, options: dict) -> None:
    """``ValueError`` for an option that the objective does not know, or whose type is not its default's."""
    known = registry.get(objective).options()
    for name, value in options.items():
        expect_known(name, sorted(known), "options")
        kind = int if known[name] is None else type(known[name])  # None stands for a width that follows the encoder's
        accepted = {float: (int, float), tuple: (tuple, list)}.get(kind, kind)
        right = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
        right = right or (value is None and known[name] is None)
        if right and kind is tuple:
            right = len(value) == len(known[name]) and all(type(part) in (int, float) for part in value)
        expect(right, name, f"a value such as {known[name]!r} ({kind.__name__})", repr(value))
