"""Runs studies: notebooks through papermill, and the editions of the book."""

import dataclasses
import hashlib
import logging
import os
import re
import time
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

from distributed import as_completed

from sslnb import studies
from sslnb.core import artifacts, cluster, device, files
from sslnb.core.files import atomic
from sslnb.core.provenance import command
from sslnb.data import catalogue
from sslnb.pool import store
from sslnb.pool import train as pool_training
from sslnb.pool.scales import QUICK_POOLS

EDITIONS = {"published": "published", "quick": "quick"}  # edition of the book → profile that draws it
# The book's own pages with code in them, executed last: they report on the rest.
PAGES = ("intro", "claims", "check", "data", "encoder", "status")

PACKAGE = Path(__file__).resolve().parents[1]
BANNER = (
    "This page ran while this copy of the book was built, on embedded images and with encoders that train in seconds. "
    "What was found at the scale that counts is in {{doc}}`../published/{study}`."
)
WIDGET = "application/vnd.jupyter.widget-view+json"
# A kernel warns that its messages on this machine are not encrypted, and logs as an error that it was ended amid a
# cell; what goes wrong in a cell comes as a message.
QUIET = "--IPKernelApp.log_level=50"


def find_root() -> Path:
    """The book's folder: the nearest one, from here upwards, that holds ``_toc.yml``; ``ValueError`` if none does."""
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / "_toc.yml").exists() and (folder / "notebooks").is_dir():
            return folder
    raise ValueError(f"folder: expected a checkout of the book (with _toc.yml) at or above {here}, got none")


def execute(
    source: Path,
    target: Path,
    parameters: dict,
    *,
    label: str = "",
    banner: str = "",
    cwd: Path | None = None,
    progress: bool = True,
) -> Path:
    """Convert a MyST text notebook, execute it with papermill, and write it to ``target`` once it is whole.

    Code is folded on the rendered page, and cells of parameters are tagged away from it. Cells with the tag
    ``published`` are about the published results, and left out of other runs. Names of figures are prefixed
    with ``label``, since a book holds the same notebook once per edition; a ``banner`` tells a rerun from what is
    published, and its title says so. ``ValueError`` names a failing cell, and the
    file that its traceback is in.
    """
    import jupytext
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    notebook = jupytext.read(source)
    if parameters.get("profile") != "published":  # statements about results are about the published ones
        notebook.cells = [cell for cell in notebook.cells if "published" not in cell.metadata.get("tags", [])]
    target.parent.mkdir(parents=True, exist_ok=True)
    failed, trace = target.with_suffix(".failed.ipynb"), target.with_suffix(".traceback.txt")
    trace.unlink(missing_ok=True)  # of an earlier run
    with atomic(target) as partial:
        plain = partial.with_suffix(".source.ipynb")
        try:
            nbformat.write(notebook, plain)
            logging.getLogger("papermill").addFilter(_worth_saying)
            settings = {"progress_bar": progress, "cwd": cwd, "kernel_name": "python3", "extra_arguments": [QUIET]}
            papermill.execute_notebook(plain, failed, parameters, **settings)
        except papermill.PapermillExecutionError as error:
            if error.ename == "KeyboardInterrupt":  # the kernel's, of a Ctrl-C that all processes got
                failed.unlink(missing_ok=True)
                raise KeyboardInterrupt from error
            trace.write_text(re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback)), encoding="utf-8")
            problem = " ".join(f"{error.ename}: {error.evalue}".split())
            where = f"{source.name}, cell {error.exec_count}"
            raise ValueError(f"{where}: {problem} (traceback in {trace})") from error
        except DeadKernelError as error:  # killed, most often for want of memory: there is no traceback
            # By papermill's own record: whether a cell's number came out of a dying kernel is a matter of luck.
            cells = [cell for cell in nbformat.read(failed, as_version=4).cells if cell.cell_type == "code"]
            last = sum(bool(cell.metadata.papermill["start_time"]) for cell in cells)
            failed.unlink()
            wanted = "a kernel that lives to the last cell, which takes enough memory"
            raise ValueError(f"{source.name}: expected {wanted}, got one that died in cell {last}") from error
        except KeyboardInterrupt:
            failed.unlink(missing_ok=True)
            raise
        finally:
            plain.unlink(missing_ok=True)
        executed = nbformat.read(failed, as_version=4)
        _tidy(executed, source, label)
        if banner:
            _announce(executed, banner)
        nbformat.write(executed, partial)
    failed.unlink()
    return target


def _worth_saying(record: logging.LogRecord) -> bool:
    """Neither names that a cell does not list, as a study knows its own, nor what an exception says anyway."""
    return not record.getMessage().startswith(("Passed unknown parameter", "Kernel died"))


