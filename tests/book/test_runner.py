"""Running notebooks: what an executed one must hold to become a page."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from sslnb import cli
from sslnb.book import runner

PRINTS_A_WIDGET = """---
kernelspec: {name: python3, display_name: Python 3}
---
```{code-cell}
import ipywidgets
box = ipywidgets.VBox([ipywidgets.IntSlider(), ipywidgets.Label()])
box
```
"""


def test_pages_hold_no_widgets(tmp_path) -> None:
    (tmp_path / "page.md").write_text(PRINTS_A_WIDGET)
    notebook = nbformat.read(runner.execute(tmp_path / "page.md", tmp_path / "page.ipynb", {}), as_version=4)
    assert "widgets" not in notebook.metadata
    assert [cell.outputs for cell in notebook.cells if cell.cell_type == "code"] == [[]]


def test_an_error_in_a_cell_is_one_line_with_its_traceback_in_a_file(tmp_path) -> None:
    text = PRINTS_A_WIDGET.replace("import ipywidgets", 'raise ValueError("size: expected at least 1, got 0")')
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(
        ValueError, match=r"^page\.md, cell 1: ValueError: size: expected at least 1, got 0 \("
    ) as error:
        runner.execute(tmp_path / "page.md", tmp_path / "page.ipynb", {})
    assert "\n" not in str(error.value)
    trace = (tmp_path / "page.traceback.txt").read_text()
    assert str(tmp_path / "page.traceback.txt") in str(error.value)
    assert 'raise ValueError("size: expected at least 1, got 0")' in trace and "\x1b" not in trace
    assert not (tmp_path / "page.ipynb").exists()


def test_a_kernel_that_dies_is_named_with_the_cell_that_it_came_to(tmp_path) -> None:
    ends = PRINTS_A_WIDGET + "```{code-cell}\nimport os\nos._exit(3)\n```\n"
    (tmp_path / "page.md").write_text(ends)
    (tmp_path / "page.traceback.txt").write_text("of an earlier run")
    with pytest.raises(ValueError, match=r"^page\.md: expected a kernel that lives .* got one that died in cell 2$"):
        runner.execute(tmp_path / "page.md", tmp_path / "page.ipynb", {})
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]


SUM = """---
kernelspec: {name: python3, display_name: Python 3, language: python}
---
```{code-cell}
:tags: [parameters]
a = 1
```
```{code-cell}
if a > 2:
    raise ValueError("a: expected at most 2, got 3")
print("sum", a + 1)
```
"""


def test_stale_pages_run_at_once_and_one_that_fails_is_one_line_and_stays_stale(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "notebooks").mkdir()
    source = tmp_path / "notebooks" / "page.md"
    source.write_text(SUM)
    monkeypatch.setattr(runner.device, "describe", lambda: {"cores": 2})
    pages = [runner.Page(source, tmp_path / f"out/{a}.ipynb", f"key {a}", {"a": a}, "") for a in (1, 2)]
    runner._execute_stale(pages, force=False)
    texts = [nbformat.read(page.target, as_version=4).cells[-1].outputs[0].text for page in pages]
    assert texts == ["sum 2\n", "sum 3\n"] and all(page.fresh for page in pages)
    failing = runner.Page(source, tmp_path / "out/3.ipynb", "key 3", {"a": 3}, "")
    with pytest.raises(ValueError, match=r"^page\.md, cell 3: ValueError: a: expected at most 2, got 3 \(") as error:
        runner._execute_stale([pages[0], dataclasses.replace(pages[1], key="another"), failing], force=False)
    assert "\n" not in str(error.value) and not failing.fresh and not failing.target.exists()
    assert "out/1: up to date\nout/2: executing\nout/3: executing\n" in capsys.readouterr().out


INTERRUPTED = """
import signal, sys
from pathlib import Path

from sslnb import cli
from sslnb.book import runner

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell takes from what it runs behind
at = Path(sys.argv[1])


@cli.sslnb.command("page")
def page():
    runner.execute(at / "page.md", at / "out/page.ipynb", {}, progress=False, cwd=at)


sys.exit(cli.main(["page"]))
"""


def test_ctrl_c_amid_a_cell_is_one_line_and_leaves_no_half_notebook(tmp_path) -> None:
    slow = SUM.replace('print("sum", a + 1)', 'import time\nopen("begun", "w").close()\ntime.sleep(100)')
    (tmp_path / "page.md").write_text(slow)
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while not (tmp_path / "begun").exists() and process.poll() is None:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        error = process.communicate()[1]
    assert process.returncode == cli.INTERRUPTED
    assert error.split("\n") == ["", "sslnb: interrupted; the same command goes on from what is kept", ""]
    assert not list((tmp_path / "out").iterdir())


EDITIONS_PAGE = """---
kernelspec: {name: python3, display_name: Python 3, language: python}
---
# A page

```{code-cell}
:tags: [parameters]
profile = "quick"
```

+++ {"tags": ["published"]}

Margins are twice as large.

```{code-cell}
:tags: [published, remove-cell]
raise ValueError("statement: expected 'twice as large', got a result against it")
```

```{code-cell}
print("shown")
```

```{code-cell}
:tags: [hide-output]
print("evidence")
```
"""


def test_statements_about_published_results_are_guarded_there_and_left_out_of_other_runs(tmp_path) -> None:
    source = tmp_path / "page.md"
    source.write_text(EDITIONS_PAGE)
    notebook = nbformat.read(runner.execute(source, tmp_path / "page.ipynb", {"profile": "quick"}), as_version=4)
    assert "twice" not in "".join(cell.source for cell in notebook.cells)
    with pytest.raises(ValueError, match=r"page\.md, cell 3: ValueError: statement: expected 'twice as large'"):
        runner.execute(source, tmp_path / "published.ipynb", {"profile": "published"})
    assert not (tmp_path / "published.ipynb").exists()


def test_code_is_folded_and_parameters_are_not_shown(tmp_path) -> None:
    example = "\n```{code-cell} ipython3\n:tags: [example]\n\nx = 1\n```\n"
    (tmp_path / "page.md").write_text(EDITIONS_PAGE + example)
    notebook = nbformat.read(runner.execute(tmp_path / "page.md", tmp_path / "page.ipynb", {}), as_version=4)
    tags = {cell.source: cell.metadata.tags for cell in notebook.cells if cell.cell_type == "code"}
    assert tags['profile = "quick"'] == ["parameters", "remove-cell"]
    assert tags['print("shown")'] == ["hide-input"] and tags['print("evidence")'] == ["hide-cell"]
    assert tags["x = 1"] == ["example"]  # which is to be read, without an output too


def test_a_rerun_says_so_in_its_title_and_in_a_banner(tmp_path) -> None:
    (tmp_path / "page.md").write_text(EDITIONS_PAGE)
    banner = runner.BANNER.format(study="cka")
    notebook = nbformat.read(
        runner.execute(tmp_path / "page.md", tmp_path / "page.ipynb", {}, banner=banner), as_version=4
    )
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert first.startswith("# Rerun: A page\n\n```{admonition} A rerun\n") and "{doc}`../published/cka`" in first
