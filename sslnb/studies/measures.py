"""What is measured of an encoder as one number: names, words and direction; and how to take each of one encoder.

Studies hand their numbers over by these names (``Study.measures``), so that those of several studies can be joined.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sslnb.core import device
from sslnb.core.seeds import seeded
from sslnb.data import ImageSet
from sslnb.data.images import stratified
from sslnb.encoders.encoder import Encoder
from sslnb.features import LinearProbe, LinearProbeGrid, Standardizer, extract, knn_predict
from sslnb.features.extract import as_float
from sslnb.features.heads import train_heads
from sslnb.features.prediction import auroc
from sslnb.features.scores import top1
from sslnb.metrics import (
    alignment,
    attacks,
    cluster_learnability,
    effective_accuracy,
    feature_deviation,
    intrinsic_dimension,
    knn_agreement,
    lidar,
    linear_cka,
    margins,
    mean_q_score,
    neural_collapse,
    progress,
    robust_accuracy,
    spectral,
    uniformity,
)
from sslnb.metrics.activations import sample_scores
from sslnb.metrics.curvature import rises
from sslnb.metrics.qscore import activation_rate, discriminative
from sslnb.training.finetune import Classifier, with_head
from sslnb.views.augment import Augmentation

NORMS = {"l1": 1, "l2": 2, "linf": math.inf}
FEATURE_BUDGETS = {"l2": 5.0, "linf": 0.1}  # on features of unit variance: Sehwag et al.'s largest, section 3.2
PIXEL_BUDGETS = (0, 1, 2, 4, 8)  # of 255; 8 is the largest that attacks on CIFAR-10 usually have
FEW_LABELS = 0.1  # share of the training images
CURVE_POINTS = 201  # budgets at which the exact curve is taken
RADIUS, DIRECTIONS = 0.25, 5  # of the rise of the loss; the chapter on contrastive geometry draws more directions
EPSILON = 3.0  # of highly activating features, between the paper's 4 and what the narrow networks of the pool need


def _greater(value: float) -> float:
    return value


def _less(value: float) -> float:
    return -value


def _near_one(value: float) -> float:
    return -abs(value - 1)


@dataclass(frozen=True)
class Measure:
    """A number that an encoder gets. ``preference`` rises with what its source calls better."""

    name: str
    label: str
    kind: str  # what it says something about
    preference: Callable[[float], float] = _greater
    share: bool = False  # written in percent
    needs_labels: bool = True


def _label_free(name: str, label: str, preference: Callable[[float], float] = _greater, **more: object) -> Measure:
    return Measure(name, label, "label-free", preference, needs_labels=False, **more)


MEASURES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("accuracy", "Linear accuracy", "accuracy", share=True),
        Measure("knn", "kNN accuracy", "accuracy", share=True),
        Measure("few_labels", "Accuracy with few labels", "accuracy", share=True),  # a tenth of the training images
        Measure("transfer", "Transfer accuracy", "accuracy", share=True),  # mean linear accuracy on other sets
        Measure("margin", "Mean margin", "separability"),  # l2, of features of unit variance
        Measure("norm_auc", "norm-AUC", "separability"),  # mean over l2 and l∞
        Measure("effective", "Effective accuracy", "separability", share=True),
        Measure("qscore_auroc", "AUROC of the Q-Score", "Q-Score"),
        Measure("cka_supervised", "CKA to supervised", "layers"),
        Measure("progress", "Progress t_w", "geometry"),
        Measure("rise", "Rise of the loss", "geometry", _less),
        Measure("fgsm", "Kept under FGSM", "robustness", share=True),  # of the clean accuracy, mean over budgets
        Measure("pgd", "Kept under PGD", "robustness", share=True),
        Measure("nc1", "Variability NC1", "collapse", _less),
        # Which values are better is what each one's paper says; α-ReQ's calls 1 best.
        _label_free("rankme", "RankMe"),
        _label_free("alpha_req", "α-ReQ", _near_one),
        _label_free("nesum", "NESum"),
        _label_free("lidar", "LiDAR"),
        _label_free("uniformity", "Uniformity", _less),
        _label_free("alignment", "Alignment", _less),
        _label_free("learnability", "Cluster learnability"),  # the two parts of CLID
        _label_free("dimension", "Intrinsic dimension"),
        _label_free("knn_agreement", "kNN agreement of views", share=True),
        _label_free("mean_q_score", "Mean Q-Score"),
        _label_free("deviation", "Feature deviation"),
        _label_free("loss", "Training loss", _less),  # of one run at different steps: each objective has its own unit
    )
}


def preferred(name: str, values: np.ndarray) -> np.ndarray:
    """A measure's values turned so that more is better."""
    return np.vectorize(MEASURES[name].preference, otypes=[float])(values)


