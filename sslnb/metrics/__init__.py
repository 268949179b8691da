"""What is measured on encoders, features and predictions: tensors in, tensors out."""

from sslnb.metrics.attacks import fgsm, pgd
from sslnb.metrics.cka import CKAMatrix, cka_matrix, linear_cka
from sslnb.metrics.heatmaps import feature_heatmaps, mask_iou
from sslnb.metrics.labelfree import rankme
from sslnb.metrics.margins import EffectiveAccuracy, effective_accuracy, margins, robust_accuracy
from sslnb.metrics.qscore import activation_rate, discriminative, highly_activating, q_score, q_score_penalty
from sslnb.metrics.surface import LossSurface, loss_surface
from sslnb.metrics.trajectory import InPCA, bhattacharyya, inpca, progress

__all__ = [
    "CKAMatrix",
    "EffectiveAccuracy",
    "InPCA",
    "LossSurface",
    "activation_rate",
    "bhattacharyya",
    "cka_matrix",
    "discriminative",
    "effective_accuracy",
    "feature_heatmaps",
    "fgsm",
    "highly_activating",
    "inpca",
    "linear_cka",
    "loss_surface",
    "margins",
    "mask_iou",
    "pgd",
    "progress",
    "q_score",
    "q_score_penalty",
    "rankme",
    "robust_accuracy",
]
