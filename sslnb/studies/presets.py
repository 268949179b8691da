"""Parameters of studies: checked values, and presets of them that say what they cost and reach."""

import ast
import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from sslnb.core.checks import expect, expect_known
from sslnb.core.files import digest, home
from sslnb.pool.scales import SCALES

PROFILES = ("quick", "small", "paper", "published")
PATHS = ("folder", "npz", "hf", "checkpoint", "python")  # what begins a name that goes on with a path
PLANNED_LATER = ("paper", "paper-grid")  # pools that presets name for the time when there is a GPU
INJECTED = "# Parameters\n"  # how papermill begins the cell that it injects
NONE = ("all", "null", "none")  # how text asks for no limit or no choice


def listed(value: object) -> object:
    """Text with commas, or with semicolons where names hold commas, as a list; a single value as a list of one.

    The path of something that exists is one value, whatever it holds.
    """
    if isinstance(value, str) and _path(value) is not None and _path(value).exists():
        return (value,)
    if isinstance(value, str):
        value = value[1:-1] if value.startswith("[") and value.endswith("]") else value
        separator = ";" if ";" in value else ","
        parts = [part.strip() for part in value.split(separator)]
        return tuple(parts[:-1] if separator == ";" and parts[-1] == "" else parts)
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _path(value: object) -> Path | None:
    """The path in a value such as ``folder:PATH`` or ``checkpoint:PATH?arch=…``; None where there is none."""
    if isinstance(value, str) and value.endswith(".npz") and not value.startswith(tuple(f"{k}:" for k in PATHS)):
        value = f"npz:{value}"
    kind, _, path = value.partition(":") if isinstance(value, str) else ("", "", "")
    ends = {"checkpoint": path.partition("?")[0], "hf": path.partition("?")[0], "python": path.rpartition(":")[0]}
    return home(ends.get(kind, path)) if kind in PATHS else None


def distinct(values: tuple) -> tuple:
    """A field's values, if none comes twice."""
    if len(set(values)) < len(values):
        raise ValueError(f"expected distinct values, got {values}")
    return values


Count = typing.Annotated[int, Field(ge=1)]
Counts = typing.Annotated[tuple[Count, ...], BeforeValidator(listed)]
Names = typing.Annotated[tuple[typing.Annotated[str, Field(min_length=1)], ...], BeforeValidator(listed)]


@dataclasses.dataclass(frozen=True)
class Preset:
    """A profile of a study: what it costs, what it reaches, and the values that make it so."""

    minutes: float  # measured for quick, once its pool is there; of the others an expectation
    hardware: str
    reaches: str
    values: Mapping[str, object]