def turned(values: xr.DataArray) -> xr.DataArray:
    """Values with a dimension ``measure``, each measure's turned so that more is better."""
    values = values.transpose("measure", ...)
    rows = [preferred(str(name), row) for name, row in zip(values.measure.values, values.values, strict=True)]
    return values.copy(data=np.stack(rows))


def turned_means(values: xr.DataArray) -> xr.DataArray:
    """The same, means over seeds: turned first, as α-ReQ's best value is between those of two seeds."""
    return turned(values).mean("seed")


def colour_view(crop_scale: float, flip: float, jitter_strength: float) -> Augmentation:
    """SimCLR's random view of images: crop, flip, colour jitter, greyscale."""
    s = jitter_strength
    jitter = (0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s)
    return Augmentation(scale=(crop_scale, 1.0), flip=flip, jitter=jitter, greyscale=0.2)


class Measured(NamedTuple):
    """Values by name, NaN where one is not defined, and the reason for each of those."""

    values: dict[str, float]
    undefined: dict[str, str]


def taken(**measures: Callable[[], float]) -> Measured:
    """Each measure's value; where one raises ``ValueError``, as on features that are all alike, NaN with its reason."""
    values, undefined = {}, {}
    for name, measure in measures.items():
        try:
            values[name] = float(measure())
            if math.isnan(values[name]):
                undefined[name] = "not a number"
        except ValueError as error:
            values[name], undefined[name] = math.nan, str(error)
    return Measured(values, undefined)


def joined(*parts: Measured) -> Measured:
    """All of several."""
    return Measured(*(functools.reduce(lambda a, b: a | b, (part[i] for part in parts)) for i in (0, 1)))


def features_of(encoder: Encoder, images: ImageSet | Tensor) -> Tensor:
    """Features [N,d] in the precision that the device computes well in."""
    on = device.best_device()
    return extract(encoder, images, device=on, precision=device.best_precision(on))


def drawn_views(images: Tensor, view: Augmentation, count: int) -> list[Tensor]:
    """Random views of uint8 images [N,C,H,W], as uint8: to be drawn once, the same for all encoders."""
    views = (view(images, seeded(0, v, images.device)) for v in range(count))
    return [(255 * pictures).round().byte() for pictures in views]


def views_of(encoder: Encoder, views: Sequence[Tensor]) -> Tensor:
    """Features [N,V,d] of V views of N images."""
    return torch.stack([features_of(encoder, view) for view in views], 1)


def label_free(h: Tensor, views: Tensor, epsilon: float = EPSILON) -> Measured:
    """Every measure that needs no label, of features h [N,d] of images, and [M,V,d] of V views of M images."""
    first, second = views[:, 0], views[:, 1]
    spectrum = functools.cache(lambda: spectral(h))
    return taken(
        rankme=lambda: spectrum().rankme,
        alpha_req=lambda: spectrum().alpha_req,
        nesum=lambda: spectrum().nesum,
        lidar=lambda: lidar(views),
        uniformity=lambda: uniformity(h),
        alignment=lambda: alignment(first, second),
        learnability=lambda: cluster_learnability(h),
        dimension=lambda: intrinsic_dimension(h),
        knn_agreement=lambda: knn_agreement(first, second),
        mean_q_score=lambda: mean_q_score(h, epsilon=epsilon),
        deviation=lambda: feature_deviation(h),
    )


@dataclass(frozen=True)
class Sets:
    """Features by split, and the labels of each."""

    features: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]

    @staticmethod
    def of(encoder: Encoder, sets: Mapping[str, ImageSet]) -> "Sets":
        features = {split: features_of(encoder, images) for split, images in sets.items()}
        return Sets(features, {split: images.labels for split, images in sets.items()})


@dataclass(frozen=True)
class Probed:
    """A linear probe of features of unit variance, those features of the test split, and what it gets right."""

    probe: LinearProbe
    test: Tensor
    right: Tensor  # bool [N]

    @staticmethod
    def of(sets: Sets, *, epochs: int, seed: int = 0) -> "Probed":
        scaled = Standardizer("unit_variance").fit(sets.features["train"]).transform
        z, y = {split: scaled(h) for split, h in sets.features.items()}, sets.labels
        probe = LinearProbeGrid(epochs=epochs, seed=seed).fit(z["train"], y["train"], z["val"], y["val"])
        return Probed(probe, z["test"], probe.predict(z["test"]) == y["test"])

    @property
    def accuracy(self) -> float:
        """NaN where the probe does not beat chance on the validation split."""
        return float(self.right.double().mean()) if self.probe.converged else math.nan

    def curve(self, norm: str, labels: Tensor, budgets: Tensor) -> Tensor:
        """Exact accuracy [B] on the test split when features are moved by each budget [B]."""
        return robust_accuracy(self.probe.weight, self.probe.bias, self.test, labels, budgets, p=NORMS[norm])


