"""What all tests share: few threads, so that parallel runs don't fight over cores, and the real data if present."""

import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
import torch

from sslnb.report.charts import Explorer

torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the prepared real sets; to be used together with the marker of the same name."""
    root = os.environ.get("SSLNB_DATA")
    if not root:
        pytest.skip("SSLNB_DATA is not set, so there are no real images to test on")
    wanted = [f"{name}.npz" for name in ("cifar10", "cifar100", "stl10", "caltech101")]
    missing = [name for name in wanted if not (Path(root) / name).is_file()]
    if missing:
        pytest.skip(f"SSLNB_DATA lacks {', '.join(missing)}")
    return Path(root)


@pytest.fixture(scope="session")
def tables_of() -> Callable[[Explorer], dict[str, pd.DataFrame]]:
    """What a page holds for an explorer: the tables behind its links, by name."""

    def read(explorer: Explorer) -> dict[str, pd.DataFrame]:
        links = re.findall(r'data-table="(\w+)" href="data:text/csv;charset=utf-8,([^"]*)"', explorer.html())
        return {name: pd.read_csv(io.StringIO(unquote(text))) for name, text in links}

    return read


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An artifact cache of the module's own, empty at first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSLNB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
