"""JupyterLab as `make lab` starts it: a text notebook opens as a notebook, and the live explorers answer."""

import os
import re
import shutil
import subprocess
import sys
import time
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

if typing.TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]
LIVE = {
    "separability": "explore_margins",
    "qscore": "explore_score",
    "simclr_rotnet": "explore_attack",
    "cka": "explore_layers",
    "contrastive_geometry": "explore_cloud",
}
HEAD = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {name: python3, display_name: Python 3, language: python}
---

# Live
"""
CELL = """
```{{code-cell}} ipython3
from sslnb import Result
from sslnb.studies.{study} import explorers
explorers.{function}(Result.load("{results}/{study}"))
```
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab on a folder with one text notebook, with the settings of `make lab`."""
    folder = tmp_path_factory.mktemp("lab")
    cells = [CELL.format(study=s, function=f, results=ROOT / "book" / "results") for s, f in LIVE.items()]
    (folder / "live.md").write_text(HEAD + "".join(cells))
    settings = folder / "settings" / "overrides.json"
    settings.parent.mkdir()
    tool = [shutil.which("jupytext-config", path=Path(sys.executable).parent), "--settings-file", settings]
    subprocess.run([*tool, "set-default-viewer", "markdown"], check=True, capture_output=True)
    options = {
        "ServerApp.port": 0,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "ServerApp.root_dir": folder,
        "IdentityProvider.token": "",
        "LabApp.app_settings_dir": settings.parent,
    }
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    own = os.environ | {"JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
    log = folder / "lab.log"
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=own, cwd=folder)
    try:
        for _ in range(120):
            found = re.search(r"http://[\w.]+:\d+/lab", log.read_text())
            if found:
                break
            time.sleep(0.5)
        assert found, log.read_text()
        yield found.group(0)
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.browser
def test_a_text_notebook_opens_as_a_notebook_whose_live_explorers_answer(browser: "Browser", lab: str) -> None:
    page = browser.new_context(viewport={"width": 1400, "height": 3000}).new_page()
    page.goto(f"{lab}/tree/live.md")
    page.wait_for_selector(".jp-Notebook", timeout=60_000)  # not an editor of text
    page.wait_for_timeout(3000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    for position, study in enumerate(LIVE):
        cell = page.locator(".jp-CodeCell").nth(position)
        cell.scroll_into_view_if_needed()
        picture = cell.locator("img.widget-image").last
        picture.wait_for(timeout=120_000)
        handle = cell.locator(".noUi-handle").last
        before = picture.get_attribute("src")
        handle.focus()
        last = float(handle.get_attribute("aria-valuenow")) >= float(handle.get_attribute("aria-valuemax"))
        handle.press("ArrowLeft" if last else "ArrowRight")
        page.wait_for_timeout(200)
        for _ in range(60):
            if picture.get_attribute("src") != before:
                break
            page.wait_for_timeout(250)
        assert picture.get_attribute("src") != before, study
    page.context.close()
