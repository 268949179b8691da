"""Training objectives side by side: what each learns in the same time, and what a step of it costs."""

import dataclasses

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from sslnb import data
from sslnb.core import device
from sslnb.core.flat import Result
from sslnb.data.images import at_most
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.resnet import untrained
from sslnb.features.extract import extract
from sslnb.features.linear import LinearProbeGrid
from sslnb.features.nearest import knn_predict
from sslnb.features.scores import top1
from sslnb.features.standardize import Standardizer
from sslnb.metrics.labelfree import rankme
from sslnb.studies.base import BaseStudy, step
from sslnb.studies.objectives.parameters import Parameters
from sslnb.training import cost
from sslnb.training.cache import cached_pretrain
from sslnb.training.loop import HISTORY

REFERENCES = ("random", "pixels")  # rows beside the objectives: an untrained encoder, and no encoder at all
PARTS = tuple(field.name for field in dataclasses.fields(cost.StepCost))


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
        source = self.source = at_most(data.load(p.dataset, "train", size=p.size), p.limit)
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
            self.result.arrays[f"step_{name}"] = np.array([getattr(step_cost, name) for step_cost in measured])
        return self.result


def run(parameters: Parameters) -> Result:
    """The whole comparison."""
    return Study(parameters).run()
