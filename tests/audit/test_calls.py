"""How a call ended, as far as anybody can know."""

import msgspec
import pytest

from gateway.audit.calls import Call
from gateway.audit.reader import Row
from tests.audit.samples import decision


@pytest.mark.parametrize(
    ("changes", "live", "status"),
    [
        ({}, False, "unknown"),
        ({}, True, None),
        ({"decision": "deny"}, False, None),
        ({"method": "PreToolUse", "action": "native"}, False, None),
    ],
)
def test_only_what_could_have_an_outcome_misses_it(
    changes: dict[str, str], live: bool, status: str | None
) -> None:
    line = msgspec.json.encode(decision(**changes))
    row = msgspec.convert(
        {"kind": "decision", "writer": "w", "seq": 1, **msgspec.json.decode(line)}, Row
    )
    assert Call(row, line, live=live).status == status
