"""Dask on this machine's cores, or somebody's cluster."""

import contextlib
import os
from collections.abc import Iterator

import dask
from distributed import Client, LocalCluster

# Dask has its workers give every freed block back to the system, which makes a training step 1.75 times slower: the
# next one asks for the same blocks again. Here they keep what they had.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": 2**32, "MALLOC_MMAP_THRESHOLD_": 2**32}
# Two multi-threaded processes on the same cores train 30 times slower than two of one thread each.
SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), 1)
QUIET = {"DASK_LOGGING__DISTRIBUTED": "critical"}  # a worker that is told to end would log its broken connections
PATIENCE = 10_000  # deaths of a worker before its task counts as failed: whatever was killed goes on


@contextlib.contextmanager
def client(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A client of the scheduler at an address, or of a local cluster with so many single-threaded processes."""
    settings = {
        "distributed.scheduler.allowed-failures": PATIENCE,
        "distributed.nanny.pre-spawn-environ": KEEP_MEMORY | SINGLE | QUIET,
    }
    local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": ":0", "memory_limit": 0}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_same_environment())
        stack.enter_context(dask.config.set(settings))
        where = scheduler or stack.enter_context(LocalCluster(**local))
        yield stack.enter_context(Client(where))


@contextlib.contextmanager
def _same_environment() -> Iterator[None]:
    """Afterwards the process has its environment back: Dask sets its workers' in the process that starts them."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
