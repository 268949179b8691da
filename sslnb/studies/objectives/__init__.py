"""Training objectives side by side: what each learns in the same time, and what a step of it costs."""

from sslnb.studies.objectives.parameters import Parameters
from sslnb.studies.objectives.steps import Study, run

__all__ = ["Parameters", "Study", "run"]
