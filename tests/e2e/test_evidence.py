"""A gateway that signs its log, and the commands that make and read the evidence."""

import json
from pathlib import Path

from tests.audit import independent
from tests.e2e.world import World


def audit(world: World, *arguments: str) -> str:
    done = world.gateway("audit", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_calls_are_signed_anchored_and_verified(world: World, tmp_path: Path) -> None:
    world.canary()
    world.usual_agent()
    anchor = tmp_path / "elsewhere.jsonl"
    world.settings["audit"] = {
        "directory": str(world.root / "audit"),
        "checkpoints": {"records": 5},
        "anchor": [{"file": str(anchor)}, {"command": ["/nonexistent/anchor"]}],
    }
    key = audit(world, "keys", "create", "--name", "example.com/audit").strip()
    with world.connect() as client:
        client.open()
        for _ in range(20):
            client.call("echo", {"text": "x"})
        assert client.close() == 0
    report = audit(world, "verify", "--key", key, "--anchored", str(anchor))
    assert "The log is whole" in report
    assert "command /nonexistent/anchor: No such file or directory" in report
    assert len(anchor.read_text().splitlines()) >= 1
    assert independent.verify(world.root / "audit", [key]) == []
    newest = audit(world, "checkpoint", "--json")
    anchored = [json.loads(line)["note"] for line in anchor.read_text().splitlines()]
    assert json.loads(newest)["note"] in anchored
    [journal] = (world.root / "audit" / "journal").glob("*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-4]))
    (world.root / "audit" / "checkpoints.jsonl").unlink()
    found = world.gateway("audit", "verify", "--anchored", str(anchor))
    assert found.returncode == 1
    assert "its end was cut off" in found.stdout
    rotated = audit(world, "keys", "rotate").strip()
    assert audit(world, "keys", "list").split() == [key, rotated]
    assert rotated.startswith("example.com/audit+")


def test_a_signing_key_that_is_not_there_keeps_the_gateway_from_running(world: World) -> None:
    world.canary()
    world.usual_agent()
    world.settings["audit"] = {
        "directory": str(world.root / "audit"),
        "signing_key": "${file:missing.key}",
    }
    done = world.gateway("connect", "canary")
    assert done.returncode == 2
    assert "audit.signing_key: the file 'missing.key' cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gateway_goes_on_in_other_segments_while_old_ones_are_deleted(world: World) -> None:
    world.canary()
    world.usual_agent()
    world.settings["audit"] = {
        "directory": str(world.root / "audit"),
        "segments": {"max_bytes": 65536},
        "retention": {"max_bytes": 1048576},
    }
    audit(world, "keys", "create")
    journals = world.root / "audit" / "journal"
    with world.connect() as client:
        client.open()
        for _ in range(150):
            client.call("echo", {"text": "x" * 200})
        world.wait_for(lambda: len(list(journals.glob("*.jsonl.gz"))) >= 2)
        assert len(audit(world, "list", "--json").splitlines()) == 150
        assert "0 segments, 0 bytes deleted" in audit(world, "prune")
        deleted = audit(world, "prune", "--max-bytes", "0")
        assert ".0002.jsonl.gz" in deleted
        client.call("echo", {"text": "after"})
        assert "The log is whole" in audit(world, "verify")
        left = len(audit(world, "list", "--json").splitlines())
        assert 0 < left < 150
        assert client.close() == 0
    assert "The log is whole" in audit(world, "verify")
    key = audit(world, "keys", "list").strip()
    assert independent.verify(world.root / "audit", [key]) == []
