"""What all studies share: checked parameters with profiles, and steps that compute once or load what is recorded."""

import dataclasses
import functools
import time
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path

from sslnb.core.checks import expect, expect_known
from sslnb.core.flat import Result
from sslnb.core.provenance import provenance

PROFILES = ("quick", "small", "paper", "published")
RECORDED = Path(__file__).resolve().parents[2] / "book" / "results"
_IPYTHON = {"In", "Out", "exit", "quit", "get_ipython", "open"}
_NOTEBOOK = {"result_path"}  # where the notebook leaves its Result: no parameter of the study


@dataclasses.dataclass(frozen=True)
class BaseParameters:
    """Parameters of a study. A subclass adds typed fields without defaults and a preset of them per profile."""

    profile: str

    PRESETS: typing.ClassVar[dict[str, dict]] = {}
    MAY_BE_EMPTY: typing.ClassVar[tuple[str, ...]] = ()  # lists that can be emptied by "none"

    @classmethod
    def of(cls, profile: str = "quick", **overrides: object) -> typing.Self:
        """A profile's preset with some fields overridden; ``None`` keeps the preset's value.

        ``ValueError`` for an unknown profile or name (with the nearest valid one) or a value of the wrong type.
        """
        expect_known(profile, PROFILES, "profile")
        known = {f.name: f.type for f in dataclasses.fields(cls) if f.name != "profile"}
        changed = [name for name, value in overrides.items() if value is not None]
        expect(profile != "published" or not changed, "profile", "no other parameter with 'published'", changed)
        values = dict(cls.PRESETS[profile])
        for name, value in overrides.items():
            expect_known(name, (*known, "profile"), "parameter")
            if name in cls.MAY_BE_EMPTY and value in ("none", (), []):
                values[name] = ()
            elif value is not None:
                values[name] = _typed(name, value, typing.get_type_hints(cls)[name])
        return cls(profile=profile, **values)

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, object]) -> typing.Self:
        """Parameters out of a notebook's globals, as its parameters cell and papermill left them.

        papermill itself only logs a name that the notebook does not know and runs on, so every plain value that was
        defined before this call must be a parameter.
        """
        plain = (str, int, float, bool, list, tuple, dict, set, bytes, type(None))
        values = {k: v for k, v in namespace.items() if not k.startswith("_") and k not in _IPYTHON | _NOTEBOOK}
        return cls.of(**{k: v for k, v in values.items() if isinstance(v, plain)})

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)


def _typed(name: str, value: object, kind: object) -> object:
    """The value as its field's type: numbers widen, lists and comma-separated text become tuples, nothing else."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        separator = ";" if isinstance(value, str) and ";" in value else ","  # names may hold commas themselves
        parts = value.split(separator) if isinstance(value, str) else value
        parts = parts if isinstance(parts, list | tuple) else [parts]
        parts = [p.strip() if isinstance(p, str) else p for p in parts]
        parts = parts[:-1] if separator == ";" and parts[-1] == "" else parts  # "a;" is one name, commas and all
        expect(len(parts) > 0 and "" not in parts, name, f"values of type {item.__name__}", repr(value))
        return tuple(_typed(name, _number(p) if item is not str else p, item) for p in parts)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    expect(right, name, f"a value of type {kind.__name__}", f"{value!r} of type {type(value).__name__}")
    return value


def _number(value: object) -> object:
    """Text such as "3" or "0.5" as the number it spells; anything else as it is."""
    for kind in (int, float):
        try:
            return kind(value) if isinstance(value, str) else value
        except ValueError:
            continue
    return value


def step(method: Callable) -> Callable:
    """A named part of a study: runs once, after the steps before it, and is timed; recorded studies skip it."""

    @functools.wraps(method)
    def run(self: "BaseStudy") -> Result:
        for name in self.steps():
            if name in self.done:
                if name == method.__name__:
                    break
                continue
            started = time.monotonic()
            getattr(type(self), name).__wrapped__(self)
            self.result.provenance["seconds"][name] = round(time.monotonic() - started, 2)
            self.done.add(name)
            if name == method.__name__:
                break
        return self.result

    run.is_step = True
    return run


class BaseStudy:
    """A study in progress: ``result`` fills step by step, or is the recorded one when the profile is ``published``."""

    name: typing.ClassVar[str]
    decisions: typing.ClassVar[types.ModuleType | None] = None  # with CLAIMS, and decide_all(result) as the last step

    def __init__(self, parameters: BaseParameters) -> None:
        self.parameters = parameters
        self.done: set[str] = set()
        if parameters.profile == "published":
            where = f"a checkout of the repository, whose {RECORDED.parent.name}/{RECORDED.name} holds what is recorded"
            expect(RECORDED.is_dir(), "profile", where, f"'published' in an installation without {RECORDED}")
            self.result = Result.load(RECORDED / self.name)
            self.done.update(self.steps())
        else:
            self.result = Result(self.name, parameters.as_dict(), provenance=provenance(seconds={}))

    @classmethod
    def steps(cls) -> list[str]:
        """Names of the steps in their order; the claims come last, where there are any."""
        own = [name for name, member in vars(cls).items() if getattr(member, "is_step", False)]
        return [*own, "claims"] if cls.decisions else own

    @step
    def claims(self) -> Result:
        """The paper's claims, decided from the arrays."""
        verdicts, parts = self.decisions.decide_all(self.result)
        self.result.scalars["claims"] = [verdict.as_dict() for verdict in verdicts]
        self.result.scalars["claim_parts"] = parts
        return self.result

    def run(self) -> Result:
        """Do every step that is not done yet."""
        for name in self.steps():
            getattr(self, name)()
        return self.result
