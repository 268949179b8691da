"""Parameters of the study, and its presets."""

import dataclasses
from typing import ClassVar

import torch

from sslnb.core.checks import expect, expect_known
from sslnb.objectives.registry import OBJECTIVES
from sslnb.studies.base import BaseParameters
from sslnb.training.loop import PretrainConfig

EPOCHS = 10  # where neither the parameters nor the objective's own settings say otherwise


@dataclasses.dataclass(frozen=True)
class Parameters(BaseParameters):
    """What the comparison runs on; every field can be set from a notebook, papermill or ``sslnb run -p``."""

    dataset: str
    objectives: tuple[str, ...]
    seeds: tuple[int, ...]
    depth: int
    width: int
    stem: str  # cifar | imagenet, which keeps a sixteenth of the pixels
    epochs: int | None  # of every objective; None: each its own in quick, so that all take about as long
    batch_size: int
    optimizer: str  # sgd | lars | adam | adamw
    learning_rate: float | None  # per 256 images; None takes the objective's or the optimizer's own
    crop_scale: float
    flip: float
    size: int | None  # side of the images in pixels; None keeps the set's own
    limit: int | None  # images to pretrain on; None takes all
    probe_limit: int | None  # training images for kNN and linear probe; None takes all
    probe_epochs: int

    PRESETS: ClassVar[dict[str, dict]] = {
        # minutes on two cores
        "quick": {
            "dataset": "digit-scenes",
            "objectives": tuple(sorted(OBJECTIVES)),
            "seeds": (0,),
            "depth": 18,
            "width": 16,
            "stem": "imagenet",
            "epochs": None,
            "batch_size": 256,
            "optimizer": "adamw",
            "learning_rate": None,
            "crop_scale": 0.6,
            "flip": 0.0,
            "size": None,
            "limit": 9000,
            "probe_limit": 4000,
            "probe_epochs": 30,
        },
    }
    # a night on two cores
    PRESETS["small"] = PRESETS["quick"] | {
        "dataset": "cifar10",
        "stem": "cifar",
        "epochs": 10,
        "crop_scale": 0.2,
        "flip": 0.5,
        "limit": None,
        "probe_limit": 10000,
    }
    # a few hours on one data-centre GPU
    PRESETS["paper"] = PRESETS["small"] | {
        "seeds": (0, 1, 2),
        "width": 64,
        "epochs": 200,
        "batch_size": 512,
        "optimizer": "sgd",
        "probe_limit": None,
        "probe_epochs": 100,
    }
    PRESETS["published"] = PRESETS["quick"]

    def __post_init__(self) -> None:
        for name, bound in {"epochs": 1, "limit": 2, "size": 1, "probe_limit": 2, "probe_epochs": 1}.items():
            value = getattr(self, name)
            expect(value is None or value >= bound, name, f"at least {bound}", value)
        expect(min(self.seeds) >= 0, "seeds", "values of at least 0", self.seeds)
        for objective in self.objectives:
            expect_known(objective, tuple(OBJECTIVES), "objectives")
            config = self.config(objective, self.seeds[0])  # its checks of the other values, before anything is trained
            with torch.device("meta"):  # and the encoder's, without its weights
                shape = {"width": config.width, "stem": config.stem, "in_channels": 3}
                OBJECTIVES[objective].build_encoder(config.depth, **shape, **config.options)
        for name in ("objectives", "seeds"):
            values = getattr(self, name)
            expect(len(set(values)) == len(values), name, "distinct values", values)

    def config(self, objective: str, seed: int) -> PretrainConfig:
        """How one encoder is pretrained."""
        scenes = self.profile in ("quick", "published") and self.dataset.startswith("digit-scenes")
        own = OBJECTIVES[objective].scenes if scenes else {}  # nobody chose it for other images
        same = ("depth", "width", "stem", "batch_size", "optimizer", "crop_scale", "flip")
        fields = {name: getattr(self, name) for name in same} | own
        if self.learning_rate is not None:
            fields["learning_rate"] = self.learning_rate
        if self.epochs is not None:
            fields["epochs"] = self.epochs
        return PretrainConfig(objective=objective, seed=seed, **{"epochs": EPOCHS} | fields)
