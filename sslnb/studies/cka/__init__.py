"""Do self-supervised and supervised networks learn similar representations? (Grigg et al. 2021): CKA of layers."""

from sslnb.studies.cka.claims import CLAIMS, PAPER, verdicts
from sslnb.studies.cka.measures import measures
from sslnb.studies.cka.parameters import CkaParameters
from sslnb.studies.cka.steps import (
    check,
    estimates,
    indices,
    invariance,
    layer_similarity,
    neighbours,
    objectives_map,
    shapes,
    training,
)
from sslnb.studies.study import Study, pretraining

STUDY = Study(
    name="cka",
    title="Layers of self-supervised and supervised networks",
    paper=PAPER,
    parameters=CkaParameters,
    steps=(pretraining, layer_similarity, invariance, objectives_map, training, shapes, estimates, indices, neighbours),
    claims=CLAIMS,
    decide=verdicts,
    headlines={"layer_similarity": {"cka": 0.01, "simplex": 0.01}, "invariance": {"views": 0.01}},
    measures=measures,
    check=check,
)
