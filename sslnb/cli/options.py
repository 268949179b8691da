"""What commands have in common: values, and options of studies."""

from collections.abc import Callable, Sequence
from pathlib import Path

import click
import yaml

from sslnb.core.checks import expect
from sslnb.studies.presets import listed


def value_of(text: str) -> object:
    """A value as YAML spells it, and numbers such as ``1e-3``, which YAML 1.1 takes for text."""
    try:
        return float(text) if "e" in text.lower() else yaml.safe_load(text or "''")
    except ValueError:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"value: expected what YAML can read, such as 3, true or [a, b], got {text!r}") from error


def pairs(_: click.Context, option: click.Option, texts: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` of an option that can be given many times, each name once."""
    given: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        expect(bool(name and "=" in text), option.opts[0], option.metavar, repr(text))
        expect(name not in given, option.opts[0], "each name once", repr(name))
        given[name] = value
    return given


def grid(context: click.Context, option: click.Option, texts: Sequence[str]) -> dict[str, list[str]]:
    given = pairs(context, option, texts)
    for name, text in given.items():
        expect(bool(text), option.opts[0], option.metavar, repr(f"{name}="))
    return {name: list(listed(text)) for name, text in given.items()}


def study_options(command: Callable[..., None]) -> Callable[..., None]:
    parameter = "A parameter; lists with commas or semicolons, 'all' for no limit."
    for option in (
        click.option("--out", type=Path, default="runs", metavar="DIR", help="Folder of notebooks and results."),
        click.option("--profile", default="quick", metavar="P", help="quick, small, paper or published."),
        # As text: a study's parameters know their types, and a path may hold what YAML would take for its own.
        click.option("parameters", "-p", multiple=True, callback=pairs, metavar="NAME=VALUE", help=parameter),
    ):
        command = option(command)
    return command
