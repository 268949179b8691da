"""What tests of studies share: a pool of a few tiny encoders, trained in a cache of the module's own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sslnb.pool import runs, scales
from sslnb.pool.members import Scale


@pytest.fixture(scope="module")
def train_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Scale], Path]]:
    """Makes a plan known by its name and trains its members; returns a folder of the module's own."""
    folder = tmp_path_factory.mktemp("pool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSLNB_CACHE", str(folder / "cache"))
        patch.setenv("SSLNB_POOL", str(folder / "none"))

        def train(plan: Scale) -> Path:
            patch.setitem(scales.SCALES, plan.name, plan)
            for member in sorted(plan.members.values(), key=lambda member: member.initial is not None):
                runs.run(member)
            return folder

        yield train
