"""The log of a training run: JSON lines, the first of which says what was run."""

import dataclasses
import json
import math
from pathlib import Path

from sslnb.core import device, distributed
from sslnb.core.checks import expect
from sslnb.core.provenance import command, versions
from sslnb.data.images import ImageSet


class Journal:
    """Appends to a file of JSON lines, or to nothing. Each line is written whole and at once."""

    def __init__(self, path: Path | str | None) -> None:
        self.path = None if path is None else Path(path)

    def begin(self, config: object, images: ImageSet, step: int) -> None:
        """The command, then everything that decides the run; a resumed run adds such a line where it goes on."""
        self._write(
            {
                "command": command(),
                "config": dataclasses.asdict(config),
                "data": {"name": images.name, "images": len(images), "checksum": images.checksum()},
                "processes": distributed.world(),
                "hardware": device.describe(),
                "versions": versions(),
                "step": step,
            }
        )

    def epoch(self, step: int, history: dict[str, list[float]]) -> None:
        """The last epoch of a history; what was not looked at or is not finite is left out: JSON lacks such numbers."""
        row = {name: values[-1] for name, values in history.items()}
        finite = {name: value for name, value in row.items() if math.isfinite(value)}
        self._write({"epoch": len(history["loss"]), "step": step} | finite)

    def note(self, reason: str) -> None:
        """Why the run stopped."""
        self._write({"stopped": reason})

    def _write(self, line: dict) -> None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def read(path: Path | str) -> tuple[dict, dict[str, list[float]]]:
    """First line and history (epoch → values) of a log; epochs that a resumed run did again count once, as last done.

    Where a run started anew in a file that had one already, what is before it does not count. ``ValueError`` names a
    file that is missing or not such a log.
    """
    expect(Path(path).is_file(), "log", "a file", f"{path}, which does not exist")
    try:
        lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except ValueError as error:  # neither text nor JSON
        raise ValueError(f"log {path}: expected JSON lines, got: {error}") from error
    expect(all(isinstance(line, dict) for line in lines), f"log {path}", "JSON lines of objects", "others")
    expect(bool(lines) and "command" in lines[0], f"log {path}", "a first line with the command", lines[:1])
    first = max(i for i, line in enumerate(lines) if i == 0 or ("command" in line and not line.get("step")))
    epochs = {line["epoch"]: line for line in lines[first:] if "epoch" in line}
    names = dict.fromkeys(name for line in epochs.values() for name in line)
    return lines[first], {name: [epochs[e].get(name, math.nan) for e in sorted(epochs)] for name in names}
