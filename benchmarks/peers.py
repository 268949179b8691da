"""An epoch of SimCLR beside stable-pretraining's, which has to be installed for it (benchmarks/requirements.txt)."""

import importlib.util
import time

import torch
from PIL import Image
from rows import row

from sslnb import data
from sslnb.core import device
from sslnb.data import ImageSet
from sslnb.training.config import PretrainConfig
from sslnb.training.loop import TrainingRun

BATCH, WIDTH, TEMPERATURE, WORKERS = 256, 16, 0.5, 2
SIMCLR = PretrainConfig("simclr", width=WIDTH, batch_size=BATCH, epochs=100)


def against_stable_pretraining() -> list[dict]:
    """Seconds of one epoch of CIFAR-10: the same network, head, loss, optimizer and precision; its own augmentation."""
    if importlib.util.find_spec("stable_pretraining") is None:
        print("stable-pretraining is not installed: nothing to compare with")
        return []
    images = data.load("cifar10")
    ours, theirs = _our_epoch(images), _their_epoch(images)
    name = f"SimCLR epoch of CIFAR-10, ResNet-18 of width {WIDTH}, batch {BATCH}"
    return [row(name, "s", ours, "faster than the peer", ours < theirs, theirs, "stable-pretraining on Lightning")]


def _run(images: ImageSet) -> TrainingRun:
    on = device.best_device()
    return TrainingRun(SIMCLR.resolved(on), images, None, on)


def _our_epoch(images: ImageSet) -> float:
    run = _run(images)
    order = torch.randperm(len(images))[: run.per_epoch * BATCH].view(-1, BATCH).to(run.device)
    run.train_step(order[0])  # not counted, as the peer's first is not
    started = time.perf_counter()
    for index in order[1:]:
        run.train_step(index)
    return (time.perf_counter() - started) / (len(order) - 1) * len(order)


class _Pictures(torch.utils.data.Dataset):
    """PIL images with their labels, as torchvision's data sets give them."""

    def __init__(self, images: ImageSet) -> None:
        self.images, self.labels = images.images.permute(0, 2, 3, 1).numpy(), images.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), self.labels[index]


def _their_epoch(images: ImageSet) -> float:
    import lightning as pl
    import stable_pretraining as spt
    from stable_pretraining.data import transforms
    from stable_pretraining.forward import simclr

    run = _run(images)  # for its network, head and precision
    config, encoder = run.config, run.objective.encoder
    view = transforms.Compose(
        transforms.RGB(),
        transforms.RandomResizedCrop((32, 32), scale=(config.crop_scale, 1.0)),
        transforms.RandomHorizontalFlip(p=config.flip),
        transforms.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.ToImage(mean=[0.0] * 3, std=[1.0] * 3),  # the encoder normalises
    )
    both = transforms.MultiViewTransform([view, view])
    dataset = spt.data.FromTorchDataset(_Pictures(images), names=["image", "label"], transform=both)
    loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, drop_last=True, num_workers=WORKERS)
    optimizer = {"type": "SGD", "lr": run.peak, "momentum": 0.9, "weight_decay": config.weight_decay}
    module = spt.Module(
        backbone=encoder,
        projector=run.objective.head,
        forward=simclr,
        simclr_loss=spt.losses.NTXEntLoss(temperature=TEMPERATURE),
        optim={"optimizer": optimizer},
    )
    clock = _clock()()
    trainer = pl.Trainer(
        max_epochs=1,
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, spt.data.DataModule(train=loader))
    return clock.seconds_per_step * len(loader)


def _clock() -> type:
    import lightning as pl

    class Clock(pl.Callback):
        """Time between the ends of the first and the last batch: the workers' start is not counted."""

        def on_train_batch_end(self, *_: object) -> None:
            self.ends = [*getattr(self, "ends", ()), time.perf_counter()]

        @property
        def seconds_per_step(self) -> float:
            return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)

    return Clock
