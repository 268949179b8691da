"""The runs of the study of contrastive geometry: encoders, tasks, and what fine-tuning makes of them."""

import dataclasses
import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm.auto import tqdm

from sslnb.core import device
from sslnb.core.checks import NonFiniteError, expect
from sslnb.data.images import ImageSet, at_most
from sslnb.encoders.encoder import Encoder, weights_checksum
from sslnb.features.extract import as_float, extract
from sslnb.features.heads import Heads, stacked, train_heads
from sslnb.features.standardize import Standardizer
from sslnb.pool.pool import PIXELS
from sslnb.studies.contrastive_geometry.parameters import PAPER_TASKS
from sslnb.studies.measures import features_of
from sslnb.studies.study import Context
from sslnb.training.finetune import Classifier, fine_tune, with_head

SPLITS = ("train", "validation")  # what the paper's figures were drawn from, and what its text says they were
CLASSES, TASKS = 5, 4  # in each task, and at most, as the paper has


@dataclasses.dataclass(frozen=True)
class Run:
    """An encoder with its name and seed."""

    objective: str
    seed: int
    encoder: Encoder


@dataclasses.dataclass(frozen=True)
class Task:
    """The images of a few classes; the validation split is the target's test split, on which nothing is chosen."""

    name: str
    train: ImageSet
    validation: ImageSet

    def split(self, name: str) -> ImageSet:
        return getattr(self, name)


