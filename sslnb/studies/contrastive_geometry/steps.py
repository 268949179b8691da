"""The study's steps: classifiers on small tasks, their way through the space of predictions, flatness, robustness.

Most datasets have the dimensions split, run (with coordinates objective and seed), task and epoch of fine-tuning, the
start first. Surfaces and flatness are of the last task, as in the paper.
"""

import functools
import warnings

import numpy as np
import torch
import xarray as xr
from scipy import stats
from torch import Tensor
from tqdm.auto import tqdm

from sslnb.core import artifacts, device
from sslnb.core.claims import bootstrap_weights
from sslnb.data.images import at_most
from sslnb.features.extract import extract
from sslnb.features.nearest import nearest_class_mean
from sslnb.features.scores import top1
from sslnb.metrics import trajectory
from sslnb.metrics.curvature import Flatness, flatness
from sslnb.metrics.margins import margins
from sslnb.metrics.surface import loss_surface
from sslnb.studies.contrastive_geometry.attacked import under_attack
from sslnb.studies.contrastive_geometry.claims import area
from sslnb.studies.contrastive_geometry.runs import SPLITS, Runs
from sslnb.studies.measures import RADIUS
from sslnb.studies.study import OWN, Context
from sslnb.training.finetune import Classifier

COMPONENTS = 3  # of an embedding
EIGENVALUES = 20  # that are kept
SPAN = 1.0  # half side of a loss surface: every filter moves by its own length
JOINT = "all tasks"
# What numbers of a classifier depend on, besides its encoder, the images and the parameters.
FLAT_CODE = ("sslnb.metrics.curvature", "sslnb.features.heads", "sslnb.training.finetune")
ATTACK_CODE = ("sslnb.studies.contrastive_geometry.attacked", "sslnb.features.heads", "sslnb.training.finetune")


def _runs(context: Context) -> Runs:
    if "runs" not in context.memory:
        context.memory["runs"] = Runs(context)
        context.memory["predictions"], context.memory["scaled"] = context.memory["runs"].fine_tune()
    return context.memory["runs"]


def fine_tuning(context: Context) -> xr.Dataset:
    """Every run fine-tuned on every task: accuracies and confusions after each epoch (table 1)."""
    p, runs = context.parameters, _runs(context)
    predictions, last = context.memory["predictions"], len(runs.tasks) - 1
    shape = (len(runs.runs), len(runs.tasks))
    accuracy = np.empty((len(SPLITS), *shape, p.epochs + 1))
    confusion = np.empty((*shape, p.epochs + 1, runs.classes, runs.classes), np.int32)
    drawn = np.empty((*shape, p.rounds), np.float32)
    scaled = np.full(shape, np.nan)
    for t, task in enumerate(runs.tasks):
        for i, split in enumerate(SPLITS):
            right = predictions[split][t].argmax(-1) == task.split(split).labels
            accuracy[i, :, t] = right.double().mean(-1).numpy()
        # The same draws for all runs of a task: differences are paired by image.
        weights = bootstrap_weights(right.shape[-1], rounds=p.rounds, seed=t)
        drawn[:, t] = right[:, -1].double().numpy() @ weights.T / right.shape[-1]
        confusion[:, t] = _confusions(predictions["validation"][t], task.validation.labels, runs.classes)
        if context.memory["scaled"]:
            scaled[:, t] = [top1(x.argmax(1), task.validation.labels) for x in context.memory["scaled"][t]]
    return xr.Dataset(
        {
            "accuracy": (("split", "run", "task", "epoch"), accuracy),
            "accuracy_drawn": (("run", "task", "round"), drawn),
            "standardized_accuracy": (("run", "task"), scaled),
            "confusion": (("run", "task", "epoch", "true", "predicted"), confusion),
            "class_name": (("task", "true"), [list(map(str, task.train.classes)) for task in runs.tasks]),
            "train_images": ("task", [len(task.train) for task in runs.tasks]),
            "validation_images": ("task", [len(task.validation) for task in runs.tasks]),
        },
        runs.coordinates() | {"split": list(SPLITS)},
        {
            "compared": list(p.compared),
            "compared_images": runs.per_class * runs.classes,
            "surface_images": len(runs.first(last, "train", p.surface_images)[1]),
            "attacked_images": len(runs.first(0, "validation", p.attack_limit)[1]),
        },
    )


