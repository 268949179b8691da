"""How each objective looks, the same in every figure: its colour and its marker."""

from sslnb.core.labels import METHOD_LABELS
from sslnb.objectives.objective import Objective
from sslnb.objectives.registry import OBJECTIVES
from sslnb.report.panels import MARKERS

# What is no objective: controls close to the supervised colour, floors in grey, the user's own as no other.
_OTHERS = {
    "supervised_simclr_views": "#F0A378",
    "supervised_matched": "#8C3F00",
    "robust": "#B8860B",
    "untrained": "#767676",
    "pixels": "#A6A6A6",
    "labels": "#A6A6A6",
    "encoder": "#F0027F",
}


def colour(name: str) -> str:
    """The colour of an objective, a control, or a variant of one, such as simclr-b128."""
    known = OBJECTIVES.get(name) or OBJECTIVES.get(name.partition("-")[0])
    return _OTHERS.get(name) or (known or Objective).colour


def marker(name: str) -> str:
    """The marker, by the order of all names; the twelve repeat, with another colour."""
    names = [*OBJECTIVES, *(other for other in METHOD_LABELS if other not in OBJECTIVES)]
    base = name if name in names else name.partition("-")[0]
    return MARKERS[names.index(base) % len(MARKERS)] if base in names else MARKERS[-1]
