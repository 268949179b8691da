"""How long a reader waits for a page of the built site: until it is painted, and until it answers."""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from rows import row

SITE = Path(__file__).resolve().parents[1] / "_build" / "html"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
SLOW_LINK = {"offline": False, "latency": 40, "downloadThroughput": 10e6 / 8, "uploadThroughput": 10e6 / 8}
SLOWER = 4  # times, of the reader's processor
QUIET = 1000  # ms without a long task after which a page counts as interactive
WATCH = """
window.busyUntil = 0;
new PerformanceObserver((list) => {
  for (const task of list.getEntries()) window.busyUntil = task.startTime + task.duration;
}).observe({ type: "longtask", buffered: true });
"""
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
LOADED = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


@contextmanager
def _served() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Silent, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _visit(browser: Browser, address: str, *, slow: bool) -> tuple[float, float]:
    """Milliseconds until the first paint of content, and until no task of more than 50 ms is under way."""
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(WATCH)
    if slow:
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", SLOW_LINK)
        session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    page.goto(address)
    page.wait_for_function(f"({PAINTED}) && performance.now() - Math.max(window.busyUntil, {LOADED}) > {QUIET}")
    painted, busy, loaded = (page.evaluate(text) for text in (PAINTED, "window.busyUntil", LOADED))
    context.close()
    return painted, max(painted, busy, loaded)


def pages() -> list[dict]:
    """Every page of ``_build/html``, each in a fresh browser context; the slowest counts."""
    if not (SITE / "index.html").is_file():
        raise SystemExit(f"pages: expected a built site at {SITE} (make book), got none")
    addresses = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html") if "_static" not in path.parts)
    with _served() as root, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        _visit(browser, f"{root}/index.html", slow=False)  # what only the first visit of a browser pays
        here = {name: _visit(browser, f"{root}/{name}", slow=False)[1] / 1000 for name in addresses}
        slow = {name: _visit(browser, f"{root}/{name}", slow=True)[0] / 1000 for name in addresses}
        browser.close()
    interactive, painted = max(here, key=here.get), max(slow, key=slow.get)
    count = f"slowest of {len(addresses)} pages"
    ready, paint = here[interactive], slow[painted]
    link = f"at 10 Mbit/s on a processor {SLOWER} times slower"
    return [
        row(f"page interactive, {count} ({interactive})", "s", ready, "under 2 s", ready < 2),
        row(f"first paint {link}, {count} ({painted})", "s", paint, "under 3 s", paint < 3),
    ]