def _confusions(p: Tensor, labels: Tensor, classes: int) -> np.ndarray:
    """Counts [R,E+1,K,K] of true (rows) and predicted classes, of probabilities [R,E+1,N,K]."""
    pairs = (labels * classes + p.argmax(-1)).flatten(0, 1)  # [R·(E+1),N]
    counts = torch.stack([pair.bincount(minlength=classes**2) for pair in pairs])
    return counts.view(*p.shape[:2], classes, classes).numpy()


# --- trajectories -----------------------------------------------------------------------------------------------------


def trajectories(context: Context) -> xr.Dataset:
    """Progress of every run along fine-tuning, by square roots and by raw probabilities."""
    p, runs = context.parameters, _runs(context)
    shape = (len(SPLITS), len(runs.runs), len(runs.tasks), p.epochs + 1)
    values = {name: np.empty(shape) for name in ("progress", "raw_progress")}
    drawn = np.empty((*shape[1:3], p.rounds, 2), np.float32)
    scaled = np.full(shape[1:3], np.nan)
    cells = [(i, t) for i in range(len(SPLITS)) for t in range(len(runs.tasks))]
    for i, t in tqdm(cells, desc="progress", unit="task"):
        models, labels = _models(context, t, SPLITS[i])
        values["progress"][i, :, t] = trajectory.progress(models, labels).view(shape[1], -1).numpy()
        values["raw_progress"][i, :, t] = trajectory.raw_progress(models, labels).view(shape[1], -1).numpy()
        if SPLITS[i] == "validation":
            drawn[:, t] = _redrawn(models, labels, shape[1], p.rounds, t)
            if context.memory["scaled"]:
                chosen = runs.compared(t, SPLITS[i])
                scaled[:, t] = trajectory.progress(context.memory["scaled"][t][:, chosen], labels).numpy()
    dims = ("split", "run", "task", "epoch")
    return xr.Dataset(
        {name: (dims, array) for name, array in values.items()}
        | {
            "progress_drawn": (("run", "task", "round", "part"), drawn),
            "standardized_progress": (("run", "task"), scaled),
        },
        runs.coordinates() | {"split": list(SPLITS), "part": ["end", "mean"]},
    )


def _models(context: Context, t: int, split: str, positions: list[int] | None = None) -> tuple[Tensor, Tensor]:
    """Predictions [R·(E+1),N,K] of a task's compared images, of some runs or all, and their labels [N]."""
    runs, predictions = _runs(context), context.memory["predictions"][split][t]
    chosen = runs.compared(t, split)
    models = predictions if positions is None else predictions[positions]
    return models[:, :, chosen].flatten(0, 1), runs.tasks[t].split(split).labels[chosen]


def _redrawn(models: Tensor, labels: Tensor, runs: int, rounds: int, seed: int) -> np.ndarray:
    """Bootstrap replicates [R,rounds,2] over images of the progress at the end, and of its mean over epochs."""
    generator = torch.Generator().manual_seed(seed)
    replicates = []
    for _ in range(rounds):
        index = torch.randint(len(labels), (len(labels),), generator=generator)
        along = trajectory.progress(models[:, index], labels[index]).view(runs, -1)
        replicates.append(torch.stack([along[:, -1], along.mean(1)], 1))
    return torch.stack(replicates, 1).numpy()


