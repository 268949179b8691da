"""A Sphinx extension: below every table a link to it as CSV, and the rows beyond eight folded."""

import csv
import html
import io
import urllib.parse

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

WHOLE = 12  # letters of a word in a cell that is not broken at its hyphens
IN_SIGHT = 8  # rows; as many in page.css
TOOLS = '<p class="table-tools">{fold}<a download="{name}.csv" href="data:text/csv;charset=utf-8,{text}">CSV</a></p>'
FOLD = '<label><input type="checkbox"> all {count} rows</label> '


class TableTools(SphinxPostTransform):
    """Works without scripts: a style rule hides the rows until the box below them is ticked."""

    default_priority = 300  # after myst-nb has chosen which form of an output a page shows
    formats = ("html",)

    def run(self, **_: object) -> None:
        base = self.env.docname.rpartition("/")[2]
        for number, table in enumerate(list(self.document.findall(nodes.table)), 1):
            rows = [[entry.astext() for entry in row.findall(nodes.entry)] for row in table.findall(nodes.row)]
            for entry in table.findall(nodes.entry):
                if "-" in entry.astext() and len(entry.astext()) <= WHOLE and " " not in entry.astext():
                    entry["classes"].append("whole")  # else CIFAR-10 is broken after its hyphen
            below = len(list(next(table.findall(nodes.tbody)).findall(nodes.row)))
            facts = {"name": html.escape(f"{base}-{number}"), "text": _quoted(rows)}
            fold = FOLD.format(count=below) if below > IN_SIGHT else ""
            table.parent.insert(
                table.parent.index(table) + 1, nodes.raw("", TOOLS.format(fold=fold, **facts), format="html")
            )


def _quoted(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([cell.replace("−", "-") for cell in row] for row in rows)  # to be read as numbers
    return urllib.parse.quote(text.getvalue())


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(TableTools)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
