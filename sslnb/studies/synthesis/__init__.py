"""What the five studies say together: one matrix of measures, how they agree, and which of them choose well."""

from sslnb.studies.study import Study, pretraining
from sslnb.studies.synthesis.parameters import SynthesisParameters
from sslnb.studies.synthesis.steps import (
    agreement,
    answers,
    check,
    checkpoints,
    controls,
    embedding,
    encoders,
    matrix,
    selection,
)

STUDY = Study(
    name="synthesis",
    title="What the papers say together",
    paper="",
    parameters=SynthesisParameters,
    steps=(pretraining, encoders, checkpoints, matrix, agreement, selection, controls, answers, embedding),
    claims={},
    decide=lambda data: [],
    check=check,
)
