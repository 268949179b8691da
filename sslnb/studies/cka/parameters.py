"""What the study of layer similarity can be asked to do."""

import dataclasses
from typing import ClassVar

from sslnb.core.checks import expect, expect_known
from sslnb.encoders.resnet import STEMS
from sslnb.metrics.cka import LEAST
from sslnb.objectives.objective import Objective
from sslnb.objectives.registry import OBJECTIVES
from sslnb.studies.base import BaseParameters
from sslnb.studies.presets import QUICK, SMALL, short_config
from sslnb.training.loop import PretrainConfig

SUPERVISED = "supervised"  # what every other objective is compared with
BANK = 1000  # images among which the explorer's neighbours are looked for


@dataclasses.dataclass(frozen=True)
class Parameters(BaseParameters):
    """What the study runs on; every field can be set from a notebook, papermill or ``sslnb run -p``."""

    dataset: str
    objectives: tuple[str, ...]  # compared with supervised layer by layer, with all seeds
    others: tuple[str, ...]  # more of them, on the map of all objectives only
    encoder: str | None  # one more encoder to compare, such as checkpoint:PATH or torchvision:resnet50
    seeds: tuple[int, ...]
    depth: int
    width: int
    stem: str  # cifar | imagenet | unpadded
    steps: int  # of pretraining
    checkpoints: tuple[int, ...]  # steps before the last at which a run is compared with itself
    map_stem: str  # of the networks on the map of objectives, and of those of other depths and widths
    map_steps: int
    deep: int  # another depth, with the same width
    wide: int  # another width, with the same depth
    batch_size: int  # of pretraining
    optimizer: str  # sgd | lars | adam | adamw
    learning_rate: float | None  # per 256 images; None takes the objective's or the optimizer's own
    jitter_strength: float  # of two-view objectives, and of the views between which invariance is measured
    temperature: float  # of SimCLR and SupCon
    crop_scale: float
    flip: float
    gram_batch: int  # images per minibatch of the streamed estimate
    batch_sizes: tuple[int, ...]  # at which estimates are compared with the exact value
    estimate_images: int  # of that comparison
    index_images: int  # of the comparison of indices, more than any layer has channels
    permutations: int  # of the null
    rounds: int  # of the bootstrap over minibatches
    neighbours: int  # shown for an image in the explorer
    size: int | None  # side of the images in pixels; None keeps their own
    limit: int | None  # images to pretrain on
    probe_limit: int | None  # training images of the kNN accuracy
    test_limit: int | None  # test images, on which everything is compared

    MAY_BE_EMPTY: ClassVar[tuple[str, ...]] = ("others", "checkpoints")
    PRESETS: ClassVar[dict[str, dict]] = {
        "quick": QUICK
        | {
            "dataset": "digit-scenes",
            "objectives": ("simclr",),
            "others": ("moco", "vicreg"),
            "encoder": None,
            "checkpoints": (10, 50),
            "map_stem": "imagenet",
            "map_steps": 150,
            "deep": 34,
            "wide": 16,
            "gram_batch": 128,
            "batch_sizes": (8, 16, 32, 64, 128, 256),
            "estimate_images": 1024,
            "index_images": 500,
            "permutations": 40,
            "rounds": 100,
            "neighbours": 5,
            "probe_limit": 3000,
            "test_limit": 1500,
        },
    }
    PRESETS["small"] = (
        PRESETS["quick"]
        | SMALL
        | {
            "dataset": "cifar10",
            "others": (
                *("barlow_twins", "byol", "cmc", "dino", "infomin", "moco", "pirl"),
                *("rotnet", "simsiam", "supcon", "swav", "vicreg"),
            ),
            "seeds": (0, 1, 2),
            "stem": "cifar",
            "steps": 600,
            "checkpoints": (20, 50, 100, 200, 400),
            "map_steps": 800,
            "wide": 32,
            "gram_batch": 256,
            "batch_sizes": (8, 16, 32, 64, 128, 256, 512),
            "estimate_images": 2048,
            "index_images": 2000,
            "permutations": 100,
            "rounds": 200,
            "probe_limit": 10000,
            "test_limit": None,
        }
    )
    PRESETS["paper"] = PRESETS["small"] | {
        "depth": 50,
        "width": 64,
        "steps": 97_500,  # 500 epochs of 50,000 images; the poster does not say how long it trained
        "checkpoints": (100, 500, 2000, 10_000, 40_000),
        "map_stem": "cifar",
        "map_steps": 20_000,
        "deep": 34,
        "wide": 128,
        "temperature": 0.5,
        "optimizer": "sgd",
        "index_images": 5000,
        "probe_limit": None,
    }
    PRESETS["published"] = PRESETS["small"]

    def __post_init__(self) -> None:
        least = {"steps": 1, "map_steps": 1, "batch_size": 2, "gram_batch": LEAST, "estimate_images": 4 * LEAST}
        expect(
            self.neighbours < BANK,
            "neighbours",
            f"fewer than the {BANK} images they are looked for in",
            self.neighbours,
        )
        least |= {"index_images": LEAST, "permutations": 2, "rounds": 2, "neighbours": 1, "wide": 1}
        least |= {"size": 1, "limit": 2, "probe_limit": 2, "test_limit": 2 * LEAST}
        for name, bound in least.items():
            value = getattr(self, name)
            expect(value is None or value >= bound, name, f"at least {bound}", value)
        for name in ("objectives", "others", "seeds", "checkpoints", "batch_sizes"):
            values = getattr(self, name)
            expect(len(set(values)) == len(values), name, "distinct values", values)
        for name, bound in {"seeds": 0, "checkpoints": 1, "batch_sizes": LEAST}.items():
            values = getattr(self, name)
            expect(min(values, default=bound) >= bound, name, f"values of at least {bound}", values)
        for name, last in {"checkpoints": self.steps, "batch_sizes": self.estimate_images}.items():
            values = (*getattr(self, name), last)
            below = list(values) == sorted(set(values))
            expect(below, name, f"ascending values below {last}", getattr(self, name))
        limit = self.test_limit
        wanted = f"at least {self.least_images} images, for gram_batch, estimate_images, index_images and neighbours"
        expect(limit is None or limit >= self.least_images, "test_limit", wanted, limit)
        expect(self.deep != self.depth, "deep", f"another depth than {self.depth}", self.deep)
        expect(self.wide != self.width, "wide", f"another width than {self.width}", self.wide)
        expect(self.temperature > 0, "temperature", "a value above 0", self.temperature)
        expect(self.jitter_strength >= 0, "jitter_strength", "a value of at least 0", self.jitter_strength)
        for name in ("stem", "map_stem"):
            expect_known(getattr(self, name), STEMS, name)
        for name in ("objectives", "others"):
            for method in getattr(self, name):
                known = set(OBJECTIVES) - {SUPERVISED}
                if name == "objectives":  # layer by layer: two networks side by side have other layers
                    known = {
                        m for m in known if OBJECTIVES[m].build_encoder.__func__ is Objective.build_encoder.__func__
                    }
                expect_known(method, sorted(known), name)
        both = sorted(set(self.objectives) & set(self.others))
        expect(not both, "others", "names that are not among objectives", both)
        for method in (*self.methods, *self.others):
            self.config(method, 0, 1)  # its checks, before anything is trained
            self.mapped(method, 0, 1, depth=self.deep)

    @property
    def least_images(self) -> int:
        """Test images without which something can not be measured."""
        return max(2 * self.gram_batch, self.estimate_images, self.index_images, self.neighbours + 1)

    @property
    def methods(self) -> tuple[str, ...]:
        """What is compared layer by layer: supervised first."""
        return (SUPERVISED, *self.objectives)

    @property
    def at(self) -> tuple[int, ...]:
        """Steps whose encoders are kept, the last included."""
        return (*self.checkpoints, self.steps)

    def config(self, method: str, seed: int, images: int, **changes: object) -> PretrainConfig:
        """How one encoder is pretrained on so many images."""
        return short_config(self, method, seed, images, **changes)

    def mapped(self, method: str, seed: int, images: int, **changes: object) -> PretrainConfig:
        """The same for the map of objectives and the other shapes."""
        return self.config(method, seed, images, **{"stem": self.map_stem, "steps": self.map_steps} | changes)
