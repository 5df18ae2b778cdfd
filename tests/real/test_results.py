"""Rules about results, applied to what a real server reads out of a real file."""

import json
from pathlib import Path

import pytest

from tests.acceptance import accept_in
from tests.real.rawclient import text_of
from tests.real.through import project
from tests.real.world import World
from tests.redaction.planted import PLANTED

pytestmark = pytest.mark.real

HOSTILE = "name\x1b[31m = value\u200b\u202e\n"
RULES = {
    "results": [
        {"name": "clean", "tools": "mcp__filesystem__*", "redact": True, "strip": True},
        {"name": "short", "tools": "mcp__filesystem__read_text_file", "max_bytes": 20_000},
    ]
}


def test_a_file_is_read_without_its_secrets_and_what_nobody_sees(
    world: World, tmp_path: Path
) -> None:
    files = world.addresses.files / "results"
    files.mkdir()
    (files / "settings.env").write_text(
        f"{HOSTILE}DB_PASSWORD=hunter2\nurl = postgres://app:geheim@db/app\n{PLANTED['private-key']}\n"
    )
    (files / "plain.txt").write_text("nothing in particular\n")
    (files / "long.txt").write_text("word " * 10_000)
    used = project(
        tmp_path / "p",
        {"filesystem": world.entry("filesystem", "newest")},
        tools=["mcp__filesystem"],
        grants={},
    )
    used.config.write_text(used.config.read_text() + "\npolicies: [results.yaml]\n")
    (used.directory / "results.yaml").write_text(json.dumps(RULES))
    accept_in(dict(used.environment), used.config)
    with used.connected("filesystem") as client:
        read = client.call("read_text_file", path=str(files / "settings.env"))
        plain = client.call("read_text_file", path=str(files / "plain.txt"))
        long = client.call("read_text_file", path=str(files / "long.txt"))
    assert text_of(read) == (
        "name = value\nDB_PASSWORD=[redacted: password]\n"
        "url = postgres://app:[redacted: url-credentials]@db/app\n[redacted: private-key]\n"
    )
    assert read.get("structuredContent", {"content": text_of(read)}) == {"content": text_of(read)}
    assert text_of(plain) == "nothing in particular\n"
    assert long["isError"] is True
    assert "allows 20000" in text_of(long)
