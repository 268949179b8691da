"""Commands that train one encoder, and describe one."""

import dataclasses
import math
import re
import typing
from collections.abc import Callable
from pathlib import Path

import click
import torch

from sslnb import data
from sslnb.cli.group import sslnb
from sslnb.cli.options import pairs, value_of
from sslnb.core import distributed, files
from sslnb.core.checks import expect
from sslnb.data import catalogue
from sslnb.encoders import description
from sslnb.objectives import registry
from sslnb.training.loop import PretrainConfig, pretrain

NO_FLAG = ("options", "depth")  # fields of PretrainConfig that -o and --arch stand for


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
    chosen = {name: value_of(text) for name, text in pairs(context, option, options).items()}
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
