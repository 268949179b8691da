"""Speeds of the training loop, each as a ratio of two sides that took turns in one run."""

import concurrent.futures
import multiprocessing
import statistics
import time
from collections.abc import Callable

import torch
from rows import row
from torch import Tensor

from sslnb import data
from sslnb.core import device
from sslnb.data.images import ImageSet
from sslnb.training.loop import PretrainConfig, TrainingRun, pretrain
from sslnb.views.augment import Augmentation

BATCH = 256


def started_run(images: ImageSet, width: int, precision: str = "auto", **options: object) -> TrainingRun:
    shared = {"batch_size": BATCH, "epochs": 100, "flip": 0.0}
    config = PretrainConfig("simclr", width=width, precision=precision, options=options, **shared)
    on = device.best_device()
    run = TrainingRun(config.resolved(on), images, None, on)
    run.objective.train()
    return run


def _median_times(sides: dict[str, Callable[[], object]], repeats: int = 12) -> dict[str, float]:
    """Median seconds of each side, taking turns, so that whatever else the machine does meets all of them."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, work in sides.items():
            started = time.perf_counter()
            work()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            if turn:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def simclr_step() -> list[dict]:
    """The loop's step against the model alone on ready views, against its parts, and float32 against bf16."""
    images = data.load("digit-scenes", limit=4 * BATCH)
    run, plain = started_run(images, 16), started_run(images, 16, "float32")
    index = torch.arange(BATCH, device=run.device)
    sides = {"loop": lambda: run.train_step(index), "alone": _model_alone(run, index)}
    sides |= {"views": lambda: run.objective.views(run.images[index], None), "float32": lambda: plain.train_step(index)}
    took = _median_times(sides)
    share, views = took["alone"] / took["loop"], took["views"] / took["loop"]
    rest = 1 - share - views
    faster = took["float32"] / took["loop"]
    what = f"SimCLR step, ResNet-18 of width 16, {2 * BATCH} views"
    crops = _median_times({"crops": _crops_alone(images.images[:BATCH])})["crops"] / took["loop"]
    limit = f"making the views takes {100 * views:.1f} % of the step, all else outside the model {100 * rest:.1f} %"
    resampling = f"drawing and resampling the crops alone, two of each image, takes {100 * crops:.1f} % of the step"
    return [
        row(f"{what}: images/s of the model alone", "%", 100 * share, "at least 95 %", share >= 0.95, limit=limit),
        row(f"{what}: share of making the views", "%", 100 * views, "under 5 %", views < 0.05, limit=resampling),
        row(f"{what}: share outside model, loss and views", "%", 100 * rest, "at most 3 %", rest <= 0.03),
        row(f"{what}: bf16", "s", took["loop"], "at least 1.5×", faster >= 1.5, took["float32"], "float32"),
    ]


def _crops_alone(images: Tensor) -> Callable[[], object]:
    """Two crops of each image, with nothing done to their colours."""
    crop = Augmentation(flip=0.0)
    return lambda: (crop(images), crop(images))


def _model_alone(run: TrainingRun, index: Tensor) -> Callable[[], None]:
    """A step of the same model on views that are ready."""
    ready = [v.contiguous(memory_format=torch.channels_last) for v in run.objective.views(run.images[index], None)]

    def step() -> None:
        with device.autocast(run.device, run.config.precision):
            loss = run.objective(ready, run.labels[index], index)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        run.optimizer.step()

    return step


def pool() -> list[dict]:
    """Images a second of the pool's recipe by the views' side, one thread; and of two such processes beside one."""
    rows = []
    for side in (16, 20, 24, 32):
        (rate, alone), *_ = _at_once(1, side)
        what = f"SimCLR of width 16, two {side}-px views, one thread"
        rows.append(row(f"{what}: images/s", "1/s", rate, "reported", True))
        if side == 20:
            share = 100 * rate / alone
            limit = f"the rest is making the views, {1e3 * BATCH * (1 / rate - 1 / alone):.0f} ms of a step"
            name = f"{what}: of the model alone on ready tensors"
            rows.append(row(name, "%", share, "at least 95 %", share >= 95, limit=limit))
            both = sum(rate for rate, _ in _at_once(2, side)) / rate
            rows.append(row("two processes, two 20-px views: images/s of one", "×", both, "at least 1.9×", both >= 1.9))
    return rows