def embeddings(context: Context) -> xr.Dataset:
    """InPCA of the compared objectives' runs on each task and on all at once, and distances between runs.

    Points are in the order run, (task,) epoch, then ignorance and truth.
    """
    runs = _runs(context)
    positions = runs.of((*context.parameters.compared, OWN))
    points, spectra, between = {}, [], np.empty((len(SPLITS), len(runs.tasks), len(positions), len(positions)))
    for i, split in enumerate(SPLITS):
        single = [_models(context, t, split, positions) for t in range(len(runs.tasks))]
        for t, (models, labels) in enumerate(single):
            distances, embedding = embedded(models, labels)
            points.setdefault("embedding", []).append(embedding.coordinates)
            spectra.append(_spectrum(embedding))
            between[i, t] = _same_epoch(distances[:-2, :-2], len(positions))
        # Images are matched by class and place, so that truth is one point.
        parts = [models.unflatten(0, (len(positions), -1)) for models, _ in single]
        _, embedding = embedded(torch.stack(parts, 1).flatten(0, 2), single[0][1])
        points.setdefault("joint", []).append(embedding.coordinates)
        spectra.append(_spectrum(embedding))
    names = [*(task.name for task in runs.tasks), JOINT]
    single = torch.stack(points["embedding"]).unflatten(0, (len(SPLITS), len(runs.tasks)))
    return xr.Dataset(
        {
            "embedding": (("split", "task", "point", "component"), single.numpy().astype(np.float32)),
            "joint": (("split", "joint_point", "component"), torch.stack(points["joint"]).numpy().astype(np.float32)),
            "eigenvalue": (("split", "of", "rank"), np.reshape(spectra, (len(SPLITS), len(names), -1))),
            "distance": (("split", "task", "run", "run_b"), between),
        },
        runs.coordinates(positions) | {"split": list(SPLITS), "of": names},
    )


def embedded(models: Tensor, labels: Tensor) -> tuple[Tensor, trajectory.InPCA]:
    """Distances of models [T,N,K], then ignorance and truth once each, and their InPCA."""
    classes = models.shape[-1]
    truth = torch.nn.functional.one_hot(labels, classes).to(models)
    points = torch.cat([models, torch.full_like(truth, 1 / classes)[None], truth[None]])
    distances = trajectory.bhattacharyya(points, points)
    return distances, trajectory.inpca(distances, COMPONENTS)


def _spectrum(embedding: trajectory.InPCA) -> np.ndarray:
    """The greatest eigenvalues, NaN where there are fewer."""
    values = np.full(EIGENVALUES, np.nan)
    known = embedding.eigenvalues[:EIGENVALUES].numpy()
    values[: len(known)] = known
    return values


