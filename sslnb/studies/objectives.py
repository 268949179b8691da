"""Training objectives side by side: what each learns in the same time, and what a step of it costs."""

import dataclasses
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from sslnb import data
from sslnb.core import device
from sslnb.core.checks import expect, expect_known
from sslnb.core.result import Result
from sslnb.data.images import at_most
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.resnet import untrained
from sslnb.features.extract import extract
from sslnb.features.linear import LinearProbeGrid
from sslnb.features.nearest import knn_predict
from sslnb.features.scores import top1
from sslnb.features.standardize import Standardizer
from sslnb.metrics.labelfree import rankme
from sslnb.objectives.registry import OBJECTIVES
from sslnb.studies.base import BaseParameters, BaseStudy, step
from sslnb.training import cost
from sslnb.training.cache import cached_pretrain
from sslnb.training.loop import HISTORY, PretrainConfig

REFERENCES = ("random", "pixels")  # rows beside the objectives: an untrained encoder, and no encoder at all
PARTS = tuple(field.name for field in dataclasses.fields(cost.StepCost))

EPOCHS = 10  # where neither the parameters nor the table below say otherwise
# What each objective is trained with on digit-scenes, chosen on the validation split: fewer epochs where a step costs
# more; weak colour jitter and large crops, since stronger ones hide the digit before its surroundings; queues and banks
# that suit 9,000 images.
WEAK = {"jitter_strength": 0.1, "greyscale": 0.0}
PLAIN = WEAK | {"solarize": (0.0, 0.0)}
QUICK: dict[str, dict] = {
    "barlow_twins": {"epochs": 20, "options": PLAIN | {"off_diagonal_weight": 0.02}},
    "byol": {"epochs": 12, "options": PLAIN | {"momentum": 0.98}},
    "cmc": {"epochs": 20, "options": {"negatives": 1024}},
    "dino": {"epochs": 14, "options": PLAIN | {"momentum": 0.98, "outputs": 512}},
    "infomin": {
        "epochs": 18,
        "options": WEAK
        | {"blur": (0.0, 0.0), "operations": 1, "magnitude": 3}
        | {"momentum": 0.98, "queue_size": 2048, "temperature": 0.1},
    },
    "infomin_color": {"epochs": 20, "options": {"negatives": 1024}},
    "moco": {"epochs": 22, "options": WEAK | {"momentum": 0.98, "queue_size": 2048, "temperature": 0.1}},
    "pirl": {"epochs": 12, "options": WEAK | {"negatives": 1024, "temperature": 0.2}},
    "rotnet": {"epochs": 8},
    "simclr": {"epochs": 18, "options": WEAK | {"temperature": 0.1}},
    "simsiam": {"epochs": 16, "options": WEAK},
    "supcon": {"epochs": 18, "options": WEAK},
    "supervised": {"epochs": 30},
    "swav": {"epochs": 15, "options": WEAK | {"prototypes": 200}},
    "vicreg": {"epochs": 16, "options": PLAIN},
}


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
        own = QUICK.get(objective, {}) if scenes else {}  # nobody chose it for other images
        same = ("depth", "width", "stem", "batch_size", "optimizer", "crop_scale", "flip")
        fields = {name: getattr(self, name) for name in same} | own
        if self.learning_rate is not None:
            fields["learning_rate"] = self.learning_rate
        if self.epochs is not None:
            fields["epochs"] = self.epochs
        return PretrainConfig(objective=objective, seed=seed, **{"epochs": EPOCHS} | fields)


