"""Trained encoders, kept under everything that determines them and shared by the studies."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from sslnb import artifacts, device, objectives
from sslnb.checks import expect
from sslnb.encoders import Encoder, read_checkpoint, read_encoder, save_encoder, weights_checksum
from sslnb.images import ImageSet
from sslnb.pretrain import PretrainConfig, Pretrained, pretrain

# What an encoder depends on, besides the objective's own files.
CODE = ("augment", "color", "device", "distributed", "encoders", "optim", "patches", "pretrain", "rand_augment")


def encoder_artifact(
    config: PretrainConfig, images: ImageSet, on: torch.device | None = None, initial: Encoder | None = None
) -> Path:
    """Where the shared cache keeps the encoder of this configuration, data, code, and weights to begin from."""
    config = config.resolved(on or device.best_device())
    files = objectives.files_of(objectives.get(config.objective))
    code = artifacts.code_version(*(f"sslnb.{name}" for name in CODE), *files)
    facts = {"config": dataclasses.asdict(config), "data": images.checksum(), "code": code}
    facts["initial"] = initial and weights_checksum(initial)
    return artifacts.path("encoders", f"{config.objective}-{images.name.replace(':', '-')}", **facts)


def cached_pretrain(
    config: PretrainConfig,
    images: ImageSet,
    on: torch.device | None = None,
    held_out: ImageSet | None = None,
    initial: Encoder | None = None,
) -> Pretrained:
    """:func:`pretrain` with its checkpoint in the shared cache: trained once, whichever study asks."""
    path = encoder_artifact(config, images, on, initial)
    return pretrain(config, images, held_out=held_out, initial=initial, checkpoint=path, on=on)


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Encoders at several steps of one run, in evaluation mode; fewer than asked where the run went wrong."""

    encoders: dict[int, Encoder]
    reason: str | None  # why it did not get further
    reused: bool  # True when nothing was trained


def cached_checkpoints(
    config: PretrainConfig, images: ImageSet, at: Sequence[int], initial: Encoder | None = None
) -> Checkpoints:
    """Encoders after the steps ``at`` of one run, which ends at the last of them; all in the shared cache.

    ``ValueError`` for steps beyond the run's, whose number ``config.epochs`` and ``config.steps`` decide.
    """
    steps = config.epochs * (len(images) // min(config.batch_size, len(images)))
    steps = min(steps, config.steps or steps)
    expect(min(at) > 0 and max(at) <= steps, "at", f"steps in 1..{steps}", list(at))
    path = encoder_artifact(config, images, None, initial)
    kept = {step: path.with_name(f"{path.stem}-{step}.pt") for step in sorted(at)}
    missing = [step for step in kept if not kept[step].exists()]
    reused, reason = not missing, None
    if missing and path.exists() and read_checkpoint(path)["step"] > missing[0]:
        path.unlink()  # the run is past what is missing, and goes only forwards
    for step in missing:
        done = read_checkpoint(path)["step"] if path.exists() else 0
        run = pretrain(config, images, initial=initial, checkpoint=path, stop_after=step - done)
        if not run.converged:
            reason = run.reason
            break
        save_encoder(run.encoder, kept[step])
    return Checkpoints({step: read_encoder(kept[step]) for step in kept if kept[step].exists()}, reason, reused)
