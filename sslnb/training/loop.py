"""The one training loop: any objective, one device or many, precise about what it did, resumable to the bit."""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sslnb.core import device, distributed
from sslnb.core.checks import expect
from sslnb.core.files import beside, keep, sha256
from sslnb.core.seeds import batches_of, seeded
from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import Encoder, weights_checksum
from sslnb.encoders.load import read_checkpoint
from sslnb.encoders.resnet import adopt
from sslnb.objectives import registry
from sslnb.objectives.objective import Objective
from sslnb.training import optim
from sslnb.training.checkpoint import load_weights, restore, save
from sslnb.training.config import PretrainConfig
from sslnb.training.journal import Journal
from sslnb.training.monitor import Look, Monitor
from sslnb.training.penalty import Penalty, Regularized

SAVE_EVERY_S = 60.0  # seconds of work that a killed run loses at most, besides the step it was in
CHECK_EVERY = 50  # steps between checks that losses and weights are finite
LOOKING = 0.05  # share of the time that may be spent on looking at the encoder while it trains


@dataclass(frozen=True)
class Pretrained:
    """What a run gives back: the encoder in evaluation mode, its history, and whether it can be trusted."""

    encoder: Encoder
    history: dict[str, list[float]]  # per epoch; see HISTORY
    reason: str | None  # why it did not converge: the loss stopped being finite, or the features collapsed
    reused: bool  # True when the checkpoint was already complete
    config: PretrainConfig
    checkpoint: Path | None  # where its state is kept, heads and all

    @property
    def converged(self) -> bool:
        return self.reason is None


# Per epoch: mean loss, seconds, and of those the ones spent looking; then what was seen, NaN where nobody looked.
HISTORY = ("loss", "seconds", "looking", *(field.name for field in dataclasses.fields(Look)))
Initial = Encoder | Path | None


def objective_from(config: PretrainConfig, images: ImageSet, initial: Initial = None) -> Objective:
    """Encoder and heads whose weights the seed alone decides, or those of an ``initial`` encoder or checkpoint."""
    kind = registry.get(config.objective)
    usable = not kind.uses_labels or int(images.labels.min()) >= 0
    expect(usable, "images", f"labels, which {config.objective} learns from", f"the unlabelled set {images.name}")
    shape = {"width": config.width, "stem": config.stem, "in_channels": images.images.shape[1]}
    views = {"crop_scale": (config.crop_scale, 1.0), "flip": config.flip}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = kind.build_encoder(config.depth, **shape, **config.options)
        encoder = adopt(encoder, initial) if isinstance(initial, Encoder) else encoder
        objective = kind(encoder, len(images.classes), len(images), **views, **config.options)
    if isinstance(initial, Path):
        try:
            load_weights(objective, read_checkpoint(initial))
        except (KeyError, RuntimeError) as error:
            wanted = f"a checkpoint of {config.objective} on as many images"
            raise ValueError(f"initial: expected {wanted}, got {initial}: {error}") from error
    return objective


def initial_checksum(initial: Initial) -> str | None:
    """What tells one start from another: the encoder's weights, or the checkpoint's bytes."""
    if isinstance(initial, Path):
        expect(initial.is_file(), "initial", "the path of a checkpoint", initial)
        return sha256(initial)
    return initial and weights_checksum(initial)


