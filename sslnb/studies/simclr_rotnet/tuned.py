"""Fine-tuned classifiers, kept: an interrupted study goes on, and one more encoder costs its own share alone."""

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from sslnb.core import artifacts, device
from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import Encoder, weights_checksum
from sslnb.training.finetune import Classifier, fine_tune

LOSSES = "losses"  # beside the weights, whose names have a dot


def classifier(encoder: Encoder, images: ImageSet, **settings: float) -> Classifier | None:
    """:func:`fine_tune` with these settings, trained once; None where its loss stopped being finite."""
    on = device.best_device()

    def trained() -> Mapping[str, np.ndarray]:
        tuned = fine_tune(encoder, images, **settings)
        weights = {name: values.detach().cpu().numpy() for name, values in tuned.model.state_dict().items()}
        return {LOSSES: np.array(tuned.losses)} | weights

    where = [on.type, device.best_precision(on)]
    decides = {"encoder": weights_checksum(encoder), "images": images.checksum(), "on": where, **settings}
    kept = artifacts.once("tuned", trained, code=(fine_tune.__module__,), **decides)
    if not np.isfinite(kept.pop(LOSSES)).all():
        return None
    model = Classifier(copy.deepcopy(encoder), nn.Linear(encoder.feature_dim, len(images.classes)))
    model.load_state_dict({name: torch.from_numpy(values) for name, values in kept.items()})
    return model.to(on, memory_format=device.training_layout(model, on)).requires_grad_(False).eval()