def _at_once(processes: int, side: int) -> list[tuple[float, float]]:
    """Images/s of the loop and of the model alone, in so many processes of one thread that run at the same time."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        return list(pool.map(_rates, [side] * processes))


def _rates(side: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    images = data.load("digit-scenes", limit=4 * BATCH)
    run = started_run(images, 16, view_size=side)
    index = torch.arange(BATCH)
    took = _median_times({"loop": lambda: run.train_step(index), "alone": _model_alone(run, index)})
    return BATCH / took["loop"], BATCH / took["alone"]


def against_lightly() -> list[dict]:
    """The loop against lightly's recipe: its transform and loss, a DataLoader with 2 workers, the same network."""
    images = data.load("digit-scenes", limit=32 * BATCH)
    rows = []
    for width, target in ((16, 1.4), (8, 2.0)):
        run = started_run(images, width)
        ours, theirs = seconds_per_step(run, images), _lightly_seconds_per_step(images, width)
        alone = _median_times({"alone": _model_alone(run, torch.arange(BATCH))})["alone"]
        limit = (
            f"the model alone on ready views takes {alone:.3f} s, the peer needs {theirs / alone:.2f} times that; "
            "so narrow a network cannot be trained channels last (oneDNN issue 6035)"
        )
        name, met = f"SimCLR step with data, width {width}, batch {BATCH}", theirs / ours >= target
        rows.append(row(name, "s", ours, f"at least {target}×", met, theirs, "lightly's recipe", limit=limit))
    return rows


def seconds_per_step(run: TrainingRun, images: ImageSet) -> float:
    order = torch.randperm(len(images))[: len(images) // BATCH * BATCH].view(-1, BATCH).to(run.device)
    run.train_step(order[0])
    started = time.perf_counter()
    for index in order[1:]:
        run.train_step(index)
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return (time.perf_counter() - started) / (len(order) - 1)


class _Pairs(torch.utils.data.Dataset):
    """PIL images through lightly's transform, as its data sets give them."""

    def __init__(self, images: Tensor) -> None:
        from lightly.transforms import SimCLRTransform
        from PIL import Image

        self.pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
        self.transform = SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(self.pictures[index])


def _lightly_seconds_per_step(images: ImageSet, width: int) -> float:
    from lightly.loss import NTXentLoss

    run = started_run(images, width)  # for its network, head, optimizer and precision
    model = torch.nn.Sequential(run.objective.encoder, run.objective.head)
    criterion = NTXentLoss(temperature=0.5)
    loader = torch.utils.data.DataLoader(_Pairs(images.images), BATCH, shuffle=True, drop_last=True, num_workers=2)
    started, steps = time.perf_counter(), 0
    for steps, views in enumerate(loader):  # the first batch waits for the workers to start: it is not counted
        if steps == 1:
            started = time.perf_counter()
        x = torch.cat(views).to(run.device, memory_format=torch.channels_last)
        with device.autocast(run.device, run.config.precision):
            z = model(x)
        loss = criterion(*z.float().chunk(2))
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        run.optimizer.step()
    return (time.perf_counter() - started) / steps


def looking() -> list[dict]:
    """What watching accuracy and collapse costs a run of some length."""
    train, val = data.load("digit-scenes", limit=9000), data.load("digit-scenes", "val")
    config = PretrainConfig("simclr", width=8, batch_size=BATCH, epochs=6, optimizer="adamw", flip=0.0)
    history = pretrain(config, train, held_out=val).history
    share = sum(history["looking"]) / sum(history["seconds"])
    return [row("kNN, linear accuracy and rank during training", "%", 100 * share, "at most 5 %", share <= 0.05)]


def epoch_on_gpu() -> list[dict]:
    """An epoch of full-width SimCLR on CIFAR-10, where there is a GPU and the data; nothing elsewhere."""
    if not torch.cuda.is_available():
        return []
    images = data.load("cifar10")
    config = PretrainConfig("simclr", batch_size=512, epochs=100, compile=True)
    run = TrainingRun(config.resolved(device.best_device()), images, None, device.best_device())
    run.objective.train()
    order = torch.randperm(len(images))[: 512 * run.per_epoch].view(-1, 512).to(run.device)
    for index in order[:10]:
        run.train_step(index)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for index in order:
        run.train_step(index)
    torch.cuda.synchronize()
    took = time.perf_counter() - started
    reached = 334 / took / _matrix_rate()  # an epoch is about 334 TFLOP
    return [
        row("SimCLR epoch, ResNet-18, CIFAR-10, 100,000 views", "s", took, "under 3 s", took < 3),
        row("the same: share of the measured bf16 matrix rate", "%", 100 * reached, "stated", True),
    ]


def _matrix_rate(n: int = 8192, repeats: int = 20) -> float:
    """TFLOP/s of a large bf16 matrix product on the GPU."""
    a = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
    took = _median_times({"product": lambda: a @ a}, repeats)["product"]
    return 2 * n**3 / took / 1e12
