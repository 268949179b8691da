"""What the page on training objectives shows: equations, views as pictures, curves, accuracies and costs."""

import dataclasses
import json
from collections.abc import Callable, Mapping

import numpy as np
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure
from torch import Tensor

from sslnb import figures
from sslnb.core.result import Result
from sslnb.data.images import ImageSet
from sslnb.objectives.registry import OBJECTIVES
from sslnb.pages import mosaic
from sslnb.tables import spread, table
from sslnb.training.loop import HISTORY, PretrainConfig, objective_from
from sslnb.views import augment, color_spaces, patches
from sslnb.views.rand_augment import rand_augment

Transform = Callable[[Tensor, torch.Generator], Tensor]


def equations() -> Markdown:
    """One row per objective: what it compares, and its loss for an image i with a second view i′."""
    rows = []
    for kind in _in_order():
        cited = f" {{cite}}`{kind.reference}`" if kind.reference else ""
        lines = [f"${line}$" for line in kind.equation.split(r",\quad ")]  # each on its own, so that none is cut off
        rows.append((kind.label + cited, "<br>".join((kind.compares + ":", *lines))))
    return table(("method", "compares, and its loss"), rows)


def _in_order() -> list[type]:
    """Supervised methods first, then by name."""
    return sorted(OBJECTIVES.values(), key=lambda kind: (not kind.uses_labels, kind.label.lower()))


def views(images: ImageSet, *, count: int = 3, seed: int = 0) -> Figure:
    """What each objective makes of the first images, four pictures of each: one draw of four views, two of two, …"""
    some = dataclasses.replace(images, images=images.images[:count], labels=images.labels[:count], masks=None)
    rows = {"image": [picture for image in some.images for picture in (image, *[None] * 4)]}
    generator = torch.Generator().manual_seed(seed)
    for kind in _in_order():
        objective = objective_from(PretrainConfig(kind.name, width=2, crop_scale=0.3), some)
        seen: list[Tensor] = []
        while len(seen) < 4:
            seen += map(_bytes, objective.pictures(some.images, generator))
        rows[kind.label] = [picture for i in range(count) for picture in (*(view[i] for view in seen[:4]), None)]
    return mosaic(rows, 5 * count - 1, cell=0.42)


def _bytes(view: Tensor) -> Tensor:
    return (255 * view.detach().float()).round().clamp(0, 255).to(torch.uint8)


def transforms(picture: Tensor, *, count: int = 8, seed: int = 0) -> Figure:
    """Random draws of every transform from one uint8 picture [3,H,W]: a row each, the picture itself at the left."""
    generator = torch.Generator().manual_seed(seed)
    batch = picture.expand(count, -1, -1, -1)
    rows = {name: [picture, *_bytes(draw(batch, generator))] for name, draw in TRANSFORMS.items()}
    return mosaic(rows, count + 1)


def _view(**settings: object) -> Transform:
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0}
    return lambda batch, generator: augment.Augmentation(**whole | settings)(batch, generator)


def _jigsaw(batch: Tensor, generator: torch.Generator) -> Tensor:
    tiles, _ = patches.jigsaw(batch.float() / 255, generator=generator)
    return patches.joined(tiles)


def _turned(batch: Tensor, generator: torch.Generator) -> Tensor:
    return patches.rotate90(batch.float() / 255, torch.randint(4, (len(batch),), generator=generator))


def _channels(convert: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Transform:
    """The three channels of a colour space as grey pictures."""

    def split(batch: Tensor, _: torch.Generator) -> Tensor:
        scaled = (convert(batch[:1].float() / 255) - low.view(1, 3, 1, 1)) / (high - low).view(1, 3, 1, 1)
        return scaled.transpose(0, 1).expand(-1, 3, -1, -1)

    return split


TRANSFORMS: Mapping[str, Transform] = {
    "crop": _view(scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3)),
    "small crop": _view(scale=(0.05, 0.2), ratio=(3 / 4, 4 / 3)),
    "flip": _view(flip=0.5),
    "colour jitter": _view(jitter=(0.8, 0.8, 0.8, 0.2), jitter_probability=1.0),
    "greyscale": _view(greyscale=0.5),
    "blur": _view(blur=1.0),
    "solarize": _view(solarize=0.5),
    "rotation": _turned,
    "jigsaw": _jigsaw,
    "RandAugment": lambda batch, generator: rand_augment(batch.float() / 255, generator=generator),
    "L, a, b": _channels(color_spaces.rgb_to_lab, torch.tensor([0.0, -50, -50]), torch.tensor([100.0, 50, 50])),
    "Y, Db, Dr": _channels(color_spaces.rgb_to_ydbdr, torch.tensor([0.0, -0.7, -0.7]), torch.tensor([1.0, 0.7, 0.7])),
}


