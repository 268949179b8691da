"""A page to mail: one file with its pictures, numbered figures, no script and nothing from elsewhere."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from sslnb.book import mail

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
def page(tmp_path: Path) -> str:
    shown = {"mystnb": {"figure": {"name": "fig-b", "caption": "What it <shows>."}}}
    first = {"mystnb": {"figure": {"name": "fig-a", "caption": "Another."}}}
    picture = new_output("display_data", {"image/png": PIXEL})
    cells = [
        new_markdown_cell("# My card\n\nSee {numref}`fig-b`, {doc}`cka`, {cite}`grigg2021cka`."),
        new_code_cell("profile = 'quick'", metadata={"tags": ["parameters"]}),
        new_code_cell("secret = 1", metadata={"tags": ["remove-cell"]}, outputs=[picture]),
        new_code_cell("draw()", metadata=first, outputs=[picture]),
        new_code_cell("draw()", metadata=shown, outputs=[picture], execution_count=7),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "card.ipynb")
    return mail.one_file(tmp_path / "card.ipynb", tmp_path / "card.html").read_text()


def test_nothing_comes_from_elsewhere_and_nothing_runs(page: str) -> None:
    assert "<script" not in page and not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert page.count("data:image/png;base64,") == 2


def test_code_and_hidden_cells_are_not_on_it(page: str) -> None:
    assert "draw()" not in page and "secret" not in page and "profile" not in page and "Out[" not in page


def test_figures_have_numbers_and_captions_and_chapters_their_titles(page: str) -> None:
    assert "<title>My card</title>" in page
    assert "See Figure 2, “Layers of self-supervised and supervised networks”, grigg2021cka." in page
    assert "<b>Figure 2.</b> What it &lt;shows&gt;." in page


def test_a_figure_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    nbformat.write(new_notebook(cells=[new_markdown_cell("{numref}`fig-x`")]), tmp_path / "a.ipynb")
    with pytest.raises(ValueError, match="fig-x"):
        mail.one_file(tmp_path / "a.ipynb", tmp_path / "a.html")
