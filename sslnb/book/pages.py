"""What the book's own pages show: pictures of the image sets, tables of times, versions, hardware and benchmarks."""

import json
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure

from sslnb import data
from sslnb.core import device, files, provenance
from sslnb.core.checks import expect
from sslnb.core.labels import label
from sslnb.data import catalogue
from sslnb.data.images import ImageSet
from sslnb.pool import store
from sslnb.pool.store import Entry
from sslnb.report.mosaic import mosaic
from sslnb.report.panels import COLOURS, panels, sentence
from sslnb.report.tables import table

BOOK_PACKAGES = ("sslnb", "ipywidgets", "papermill", "myst-nb", "jupyter-book", "sphinx")  # besides those of a result
WATTS = 10  # of one busy core with its share of the rest: assumed, not measured
FADED = 0.75  # how far the background is moved towards white where only the object is shown
_UNREADABLE = (ValueError, RuntimeError, OSError)

# --- pictures ---------------------------------------------------------------------------------------------------------


def sample_grid(image_set: ImageSet, *, classes: int = 10, per_class: int = 10) -> Figure:
    """The first images of each of the first classes: one row per class, named at the left.

    Raises ``ValueError`` when either number is not positive, or when no image has a class.
    """
    expect(classes > 0 and per_class > 0, "classes, per_class", "positive numbers", f"{classes}, {per_class}")
    expect(not image_set.unlabeled, "image_set", "a labeled set", f"unlabeled {image_set.name}")
    rows = {}
    for index, name in enumerate(image_set.classes[:classes]):
        rows[name] = image_set.images[image_set.labels == index][:per_class]
    return mosaic(rows, per_class)


def sample_rows(image_sets: Mapping[str, ImageSet], *, count: int = 12) -> Figure:
    """The first images of several sets, or of one set under several settings: one row each, named at the left.

    Raises ``ValueError`` when there is no set.
    """
    expect(bool(image_sets), "image_sets", "at least one set", "none")
    return mosaic({name: image_set.images[:count] for name, image_set in image_sets.items()}, count)


def mask_rows(image_set: ImageSet, *, count: int = 10) -> Figure:
    """Images above what their masks divide them into: the object (core) and everything else (spurious).

    Raises ``ValueError`` for a set without masks.
    """
    expect(image_set.masks is not None, "image_set", "a set with masks", f"{image_set.name} without")
    images, masks = image_set.images[:count], image_set.masks[:count, None]
    faded = (images + (255 - images) * FADED).to(torch.uint8)
    rows = {"image": images, "core": torch.where(masks, images, faded), "spurious": torch.where(masks, faded, images)}
    return mosaic(rows, count)


# --- image sets -------------------------------------------------------------------------------------------------------


def at_hand(root: Path | None = None) -> list[str]:
    """Names of the known sets that ``data.load`` would find without downloading: embedded, prepared or downloaded."""
    root = files.data_root() if root is None else Path(root)
    return [
        name
        for name in catalogue.names()
        if name == "digit-scenes" or (root / f"{name}.npz").is_file() or (root / name).is_dir()
    ]


