"""Trained encoders, kept under everything that determines them and shared by the studies."""

import dataclasses
from pathlib import Path

import torch

from sslnb.core import artifacts, device
from sslnb.data.images import ImageSet
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
