"""Training objectives side by side: what each compares and sees, what it has learned in a pool, what a step costs."""

from sslnb.studies.objectives.parameters import ObjectivesParameters
from sslnb.studies.objectives.steps import check, evaluation, step_cost
from sslnb.studies.study import Study, pretraining

STUDY = Study(
    name="objectives",
    title="Training objectives",
    paper="",
    parameters=ObjectivesParameters,
    steps=(pretraining, evaluation, step_cost),
    claims={},
    decide=lambda data: [],
    check=check,
)
