"""What the study of SimCLR and RotNet can be asked to do."""

import dataclasses
import math
from typing import ClassVar

from sslnb.core.checks import expect, expect_known
from sslnb.encoders.resnet import STEMS
from sslnb.studies.base import BaseParameters
from sslnb.training.loop import PretrainConfig

# The published code's departures from the text: supervised weights to begin from, one augmentation for a whole batch,
# SimCLR's stem without padding where RotNet has ImageNet's, a learning rate that is cut.
VARIANTS = ("initialised", "per batch", "unpadded stem", "imagenet stem", "cut")
# What the text says of each optimizer; the learning rate is the same for every batch size there.
TRAINING = {
    "simclr": {"weight_decay": 1e-6},
    "rotnet": {"weight_decay": 5e-4},
    "supervised": {"weight_decay": 0.0},
}


@dataclasses.dataclass(frozen=True)
class Parameters(BaseParameters):
    """What the study runs on; every field can be set from a notebook, papermill or ``sslnb run -p``."""

    dataset: str  # to pretrain, fine-tune and attack on
    target: str  # the other set of the transfers
    target_classes: tuple[int, ...] | None  # of the target; None takes all
    sizes: tuple[int, ...]  # sides in pixels at which the target is seen; its own pretraining uses the first
    objectives: tuple[str, ...]
    encoder: str | None  # one more encoder to judge, such as checkpoint:PATH or torchvision:resnet50
    initial: str | None  # weights to begin from in a variant: an encoder's name, or supervised:DATASET
    seeds: tuple[int, ...]
    depth: int
    deep: int  # depth of the second architecture
    width: int
    stem: str  # cifar | imagenet | unpadded
    batch_sizes: tuple[int, ...]
    steps: tuple[int, ...]  # of pretraining, at which encoders are judged
    variants: tuple[str, ...]  # departures of the published code from the text, each tried alone
    variant_batch: int  # batch size of the variants, the architectures and the transfers over steps
    simclr_optimizer: str
    rotnet_optimizer: str
    simclr_rate: float  # learning rate, the same for every batch size
    rotnet_rate: float
    supervised_rate: float
    temperature: float  # of SimCLR
    jitter_strength: float  # of SimCLR's colour jitter
    projection_dim: int  # of SimCLR's head: 2048 in the report's text, 128 in its code
    crop_scale: float
    flip: float
    fractions: tuple[float, ...]  # of the labels
    tune_epochs: tuple[int, ...]  # of fine-tuning, for each fraction
    tune_batch: int  # batch size of fine-tuning
    tune_rate: float  # learning rate of fine-tuning, per 256 images
    tune_crop: float  # least area of a crop in fine-tuning
    baseline_epochs: tuple[int, ...]  # of supervised training from random weights, for each fraction
    budgets: int  # number of attack budgets, 0 included
    largest_budget: float  # in units of the normalised images
    attack_steps: int
    attack_limit: int | None  # test images that are attacked
    size: int | None  # side of the source's images in pixels; None keeps their own
    limit: int | None  # images to pretrain on
    probe_limit: int | None  # training images per probe
    test_limit: int | None
    probe_epochs: int

    PRESETS: ClassVar[dict[str, dict]] = {
        "quick": {
            "dataset": "digit-scenes",
            "target": "digit-scenes:backgrounds=16",
            "target_classes": (0, 1, 2, 3, 4),
            "sizes": (32,),
            "objectives": ("simclr", "rotnet"),
            "encoder": None,
            "initial": None,
            "seeds": (0, 1),
            "depth": 18,
            "deep": 34,
            "width": 8,
            "stem": "imagenet",
            "batch_sizes": (32, 128),
            "steps": (25, 50, 100),
            "variants": ("per batch", "cut"),
            "variant_batch": 32,
            "simclr_optimizer": "adam",
            "rotnet_optimizer": "adam",
            "simclr_rate": 0.002,
            "rotnet_rate": 0.002,
            "supervised_rate": 0.05,
            "temperature": 0.1,
            "jitter_strength": 0.1,
            "projection_dim": 128,
            "crop_scale": 0.5,
            "flip": 0.0,
            "fractions": (0.01, 0.1),
            "tune_epochs": (20, 6),
            "tune_batch": 64,
            "tune_rate": 0.05,
            "tune_crop": 0.5,
            "baseline_epochs": (20, 6),
            "budgets": 6,
            "largest_budget": 0.275,
            "attack_steps": 10,
            "attack_limit": 300,
            "size": None,
            "limit": None,
            "probe_limit": 2000,
            "test_limit": None,
            "probe_epochs": 10,
        },
    }
    PRESETS["small"] = PRESETS["quick"] | {
        "dataset": "cifar10",
        "target": "stl10",
        "target_classes": None,
        "sizes": (32, 96),
        "initial": "supervised:cifar100",
        "deep": 50,
        "width": 16,
        "batch_sizes": (32, 64, 128, 256, 512),
        "steps": (100, 200, 500, 1000, 2000, 3000),
        "variants": ("initialised", "per batch", "unpadded stem", "cut"),
        "variant_batch": 128,
        "rotnet_optimizer": "sgd",
        "simclr_rate": 0.001,
        "rotnet_rate": 0.01,
        "supervised_rate": 0.0125,
        "temperature": 0.5,
        "jitter_strength": 1.0,
        "crop_scale": 0.08,
        "flip": 0.5,
        "fractions": (0.01, 0.1, 0.5),
        "tune_epochs": (60, 30, 20),
        "baseline_epochs": (200, 60, 30),
        "budgets": 10,
        "attack_limit": 2000,
        "probe_limit": 10000,
    }
    PRESETS["paper"] = PRESETS["small"] | {
        "initial": "torchvision:resnet50",
        "seeds": (0, 1, 2),
        "depth": 50,
        "deep": 18,
        "width": 64,
        "stem": "cifar",
        "steps": (100, 200, 500, 1000, 2000, 3000, 4000, 5000),
        "variants": VARIANTS,
        "projection_dim": 2048,
        "baseline_epochs": (500, 500, 500),
        "attack_limit": None,
        "probe_limit": None,
        "probe_epochs": 100,
    }
    PRESETS["published"] = PRESETS["small"]

    def __post_init__(self) -> None:
        least = {"attack_limit": 1, "attack_steps": 1, "probe_epochs": 1, "projection_dim": 1, "budgets": 2}
        least |= {"size": 1, "limit": 2, "probe_limit": 2, "test_limit": 2, "tune_batch": 2}
        for name, bound in least.items():
            value = getattr(self, name)
            expect(value is None or value >= bound, name, f"at least {bound}", value)
        for name in ("seeds", "steps", "batch_sizes", "sizes", "fractions", "objectives"):
            values = getattr(self, name)
            expect(len(set(values)) == len(values), name, "distinct values", values)
            ordered = name in ("steps", "batch_sizes", "fractions")
            expect(not ordered or list(values) == sorted(values), name, "ascending values", values)
        for name, bound in {"seeds": 0, "steps": 1, "batch_sizes": 2, "sizes": 1, "tune_epochs": 1}.items():
            expect(min(getattr(self, name)) >= bound, name, f"values of at least {bound}", getattr(self, name))
        expect(all(0 < f <= 1 for f in self.fractions), "fractions", "shares in (0, 1]", self.fractions)
        for name in ("tune_epochs", "baseline_epochs"):
            epochs = getattr(self, name)
            expect(len(epochs) == len(self.fractions), name, f"one for each of {len(self.fractions)} fractions", epochs)
        enough = all(b >= t for b, t in zip(self.baseline_epochs, self.tune_epochs, strict=True))
        expect(enough, "baseline_epochs", f"no fewer than tune_epochs {self.tune_epochs}", self.baseline_epochs)
        expect(0 < self.tune_crop <= 1, "tune_crop", "a share in (0, 1]", self.tune_crop)
        expect_known(self.variant_batch, self.batch_sizes, "variant_batch")
        expect(0 < self.largest_budget < math.inf, "largest_budget", "a value above 0", self.largest_budget)
        expect(0 < self.tune_rate < math.inf, "tune_rate", "a value above 0", self.tune_rate)
        expect_known(self.stem, STEMS, "stem")
        for variant in self.variants:
            expect_known(variant, VARIANTS, "variants")
        possible = self.initial is not None or "initialised" not in self.variants
        expect(possible, "initial", "weights to begin from, for the variant 'initialised'", None)
        for objective in self.objectives:
            expect(objective in ("simclr", "rotnet"), "objectives", "'simclr' and 'rotnet'", repr(objective))
        for depth in (self.depth, self.deep):
            for objective in TRAINING:  # its checks, before anything is trained
                self.config(objective, self.batch_sizes[0], 0, 1, depth=depth)

    def config(self, objective: str, batch_size: int, seed: int, images: int, **changes: object) -> PretrainConfig:
        """How one encoder is pretrained: at a constant rate without warm-up, so that a run holds all shorter ones.

        The last step is the run's, whatever the number of ``images``; a batch larger than that is all of them.
        """
        rate, batch_size = getattr(self, f"{objective}_rate"), min(batch_size, max(2, images))
        own = {name: getattr(self, name) for name in ("temperature", "jitter_strength", "projection_dim")}
        fields = {
            **{name: getattr(self, name) for name in ("depth", "width", "stem", "crop_scale", "flip")},
            "optimizer": "sgd" if objective == "supervised" else getattr(self, f"{objective}_optimizer"),
            "learning_rate": rate * 256 / batch_size,  # which the training loop scales by the batch
            "schedule": "constant",
            "warmup": 0.0,
            "options": own if objective == "simclr" else {},
            **TRAINING[objective],
            **changes,
        }
        steps = self.steps[-1]
        fields["epochs"] = math.ceil(steps / max(1, images // batch_size))
        return PretrainConfig(objective=objective, batch_size=batch_size, seed=seed, steps=steps, **fields)
