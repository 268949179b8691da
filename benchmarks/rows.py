"""The form of a measured number, and how time and memory are read."""

import time
from collections.abc import Callable
from pathlib import Path


def seconds(function: Callable[[], object], repeats: int = 5) -> float:
    """Least time of several runs, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def peak_mib() -> float:
    """Greatest memory in MiB of this process since its program began; ru_maxrss would count its parent's too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def row(
    name: str,
    unit: str,
    ours: float,
    target: str,
    met: bool,
    peer: float | None = None,
    peer_name: str | None = None,
    *,
    limit: str = "",
) -> dict:
    """One measured number with what it stands against; the ratio is peer / ours for times, absent otherwise.

    ``limit`` says what bounds the number, as measured in the same run; it is kept where the target is missed.
    """
    ratio = peer / ours if peer is not None and unit in ("s", "ms") else None
    numbers = {"ours": float(ours), "peer": peer, "ratio": ratio}
    found = {"name": name, "unit": unit, **numbers, "peer_name": peer_name, "target": target, "met": bool(met)}
    return found | ({"limit": limit} if limit and not met else {})
