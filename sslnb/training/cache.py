"""Trained encoders, kept under everything that determines them and shared by the studies."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from sslnb.core import artifacts, device
from sslnb.core.checks import expect
from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.load import read_checkpoint, read_encoder, save_encoder
from sslnb.objectives import registry
from sslnb.training.loop import Initial, PretrainConfig, Pretrained, initial_checksum, pretrain
from sslnb.training.penalty import Penalty


def encoder_artifact(
    config: PretrainConfig,
    images: ImageSet,
    on: torch.device | None = None,
    initial: Initial = None,
    penalty: Penalty | None = None,
) -> Path:
    """Where the shared cache keeps the encoder of this configuration, data, code, weights to begin from, penalty."""
    config = config.resolved(on or device.best_device())
    # The loop finds objectives at run time, so that theirs has to be named.
    code = artifacts.code_version(pretrain.__module__, registry.get(config.objective).__module__)
    facts = {"config": dataclasses.asdict(config), "data": images.checksum(), "code": code}
    facts |= {"initial": initial_checksum(initial), "penalty": penalty and penalty.facts()}
    return artifacts.path("encoders", f"{config.objective}-{images.name.replace(':', '-')}", **facts)


def cached_pretrain(
    config: PretrainConfig,
    images: ImageSet,
    on: torch.device | None = None,
    held_out: ImageSet | None = None,
    initial: Initial = None,
    penalty: Penalty | None = None,
) -> Pretrained:
    """:func:`pretrain` with its checkpoint in the shared cache: trained once, whichever study asks."""
    path = encoder_artifact(config, images, on, initial, penalty)
    return pretrain(config, images, held_out=held_out, initial=initial, penalty=penalty, checkpoint=path, on=on)


class _Encoders(Mapping[int, Encoder]):
    """Encoders by step, read from their files when asked for: callers often want one of many."""

    def __init__(self, paths: dict[int, Path]) -> None:
        self._paths = paths

    def __getitem__(self, step: int) -> Encoder:
        return read_encoder(self._paths[step])

    def __contains__(self, step: object) -> bool:
        return step in self._paths

    def __iter__(self) -> Iterator[int]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Encoders at several steps of one run, in evaluation mode; fewer than asked where the run went wrong."""

    encoders: Mapping[int, Encoder]
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
    paths = {step: path.with_name(f"{path.stem}-{step}.pt") for step in sorted(at)}
    missing = [step for step in paths if not paths[step].exists()]
    reused, reason = not missing, None
    if missing and path.exists() and read_checkpoint(path)["step"] > missing[0]:
        path.unlink()  # the run is past what is missing, and goes only forwards
    for step in missing:
        done = read_checkpoint(path)["step"] if path.exists() else 0
        run = pretrain(config, images, initial=initial, checkpoint=path, stop_after=step - done)
        if not run.converged:
            reason = run.reason
            break
        save_encoder(run.encoder, paths[step])
    return Checkpoints(_Encoders({step: path for step, path in paths.items() if path.exists()}), reason, reused)
