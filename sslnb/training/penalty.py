"""Penalties on what an encoder gives, added to the loss of an objective that goes on training it.

Kalibhat et al. 2024 (Q-Score), section "Q-Score Regularization": equation 3, and the lasso that it is compared with.
"""

import dataclasses
import hashlib

import torch
from torch import Tensor, nn

from sslnb.core.checks import expect, expect_known, expect_shape
from sslnb.core.distributed import gather
from sslnb.features.extract import watching
from sslnb.metrics.qscore import q_score_penalty

PENALTIES = ("lasso", "qscore")


def lasso_penalty(h: Tensor, *, weight: float = 1e-4) -> Tensor:
    """weight · Σ_k ‖H_k‖₁ over the columns of features h [N,d], their rows scaled to unit length; scalar float32."""
    expect_shape(h, "h", "N", "d")
    expect(weight >= 0, "weight", "a value of at least 0", weight)
    return weight * nn.functional.normalize(h.float(), dim=1).abs().sum()


@dataclasses.dataclass(frozen=True)
class Penalty:
    """A penalty on features [N,d]: ``lasso``, or ``qscore`` of the discriminative features ``mask`` [d].

    Lasso weighs the columns' l1 norms by ``norm_weight``, as the Q-Score penalty weighs those above their mean.
    """

    kind: str
    mask: Tensor | None = None
    weight: float = 1e-4
    norm_weight: float = 1e-4
    epsilon: float = 4.0

    def __post_init__(self) -> None:
        expect_known(self.kind, PENALTIES, "kind")
        needed = self.kind == "lasso" or self.mask is not None
        expect(needed, "mask", "the discriminative features, for the penalty 'qscore'", None)

    def __call__(self, h: Tensor) -> Tensor:
        if self.kind == "lasso":
            return lasso_penalty(h, weight=self.norm_weight)
        settings = {"weight": self.weight, "norm_weight": self.norm_weight, "epsilon": self.epsilon}
        return q_score_penalty(h, self.mask, **settings)

    def to(self, on: torch.device) -> "Penalty":
        """The same, with its mask on a device."""
        return dataclasses.replace(self, mask=None if self.mask is None else self.mask.to(on))

    def facts(self) -> dict[str, object]:
        """Plain values that tell it from others."""
        mask = "" if self.mask is None else hashlib.sha256(self.mask.cpu().numpy().tobytes()).hexdigest()
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)} | {"mask": mask}


class Regularized(nn.Module):
    """An objective's loss plus a penalty on all features that its encoder gives in training mode.

    Momentum encoders are copies, and not seen; neither are passes in evaluation mode, as attacks make them.
    """

    def __init__(self, objective: nn.Module, penalty: Penalty) -> None:
        super().__init__()
        self.objective, self.penalty = objective, penalty

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        encoder, outputs = self.objective.encoder, list[Tensor]()

        def keep(_name: str, features: Tensor) -> None:
            if encoder.training and features.requires_grad:
                outputs.append(features)

        with watching(encoder, [""], keep):
            loss = self.objective(views, labels, index)
        with torch.autocast(loss.device.type, enabled=False):
            h = gather(torch.cat(outputs).float())  # the penalty is one of the joint batch, as the loss is
            # Where the features are not finite neither is the loss: the training loop says so.
            return loss + self.penalty(h) if bool(torch.isfinite(h).all()) else loss
