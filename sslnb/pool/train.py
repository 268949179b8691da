"""Trains what a pool lacks: on Dask, a process for each core or a cluster's workers; on a GPU one after another."""

import contextlib
import fcntl
import functools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from distributed import as_completed, get_worker
from tqdm.auto import tqdm

from sslnb.core import cluster, device
from sslnb.core.checks import expect, one_line
from sslnb.core.files import atomic, cache_root
from sslnb.core.provenance import command
from sslnb.pool import runs, store
from sslnb.pool.members import Member, Scale, scale
from sslnb.pool.pool import MATCH, Pool
from sslnb.pool.published import PublicPool
from sslnb.pool.store import Entry, Manifest
from sslnb.training import cost

TOPIC = "steps"
REPORT_EVERY = 10  # steps between two messages of a worker: one in a few seconds
COST_STEPS = 2  # timed, for the order of the members and the time left: more would cost what they save


def train(
    name: str, *, workers: int | None = None, scheduler: str | None = None, only: Sequence[str] = ()
) -> dict[str, Entry]:
    """Train the members of a scale that are missing, the longest first; returns what became of each.

    One single-threaded process for each of ``workers`` (by default the cores), or those of the Dask ``scheduler`` at an
    address; with an accelerator and no scheduler, one member after another in this process. A run that diverges is
    described and the rest goes on. ``ValueError`` when another process trains this pool. Published members are fetched.
    """
    pool = Pool(name)
    for wanted in only:
        pool.scale.member(wanted)
    if isinstance(pool, PublicPool):
        return pool.fetch(only)
    missing = [pool.scale.members[n] for n in pool.scale.members if pool._find(n) is None and n in (only or (n,))]
    if not missing:
        return {}
    with _exclusive(name):
        # The longest first, but before them those with whose encoders others begin.
        begun_with = {member.initial.name for member in missing if member.initial}
        missing.sort(key=lambda member: (member.name not in begun_with, -_seconds_left(pool.scale, member)))
        if scheduler is None and device.best_device().type != "cpu":
            return _one_by_one(pool.scale, missing)
        return _on_dask(pool.scale, missing, workers or device.describe()["cores"], scheduler)


@contextlib.contextmanager
def _exclusive(name: str) -> Iterator[None]:
    """Keeps others from training the same pool; the lock goes with the process, however it ends."""
    path = cache_root() / "pool" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise ValueError(
                f"pool {name}: expected to be the only one to train it, got: {file.read().strip()}"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}, {command()}")
        file.flush()
        yield


def _on_dask(plan: Scale, missing: list[Member], workers: int, scheduler: str | None) -> dict[str, Entry]:
    with cluster.client(scheduler, min(workers, len(missing))) as client:
        progress = Progress(plan, missing)
        client.subscribe_topic(TOPIC, progress.on_message)
        futures, by_name = {}, {}
        for i, member in enumerate(missing):
            after = by_name.get(member.initial.name) if member.initial else None
            key = f"{plan.name}/{member.name}"
            by_name[member.name] = client.submit(_run_in_worker, plan.name, member.name, after, key=key, priority=-i)
            futures[by_name[member.name]] = member
        entries, errors = {}, []
        for future in as_completed(futures):
            name = futures[future].name
            progress.finish(name)
            if future.status == "finished":
                entries[name] = future.result()
            else:
                errors.append(f"{name}: {future.exception()}")
        progress.close()
    _expect_none(plan, errors)
    return entries


def _one_by_one(plan: Scale, missing: list[Member]) -> dict[str, Entry]:
    progress, entries, errors = Progress(plan, missing), {}, []
    for member in missing:
        try:
            entries[member.name] = runs.run(member, functools.partial(progress.move, member.name))
        except (ValueError, RuntimeError, OSError) as error:  # of one run, which the others do not need
            errors.append(f"{member.name}: {one_line(error)}")
        progress.finish(member.name)
    progress.close()
    _expect_none(plan, errors)
    return entries


def _expect_none(plan: Scale, errors: list[str]) -> None:
    expect(not errors, f"pool {plan.name}", "runs that can be trained", "; ".join(errors))


def _run_in_worker(plan: str, name: str, after: Entry | None) -> Entry:
    """Train a member, ``after`` the one with whose encoder it begins."""
    torch.set_num_threads(1)
    worker = get_worker()

    def on_step(step: int) -> None:
        if step % REPORT_EVERY == 0:
            worker.log_event(TOPIC, {"member": name, "step": step})

    return runs.run(scale(plan).member(name), on_step)


