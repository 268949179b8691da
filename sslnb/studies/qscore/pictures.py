"""What the study of representation quality keeps to be drawn: examples, curves, overlaps of heatmaps with masks."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import AgglomerativeClustering
from sklearn.decomposition import PCA
from torch import Tensor

from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import Encoder
from sslnb.features import prediction
from sslnb.metrics import activations, qscore
from sslnb.metrics.heatmaps import direction_heatmaps, mask_iou
from sslnb.studies.measures import features_of
from sslnb.studies.qscore.encoders import Judged, active, band

EXAMPLES, TOP = 4, 4  # features that are shown of each group, and the test images that activate each most
FEATURES = 40  # discriminative features whose mean activations are kept
SAMPLES = 3  # right ones whose heatmaps are shown, and as many wrong ones
GROUPS = 8  # of features that activate together
KINDS = ("discriminative", "regularized", "group", "pca", "lowly")


@dataclass(frozen=True)
class Look:
    """How heatmaps are made: of which layer, and what counts as highly activating and discriminative."""

    layer: str
    epsilon: float
    low: float
    high: float
    otherwise: str | None = None  # the layer of an encoder that has none of that name

    def layers(self, encoder: Encoder) -> list[str]:
        return layers(encoder, self.layer, self.otherwise)


def layers(encoder: Encoder, name: str, otherwise: str | None = None) -> list[str]:
    """The layers of that name: the encoder's own, or those of both its colour streams; else the other one, or none."""
    paths = dict(encoder.named_modules())
    named = [path for prefix in ("", "first.", "second.", "model.") if (path := f"{prefix}{name}") in paths]
    return named or [path for path in (otherwise,) if path in paths]


def _directed(encoder: Encoder, images: ImageSet | Tensor, along: Tensor, p: Look) -> Tensor:
    """Heatmaps [N,H,W] of directions in feature space, both streams of an encoder of colours together."""
    return sum(direction_heatmaps(encoder, images, along, layer=layer) for layer in p.layers(encoder))


def _evenly(features: Tensor, count: int) -> Tensor:
    """At most so many, evenly spread."""
    return features[torch.linspace(0, len(features) - 1, min(count, len(features))).round().long()]


def of_features(encoder: Encoder, judged: Judged, test: ImageSet, p: Look) -> dict[str, np.ndarray]:
    """Features below, within and above the band: top images, their heatmaps, and each class's share.

    In ascending order of their rates; those that are never highly activating are left out.
    """
    if judged.mask is None:
        return {}
    order = judged.rate.argsort(stable=True)
    least, most = judged.rate[judged.mask].min(), judged.rate[judged.mask].max()
    rate = judged.rate[order]
    groups = (rate > 0) & (rate < least), judged.mask[order], rate > most
    chosen = [_evenly(order[group], EXAMPLES) for group in groups]
    group = torch.cat([torch.full((len(part),), g) for g, part in enumerate(chosen)])
    chosen = torch.cat(chosen)
    h = F.normalize(judged.features["test"], dim=1)
    rates = activations.class_rates(judged.features["test"], test.labels, len(test.classes), p.epsilon)
    images, heat, labels = [], [], []
    for feature in chosen.tolist():
        top = h[:, feature].topk(min(TOP, len(h))).indices
        direction = F.one_hot(torch.tensor(feature), h.shape[1]).float()
        images.append(test.images[top])
        heat.append(_directed(encoder, test.images[top], direction, p).half())
        labels.append(test.labels[top])
    facts = {"feature": chosen, "rate": judged.rate[chosen], "group": group, "class_rates": rates[chosen]}
    facts |= {"image": torch.stack(images), "heat": torch.stack(heat), "label": torch.stack(labels)}
    return {f"example_{name}": value.numpy() for name, value in facts.items()}


def for_explorer(judged: Judged, limit: int) -> dict[str, np.ndarray]:
    """Test features, in half precision, with which of them were classified rightly; rates need no others there."""
    return {
        "explorer_features": judged.features["test"][:limit].half().numpy(),
        "explorer_right": judged.right[:limit].numpy(),
    }


def by_class(judged: Judged, test: ImageSet) -> np.ndarray:
    """Mean activations [right or wrong, class, feature] of discriminative features of unit-length samples."""
    features = torch.zeros(0, dtype=torch.long) if judged.mask is None else judged.mask.nonzero().flatten()[:FEATURES]
    h = F.normalize(judged.features["test"], dim=1)[:, features]
    averages = np.full((2, len(test.classes), len(features)), np.nan)
    for o, chosen in enumerate((judged.right, ~judged.right) if judged.usable else ()):
        for k in range(len(test.classes)):
            members = chosen & (test.labels == k)
            if members.any():
                averages[o, k] = h[members].mean(0).numpy()
    return averages


def curves(score: Tensor, right: Tensor, grid: np.ndarray) -> np.ndarray:
    """True positive rate at false positive rates, and precision at recalls, both [len(grid)]."""
    points = prediction.curves(score.numpy(), right.numpy())
    recall, precision = points["recall"][::-1], points["precision"][::-1]
    reached = np.searchsorted(recall, grid).clip(max=len(recall) - 1)  # between its points the curve has steps
    return np.stack([np.interp(grid, points["fpr"], points["tpr"]), precision[reached]])


def _heat(encoder: Encoder, judged: Judged, images: ImageSet, p: Look) -> tuple[Tensor, Tensor]:
    """Heatmaps [N,H,W] of each image's own discriminative features, and whether the probe is right [N]."""
    h = features_of(encoder, images)
    highly = qscore.highly_activating(h, p.epsilon) & judged.mask
    heat = _directed(encoder, images, highly.float(), p)
    return heat, judged.probe.predict(judged.standardizer.transform(h)) == images.labels