class Study(BaseStudy):
    """Encoders → accuracy by kNN and linear probe → cost of a step, one step each.

    Arrays are indexed [method, seed, …] in the order of ``scalars["methods"]`` and ``"seeds"``; runs that did not
    converge are NaN, and ``scalars["reasons"]`` says why.
    """

    name = "objectives"
    parameters: Parameters

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.encoders: dict[tuple[str, int], Encoder] = {}
        self.source: data.ImageSet | None = None

    @step
    def pretrain(self) -> Result:
        """Train, or take from the cache, one encoder per objective and seed."""
        p = self.parameters
        source = self.source = data.load(p.dataset, "train", size=p.size, limit=p.limit)
        held_out = data.load(p.dataset, "val", size=p.size)
        configs = {(o, s): p.config(o, s) for o in p.objectives for s in p.seeds}
        longest = max(config.epochs for config in configs.values())
        arrays = {name: np.full((len(p.objectives), len(p.seeds), longest), np.nan) for name in HISTORY}
        reasons, reused = {}, []
        for (objective, seed), config in configs.items():
            run = cached_pretrain(config, source, held_out=held_out)
            at = p.objectives.index(objective), p.seeds.index(seed)
            for name in HISTORY:
                arrays[name][*at, : len(run.history[name])] = run.history[name]
            reused.append(run.reused)
            if run.converged:
                self.encoders[objective, seed] = run.encoder
            else:
                reasons[f"{objective}, seed {seed}"] = run.reason
        self.result.arrays |= arrays
        self.result.scalars |= {
            "methods": list(p.objectives),
            "seeds": list(p.seeds),
            "reasons": reasons,
            "settings": {
                o: dataclasses.asdict(p.config(o, p.seeds[0]).resolved(device.best_device())) for o in p.objectives
            },
            "pretraining": {"dataset": p.dataset, "images": len(source), "trained": reused.count(False)},
        }
        self.result.provenance["data"] = {p.dataset: source.checksum()}
        return self.result

    @step
    def evaluate(self) -> Result:
        """kNN and linear probe on the test split, of every encoder, of random weights, and of raw pixels."""
        p = self.parameters
        limits = {"train": p.probe_limit, "val": None, "test": None}
        splits = {k: at_most(data.load(p.dataset, k, size=p.size), limit) for k, limit in limits.items()}
        methods = (*p.objectives, *REFERENCES)
        knn, linear, ranks = (np.full((len(methods), len(p.seeds)), np.nan) for _ in range(3))
        chances = [(m, s) for m in range(len(methods)) for s in range(len(p.seeds))]
        for m, s in tqdm(chances, desc="kNN and linear probes", unit="encoder"):
            features = self._features(methods[m], p.seeds[s], splits)
            if features is None:
                continue
            labels = {k: part.labels for k, part in splits.items()}
            knn[m, s] = top1(knn_predict(features["train"], labels["train"], features["test"]), labels["test"])
            standardize = Standardizer().fit(features["train"]).transform
            x = {k: standardize(part) for k, part in features.items()}
            grid = LinearProbeGrid(epochs=p.probe_epochs, seed=p.seeds[s])
            probe = grid.fit(x["train"], labels["train"], x["val"], labels["val"])
            linear[m, s] = probe.accuracy(x["test"], labels["test"]) if probe.converged else np.nan
            ranks[m, s] = rankme(features["test"])
        self.result.arrays |= {"test_knn": knn, "test_linear": linear, "test_rankme": ranks}
        self.result.scalars |= {"references": list(REFERENCES), "test_images": len(splits["test"])}
        self.result.scalars["probe_images"] = len(splits["train"])
        return self.result

    def _features(self, method: str, seed: int, splits: dict[str, data.ImageSet]) -> dict[str, Tensor] | None:
        """Features per split; None where the encoder did not converge."""
        if method == "pixels":
            return {k: part.images.flatten(1).float() / 255 for k, part in splits.items()}
        encoder = self._encoder(method, seed)
        if encoder is None:
            return None
        on = device.best_device()
        same = {"device": on, "precision": device.best_precision(on)}
        return {k: extract(encoder, part, **same) for k, part in splits.items()}

    def _encoder(self, method: str, seed: int) -> Encoder | None:
        p = self.parameters
        if method == "random":
            return untrained(seed, p.depth, width=p.width, stem=p.stem, in_channels=self.source.images.shape[1])
        return self.encoders.get((method, seed))

    @step
    def cost(self) -> Result:
        """Seconds and memory of a training step of every objective on this machine, one after the other."""
        p, images = self.parameters, self.source
        measured = [cost.of_step(p.config(o, p.seeds[0]), images) for o in tqdm(p.objectives, desc="cost of a step")]
        for name in PARTS:
            self.result.arrays[f"step_{name}"] = np.array([getattr(one, name) for one in measured])
        return self.result


def run(parameters: Parameters) -> Result:
    """The whole comparison."""
    return Study(parameters).run()
