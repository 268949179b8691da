"""Files that are either whole or absent: write to a temporary name beside the target, then rename."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs


def cache_root() -> Path:
    """Folder for artifacts that can be made again: ``$SSLNB_CACHE``, else the user's cache folder."""
    return Path(os.environ.get("SSLNB_CACHE") or platformdirs.user_cache_dir("sslnb"))


def data_root() -> Path:
    """Folder that holds the data sets: ``$SSLNB_DATA``, else ``data`` in the user's cache folder."""
    return Path(os.environ.get("SSLNB_DATA") or platformdirs.user_cache_dir("sslnb")) / (
        "" if os.environ.get("SSLNB_DATA") else "data"
    )


@contextlib.contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it there on success, remove it on any failure.

    A full disk or a killed process leaves the previous file, if any, untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".partial{path.suffix}", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # the rename must not land before the bytes do
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def beside(path: Path, suffix: str) -> Path:
    """The file of the same name with one more suffix: ``PATH.previous``."""
    return path.with_name(path.name + suffix)


def keep(path: Path, suffix: str) -> None:
    """Give an existing file a second name, ``beside`` it, so that replacing it loses nothing."""
    if path.exists():
        spare = path.with_name(f".{path.name}{suffix}.partial")
        spare.unlink(missing_ok=True)
        try:
            os.link(path, spare)
        except OSError:  # a file system without hard links
            shutil.copy2(path, spare)
        spare.replace(beside(path, suffix))


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One process at a time inside: others wait, then find what it made. The lock ends with the process."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def home(path: str | Path) -> Path:
    """A path with ``~`` as the user's home, which a shell does not replace behind ``folder:``."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own raises where there is no such user


def expect_writable(folder: Path, argument: str) -> None:
    """Make a folder where there is none; ``ValueError`` unless files can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"{argument}: expected a folder that can be written to, got {folder}: {error}") from error


def digest(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, or of the names and bytes of all files below a folder."""
    if not path.is_dir():
        return sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    entries = [(str(file.relative_to(path)), sha256(file)) for file in files]
    return hashlib.sha256(repr(entries).encode()).hexdigest()


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    return checksum(path, "sha256")


def checksum(path: Path | str, kind: str) -> str:
    """Hexadecimal digest of a file's bytes, of a kind that ``hashlib`` knows."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
