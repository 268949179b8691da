"""The geometry of contrastive learning (Cowlagi, Liu and Neervannan): the study's steps."""

from sslnb.studies.contrastive_geometry.steps import Parameters, Study, run

__all__ = ["Parameters", "Study", "run"]
