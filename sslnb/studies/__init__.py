"""The studies, one module each: ``studies.get("separability")``."""

import importlib
from types import ModuleType

from sslnb.core.checks import expect_known

NAMES = ("separability", "simclr_rotnet", "qscore", "cka", "contrastive_geometry")
BESIDES = ("objectives",)  # what is run as a study is, without being one of the five: published only


def get(name: str) -> ModuleType:
    """Module of a study, with its ``Parameters``, ``Study`` and ``run``; ``ValueError`` names the nearest one."""
    expect_known(name, (*NAMES, *BESIDES), "study")
    return importlib.import_module(f"{__name__}.{name}")
