"""Random numbers as functions of a seed and a step: wherever a run was interrupted, it goes on with the same."""

import numpy as np
import torch
from torch import Tensor


def seeded(seed: int, step: int, on: torch.device, rank: int = 0) -> torch.Generator:
    """Generator of one step: the same wherever the run was interrupted, different for every (seed, step, rank)."""
    entropy = [seed, step, rank] if rank else [seed, step]
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator(on).manual_seed(int(state) % 2**63)


def batches_of(epoch: int, n: int, batch_size: int, seed: int) -> Tensor:
    """Sample indices [steps, batch] of an epoch: a permutation, the incomplete last batch left out."""
    generator = seeded(seed, -epoch - 1 + 2**32, torch.device("cpu"))
    steps = n // batch_size
    return torch.randperm(n, generator=generator)[: steps * batch_size].view(steps, batch_size)
