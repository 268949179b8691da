"""What a training run leaves on disk, and takes up again: one file that holds all of its state."""

import dataclasses
import typing
from pathlib import Path

import torch

from sslnb.core import distributed
from sslnb.core.checks import expect
from sslnb.core.files import atomic, beside, keep
from sslnb.encoders.load import read_checkpoint
from sslnb.objectives.objective import Objective

if typing.TYPE_CHECKING:
    from sslnb.training.loop import TrainingRun

# What decides a run besides its configuration, by default.
OUTSIDE = {"data": None, "initial": None, "penalty": None, "processes": 1}


def load_weights(objective: Objective, state: dict) -> None:
    """Take the weights, heads and memories of a checkpoint."""
    objective.load_state_dict({f"encoder.{k}": v for k, v in state["encoder"].items()} | state["heads"])


def save(run: "TrainingRun", path: Path, *, sound: bool = False) -> None:
    """Write the checkpoint and keep the one before as ``PATH.previous``, unless the run has gone wrong.

    One that was looked at and found ``sound`` is also ``PATH.sound``, which the next ones don't take away.
    """
    if distributed.rank() or run.reason is not None or not run.finite():
        return
    run.epoch_seconds += run.lap()
    model = run.objective.state_dict()
    state = {
        "spec": run.objective.encoder.spec,
        "encoder": {k.removeprefix("encoder."): v for k, v in model.items() if k.startswith("encoder.")},
        "heads": {k: v for k, v in model.items() if not k.startswith("encoder.")},
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "epoch_loss": run.epoch_loss,
        "epoch_seconds": run.epoch_seconds,
        "history": run.history,
        "config": dataclasses.asdict(run.config),
        **run.facts,
    }
    with atomic(path) as partial:
        torch.save(state, partial)
        keep(path, ".previous")
    if sound:
        keep(path, ".sound")
    run.lap()  # writing is no training


def restore(run: "TrainingRun", path: Path) -> None:
    """Go on from a checkpoint; ``ValueError`` lists what differs when it is another run's."""
    try:
        state = read_checkpoint(path)
    except ValueError as error:
        spare = beside(path, ".previous")
        spare_text = f"; the one before it is {spare}" if spare.exists() else ""
        raise ValueError(f"{error}{spare_text}") from error
    missing = sorted({"encoder", "heads", "optimizer", "step", "history", "config", "data"} - set(state))
    expect(not missing, f"checkpoint {path}", "a training run's", f"one without {', '.join(missing)}")
    # Views are drawn per process: with another number of them it would be another run.
    want = dataclasses.asdict(run.config) | run.facts
    have = state["config"] | {k: state.get(k, default) for k, default in OUTSIDE.items()}
    differs = [f"{k}={have.get(k)!r} there, {want.get(k)!r} asked" for k in want if have.get(k) != want.get(k)]
    expect(not differs, f"checkpoint {path}", "the same parameters and data", "; ".join(differs))
    load_weights(run.objective, state)
    run.optimizer.load_state_dict(state["optimizer"])
    run.step, run.history, run.epoch_seconds = state["step"], state["history"], state["epoch_seconds"]
    run.epoch_loss = state["epoch_loss"].to(run.device)