class Progress:
    """One bar for each run that is on its way, and one for all, in seconds of work with the time left."""

    def __init__(self, plan: Scale, missing: Sequence[Member]) -> None:
        self.seconds = {member.name: seconds_per_step(plan, member) for member in missing}
        self.steps = {member.name: runs.last_step(member) for member in missing}
        self.done = dict.fromkeys(self.steps, 0)
        work = sum(self.seconds[name] * count for name, count in self.steps.items())
        self.whole = tqdm(total=round(work), desc=f"pool {plan.name}", unit="s of work", smoothing=0.05)
        self.bars: dict[str, tqdm] = {}

    def on_message(self, event: tuple[float, dict]) -> None:
        message = event[1]
        self.move(message["member"], message["step"])

    def move(self, name: str, step: int) -> None:
        if name not in self.bars:
            self.bars[name] = tqdm(total=self.steps[name], desc=name, unit="step", leave=False)
        self.bars[name].update(step - self.bars[name].n)
        self.done[name] = step
        done = round(sum(self.seconds[each] * count for each, count in self.done.items()))
        self.whole.update(done - self.whole.n)

    def finish(self, name: str) -> None:
        self.move(name, self.steps[name])
        self.bars.pop(name).close()

    def close(self) -> None:
        self.whole.close()


# --- how long it takes ------------------------------------------------------------------------------------------------


def _seconds_left(plan: Scale, member: Member) -> float:
    return seconds_per_step(plan, member) * runs.last_step(member)


def seconds_per_step(plan: Scale, member: Member) -> float:
    """Seconds of one training step of a variant on one thread, measured once and remembered."""
    path = cache_root() / "pool" / f"{plan.name}-seconds.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    variant = member.name.rpartition("/")[0]
    if variant not in known:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        known[variant] = cost.of_step(member.config, member.images(), steps=COST_STEPS).seconds
        torch.set_num_threads(threads)
        with atomic(path) as partial:
            partial.write_text(json.dumps(known))
    return known[variant]


# --- status and export ------------------------------------------------------------------------------------------------


def status(name: str) -> list[dict[str, object]]:
    """A row for each planned member: state, validation accuracies, hours that it took or that are left.

    Of published ones size, licence, address and checksum instead of hours.
    """
    pool, rows, lacking = Pool(name), [], set()
    if isinstance(pool, PublicPool):
        return pool.status()
    for member in pool.scale.members.values():
        place = pool._find(member.name)
        row = {"member": member.name}
        if place is not None:
            entry = place[1]
            exported = "exported" if place[0] == pool.folder else "finished"
            row |= {"state": f"stopped: {entry.reason}" if entry.reason else exported, "hours": entry.seconds / 3600}
            row |= entry.accuracy
        elif member.dataset not in lacking:
            try:
                row |= {"state": runs.state(member), "hours left": _seconds_left(pool.scale, member) / 3600}
            except (ValueError, RuntimeError, OSError) as error:
                lacking.add(member.dataset)  # asked for once, as it may be looked for on the network
                print(f"pool {name}: {one_line(error)}", file=sys.stderr)
        rows.append({"state": "its images are not here"} | row)
    return rows


def export(name: str, *, folder: Path | None = None, steps: bool = False) -> Manifest:
    """Copy finished members and controls, and with ``steps`` the encoders kept along the way, into the exported pool.

    Files land one by one, ``pool.json`` last, so that whatever stops it leaves a whole pool behind.
    """
    pool = Pool(name, folder=folder)
    trained = not isinstance(pool, PublicPool)
    expect(trained, "scale", "a pool that is trained here", f"{name!r}, whose files others publish")
    entries = dict(pool.manifest.entries) if pool.manifest else {}
    matched = {f"{MATCH[0]}/{seed}": step for seed, step in pool.matched_steps().items()}
    for member in pool.scale.members.values():
        steps_kept = member.kept_steps(len(member.images()))
        wanted = steps_kept if steps else {steps_kept[-1], matched.get(member.name, steps_kept[-1])}
        for step in sorted(wanted):
            label = member.name if step == steps_kept[-1] else f"{member.name}@{step}"
            place = None if label in entries else runs.find(member, step)
            if place is not None:
                entries[label] = _copied(place, pool.folder, label)
    expect(bool(entries), "scale", "a pool with finished encoders", f"{name!r}, which has none")
    manifest = Manifest(format=store.FORMAT, scale=name, entries=entries)
    store.write_manifest(pool.folder, manifest)
    return manifest


def _copied(place: tuple[Path, Entry], folder: Path, label: str) -> Entry:
    source, entry = place
    if entry.file is None:
        return entry
    target = folder / (label.replace("/", "-") + ".safetensors")
    with atomic(target) as partial:
        partial.write_bytes((source / entry.file).read_bytes())
    expect(
        store.sha256(target) == entry.sha256, f"pool: {label}", "the file that its run wrote", f"another at {source}"
    )
    return entry.model_copy(update={"file": target.name})
