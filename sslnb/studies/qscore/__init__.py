"""Representation quality by discriminative features (Kalibhat et al. 2024): the study's steps."""

from sslnb.studies.qscore.steps import Parameters, Study, run

__all__ = ["Parameters", "Study", "run"]
