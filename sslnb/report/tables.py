"""Tables and sentences of the book: recorded numbers in, Markdown out. No number in the prose is typed by hand."""

import html
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
from IPython.display import Markdown
from markdown_it import MarkdownIt
from myst_nb import glue

from sslnb.core.labels import short
from sslnb.core.result import Result
from sslnb.pool.pool import PIXELS, UNTRAINED

SET_LABELS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "stl10": "STL-10", "caltech101": "Caltech-101"}


class Table(Markdown):
    """A table that pages number and caption (as MyST's directive), and that JupyterLab and mail show as HTML."""

    def __init__(self, lines: str, caption: str) -> None:
        super().__init__(f":::{{table}} {caption}\n\n{lines}\n:::")
        self.lines, self.caption = lines, caption

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        rendered = MarkdownIt("gfm-like", {"linkify": False}).render(self.lines)
        caption = f"<caption>{html.escape(self.caption)}</caption>"
        return {"text/markdown": self.data, "text/html": rendered.replace("<table>", f"<table>\n{caption}", 1)}


def minus(text: str) -> str:
    """Hyphens before a number as the minus that they mean, none before a nought; ``CIFAR-10`` and ``1e-5`` stay."""
    text = re.sub(r"(?<![\w.^{-])-(?=\.?\d)", "−", text)
    return re.sub(r"−(0(?:\.0+)?)(?![\d.])", r"\1", text)


def interval(value: float | None, low: float | None = None, high: float | None = None, spec: str = ".3f") -> str:
    """A value with its interval, where there is one; a dash for None or NaN, which is how nothing measured is kept."""
    if value is None or not math.isfinite(value):
        return "–"
    known = low is not None and math.isfinite(low)
    return format(value, spec) + (f" [{format(low, spec)}, {format(high, spec)}]" if known else "")


def table(head: Sequence[str], rows: Iterable[Iterable[object]], caption: str) -> Table:
    """A Markdown table with its caption; bars in cells are escaped."""
    cells = [[minus(str(cell)).replace("|", "\\|") for cell in line] for line in (head, *rows)]
    lines = [cells[0], ["---"] * len(head), *cells[1:]]
    return Table("\n".join(f"| {' | '.join(line)} |" for line in lines), caption)


def set_label(dataset: str) -> str:
    """How a data set is called in figures and the papers; the parameters of a generated one on a second line."""
    return SET_LABELS.get(dataset, short(dataset))


def set_cell(dataset: str) -> str:
    """How a data set is called in a table: as in figures, or literally as parameters take it."""
    return SET_LABELS.get(dataset, f"`{dataset}`")


def references_first(methods: Iterable[str]) -> list[str]:
    """Untrained networks and raw pixels before the others, who are judged by them: no folding hides them there."""
    return sorted(methods, key=lambda method: method not in (UNTRAINED, PIXELS))


def percent(value: float) -> str:
    """0.7612 as ``76.1``; a dash for what was not measured."""
    return f"{100 * value:.1f}" if math.isfinite(value) else "–"


def spread(values: np.ndarray) -> str:
    """Mean over seeds with the sample deviation: ``76.1 ± 0.4``."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    deviation = f"\u00a0±\u00a0{100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""  # never broken over lines
    return percent(float(values.mean())) + deviation


def say(name: str, text: str) -> None:
    glue(name, Markdown(minus(text)), display=False)


def not_recorded(result: Result, step: str) -> str:
    """What stands in place of what a step measured, where a result is older than that step; empty where it is not."""
    return "" if step in result.data else f"This was not recorded: the result is older than the step {step}."
