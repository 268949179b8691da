"""A sixth study is one folder and one notebook, found by itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

import sslnb
from sslnb.core.result import Result

STUDY = '''
"""Are test images brighter than black? A study that measures no encoder."""

import xarray as xr

from sslnb.studies.brightness.claims import CLAIMS, verdicts
from sslnb.studies.presets import Count, Parameters, Preset
from sslnb.studies.study import Context, Study


class BrightnessParameters(Parameters):
    limit: Count = 50

    PRESETS = {name: Preset(1, "one core", "all", {}) for name in ("quick", "small", "paper")}


def brightness(context: Context) -> xr.Dataset:
    """Mean brightness of some test images."""
    images = context.images("digit-scenes", "test", context.parameters.limit).images
    return xr.Dataset({"mean": ("seed", images.double().mean((1, 2, 3))[:4].numpy())}, {"seed": range(4)})


STUDY = Study("brightness", "Brightness", "nobody2026", BrightnessParameters, (brightness,), CLAIMS, verdicts)
'''
CLAIMS = '''
"""How the claim is decided."""

from sslnb.core.claims import Claim, decide, verdicts_of

CLAIMS = {"B1": Claim("B1", "They are.", "section 1", "mean of all pixels", sei=1.0)}


def _bright(claim, data, learned):
    return decide(claim, data["brightness"]["mean"])


COMPARISONS = {"B1": _bright}


def verdicts(data):
    return verdicts_of(CLAIMS, COMPARISONS, data, [])
'''
NOTEBOOK = """---
kernelspec: {name: python3, display_name: Python 3, language: python}
---

# Brightness

```{code-cell}
:tags: [parameters]

profile = "quick"  # quick | small | paper
limit = None  # test images
result_path = None  # where to save the Result, without suffix
```

```{code-cell}
from sslnb import report
from sslnb.studies.brightness import STUDY

study = STUDY.start(STUDY.parameters.from_notebook(globals()))
study.all()
report.verdicts(study.result, STUDY.claims)
```

```{code-cell}
study.result.save(result_path)
report.origin(study.result)
```
"""


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(root), "SSLNB_CACHE": str(root / "cache")}
    command = [sys.executable, "-m", "sslnb", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def test_a_sixth_study_is_one_folder_and_one_notebook(tmp_path) -> None:
    shutil.copytree(Path(sslnb.__file__).parent, tmp_path / "sslnb", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "_toc.yml").write_text("")
    (tmp_path / "sslnb/studies/brightness").mkdir()
    (tmp_path / "sslnb/studies/brightness/__init__.py").write_text(STUDY)
    (tmp_path / "sslnb/studies/brightness/claims.py").write_text(CLAIMS)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/brightness.md").write_text(NOTEBOOK)

    assert "brightness: " in run(tmp_path, "studies").stdout
    done = run(tmp_path, "run", "brightness", "-p", "limit=40", "-p", "size=16")  # the cell does not list the size
    assert done.returncode == 0 and "unknown parameter" not in done.stderr, done.stderr
    result = Result.load(tmp_path / "runs/brightness")
    assert result.facts["verdicts"][0]["kind"] == "replicated" and result.facts["parameters"]["limit"] == 40
    assert "encoders" not in result.facts["provenance"] and not (tmp_path / "cache/encoders").exists()
    page = nbformat.read(tmp_path / "runs/brightness.ipynb", as_version=4)
    shown = "".join(str(output.get("data", "")) for cell in page.cells for output in cell.get("outputs", []))
    assert "**replicated**" in shown and "mean of all pixels" in shown
    refused = run(tmp_path, "run", "brightness", "-p", "limt=40")
    assert refused.returncode == 1 and "did you mean 'limit'" in refused.stderr

    # The house rules for every study hold for it as well, before anything of it is recorded.
    rules = shutil.copy(Path(__file__).with_name("test_studies.py"), tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "brightness", rules]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    checked = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert checked.returncode == 0 and " passed" in checked.stdout, checked.stdout
