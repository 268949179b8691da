"""The studies, one package each: ``studies.get("separability")``."""

import importlib
import pkgutil
import typing

from sslnb.core.checks import expect_known

if typing.TYPE_CHECKING:
    from sslnb.core.result import Result
    from sslnb.studies.presets import Parameters
from sslnb.studies.study import Study

CHAPTERS = ("separability", "qscore", "simclr_rotnet", "cka", "contrastive_geometry")  # in the book's order
POOL = "objectives"  # the page that shows what all chapters measure; first among the reruns
JOINED = "synthesis"  # joins the Results of the others, and runs after them
CARD = "report_card"  # of an encoder, by `sslnb report`; the book shows an example
_FOUND = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
_OWN_PLACE = (*CHAPTERS, POOL, JOINED, CARD)
NAMES = (*CHAPTERS, *(name for name in _FOUND if name not in _OWN_PLACE), CARD, JOINED)  # a new folder is one more
ALL = (*NAMES, POOL)


def get(name: str) -> "Study":
    """A study; ``ValueError`` names the nearest one."""
    expect_known(name, ALL, "study")
    return importlib.import_module(f"{__name__}.{name}").STUDY


def parameters(name: str, **values: object) -> "Parameters":
    """A study's checked parameters: a profile's, with some changed."""
    return get(name).parameters.of(**values)


def check(name: str, values: "Parameters") -> None:
    """Refuse what would stop a study, on its real images and the encoder that is given.

    Nothing is trained but a quick pool, where an encoder or a result to look at is of one that is not there yet.
    """
    get(name).start(values)


def run(name: str, values: "Parameters") -> "Result":
    """The whole study with these parameters."""
    return get(name).start(values).all()
