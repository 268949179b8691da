"""What the study of representation quality can be asked to do."""

import dataclasses
import math
from typing import ClassVar

import torch

from sslnb.core.checks import expect, expect_known
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.resnet import STEMS
from sslnb.objectives.registry import OBJECTIVES
from sslnb.studies.base import BaseParameters
from sslnb.studies.presets import QUICK, SMALL, short_config
from sslnb.training.loop import PretrainConfig
from sslnb.training.optim import OPTIMIZERS

ROBUST = "robust"  # the supervised objective, trained adversarially
METHODS = (*sorted(OBJECTIVES), ROBUST)


@dataclasses.dataclass(frozen=True)
class Parameters(BaseParameters):
    """What the study runs on; every field can be set from a notebook, papermill or ``sslnb run -p``."""

    dataset: str  # to pretrain, probe and regularize on; the figures are of this one
    also: tuple[str, ...]  # more sets to do the same on
    objectives: tuple[str, ...]  # on all of these sets; "robust" is supervised with adversarial training
    others: tuple[str, ...]  # more of them, on the first data set only
    encoder: str | None  # one more encoder to judge on all sets, such as checkpoint:PATH or torchvision:resnet50
    masked: tuple[str, ...]  # sets with masks of the object, to compare heatmaps with
    mask_objectives: tuple[str, ...]  # of the objectives, on those of them that are not trained on anyway
    targets: tuple[str, ...]  # sets to which encoders of the first set transfer; itself is left out
    seeds: tuple[int, ...]
    depth: int
    width: int
    stem: str  # cifar | imagenet | unpadded
    steps: int  # of pretraining
    batch_size: int
    optimizer: str  # sgd | lars | adam | adamw
    learning_rate: float | None  # per 256 images; None takes the objective's or the optimizer's own
    jitter_strength: float  # of the colour jitter of two-view objectives
    temperature: float  # of SimCLR and SupCon
    crop_scale: float
    flip: float
    attack_budget: float  # l2, of the adversarial training, in units of the pixels' range
    epsilon: float  # deviations above its mean from which a feature counts as highly activating
    low: float  # percentiles of the activation rates between which features count as discriminative
    high: float
    epsilons: tuple[float, ...]  # for the sensitivity
    lows: tuple[float, ...]  # lower percentiles for the sensitivity
    shares: tuple[float, ...]  # of the features that probes keep
    random_subsets: int  # of features, drawn anew for each share
    further_steps: int  # of training on, with and without a penalty
    further_optimizer: str
    further_rates: tuple[float, ...]  # learning rates of training on, per 256 images; the paper's is 1e-5
    weight: float  # lambda 1, of the Q-Score
    norm_weight: float  # lambda 2, of the columns' norms
    weights: tuple[float, ...]  # lambda 1 of the ablation, at the last of the rates
    norm_weights: tuple[float, ...]  # lambda 2 of the ablation
    heatmap_layer: str  # whose maps become heatmaps: at 32 px with the imagenet stem the last one is a single pixel
    heatmap_images: int  # test images whose heatmaps are compared with masks
    rounds: int  # of the bootstrap
    size: int | None  # side of the images in pixels; None keeps their own
    limit: int | None  # images to pretrain on
    probe_limit: int | None  # training images per probe, and of the activation rates
    test_limit: int | None
    probe_epochs: int

    MAY_BE_EMPTY: ClassVar[tuple[str, ...]] = ("also", "others", "masked", "targets")
    PRESETS: ClassVar[dict[str, dict]] = {
        "quick": QUICK
        | {
            "dataset": "digit-scenes",
            "also": (),
            "objectives": ("simclr", "moco", "vicreg", "supervised"),
            "others": (),
            "encoder": None,
            "masked": ("digit-scenes", "digit-scenes:background_bias=0.95"),
            "mask_objectives": ("simclr",),
            "targets": ("digit-scenes:backgrounds=16",),
            "attack_budget": 0.5,
            "epsilon": 2.0,
            "low": 50.0,
            "high": 95.0,
            "epsilons": (1.0, 1.5, 2.0, 2.5, 3.0, 4.0),
            "lows": (0.0, 25.0, 50.0, 75.0),
            "shares": (0.2, 0.4, 0.6, 0.8, 1.0),
            "random_subsets": 4,
            "further_steps": 10,
            "further_optimizer": "lars",
            "further_rates": (1e-5, 3.0),
            "weight": 1e-4,
            "norm_weight": 1e-4,
            "weights": (10.0,),
            "norm_weights": (0.0, 1e-3),
            "heatmap_layer": "layer2",
            "heatmap_images": 500,
            "rounds": 50,
            "probe_limit": 3000,
            "test_limit": None,
            "probe_epochs": 15,
        },
    }
    PRESETS["small"] = (
        PRESETS["quick"]
        | SMALL
        | {
            "dataset": "cifar10",
            "also": ("cifar100", "stl10"),
            "objectives": ("simclr", "moco", "byol", "vicreg", "supervised", ROBUST),
            "others": ("swav", "dino", "simsiam", "barlow_twins"),
            "masked": ("stl10", "digit-scenes", "digit-scenes:background_bias=0.95"),
            "mask_objectives": ("simclr", "supervised"),
            "targets": ("cifar100", "stl10", "caltech101"),
            "seeds": (0, 1, 2),
            "steps": 2000,
            "temperature": 0.5,
            "shares": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
            "further_steps": 200,
            "weights": (0.0, 1e-4, 1.0, 10.0),
            "norm_weights": (0.0, 1e-4, 1e-3),
            "heatmap_images": 1000,
            "rounds": 200,
            "size": 32,
            "probe_limit": 10000,
            "test_limit": 5000,
            "probe_epochs": 30,
        }
    )
    PRESETS["paper"] = PRESETS["small"] | {
        "width": 64,
        "stem": "cifar",
        "heatmap_layer": "layer4",
        "steps": 78000,
        "batch_size": 512,
        "optimizer": "lars",
        "epsilon": 4.0,
        "further_steps": 4900,
        "probe_limit": None,
        "test_limit": None,
        "probe_epochs": 100,
    }
    PRESETS["published"] = PRESETS["small"]

    def __post_init__(self) -> None:
        least = {"steps": 1, "further_steps": 1, "random_subsets": 1, "heatmap_images": 1, "rounds": 2}
        least |= {"size": 1, "limit": 2, "probe_limit": 2, "test_limit": 2, "probe_epochs": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            expect(value is None or value >= bound, name, f"at least {bound}", value)
        lists = ("objectives", "others", "masked", "mask_objectives", "targets", "seeds", "epsilons", "lows", "shares")
        for name in (*lists, "also", "further_rates", "weights", "norm_weights"):
            values = getattr(self, name)
            expect(len(set(values)) == len(values), name, "distinct values", values)
        for name in ("epsilons", "lows", "shares", "further_rates", "weights", "norm_weights"):
            values = getattr(self, name)
            expect(list(values) == sorted(values) and values[0] >= 0, name, "ascending values of at least 0", values)
        for name in ("epsilon", "weight", "norm_weight", "attack_budget"):
            expect(0 <= getattr(self, name) < math.inf, name, "a finite value of at least 0", getattr(self, name))
        expect(self.shares[0] > 0 and self.shares[-1] == 1, "shares", "values in (0, 1], the last 1", self.shares)
        expect(0 <= self.low < self.high <= 100, "low, high", "0 <= low < high <= 100", (self.low, self.high))
        expect(self.lows[-1] < self.high, "lows", f"values below high, {self.high:g}", self.lows)
        expect(min(self.seeds) >= 0, "seeds", "values of at least 0", self.seeds)
        expect_known(self.stem, STEMS, "stem")
        expect_known(self.further_optimizer, tuple(OPTIMIZERS), "further_optimizer")
        for name in ("objectives", "others", "mask_objectives"):
            for method in getattr(self, name):
                expect_known(method, METHODS, name)
                self.config(method, 0, 1)  # its checks, before anything is trained
        both = set(self.objectives) & set(self.others)
        again = [name for name in self.also if name == self.dataset]
        expect(not again, "also", f"other sets than {self.dataset}", again)
        expect(not both, "others", "names that are not among objectives", sorted(both))

    @property
    def trained(self) -> tuple[str, ...]:
        """Everything that is trained on the first set."""
        return self.objectives + self.others

    def skeleton(self, method: str, channels: int) -> Encoder:
        """The encoder of a method without its weights: what layers it has."""
        config = self.config(method, 0, 1)
        shape = {"width": config.width, "stem": config.stem, "in_channels": channels}
        with torch.device("meta"):
            return OBJECTIVES[config.objective].build_encoder(config.depth, **shape, **config.options)

    @property
    def unseen(self) -> tuple[str, ...]:
        """Targets that encoders of the first set have not learned from."""
        return tuple(name for name in self.targets if name != self.dataset)

    @property
    def on_masked(self) -> tuple[str, ...]:
        """What is trained on sets with masks that nothing else is trained on: of the objectives, at least one."""
        return tuple(m for m in self.mask_objectives if m in self.objectives) or self.objectives[:1]

    @property
    def datasets(self) -> tuple[str, ...]:
        """All sets that are trained on."""
        return (self.dataset, *self.also)

    def config(self, method: str, seed: int, images: int, **changes: object) -> PretrainConfig:
        """How one encoder is pretrained on so many images; a batch larger than that is all of them."""
        objective = "supervised" if method == ROBUST else method
        options = {"attack_budget": self.attack_budget} if method == ROBUST else {}
        return short_config(self, objective, seed, images, options, **changes)