def _tidy(notebook: typing.Any, source: Path, label: str) -> None:
    """No trace of this machine, no injected cell on the page, no label that another edition has too.

    Nor widgets: they are live in JupyterLab, answer nobody elsewhere, and a state of progress bars weighs megabytes.
    """
    from sslnb.report.pictures import light  # of a package with all that draws, which a command line can do without

    public = ("start_time", "end_time", "duration", "parameters")
    record = notebook.metadata.get("papermill", {})
    notebook.metadata["papermill"] = {key: record[key] for key in public if key in record}
    notebook.metadata["papermill"]["source"] = source.name
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = light(output.data["image/png"])
            cell.metadata["tags"] = _folded(cell.metadata.get("tags", []), bool(cell.outputs))
    if label:
        _relabel(notebook, label)


def _folded(tags: Sequence[str], outputs: bool) -> list[str]:
    """Tags under which a page shows prose and outputs, and their code when asked.

    Parameters it shows as those that ran; code without an output stays in the notebook, unless it is an example.
    """
    if "example" in tags:
        return list(tags)
    silent = "remove-output" in tags or not outputs
    if silent or {"parameters", "injected-parameters"} & set(tags):
        return [*(tag for tag in tags if tag not in ("remove-output", "remove-cell")), "remove-cell"]
    if "hide-output" in tags and "remove-input" not in tags:
        return ["hide-cell" if tag == "hide-output" else tag for tag in tags]
    shown = not {"remove-cell", "remove-input", "hide-input", "hide-cell"} & set(tags)
    return [*tags, "hide-input"] if shown else list(tags)


def _announce(notebook: typing.Any, banner: str) -> None:
    """A rerun's title and banner: what search finds, and a reader lands on, says what it is."""
    first = next(cell for cell in notebook.cells if cell.cell_type == "markdown")
    title, _, rest = first.source.partition("\n")
    first.source = f"{title.replace('# ', '# Rerun: ', 1)}\n\n```{{admonition}} A rerun\n{banner}\n```\n{rest}"


def _relabel(notebook: typing.Any, label: str) -> None:
    """Prefix the notebook's own labels (figures, equations, sections) and every reference to them."""
    figure = [cell.metadata.get("mystnb", {}).get("figure", {}) for cell in notebook.cells]
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    own = set(re.findall(r"^\$\$ \(([\w-]+)\)$|^\(([\w-]+)\)=$", text, re.MULTILINE))
    names = {name for pair in own for name in pair if name} | {f["name"] for f in figure if "name" in f}
    if not names:
        return
    mention = re.compile(r"(?<=[(<`])(" + "|".join(map(re.escape, sorted(names))) + r")(?=[)>`])")
    for cell, described in zip(notebook.cells, figure, strict=True):
        if "name" in described:
            described["name"] = f"{label}-{described['name']}"
        if cell.cell_type == "markdown":
            cell.source = mention.sub(rf"{label}-\1", cell.source)


def expect_places(out: Path) -> None:
    """``ValueError`` unless results and encoders can be written where they belong."""
    files.expect_writable(files.cache_root(), "SSLNB_CACHE")
    files.expect_writable(out, "--out")


def run_notebook(study: str, parameters: dict, out: Path) -> Path:
    """Execute a study's notebook with these parameters; leaves the notebook and its ``Result`` files in ``out``.

    The notebook checks them; to be told before a kernel starts, call ``studies.check`` and ``expect_places``.
    """
    root = find_root()
    own = studies.get(study).parameters.own_name  # a notebook's cell has its own word for the images
    values = {own(name): list(v) if isinstance(v, tuple) else v for name, v in parameters.items()}
    values["result_path"] = str((out / study).resolve())
    os.environ["SSLNB_COMMAND"] = command()  # the kernel's own would say nothing
    # In the caller's folder, so that relative paths among the parameters mean what the caller means.
    return execute(root / "notebooks" / f"{study}.md", out / f"{study}.ipynb", values, cwd=Path.cwd())


@dataclasses.dataclass(frozen=True)
class Page:
    """A notebook of the book: where it is executed to, and what it then depends on."""

    source: Path
    target: Path
    key: str
    parameters: dict
    label: str
    banner: str = ""

    @property
    def name(self) -> str:
        return f"{self.target.parent.name}/{self.target.stem}"

    @property
    def stamp(self) -> Path:
        return self.target.with_suffix(".key")

    @property
    def fresh(self) -> bool:
        return self.target.exists() and self.stamp.exists() and self.stamp.read_text() == self.key

    def execute(self, *, progress: bool = False) -> float:
        """Execute it; returns the seconds that it took."""
        started = time.monotonic()
        self.stamp.unlink(missing_ok=True)
        settings = {"label": self.label, "banner": self.banner, "cwd": self.source.parents[1], "progress": progress}
        execute(self.source, self.target, self.parameters, **settings)
        with atomic(self.stamp) as partial:
            partial.write_text(self.key)
        return time.monotonic() - started


