"""Names, arguments and messages that attack a terminal are shown harmlessly by every command."""

import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.e2e.inbox import call, frame, request
from tests.e2e.person import Person
from tests.e2e.world import World

HOSTILE = (
    "\x1b]0;OWNED\x07\x1b[2J\x1b[31;5mEVIL\x1b[0m\x9b31m\u202eLIVE\u200b\u2066\U000e0041"
    "<script>alert(1)</script>\r\x08\x00[bold]m[/]"
)
LONG = "L" * 1_000_000
NAMED_BADLY = "e\x1b[31;5mvil\u202e"
_SCREEN = re.compile(r"\x1b\[[0-9;]*m|\r{1,2}\n|\n|\t")
"""What a screen may hold besides text: colours and line ends, those of CSV too."""
_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
SCHEMA = {"type": "object", "properties": {HOSTILE: {"type": "string"}, "a": {}, "b": {}}}
MOST_CHARS = 300_000


def definition(name: str) -> dict[str, object]:
    return {"name": name, "description": HOSTILE + LONG[:50_000], "inputSchema": SCHEMA}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world in which everything that others can write was written by an attacker.

    One call waits for a person all the while.
    """
    world = World(tmp_path_factory.mktemp("attacked"))
    world.canary(
        tools=[definition(name) for name in ("echo", "add", "crash", "raw", "stall", NAMED_BADLY)],
        initialize={"instructions": HOSTILE, "serverInfo": {"name": HOSTILE, "version": HOSTILE}},
        stderr=f"{HOSTILE}\n{LONG[:10_000]}\n",
    )
    world.agent("tester", ["mcp__canary", "mcp__canary__gone"])
    (world.root / ".claude/agents/odd.md").write_text(
        '---\nname: odd\ndescription: "\\e[31;5mEVIL\\u202e"\n'
        'tools: ["mcp__canary__\\e[31;5mx", "mcp__\\u202e__y", "Ba\\e[2Jsh"]\n---\n'
    )
    world.settings["policies"] = ["rules.yaml"]
    world.settings["audit"] = {"directory": str(world.root / "audit"), "arguments": "full"}
    (world.root / "rules.yaml").write_text(
        "rules:\n  - {name: asked, effect: ask, tools: mcp__canary__stall}\n"
        "  - name: some\n    effect: allow-only-if\n    tools: mcp__canary__add\n"
        '    message: "\\e[31;5mEVIL\\u202e"\n    arguments: {properties: {a: {maximum: 5}}}\n'
    )
    with world.connect() as client:
        client.ask(
            "initialize",
            {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": HOSTILE, "version": HOSTILE},
            },
        )
        client.send(frame({"method": "notifications/initialized"}))
        client.call("echo", {"text": HOSTILE, HOSTILE: {HOSTILE: HOSTILE}, "long": LONG})
        client.call("add", {"a": 7, "b": HOSTILE})
        client.call(HOSTILE, {"text": HOSTILE})
        client.call(LONG)
        client.call(NAMED_BADLY)
        client.send(request("r", "resources/read", {"uri": f"x://{HOSTILE}"}))
        client.send(request("m", HOSTILE, {}))
        client.answer("r")
        client.answer("m")
        client.call("crash", {"stderr": HOSTILE + LONG, "code": 3})
        client.call("echo", {"text": "back"})
        client.send(call("held", "stall", {"text": HOSTILE, HOSTILE: LONG}))
        Person(world.env, world.root).waiting()
        yield world
    assert_harmless(client.stderr)


def screen_of(world: World, command: Sequence[str], typed: bytes = b"") -> str:
    """What a command shows in a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        world.argv(*command) if command[0] != "approvals" else world.argv(*command)[:-2],
        env={**world.env, "TERM": "xterm-256color", "COLUMNS": "120"},
        cwd=world.root,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 0.1)[0]:
                continue
            try:
                shown += os.read(master, 65536)
            except OSError:  # the other side is closed
                break
            if typed and b"[y/N]" in shown:
                os.write(master, typed)
                typed = b""
        process.wait(20)
    finally:
        process.kill()
        process.wait()
        os.close(master)
    return shown.decode(errors="replace")


def assert_harmless(shown: str) -> None:
    assert "\x1b[31;5m" not in shown
    left = _SCREEN.sub("", shown)
    found = _HARMFUL.search(left)
    assert found is None, ascii(left[max(0, found.start() - 80) : found.end() + 40])
    assert len(shown) < MOST_CHARS


COMMANDS = {
    "list": ("audit", "list"),
    "tail": ("audit", "tail"),
    "tail-json": ("audit", "tail", "--json"),
    "refusals": ("audit", "refusals"),
    "changes": ("audit", "changes"),
    "who": ("audit", "who", "mcp__canary__*"),
    "stats": ("audit", "stats"),
    "upstreams": ("audit", "upstreams"),
    "unused": ("audit", "unused"),
    "suggest": ("audit", "suggest", "tester"),
    "export-csv": ("audit", "export", "--format", "csv"),
    "verify": ("audit", "verify"),
    "approvals": ("approvals", "list"),
    "agents": ("agents",),
    "check-live": ("check", "--live"),
    "explain-live": ("explain", "tester", "mcp__canary__echo", "--live"),
    "explain-arguments": (
        *("explain", "tester", "mcp__canary__add", "--arguments"),
        json.dumps({"a": 7, HOSTILE: HOSTILE}),
    ),
    "explain-unknown": ("explain", "tester", "mcp__canary__\x1b[31;5mx\u202e"),
    "matrix-live": ("matrix", "--live"),
    "trust": ("trust", "--show"),
    "unknown-command": ("\x1b[31;5mx\u202e",),
}
LONG_OUTPUT = ("export-csv", "tail-json")
"""Made for other programs: nothing is cut there."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_shows_foreign_text_harmlessly(attacked: World, name: str) -> None:
    shown = screen_of(attacked, COMMANDS[name])
    assert shown.strip()
    assert "Traceback" not in shown
    assert_harmless(shown[: MOST_CHARS - 1] if name in LONG_OUTPUT else shown)


def test_each_recorded_call_is_shown_harmlessly(attacked: World) -> None:
    decisions = attacked.decisions()
    for record in [each for each in decisions if each["decision"] != "allow"] + decisions[-2:]:
        assert_harmless(screen_of(attacked, ("audit", "show", record["call"])))


def test_a_question_is_shown_and_answered_harmlessly(attacked: World) -> None:
    [waiting] = Person(attacked.env, attacked.root).waiting()
    shown = screen_of(attacked, ("approvals", "approve", waiting.id), typed=b"n\n")
    assert waiting.id[:4] in shown or "EVIL" in shown
    assert_harmless(shown)


def test_a_review_of_pins_is_shown_harmlessly(attacked: World) -> None:
    shown = screen_of(attacked, ("pin",))
    assert "echo" in shown
    assert_harmless(shown)
    attacked.script("canary", tools=[{**definition("echo"), "title": HOSTILE + "other"}])
    try:
        reviewed = screen_of(attacked, ("pin", "--review"), typed=b"n\n")
        assert "other" in reviewed
        assert_harmless(reviewed)
    finally:
        (attacked.root / "gateway.lock").unlink()