def overlap(encoder: Encoder, judged: Judged, images: ImageSet, p: Look) -> tuple[np.ndarray, float]:
    """Mean overlap [core or spurious, right or wrong] of discriminative heatmaps with masks and with their complements.

    Besides, core minus spurious over all images, less what it would be if the heat lay evenly: twice the mean of the
    heat on the object beyond the object's share of the area. Over images whose heatmap has heat and whose mask is
    neither empty nor full; NaN where there are none.
    """
    overlaps, lift = np.full((2, 2), np.nan), np.nan
    if not judged.usable:
        return overlaps, lift
    heat, right = _heat(encoder, judged, images, p)
    usable = (heat.flatten(1).sum(1) > 0) & images.masks.flatten(1).any(1) & ~images.masks.flatten(1).all(1)
    if usable.any():
        area = images.masks[usable].flatten(1).double().mean(1)
        lift = 2 * float((mask_iou(heat[usable], images.masks[usable]).double() - area).mean())
    for o, chosen in enumerate((right, ~right)):
        chosen = chosen & usable
        if chosen.any():
            for k, masks in enumerate((images.masks, ~images.masks)):
                overlaps[k, o] = float(mask_iou(heat[chosen], masks[chosen]).mean())
    return overlaps, lift


def shifted(encoder: Encoder, judged: Judged, test: ImageSet, epsilon: float) -> np.ndarray:
    """Accuracy, mean Q-Score and its AUROC on another test split of the same classes."""
    if not judged.usable:
        return np.full(3, np.nan)
    h = features_of(encoder, test)
    right = judged.probe.predict(judged.standardizer.transform(h)) == test.labels
    score = qscore.q_score(h, judged.mask, epsilon)
    area = prediction.auroc(score.numpy(), right.numpy())
    return np.array([float(right.double().mean()), float(score.mean()), area])


def of_samples(
    before: tuple[Encoder, Judged], after: tuple[Encoder, Judged] | None, test: ImageSet, p: Look
) -> dict[str, np.ndarray]:
    """Heatmaps [sample, kind, H, W] of a few right samples and as many wrong ones (figures 5, A.4, A.6, A.11).

    Of an encoder before and after regularization. Kinds: the sample's discriminative features before and after; the
    group of features that activates most in it; its highly activating discriminative principal components; the
    discriminative feature that activates least.
    """
    encoder, judged = before
    if not judged.usable:
        return {}
    on = active(judged, p.epsilon).any(1)
    rows = [(chosen & on).nonzero().flatten()[:SAMPLES] for chosen in (judged.right, ~judged.right)]
    rows = torch.cat(rows)
    if not len(rows):
        return {}
    images, h = test.subset(rows), judged.features["test"][rows]
    directions = {
        "discriminative": active(judged, p.epsilon)[rows].float(),
        "group": _strongest(_groups(judged), judged, h),
        "pca": _components(judged, h, p),
        "lowly": _lowest(judged, h),
    }
    maps = {kind: _directed(encoder, images, along, p) for kind, along in directions.items()}
    maps["regularized"] = torch.full_like(maps["discriminative"], torch.nan)
    if after is not None and after[1].mask is not None:
        maps["regularized"], _ = _heat(*after, images, p)
    return {
        "sample_image": images.images.numpy(),
        "sample_label": images.labels.numpy(),
        "sample_right": judged.right[rows].numpy(),
        "sample_heat": torch.stack([maps[kind] for kind in KINDS], 1).half().numpy(),
    }


def _groups(judged: Judged) -> Tensor:
    """Indicators [group, d] of discriminative features that activate in the same training samples."""
    features = judged.mask.nonzero().flatten()
    if len(features) <= GROUPS:
        return F.one_hot(features, len(judged.mask)).float()
    h = F.normalize(judged.features["train"], dim=1)[:, features]
    distance = 1 - torch.corrcoef(h.T).nan_to_num(0.0)
    settings = {"metric": "precomputed", "linkage": "average"}
    group = AgglomerativeClustering(GROUPS, **settings).fit_predict(distance.clamp(min=0).numpy())
    groups = torch.zeros(GROUPS, len(judged.mask))
    groups[torch.from_numpy(group), features] = 1.0
    return groups


def _strongest(groups: Tensor, judged: Judged, h: Tensor) -> Tensor:
    """The group [N,d] whose mean activation is the greatest in each sample, by its own standard on the training set."""
    means = [F.normalize(part, dim=1) @ groups.T / groups.sum(1) for part in (judged.features["train"], h)]
    return groups[((means[1] - means[0].mean(0)) / means[0].std(0).clamp(min=1e-12)).argmax(1)]


def _components(judged: Judged, h: Tensor, p: Look) -> Tensor:
    """Sum [N,d] of the discriminative principal components that are highly activating in each sample."""
    train = F.normalize(judged.features["train"], dim=1)
    pca = PCA().fit(train.numpy())
    scores = [torch.from_numpy(pca.transform(part.numpy())) for part in (train, F.normalize(h, dim=1))]
    mask, _ = band(qscore.activation_rate(scores[0], p.epsilon), p.low, p.high)
    if mask is None:  # few components stand out anywhere
        return torch.zeros_like(h)
    highly = qscore.highly_activating(scores[1], p.epsilon) & mask
    return highly.float() @ torch.from_numpy(pca.components_).float()


def _lowest(judged: Judged, h: Tensor) -> Tensor:
    """Indicator [N,d] of the discriminative feature that activates least in each sample, but does."""
    outside = torch.where(judged.mask & (h > 0), h, torch.inf)
    return F.one_hot(outside.argmin(1), h.shape[1]).float()
