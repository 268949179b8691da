"""Tables of the study of training objectives: a Result in, Markdown out."""

import json

import numpy as np
from IPython.display import Markdown

from sslnb.core import labels
from sslnb.core.result import Result
from sslnb.report.tables import percent, say, spread, table
from sslnb.studies.objectives.examples import in_order
from sslnb.studies.objectives.findings import means


def equations() -> Markdown:
    """One row per objective: what it compares, and its loss for an image i with a second view i′."""
    rows = []
    for kind in in_order():
        cited = f" {{cite}}`{kind.reference}`" if kind.reference else ""
        lines = [f"${line}$" for line in kind.equation.split(r",\quad ")]  # each on its own, so that none is cut off
        rows.append((kind.label + cited, "<br>".join((kind.compares + ":", *lines))))
    return table(("method", "compares, and its loss"), rows, "The objectives: what each compares, and its loss.")


def accuracies(result: Result) -> Markdown:
    """Test accuracy of every objective, best kNN first, with what it was trained for; above them references."""
    data, trained, used = (result.data[step] for step in ("evaluation", "pretraining", "step_cost"))
    members = [str(name) for name in used.objective.values]
    best = data.knn.mean("seed")
    order = sorted(members, key=lambda name: -float(best.sel(objective=name).fillna(-1)))
    rows = []
    for name in (*(str(name) for name in data.objective.values if name not in members), *order):
        own = data.sel(objective=name)
        rank = own.rankme.values[np.isfinite(own.rankme.values)]
        cells = spread(own.knn.values), spread(own.linear.values), f"{rank.mean():.0f}" if len(rank) else "–"
        epochs, hours = "–", "–"
        if name in members:
            epochs = int(used.epochs.sel(objective=name))
            mean = float(trained.hours.sel(objective=name).mean())
            hours = f"{60 * mean:.1f}" if np.isfinite(mean) else "–"
        rows.append((labels.label(name), *cells, epochs, hours))
    return table(
        ("method", "kNN, %", "linear probe, %", "effective rank", "epochs", "minutes of training"),
        rows,
        "Test accuracy of references (stopped early, untrained, raw pixels), then of every objective, by kNN accuracy.",
    )


def settings(result: Result) -> Markdown:
    """What every objective was trained with, and the options that are not its defaults."""
    rows = []
    for name in result.data["step_cost"].objective.values:
        used = result.data["step_cost"].sel(objective=name)
        options = json.loads(str(used.options.item()))
        text = ", ".join(f"{key} {json.dumps(value)}" for key, value in options.items()) or "–"
        rates = f"{float(used.learning_rate):g}", f"{float(used.weight_decay):g}"
        run = int(used.epochs), int(used.batch_size), str(used.optimizer.item())
        rows.append((labels.label(name), *run, *rates, text))
    head = ("method", "epochs", "batch", "optimizer", "learning rate per 256", "weight decay", "options")
    return table(head, rows, "What every objective was trained with; options are those that differ from its defaults.")


def costs(result: Result) -> Markdown:
    """Time and memory of a step, cheapest first."""
    data, rows = result.data["step_cost"].sortby("seconds"), []
    for name in data.objective.values:
        own = data.sel(objective=name)
        seconds, views, memory = (float(own[part]) for part in ("seconds", "views", "memory"))
        rate = f"{int(own.batch_size) / seconds:.0f}"
        rows.append((labels.label(name), f"{1e3 * seconds:.0f}", rate, f"{100 * views / seconds:.1f}", _mib(memory)))
    return table(
        ("method", "ms per step", "images/s", "share for views, %", "memory, MiB"),
        rows,
        "Time and memory of a training step, cheapest first.",
    )


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f}"


def summary(result: Result) -> Markdown:
    """How many objectives beat raw pixels, by how much at least."""
    data, members = result.data["evaluation"], list(result.data["step_cost"].objective.values)
    if "pixels" not in data.objective.values:
        return Markdown("The images are of another size than those that the pool was trained on: no raw pixels.")
    knn = 100 * data.knn.mean("seed")
    pixels = float(knn.sel(objective="pixels"))
    gains = (knn.sel(objective=members) - pixels).values
    error = 50 / np.sqrt(data.attrs["test_images"])  # of a proportion of n images, at most
    return Markdown(
        f"kNN on raw pixels reaches {pixels:.1f} %. {np.sum(gains > 0)} of {len(members)} objectives are above it, "
        f"{np.sum(gains >= 10)} by 10 points or more ({data.attrs['test_images']:,} test images; standard error of one "
        f"at most {error:.1f} points)."
    )


def glue_headlines(result: Result) -> None:
    """Make means over seeds on test images available to the prose, such as ``simclr_linear`` and ``pixels_rankme``."""
    found = means(result)
    for method in found.objective.values:
        for name, value in found.sel(objective=method).items():
            say(f"{method}_{name}", f"{float(value):.0f}" if name == "rankme" else f"{percent(float(value))} %")
