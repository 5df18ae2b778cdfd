"""Secrets that come by in any way appear nowhere: not in the log, what it prints, or /proc."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.inbox import frame, text_of
from tests.e2e.stdio import StdioClient
from tests.e2e.world import World
from tests.redaction.planted import NAMED, PLANTED

TEXTS = [*PLANTED.values(), *(text for text, _ in NAMED.values())]
SECRETS = sorted(
    {
        *(line for secret in PLANTED.values() for line in secret.split("\n") if "---" not in line),
        *(secret for _, secret in NAMED.values()),
        "planted-by-name",
        "planted-in-env",
        "planted-in-reference",
        "planted-in-gateway",
    }
)
COMMANDS = (
    ("audit", "list"),
    ("audit", "list", "--json"),
    ("audit", "tail"),
    ("audit", "tail", "--json"),
    ("check",),
    ("explain", "tester", "mcp__canary__echo"),
)
GIVEN = ("gateway.yaml", "canary.received", "canary.script")
"""The files of the test itself, and what the upstream is meant to have."""


def found_in(data: str | bytes) -> list[str]:
    text = data.decode(errors="replace") if isinstance(data, bytes) else data
    return [secret for secret in SECRETS if secret in text]


def files(world: World) -> Iterator[Path]:
    for directory, _, names in os.walk(world.root):
        for name in names:
            if name not in GIVEN:
                yield Path(directory) / name


def run_of(process: int) -> Iterator[bytes]:
    """The command lines of the gateway and of everything that it started."""
    for each in (psutil.Process(process), *psutil.Process(process).children(recursive=True)):
        yield Path(f"/proc/{each.pid}/cmdline").read_bytes()


def plant(client: StdioClient) -> None:
    """Send secrets by every way that a client has, and have them come back."""
    arguments = {"texts": TEXTS, "nested": [{"password": "planted-by-name", "n": {"pin": 4711}}]}
    client.call("echo", arguments)
    for text in TEXTS:
        assert text_of(client.call("echo", {"text": text})) == text
        client.call(f"undeclared {text}", {text: text})
        client.ask("resources/read", {"uri": f"canary://one?q={text}"})
        client.ask(f"unknown/{text}", {"uri": text})
    client.ask("prompts/get", {"name": TEXTS[0], "arguments": {"token": "planted-by-name"}})
    client.send(frame({"method": "notifications/cancelled", "params": {"reason": TEXTS[3]}}))
    client.call("add", {"a": -1, "b": TEXTS[0]})
    client.call("guarded", {"text": f"select '{TEXTS[0]}', x; drop table {TEXTS[1]}"})
    crashed = client.call("crash", {"stderr": "\n".join(TEXTS[::3]), "code": 3})
    assert found_in(json.dumps(crashed)) == []
    client.call("echo", {"text": "again"})


@pytest.mark.parametrize("level", ["none", "shape", "redacted"])
def test_planted_secrets_are_nowhere_to_be_read(world: World, level: str) -> None:
    entry_env = {"DB_PASSWORD": "planted-in-env", "OTHER": "${PLANTED_REFERENCE}"}
    instructions = {"instructions": f"Use {PLANTED['npm']} and {PLANTED['jwt']}"}
    world.canary(initialize=instructions, stderr=f"starting with {PLANTED['stripe']}\n")
    world.upstreams["canary"]["env"] |= entry_env
    world.agent("tester", ["mcp__canary"])
    world.settings["audit"] = {"directory": str(world.root / "audit"), "arguments": level}
    world.settings["policies"] = ["rules.yaml"]
    (world.root / "rules.yaml").write_text(
        "rules:\n  - name: sql\n    effect: allow-only-if\n    tools: mcp__canary__guarded\n"
        "    arguments: {properties: {text: {sql: {statements: [select]}}}}\n"
        "  - name: short\n    effect: allow-only-if\n    tools: mcp__canary__add\n"
        "    arguments: {properties: {a: {}, b: {enum: [x]}}}\n"
    )
    world.env["PLANTED_REFERENCE"] = "planted-in-reference"
    world.env["GATEWAY_TEST_SECRET"] = "planted-in-gateway"
    with world.connect() as client:
        client.open()
        plant(client)
        lines = list(run_of(client.process.pid))
    assert [found_in(line) for line in lines] == [[] for _ in lines]
    assert found_in(client.stderr) == []
    assert len(world.decisions(method="tools/call")) > 2 * len(TEXTS)
    for command in COMMANDS:
        done = world.gateway(*command)
        assert done.stdout, (command, done.stderr)
        assert (command, found_in(done.stdout + done.stderr)) == (command, [])
    [shown] = world.decisions(tool="mcp__canary__guarded")
    assert found_in(world.gateway("audit", "show", shown["call"]).stdout) == []
    for path in files(world):
        assert (path, found_in(path.read_bytes())) == (path, [])
    echoed = world.decisions(tool="mcp__canary__echo")[0]["arguments"]
    assert echoed["level"] == level
    assert ("text" in echoed) is (level == "redacted")
