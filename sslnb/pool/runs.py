"""One member's training: resumable, its encoders kept at the planned steps with what is known of each."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch

from sslnb.core.checks import NonFiniteError, expect, expect_finite, one_line
from sslnb.core.files import atomic, cache_root
from sslnb.core.provenance import provenance
from sslnb.data import ImageSet
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.load import read_checkpoint
from sslnb.features import extract, knn_predict
from sslnb.features.scores import top1
from sslnb.pool import store
from sslnb.pool.members import Member
from sslnb.pool.store import Entry
from sslnb.training.cache import encoder_artifact
from sslnb.training.loop import Pretrained, pretrain
from sslnb.training.monitor import ridge_accuracy

BANK = 10_000  # training images of the quick accuracies; twice as many change them by less than a point
NEIGHBOURS = 20  # as the monitor's


@functools.cache
def checkpoint(member: Member) -> Path:
    """Where a member's run keeps its state; its name tells what weights the run began with."""
    path = encoder_artifact(member.config, member.images())
    return path if member.initial is None else path.with_stem(f"{path.stem}-from-{checkpoint(member.initial).stem}")


def _described(member: Member, step: int) -> Path:
    path = checkpoint(member)
    return path.with_name(f"{path.stem}-{step}.json")


def last_step(member: Member) -> int:
    """The number of steps of a member's training."""
    return member.kept_steps(len(member.images()))[-1]


def find(member: Member, step: int | None = None) -> tuple[Path, Entry] | None:
    """Folder and description of a finished run's encoder, or of the one kept at a step; None where it is not there."""
    if not _begun(member):
        return None
    path = _described(member, step or last_step(member))
    return (path.parent, Entry.model_validate_json(path.read_text())) if path.is_file() else None


def _begun(member: Member) -> bool:
    """Whether anything of its objective on its set is kept here, which takes no images to know, unlike which run."""
    own_files = member.dataset.endswith(".npz") or member.dataset.startswith(("npz:", "folder:", "hf:"))
    name = "*" if own_files else member.dataset.replace(":", "-")  # as encoder_artifact names it
    return any((cache_root() / "encoders").glob(f"{member.config.objective}-{name}-*"))


def state(member: Member) -> str:
    """How far a run has come, in words."""
    if not _begun(member):
        return "not begun"
    place = find(member)
    if place is not None:
        return f"stopped: {place[1].reason}" if place[1].reason else "finished"
    path = checkpoint(member)
    return f"step {read_checkpoint(path)['step']:,} of {last_step(member):,}" if path.is_file() else "not begun"


def run(member: Member, on_step: Callable[[int], None] | None = None) -> Entry:
    """Train a member to its end, from where an earlier call stopped; a finished one costs nothing.

    ``ValueError`` where it begins with the encoder of another run that has not been trained to its end.
    """
    images, held_out = member.images(), member.images("val")
    initial = member.initial and _trained(member.initial)
    path, entry = checkpoint(member), None
    steps = member.kept_steps(len(images))
    missing = [step for step in steps if find(member, step) is None]
    if missing and path.is_file() and read_checkpoint(path)["step"] > missing[0]:
        path.unlink()  # the run is past what is missing, and goes only forwards
    for step in missing:
        done = read_checkpoint(path)["step"] if path.is_file() else 0
        training = pretrain(
            member.config,
            images,
            held_out=held_out,
            initial=initial,
            checkpoint=path,
            stop_after=step - done,
            on_step=on_step,
        )
        entry = _keep(member, training, step, images, held_out)
        if entry.file is None:
            break
    return entry or find(member)[1]


def _trained(member: Member) -> Encoder:
    """The encoder at the end of a run."""
    place = find(member)
    whole = place is not None and place[1].file is not None
    expect(whole, f"pool: {member.name}", "a finished run, with whose encoder another begins", state(member))
    return store.read_weights(place[0], member.name, place[1])


def _keep(member: Member, training: Pretrained, step: int, images: ImageSet, held_out: ImageSet) -> Entry:
    """Write a run's encoder after a step; the description of one that ended badly stands for its last step."""
    encoder, accuracy, reason = training.encoder, {}, training.reason
    if training.converged:
        try:
            encoder = store.rounded(encoder)
            for name, value in encoder.state_dict().items():
                expect_finite(value, name)
            accuracy = accuracies(encoder, images, held_out)
        except NonFiniteError as error:
            reason = f"its encoder is of no use: {one_line(error)}"
    sound = reason is None
    described = _described(member, step if sound else last_step(member))
    weights = described.with_suffix(".safetensors")
    entry = Entry(
        file=weights.name if sound else None,
        sha256=store.write_weights(encoder, weights) if sound else None,
        spec=encoder.spec,
        config=dataclasses.asdict(training.config),
        step=step,
        data={"name": images.name, "images": len(images), "checksum": images.checksum()},
        provenance=provenance(),
        seconds=round(sum(s for s in training.history["seconds"] if math.isfinite(s)), 1),
        history=store.plain_history(training.history),
        accuracy=accuracy,
        reason=reason,
    )
    with atomic(described) as partial:
        partial.write_text(json.dumps(entry.model_dump(), indent=1))
    return entry


def accuracies(encoder: Encoder, images: ImageSet, held_out: ImageSet) -> dict[str, float]:
    """kNN and linear accuracy on all validation images, from a choice of training images; none without labels."""
    if images.unlabeled or held_out.unlabeled:
        return {}
    bank = images.take(min(BANK, len(images)))
    train, test = (extract(encoder, part) for part in (bank, held_out))
    neighbours = top1(knn_predict(train, bank.labels, test, k=NEIGHBOURS), held_out.labels)
    with torch.no_grad():
        linear = ridge_accuracy(train, bank.labels, test, held_out.labels)
    return {"knn": round(neighbours, 4), "linear": round(linear, 4)}