def book(root: Path, *, force: bool = False) -> Path:
    """Execute what is stale of every edition, then build the site; returns its index page."""
    from sslnb.book import site

    executed = root / "book" / "_executed"
    for pool in QUICK_POOLS:  # once, for all studies
        pool_training.train(pool)
    chapters = [page for name in (studies.POOL, *studies.NAMES) for page in _editions(root, name)]
    # What joins the others' Results comes after them, and is stale when one of them is new.
    _execute_stale([page for page in chapters if page.source.stem != studies.JOINED], force=force)
    joined = sorted((executed / "quick").glob("*.json"))
    facts = [files.sha256(path) for path in joined if path.stem not in (studies.JOINED, studies.CARD)]
    last = [page for page in chapters if page.source.stem == studies.JOINED]
    _execute_stale(
        [dataclasses.replace(page, key=artifacts.key(own=page.key, facts=facts)) for page in last], force=force
    )
    ran = [path.read_text() for path in sorted(executed.glob("*/*.key")) if path.parent.name in EDITIONS]
    facts = [files.sha256(path) for path in sorted((root / "book" / "results").glob("*.json"))]
    # The pools that ship, pilots and failed runs among them.
    shipped = [files.sha256(path) for path in sorted(store.export_root().rglob("*.json"))]
    facts = [*ran, *facts, *shipped, catalogue.names(), str(files.data_root())]
    own = [(root / "book" / f"{name}.md", executed / "pages" / f"{name}.ipynb") for name in PAGES]
    pages = [Page(source, target, _key(source, root / "benchmarks", facts), {}, "") for source, target in own]
    for some in (pages[:-1], pages[-1:]):  # the last lists the others' times
        _execute_stale(some, force=force)
    return site.build(root, force=force)


def _editions(root: Path, study: str) -> Iterator[Page]:
    """A study's notebook in each edition; a new study has no published page until somebody records it."""
    for edition, profile in EDITIONS.items():
        recorded = root / "book" / "results" if profile == "published" else None
        if recorded is not None and not (recorded / f"{study}.json").is_file():
            continue
        source, target = root / "notebooks" / f"{study}.md", root / "book" / "_executed" / edition / f"{study}.ipynb"
        parameters = {"profile": profile}
        if recorded is None:  # reruns leave their Results beside their notebooks, to be joined
            parameters["result_path"] = str(target.with_suffix("").relative_to(root))
        if recorded is None and study == studies.JOINED:
            parameters["results"] = str(target.parent.relative_to(root))
        published = (root / "book" / "results" / f"{study}.json").is_file()
        banner = BANNER.format(study=study) if recorded is None and published else ""
        yield Page(source, target, _key(source, recorded, profile, banner), parameters, edition, banner)


def _execute_stale(pages: Sequence[Page], *, force: bool) -> None:
    """Execute the pages that are not up to date, one for each core at a time; on an accelerator one after another."""
    stale = [page for page in pages if force or not page.fresh]
    for page in pages:
        print(f"{page.name}: {'executing' if page in stale else 'up to date'}", flush=True)
    cores = device.describe()["cores"] if device.best_device().type == "cpu" else 1
    if min(cores, len(stale)) <= 1:
        for page in stale:
            page.execute(progress=True)
        return
    with cluster.client(None, min(cores, len(stale))) as client:
        # Reruns first: they take longer than what is only drawn.
        order = sorted(stale, key=lambda page: page.parameters.get("profile") == "published")
        futures = {client.submit(Page.execute, page, key=page.name, priority=-i): page for i, page in enumerate(order)}
        for future in as_completed(futures):
            print(f"{futures[future].name}: {future.result():.0f} s", flush=True)


def _key(source: Path, folder: Path | None, *facts: object) -> str:
    """What an executed notebook depends on: its text, the package's code and what lies beside it, recorded files."""
    stored = sorted(folder.glob("*.json")) if folder else []
    beside = [path for kind in ("*.html", "*.mplstyle", "*.csv") for path in sorted(PACKAGE.rglob(kind))]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (source, *stored, *beside)]
    return artifacts.key(digests=digests, code=artifacts.package_version(), facts=facts, hardware=device.describe())
