"""An objective looks the same in every figure of every chapter."""

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sslnb import studies
from sslnb.core import labels
from sslnb.core.result import Result
from sslnb.objectives.registry import OBJECTIVES
from sslnb.report import charts, styles

RECORDED = Path(__file__).resolve().parents[2] / "book" / "results"
DRAWN = [name for name in studies.NAMES if (RECORDED / f"{name}.json").is_file()]


def _functions(study: str, module: str, kind: object) -> Iterator[Callable[[Result], object]]:
    """A study's functions of a Result alone that return a figure or a chart, of all modules whose names end so."""
    package = importlib.import_module(f"sslnb.studies.{study}")
    ends = [name for _, name, _ in pkgutil.iter_modules(package.__path__) if name.endswith(module)]
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in ends]
    for found, (name, function) in ((m, one) for m in modules for one in inspect.getmembers(m, inspect.isfunction)):
        signature = inspect.signature(function)
        required = [p for p in signature.parameters.values() if p.default is inspect.Parameter.empty]
        returned = signature.return_annotation
        one = len(required) == 1 and kind in (returned, *typing.get_args(returned))
        if one and function.__module__ == found.__name__ and not name.startswith("_"):
            yield function


def _labelled(figure: Figure) -> Iterator[tuple[str, str]]:
    """Label and colour of every line that is named by an objective."""
    by_label = {labels.label(name): name for name in OBJECTIVES}
    for ax in figure.axes:
        for handle, text in zip(*ax.get_legend_handles_labels(), strict=True):
            line = handle[0] if isinstance(handle, ErrorbarContainer) else handle
            own = by_label.get(text.partition(" (")[0])  # "SimCLR (PGD)"
            if own:
                yield own, to_hex(line.get_color() if isinstance(line, Line2D) else line.get_edgecolor())


@pytest.mark.parametrize("study", DRAWN)
def test_lines_of_an_objective_have_its_colour(study: str) -> None:
    result, seen = Result.load(RECORDED / study), 0
    for draw in _functions(study, "figures", Figure):
        figure = draw(result)
        for name, colour in _labelled(figure) if isinstance(figure, Figure) else ():  # a sentence where there is none
            assert colour == styles.colour(name).lower(), f"{study}.{draw.__name__}: {labels.label(name)}"
            seen += 1
    assert seen > 0


@pytest.mark.parametrize("study", DRAWN)
def test_marks_of_an_objective_have_its_colour(study: str) -> None:
    """Vega-Lite's scales: a domain of labels, a range of colours."""
    result, by_label, seen = Result.load(RECORDED / study), {labels.label(name): name for name in OBJECTIVES}, 0
    for draw in _functions(study, "explorers", charts.Explorer):
        shown = draw(result)
        for scale in _scales(shown.chart.to_dict()) if isinstance(shown, charts.Explorer) else ():
            for text, colour in zip(scale["domain"], scale["range"], strict=True):
                assert text not in by_label or colour == styles.colour(by_label[text]), f"{study}: {text}"
                seen += text in by_label
    package = Path(importlib.import_module(f"sslnb.studies.{study}").__file__).parent
    assert seen or "charts.colours(" not in "".join(path.read_text() for path in package.glob("*explorers.py"))


def _scales(part: object) -> Iterator[dict]:
    if isinstance(part, dict):
        if {"domain", "range"} <= part.keys():
            yield part
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        yield from _scales(inner)


def test_every_objective_has_a_marker_and_a_colour_of_its_own_that_can_be_told_from_the_others() -> None:
    names = [*OBJECTIVES, "untrained", "pixels", "encoder", "supervised_matched", "supervised_simclr_views"]
    colours = {name: styles.colour(name) for name in names}
    assert len(set(colours.values())) == len(names)
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours.values()], float)
    apart = np.linalg.norm(rgb[:, None] - rgb[None], axis=2) + 1000 * np.eye(len(rgb))
    assert apart.min() > 30
    assert len({styles.marker(name) for name in names}) == len(names)


def test_variants_look_like_their_objective_and_others_have_a_look_too() -> None:
    assert styles.colour("simclr-b128") == styles.colour("simclr") and styles.marker("simclr-b128") == styles.marker(
        "simclr"
    )
    assert styles.colour("something new").startswith("#") and styles.marker("something new")
