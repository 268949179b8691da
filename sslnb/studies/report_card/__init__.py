"""A report card: what the chapters measure, for somebody's own encoder on their own images, on one page."""

from sslnb.studies.report_card.parameters import ReportCardParameters
from sslnb.studies.report_card.steps import card, check, curves, layers
from sslnb.studies.study import Study, pretraining

STUDY = Study(
    name="report_card",
    title="Report card",
    paper="",
    parameters=ReportCardParameters,
    steps=(pretraining, card, curves, layers),
    claims={},
    decide=lambda data: [],
    check=check,
)
