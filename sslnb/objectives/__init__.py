"""Training objectives, one short file each; every file of this package is found and registered by itself.

Loss functions are usable alone: ``from sslnb.objectives import nt_xent``.
"""

import importlib
import pkgutil

from sslnb.core.checks import expect_known
from sslnb.objectives.base import Objective

OBJECTIVES: dict[str, type[Objective]] = {}

for _info in pkgutil.iter_modules(__path__):
    _module = importlib.import_module(f"{__name__}.{_info.name}")
    for _name in getattr(_module, "__all__", ()):
        _thing = globals()[_name] = getattr(_module, _name)
        if isinstance(_thing, type) and issubclass(_thing, Objective):
            OBJECTIVES[_thing.name] = _thing


def get(name: str) -> type[Objective]:
    """The objective called ``name``; ``ValueError`` names the nearest known one."""
    expect_known(name, sorted(OBJECTIVES), "objective")
    return OBJECTIVES[name]