def _same_epoch(distances: Tensor, runs: int) -> np.ndarray:
    """Mean over epochs of the distances [R,R] between runs after equally many, of models in the order of the runs."""
    blocks = distances.view(runs, -1, runs, distances.shape[0] // runs)
    return blocks.diagonal(dim1=1, dim2=3).mean(-1).numpy()


# --- loss surfaces and flatness ---------------------------------------------------------------------------------------


def surfaces(context: Context) -> xr.Dataset:
    """Loss over a plane of filter-normalised directions, the first seed of each compared objective (figure 1a)."""
    p, runs, on = context.parameters, _runs(context), device.best_device()
    last = len(runs.tasks) - 1
    x, y = runs.first(last, "train", p.surface_images)
    first = {name: runs.of([name])[0] for name in p.compared if runs.of([name])}
    losses, gaps = [], []
    for r in first.values():
        settings = {"span": SPAN, "points": p.surface_points, "precision": device.best_precision(on)}
        generator = torch.Generator().manual_seed(0)
        surface = loss_surface(runs.models[r, last].to(on), x, y, **settings, generator=generator)
        losses.append(surface.losses.numpy())
        gaps.append(surface.gaps)
    side = np.linspace(-SPAN, SPAN, p.surface_points)
    shape = (len(first), len(side), len(side))
    return xr.Dataset(
        {
            "loss": (("objective", "alpha", "beta"), np.reshape(losses, shape)),
            "gaps": ("objective", np.array(gaps, int)),
        },
        {"objective": list(first), "alpha": side, "beta": side},
    )


def flat(context: Context) -> xr.Dataset:
    """Rise, sharpness and curvature around every run's weights at the end of the last task."""
    p, runs, on = context.parameters, _runs(context), device.best_device()
    last = len(runs.tasks) - 1
    x, y = runs.first(last, "train", p.surface_images)
    settings = {"radius": RADIUS, "directions": p.flat_directions}
    settings |= {"iterations": p.curvature_steps, "probes": p.probes}

    def measured(r: int) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        return _numbers(flatness(runs.models[r, last].to(on), x, y, **settings, generator=generator))

    rows = []
    for r in tqdm(range(len(runs.runs)), desc="flatness", unit="run"):
        key = settings | {"images": len(x)} | runs.determinants(r, last)
        rows.append(artifacts.once("flat", functools.partial(measured, r), code=FLAT_CODE, **key))
    return xr.Dataset({name: ("run", [row[name] for row in rows]) for name in rows[0]}, runs.coordinates())


def _numbers(values: Flatness) -> dict[str, float]:
    return {
        "loss": values.loss,
        "rise": values.rise,
        "sharpness": values.sharpness,
        "eigenvalue": values.eigenvalue.value,
        "residual": values.eigenvalue.residual,
        "trace": values.trace.mean,
        "trace_error": values.trace.standard_error,
    }


# --- robustness -------------------------------------------------------------------------------------------------------


def robustness(context: Context) -> xr.Dataset:
    """FGSM in pixels, cut to their range, and as the paper's code had it; PGD in pixels (figure 2b)."""
    p, runs = context.parameters, _runs(context)
    pixels = context.images(p.target, "train").images
    std = torch.stack([pixels[:, c].double().std() / 255 for c in range(pixels.shape[1])]).float()
    budgets, strong = ((0, *values) for values in (p.budgets, p.pgd_budgets))
    shape = (len(runs.runs), len(runs.tasks))
    results = {
        "fgsm": np.full((*shape, len(SPLITS), len(budgets)), np.nan),
        "fgsm_normalised": np.full((*shape, len(budgets)), np.nan),
        "kept_drawn": np.full((*shape, p.rounds), np.nan, np.float32),
        "pgd": np.full((*shape, len(strong)), np.nan),
    }
    shared = {"budgets": budgets, "strong": strong, "steps": p.attack_steps, "limit": p.attack_limit}
    shared |= {"rounds": p.rounds, "std": std.tolist()}
    for (r, t), model in tqdm(runs.models.items(), desc="attacks", unit="model"):
        if not model.encoder.differentiable:
            context.note(f"{runs.runs[r].objective}: not attacked, its conversion of colours has no gradient")
            continue
        attack = functools.partial(_attack, context, t, model, std)
        key = shared | runs.determinants(r, t)
        for name, values in artifacts.once("attacked", attack, code=ATTACK_CODE, **key).items():
            results[name][r, t] = values
    dims = {
        "fgsm": ("split", "budget"),
        "fgsm_normalised": ("budget",),
        "kept_drawn": ("round",),
        "pgd": ("pgd_budget",),
    }
    return xr.Dataset(
        {name: (("run", "task", *dims[name]), values) for name, values in results.items()}
        | {"std": ("channel", std.numpy())},
        runs.coordinates() | {"split": list(SPLITS), "budget": list(budgets), "pgd_budget": list(strong)},
    )


def _attack(context: Context, t: int, model: Classifier, std: Tensor) -> dict[str, np.ndarray]:
    p, on = context.parameters, device.best_device()
    images = {split: _attacked(context, t, split, on) for split in SPLITS}
    settings = {"steps": p.attack_steps, "rounds": p.rounds, "seed": t}
    return under_attack(model.to(on), images, std.to(on), (0, *p.budgets), (0, *p.pgd_budgets), **settings)


def _attacked(context: Context, t: int, split: str, on: torch.device) -> tuple[Tensor, Tensor]:
    x, y = _runs(context).first(t, split, context.parameters.attack_limit)
    return x.to(on, memory_format=torch.channels_last), y.to(on)


# --- beyond the paper -------------------------------------------------------------------------------------------------


def along_pretraining(context: Context) -> xr.Dataset:
    """Trajectories of the first seed's pretraining on its own classes, by the nearest class mean.

    From untrained weights on, at every step at which some objective's encoder was kept; NaN where another's was not.
    """
    p, pool, on = context.parameters, context.pool, device.best_device()
    bank, test = at_most(pool.images(), p.mean_images), pool.images("test")
    per_class = min(max(1, p.mean_images // len(test.classes)), int(test.labels.bincount().min()))
    test = test.subset(torch.cat([(test.labels == k).nonzero()[:per_class, 0] for k in range(len(test.classes))]))
    planned = pool.scale.variants
    have = {name: pool.steps(name, seed) for name, seed in context.names if seed == 0 and name in planned}
    steps = [0, *sorted({step for own in have.values() for step in own})]
    models, cells = [], []
    for m, (name, own) in enumerate(tqdm(have.items(), desc="trajectories of pretraining", unit="run")):
        for step in (0, *own):
            at = None if step == own[-1] else step
            encoder = pool.encoder(name, 0, step=at) if step else pool.beginning(name)
            features = [extract(encoder, images, device=on) for images in (bank, test)]
            models.append(nearest_class_mean(features[0], bank.labels, features[1]))
            cells.append((m, steps.index(step)))
    models = torch.stack(models)
    _, embedding = embedded(models, test.labels)
    along = {
        "progress": trajectory.progress(models, test.labels),
        "accuracy": (models.argmax(2) == test.labels).double().mean(1),
        "embedding": embedding.coordinates[:-2],
    }
    filled = {name: np.full((len(have), len(steps), *values.shape[1:]), np.nan) for name, values in along.items()}
    for name, values in along.items():
        filled[name][tuple(np.transpose(cells))] = values.numpy()
    dims = ("objective", "step", "component")
    return xr.Dataset(
        {name: (dims[: values.ndim], values) for name, values in filled.items()}
        | {"ends": (("end", "component"), embedding.coordinates[-2:].numpy())},
        {"objective": list(have), "step": steps},
        {"bank_images": len(bank), "test_images": len(test)},
    )


def relations(context: Context) -> xr.Dataset:
    """Rank correlations across runs on the last task, with bootstrap intervals over runs."""
    runs, data = _runs(context), context.data
    last = len(runs.tasks) - 1
    attacked = data["robustness"].fgsm.sel(split="validation").isel(task=last)
    values = {
        "accuracy": data["fine_tuning"].accuracy.sel(split="validation").isel(task=last, epoch=-1).values,
        "progress": data["trajectories"].progress.sel(split="validation").isel(task=last, epoch=-1).values,
        "margin": np.array([_margin(runs, r, last) for r in range(len(runs.runs))]),
        "robustness": area(attacked).values,
        **{name: data["flat"][name].values for name in ("rise", "eigenvalue", "trace")},
    }
    table = np.stack(list(values.values()))
    known = table[:, np.isfinite(table).all(0)]  # runs of which everything is known
    generator = np.random.default_rng(0)
    count = known.shape[1]
    replicates = [_ranks(known[:, generator.integers(count, size=count)]) for _ in range(1000)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of one run alone, which has no correlation
        low, high = np.nanquantile(replicates, [0.025, 0.975], axis=0)
    names = list(values)
    return xr.Dataset(
        {
            "value": (("quantity", "run"), table),
            "correlation": (("bound", "quantity", "quantity_b"), np.stack([_ranks(known), low, high])),
        },
        runs.coordinates() | {"quantity": names, "quantity_b": names, "bound": ["value", "low", "high"]},
    )


def _margin(runs: Runs, r: int, t: int) -> float:
    """Mean l2 margin of the right validation images in features, over their mean distance from the mean."""
    model, images = runs.models[r, t], runs.tasks[t].validation
    features = extract(model.encoder, images, device=device.best_device())
    weight, bias = (part.detach().cpu() for part in (model.head.weight, model.head.bias))
    margin = margins(weight, bias, features, p=2, labels=images.labels)
    return float(margin.nanmean() / (features - features.mean(0)).norm(dim=1).mean())


def _ranks(table: np.ndarray) -> np.ndarray:
    """Spearman's correlations [Q,Q] of quantities [Q,R]; NaN where one does not vary."""
    ranks = stats.rankdata(table, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the same
        return np.corrcoef(ranks)
