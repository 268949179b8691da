"""An executed notebook as one HTML file that needs nothing else: to mail, or to keep beside an encoder."""

import html
import re
from pathlib import Path

from sslnb import studies
from sslnb.core.checks import expect_known
from sslnb.core.files import atomic

HIDDEN = {"remove-cell", "parameters", "injected-parameters"}  # tags of cells that a page does not show
ROLE = re.compile(r"\{(\w+)\}`(?:[^`<]*<)?([^`>]+)>?`")  # MyST's {role}`target` and {role}`text <target>`

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem;
  background: light-dark(#fff, #16181c); color: light-dark(#222, #ddd); }}
img {{ max-width: 100%; height: auto; background: #fff; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; font-size: 0.85rem; }}
td, th {{ border-bottom: 1px solid light-dark(#ddd, #444); padding: 0.2rem 0.6rem; text-align: left; }}
pre {{ overflow-x: auto; background: light-dark(#f4f4f4, #222); padding: 0.6rem; }}
figcaption {{ font-size: 0.85rem; }}
figure {{ margin: 1.5rem 0; }}
.anchor-link {{ display: none; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def one_file(notebook: Path, target: Path) -> Path:
    """Write an executed notebook as a page with its pictures inside; no script, nothing from elsewhere.

    Figures are numbered and captioned as on the book's pages; references to chapters become their titles.
    ``ValueError`` for a reference to a figure that it does not have.
    """
    import nbformat
    from nbconvert import HTMLExporter

    document = nbformat.read(notebook, as_version=4)
    document.cells = [cell for cell in document.cells if not HIDDEN & set(cell.metadata.get("tags", []))]
    figures = [name for cell in document.cells if (name := _figure(cell).get("name"))]
    numbers = {name: i for i, name in enumerate(figures, 1)}
    # A card is read: its code is in the notebook.
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_output_prompt=True)
    parts = []
    for cell in document.cells:
        if cell.cell_type == "markdown":
            cell.source = ROLE.sub(lambda match: _plain(match, numbers), cell.source)
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", ()):  # which every mail program shows
                output.data.pop("image/svg+xml", None)
        rendered, _ = exporter.from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
        parts.append(_captioned(rendered, _figure(cell), numbers))
    heading = next((c.source for c in document.cells if c.cell_type == "markdown"), notebook.stem)
    title = heading.partition("\n")[0].lstrip("# ")
    with atomic(target) as partial:
        partial.write_text(PAGE.format(title=html.escape(title), body="\n".join(parts)), encoding="utf-8")
    return target


def _figure(cell: dict) -> dict:
    return cell.metadata.get("mystnb", {}).get("figure", {})


def _plain(match: re.Match, numbers: dict[str, int]) -> str:
    """What a role says where there are no links: a figure's number, a chapter's title, or its own text."""
    role, target = match.groups()
    if role == "numref":
        expect_known(target, tuple(numbers), "numref")
        return f"Figure {numbers[target]}"
    name = target.rpartition("/")[2]
    return f"“{studies.get(name).title}”" if role == "doc" and name in studies.ALL else target


def _captioned(rendered: str, figure: dict, numbers: dict[str, int]) -> str:
    if not figure:
        return rendered
    caption = f"<b>Figure {numbers[figure['name']]}.</b> {html.escape(figure['caption'])}"
    return f"<figure>\n{rendered}\n<figcaption>{caption}</figcaption>\n</figure>"
