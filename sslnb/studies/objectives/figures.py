"""Figures of the page on training objectives: curves of every objective's training."""

import numpy as np
from matplotlib.figure import Figure

from sslnb.core.labels import label
from sslnb.core.result import Result
from sslnb.pool.pool import MATCHED
from sslnb.report import history


def curves(result: Result) -> Figure:
    """Loss, kNN and linear accuracy during training (first seed), a panel per objective that was trained to its end."""
    data = result.data["pretraining"].isel(seed=0).drop_sel(objective=MATCHED, errors="ignore")
    histories = {}
    for name in data.objective.values:
        own = data.sel(objective=name)
        length = int(np.isfinite(own.loss.values).sum())
        if length:
            histories[label(name)] = {k: own[k].values[:length] for k in ("loss", "knn", "probe")}
    return history.training_history(histories)
