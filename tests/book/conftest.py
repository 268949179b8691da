"""A miniature book that is built as the real one is, and a browser to open both."""

import contextlib
import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from sslnb.book import site

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
)  # fmt: skip
TOC = """\
format: jb-book
root: book/intro
chapters:
  - file: book/chapter
"""
INTRO = """\
# A miniature

See {doc}`chapter`, {eq}`half`, and {cite}`he2016`.

$$ x = \\frac{1}{2} $$ (half)

```{bibliography}
```
"""
CHART = """\
import altair as alt
import pandas as pd
from sslnb.report import charts

frame = pd.DataFrame([(k, h, h * (1 + k)) for k in (0, 1) for h in range(4)], columns=["kind", "height", "length"])
controls = charts.choice("kind", "kind", [0, 1]), charts.slider("height", "height, m", 0, 3, 1, 1)
bars = alt.Chart(charts.table("bars", frame)).transform_filter("datum.kind == kind && datum.height == height")
x = alt.X("length:Q", scale=alt.Scale(domain=[-1, 6]))
charts.Explorer(bars.mark_point().encode(x=x).add_params(*controls), "A point whose place is chosen.")"""
TABLE = """\
from sslnb.report import table

table(("n", "a, b"), [(i, f"${i}^2$") for i in range(12)], "Twelve squares.")"""
FIGURE = {"mystnb": {"figure": {"caption": "Two bars.", "name": "fig-bars"}, "image": {"alt": "Two bars."}}}


def execute(*cells: tuple[str, dict]) -> nbformat.NotebookNode:
    """A notebook of these cells (source, metadata), executed; a failing cell is left in it, as papermill leaves it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A chapter\n\nOf $m_p$.")])
    notebook.cells += [nbformat.v4.new_code_cell(source, metadata=metadata) for source, metadata in cells]
    with contextlib.suppress(Exception):
        NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
    return notebook


@pytest.fixture(scope="session", name="executed")
def _executed() -> Callable[..., nbformat.NotebookNode]:
    """``execute``: test modules cannot import from here."""
    return execute


@pytest.fixture(scope="session")
def chapter() -> nbformat.NotebookNode:
    """One executed notebook with a figure, an explorer and a long table."""
    bars = "import matplotlib.pyplot as plt\nimport sslnb.report\nplt.bar([0, 1], [2, 4]);"
    return execute(
        (bars, FIGURE), (CHART, {"mystnb": {"figure": {"caption": "A point at eight places."}}}), (TABLE, {})
    )


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The browser scripts: those of the checkout where a book has been built, else fetched once for all tests."""
    root = tmp_path_factory.mktemp("scripts")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / name, root)
    if (ROOT / "book" / "_assets").is_dir():
        shutil.copytree(ROOT / "book" / "_assets", root / "book" / "_assets")
    return site.provide_assets(root)


def write_book(root: Path, chapter: nbformat.NotebookNode, scripts: Path) -> Path:
    """Two pages under the real book's settings and scripts."""
    shutil.copytree(ROOT / "book" / "assets", root / "book" / "assets")
    shutil.copytree(scripts, root / "book" / "_assets")
    for name in ("_config.yml", "package.json", "package-lock.json", "book/references.bib"):
        shutil.copy(ROOT / name, root / name)
    for stray in ("README.md", ".cache/README.md", "notebooks/chapter.md"):  # no pages of the book
        (root / stray).parent.mkdir(exist_ok=True)
        (root / stray).write_text("# Not a page")
    (root / "_toc.yml").write_text(TOC)
    (root / "book" / "intro.md").write_text(INTRO)
    nbformat.write(chapter, root / "book" / "chapter.ipynb")
    return root


@pytest.fixture
def book(tmp_path: Path, chapter: nbformat.NotebookNode, scripts: Path) -> Path:
    """A miniature book, not built yet."""
    return write_book(tmp_path / "book root", chapter, scripts)


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory, chapter: nbformat.NotebookNode, scripts: Path) -> Path:
    """A miniature book, built once; not to be changed."""
    root = write_book(tmp_path_factory.mktemp("miniature") / "root", chapter, scripts)
    site.build(root)
    return root


@pytest.fixture(scope="session", params=["miniature", "the real site"])
def pages(request: pytest.FixtureRequest) -> Path:
    """The folder of a built site: the miniature's, and the real one where it has been built."""
    if request.param == "miniature":
        return request.getfixturevalue("miniature") / "_build" / "html"
    if not (ROOT / "_build" / "html" / "index.html").is_file():
        pytest.skip("no _build/html: run `make book` first")
    return ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def served(pages: Path) -> Iterator[str]:
    """The address of a local server of that folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """A line for each request would drown the tests' own output."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=pages)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Chromium, as the system provides it."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on the path")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        yield chromium
        chromium.close()
