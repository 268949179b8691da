"""The geometry of contrastive learning (Cowlagi, Liu and Neervannan): the study's steps."""

import warnings

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from tqdm.auto import tqdm

from sslnb import data
from sslnb.core import device
from sslnb.core.claims import bootstrap_weights
from sslnb.core.flat import Result
from sslnb.data.images import at_most
from sslnb.features.extract import extract
from sslnb.features.nearest import nearest_class_mean
from sslnb.metrics import attacks, trajectory
from sslnb.metrics.curvature import Flatness, flatness
from sslnb.metrics.margins import margins
from sslnb.metrics.surface import loss_surface
from sslnb.objectives.registry import OBJECTIVES
from sslnb.studies.base import BaseStudy, step
from sslnb.studies.contrastive_geometry import claims as decisions
from sslnb.studies.contrastive_geometry.parameters import Parameters
from sslnb.studies.contrastive_geometry.runs import SPLITS, Run, Runs

COMPONENTS = 3  # of an embedding
EIGENVALUES = 20  # that are kept
QUANTITIES = ("accuracy", "progress", "margin", "robustness", "rise", "eigenvalue", "trace")
FLATNESS = ("loss", "rise", "sharpness", "eigenvalue", "residual", "trace", "trace_error")


class Study(BaseStudy):
    """Fine-tuning → trajectories → surfaces → flatness → robustness → pretraining → relations → claims.

    Arrays are indexed [split, run, task, …], splits as in ``scalars["splits"]``, runs as in ``scalars["runs"]`` (method
    and seed), epochs from the start of fine-tuning on. Flatness and surfaces are of the last task, as in the paper.
    """

    name = "contrastive_geometry"
    decisions = decisions
    parameters: Parameters

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.models: Runs | None = None
        self.predictions: dict[str, list[Tensor]] = {}  # [R,E+1,N,K] for each task, by split

    @step
    def fine_tuning(self) -> Result:
        """Pretrain every run, and fine-tune it on every task; accuracies and confusions after each epoch (table 1)."""
        p = self.parameters
        self.models = Runs(p)
        self.models.pretrain()
        self.predictions = self.models.fine_tune()
        runs, tasks, classes = len(self.models.runs), len(p.tasks), len(p.classes[0])
        accuracy = np.empty((len(SPLITS), runs, tasks, p.epochs + 1))
        confusion = np.empty((runs, tasks, p.epochs + 1, classes, classes), np.int32)
        replicates = np.empty((runs, tasks, p.rounds), np.float32)
        for t, task in enumerate(self.models.tasks):
            for i, split in enumerate(SPLITS):
                right = self.predictions[split][t].argmax(-1) == task.split(split).labels
                accuracy[i, :, t] = right.double().mean(-1).numpy()
            # The same draws for all runs of a task: differences are paired by image.
            weights = bootstrap_weights(right.shape[-1], rounds=p.rounds, seed=p.seeds[0] + t)
            replicates[:, t] = right[:, -1].double().numpy() @ weights.T / right.shape[-1]
            confusion[:, t] = _confusions(self.predictions["validation"][t], task.validation.labels, classes)
        self.result.arrays |= {"accuracy": accuracy, "confusion": confusion, "accuracy_drawn": replicates}
        self.result.scalars |= {
            "splits": list(SPLITS),
            "runs": [[run.method, run.seed] for run in self.models.runs],
            "methods": list(p.objectives),
            "seeds": list(p.seeds),
            "tasks": [list(classes) for classes in p.classes],
            "task_classes": [list(task.train.classes) for task in self.models.tasks],
            "surface_images": len(self.models.first(len(p.tasks) - 1, "train", p.surface_images)[1]),
            "compared_images": self.models.per_class * classes,
            "attacked_images": len(self.models.first(0, "validation", p.attack_limit)[1]),
            "task_images": [len(self.models.tasks[0].train), len(self.models.tasks[0].validation)],
            "pretraining": {"dataset": p.dataset, "images": len(self.models.source), "trained": self.models.trained},
            "reasons": dict(self.models.reasons),
        }
        self.result.provenance["data"] = {p.dataset: self.models.source.checksum()}
        self.result.provenance["data"] |= {
            f"{p.target}, task {t + 1}": task.train.checksum() for t, task in enumerate(self.models.tasks)
        }
        return self.result

    @step
    def trajectories(self) -> Result:
        """Progress of every run, the distances between runs, and their embeddings with ignorance and truth."""
        p = self.parameters
        shape = (len(SPLITS), len(self.models.runs), len(p.tasks))
        arrays = {name: np.empty((*shape, p.epochs + 1)) for name in ("progress", "raw_progress")}
        between = np.empty((*shape[:1], len(p.tasks), shape[1], shape[1]))
        progress_drawn = np.empty((shape[1], len(p.tasks), p.rounds, 2), np.float32)
        cells = [(i, t) for i in range(len(SPLITS)) for t in range(len(p.tasks))]
        for i, t in tqdm(cells, desc="trajectories", unit="task"):
            split = SPLITS[i]
            chosen, labels = self.models.compared(t, split), self.models.tasks[t].split(split).labels
            models = self.predictions[split][t][:, :, chosen].flatten(0, 1)
            for name, measure in (("progress", trajectory.progress), ("raw_progress", trajectory.raw_progress)):
                arrays[name][i, :, t] = measure(models, labels[chosen]).view(shape[1], -1).numpy()
            distances, embedding = self._embedded(models, labels[chosen])
            self.result.arrays[f"embedding/{split}/{t}"] = embedding.coordinates.numpy().astype(np.float32)
            self.result.arrays[f"eigenvalues/{split}/{t}"] = embedding.eigenvalues[:EIGENVALUES].numpy()
            between[i, t] = _same_epoch(distances[:-2, :-2], shape[1])
            if split == "validation":
                progress_drawn[:, t] = self._redrawn(models, labels[chosen], shape[1], t)
        for split in SPLITS:
            self._joint(split)
        self.result.arrays |= arrays | {"apart": between, "progress_drawn": progress_drawn}
        return self.result

    def _embedded(self, models: Tensor, labels: Tensor) -> tuple[Tensor, trajectory.InPCA]:
        """Distances of models [T,N,K], then ignorance and truth once each, and their InPCA."""
        classes = models.shape[-1]
        truth = torch.nn.functional.one_hot(labels, classes).to(models)
        points = torch.cat([models, torch.full_like(truth, 1 / classes)[None], truth[None]])
        distances = trajectory.bhattacharyya(points, points)
        return distances, trajectory.inpca(distances, COMPONENTS)

    def _redrawn(self, models: Tensor, labels: Tensor, runs: int, task: int) -> np.ndarray:
        """Bootstrap replicates [R,rounds,2] over images of the progress at the end, and of its mean over epochs."""
        generator = torch.Generator().manual_seed(self.parameters.seeds[0] + task)
        replicates = []
        for _ in range(self.parameters.rounds):
            index = torch.randint(len(labels), (len(labels),), generator=generator)
            along = trajectory.progress(models[:, index], labels[index]).view(runs, -1)
            replicates.append(torch.stack([along[:, -1], along.mean(1)], 1))
        return torch.stack(replicates, 1).numpy()

    def _joint(self, split: str) -> None:
        """All tasks in one embedding: images are matched by class and place, so that truth is one point."""
        k, n = len(self.parameters.classes[0]), self.models.per_class
        labels = torch.arange(k).repeat_interleave(n)
        tasks = range(len(self.models.tasks))
        parts = [self.predictions[split][t][:, :, self.models.compared(t, split)] for t in tasks]
        models = torch.stack(parts, 1).flatten(0, 2)  # [R·tasks·(E+1),N,K]
        _, embedding = self._embedded(models, labels)
        self.result.arrays[f"embedding/{split}/joint"] = embedding.coordinates.numpy().astype(np.float32)
        self.result.arrays[f"eigenvalues/{split}/joint"] = embedding.eigenvalues[:EIGENVALUES].numpy()

    # --- loss surfaces and flatness -----------------------------------------------------------------------------------

    @step
    def surfaces(self) -> Result:
        """Loss over a plane of filter-normalised directions, the first seed of each method (figure 1a)."""
        p, on = self.parameters, device.best_device()
        last = len(p.tasks) - 1
        x, y = self.models.first(last, "train", p.surface_images)
        losses, gaps = [], []
        for method in p.objectives:
            r = self._position(method)
            if r is None:
                losses.append(torch.full((p.surface_points, p.surface_points), torch.nan))
                gaps.append(0)  # why there is none is among the reasons
                continue
            settings = {"span": p.surface_span, "points": p.surface_points, "precision": device.best_precision(on)}
            generator = torch.Generator().manual_seed(p.seeds[0])
            surface = loss_surface(self.models.models[r, last].to(on), x, y, **settings, generator=generator)
            losses.append(surface.losses)
            gaps.append(surface.gaps)
        self.result.arrays["surfaces"] = torch.stack(losses).numpy()
        self.result.arrays["surface_at"] = np.linspace(-p.surface_span, p.surface_span, p.surface_points)
        self.result.scalars["gaps"] = gaps
        return self.result

    def _position(self, method: str) -> int | None:
        """The first seed's run of a method."""
        return next((r for r, run in enumerate(self.models.runs) if run.method == method), None)

    @step
    def flat(self) -> Result:
        """Rise, sharpness and curvature around every run's weights at the end of the last task."""
        p, on = self.parameters, device.best_device()
        last = len(p.tasks) - 1
        x, y = self.models.first(last, "train", p.surface_images)
        settings = {
            "radius": p.radius,
            "directions": p.flat_directions,
            "iterations": p.curvature_steps,
            "probes": p.probes,
        }
        rows = []
        for r in tqdm(range(len(self.models.runs)), desc="flatness", unit="run"):
            generator = torch.Generator().manual_seed(p.seeds[0])
            rows.append(_numbers(flatness(self.models.models[r, last].to(on), x, y, **settings, generator=generator)))
        self.result.arrays["flatness"] = np.array(rows)
        self.result.scalars["flatness"] = list(FLATNESS)
        return self.result

    # --- robustness ---------------------------------------------------------------------------------------------------

    @step
    def robustness(self) -> Result:
        """FGSM in pixels, cut to their range, and as the paper's code had it; PGD in pixels (figure 2b)."""
        p, on = self.parameters, device.best_device()
        pixels = data.load(p.target, "train", size=p.size).images
        std = torch.stack([pixels[:, c].double().std() / 255 for c in range(pixels.shape[1])]).float()
        budgets, strong = ((0, *values) for values in (p.budgets, p.pgd_budgets))
        shape = (len(self.models.runs), len(p.tasks))
        accuracies = {
            "fgsm": np.full((len(SPLITS), *shape, len(budgets)), np.nan),
            "fgsm_normalised": np.full((*shape, len(budgets)), np.nan),
            "pgd": np.full((*shape, len(strong)), np.nan),
        }
        for (r, t), model in tqdm(self.models.models.items(), desc="attacks", unit="model"):
            model.to(on)
            if not model.encoder.differentiable:
                name = f"{self.models.runs[r].method}, seed {self.models.runs[r].seed}: attacks"
                self.result.scalars["reasons"][name] = "its conversion of colours has no gradient"
                continue
            with device.autocast(on, device.best_precision(on)):
                for i, split in enumerate(SPLITS):
                    x, y = self._attacked(t, split, on)
                    accuracies["fgsm"][i, r, t] = attacks.fgsm_accuracy(model, x, y, [b / 255 for b in budgets])
                # A budget in units of normalised images is that many deviations of the set's channels, without bounds.
                normalised = {"std": 1 / std.to(on), "bounds": None}
                accuracies["fgsm_normalised"][r, t] = attacks.fgsm_accuracy(
                    model, x, y, [b / 255 for b in budgets], **normalised
                )
                generator = torch.Generator(on).manual_seed(p.seeds[0])
                settings = {"steps": p.attack_steps, "generator": generator}
                accuracies["pgd"][r, t] = attacks.pgd_accuracy(model, x, y, [b / 255 for b in strong], **settings)
        self.result.arrays |= accuracies
        self.result.scalars |= {"budgets": list(budgets), "pgd_budgets": list(strong), "std": std.tolist()}
        return self.result

    def _attacked(self, t: int, split: str, on: torch.device) -> tuple[Tensor, Tensor]:
        x, y = self.models.first(t, split, self.parameters.attack_limit)
        return x.to(on, memory_format=torch.channels_last), y.to(on)

    # --- beyond the paper ---------------------------------------------------------------------------------------------

    @step
    def pretraining(self) -> Result:
        """Trajectories of pretraining on its own classes, by the nearest class mean, from untrained weights on."""
        p, steps = self.parameters, (0, *self.parameters.at)
        bank = at_most(self.models.source, p.mean_images)
        test = data.load(p.dataset, "test", size=p.size)
        per_class = min(p.mean_images // len(test.classes), int(test.labels.bincount().min()))
        chosen = torch.cat([(test.labels == k).nonzero()[:per_class, 0] for k in range(len(test.classes))])
        test = test.subset(chosen)
        runs = [r for r, run in enumerate(self.models.runs) if run.kept]
        models, on = [], device.best_device()
        for r in tqdm(runs, desc="pretraining's trajectories", unit="run"):
            for at in steps:
                encoder = self.models.runs[r].kept[at] if at else self._untrained(self.models.runs[r])
                features = [extract(encoder, images, device=on) for images in (bank, test)]
                models.append(nearest_class_mean(features[0], bank.labels, features[1]))
        models = torch.stack(models)
        _, embedding = self._embedded(models, test.labels)
        shape = (len(runs), len(steps))
        self.result.arrays |= {
            "pretraining_progress": trajectory.progress(models, test.labels).view(shape).numpy(),
            "pretraining_accuracy": (models.argmax(2) == test.labels).double().mean(1).view(shape).numpy(),
            "embedding/pretraining": embedding.coordinates.numpy().astype(np.float32),
            "eigenvalues/pretraining": embedding.eigenvalues[:EIGENVALUES].numpy(),
        }
        self.result.scalars |= {"pretraining_runs": runs, "pretraining_steps": list(steps)}
        self.result.scalars["pretraining_images"] = [len(bank), len(test)]
        return self.result

    def _untrained(self, run: Run) -> torch.nn.Module:
        """The weights that a run began from."""
        p, kind = self.parameters, OBJECTIVES[run.method]
        options = p.config(run.method, run.seed, len(self.models.source)).options
        shape = {"width": p.width, "stem": p.stem, "in_channels": self.models.source.images.shape[1]}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            return kind.build_encoder(p.depth, **shape, **options).eval()

    @step
    def relations(self) -> Result:
        """Rank correlations across runs on the last task, with bootstrap intervals over runs."""
        last, a = len(self.parameters.tasks) - 1, self.result.arrays
        margin = np.array([self._margin(r, last) for r in range(len(self.models.runs))])
        flat = {name: a["flatness"][:, FLATNESS.index(name)] for name in ("rise", "eigenvalue", "trace")}
        values = {
            "accuracy": a["accuracy"][1, :, last, -1],
            "progress": a["progress"][1, :, last, -1],
            "margin": margin,
            "robustness": decisions.area(a["fgsm"][1, :, last], self.result.scalars["budgets"]),
            **flat,
        }
        table = np.stack([values[name] for name in QUANTITIES])
        table = table[:, np.isfinite(table).all(0)]  # runs of which everything is known
        generator = np.random.default_rng(self.parameters.seeds[0])
        count = table.shape[1]
        replicates = [_ranks(table[:, generator.integers(count, size=count)]) for _ in range(1000)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of one run alone, which has no correlation
            low, high = np.nanquantile(replicates, [0.025, 0.975], axis=0)
        self.result.arrays |= {"quantities": table, "relations": np.stack([_ranks(table), low, high])}
        self.result.scalars |= {"quantities": list(QUANTITIES), "related_runs": count}
        return self.result

    def _margin(self, r: int, t: int) -> float:
        """Mean l2 margin of the right validation images in features, over their mean distance from the mean."""
        model, images = self.models.models[r, t], self.models.tasks[t].validation
        features = extract(model.encoder, images, device=device.best_device())
        weight, bias = (part.detach().cpu() for part in (model.head.weight, model.head.bias))
        margin = margins(weight, bias, features, p=2, labels=images.labels)
        return float(margin.nanmean() / (features - features.mean(0)).norm(dim=1).mean())


def _confusions(p: Tensor, labels: Tensor, classes: int) -> np.ndarray:
    """Counts [R,E+1,K,K] of true (rows) and predicted classes, of probabilities [R,E+1,N,K]."""
    pairs = (labels * classes + p.argmax(-1)).flatten(0, 1)  # [R·(E+1),N]
    counts = torch.stack([pair.bincount(minlength=classes**2) for pair in pairs])
    return counts.view(*p.shape[:2], classes, classes).numpy()


def _same_epoch(distances: Tensor, runs: int) -> np.ndarray:
    """Mean over epochs of the distances [R,R] between runs after equally many, of models in the order of the runs."""
    blocks = distances.view(runs, -1, runs, distances.shape[0] // runs)
    return blocks.diagonal(dim1=1, dim2=3).mean(-1).numpy()


def _numbers(values: Flatness) -> list[float]:
    curve = values.eigenvalue.value, values.eigenvalue.residual, values.trace.mean, values.trace.standard_error
    return [values.loss, values.rise, values.sharpness, *curve]


def _ranks(table: np.ndarray) -> np.ndarray:
    """Spearman's correlations [Q,Q] of quantities [Q,R]; NaN where one does not vary."""
    ranks = stats.rankdata(table, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the same
        return np.corrcoef(ranks)


def run(parameters: Parameters) -> Result:
    """The whole study."""
    return Study(parameters).run()
