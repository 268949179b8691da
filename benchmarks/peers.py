"""An epoch of SimCLR beside stable-pretraining's, which has to be installed for it (benchmarks/requirements.txt)."""

import importlib.util
import time

import torch
import training
from PIL import Image
from rows import row

from sslnb import data
from sslnb.data import ImageSet

WIDTH, TEMPERATURE, WORKERS = 16, 0.5, 2


def against_stable_pretraining() -> list[dict]:
    """Seconds of one epoch of CIFAR-10: the same network, head, loss, optimizer and precision; its own augmentation."""
    if importlib.util.find_spec("stable_pretraining") is None:
        print("stable-pretraining is not installed: nothing to compare with")
        return []
    images = data.load("cifar10")
    run = training.started_run(images, WIDTH)
    ours, theirs = (
        run.per_epoch * each for each in (training.seconds_per_step(run, images), _their_seconds_per_step(images))
    )
    name = f"SimCLR epoch of CIFAR-10, ResNet-18 of width {WIDTH}, batch {training.BATCH}"
    return [row(name, "s", ours, "faster than the peer", ours < theirs, theirs, "stable-pretraining on Lightning")]


class _Pictures(torch.utils.data.Dataset):
    """PIL images with their labels, as torchvision's data sets give them."""

    def __init__(self, images: ImageSet) -> None:
        self.images, self.labels = images.images.permute(0, 2, 3, 1).numpy(), images.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), self.labels[index]


def _their_seconds_per_step(images: ImageSet) -> float:
    import lightning as pl
    import stable_pretraining as spt
    from stable_pretraining.data import transforms
    from stable_pretraining.forward import simclr

    run = training.started_run(images, WIDTH)  # for its network, head and precision
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
    loader = torch.utils.data.DataLoader(dataset, training.BATCH, shuffle=True, drop_last=True, num_workers=WORKERS)
    optimizer = {"type": "SGD", "lr": run.peak, "momentum": 0.9, "weight_decay": config.weight_decay}
    module = spt.Module(
        backbone=encoder,
        projector=run.objective.head,
        forward=simclr,
        simclr_loss=spt.losses.NTXEntLoss(temperature=TEMPERATURE),
        optim={"optimizer": optimizer},
    )
    ends: list[float] = []
    trainer = pl.Trainer(
        max_epochs=1,
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
        callbacks=[pl.pytorch.callbacks.LambdaCallback(on_train_batch_end=lambda *_: ends.append(time.perf_counter()))],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, spt.data.DataModule(train=loader))
    return (ends[-1] - ends[0]) / (len(ends) - 1)  # the first batch waits for the workers to start: it is not counted
