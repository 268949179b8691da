"""Every objective by its name: each file of this package is found by itself, so that a new method is one new file."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from sslnb.core.checks import expect, expect_known
from sslnb.core.labels import METHOD_LABELS
from sslnb.objectives.objective import Objective


def modules() -> Iterator[ModuleType]:
    """The modules of this package that say what they export, which are those of the methods."""
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        module = importlib.import_module(f"{__package__}.{info.name}")
        if hasattr(module, "__all__"):
            yield module


def exported() -> dict[str, object]:
    """What the methods' modules export, by name: objectives, and losses that can be used alone."""
    return {name: getattr(module, name) for module in modules() for name in module.__all__}


def _whole(kind: type[Objective]) -> type[Objective]:
    """An objective that says what all of them have to say of themselves."""
    missing = [fact for fact in ("name", "label", "compares", "equation", "learning_rate") if not hasattr(kind, fact)]
    expect(not missing, kind.__module__, f"{kind.__name__} to state its {', '.join(missing)}", "none")
    return kind


OBJECTIVES: dict[str, type[Objective]] = {
    _whole(kind).name: kind for kind in exported().values() if isinstance(kind, type) and issubclass(kind, Objective)
}
METHOD_LABELS.update({kind.name: kind.label for kind in OBJECTIVES.values()})


def get(name: str) -> type[Objective]:
    """The objective called ``name``; ``ValueError`` names the nearest known one."""
    expect_known(name, sorted(OBJECTIVES), "objective")
    return OBJECTIVES[name]
