"""A study at every point of a grid, on Dask."""

import itertools
import json
from pathlib import Path

from distributed import as_completed
from tqdm.auto import tqdm

from sslnb import studies
from sslnb.book import runner
from sslnb.core import artifacts, cluster, device
from sslnb.core.files import atomic
from sslnb.pool import Pool
from sslnb.pool.public import PUBLIC
from sslnb.pool.scales import QUICK_POOLS


def _grid_point(study: str, parameters: dict, out: str, threads: int) -> dict:
    """One point of a sweep in a worker: its Result is saved under ``out``; an existing one of the same is reused."""
    import torch

    torch.set_num_threads(threads)
    checked = studies.parameters(study, **parameters)
    facts = {"code": artifacts.package_version(), "contents": checked.contents(), "encoders": _encoders(checked.pool)}
    facts |= checked.as_dict()
    path = Path(out) / f"{study}-{artifacts.key(**facts)}"
    reused = path.with_suffix(".json").exists()
    if not reused:
        studies.run(study, checked).save(path)
    return {"parameters": parameters, "result": path.name, "reused": reused}


def _encoders(name: str) -> dict[str, str | None]:
    """Checksums of a pool's encoders, of which more can be there the next time; others follow from the code."""
    if name in (*QUICK_POOLS, PUBLIC.name):
        return {}
    pool = Pool(name)
    return {member: pool.entry(member).sha256 for member in pool}


def sweep(study: str, grid: dict[str, list], out: Path, *, fixed: dict, scheduler: str | None = None) -> list[dict]:
    """Run a study at every point of a grid on Dask: on the scheduler at an address, else on this machine's cores.

    Every point is checked before the first one starts. Cores are divided between workers. A failed point is reported
    in its row and does not stop the others. Rows also go to ``out/sweep-STUDY.jsonl``.
    """
    points = [dict(zip(grid, values, strict=True)) | fixed for values in itertools.product(*grid.values())]
    for point in points:
        studies.parameters(study, **point)
    runner.expect_places(out)
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    cores = device.describe()["cores"]
    workers = 1 if device.best_device().type != "cpu" else min(len(points), cores)
    threads = max(1, cores // workers)
    rows = []
    with cluster.client(scheduler, workers) as client:
        futures = {client.submit(_grid_point, study, p, str(out), threads, pure=False): p for p in points}
        for future in tqdm(as_completed(futures), total=len(points), desc=f"sweep of {study}"):
            failed = future.exception()
            rows.append({"parameters": futures[future], "error": repr(failed)} if failed else future.result())
    with atomic(out / f"sweep-{study}.jsonl") as partial:
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows
