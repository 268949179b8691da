"""The ``sslnb`` command line."""

import dataclasses
import json
import logging
import math
import os
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import torch
import yaml
from click.core import ParameterSource

from sslnb import data, studies
from sslnb.book import mail, pdf, runner, verify
from sslnb.book.sweep import sweep as sweep_study
from sslnb.core import distributed, files
from sslnb.core.checks import expect, expect_known
from sslnb.data import catalogue
from sslnb.encoders import description
from sslnb.objectives import registry
from sslnb.pool import train as pool_training
from sslnb.pool.scales import SCALES
from sslnb.studies.presets import listed
from sslnb.training.loop import PretrainConfig, pretrain

STUDIES = (*studies.NAMES, studies.POOL)
NO_FLAG = ("options", "depth")  # fields of PretrainConfig that -o and --arch stand for
INTERRUPTED = 130  # status of a command that Ctrl-C ended


def value_of(text: str) -> object:
    """A value as YAML spells it, and numbers such as ``1e-3``, which YAML 1.1 takes for text."""
    try:
        return float(text) if "e" in text.lower() else yaml.safe_load(text or "''")
    except ValueError:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"value: expected what YAML can read, such as 3, true or [a, b], got {text!r}") from error


def _pairs(_: click.Context, option: click.Option, texts: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` of an option that can be given many times, each name once."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        expect(bool(name and "=" in text), option.opts[0], option.metavar, repr(text))
        expect(name not in pairs, option.opts[0], "each name once", repr(name))
        pairs[name] = value
    return pairs


def _grid(context: click.Context, option: click.Option, texts: Sequence[str]) -> dict[str, list[str]]:
    pairs = _pairs(context, option, texts)
    for name, text in pairs.items():
        expect(bool(text), option.opts[0], option.metavar, repr(f"{name}="))
    return {name: list(listed(text)) for name, text in pairs.items()}


class OneLineErrors(click.Group):
    """Input that can't be used ends a command with one line, not a traceback."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except (click.exceptions.Exit, BrokenPipeError):  # of --help, a RuntimeError too; of a reader that went away
            raise
        except (ValueError, RuntimeError, OSError) as error:
            raise click.ClickException(f"{context.invoked_subcommand}: {error}") from error


@click.group(
    cls=OneLineErrors,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True},
    epilog="Examples: sslnb run separability -p dataset=cifar10 · sslnb run all -p encoder=checkpoint:my.pt "
    "-p dataset=folder:photos · sslnb pretrain --objective simclr --dataset digit-scenes --width 16 --epochs 7",
)
@click.version_option(package_name="sslnb")
def sslnb() -> None:
    """Self-supervised visual representations: five studies that rerun themselves."""


def _study_options(command: Callable[..., None]) -> Callable[..., None]:
    parameter = "A parameter; lists with commas or semicolons, 'all' for no limit."
    for option in (
        click.option("--out", type=Path, default="runs", metavar="DIR", help="Folder of notebooks and results."),
        click.option("--profile", default="quick", metavar="P", help="quick, small, paper or published."),
        # As text: a study's parameters know their types, and a path may hold what YAML would take for its own.
        click.option("parameters", "-p", multiple=True, callback=_pairs, metavar="NAME=VALUE", help=parameter),
    ):
        command = option(command)
    return command


@sslnb.command()
@click.argument("study")
@_study_options
def run(study: str, parameters: dict[str, str], profile: str, out: Path) -> None:
    """Execute a STUDY's notebook with parameters, or with 'all' those of all studies; leaves notebooks and Results.

    With 'all' a parameter goes to the studies that have it, and a study that the images are too few for is left out.
    """
    asked = {"profile": profile} | parameters
    values = _by_study(asked) if study == "all" else {study: asked}
    if studies.JOINED in values and profile != "published":
        values[studies.JOINED] = {"results": str(out)} | values[studies.JOINED]
    checked = {name: studies.parameters(name, **own) for name, own in values.items()}
    left_out = []

    def takes(name: str) -> bool:
        """Whether a study takes what is asked of it; of several one may not, and is left out with its reason."""
        try:
            studies.check(name, checked[name])
        except ValueError as error:
            if study != "all":
                raise
            left_out.append(name)
            print(f"{name}: left out: {error}", file=sys.stderr)
        return name not in left_out

    first = [name for name in values if study != "all" or name != studies.JOINED]
    ready = [name for name in first if takes(name)]
    runner.expect_places(out)
    for name in (*ready, *(name for name in values if name not in first)):
        if name in ready or takes(name):  # what joins the others' Results can be checked once these are there
            path = runner.run_notebook(name, values[name], out)
            print(f"{name}: notebook {path}, result {path.with_suffix('.json')}")
    expect(not left_out, "all", "images and an encoder that every study takes", f"left out: {', '.join(left_out)}")


@sslnb.command("report")
@click.option("--html", "page", type=Path, metavar="FILE", help="The page, as one file; default: in --out.")
@click.option("--out", type=Path, default="runs", metavar="DIR", help="Folder of the notebook and its Result.")
@click.option("--profile", default="small", metavar="P", help="quick, small or paper.")
@click.option("parameters", "-p", multiple=True, callback=_pairs, metavar="NAME=VALUE", help="A parameter.")
def report_command(parameters: dict[str, str], profile: str, out: Path, page: Path | None) -> None:
    """A report card: every measure of the book for your encoder on your images, beside the pool's encoders.

    -p encoder=my.pt (or several, a.pt,b.pt) -p dataset=folder:photos; nothing is trained but probes.
    """
    page = page or out / f"{studies.CARD}.html"
    expect(not page.is_dir(), "--html", "a file to write", f"the folder {page}")
    values = {"profile": profile} | parameters
    studies.check(studies.CARD, studies.parameters(studies.CARD, **values))
    runner.expect_places(out)
    files.expect_writable(page.parent, "--html")
    notebook = runner.run_notebook(studies.CARD, values, out)
    print(f"report: page {mail.one_file(notebook, page)}, notebook {notebook}, result {notebook.with_suffix('.json')}")


def _by_study(parameters: dict[str, str]) -> dict[str, dict[str, str]]:
    """Of all parameters those that each study has; ``ValueError`` for one that none has."""
    names = [name for name in studies.NAMES if name != studies.CARD]  # which has a command of its own
    fields = {name: {*studies.get(name).parameters.model_fields, "dataset"} for name in names}
    for parameter in parameters:
        expect_known(parameter, sorted(set.union(*fields.values())), "parameter")
    return {name: {k: v for k, v in parameters.items() if k in own} for name, own in fields.items()}


@sslnb.command()
@click.argument("study")
@click.option("grid", "-g", multiple=True, required=True, callback=_grid, metavar="NAME=A,B,C", help="Values to try.")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler; default: this machine's cores.")
@_study_options
def sweep(
    study: str, grid: dict[str, list], scheduler: str | None, parameters: dict[str, str], profile: str, out: Path
) -> None:
    """Run a STUDY at every point of a grid, on Dask."""
    default = click.get_current_context().get_parameter_source("profile") is ParameterSource.DEFAULT
    fixed = ({} if default and "profile" in grid else {"profile": profile}) | parameters
    twice = sorted(set(grid) & set(fixed))
    expect(not twice, "--profile" if twice == ["profile"] else "-p", "names that -g does not vary", twice)
    repeated = [name for name, values in grid.items() if len(set(values)) < len(values)]
    expect(not repeated, "-g", "each value once", repeated)
    rows = sweep_study(study, grid, out, fixed=fixed, scheduler=scheduler)
    for row in rows:
        print(json.dumps(row))
    failed = sum("error" in row for row in rows)
    expect(not failed, "sweep", "every point to succeed", f"{failed} of {len(rows)} failed")


def _config_flags(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each field of PretrainConfig that has a flag of the same name."""
    hints = typing.get_type_hints(PretrainConfig)
    for field in reversed(dataclasses.fields(PretrainConfig)):
        if field.name in NO_FLAG:
            continue
        kind = (*typing.get_args(hints[field.name]), hints[field.name])[0]  # X of X | None
        choices = click.Choice(sorted(registry.OBJECTIVES)) if field.name == "objective" else kind
        settings = {"is_flag": True} if kind is bool else {"type": choices}
        command = click.option(f"--{field.name.replace('_', '-')}", default=field.default, **settings)(command)
    return command


@sslnb.command("pretrain")
@click.option(
    "--dataset",
    default="digit-scenes",
    help=f"One of {', '.join(catalogue.names())}, or npz:PATH, folder:PATH, hf:PATH.",
)
@click.option("--split", default="train", type=click.Choice(["train", "unlabeled"]))
@click.option(
    "--out", type=Path, metavar="FILE", help="Checkpoint to write or go on from; FILE.jsonl, FILE.png beside."
)
@click.option("--size", type=int, help="Side of the images in pixels.")
@click.option("--limit", type=int, help="Number of images, stratified.")
@click.option("--arch", default="resnet18", type=click.Choice(["resnet18", "resnet34", "resnet50"]))
@click.option("options", "-o", multiple=True, metavar="NAME=VALUE", help="Of the objective; -o help lists them.")
@_config_flags
def pretrain_command(
    dataset: str,
    split: str,
    out: Path | None,
    size: int | None,
    limit: int | None,
    arch: str,
    options: tuple[str, ...],
    **fields: typing.Any,
) -> None:
    """Pretrain one encoder; resumes from its checkpoint."""
    if options == ("help",):
        for name, default in registry.get(fields["objective"]).options().items():
            print(f"{name} = {default!r}")
        return
    context = click.get_current_context()
    option = next(parameter for parameter in context.command.params if parameter.name == "options")
    depth = int(arch.removeprefix("resnet"))
    chosen = {name: value_of(text) for name, text in _pairs(context, option, options).items()}
    config = PretrainConfig(**fields, depth=depth, options=chosen)
    plain = f"{config.objective}-{re.sub('[^A-Za-z0-9]+', '-', dataset).strip('-')}-{config.seed}.pt"
    out = out or Path(plain)
    expect(out.suffix not in (".jsonl", ".png"), "--out", "a name for the checkpoint, such as NAME.pt", str(out))
    expect(not out.is_dir(), "--out", "a file", f"the folder {out}")
    on = distributed.start()
    try:
        images = data.load(dataset, split, size=size, limit=limit)
        held_out = data.load(dataset, "val", size=size) if split == "train" else None
        _train(config, images, held_out, out, on)
    finally:
        distributed.stop()


def _train(
    config: PretrainConfig, images: data.ImageSet, held_out: data.ImageSet | None, out: Path, on: torch.device | None
) -> None:
    """Train with validation images to monitor; report on the first process."""
    from sslnb.report import history

    log, curves = out.with_suffix(".jsonl"), out.with_suffix(".png")
    training = pretrain(config, images, held_out=held_out, checkpoint=out, log=log, on=on)
    if distributed.rank():
        return
    trouble = f"{training.reason}; the last good state, if any, is in {out}"
    expect(training.converged, "pretraining", "a sound run", trouble)
    with files.atomic(curves) as partial:
        history.training_history({config.objective: training.history}).savefig(partial, dpi=150)
    last = {name: values[-1] for name, values in training.history.items()}
    knn = f", validation kNN {100 * last['knn']:.1f} %" if math.isfinite(last["knn"]) else ""
    print(f"loss {last['loss']:.4f} after {len(training.history['loss'])} epochs{knn}")
    print(f"encoder in {out}, log in {log}, curves in {curves}")


@sslnb.command("encoder")
@click.argument("spec", metavar="FILE|NAME")
def describe_encoder(spec: str) -> None:
    """Describe an encoder as studies load it, or say why they would not.

    FILE is a checkpoint, with ?arch=… and the like behind it where the file does not tell; NAME is whatever the
    parameter encoder takes: checkpoint:FILE, torchvision:NAME, timm:NAME, pool:SCALE/VARIANT/SEED, python:FILE.py:NAME.
    Says what of a file loads, what is left aside and what is missing, then the images that the encoder takes, its
    features and its layers.
    """
    for line in description.describe(description.named(spec)):
        print(line, flush=True)


@sslnb.command("studies")
def list_studies() -> None:
    """List the studies and their parameters."""
    for name in STUDIES:
        study = studies.get(name)
        print(f"{name}: {study.title}")
        for profile, preset in study.parameters.PRESETS.items():
            expected = "" if profile == "quick" else " expected"
            print(f"  --profile {profile}: {preset.minutes:g} minutes{expected} on {preset.hardware}; {preset.reaches}")
        for field, value in studies.parameters(name, profile="quick").as_dict().items():
            print(f"  {field} = {value!r}")


@sslnb.command("verify")
@click.argument("names", nargs=-1, metavar="[STUDY]...")
@click.option("--member", "-m", "members", multiple=True, metavar="OBJECTIVE/SEED", help="Of the pool; default: two.")
def verify_command(names: tuple[str, ...], members: tuple[str, ...]) -> None:
    """Measure published numbers again from the encoders that ship, and compare; status 1 where one differs."""
    for name in names:
        expect_known(name, studies.NAMES, "study")
    different = 0
    for one in verify.verify(names, members or verify.MEMBERS):
        print(_verified(one), flush=True)
        different += not one.same
    expect(not different, "verify", "numbers as they are recorded", f"{different} that differ by more than they may")


def _verified(one: verify.Comparison) -> str:
    if one.note:
        return f"{one.study:22} left out: {one.note}"
    verdict = "same" if one.same else "DIFFERENT"
    numbers = f"{one.cells:6} numbers, at most {one.difference:.4g} apart (may be {one.tolerance:g})"
    return f"{one.study:22} {one.step + '.' + one.name:28} {numbers}: {verdict}"


@sslnb.command()
@click.option("--force", is_flag=True, help="Execute and build everything again.")
def book(force: bool) -> None:
    """Execute what is stale and build the site."""
    print(f"open {runner.book(runner.find_root(), force=force)}")


@sslnb.command("pdf")
@click.argument("target", type=Path, default=Path("sslnb.pdf"))
def pdf_command(target: Path) -> None:
    """Print the built site into one PDF with Chromium."""
    expect(not target.is_dir(), "target", "a file to write", f"the folder {target}")
    files.expect_writable(target.parent, "target")
    print(f"open {pdf.pdf(runner.find_root(), target)}")


@sslnb.group()
def pool() -> None:
    """The encoders that all studies measure: train what is missing, list what is there, export it."""


_scale = click.option("--scale", default="small", type=click.Choice(list(SCALES)), help="Which pool.")


@pool.command("train")
@_scale
@click.option("--workers", type=click.IntRange(min=1), help="Single-threaded processes; default: the cores.")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler whose workers share this machine's cache.")
@click.argument("members", nargs=-1)
def pool_train(scale: str, workers: int | None, scheduler: str | None, members: tuple[str, ...]) -> None:
    """Train what is missing, or the MEMBERS named as OBJECTIVE/SEED; a killed run goes on where it was.

    The encoders of the scale public are fetched instead.
    """
    entries = pool_training.train(scale, workers=workers, scheduler=scheduler, only=members)
    for name, entry in entries.items():
        print(f"{name}: {entry.reason or _percentages(entry.accuracy)}")
    failed = [name for name, entry in entries.items() if entry.reason]
    expect(not failed, "pool", "every run to reach its end", f"{len(failed)} that did not: {', '.join(failed)}")


@pool.command("status")
@_scale
def pool_status(scale: str) -> None:
    """State of every member, its accuracies on validation images, hours taken or left on one core.

    Of the scale public: which files are there, the published accuracy, size, licence, address and checksum.
    """
    rows = pool_training.status(scale)
    for row in rows:
        print(_published(row) if "address" in row else _trained(row))
    if "address" in rows[0]:
        fetched = sum(row["state"] == "fetched" for row in rows)
        print(f"{fetched} of {len(rows)} fetched; sslnb pool train --scale {scale} fetches the rest, as does first use")
    else:
        to_go = [row for row in rows if "hours" not in row]
        unknown = sum("hours left" not in row for row in to_go)
        known = f"{sum(row.get('hours left', 0) for row in to_go):.1f} hours of one core to go"
        print(known + (f", and those of {unknown} members whose images are not here" if unknown else ""))


def _trained(row: Mapping[str, object]) -> str:
    left = f"{row['hours left']:.2f} h to go" if "hours left" in row else "hours not known"
    hours = f"{row['hours']:.2f} h" if "hours" in row else left
    return f"{row['member']:32} {row['state']:24} {hours:>15}  {_percentages(row)}"


def _published(row: Mapping[str, object]) -> str:
    size = "size not known" if row["megabytes"] is None else f"{row['megabytes']:.0f} MB"
    verified = row["checksum"] or "no checksum published: the first file is trusted"
    about = f"{row['member']:16} {row['state']:12} {size:>14}  {_percentages(row)}"
    return f"{about}  licence: {row['licence']}\n    {row['address']} ({verified})"


@pool.command("export")
@_scale
@click.option("--steps", is_flag=True, help="Also the encoders kept along the way.")
@click.option("--out", type=Path, metavar="DIR", help="Default: book/encoders/SCALE, or $SSLNB_POOL/SCALE.")
def pool_export(scale: str, steps: bool, out: Path | None) -> None:
    """Write finished members as float16 safetensors with one pool.json."""
    manifest = pool_training.export(scale, folder=out, steps=steps)
    print(f"{len(manifest.entries)} encoders of {scale}")


def _percentages(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {100 * values[name]:.1f} %" for name in ("knn", "linear") if name in values)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``sslnb``: 0 on success; 1, or 2 for wrong usage, with one line on standard error."""
    try:
        return sslnb(argv, prog_name="sslnb", standalone_mode=False) or 0
    except BrokenPipeError:  # whoever read the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return 2
    except click.UsageError as error:
        print(f"{error.ctx.command_path if error.ctx else 'sslnb'}: {error.format_message()}", file=sys.stderr)
        return error.exit_code
    except click.Abort:
        # What waits for a kernel ends with it, and would say so.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        print("sslnb: interrupted; the same command goes on from what is kept", file=sys.stderr)
        return INTERRUPTED
    except click.ClickException as error:
        print(f"sslnb {error.format_message()}", file=sys.stderr)
        return error.exit_code
