"""The studies, one package each: ``studies.get("separability")``."""

import importlib
import pkgutil
from types import ModuleType

from sslnb.core.checks import expect_known

CHAPTERS = ("separability", "simclr_rotnet", "qscore", "cka", "contrastive_geometry")  # in the book's order
BESIDES = ("objectives",)  # what is run as a study is, without being one of the five: published only
_FOUND = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
NAMES = (*CHAPTERS, *(name for name in _FOUND if name not in CHAPTERS + BESIDES))  # a new folder is one more


def get(name: str) -> ModuleType:
    """Package of a study; ``ValueError`` names the nearest one."""
    expect_known(name, (*NAMES, *BESIDES), "study")
    return importlib.import_module(f"{__name__}.{name}")


def parameters(name: str, **values: object) -> object:
    """A study's checked parameters: a profile's, with some changed."""
    module = get(name)
    return (module.STUDY.parameters if hasattr(module, "STUDY") else module.Parameters).of(**values)


def run(name: str, values: object) -> object:
    """The whole study with these parameters; returns its Result."""
    module = get(name)
    return module.STUDY.start(values).all() if hasattr(module, "STUDY") else module.run(values)
