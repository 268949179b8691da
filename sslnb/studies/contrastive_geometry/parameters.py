"""What the study of contrastive geometry can be asked to do."""

import dataclasses
from typing import ClassVar

from sslnb.core.checks import expect, expect_known
from sslnb.encoders.resnet import STEMS
from sslnb.objectives.registry import OBJECTIVES
from sslnb.studies.base import BaseParameters
from sslnb.studies.presets import QUICK, SMALL, short_config
from sslnb.training.loop import PretrainConfig

TUNING = ("head", "full")
PAPER_TASKS = ("0 1 2 3 4", "6 11 16 21 26", "56 58 62 66 68", "95 96 97 98 99")


@dataclasses.dataclass(frozen=True)
class Parameters(BaseParameters):
    """What the study runs on; every field can be set from a notebook, papermill or ``sslnb run -p``."""

    dataset: str  # to pretrain on
    target: str  # of the tasks
    tasks: tuple[str, ...]  # classes of the target, separated by spaces; as many in each
    task_limit: int | None  # training images of each task
    objectives: tuple[str, ...]  # compared with all seeds; claims are about simclr, supcon and supervised
    others: tuple[str, ...]  # more of them, with the first seed
    encoder: str | None  # one more encoder to judge, such as checkpoint:PATH or torchvision:resnet50
    seeds: tuple[int, ...]
    depth: int
    width: int
    stem: str  # cifar | imagenet | unpadded
    steps: int  # of pretraining
    checkpoints: tuple[int, ...]  # steps before the last at which pretraining is looked at
    batch_size: int  # of pretraining
    optimizer: str  # sgd | lars | adam | adamw
    learning_rate: float | None  # per 256 images; None takes the objective's or the optimizer's own
    supervised_rate: float | None  # the same of the supervised objective; None takes that of all
    weight_decay: float | None  # None takes the objective's own
    jitter_strength: float  # of two-view objectives
    temperature: float  # of SimCLR and SupCon
    crop_scale: float
    flip: float
    tuning: str  # head: a linear layer on a frozen encoder; full: all weights
    standardized: bool  # heads see features of zero mean and unit variance; the paper's saw them as they are
    epochs: int  # of fine-tuning
    head_rate: float  # learning rate of fine-tuning; of whole networks per 256 images, and constant
    head_batch: int  # its batch size
    samples: int  # of each task and split, over which models are compared
    surface_points: int  # along each side of the loss surface, odd
    surface_span: float  # its half side; 1 moves every filter by its own length
    surface_images: int  # over which losses and curvatures are means
    radius: float  # of the rise and sharpness, in lengths of the filters
    flat_directions: int  # over which they are measured
    curvature_steps: int  # of the power iteration, at most
    probes: int  # of the Hessian's trace
    budgets: tuple[int, ...]  # of FGSM, in 255ths; 0 is added
    pgd_budgets: tuple[int, ...]  # of PGD, in 255ths of the pixels' range; 0 is added
    attack_steps: int  # of PGD
    attack_limit: int | None  # images of each task that are attacked
    mean_images: int  # of the pretraining set, for class means and for their test
    rounds: int  # of the bootstrap over images
    size: int | None  # side of the images in pixels; None keeps their own
    limit: int | None  # images to pretrain on

    MAY_BE_EMPTY: ClassVar[tuple[str, ...]] = ("others", "checkpoints")
    PRESETS: ClassVar[dict[str, dict]] = {
        "quick": QUICK
        | {
            "dataset": "digit-scenes",
            "target": "digit-scenes:contrast=0.6,seed=1",
            "supervised_rate": None,
            "weight_decay": None,
            "tasks": ("0 1 2 3 4", "5 6 7 8 9", "0 2 4 6 8", "1 3 5 7 9"),
            "task_limit": 600,
            "objectives": ("simclr", "supcon", "supervised"),
            "others": (),
            "encoder": None,
            "checkpoints": (20, 60),
            "tuning": "head",
            "standardized": True,
            "epochs": 30,
            "head_rate": 0.1,
            "head_batch": 64,
            "samples": 200,
            "surface_points": 15,
            "surface_span": 1.0,
            "surface_images": 128,
            "radius": 0.25,
            "flat_directions": 5,
            "curvature_steps": 15,
            "probes": 5,
            "budgets": tuple(range(1, 16)),
            "pgd_budgets": (1, 2, 4, 8),
            "attack_steps": 5,
            "attack_limit": 100,
            "mean_images": 500,
            "rounds": 40,
        },
    }
    PRESETS["small"] = (
        PRESETS["quick"]
        | SMALL
        | {
            "dataset": "cifar10",
            "target": "cifar100",
            "tasks": PAPER_TASKS,
            "task_limit": None,
            "others": (
                *("barlow_twins", "byol", "cmc", "dino", "infomin", "moco", "pirl"),
                *("rotnet", "simsiam", "swav", "vicreg"),
            ),
            "seeds": (0, 1, 2, 3),
            "steps": 800,
            "checkpoints": (20, 50, 100, 200, 400),
            "head_batch": 256,
            "samples": 500,
            "surface_points": 51,
            "surface_images": 512,
            "flat_directions": 10,
            "curvature_steps": 40,
            "probes": 20,
            "pgd_budgets": (1, 2, 4, 8, 15),
            "attack_steps": 10,
            "attack_limit": 250,
            "mean_images": 2000,
            "rounds": 200,
        }
    )
    PRESETS["paper"] = PRESETS["small"] | {
        "others": (),
        "seeds": (0, 10, 20, 30),
        "width": 64,
        "stem": "cifar",
        "steps": 39_000,  # 200 epochs of 50,000 images in batches of 256
        "checkpoints": (195, 975, 3900, 9750, 19_500),
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "supervised_rate": 0.2,
        "weight_decay": 1e-4,
        "temperature": 0.07,
        "standardized": False,
        "attack_limit": None,
    }
    PRESETS["published"] = PRESETS["small"]

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch_size": 2, "epochs": 1, "head_batch": 1, "samples": 10, "surface_images": 2}
        least |= {"flat_directions": 1, "curvature_steps": 1, "probes": 2, "attack_steps": 1, "attack_limit": 1}
        least |= {"mean_images": 2, "rounds": 2, "size": 1, "limit": 2, "task_limit": 2, "surface_points": 3}
        for name, bound in least.items():
            value = getattr(self, name)
            expect(value is None or value >= bound, name, f"at least {bound}", value)
        expect(self.surface_points % 2 == 1, "surface_points", "an odd number", self.surface_points)
        for name in ("head_rate", "surface_span", "radius", "temperature"):
            expect(getattr(self, name) > 0, name, "a value above 0", getattr(self, name))
        expect(self.jitter_strength >= 0, "jitter_strength", "a value of at least 0", self.jitter_strength)
        for name in ("objectives", "others", "seeds", "checkpoints", "budgets", "pgd_budgets", "tasks"):
            values = getattr(self, name)
            expect(len(set(values)) == len(values), name, "distinct values", values)
        for name, bound in {"seeds": 0, "checkpoints": 1, "budgets": 1, "pgd_budgets": 1}.items():
            values = getattr(self, name)
            expect(min(values, default=bound) >= bound, name, f"values of at least {bound}", values)
            expect(name == "seeds" or list(values) == sorted(values), name, "ascending values", values)
        expect(max(self.checkpoints, default=0) < self.steps, "checkpoints", f"below {self.steps}", self.checkpoints)
        expect_known(self.stem, STEMS, "stem")
        expect_known(self.tuning, TUNING, "tuning")
        sizes = {len(task) for task in self.classes}
        expect(len(sizes) == 1 and min(sizes) >= 2, "tasks", "as many classes in each, at least two", self.tasks)
        for name in ("samples", "surface_images", "attack_limit", "task_limit"):
            value, wanted = getattr(self, name), f"at least one image of each of {max(sizes)} classes"
            expect(value is None or value >= max(sizes), name, wanted, value)
        batch = self.tuning == "head" or self.head_batch >= 2
        expect(batch, "head_batch", "at least 2 where batch norm learns, too", self.head_batch)
        for name in ("objectives", "others"):
            for method in getattr(self, name):
                expect_known(method, sorted(OBJECTIVES), name)
                self.config(method, 0, 1)  # its checks, before anything is trained
        both = sorted(set(self.objectives) & set(self.others))
        expect(not both, "others", "names that are not among objectives", both)

    @property
    def classes(self) -> tuple[tuple[int, ...], ...]:
        """Classes of each task."""
        known = all(part.isdecimal() for task in self.tasks for part in task.split())
        expect(known, "tasks", "numbers of classes separated by spaces, as in '0 1 2'", self.tasks)
        tasks = tuple(tuple(int(part) for part in task.split()) for task in self.tasks)
        expect(all(len(set(task)) == len(task) for task in tasks), "tasks", "distinct classes in each", self.tasks)
        return tasks

    @property
    def runs(self) -> tuple[tuple[str, int], ...]:
        """Method and seed of everything that is pretrained."""
        main = tuple((method, seed) for method in self.objectives for seed in self.seeds)
        return main + tuple((method, self.seeds[0]) for method in self.others)

    @property
    def at(self) -> tuple[int, ...]:
        """Steps of pretraining whose encoders are kept, the last included."""
        return (*self.checkpoints, self.steps)

    def config(self, method: str, seed: int, images: int) -> PretrainConfig:
        """How one encoder is pretrained on so many images."""
        changes: dict[str, object] = {"weight_decay": self.weight_decay}
        if method == "supervised" and self.supervised_rate is not None:
            changes["learning_rate"] = self.supervised_rate
        return short_config(self, method, seed, images, **changes)
