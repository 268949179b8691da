"""What the study of representation quality makes of an encoder: features, a probe, scores; and training it on."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from sslnb.data.images import ImageSet, at_most
from sslnb.encoders.encoder import Encoder
from sslnb.features import prediction
from sslnb.features.linear import LinearProbe, LinearProbeGrid
from sslnb.features.standardize import Standardizer
from sslnb.metrics import qscore
from sslnb.metrics.activations import subsets
from sslnb.studies.measures import features_of
from sslnb.studies.qscore.parameters import CANDIDATES, MOST_EMPTY, QScoreParameters
from sslnb.studies.study import Context
from sslnb.training.cache import cached_pretrain
from sslnb.training.penalty import Penalty

VARIANTS = ("plain", "lasso", "qscore")  # what training on adds to the loss
SUBSETS = ("discriminative", "random", "pca", "lower", "upper")  # which features a probe keeps
EPSILON_IMAGES = 2000  # of the pool's training images, by which epsilon is chosen


@dataclass(frozen=True)
class Judged:
    """Features of a data set, their activation rates, and a linear probe's success on the test split.

    ``mask`` holds the discriminative features; None where no feature qualifies, and ``missing`` says why.
    """

    features: dict[str, Tensor]
    standardizer: Standardizer
    probe: LinearProbe
    right: Tensor  # bool [N]
    confidence: Tensor  # greatest probability [N]
    rate: Tensor  # [d] in percent, on the training split
    mask: Tensor | None
    missing: str | None

    @property
    def usable(self) -> bool:
        """Whether there is a score, and a probe whose success it could predict."""
        return self.mask is not None and self.probe.converged

    @property
    def accuracy(self) -> float:
        """On the test split; NaN where the probe did not converge."""
        return float(self.right.double().mean()) if self.probe.converged else math.nan

    def standardized(self, split: str) -> Tensor:
        return self.standardizer.transform(self.features[split])


def splits(context: Context, dataset: str) -> dict[str, ImageSet]:
    """What probes train on, are chosen on and are judged by."""
    return context.splits(dataset, val=context.parameters.probe_limit)


def epsilon(context: Context) -> float:
    """The threshold that was asked for, or the greatest candidate at which few images have nothing above it.

    One for all encoders, however few are measured, from training images of the pool: labels and test images are not
    looked at.
    """
    if context.parameters.epsilon is not None:
        return context.parameters.epsilon
    if "epsilon" not in context.memory:
        images = at_most(context.pool.images(), EPSILON_IMAGES)
        features = [features_of(context.encoder(*name), images) for name in context.members]
        empty = {
            value: np.mean([float((~qscore.highly_activating(h, value).any(1)).double().mean()) for h in features])
            for value in CANDIDATES
        }
        few = [value for value in CANDIDATES if empty[value] <= MOST_EMPTY]
        context.memory["epsilon"] = few[0] if few else CANDIDATES[-1]
    return context.memory["epsilon"]


def judge(
    context: Context,
    name: str,
    encoder: Encoder,
    sets: dict[str, ImageSet],
    seed: int,
    like: LinearProbe | None = None,
) -> Judged:
    """Probe an encoder; learning rate and weight decay chosen on the validation split, or those of ``like``.

    What can't be used is noted under the ``name``.
    """
    p = context.parameters
    raw = {split: features_of(encoder, images) for split, images in sets.items()}
    standardizer = Standardizer("unit_variance").fit(raw["train"])
    x = {split: standardizer.transform(h) for split, h in raw.items()}
    chosen = {"learning_rates": (like.learning_rate,), "weight_decays": (like.weight_decay,)} if like else {}
    grid = LinearProbeGrid(epochs=p.probe_epochs, seed=seed, **chosen)
    probe = grid.fit(x["train"], sets["train"].labels, x["val"], sets["val"].labels)
    believed = probe(x["test"]).softmax(1)
    rate = qscore.activation_rate(raw["train"], epsilon(context))
    mask, missing = band(rate, p.low, p.high)
    confidence, predicted = believed.max(1)
    right = predicted == sets["test"].labels
    if not probe.converged:
        context.note(f"{name}: the linear probe does not beat chance on the validation split")
    if missing:
        context.note(f"{name}: no discriminative features: {missing}")
    return Judged(raw, standardizer, probe, right, confidence, rate, mask, missing)


def on_subsets(p: QScoreParameters, judged: Judged, sets: dict[str, ImageSet], seed: int) -> np.ndarray:
    """Test accuracies [subset, share] of probes on shares of the features, all of an encoder's trained at once.

    PCA keeps the first components of the standardized training features, not whitened: all of them are then as good as
    all features.
    """
    n = len(p.shares)
    x = {split: judged.standardized(split) for split in ("train", "test")}
    masks_of = [subsets(judged.rate, share, random=p.random_subsets, seed=seed) for share in p.shares]
    masks = [torch.stack([each[name] for each in masks_of]) for name in ("discriminative", "lower", "upper")]
    masks = torch.cat([*masks, *(each["random"] for each in masks_of)])
    own = _accuracies(p, judged, x, masks, sets, seed)
    pca = PCA().fit(x["train"].numpy())
    turned = {split: torch.from_numpy(pca.transform(part.numpy())) for split, part in x.items()}
    order = torch.arange(turned["train"].shape[1])
    first = torch.stack([order < int(each["lower"].sum()) for each in masks_of])
    accuracy = {
        "discriminative": own[:n],
        "lower": own[n : 2 * n],
        "upper": own[2 * n : 3 * n],
        "random": own[3 * n :].reshape(n, p.random_subsets).mean(1),
        "pca": _accuracies(p, judged, turned, first, sets, seed),
    }
    return np.stack([accuracy[name] for name in SUBSETS])


def _accuracies(
    p: QScoreParameters, judged: Judged, x: dict[str, Tensor], masks: Tensor, sets: dict[str, ImageSet], seed: int
) -> np.ndarray:
    """Of probes on masked features [G,d], with the learning rate and decay that were chosen for all features."""
    grid, classes = LinearProbeGrid(epochs=p.probe_epochs, seed=seed), len(sets["train"].classes)
    rates, decays = (torch.full((len(masks),), v) for v in (judged.probe.learning_rate, judged.probe.weight_decay))
    weights = grid.train(x["train"], sets["train"].labels, rates, decays, classes, masks)
    return grid.scores(*weights, x["test"], sets["test"].labels).numpy()


def further(context: Context, objective: str, seed: int, rate: float, penalty: Penalty | None) -> Encoder | None:
    """An encoder of the pool trained on with its own objective and a new head; None where that went wrong.

    Pools hold encoders without heads: all that are compared begin with the same new one.
    """
    member, steps = context.pool.scale.member(f"{objective}/{seed}"), context.parameters.further_steps
    images = member.images()
    epochs = math.ceil(steps / (len(images) // min(member.config.batch_size, len(images))))
    config = dataclasses.replace(member.config, epochs=epochs, steps=steps, learning_rate=rate)
    run = cached_pretrain(config, images, initial=context.encoder(objective, seed), penalty=penalty)
    if run.reason:
        context.note(f"{objective}, seed {seed}, {trained_on(rate, penalty)}: {run.reason}")
    return run.encoder.eval() if run.converged else None


def penalty_of(context: Context, variant: str, mask: Tensor | None) -> Penalty | None:
    """What a variant adds to the loss, with the study's weights; None for none."""
    p = context.parameters
    return None if variant == "plain" else Penalty(variant, mask, p.weight, p.norm_weight, epsilon(context))