class Parameters(BaseModel):
    """Parameters of a study; a subclass adds typed fields, whose defaults are the quick preset's, and ``PRESETS``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str = "quick"
    pool: str = "quick"  # whose encoders are measured
    objectives: Names | None = None  # of the pool's members; all of them unless given
    encoder: str | None = None  # one more to measure, such as checkpoint:PATH or torchvision:resnet50
    size: Count | None = None  # side of the images in pixels; their own unless given

    PRESETS: typing.ClassVar[dict[str, Preset]] = {}
    IMAGES: typing.ClassVar[str] = "dataset"  # the field that ``dataset`` stands for, the same word in all studies
    _asked: frozenset[str] = PrivateAttr(frozenset())  # fields that somebody set: the others are cut to what there is

    @field_validator("pool")
    @classmethod
    def _known_pool(cls, name: str) -> str:
        if name not in PLANNED_LATER:
            expect_known(name, tuple(SCALES), "pool")
        return name

    @model_validator(mode="after")
    def _there(self) -> typing.Self:
        """Members that the pool plans, and files that exist: refused here, before anything is computed."""
        for objective in self.objectives or () if self.pool in SCALES else ():
            expect_known(objective, sorted(SCALES[self.pool].variants), "objectives")
        for name, value in self:
            for item in value if isinstance(value, tuple) else (value,):
                path = _path(item)
                there = path is None or path.exists()
                expect(there, name, f"{str(item).partition(':')[0]}: and a path that exists", item)
        return self

    @classmethod
    def of(cls, profile: str = "quick", **changes: object) -> typing.Self:
        """A profile's preset with some fields changed; ``None`` keeps the preset's value.

        ``ValueError`` for an unknown profile or name (with the nearest valid one) or a value of the wrong kind.
        """
        expect_known(profile, PROFILES, "profile")
        for name in changes:
            expect_known(name, (*cls.model_fields, "dataset"), "parameter")
        given = {name: value for name, value in changes.items() if value is not None}
        both = cls.IMAGES != "dataset" and {"dataset", cls.IMAGES} <= set(given)
        expect(not both or given["dataset"] == given[cls.IMAGES], "dataset", f"either this or {cls.IMAGES}", "both")
        renamed = {cls.own_name(name): value for name, value in given.items()}
        changed = {name: cls._value(name, value) for name, value in renamed.items()}
        expect(profile != "published" or not changed, "profile", "no other parameter with 'published'", [*changed])
        which = "small" if profile == "published" else profile
        expect_known(which, tuple(cls.PRESETS), "profile")
        preset = cls.PRESETS[which].values
        try:
            made = cls(**{"profile": profile} | dict(preset) | changed)
        except ValidationError as error:
            raise ValueError(_in_one_line(error)) from error
        made._asked = frozenset(changed)
        for name in made._asked & {"compared", "regularized"} if made.pool in SCALES else ():
            for objective in getattr(made, name):
                expect_known(objective, sorted(SCALES[made.pool].variants), name)
        return made

    @classmethod
    def own_name(cls, name: str) -> str:
        """A parameter's name in this study, ``dataset`` being what all call their images."""
        return cls.IMAGES if name == "dataset" else name

    @classmethod
    def _value(cls, name: str, value: object) -> object:
        """``all`` or ``null`` as None, where a parameter can be that: no limit, no choice."""
        optional = type(None) in typing.get_args(cls.model_fields[name].annotation)
        return None if optional and isinstance(value, str) and value.lower() in NONE else value

    def contents(self) -> dict[str, str]:
        """Digests of what the paths among the values hold, which a name stands for but does not tell."""
        items = [item for _, value in self for item in (value if isinstance(value, tuple) else (value,))]
        return {item: digest(_path(item)) for item in items if _path(item) is not None}

    def asked(self, name: str) -> bool:
        """Whether a value was asked for, rather than a preset's."""
        return name in self._asked

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, object]) -> typing.Self:
        """Parameters out of a notebook's globals, as its parameters cell and papermill left them.

        Other globals are the user's own, those that are called like a parameter, too, where the cell is among ``In``. A
        name that papermill injected has to be a parameter: papermill itself only logs one that the notebook does not
        know, and runs on.
        """
        cells = {cell: _assigned(cell) for cell in namespace.get("In", [])}
        injected = set().union(*(names for cell, names in cells.items() if cell.startswith(INJECTED))) - {"result_path"}
        own_cell = set().union(*(names for names in cells.values() if "profile" in names)) or set(namespace)
        names = injected | {name for name in cls.model_fields if name in own_cell and name in namespace}
        return cls.of(**{name: namespace[name] for name in names})

    def images_of(self, claim: str) -> tuple[str, ...]:
        """Image sets that decide a claim: all that the study measures on, where a study does not say otherwise."""
        named = getattr(self, self.IMAGES)
        return () if named is None else (named,) if isinstance(named, str) else tuple(named)

    def as_dict(self) -> dict:
        return self.model_dump(mode="json")


def _assigned(cell: str) -> set[str]:
    """Names that a cell assigns to; none of one that is no plain Python, as one with magics of IPython's."""
    try:
        body = ast.parse(cell).body
    except SyntaxError:
        return set()
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _in_one_line(error: ValidationError) -> str:
    """The first problem as *name: expected …, got …*."""
    problem = error.errors()[0]
    if not problem["loc"]:  # of several fields together, which the message names
        return problem["msg"].removeprefix("Value error, ")
    bounds = {
        "greater_than_equal": "at least {ge}",
        "greater_than": "a value above {gt}",
        "less_than_equal": "at most {le}",
    }
    text = bounds.get(problem["type"], "").format(**problem.get("ctx", {}))
    if problem["type"] == "value_error":
        text, name = problem["msg"].removeprefix("Value error, "), problem["loc"][0]
        return text if text.startswith(f"{name}: ") else f"{name}: {text}"
    expected = text or problem["msg"].removeprefix("Input should be ").partition(",")[0]
    return f"{problem['loc'][0]}: expected {expected}, got {problem['input']!r}"
