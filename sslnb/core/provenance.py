"""Where a result comes from: command, date, commit, versions, hardware."""

import datetime
import importlib.metadata
import importlib.resources
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from sslnb.core import device

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "matplotlib")


def _git_commit() -> str:
    """Commit of the source tree that runs, with ``+changes`` when it differs; ``unknown`` outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit[:12] + ("+changes" if changed.strip() else "")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages}


def command() -> str:
    """The command that is running, without folders of this machine; a notebook knows the one that started it."""
    started = Path(sys.argv[0])
    words = [started.name if started.name != "__main__.py" else f"python -m {started.parent.name}", *sys.argv[1:]]
    if "ipykernel" in words[0]:
        return os.environ.get("SSLNB_COMMAND", "notebook")
    return " ".join(re.sub(r"(^|[:=])/\S*/", r"\1", word) for word in words)


def provenance(**more: object) -> dict:
    """Where a result comes from: command, date, commit, versions, hardware; with ``more`` facts of the study."""
    return {
        "command": command(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git_commit(),
        "versions": versions(),
        "hardware": device.describe(),
        **more,
    }