class TrainingRun:
    """State of one training run: what a checkpoint holds, and nothing else.

    Random numbers are functions of (seed, step, rank), so that the step is all the random state there is to keep.
    """

    def __init__(
        self,
        config: PretrainConfig,
        images: ImageSet,
        held_out: ImageSet | None,
        on: torch.device,
        initial: Initial = None,
        penalty: Penalty | None = None,
    ) -> None:
        self.config, self.device = config, on
        self.facts = {"data": images.checksum(), "initial": initial_checksum(initial)}
        self.facts |= {"penalty": penalty and penalty.facts(), "processes": distributed.world()}
        self.objective = objective_from(config, images, initial)
        self.layout = device.training_layout(self.objective, on)
        self.objective.to(on, memory_format=self.layout)
        self.images, self.labels = images.images.to(on), images.labels.to(on)
        self.batch_size = min(config.batch_size, len(images))
        ranks = distributed.world()
        expect(self.batch_size % ranks == 0, "batch_size", f"a multiple of the {ranks} processes", self.batch_size)
        self.per_epoch = len(images) // self.batch_size
        whole = config.epochs * self.per_epoch
        self.steps, self.step = min(whole, config.steps or whole), 0
        self.history: dict[str, list[float]] = {name: [] for name in HISTORY}
        self.epoch_loss, self.epoch_seconds, self.since = torch.zeros((), device=on), 0.0, time.monotonic()
        self.reason: str | None = None
        self.collapsed = False
        self.monitor = Monitor(images, held_out)
        self.peak = config.learning_rate * self.batch_size / 256
        self.optimizer = optim.make(config.optimizer, self.objective, self.peak, config.weight_decay)
        self.model = Regularized(self.objective, penalty.to(on)) if penalty else self.objective
        self.model = self._parallel() if ranks > 1 else self.model
        if config.compile:
            self.objective.encoder.compile()

    def _parallel(self) -> nn.Module:
        distributed.with_joint_batch_norm(self.objective, self.device)
        with warnings.catch_warnings():
            # Joint batch norms and gathered keys leave equal buffers on all ranks: nothing to broadcast. The argument
            # has a new name in torch 2.15, which older versions lack.
            warnings.simplefilter("ignore", FutureWarning)
            return nn.parallel.DistributedDataParallel(self.model, broadcast_buffers=False)

    def train_step(self, index: Tensor) -> None:
        """One optimizer step on the images of the joint batch that are this rank's."""
        config, progress = self.config, self.step / self.steps
        factor = optim.SCHEDULES[config.schedule](self.step, self.steps, config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * factor
        index = index.chunk(distributed.world())[distributed.rank()]
        generator = seeded(config.seed, self.step, self.device, distributed.rank())
        torch.manual_seed(generator.initial_seed())  # for an objective that draws without a generator, as dropout does
        views = self.objective.views(self.images[index], generator)
        views = [view.contiguous(memory_format=self.layout) for view in views]
        with device.autocast(self.device, config.precision):
            loss = self.model(views, self.labels[index], index)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.objective.before_step(progress)
        self.optimizer.step()
        self.step += 1
        self.objective.after_step(self.step / self.steps)
        self.epoch_loss += loss.detach()

    def finite(self) -> bool:
        """Whether losses and weights still are."""
        weights = (torch.isfinite(p).all() for p in self.objective.parameters())
        return bool(torch.isfinite(self.epoch_loss)) and all(map(bool, weights))

    def stop_unless_finite(self) -> bool:
        """End the run on all ranks when it is no longer finite on one."""
        if distributed.any_rank(not self.finite(), self.device):
            self.reason = "the loss or the weights stopped being finite"
        return self.reason is not None

    def ends_epoch(self) -> bool:
        """Whether the last step was an epoch's or the run's last: it is saved with its row of the history."""
        return self.step % self.per_epoch == 0 or self.step == self.steps

    def lap(self) -> float:
        """Seconds since the last lap. Called where the device has been waited for, or it would time mere launches."""
        before, self.since = self.since, time.monotonic()
        return self.since - before

    def end_epoch(self) -> bool:
        """Close the epoch's history, end the run if it has gone wrong; True when a look found it sound."""
        steps = (self.step - 1) % self.per_epoch + 1  # fewer where the run ends within an epoch
        loss = float(distributed.total(self.epoch_loss)) / (steps * distributed.world())
        self.stop_unless_finite()
        self.epoch_seconds += self.lap()
        look = self._look()
        looking = self.lap()
        if look is not None and distributed.any_rank(look.collapsed, self.device) and self.reason is None:
            self.collapsed = True
            collapsed = f"the features collapsed: their deviation is {look.deviation:.4f} of an even spread"
            self.reason = "the features stopped being finite" if math.isnan(look.deviation) else collapsed
        row = {"loss": loss, "seconds": self.epoch_seconds + looking, "looking": looking}
        row |= dataclasses.asdict(look or Look())
        for name, value in row.items():
            self.history[name].append(value)
        self.epoch_loss.zero_()
        self.epoch_seconds = 0.0
        return look is not None and self.reason is None

    def _look(self) -> Look | None:
        """What the monitor sees in the first and the last epoch, and between in as many as its share of time allows."""
        if self.reason is not None:
            return None
        looks, seconds = self.history["looking"], sum(self.history["seconds"]) + self.epoch_seconds
        affordable = sum(looks) + max(looks, default=0.0) <= LOOKING * seconds
        if not distributed.any_rank(affordable or not looks or self.step == self.steps, self.device):
            return None
        return self.monitor.look(self.objective.encoder, self.config.precision)


def pretrain(
    config: PretrainConfig,
    images: ImageSet,
    *,
    held_out: ImageSet | None = None,
    initial: Initial = None,
    penalty: Penalty | None = None,
    checkpoint: Path | str | None = None,
    log: Path | str | None = None,
    on: torch.device | None = None,
    stop_after: int | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Pretrained:
    """Train an encoder on uint8 images; shows loss, images/s and time left.

    With a ``checkpoint`` path the state is written there every minute and at the end, atomically, the one before it
    kept as ``PATH.previous``; an existing file is resumed from (to the bit-identical result on the same CPU), or
    returned at once when it is complete. ``held_out`` images (of the validation split) give kNN and linear accuracy
    along the way, for at most 5 % of the time besides the first and the last look. Weights start from those of an
    ``initial`` encoder, where one is given (:func:`adopt`), or with heads and memories from the path of a
    run's checkpoint; schedules start anew. A ``penalty`` on the encoder's features is added to the loss. ``log`` gets
    one JSON line per epoch after one that says what was run. ``stop_after`` ends the call after so many steps, its
    state saved; ``on_step`` is told the number of every step, in place of a bar. A run whose
    loss stops being finite, or whose features collapse, ends early, keeps its last good checkpoint, and comes back with
    ``converged=False`` and the ``reason``. Under ``torchrun`` every process calls this with the same arguments, and
    they train as one: ``batch_size`` is that of all together. Raises ``ValueError`` for an unknown objective or option,
    and for a checkpoint of other parameters or data.
    """
    on = on or device.best_device()
    config = config.resolved(on)
    run = TrainingRun(config, images, held_out, on, initial, penalty)
    path = Path(checkpoint) if checkpoint is not None else None
    if path is not None and path.exists():
        restore(run, path)
    reused = run.step == run.steps
    last = run.steps if stop_after is None else min(run.steps, run.step + stop_after)
    if not reused:
        journal = Journal(log if distributed.rank() == 0 else None)
        journal.begin(config, images, run.step)
        if path is not None and distributed.rank() == 0:
            keep(path, ".sound")  # what a run went on from is where it returns to
        _train(run, last, path, journal, on_step)
    return Pretrained(run.objective.encoder.eval(), run.history, run.reason, reused, config, path)


def _train(
    run: TrainingRun, last: int, path: Path | None, journal: Journal, on_step: Callable[[int], None] | None
) -> None:
    run.objective.train()
    label = f"{run.config.objective} (seed {run.config.seed})"
    unit = {
        "unit": "img",
        "unit_scale": run.batch_size,
        "mininterval": 1.0,
        "disable": distributed.rank() > 0 or on_step is not None,
    }
    saved = time.monotonic()
    run.lap()
    with tqdm(total=run.steps, initial=run.step, desc=label, **unit) as bar, torch.random.fork_rng(devices=[]):
        while run.step < last and run.reason is None:
            epoch, first = divmod(run.step, run.per_epoch)
            order = batches_of(epoch, len(run.images), run.batch_size, run.config.seed)
            for index in order[first : first + last - run.step].to(run.device):
                run.train_step(index)
                bar.update()
                if on_step is not None:
                    on_step(run.step)
                if not run.ends_epoch() and time.monotonic() - saved > SAVE_EVERY_S and path is not None:
                    save(run, path)
                    saved = time.monotonic()
                if run.step % CHECK_EVERY == 0 and run.stop_unless_finite():
                    break
            else:
                if run.ends_epoch():
                    monitored = run.end_epoch()
                    journal.epoch(run.step, run.history)
                    bar.set_postfix(loss=f"{run.history['loss'][-1]:.3f}")
                    due = time.monotonic() - saved > SAVE_EVERY_S or (monitored and path and not path.exists())
                    if path is not None and due and run.step < last:
                        save(run, path, sound=monitored)
                        saved = time.monotonic()
    if run.reason is None:
        run.stop_unless_finite()
    if run.reason is not None:
        journal.note(run.reason)
    if path is None or distributed.rank():
        return
    sound = beside(path, ".sound")
    if run.reason is None:
        save(run, path)
    elif run.collapsed and sound.exists():
        sound.replace(path)  # nobody had looked at what was saved since
    sound.unlink(missing_ok=True)
