"""How the package is laid out, as far as import-linter does not hold it."""

from pathlib import Path

import sslnb

LONGEST = 400  # lines of a module: what a newcomer reads in one go


def test_no_module_is_longer_than_a_newcomer_reads_in_one_go() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in Path(sslnb.__file__).parent.rglob("*.py")}
    assert len(lines) > 100
    assert not {path.name: count for path, count in lines.items() if count > LONGEST}
