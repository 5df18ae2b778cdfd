"""docs/audit.md names the tests of its promises: they are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = sorted(
    set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)*)`", (ROOT / "docs/audit.md").read_text("utf-8")))
)


@pytest.mark.parametrize("named", NAMED)
def test_a_named_test_is_there(named: str) -> None:
    path, *names = named.split("::")
    text = (ROOT / path).read_text("utf-8")
    for name in names:
        assert re.search(rf"^\s*(def|class) {name}\b", text, re.MULTILINE), name


def test_there_are_some() -> None:
    assert len(NAMED) > 12
