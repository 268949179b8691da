"""SimCLR against RotNet (Chen, Hsu and Jang 2023): the study's steps."""

from sslnb.studies.simclr_rotnet.steps import Parameters, Study, run

__all__ = ["Parameters", "Study", "run"]
