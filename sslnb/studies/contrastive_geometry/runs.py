"""The runs of the study of contrastive geometry: encoders along pretraining, tasks, and classifiers on them."""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from sslnb import data
from sslnb.core import device
from sslnb.core.checks import NonFiniteError, expect
from sslnb.data.images import ImageSet, at_most
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.load import load_encoder
from sslnb.features.extract import as_float, extract
from sslnb.features.heads import stacked, train_heads
from sslnb.features.standardize import Standardizer
from sslnb.studies.contrastive_geometry.parameters import Parameters
from sslnb.training.cache import cached_checkpoints
from sslnb.training.finetune import Classifier, fine_tune, with_head

SPLITS = ("train", "validation")  # what the paper's figures were drawn from, and what its text says they were


@dataclasses.dataclass(frozen=True)
class Run:
    """A pretrained encoder with its name, seed, and encoders at earlier steps."""

    method: str
    seed: int
    encoder: Encoder
    kept: Mapping[int, Encoder]


@dataclasses.dataclass(frozen=True)
class Task:
    """The images of a few classes; the validation split is the target's test split, on which nothing is chosen."""

    train: ImageSet
    validation: ImageSet

    def split(self, name: str) -> ImageSet:
        return getattr(self, name)


class Runs:
    """Every run and task, and the classifiers that fine-tuning makes of them; ``reasons`` says what went wrong."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.trained, self.reasons = 0, {}
        self.source = at_most(data.load(parameters.dataset, "train", size=parameters.size), parameters.limit)
        self.supplied = load_encoder(parameters.encoder).eval() if parameters.encoder else None
        self.tasks = [self._task(classes) for classes in parameters.classes]
        self._check()
        self.runs: list[Run] = []
        self.models: dict[tuple[int, int], Classifier] = {}  # by run and task, at the end of fine-tuning

    def _task(self, classes: tuple[int, ...]) -> Task:
        p = self.parameters
        train, test = (data.load(p.target, split, size=p.size, classes=classes) for split in ("train", "test"))
        return Task(at_most(train, p.task_limit), test)

    def _check(self) -> None:
        """Refuse what would stop the study after hours of training."""
        p, channels = self.parameters, self.source.images.shape[1]
        for task in self.tasks:
            got = task.train.images.shape[1]
            expect(got == channels, "target", f"images of {channels} channels, as {p.dataset} has", got)
            for split in SPLITS:
                have = int(task.split(split).labels.bincount(minlength=len(task.train.classes)).min())
                expect(have >= self.per_class, "samples", f"at most {have} images of each class", self.per_class)
        test = data.load(p.dataset, "test", size=p.size)
        least = 2 * len(test.classes)
        expect(p.mean_images >= least, "mean_images", f"at least two of each of {least // 2} classes", p.mean_images)
        present = int(test.labels.bincount(minlength=len(test.classes)).min())
        expect(present > 0, f"the test split of {p.dataset}", "images of every class", "a class without any")
        if self.supplied is not None:
            got = self.supplied.in_channels
            expect(got == channels, "encoder", f"one for {channels} channels", got)
            extract(self.supplied, self.tasks[0].validation.images[:2])  # it takes images of this size

    @property
    def per_class(self) -> int:
        """Images of each class over which models are compared."""
        return self.parameters.samples // len(self.parameters.classes[0])

    def pretrain(self) -> None:
        """Fill ``runs``; one whose training went wrong is left out."""
        p = self.parameters
        for method, seed in tqdm(p.runs, desc="pretraining", unit="encoder"):
            checkpoints = cached_checkpoints(p.config(method, seed, len(self.source)), self.source, p.at)
            self.trained += not checkpoints.reused
            if p.steps in checkpoints.encoders:
                self.runs.append(Run(method, seed, checkpoints.encoders[p.steps], checkpoints.encoders))
            else:
                self.reasons[f"{method}, seed {seed}"] = checkpoints.reason
        if self.supplied is not None:
            self.runs.append(Run("encoder", p.seeds[0], self.supplied, {}))
        expect(bool(self.runs), "objectives", "at least one that can be trained", self.reasons)

    def fine_tune(self) -> dict[str, list[Tensor]]:
        """Class probabilities [R,E+1,N,K] of every run after each epoch, by split, a list over tasks."""
        tune = self._heads if self.parameters.tuning == "head" else self._full
        return tune()

    def _heads(self) -> dict[str, list[Tensor]]:
        """All heads of all runs and tasks as one problem."""
        p = self.parameters
        cells = [(r, t) for r in range(len(self.runs)) for t in range(len(self.tasks))]
        features = {split: [self._features(r, t, split) for r, t in tqdm(cells, desc=split)] for split in SPLITS}
        scales = [Standardizer("unit_variance").fit(x) if p.standardized else None for x in features["train"]]
        for split in SPLITS:
            scaled = [s.transform(x) if s else x for s, x in zip(scales, features[split], strict=True)]
            # A given encoder may have more features than the others, or fewer: the missing ones are nought.
            width = max(x.shape[1] for x in scaled)
            features[split] = [functional.pad(x, (0, width - x.shape[1])) for x in scaled]
        seeds = [1000 * self.runs[r].seed + t for r, t in cells]
        widths = [self.runs[r].encoder.feature_dim for r, _ in cells]
        settings = {"epochs": p.epochs, "learning_rate": p.head_rate, "batch_size": p.head_batch}
        x, y = stacked(features["train"], [self.tasks[t].train.labels for _, t in cells])
        heads = train_heads(x, y, len(p.classes[0]), **settings, seeds=seeds, widths=widths)
        probabilities = {split: [[] for _ in self.tasks] for split in SPLITS}
        for g, (r, t) in enumerate(cells):
            encoder, d = self.runs[r].encoder, self.runs[r].encoder.feature_dim
            self.models[r, t] = with_head(encoder, heads.weight[-1, g, :, :d], heads.bias[-1, g], scales[g])
            head = heads.of(g)
            for split in SPLITS:
                probabilities[split][t].append(head.probabilities(features[split][g][None])[:, 0])
        return {split: [torch.stack(runs) for runs in tasks] for split, tasks in probabilities.items()}

    def _features(self, r: int, t: int, split: str) -> Tensor:
        on = device.best_device()
        images = self.tasks[t].split(split)
        return extract(self.runs[r].encoder, images, device=on, precision=device.best_precision(on))

    def _full(self) -> dict[str, list[Tensor]]:
        """Every run fine-tuned whole on every task; one that diverges on any of them is left out."""
        probabilities = {split: [[] for _ in self.tasks] for split in SPLITS}
        sound, models = [], {}
        for run in tqdm(self.runs, desc="fine-tuning", unit="run"):
            tuned = [self._tuned(run, t) for t in range(len(self.tasks))]
            if any(result is None for result in tuned):
                self.reasons[f"{run.method}, seed {run.seed}"] = "fine-tuning stopped being finite"
                continue
            for t, (model, outputs) in enumerate(tuned):
                models[len(sound), t] = model
                for split in SPLITS:
                    probabilities[split][t].append(torch.stack(outputs[split]))
            sound.append(run)
        expect(bool(sound), "head_rate", "one at which some run's fine-tuning stays finite", self.parameters.head_rate)
        self.runs, self.models = sound, models
        return {split: [torch.stack(runs) for runs in tasks] for split, tasks in probabilities.items()}

    def _tuned(self, run: Run, t: int) -> tuple[Classifier, dict[str, list[Tensor]]] | None:
        """A run fine-tuned on a task, with its predictions [N,K] after each epoch by split; None if it diverged."""
        p, task = self.parameters, self.tasks[t]
        outputs: dict[str, list[Tensor]] = {split: [] for split in SPLITS}

        def look(model: Classifier) -> None:
            for split in SPLITS:
                outputs[split].append(extract(model, task.split(split)).softmax(1))

        settings = {"batch_size": p.head_batch, "learning_rate": p.head_rate, "crop_scale": 1.0, "flip": 0.0}
        try:
            tuned = fine_tune(run.encoder, task.train, epochs=p.epochs, seed=run.seed, after_epoch=look, **settings)
        except NonFiniteError:  # of extract, at outputs that are not finite
            return None
        return (tuned.model, outputs) if tuned.converged else None

    def compared(self, t: int, split: str) -> Tensor:
        """Positions [N] of the images over which models are compared: as many of each class, class by class."""
        labels = self.tasks[t].split(split).labels
        return torch.cat([(labels == k).nonzero()[: self.per_class, 0] for k in range(len(self.parameters.classes[0]))])

    def first(self, t: int, split: str, limit: int | None) -> tuple[Tensor, Tensor]:
        """Images in [0, 1] and labels of a task, so many at most."""
        images = at_most(self.tasks[t].split(split), limit)
        return as_float(images.images), images.labels
