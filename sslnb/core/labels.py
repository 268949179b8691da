"""How methods, norms and data sets are called in figures and tables."""

from sslnb.objectives.registry import OBJECTIVES

NORM_LABELS = {"l1": "$\\ell_1$", "l2": "$\\ell_2$", "linf": "$\\ell_\\infty$"}


METHOD_LABELS = {kind.name: kind.label for kind in OBJECTIVES.values()} | {
    "random": "Random weights",
    "encoder": "Given encoder",
    "pixels": "Raw pixels",
}


def label(method: str) -> str:
    """How a method is called in figures and tables."""
    return METHOD_LABELS.get(method, method)


def short(dataset: str) -> str:
    """A data set's name for an axis: its parameters on a second line."""
    return dataset.replace(":", ":\n")


NORMS = {"l1": "$\\ell_1$", "l2": "$\\ell_2$", "linf": "$\\ell_\\infty$"}


SCALES = {"unit_norm": "unit norm", "unit_variance": "unit variance"}


def brief(dataset: str) -> str:
    """A generated set's parameters alone: what tells it from the others."""
    return dataset.partition(":")[2] or dataset


NORM_NAMES = {"l1": "l1", "l2": "l2", "linf": "l∞"}
