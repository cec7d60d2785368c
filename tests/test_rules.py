"""The table in tests/README.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_each_rule_of_the_table_has_its_test():
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", (HERE / "README.md").read_text())
    assert len(named) > 20
    for file, name in named:
        assert re.search(rf"def {name}\(", (HERE / file).read_text()), f"{file} has no {name}"
