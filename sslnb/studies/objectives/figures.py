"""Figures of the page on training objectives: curves of every objective's training."""

import numpy as np
from matplotlib.figure import Figure

from sslnb.core import labels
from sslnb.core.flat import Result
from sslnb.report import history
from sslnb.training.loop import HISTORY


def curves(result: Result) -> Figure:
    """Loss, kNN and linear accuracy during training (first seed), a panel per objective."""
    histories = {}
    for m, method in enumerate(result.scalars["methods"]):
        length = int(np.isfinite(result.arrays["loss"][m, 0]).sum())
        histories[labels.label(method)] = {name: result.arrays[name][m, 0, :length] for name in HISTORY}
    return history.training_history(histories)
