"""A disk that is full: calls are refused, none goes on, and it recovers by itself."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Open
from tests.e2e.http import HttpClient
from tests.e2e.inbox import Inbox, text_of
from tests.e2e.world import World

SIZE = "1m"
FULL_AFTER = 4000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB. Only root can make one: test_audit_unavailable.py needs no root."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_stops_calls_until_there_is_room(
    world: World, connect: Open, small_disk: Path
) -> None:
    world.canary()
    world.usual_agent()
    world.settings["audit"] = {"directory": str(small_disk / "audit")}
    ballast = small_disk / "ballast"
    with connect(world) as client:
        client.open()
        assert text_of(client.call("echo", {"text": "before"})) == "before"
        ballast.write_bytes(b"x" * 4096)
        fill(ballast)
        call_until_refused(client)
        reached = len(world.calls())
        for _ in range(20):
            assert client.call("echo")["error"]["code"] == 503
        assert len(world.calls()) == reached
        if isinstance(client, HttpClient):
            not_ready = client.request("GET", readyz(client))
            assert not_ready.status_code == 503
            assert not_ready.json()["reason"] == "the audit log cannot be written"
        ballast.unlink()
        assert text_of(client.call("echo", {"text": "after"})) == "after"
        if isinstance(client, HttpClient):
            assert client.request("GET", readyz(client)).status_code == 200
    records = records_on(world, small_disk)
    gaps = [record for record in records if record.get("event") == "journal.gap"]
    assert len(gaps) >= 1
    assert sum(gap["data"]["lost"] for gap in gaps) >= 21
    allowed = [record for record in records if record.get("decision") == "allow"]
    assert len(world.calls()) == len(allowed)


def fill(ballast: Path) -> None:
    """Take what room is left on its disk."""
    with ballast.open("ab", buffering=0) as file:
        for piece in (b"x" * 65536, b"x" * 4096, b"x"):
            try:
                while True:
                    if file.write(piece) != len(piece):
                        break
            except OSError:
                continue


def call_until_refused(client: Inbox) -> None:
    for _ in range(FULL_AFTER):
        answer = client.call("echo", {"text": "x"})
        if "error" in answer:
            assert answer["error"]["code"] == 503
            assert "audit log" in answer["error"]["message"]
            return
    raise AssertionError("the disk never filled up")


def readyz(client: HttpClient) -> str:
    return client.url.removesuffix("/canary/mcp") + "/readyz"


def records_on(world: World, disk: Path) -> list[dict[str, object]]:
    world.root.joinpath("audit").symlink_to(disk / "audit")
    return world.records()
