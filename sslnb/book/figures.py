"""A Sphinx extension: below every figure a link to the numbers that it draws, as CSV."""

import json
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

FOLDER = "numbers"  # of the site
LINK = '<p class="figure-tools"><a download href="{address}">CSV of the figure</a></p>'


class FigureNumbers(SphinxPostTransform):
    """The notebook behind a page holds the numbers (``sslnb.report.shown``); they become files beside the pages."""

    default_priority = 300  # after myst-nb has chosen which form of an output a page shows
    formats = ("html",)

    def run(self, **_: object) -> None:
        page = self.env.docname
        numbers = _numbers(Path(self.env.doc2path(page)))
        for figure in list(self.document.findall(nodes.figure)):
            name = next((name for name in figure["names"] if name in numbers), None)
            if name is not None:
                path = Path(FOLDER, page, f"{name}.csv")
                target = Path(self.app.outdir, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(numbers[name])
                link = LINK.format(address="../" * page.count("/") + path.as_posix())
                figure.parent.insert(figure.parent.index(figure) + 1, nodes.raw("", link, format="html"))


def _numbers(path: Path) -> dict[str, str]:
    """CSV of each named figure of a notebook that has some."""
    if path.suffix != ".ipynb":
        return {}
    found = {}
    for cell in json.loads(path.read_text())["cells"]:
        name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
        for output in cell.get("outputs", ()) if name else ():
            if "text/csv" in output.get("data", ()):
                found[name] = "".join(output["data"]["text/csv"])
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(FigureNumbers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
