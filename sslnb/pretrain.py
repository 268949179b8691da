"""The one training loop: any objective, one device, precise about what it did, resumable to the bit."""

import dataclasses
import functools
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from sslnb import artifacts, device, objectives
from sslnb.checks import expect, expect_known
from sslnb.encoders import Encoder, read_checkpoint, resnet
from sslnb.files import atomic
from sslnb.images import ImageSet

CODE = ("sslnb.augment", "sslnb.encoders", "sslnb.objectives.base", "sslnb.pretrain")  # what an encoder depends on
OPTIMIZERS = {
    "sgd": functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "adamw": torch.optim.AdamW,
}
SAVE_EVERY_S = 60.0  # seconds of work that a killed run loses at most, besides the step it was in


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that determines a pretrained encoder, besides the data and the code."""

    objective: str = "simclr"
    depth: int = 18
    width: int = 64
    stem: str = "cifar"
    epochs: int = 200
    batch_size: int = 512  # a smaller set is one batch
    optimizer: str = "sgd"  # sgd (momentum 0.9, Nesterov) | adamw, which needs no tuning to be quick on small networks
    learning_rate: float | None = None  # per 256 images; None takes the objective's own for sgd, 0.002 for adamw
    weight_decay: float | None = None  # None takes the objective's own
    warmup: float = 0.05  # share of the steps over which the learning rate rises linearly
    crop_scale: float = 0.2  # least share of the image's area in a crop; 0.5 keeps digits whole
    flip: float = 0.5  # probability of mirroring; 0 for digits
    seed: int = 0
    precision: str = "auto"  # bf16 | float32 | auto: what the device computes well in
    options: dict = field(default_factory=dict)  # the objective's own hyperparameters

    def __post_init__(self) -> None:
        objectives.get(self.objective)
        expect(self.depth in (18, 34, 50), "depth", "18, 34 or 50", self.depth)
        expect(self.width >= 1, "width", "at least 1", self.width)
        for name in ("learning_rate", "weight_decay"):
            value = getattr(self, name)
            expect(value is None or 0 <= value < math.inf, name, "a finite value of at least 0", value)
        expect(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        expect(self.batch_size >= 2, "batch_size", "at least 2", self.batch_size)
        expect(0 <= self.warmup < 1, "warmup", "a share in [0, 1)", self.warmup)
        expect(0 < self.crop_scale <= 1, "crop_scale", "a share in (0, 1]", self.crop_scale)
        expect(0 <= self.flip <= 1, "flip", "a probability", self.flip)
        expect(self.optimizer in OPTIMIZERS, "optimizer", f"one of {sorted(OPTIMIZERS)}", repr(self.optimizer))
        expect(self.precision in ("auto", "bf16", "float32"), "precision", "auto, bf16 or float32", self.precision)

    def resolved(self, on: torch.device) -> "PretrainConfig":
        """The same with every default filled in, for this device."""
        objective = objectives.get(self.objective)
        own = {"sgd": objective.learning_rate, "adamw": 0.002}[self.optimizer]
        return dataclasses.replace(
            self,
            learning_rate=own if self.learning_rate is None else self.learning_rate,
            weight_decay=objective.weight_decay if self.weight_decay is None else self.weight_decay,
            precision=device.best_precision(on) if self.precision == "auto" else self.precision,
        )


@dataclass(frozen=True)
class Pretrained:
    """What a run gives back: the encoder in evaluation mode, its history, and whether it can be trusted."""

    encoder: Encoder
    history: dict[str, list[float]]  # per epoch: loss, seconds
    converged: bool  # False when the loss stopped being finite
    reused: bool  # True when the checkpoint was already complete
    config: PretrainConfig


def objective_from(config: PretrainConfig, images: ImageSet) -> objectives.Objective:
    """Freshly initialised encoder and heads; the seed alone decides the weights."""
    kind = objectives.get(config.objective)
    usable = not kind.uses_labels or int(images.labels.min()) >= 0
    expect(usable, "images", f"labels, which {config.objective} learns from", f"the unlabelled set {images.name}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = resnet(config.depth, width=config.width, stem=config.stem, in_channels=images.images.shape[1])
        known = set(kind.__init__.__kwdefaults__ or ())
        for name in config.options:
            expect_known(name, sorted(known), "options")
        views = {"crop_scale": (config.crop_scale, 1.0), "flip": config.flip}
        return kind(encoder, len(images.classes), **views, **config.options)


def cosine_with_warmup(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate at a step: linear rise over ``warmup`` · steps, then half a cosine to 0."""
    rise = max(1, round(warmup * steps)) if warmup else 0
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def seeded(seed: int, step: int, on: torch.device) -> torch.Generator:
    """Generator of one step: the same wherever the run was interrupted, different for every (seed, step)."""
    state = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    return torch.Generator(on).manual_seed(int(state) % 2**63)


