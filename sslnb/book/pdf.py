"""The built site as one PDF: each page printed by Chromium, in the order of the table of contents."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from sslnb.book.site import entries
from sslnb.core.checks import expect
from sslnb.core.files import atomic

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Charts and mathematics are drawn by scripts, for which Chromium's clock runs on until they are done.
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer", "--virtual-time-budget=20000")


def pdf(root: Path, target: Path) -> Path:
    """Print every page of ``root``'s site into one file with bookmarks; returns it.

    ``ValueError`` without a site, a browser, or a page that Chromium can print.
    """
    from pypdf import PdfReader, PdfWriter
    from tqdm.auto import tqdm

    site = root / "_build" / "html"
    expect((site / "index.html").is_file(), "site", "a built one (sslnb book)", f"none at {site}")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    expect(browser is not None, "browser", f"one of {', '.join(BROWSERS)} on the path", "none")
    writer = PdfWriter()
    with tempfile.TemporaryDirectory() as folder:
        for name in tqdm([*_pages(root)], desc="pages"):
            part = Path(folder) / "page.pdf"
            part.unlink(missing_ok=True)
            address = (site / f"{name}.html").as_uri()
            subprocess.run([browser, *FLAGS, f"--print-to-pdf={part}", address], capture_output=True, check=False)
            expect(part.is_file(), name, "a page that the browser prints", "no file")
            reader = PdfReader(part)
            title = (reader.metadata and reader.metadata.title) or name
            writer.append(reader, outline_item=title.partition(" — ")[0])
    with atomic(target) as partial:
        writer.write(partial)
    return target


def _pages(root: Path) -> Iterator[str]:
    return entries(yaml.safe_load((root / "_toc.yml").read_text()))
