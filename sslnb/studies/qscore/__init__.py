"""Representation quality by discriminative features (Kalibhat et al. 2024): a score of single images, and a penalty."""

from sslnb.studies.qscore.checks import check
from sslnb.studies.qscore.claims import CLAIMS, PAPER, verdicts
from sslnb.studies.qscore.failure_steps import failure, pooled, predict
from sslnb.studies.qscore.measures import measures
from sslnb.studies.qscore.parameters import QScoreParameters
from sslnb.studies.qscore.steps import (
    ablation,
    features,
    heatmaps,
    outcomes,
    regularize,
    representations,
    subset_probes,
    transfer,
)
from sslnb.studies.study import Study, pretraining

STUDY = Study(
    name="qscore",
    title="Representation quality by discriminative features",
    paper=PAPER,
    parameters=QScoreParameters,
    steps=(
        *(pretraining, representations, features, subset_probes, outcomes, predict, failure),
        *(regularize, ablation, transfer, heatmaps),
    ),
    claims=CLAIMS,
    decide=verdicts,
    headlines={"representations": {"accuracy": 0.01, "kurtosis": 0.1}, "features": {"sensitivity": 0.02}},
    measures=measures,
    check=check,
    joins={"failure": pooled},
)