def band(rate: Tensor, low: float, high: float) -> tuple[Tensor | None, str | None]:
    """The discriminative features of rates, or why there are none."""
    try:
        return qscore.discriminative(rate, low, high), None
    except ValueError as error:
        return None, str(error)


@dataclass(frozen=True)
class Rescored:
    """Q-Scores [N] at some ε and band, how well they predict the right samples, and how many features they rest on."""

    score: np.ndarray
    auroc: float
    features: int


def rescored(features: Tensor, right: np.ndarray, epsilon: float, low: float, high: float) -> Rescored:
    """Q-Scores of features [N,d] anew; noughts where no feature is highly activating, or none lies in the band."""
    mask, _ = band(qscore.activation_rate(features, epsilon), low, high)
    if mask is None:
        return Rescored(np.zeros(len(right)), math.nan, 0)
    score = qscore.q_score(features, mask, epsilon).numpy()
    return Rescored(score, prediction.auroc(score, right), int(mask.sum()))


def trained_on(rate: float, penalty: Penalty | None) -> str:
    """How an encoder was trained on, in words."""
    what = "plain" if penalty is None else f"{penalty.kind} {penalty.weight:g}, {penalty.norm_weight:g}"
    return f"trained on at {rate:g}, {what}"


def active(judged: Judged, epsilon: float) -> Tensor:
    """L_i ∩ D of the test samples, bool [N,d]; nothing where there are no discriminative features."""
    highly = qscore.highly_activating(judged.features["test"], epsilon)
    return highly & (torch.zeros(highly.shape[1], dtype=torch.bool) if judged.mask is None else judged.mask)