def with_labels(sets: Sets, fitted: Probed, epsilon: float = EPSILON) -> Measured:
    """What labels and a linear probe tell: accuracies, margins, robustness to moved features, the Q-Score's AUROC."""
    x, y = sets.features, sets.labels
    known = taken(
        knn=lambda: top1(knn_predict(x["train"], y["train"], x["test"]), y["test"]),
        nc1=lambda: neural_collapse(x["train"], y["train"]).nc1,
    )
    if not fitted.probe.converged:
        names = ("accuracy", "margin", "norm_auc", "effective", "qscore_auroc")
        reason = "the linear probe does not beat chance on the validation split"
        return joined(known, Measured(dict.fromkeys(names, math.nan), dict.fromkeys(names, reason)))
    classifier = fitted.probe.weight, fitted.probe.bias
    budgets = {norm: torch.linspace(0, largest, CURVE_POINTS) for norm, largest in FEATURE_BUDGETS.items()}
    areas = [effective_accuracy(fitted.curve(norm, y["test"], at), at) for norm, at in budgets.items()]
    return joined(
        known,
        taken(
            accuracy=lambda: fitted.accuracy,
            margin=lambda: margins(*classifier, fitted.test, p=2, labels=y["test"]).nanmean(),
            norm_auc=lambda: sum(area.norm_auc for area in areas) / len(areas),
            effective=lambda: sum(area.effective for area in areas) / len(areas),
            qscore_auroc=lambda: auroc(_q_scores(x, epsilon), fitted.right),
        ),
    )


def with_few_labels(sets: Sets, *, epochs: int, share: float = FEW_LABELS) -> Measured:
    """Accuracy of a probe on a share of the training images, each class in proportion and at least once."""
    labels = sets.labels["train"]
    few = stratified(labels, max(len(labels.unique()), round(share * len(labels))), seed=0)
    features, labels = ({**part, "train": part["train"][few]} for part in (sets.features, sets.labels))
    return taken(few_labels=lambda: Probed.of(Sets(features, labels), epochs=epochs).accuracy)


def _q_scores(features: Mapping[str, Tensor], epsilon: float) -> Tensor:
    mask = discriminative(activation_rate(features["train"], epsilon))
    return sample_scores(features["test"], features["train"], mask, epsilon)["qscore"]


@dataclass(frozen=True)
class Head:
    """A linear layer trained on raw features, as the classifier that it makes of the encoder, and its way there."""

    model: Classifier
    along: Tensor  # class probabilities [E+1,N,K] of the test images after each epoch
    labels: Tensor

    @staticmethod
    def trained(encoder: Encoder, sets: Sets, classes: int, *, epochs: int, seed: int = 0) -> "Head":
        """By SGD on the training split, as in the chapter on contrastive geometry."""
        train, labels = sets.features["train"][None], sets.labels["train"][None]
        heads = train_heads(train, labels, classes, epochs=epochs, seeds=[seed])
        along = heads.probabilities(sets.features["test"][None])[:, 0]
        return Head(with_head(encoder, heads.weight[-1, 0], heads.bias[-1, 0]), along, sets.labels["test"])


def through_the_network(head: Head, train: ImageSet, test: ImageSet, *, steps: int = 10) -> Measured:
    """What the whole classifier shows: progress to the truth, rise of the loss, accuracy kept under attacks.

    The rise is over training images, attacks are on test images; all that are given take part.
    """
    on = device.best_device()
    model = head.model.to(on)
    x, y = as_float(test.images).to(on), test.labels.to(on)
    budgets = [budget / 255 for budget in PIXEL_BUDGETS]
    generator = functools.partial(seeded, 0, 0)

    def kept(accuracy: Tensor) -> float:
        area = torch.trapezoid(accuracy, torch.tensor(budgets, dtype=accuracy.dtype)) / budgets[-1]
        return float(area / accuracy[0]) if accuracy[0] > 0 else math.nan

    def pgd() -> float:
        return kept(attacks.pgd_accuracy(model, x, y, budgets, steps=steps, generator=generator(on)))

    cpu = torch.device("cpu")
    # One point on either side is what the mean is of.
    settings = {"radius": RADIUS, "directions": DIRECTIONS, "points": 1, "generator": generator(cpu)}
    with device.autocast(on, device.best_precision(on)):
        attacked = taken(fgsm=lambda: kept(attacks.fgsm_accuracy(model, x, y, budgets)), pgd=pgd)
    return joined(
        taken(
            progress=lambda: progress(head.along[-1:], head.labels)[0],
            rise=lambda: rises(model, as_float(train.images).to(on), train.labels.to(on), **settings)[1],
        ),
        attacked,
    )


def similarity_to(reference: Tensor, h: Tensor) -> Measured:
    """CKA of features h [N,d] with those [N,d2] of a supervised encoder, of the same images; without bias."""
    return taken(cka_supervised=lambda: linear_cka(h, reference, unbiased=True))
