"""What is measured on encoders, features and predictions: tensors in, tensors out."""

from sslnb.metrics.attacks import fgsm, pgd
from sslnb.metrics.cka import CKAMatrix, cka_matrix, linear_cka
from sslnb.metrics.collapse import NeuralCollapse, neural_collapse
from sslnb.metrics.heatmaps import feature_heatmaps, mask_iou
from sslnb.metrics.labelfree import (
    Spectral,
    alignment,
    alpha_req,
    feature_deviation,
    lidar,
    mean_q_score,
    nesum,
    rankme,
    spectral,
    uniformity,
)
from sslnb.metrics.margins import EffectiveAccuracy, effective_accuracy, margins, robust_accuracy
from sslnb.metrics.neighbourhoods import (
    clid,
    cluster_learnability,
    intrinsic_dimension,
    knn_agreement,
    neighbour_overlap,
)
from sslnb.metrics.qscore import activation_rate, discriminative, highly_activating, q_score, q_score_penalty
from sslnb.metrics.selective import RiskCoverage, risk_coverage
from sslnb.metrics.surface import LossSurface, loss_surface
from sslnb.metrics.trajectory import InPCA, bhattacharyya, inpca, progress

__all__ = [
    "CKAMatrix",
    "EffectiveAccuracy",
    "InPCA",
    "LossSurface",
    "NeuralCollapse",
    "RiskCoverage",
    "Spectral",
    "activation_rate",
    "alignment",
    "alpha_req",
    "bhattacharyya",
    "cka_matrix",
    "clid",
    "cluster_learnability",
    "discriminative",
    "effective_accuracy",
    "feature_deviation",
    "feature_heatmaps",
    "fgsm",
    "highly_activating",
    "inpca",
    "intrinsic_dimension",
    "knn_agreement",
    "lidar",
    "linear_cka",
    "loss_surface",
    "margins",
    "mask_iou",
    "mean_q_score",
    "neighbour_overlap",
    "nesum",
    "neural_collapse",
    "pgd",
    "progress",
    "q_score",
    "q_score_penalty",
    "rankme",
    "risk_coverage",
    "robust_accuracy",
    "spectral",
    "uniformity",
]