class Runs:
    """Every run and task, and the classifiers that fine-tuning makes of them."""

    def __init__(self, context: Context) -> None:
        p = self.parameters = context.parameters
        self.note = context.note
        self.tasks = _tasks(context)
        self.classes = len(self.tasks[0].train.classes)
        self.per_class = self._per_class()
        names = (*context.names, (PIXELS, 0)) if p.tuning == "head" else context.names
        runs = [Run(*name, context.encoder(*name)) for name in names]
        self.runs = [run for run in runs if self._fits(run)]
        self.models: dict[tuple[int, int], Classifier] = {}  # by run and task, at the end of fine-tuning

    def _per_class(self) -> int:
        """Images of each class over which models are compared: what is asked for, or what there is."""
        wanted = max(1, self.parameters.samples // self.classes)
        counts = [t.split(s).labels.bincount(minlength=self.classes).min() for t in self.tasks for s in SPLITS]
        have = int(min(counts))
        expect(have > 0, "tasks", f"classes with images in both splits of {self.parameters.target}", "a class without")
        if have < wanted:
            self.note(f"models are compared over {have} images of each class, where {wanted} were asked for")
        return min(wanted, have)

    def _fits(self, run: Run) -> bool:
        """Whether raw pixels are of the target's size."""
        return run.objective != PIXELS or run.encoder.feature_dim == self.tasks[0].validation.images[0].numel()

    def of(self, objectives: Sequence[str]) -> list[int]:
        """Positions of the runs of some objectives."""
        return [r for r, run in enumerate(self.runs) if run.objective in objectives]

    def coordinates(self, positions: Sequence[int] | None = None) -> dict[str, object]:
        """Coordinates of datasets over runs, all of them unless some are named."""
        runs = self.runs if positions is None else [self.runs[r] for r in positions]
        return {
            "objective": ("run", [run.objective for run in runs]),
            "seed": ("run", [run.seed for run in runs]),
            "task": [task.name for task in self.tasks],
        }

    def determinants(self, r: int, t: int) -> dict[str, object]:
        """What decides the classifier of a run on a task, and the images that it is tested on."""
        p, task, on = self.parameters, self.tasks[t], device.best_device()
        return {
            "encoder": self._checksum(r),
            "task": [task.train.checksum(), task.validation.checksum()],
            "tuning": [p.tuning, p.epochs, p.head_rate, p.head_batch, self.runs[r].seed, t],
            "device": [on.type, device.best_precision(on)],
        }

    @functools.cache  # noqa: B019 - runs live as long as their study
    def _checksum(self, r: int) -> str:
        return weights_checksum(self.runs[r].encoder)

    def fine_tune(self) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
        """Class probabilities [R,E+1,N,K] of every run after each epoch, by split, a list over tasks.

        Besides, those [R,N,K] of heads on standardized features at the end, on validation images.
        """
        return self._heads() if self.parameters.tuning == "head" else (self._full(), [])

    def _heads(self) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
        """Heads of all runs and tasks, those of encoders of one width as one problem."""
        features = {
            (r, t, split): self._features(r, t, split)
            for r in tqdm(range(len(self.runs)), desc="features", unit="run")
            for t in range(len(self.tasks))
            for split in SPLITS
        }
        tracked = {split: [[None] * len(self.runs) for _ in self.tasks] for split in SPLITS}
        scaled = [[None] * len(self.runs) for _ in self.tasks]
        for width in sorted({run.encoder.feature_dim for run in self.runs}):
            cells = [
                (r, t)
                for r, run in enumerate(self.runs)
                for t in range(len(self.tasks))
                if run.encoder.feature_dim == width
            ]
            heads = self._trained(cells, [features[*cell, "train"] for cell in cells])
            standardizers = [Standardizer("unit_variance").fit(features[*cell, "train"]) for cell in cells]
            train = [s.transform(features[*cell, "train"]) for cell, s in zip(cells, standardizers, strict=True)]
            others = self._trained(cells, train)
            for g, (r, t) in enumerate(cells):
                encoder = self.runs[r].encoder
                self.models[r, t] = with_head(encoder, heads.weight[-1, g], heads.bias[-1, g])
                for split in SPLITS:
                    tracked[split][t][r] = heads.of(g).probabilities(features[r, t, split][None])[:, 0]
                x = standardizers[g].transform(features[r, t, "validation"])
                scaled[t][r] = (x @ others.weight[-1, g].T + others.bias[-1, g]).softmax(1)
        stack = {split: [torch.stack(runs) for runs in tasks] for split, tasks in tracked.items()}
        return stack, [torch.stack(runs) for runs in scaled]

    def _trained(self, cells: list[tuple[int, int]], features: list[Tensor]) -> Heads:
        p = self.parameters
        x, y = stacked(features, [self.tasks[t].train.labels for _, t in cells])
        seeds = [1000 * self.runs[r].seed + t for r, t in cells]
        settings = {"epochs": p.epochs, "learning_rate": p.head_rate, "batch_size": p.head_batch}
        return train_heads(x, y, self.classes, **settings, seeds=seeds)

    def _features(self, r: int, t: int, split: str) -> Tensor:
        return features_of(self.runs[r].encoder, self.tasks[t].split(split))

    def _full(self) -> dict[str, list[Tensor]]:
        """Every run fine-tuned whole on every task; one that diverges on any of them is left out, and noted."""
        probabilities = {split: [[] for _ in self.tasks] for split in SPLITS}
        sound, models = [], {}
        for run in tqdm(self.runs, desc="fine-tuning", unit="run"):
            tuned = [self._tuned(run, t) for t in range(len(self.tasks))]
            if any(result is None for result in tuned):
                self.note(f"{run.objective}, seed {run.seed}: left out, fine-tuning stopped being finite")
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
        return torch.cat([(labels == k).nonzero()[: self.per_class, 0] for k in range(self.classes)])

    def first(self, t: int, split: str, limit: int | None) -> tuple[Tensor, Tensor]:
        """Images in [0, 1] and labels of a task, so many at most."""
        images = at_most(self.tasks[t].split(split), limit)
        return as_float(images.images), images.labels


def check(context: Context) -> None:
    """Refuse tasks of one class, and a target whose images an encoder does not take."""
    for task in _tasks(context):
        splits = {split: task.split(split) for split in SPLITS}
        context.expect_usable("target", splits)
    context.at_most("surface_images", len(splits["train"]))  # of the last task
    context.at_most("mean_images", len(next(iter(context.plan.members.values())).images()))


def _tasks(context: Context) -> list[Task]:
    p = context.parameters
    numbers = [tuple(map(int, name.split())) for name in p.tasks or _default_tasks(context)]
    return [
        Task(
            " ".join(map(str, classes)),
            context.images(p.target, "train", p.task_limit, classes),
            context.images(p.target, "test", None, classes),
        )
        for classes in numbers
    ]


def _default_tasks(context: Context) -> Sequence[str]:
    """The paper's tasks of CIFAR-100; of another set classes in their order."""
    target = context.parameters.target
    if target == "cifar100":
        return PAPER_TASKS
    count = len(context.images(target, "test").classes)
    size = min(CLASSES, count)
    starts = range(0, count - size + 1, size)[:TASKS]
    return [" ".join(map(str, range(start, start + size))) for start in starts]