def curves(result: Result) -> Figure:
    """Loss, kNN and linear accuracy during training (first seed), a panel per objective."""
    histories = {}
    for m, method in enumerate(result.scalars["methods"]):
        length = int(np.isfinite(result.arrays["loss"][m, 0]).sum())
        histories[figures.label(method)] = {name: result.arrays[name][m, 0, :length] for name in HISTORY}
    return figures.training_history(histories)


def accuracies(result: Result) -> Markdown:
    """Test accuracy of every objective, best kNN first, with what it was trained for; references below."""
    methods = [*result.scalars["methods"], *result.scalars["references"]]
    knn, linear, ranks = (result.arrays[f"test_{name}"] for name in ("knn", "linear", "rankme"))
    own = len(result.scalars["methods"])
    order = [*np.argsort(-np.nan_to_num(figures.mean_spread(knn[:own].T)[0], nan=-1)), *range(own, len(methods))]
    rows = []
    for m in order:
        trained = result.scalars["settings"].get(methods[m])
        seconds = result.arrays["seconds"][m] - result.arrays["looking"][m] if trained else None
        spent = f"{np.nanmean(np.nansum(seconds, 1)):.0f}" if trained else "–"
        rank = "–" if np.isnan(ranks[m]).all() else f"{np.nanmean(ranks[m]):.0f}"
        rows.append(
            (
                figures.label(methods[m]),
                spread(knn[m]),
                spread(linear[m]),
                rank,
                trained["epochs"] if trained else "–",
                spent,
            )
        )
    return table(("method", "kNN, %", "linear probe, %", "effective rank", "epochs", "seconds of training"), rows)


def settings(result: Result) -> Markdown:
    """What every run was trained with, where it differs from the objective's defaults."""
    rows = []
    for method, used in result.scalars["settings"].items():
        options = ", ".join(f"{name} {json.dumps(value)}" for name, value in used["options"].items())
        rows.append(
            (
                figures.label(method),
                used["epochs"],
                used["batch_size"],
                used["optimizer"],
                f"{used['learning_rate']:g}",
                f"{used['weight_decay']:g}",
                options or "–",
            )
        )
    head = (
        "method",
        "epochs",
        "batch",
        "optimizer",
        "learning rate per 256",
        "weight decay",
        "options other than the defaults",
    )
    return table(head, rows)


def costs(result: Result) -> Markdown:
    """Time and memory of a step, cheapest first."""
    seconds, drawn, memory = (result.arrays[f"step_{name}"] for name in ("seconds", "views", "memory"))
    rows = []
    for m in np.argsort(seconds):
        method = result.scalars["methods"][m]
        batch = min(result.scalars["settings"][method]["batch_size"], result.scalars["pretraining"]["images"])
        rows.append(
            (
                figures.label(method),
                f"{1e3 * seconds[m]:.0f}",
                f"{batch / seconds[m]:.0f}",
                f"{100 * drawn[m] / seconds[m]:.1f}",
                f"{memory[m] / 2**20:.0f}",
            )
        )
    return table(("method", "ms per step", "images/s", "of it for views, %", "memory, MiB"), rows)


def summary(result: Result) -> Markdown:
    """How many objectives beat raw pixels, by how much at least, and which runs did not converge."""
    methods, knn = result.scalars["methods"], 100 * result.arrays["test_knn"]
    pixels = knn[len(methods) + result.scalars["references"].index("pixels")].mean()
    gains = figures.mean_spread(knn[: len(methods)].T)[0] - pixels
    seeds, images = len(result.scalars["seeds"]), result.scalars["test_images"]
    error = 50 / np.sqrt(images)  # of a proportion of n images, at most
    runs = f"{seeds} seed{'s' * (seeds > 1)}, {images} test images"
    text = (
        f"kNN on raw pixels reaches {pixels:.1f} %. {np.sum(gains > 0)} of {len(methods)} objectives are above it, "
        f"{np.sum(gains >= 10)} by 10 points or more ({runs}; standard error of one at most {error:.1f} points). "
    )
    reasons = result.scalars["reasons"]
    ends = "; ".join(f"{figures.label(name.partition(',')[0])}: {reason}" for name, reason in reasons.items())
    return Markdown(text + (f"Did not converge: {ends}." if reasons else "All runs converged."))
