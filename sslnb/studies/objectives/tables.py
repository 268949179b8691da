"""Tables of the study of training objectives: a Result in, Markdown out."""

import json

import numpy as np
from IPython.display import Markdown

from sslnb.core import labels
from sslnb.core.flat import Result
from sslnb.report import panels
from sslnb.report.tables import spread, table
from sslnb.studies.objectives.examples import in_order


def equations() -> Markdown:
    """One row per objective: what it compares, and its loss for an image i with a second view i′."""
    rows = []
    for kind in in_order():
        cited = f" {{cite}}`{kind.reference}`" if kind.reference else ""
        lines = [f"${line}$" for line in kind.equation.split(r",\quad ")]  # each on its own, so that none is cut off
        rows.append((kind.label + cited, "<br>".join((kind.compares + ":", *lines))))
    return table(("method", "compares, and its loss"), rows)


def accuracies(result: Result) -> Markdown:
    """Test accuracy of every objective, best kNN first, with what it was trained for; references below."""
    methods = [*result.scalars["methods"], *result.scalars["references"]]
    knn, linear, ranks = (result.arrays[f"test_{name}"] for name in ("knn", "linear", "rankme"))
    own = len(result.scalars["methods"])
    order = [*np.argsort(-np.nan_to_num(panels.mean_spread(knn[:own].T)[0], nan=-1)), *range(own, len(methods))]
    rows = []
    for m in order:
        trained = result.scalars["settings"].get(methods[m])
        seconds = result.arrays["seconds"][m] - result.arrays["looking"][m] if trained else None
        spent = f"{np.nanmean(np.nansum(seconds, 1)):.0f}" if trained else "–"
        rank = "–" if np.isnan(ranks[m]).all() else f"{np.nanmean(ranks[m]):.0f}"
        rows.append(
            (
                labels.label(methods[m]),
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
                labels.label(method),
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
    seconds, views, memory = (result.arrays[f"step_{name}"] for name in ("seconds", "views", "memory"))
    rows = []
    for m in np.argsort(seconds):
        method = result.scalars["methods"][m]
        batch = min(result.scalars["settings"][method]["batch_size"], result.scalars["pretraining"]["images"])
        rows.append(
            (
                labels.label(method),
                f"{1e3 * seconds[m]:.0f}",
                f"{batch / seconds[m]:.0f}",
                f"{100 * views[m] / seconds[m]:.1f}",
                f"{memory[m] / 2**20:.0f}",
            )
        )
    return table(("method", "ms per step", "images/s", "of it for views, %", "memory, MiB"), rows)


def summary(result: Result) -> Markdown:
    """How many objectives beat raw pixels, by how much at least, and which runs did not converge."""
    methods, knn = result.scalars["methods"], 100 * result.arrays["test_knn"]
    pixels = knn[len(methods) + result.scalars["references"].index("pixels")].mean()
    gains = panels.mean_spread(knn[: len(methods)].T)[0] - pixels
    seeds, images = len(result.scalars["seeds"]), result.scalars["test_images"]
    error = 50 / np.sqrt(images)  # of a proportion of n images, at most
    runs = f"{seeds} seed{'s' * (seeds > 1)}, {images} test images"
    text = (
        f"kNN on raw pixels reaches {pixels:.1f} %. {np.sum(gains > 0)} of {len(methods)} objectives are above it, "
        f"{np.sum(gains >= 10)} by 10 points or more ({runs}; standard error of one at most {error:.1f} points). "
    )
    reasons = result.scalars["reasons"]
    ends = "; ".join(f"{labels.label(name.partition(',')[0])}: {reason}" for name, reason in reasons.items())
    return Markdown(text + (f"Did not converge: {ends}." if reasons else "All runs converged."))
