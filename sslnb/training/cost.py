"""What a training step costs: time, the views' share of it, and memory."""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sslnb.core import device
from sslnb.data.images import ImageSet
from sslnb.training.loop import PretrainConfig, TrainingRun


@dataclass(frozen=True)
class StepCost:
    """Of one optimizer step: seconds, of those the seconds that making the views took, and bytes of memory.

    Memory is what training holds at its height: on a GPU as its allocator reports it, elsewhere weights, gradients,
    optimizer state, buffers, and the activations that are kept for the backward pass.
    """

    seconds: float
    views: float
    memory: int


def of_step(config: PretrainConfig, images: ImageSet, *, steps: int = 5) -> StepCost:
    """Median over some steps, after one that is not counted, of a run that starts afresh."""
    on = device.best_device()
    run = TrainingRun(config.resolved(on), images, None, on)
    run.objective.train()
    index = torch.arange(run.batch_size, device=on)
    memory = _memory_of_step(run, index)
    whole = _median_seconds(lambda: run.train_step(index), steps, on)
    views = _median_seconds(lambda: run.objective.views(run.images[index], None), steps, on)
    return StepCost(whole, views, memory)


def _median_seconds(work: Callable[[], object], repeats: int, on: torch.device) -> float:
    durations = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        if on.type != "cpu":
            torch.accelerator.synchronize(on)
        durations.append(time.perf_counter() - started)
    return statistics.median(durations)


def _memory_of_step(run: TrainingRun, index: Tensor) -> int:
    if run.device.type == "cuda":
        run.train_step(index)  # after which the optimizer has its state
        torch.cuda.reset_peak_memory_stats(run.device)
        run.train_step(index)
        return torch.cuda.max_memory_allocated(run.device)
    fixed = _storages((*run.objective.parameters(), *run.objective.buffers()))
    saved: dict[int, int] = {}  # by address: all of it is alive until the backward pass, so that none comes twice

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run.train_step(index)
    activations = sum(size for address, size in saved.items() if address not in fixed)
    gradients = [p.grad for p in run.objective.parameters() if p.grad is not None]
    state = [v for slots in run.optimizer.state.values() for v in slots.values() if isinstance(v, Tensor)]
    return activations + sum(fixed.values()) + sum(_storages((*gradients, *state)).values())


def _storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Bytes by address: what two tensors share counts once."""
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
