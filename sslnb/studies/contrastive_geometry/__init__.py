"""The geometry of contrastive learning (Cowlagi, Liu and Neervannan 2022): minima, paths of training, robustness."""

from sslnb.studies.contrastive_geometry.claims import CLAIMS, PAPER, verdicts
from sslnb.studies.contrastive_geometry.measures import measures
from sslnb.studies.contrastive_geometry.parameters import GeometryParameters
from sslnb.studies.contrastive_geometry.runs import check
from sslnb.studies.contrastive_geometry.steps import (
    along_pretraining,
    embeddings,
    fine_tuning,
    flat,
    relations,
    robustness,
    surfaces,
    trajectories,
)
from sslnb.studies.study import Study, pretraining

STUDY = Study(
    name="contrastive_geometry",
    title="The geometry of contrastive learning",
    paper=PAPER,
    parameters=GeometryParameters,
    steps=(
        *(pretraining, fine_tuning, surfaces, flat, trajectories, embeddings),
        *(robustness, along_pretraining, relations),
    ),
    claims=CLAIMS,
    decide=verdicts,
    spared={"surface_points": 3, "curvature_steps": 1, "probes": 2},
    headlines={
        "fine_tuning": {"accuracy": 0.02},
        "flat": {"rise": 0.1},
        "trajectories": {"progress": 0.02},
        "robustness": {"fgsm": 0.04},
    },
    measures=measures,
    check=check,
)
