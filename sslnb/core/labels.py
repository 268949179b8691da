"""How methods, norms and data sets are called in figures, tables and claims."""

# Objectives add their own when they are registered.
METHOD_LABELS = {
    "untrained": "Untrained",
    "encoder": "Given encoder",
    "pixels": "Raw pixels",
    "labels": "One-hot labels",
    "robust": "Supervised, robust",
    "supervised_matched": "Supervised, as accurate",
}
# Controls of every comparison of self-supervised with supervised encoders, as a claim's page names them.
CONTROLS = {"supervised_simclr_views": "supervised on SimCLR's views", "supervised_matched": "supervised, as accurate"}
NORM_LABELS = {"l1": "$\\ell_1$", "l2": "$\\ell_2$", "linf": "$\\ell_\\infty$"}
NORM_NAMES = {"l1": "l1", "l2": "l2", "linf": "l∞"}  # where there is no mathematics: widgets, alternative texts
SCALE_LABELS = {"unit_norm": "unit norm", "unit_variance": "unit variance"}

# Scores that predict which images a probe gets right.
PREDICTOR_LABELS = {"qscore": "Q-Score", "norm": "norm", "max": "greatest activation"} | {
    "neighbour": "nearest neighbour",
    "confidence": "probe's confidence",
    "density": "density",
    "agreement": "agreement of views",
    "view_confidence": "confidence over views",
    "random": "random order",
}


def label(method: str) -> str:
    """How a method is called in figures and tables."""
    return METHOD_LABELS.get(method, method)


def short(dataset: str) -> str:
    """A data set's name for an axis: its parameters on a second line."""
    return dataset.replace(":", ":\n")


def brief(dataset: str) -> str:
    """A generated set's parameters alone: what tells it from the others."""
    return dataset.partition(":")[2] or dataset
