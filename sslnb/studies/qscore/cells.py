"""Cells of the study's datasets: an encoder on a set, as ``objective``, ``seed`` and ``dataset``."""

from sslnb.studies.qscore.encoders import Judged
from sslnb.studies.study import Context

KEY = ("objective", "seed", "dataset")
Cell = tuple[str, int, str]


def shared(context: Context, **more: object) -> dict[str, object]:
    """Coordinates of a dataset with these dimensions, and more."""
    return context.coordinates() | {"dataset": list(context.parameters.datasets)} | more


def at_of(cell: Cell) -> dict[str, object]:
    """Where a cell is, for ``.loc`` and ``.sel``."""
    return dict(zip(KEY, cell, strict=True))


def judged_of(context: Context) -> dict[Cell, Judged]:
    """What the first step has left of every cell."""
    return context.memory["judged"]
