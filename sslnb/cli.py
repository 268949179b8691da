"""The ``sslnb`` command line."""

import argparse
import dataclasses
import json
import math
import re
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from sslnb import data, studies
from sslnb.book import runner
from sslnb.book.sweep import sweep
from sslnb.core import distributed, files
from sslnb.core.checks import expect
from sslnb.data import catalogue
from sslnb.objectives import registry
from sslnb.report import history
from sslnb.training.loop import PretrainConfig, pretrain

STUDIES = (*studies.NAMES, *studies.BESIDES)
ARCHITECTURES = ("resnet18", "resnet34", "resnet50")


def _assignments(texts: Sequence[str], option: str) -> dict[str, object]:
    """``NAME=VALUE`` pairs; values are YAML, so ``3``, ``0.5``, ``true``, ``null``, ``[a, b]`` mean those."""
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        expect(bool(equals and name), option, "NAME=VALUE", repr(text))
        expect(name not in values, option, "each name once", repr(name))
        values[name] = _value(value)
    return values


def _value(text: str) -> object:
    """A value as YAML spells it, and numbers such as ``1e-3``, which YAML 1.1 takes for text."""
    try:
        return float(text) if "e" in text.lower() else yaml.safe_load(text) if text else ""
    except ValueError:
        return yaml.safe_load(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sslnb",
        description="Self-supervised visual representations: five studies that rerun themselves.",
        epilog="Examples: sslnb run separability -p dataset=cifar10 · sslnb run all -p encoder=checkpoint:my.pt "
        "-p dataset=folder:photos · sslnb pretrain --objective simclr --dataset digit-scenes --width 16 --epochs 7",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="execute a study's notebook with parameters; leaves notebook and Result")
    run.add_argument("study", metavar="STUDY", help=f"one of {', '.join(STUDIES)}, or all, the five studies")
    sweeping = commands.add_parser("sweep", help="run a study at every point of a grid, on Dask")
    sweeping.add_argument("study", metavar="STUDY", help=f"one of {', '.join(STUDIES)}")
    sweeping.add_argument("-g", dest="grid", action="append", default=[], metavar="NAME=A,B,C", required=True)
    sweeping.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler; default: this machine's cores")
    for sub in (run, sweeping):
        sub.add_argument("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE")
        sub.add_argument("--profile", default="quick", metavar="P", help="quick (default), small, paper or published")
        sub.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    _add_pretrain(commands.add_parser("pretrain", help="pretrain one encoder; resumes from its checkpoint"))
    building = commands.add_parser("book", help="execute what is stale and build the site")
    building.add_argument("--force", action="store_true", help="execute and build everything again")
    commands.add_parser("studies", help="list the studies and their parameters")
    return parser


def _add_pretrain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", default="digit-scenes", help=f"one of {', '.join(catalogue.names())}, or npz:, folder:"
    )
    parser.add_argument("--split", default="train", choices=("train", "unlabeled"), help="default: train")
    where = (
        "checkpoint to write or go on from, with its log FILE.jsonl and curves FILE.png; default: a speaking name here"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help=where)
    parser.add_argument("--size", type=int, help="side of the images in pixels")
    parser.add_argument("--limit", type=int, help="number of images, stratified")
    parser.add_argument("--arch", default="resnet18", choices=ARCHITECTURES, help="default: resnet18")
    parser.add_argument(
        "-o",
        dest="options",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the objective: see sslnb pretrain --objective NAME -o help",
    )
    for name, (kind, default) in _pretrain_fields().items():
        flag, described = f"--{name.replace('_', '-')}", {"default": default, "help": f"default: {default}"}
        if kind is bool:
            parser.add_argument(flag, action="store_true", help="default: no")
        elif name == "objective":
            parser.add_argument(flag, choices=sorted(registry.OBJECTIVES), **described)
        else:
            parser.add_argument(flag, type=kind, **described)


def _pretrain_fields() -> dict[str, tuple[type, object]]:
    """Type and default of the fields of PretrainConfig that have a flag of the same name."""
    hints = typing.get_type_hints(PretrainConfig)
    fields = {field.name: field.default for field in dataclasses.fields(PretrainConfig)}
    kinds = {name: (*typing.get_args(hints[name]), hints[name])[0] for name in fields}  # X of X | None
    return {name: (kinds[name], fields[name]) for name in fields if name not in ("options", "depth")}


