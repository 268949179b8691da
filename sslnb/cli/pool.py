"""The group of commands about the pool of encoders."""

from collections.abc import Mapping
from pathlib import Path

import click

from sslnb.cli.group import sslnb
from sslnb.core.checks import expect
from sslnb.pool import train as pool_training
from sslnb.pool.scales import SCALES


@sslnb.group()
def pool() -> None:
    """The encoders that all studies measure: train what is missing, list what is there, export it."""


_scale = click.option("--scale", default="small", type=click.Choice(list(SCALES)), help="Which pool.")


@pool.command("train")
@_scale
@click.option("--workers", type=click.IntRange(min=1), help="Single-threaded processes; default: the cores.")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler whose workers share this machine's cache.")
@click.argument("members", nargs=-1)
def pool_train(scale: str, workers: int | None, scheduler: str | None, members: tuple[str, ...]) -> None:
    """Train what is missing, or the MEMBERS named as OBJECTIVE/SEED; a killed run goes on where it was.

    The encoders of the scale public are fetched instead.
    """
    entries = pool_training.train(scale, workers=workers, scheduler=scheduler, only=members)
    if not entries:
        print(f"nothing to train: what is asked of {scale} is there")
    for name, entry in entries.items():
        print(f"{name}: {entry.reason or _percentages(entry.accuracy)}")
    failed = [name for name, entry in entries.items() if entry.reason]
    expect(not failed, "pool", "every run to reach its end", f"{len(failed)} that did not: {', '.join(failed)}")


@pool.command("status")
@_scale
def pool_status(scale: str) -> None:
    """State of every member, its accuracies on validation images, hours taken or left on one core.

    Of the scale public: which files are there, the published accuracy, size, licence, address and checksum.
    """
    rows = pool_training.status(scale)
    for row in rows:
        print(_published(row) if "address" in row else _trained(row))
    if "address" in rows[0]:
        fetched = sum(row["state"] == "fetched" for row in rows)
        print(f"{fetched} of {len(rows)} fetched; sslnb pool train --scale {scale} fetches the rest, as does first use")
    else:
        to_go = [row for row in rows if "hours" not in row]
        unknown = sum("hours left" not in row for row in to_go)
        known = f"{sum(row.get('hours left', 0) for row in to_go):.1f} hours of one core to go"
        print(known + (f", and those of {unknown} members whose images are not here" if unknown else ""))


def _trained(row: Mapping[str, object]) -> str:
    left = f"{row['hours left']:.2f} h to go" if "hours left" in row else "hours not known"
    hours = f"{row['hours']:.2f} h" if "hours" in row else left
    return f"{row['member']:32} {row['state']:24} {hours:>15}  {_percentages(row)}"


def _published(row: Mapping[str, object]) -> str:
    size = "size not known" if row["megabytes"] is None else f"{row['megabytes']:.0f} MB"
    verified = row["checksum"] or "no checksum published: the first file is trusted"
    about = f"{row['member']:16} {row['state']:12} {size:>14}  {_percentages(row)}"
    return f"{about}  licence: {row['licence']}\n    {row['address']} ({verified})"


@pool.command("export")
@_scale
@click.option("--steps", is_flag=True, help="Also the encoders kept along the way.")
@click.option("--out", type=Path, metavar="DIR", help="Default: book/encoders/SCALE, or $SSLNB_POOL/SCALE.")
def pool_export(scale: str, steps: bool, out: Path | None) -> None:
    """Write finished members as safetensors, float16 where that holds them, with one pool.json."""
    manifest = pool_training.export(scale, folder=out, steps=steps)
    print(f"{len(manifest.entries)} encoders of {scale}")


def _percentages(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {100 * values[name]:.1f} %" for name in ("knn", "linear") if name in values)