def known_samples(count: int = 12, *, size: int = 64, root: Path | None = None) -> dict[str, ImageSet]:
    """``count`` training images, of as many classes, for every set at hand; a set that cannot be read is left out."""
    samples = {}
    for name in at_hand(root):
        known = catalogue.describe(name).classes
        spread = [known * i // count for i in range(count)] if known >= count else list(range(known))
        side = min(size, catalogue.describe(name).size or size)
        try:
            example = data.load(name, "train", root=root, classes=spread, limit=count, size=side)
        except _UNREADABLE:
            continue
        samples[name] = example
    return samples


def absent_sets(samples: Iterable[str]) -> Markdown:
    """A sentence that names the known sets of which there is no sample."""
    absent = [f"`{name}`" for name in catalogue.names() if name not in samples]
    if not absent:
        return Markdown("Every known set was found on the machine that built this copy of the book.")
    return Markdown(f"Not found on the machine that built this copy of the book: {', '.join(absent)}.")


def data_table() -> Markdown:
    """Every known set: its classes, official counts per split, side of the pictures, terms of use, and homepage."""
    rows = []
    for name in catalogue.names():
        description = catalogue.describe(name)
        counts = " / ".join(
            f"{count:,}" if count else "–" for count in (description.train, description.val, description.test)
        )
        counts += f", and {description.unlabeled:,} unlabeled" if description.unlabeled else ""
        side = f"{description.size} px" if description.size else "varies"
        rows.append(
            [f"[`{name}`]({description.homepage})", f"{description.classes:,}", counts, side, description.terms]
        )
    return table(
        ("set", "classes", "train / val / test", "side", "terms"),
        rows,
        "Every set that has a name, with its official splits.",
    )


# --- status -----------------------------------------------------------------------------------------------------------


def execution_table(root: Path | None = None) -> Markdown:
    """Time that each executed notebook took, from what papermill wrote into it."""
    folder = (book_root() if root is None else Path(root)) / "book" / "_executed"
    paths = [path for path in sorted(folder.rglob("*.ipynb")) if "." not in path.stem]  # whole ones, not .failed
    rows = [row for path in paths if (row := _execution(path, folder))]
    if not rows:
        return Markdown("No executed notebook was found.")
    return table(
        ("notebook", "code cells", "time", "finished (UTC)"), rows, "How long each notebook of this build took."
    )


def _execution(path: Path, folder: Path) -> list[object] | None:
    """A row of the table, or None for a notebook that is still running (the page of this table) or not papermill's."""
    try:
        notebook = json.loads(path.read_text())
        run = notebook["metadata"]["papermill"]
        seconds, finished = float(run["duration"]), run["end_time"][:16].replace("T", " ")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    cells = sum(cell["cell_type"] == "code" for cell in notebook["cells"])
    return [f"`{path.relative_to(folder).with_suffix('')}`", cells, _time(seconds), finished]


def encoders_table(folder: Path | None = None) -> Markdown:
    """Every encoder that ships: how it was trained, its validation accuracies, and the hours that took."""
    rows = []
    for name, entry in _shipped(folder).items():
        accuracy = [f"{100 * entry.accuracy[k]:.1f}" if k in entry.accuracy else "–" for k in ("linear", "knn")]
        seen = f"{entry.step * entry.config['batch_size'] / entry.data['images']:.1f}"
        hours, commit = f"{entry.seconds / 3600:.2f}", f"`{entry.provenance['commit']}`"
        rows.append((f"`{name}`", entry.data["name"], seen, *accuracy, hours, commit, entry.reason or ""))
    head = ("encoder", "images", "epochs", "linear, %", "kNN, %", "hours", "commit", "ended early")
    if not rows:
        return Markdown("No encoders ship with this copy.")
    return table(head, rows, "Every encoder that ships, with its accuracy on validation images.")


def pilots_table(path: Path | None = None) -> Markdown:
    """The short trainings by which each objective's settings were chosen, on validation images."""
    path = store.export_root() / "pilots.json" if path is None else Path(path)
    if not path.is_file():
        return Markdown("No pilots are recorded in this copy.")
    rows = []
    for pilot in json.loads(path.read_text()):
        accuracy = f"{100 * pilot['linear']:.1f}" if pilot["linear"] is not None else "–"
        chosen, ended = "yes" if pilot["chosen"] else "", pilot["reason"] or ""
        rows.append((label(pilot["objective"]), pilot["settings"], chosen, pilot["epochs"], accuracy, ended))
    return table(
        ("objective", "settings", "chosen", "epochs", "linear, %", "ended early"),
        rows,
        "Pilots, which chose the settings of every objective on validation images.",
    )


def energy(folder: Path | None = None) -> Markdown:
    """Hours of one core that the shipped encoders took, and an estimate of their energy."""
    ends = {name: entry for name, entry in _shipped(folder).items() if "@" not in name}  # steps are parts of these
    hours = sum(entry.seconds for entry in ends.values()) / 3600
    took = f"{len(ends)} trainings took {hours:.1f} hours of one core, some of them shared with other work"
    energy = f"{hours * WATTS / 1000:.2f} kWh if a busy core draws {WATTS} W with its share of the machine"
    return Markdown(f"{took}: {energy}, which is assumed and not measured.")


def _shipped(folder: Path | None) -> dict[str, Entry]:
    manifest = store.read_manifest(store.export_root() / "small" if folder is None else Path(folder))
    return {} if manifest is None else manifest.entries


def versions_table() -> Markdown:
    """Versions of Python and of the packages that decide what the numbers and pages are."""
    return table(
        ("package", "version"),
        [*provenance.versions().items(), *((p, version(p)) for p in BOOK_PACKAGES)],
        "Versions of what decides the numbers.",
    )


def hardware_table() -> Markdown:
    """The machine that executes this, in the words of a result's provenance, and its operating system."""
    facts = {name.replace("_gib", " (GiB)").replace("_", " "): fact for name, fact in device.describe().items()}
    return table(
        ("", "this machine"),
        [*facts.items(), ("system", f"{platform.system()} {platform.machine()}")],
        "The machine that built this copy.",
    )


def benchmark_table(path: Path | None = None) -> Markdown:
    """Timings recorded side by side with a peer's, each with its target; a sentence when none are recorded."""
    path = book_root() / "benchmarks" / "results.json" if path is None else Path(path)
    if not path.is_file():
        return Markdown("No benchmark is recorded in this copy: `benchmarks/results.json` does not exist.")
    rows = [_benchmark(record) for record in json.loads(path.read_text())]
    return table(
        ("benchmark", "unit", "ours", "peer", "ratio", "target", "met", "measured"),
        rows,
        "Every promised number with its target; the ratio is the time of a peer in the same run over ours.",
    )


def benchmark_misses(path: Path | None = None) -> Markdown:
    """Every missed target with what bounds the number, as far as that was measured; nothing where none is recorded."""
    path = book_root() / "benchmarks" / "results.json" if path is None else Path(path)
    records = json.loads(path.read_text()) if path.is_file() else []
    missed = [record for record in records if record.get("met") is False]
    if not missed:
        return Markdown("No recorded target is missed.")
    lines = (
        f"- {r['name']} ({_number(r.get('target'))}): {r.get('limit', 'the reason was not measured')}." for r in missed
    )
    return Markdown("\n".join(lines))


def growth_figure(path: Path | None = None) -> Figure:
    """Recorded time of each metric over the size of its input, with the fitted power; a sentence if there is none."""
    path = book_root() / "benchmarks" / "growth.json" if path is None else Path(path)
    if not path.is_file():
        return sentence("Growth is not recorded in this copy: benchmarks/growth.json does not exist.")
    cases = json.loads(path.read_text())
    columns = 3
    figure, axes = panels(columns, -(-len(cases) // columns), height=1.9)
    for ax, case in zip(axes.flat, cases, strict=False):
        sizes, took = np.array(case["sizes"]), np.array(case["seconds"])
        middle = np.exp(np.log(took).mean()) * (sizes / np.exp(np.log(sizes).mean())) ** case["exponent"]
        ax.loglog(sizes, took, "o", color=COLOURS[0], markersize=4)
        ax.loglog(sizes, middle, color=COLOURS[1], linewidth=1)
        ax.set_title(case["name"], fontsize=7)
        power = f"power {case['exponent']:.2f} [{case['low']:.2f}, {case['high']:.2f}]"
        ax.text(0.05, 0.88, power, transform=ax.transAxes, fontsize=7)
        ax.minorticks_off()
        ax.set_xticks(sizes[[0, -1]], [f"{size:,}" for size in sizes[[0, -1]]])
    for ax in axes.flat[len(cases) :]:
        ax.set_visible(False)
    figure.supylabel("seconds")
    return figure


def _benchmark(record: dict[str, object]) -> list[str]:
    peer = "–" if record.get("peer") is None else f"{_number(record['peer'])} ({record.get('peer_name') or 'unnamed'})"
    met = {True: "yes", False: "**no**"}.get(record.get("met"), "–")
    hardware = record.get("hardware", {})
    cores = f"{hardware['cores']} cores" if "cores" in hardware else None
    measured = ", ".join(fact for fact in (record.get("date"), hardware.get("cpu"), hardware.get("gpu"), cores) if fact)
    numbers = [_number(record.get(key)) for key in ("ratio", "target")]
    return [
        str(record["name"]),
        str(record.get("unit") or ""),
        _number(record.get("ours")),
        peer,
        *numbers,
        met,
        measured,
    ]


def book_root() -> Path:
    """The nearest folder from here upwards that holds a book, wherever a notebook happens to run."""
    here = Path.cwd()
    above = [folder for folder in (here, *here.parents) if (folder / "_toc.yml").is_file()]
    expect(bool(above), "folder", "one in a book, or below (a folder with a _toc.yml)", here)
    return above[0]


def _time(seconds: float) -> str:
    """Seconds as a person would say them: 0.4 s, 12 s, 3 min 5 s."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _number(value: object) -> str:
    """Three significant digits for a float, anything else as it is."""
    return "–" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
