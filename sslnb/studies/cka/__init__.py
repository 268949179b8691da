"""Do self-supervised and supervised networks learn similar representations? (Grigg et al. 2021): the study's steps."""

from sslnb.studies.cka.steps import Parameters, Study, run

__all__ = ["Parameters", "Study", "run"]
