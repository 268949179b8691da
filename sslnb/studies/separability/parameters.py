"""Parameters of the study, and its presets."""

import dataclasses
from typing import ClassVar

from sslnb.core.checks import expect
from sslnb.objectives.registry import OBJECTIVES
from sslnb.studies.study import BaseParameters
from sslnb.training.loop import PretrainConfig


@dataclasses.dataclass(frozen=True)
class Parameters(BaseParameters):
    """What the study runs on; every field can be set from a notebook, papermill or ``sslnb run -p``."""

    dataset: str  # what the encoders are pretrained on
    datasets: tuple[str, ...]  # what the probes are trained and tested on
    objectives: tuple[str, ...]  # training methods, and "random" for encoders that were not trained
    encoder: str | None  # one more encoder to evaluate, such as checkpoint:PATH or torchvision:resnet50
    seeds: tuple[int, ...]
    depth: int
    width: int
    stem: str  # cifar | imagenet, which keeps a sixteenth of the pixels
    epochs: int  # of self-supervised pretraining
    supervised_epochs: int
    batch_size: int
    optimizer: str  # sgd | adamw
    learning_rate: float | None  # per 256 images; None takes the optimizer's or objective's own
    temperature: float  # of SimCLR
    jitter_strength: float  # of SimCLR's colour jitter
    crop_scale: float
    flip: float
    size: int | None  # side of the images in pixels; None keeps the sets' own
    limit: int | None  # images to pretrain on; None takes all
    probe_limit: int | None  # training images per probe; None takes all
    test_limit: int | None  # test images per data set; None takes all
    probe_epochs: int
    attack_limit: int  # test features that PGD attacks
    attack_steps: int

    PRESETS: ClassVar[dict[str, dict]] = {
        # minutes on two cores
        "quick": {
            "dataset": "digit-scenes",
            "datasets": ("digit-scenes", "digit-scenes:backgrounds=16", "digit-scenes:contrast=0.2"),
            "objectives": ("supervised", "simclr", "random"),
            "encoder": None,
            "seeds": (0, 1),
            "depth": 18,
            "width": 16,
            "stem": "imagenet",
            "epochs": 15,
            "supervised_epochs": 10,
            "batch_size": 256,
            "optimizer": "adamw",
            "learning_rate": None,
            "temperature": 0.1,
            "jitter_strength": 0.3,
            "crop_scale": 0.5,
            "flip": 0.0,
            "size": None,
            "limit": 9000,
            "probe_limit": 4000,
            "test_limit": None,
            "probe_epochs": 30,
            "attack_limit": 500,
            "attack_steps": 50,
        },
    }
    # a night on two CPU cores, minutes on a GPU
    PRESETS["small"] = PRESETS["quick"] | {
        "dataset": "cifar10",
        "datasets": ("cifar10", "cifar100", "stl10", "caltech101"),
        "seeds": (0, 1, 2),
        "stem": "cifar",
        "epochs": 20,
        "supervised_epochs": 10,
        "temperature": 0.2,
        "jitter_strength": 0.5,
        "crop_scale": 0.2,
        "flip": 0.5,
        "size": 32,
        "limit": None,
        "probe_limit": 10000,
        "attack_limit": 2000,
    }
    # hours on one data-centre GPU
    PRESETS["paper"] = PRESETS["small"] | {
        "datasets": ("cifar10", "cifar100", "flowers102", "caltech101", "aircraft", "cars"),
        "depth": 50,
        "width": 64,
        "epochs": 200,
        "supervised_epochs": 100,
        "batch_size": 512,
        "optimizer": "sgd",
        "temperature": 0.5,
        "probe_limit": None,
        "probe_epochs": 100,
        "attack_limit": 10000,
    }
    PRESETS["published"] = PRESETS["small"]

    def __post_init__(self) -> None:
        least = {"attack_limit": 1, "attack_steps": 1, "probe_epochs": 1, "size": 1, "limit": 2}
        least |= {"probe_limit": 2, "test_limit": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            expect(value is None or value >= bound, name, f"at least {bound}", value)
        expect(min(self.seeds) >= 0, "seeds", "values of at least 0", self.seeds)
        expect(self.temperature > 0, "temperature", "a value above 0", self.temperature)
        expect(0 <= self.jitter_strength <= 1, "jitter_strength", "a value in [0, 1]", self.jitter_strength)
        known = (*OBJECTIVES, "random")
        for objective in self.objectives:
            expect(objective in known, "objectives", f"names out of {sorted(known)}", repr(objective))
        for name in ("objectives", "datasets", "seeds"):
            values = getattr(self, name)
            expect(len(set(values)) == len(values), name, "distinct values", values)
        for objective in OBJECTIVES:  # its checks of the other values, before anything is trained
            self.config(objective, self.seeds[0])

    def config(self, objective: str, seed: int) -> PretrainConfig:
        """How one encoder is pretrained."""
        own = {"temperature": self.temperature, "jitter_strength": self.jitter_strength}
        epochs = self.supervised_epochs if OBJECTIVES[objective].uses_labels else self.epochs
        same = ("depth", "width", "stem", "batch_size", "optimizer", "learning_rate", "crop_scale", "flip")
        options = own if objective == "simclr" else {}
        fields = {name: getattr(self, name) for name in same}
        return PretrainConfig(objective=objective, epochs=epochs, seed=seed, options=options, **fields)