def _pretrain(arguments: argparse.Namespace) -> None:
    if arguments.options == ["help"]:
        for name, default in registry.get(arguments.objective).options().items():
            print(f"{name} = {default!r}")
        return
    values = {name: getattr(arguments, name) for name in _pretrain_fields()}
    depth = int(arguments.arch.removeprefix("resnet"))
    config = PretrainConfig(**values, depth=depth, options=_assignments(arguments.options, "-o"))
    on = distributed.start()
    try:
        _train(config, arguments, on)
    finally:
        distributed.stop()


def _train(config: PretrainConfig, arguments: argparse.Namespace, on: torch.device | None) -> None:
    """Train on the images that the arguments name, with validation images to look at; report on the first process."""
    name = arguments.dataset
    images = data.load(name, arguments.split, size=arguments.size, limit=arguments.limit)
    held_out = data.load(name, "val", size=arguments.size) if arguments.split == "train" else None
    plain = f"{config.objective}-{re.sub('[^A-Za-z0-9]+', '-', name).strip('-')}-{config.seed}.pt"
    out = arguments.out or Path(plain)
    expect(out.suffix not in (".jsonl", ".png"), "--out", "a name for the checkpoint, such as NAME.pt", str(out))
    log = out.with_suffix(".jsonl")
    run = pretrain(config, images, held_out=held_out, checkpoint=out, log=log, on=on)
    if distributed.rank():
        return
    expect(run.converged, "pretraining", "a sound run", f"{run.reason}; the last good state, if any, is in {out}")
    curves = out.with_suffix(".png")
    with files.atomic(curves) as partial:
        history.training_history({config.objective: run.history}).savefig(partial, dpi=150)
    last = {name: values[-1] for name, values in run.history.items()}
    seen = f", validation kNN {100 * last['knn']:.1f} %" if math.isfinite(last["knn"]) else ""
    print(f"loss {last['loss']:.4f} after {len(run.history['loss'])} epochs{seen}")
    print(f"encoder in {out}, log in {log}, curves in {curves}")


def _run(arguments: argparse.Namespace) -> None:
    names = studies.NAMES if arguments.study == "all" else (arguments.study,)
    parameters = {"profile": arguments.profile} | _assignments(arguments.parameters, "-p")
    for study in names:
        path = runner.run_notebook(study, parameters, arguments.out)
        print(f"{study}: notebook {path}, result {path.with_suffix('.json')}")


def _sweep(arguments: argparse.Namespace) -> None:
    grid = {k: [_value(v) for v in str(values).split(",")] for k, values in _pairs(arguments.grid).items()}
    fixed = {"profile": arguments.profile} | _assignments(arguments.parameters, "-p")
    twice = sorted(set(grid) & set(fixed))
    expect(not twice, "-p", "names that -g does not vary", twice)
    rows = sweep(arguments.study, grid, arguments.out, fixed=fixed, scheduler=arguments.scheduler)
    for row in rows:
        print(json.dumps(row))
    failed = sum("error" in row for row in rows)
    expect(not failed, "sweep", "every point to succeed", f"{failed} of {len(rows)} failed")


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    for text in texts:
        name, _, values = text.partition("=")
        expect(bool(name and values), "-g", "NAME=A,B,C", repr(text))
        expect(sum(other.startswith(f"{name}=") for other in texts) == 1, "-g", "each name once", repr(name))
    return dict(text.split("=", 1) for text in texts)


def _studies(_: argparse.Namespace) -> None:
    for name in STUDIES:
        module = studies.get(name)
        print(f"{name}: {module.__doc__.splitlines()[0]}")
        quick = module.Parameters.of("quick").as_dict()
        for field, value in quick.items():
            print(f"  {field} = {value!r}")


def _book(arguments: argparse.Namespace) -> None:
    print(f"open {runner.book(runner.find_root(), force=arguments.force)}")


COMMANDS = {"run": _run, "sweep": _sweep, "pretrain": _pretrain, "book": _book, "studies": _studies}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``sslnb``: 0 on success, 1 with one line on standard error for input that can't be used."""
    arguments = _parser().parse_args(argv)
    try:
        COMMANDS[arguments.command](arguments)
    except (ValueError, RuntimeError, OSError, yaml.YAMLError) as error:
        print(f"sslnb {arguments.command}: {error}", file=sys.stderr)
        return 1
    return 0
