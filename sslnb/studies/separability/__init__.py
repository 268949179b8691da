"""Separability of self-supervised representations (Sehwag, Chiang and Mittal 2020): margins of linear probes."""

from sslnb.studies.separability.choices import probe_choice
from sslnb.studies.separability.claims import CLAIMS, PAPER, verdicts
from sslnb.studies.separability.measures import measures
from sslnb.studies.separability.parameters import SeparabilityParameters
from sslnb.studies.separability.steps import attacked, audit, check, probes, separation
from sslnb.studies.study import Study, pretraining

STUDY = Study(
    name="separability",
    title="Separability of representations",
    paper=PAPER,
    parameters=SeparabilityParameters,
    steps=(pretraining, probes, separation, audit, probe_choice, attacked),
    claims=CLAIMS,
    decide=verdicts,
    headlines={
        "probes": {"accuracy": 0.01, "knn": 0.01},
        "separation": {"mean_margin": 0.05, "norm_auc": 0.01, "effective": 0.01},
    },
    measures=measures,
    check=check,
    published=True,
)
