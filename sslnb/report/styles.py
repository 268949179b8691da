"""How each objective looks, the same in every figure: its colour and its marker."""

from sslnb.objectives.objective import Objective
from sslnb.objectives.registry import OBJECTIVES

# What is no objective: controls close to the supervised colour, floors in grey, the user's own as no other.
_OTHERS = {
    "supervised_simclr_views": ("#F0A378", "8"),
    "supervised_matched": ("#8C3F00", "H"),
    "robust": ("#B8860B", "1"),
    "untrained": ("#767676", "x"),
    "pixels": ("#A6A6A6", "+"),
    "labels": ("#A6A6A6", "_"),
    "encoder": ("#F0027F", "*"),
}


def colour(name: str) -> str:
    """The colour of an objective, a control, or a variant of one, such as simclr-b128."""
    return _look(name)[0]


def marker(name: str) -> str:
    """The marker of the same."""
    return _look(name)[1]


def _look(name: str) -> tuple[str, str]:
    known = OBJECTIVES.get(name) or OBJECTIVES.get(name.partition("-")[0]) or Objective
    return _OTHERS.get(name) or (known.colour, known.marker)
