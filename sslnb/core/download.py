"""Files from the network: with progress, and either all that the server announced or an error."""

import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from tqdm.auto import tqdm

from sslnb.core.checks import expect, one_line
from sslnb.core.files import checksum

TIMEOUT = 60  # seconds of silence from a server
CHUNK = 2**20  # bytes between two moves of the bar


def download(address: str, path: Path, argument: str) -> None:
    """Write what an address holds to ``path``, which the caller renames when it is right.

    ``ValueError`` names the address where it can't be reached, or sends fewer bytes than it announced.
    """
    request = urllib.request.Request(address, headers={"User-Agent": "sslnb"})  # some servers refuse Python's own
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer, path.open("wb") as file:
            announced = int(answer.headers.get("Content-Length") or 0)
            bar = {"desc": argument, "total": announced or None, "unit": "B", "unit_scale": True}
            with tqdm.wrapattr(file, "write", **bar) as out:
                shutil.copyfileobj(answer, out, CHUNK)
    except (OSError, http.client.HTTPException) as error:
        wrapped = isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError)
        reason = error.reason if wrapped else error
        raise ValueError(f"{argument}: expected an answer from {address}, got {one_line(reason)}") from error
    # Python's client takes a connection that closes early for the end of the file.
    size = path.stat().st_size
    expect(not announced or size == announced, argument, f"{announced:,} bytes from {address}", f"{size:,}")


def expect_checksum(path: Path, wanted: str, argument: str) -> None:
    """``ValueError`` unless a file's digest begins as its publisher says, such as ``"md5:a04e12f8"``."""
    kind, _, digits = wanted.partition(":")
    digest = checksum(path, kind)
    expect(digest.startswith(digits), argument, f"{kind} {digits}…", f"{digest[: len(digits)]}…")
