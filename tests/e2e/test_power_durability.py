"""Durability "power": the record is on the disk before its call reaches the upstream (strace)."""

import re
import shutil
from pathlib import Path

import pytest

from tests.e2e.inbox import text_of
from tests.e2e.world import World

pytestmark = pytest.mark.real

CALLS = 5


@pytest.fixture
def strace(tmp_path: Path) -> list[str]:
    """The command that traces another; its log is `trace` beside."""
    program = shutil.which("strace")
    assert program is not None, "tests/real/setup installs strace"
    watched = "trace=write,writev,pwrite64,sendto,sendmsg,fdatasync,fsync"
    return [program, "-f", "-y", "-s", "4096", "-e", watched, "-o", str(tmp_path / "trace")]


def test_fdatasync_has_returned_before_the_call_is_written_to_the_upstream(
    world: World, strace: list[str], tmp_path: Path
) -> None:
    world.canary()
    world.usual_agent()
    world.settings["audit"] = {"directory": str(world.root / "audit"), "durability": "power"}
    with world.connect(under=strace) as client:
        client.open()
        for number in range(CALLS):
            assert text_of(client.call("echo", {"text": f"marker-{number}"})) == f"marker-{number}"
    trace = (tmp_path / "trace").read_text(errors="replace").splitlines()
    decisions = {
        record["call"]: record
        for record in world.decisions(decision="allow", tool="mcp__canary__echo")
    }
    assert len(decisions) == CALLS
    for number, call in enumerate(decisions):
        recorded = position(trace, rf"write\(\d+<[^>]*\.jsonl>.*{call}")
        sent = position(
            trace, rf"(write|send)\w*\(\d+<(?![^>]*\.jsonl>).*tools/call.*marker-{number}\b"
        )
        synced = position(trace, r"fdatasync(\(\d+<[^>]*\.jsonl>\)| resumed>\)) += 0", recorded)
        assert recorded < synced < sent, (recorded, synced, sent)


def position(trace: list[str], pattern: str, after: int = 0) -> int:
    """The line that matches first behind `after`; a call that was interrupted counts at its end."""
    for number in range(after, len(trace)):
        if re.search(pattern, trace[number]):
            return number
    raise AssertionError(f"nothing in the trace is like {pattern}")
