"""Separability of self-supervised representations (Sehwag, Chiang and Mittal 2020): the study's steps."""

from sslnb.studies.separability.parameters import Parameters
from sslnb.studies.separability.steps import Study, run

__all__ = ["Parameters", "Study", "run"]