def batches_of(epoch: int, n: int, batch_size: int, seed: int) -> Tensor:
    """Sample indices [steps, batch] of an epoch: a permutation, the incomplete last batch left out."""
    generator = seeded(seed, -epoch - 1 + 2**32, torch.device("cpu"))
    steps = n // batch_size
    return torch.randperm(n, generator=generator)[: steps * batch_size].view(steps, batch_size)


class _Run:
    """State of one training run: what a checkpoint holds, and nothing else."""

    def __init__(self, config: PretrainConfig, images: ImageSet, on: torch.device) -> None:
        self.config, self.device = config, on
        self.checksum = images.checksum()
        self.objective = objective_from(config, images).to(on, memory_format=torch.channels_last)
        self.images, self.labels = images.images.to(on), images.labels.to(on)
        self.batch_size = min(config.batch_size, len(images))
        self.per_epoch = len(images) // self.batch_size
        self.steps, self.step = config.epochs * self.per_epoch, 0
        self.history: dict[str, list[float]] = {"loss": [], "seconds": []}
        self.epoch_loss, self.epoch_seconds = torch.zeros((), device=on), 0.0
        self.finite = True
        self.peak = config.learning_rate * self.batch_size / 256
        make = OPTIMIZERS[config.optimizer]
        self.optimizer = make(self._groups(), lr=self.peak, weight_decay=config.weight_decay)

    def _groups(self) -> list[dict]:
        """Weights decay; biases and batch norms don't."""
        parameters = [p for p in self.objective.parameters() if p.requires_grad]
        decayed, rest = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
        return [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]

    def train_step(self, index: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * cosine_with_warmup(self.step, self.steps, self.config.warmup)
        images, labels = self.images[index], self.labels[index]
        views = self.objective.views(images, seeded(self.config.seed, self.step, self.device))
        views = [view.contiguous(memory_format=torch.channels_last) for view in views]
        with device.autocast(self.device, self.config.precision):
            loss = self.objective(views, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        self.objective.after_step(self.step / self.steps)
        self.epoch_loss += loss.detach()

    def check(self) -> bool:
        """Whether losses and weights are still finite; once they are not, the run is over."""
        weights = (torch.isfinite(p).all() for p in self.objective.parameters())
        self.finite = self.finite and bool(torch.isfinite(self.epoch_loss)) and all(map(bool, weights))
        return self.finite

    def end_epoch(self) -> None:
        loss = float(self.epoch_loss) / self.per_epoch
        self.check()
        self.history["loss"].append(loss)
        self.history["seconds"].append(self.epoch_seconds)
        self.epoch_loss.zero_()
        self.epoch_seconds = 0.0

    def save(self, path: Path) -> None:
        """Write the checkpoint, unless the run has stopped being finite: the last good one stays."""
        if not self.check():
            return
        model = self.objective.state_dict()
        state = {
            "spec": self.objective.encoder.spec,
            "encoder": {k.removeprefix("encoder."): v for k, v in model.items() if k.startswith("encoder.")},
            "heads": {k: v for k, v in model.items() if not k.startswith("encoder.")},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "epoch_loss": self.epoch_loss,
            "epoch_seconds": self.epoch_seconds,
            "history": self.history,
            "config": dataclasses.asdict(self.config),
            "data": self.checksum,
        }
        with atomic(path) as partial:
            torch.save(state, partial)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint; ``ValueError`` lists what differs when it is another run's."""
        state = read_checkpoint(path)
        missing = sorted({"encoder", "heads", "optimizer", "step", "history", "config", "data"} - set(state))
        expect(not missing, f"checkpoint {path}", "a training run's", f"one without {', '.join(missing)}")
        want = {**dataclasses.asdict(self.config), "data": self.checksum}
        have = {**state["config"], "data": state["data"]}
        differs = [f"{k}={have.get(k)!r} there, {want.get(k)!r} asked" for k in want if have.get(k) != want.get(k)]
        expect(not differs, f"checkpoint {path}", "the same parameters and data", "; ".join(differs))
        encoder = {f"encoder.{k}": v for k, v in state["encoder"].items()}
        self.objective.load_state_dict({**encoder, **state["heads"]})
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.history, self.epoch_seconds = state["step"], state["history"], state["epoch_seconds"]
        self.epoch_loss = state["epoch_loss"].to(self.device)


def pretrain(
    config: PretrainConfig,
    images: ImageSet,
    *,
    checkpoint: Path | str | None = None,
    on: torch.device | None = None,
    stop_after: int | None = None,
) -> Pretrained:
    """Train an encoder on uint8 images; shows loss, images/s and time left.

    With a ``checkpoint`` path the state is written there every minute and at the end, atomically; an existing file is
    resumed from (to the bit-identical result on the same CPU), or returned at once when it is complete.
    ``stop_after`` ends the call after so many steps, its state saved. A run whose loss stops being finite ends early,
    keeps its last good checkpoint, and comes back with ``converged=False``. Raises ``ValueError`` for an unknown
    objective or option, and for a checkpoint of other parameters or data.
    """
    on = on or device.best_device()
    config = config.resolved(on)
    run = _Run(config, images, on)
    path = Path(checkpoint) if checkpoint is not None else None
    if path is not None and path.exists():
        run.restore(path)
    reused = run.step == run.steps
    last = run.steps if stop_after is None else min(run.steps, run.step + stop_after)
    if not reused:
        _train(run, last, path)
    return Pretrained(run.objective.encoder.eval(), run.history, run.finite, reused, config)


def _train(run: _Run, last: int, path: Path | None) -> None:
    run.objective.train()
    label = f"{run.config.objective} (seed {run.config.seed})"
    unit = {"unit": "img", "unit_scale": run.batch_size, "mininterval": 1.0}
    saved = started = time.monotonic()
    with tqdm(total=run.steps, initial=run.step, desc=label, **unit) as bar:
        while run.step < last and run.finite:
            epoch, first = divmod(run.step, run.per_epoch)
            order = batches_of(epoch, len(run.images), run.batch_size, run.config.seed)
            for index in order[first : first + last - run.step].to(run.device):
                run.train_step(index)
                bar.update()
                if time.monotonic() - saved > SAVE_EVERY_S and path is not None:
                    run.epoch_seconds, started = run.epoch_seconds + time.monotonic() - started, time.monotonic()
                    run.save(path)
                    saved = time.monotonic()
            run.epoch_seconds, started = run.epoch_seconds + time.monotonic() - started, time.monotonic()
            if run.step % run.per_epoch == 0:
                run.end_epoch()
                bar.set_postfix(loss=f"{run.history['loss'][-1]:.3f}")
    run.check()
    if path is not None:
        run.save(path)


def encoder_artifact(config: PretrainConfig, images: ImageSet, on: torch.device | None = None) -> Path:
    """Where the shared cache keeps the encoder of this configuration, data and code."""
    config = config.resolved(on or device.best_device())
    code = artifacts.code_version(*CODE, objectives.get(config.objective).__module__)
    facts = {"config": dataclasses.asdict(config), "data": images.checksum(), "code": code}
    return artifacts.path("encoders", f"{config.objective}-{images.name.replace(':', '-')}", **facts)


def cached_pretrain(config: PretrainConfig, images: ImageSet, on: torch.device | None = None) -> Pretrained:
    """:func:`pretrain` with its checkpoint in the shared cache: trained once, whichever study asks."""
    return pretrain(config, images, checkpoint=encoder_artifact(config, images, on), on=on)
