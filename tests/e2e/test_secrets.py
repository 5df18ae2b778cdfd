"""Secrets that come by in any way appear nowhere: not in the log, what it prints, or /proc."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.console.browsing import ConsoleProcess, base_of, links_in
from tests.e2e.conftest import Open
from tests.e2e.inbox import Inbox, call, frame, request
from tests.e2e.person import Person
from tests.e2e.test_http_upstream import start_http_canary
from tests.e2e.world import World
from tests.redaction.planted import NAMED, PLANTED

TEXTS = [*PLANTED.values(), *(text for text, _ in NAMED.values())]
BY_NAME = ("planted-by-name", "planted-in-env", "planted-in-reference", "planted-in-gateway")
SECRETS = sorted(
    {
        *(line for secret in PLANTED.values() for line in secret.split("\n") if "---" not in line),
        *(secret for _, secret in NAMED.values()),
        *BY_NAME,
        "planted-in-header",
    }
)
AUDIT = (
    *(("list",), ("list", "--json"), ("tail",), ("export", "--format", "csv")),
    *(("export", "--format", "jsonl"), ("refusals",), ("changes",), ("who", "mcp__canary__*")),
)
PAGES = ("/", "/calls", "/refusals", "/matrix", "/upstreams", "/changes", "/verification", "/drift")
GIVEN = ("gateway.yaml", "canary.received", "canary.script", "rules.yaml")
"""The files of the test itself, and what the upstream is meant to have."""
RULES = """
rules:
  - name: sql
    effect: allow-only-if
    tools: mcp__canary__guarded
    arguments: {properties: {text: {sql: {statements: [select]}}}}
  - name: short
    effect: allow-only-if
    tools: mcp__canary__add
    arguments: {properties: {a: {}, b: {enum: [x]}}}
  - name: asked
    effect: ask
    tools: mcp__canary__stall
"""


def found_in(data: str | bytes) -> list[str]:
    text = data.decode(errors="replace") if isinstance(data, bytes) else data
    return [secret for secret in SECRETS if secret in text]


def files(world: World) -> Iterator[Path]:
    for directory, _, names in os.walk(world.root):
        for name in names:
            if name not in GIVEN:
                yield Path(directory) / name


def command_lines(pid: int) -> dict[int, bytes]:
    """Those of the gateway and of everything that it started."""
    processes = (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
    return {each.pid: Path(f"/proc/{each.pid}/cmdline").read_bytes() for each in processes}


@pytest.fixture
def planted(world: World) -> World:
    """A world whose files and environment hold secrets."""
    world.canary(
        initialize={"instructions": f"Use {PLANTED['npm']} and {PLANTED['jwt']}"},
        stderr=f"starting with {PLANTED['stripe']}\n",
    )
    world.upstreams["canary"]["env"] |= {
        "DB_PASSWORD": "planted-in-env",
        "OTHER": "${PLANTED_REFERENCE}",
    }
    world.agent("tester", ["mcp__canary"])
    world.settings["policies"] = ["rules.yaml"]
    (world.root / "rules.yaml").write_text(RULES)
    world.env["PLANTED_REFERENCE"] = "planted-in-reference"
    world.env["GATEWAY_TEST_SECRET"] = "planted-in-gateway"
    return world


def plant(client: Inbox) -> None:
    """Send secrets by every way that a client has, and have them come back."""
    nested = [{"password": "planted-by-name", "n": {"pin": 4711}}]
    frames = [call("all", "echo", {"texts": TEXTS, "nested": nested})]
    for number, text in enumerate(TEXTS):
        frames += [
            call(f"e{number}", "echo", {"text": text}),
            call(f"u{number}", f"undeclared {text}", {text: text}),
            request(f"r{number}", "resources/read", {"uri": f"canary://one?q={text}"}),
            request(f"m{number}", f"unknown/{text}", {"uri": text}),
        ]
    prompt = {"name": TEXTS[0], "arguments": {"token": "planted-by-name"}}
    frames += [
        request("p", "prompts/get", prompt),
        frame({"method": "notifications/cancelled", "params": {"reason": TEXTS[3]}}),
        call("rule", "add", {"a": -1, "b": TEXTS[0]}),
        call("guard", "guarded", {"text": f"select '{TEXTS[0]}', x; drop table {TEXTS[1]}"}),
    ]
    client.send(*frames)
    for number in range(len(TEXTS)):
        for kind in "eurm":
            client.answer(f"{kind}{number}")
    for identifier in ("all", "p", "rule", "guard"):
        client.answer(identifier)


@pytest.mark.parametrize("level", ["none", "shape", "redacted"])
def test_planted_secrets_are_in_no_file_and_no_process(planted: World, level: str) -> None:
    world = planted
    world.settings["audit"] = {"directory": str(world.root / "audit"), "arguments": level}
    with world.connect() as client:
        client.open()
        plant(client)
        client.send(call("held", "stall", {"texts": TEXTS, "password": "planted-by-name"}))
        person = Person(world.env, world.root)
        [waiting] = person.waiting()
        assert found_in(person.run("list").stdout) == []
        assert found_in(waiting.text) == []
        lines = command_lines(client.process.pid)
        assert any(b"guards.worker" in line for line in lines.values())
        assert found_in(b"".join(lines.values())) == []
        check_files(world)
        assert person.store.answer(waiting, approved=True, by="me", way="command") == ""
        client.answer("held")
        crashed = client.call("crash", {"stderr": "\n".join(TEXTS[::3]), "code": 3})
        assert found_in(json.dumps(crashed)) == []
        client.call("echo", {"text": "again"})
    assert found_in(client.stderr) == []
    assert len(world.decisions(method="tools/call")) > 2 * len(TEXTS)
    check_files(world)
    echoed = world.decisions(tool="mcp__canary__echo")[0]["arguments"]
    assert echoed["level"] == level
    assert ("text" in echoed) is (level == "redacted")
    if level == "redacted":  # which keeps the most
        check_commands(world)
        check_console(world)


def check_files(world: World) -> None:
    for path in files(world):
        assert (path, found_in(path.read_bytes())) == (path, [])


def check_commands(world: World) -> None:
    """Everything that reads the log or the files prints none of it."""
    [shown] = world.decisions(tool="mcp__canary__guarded")
    others = (("check",), ("matrix",), ("explain", "tester", "mcp__canary__echo"))
    for command in (*(("audit", *each) for each in (*AUDIT, ("show", shown["call"]))), *others):
        done = world.gateway(*command)
        assert done.returncode < 2, (command, done.stderr)
        assert (command, found_in(done.stdout + done.stderr)) == (command, [])
    check_files(world)


def check_console(world: World) -> None:
    console = ConsoleProcess(world)
    try:
        link = links_in(console.stderr)[-1]
        with httpx.Client(follow_redirects=True, timeout=30) as browser:
            browser.get(link)
            some = world.decisions(method="tools/call")[:: len(TEXTS)]
            for path in (*PAGES, *(f"/calls/{record['call']}" for record in some)):
                page = browser.get(f"{base_of(link)}/console{path}")
                assert page.status_code == 200, path
                assert "</main>" in page.text, path
                assert (path, found_in(page.text)) == (path, [])
    finally:
        console.stop()
    assert found_in("".join(console.stderr)) == []


def test_headers_and_errors_of_an_http_upstream_are_kept_out(world: World, connect: Open) -> None:
    canary = start_http_canary(world)
    try:
        entry = world.upstreams["canary"]
        entry["url"] += f"?token={PLANTED['npm']}"
        entry["headers"] = {"Authorization": "Bearer planted-in-header", "X-Key": PLANTED["jwt"]}
        with connect(world) as client:
            client.open()
            for text in TEXTS[::4]:
                client.call("echo", {"text": text})
            end(canary)
            lost = client.call("echo", {"text": "nobody is there"})
            assert "error" in lost
            assert found_in(json.dumps(lost)) == []
    finally:
        end(canary)
    check_files(world)
    done = world.gateway("check", "--live")
    assert found_in(done.stdout + done.stderr) == []


def end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(10)


@pytest.mark.parametrize(
    "lines",
    [
        f"upstreams:\n  web:\n    url: 'https://app:planted-in-header@host:port/{PLANTED['npm']}'\n",
        f"upstreams:\n  web:\n    command: [x, {PLANTED['npm']}]\n",
        f"upstreams:\n  web:\n    command: x\n    env: {{A: [{PLANTED['npm']}]}}\n",
        f"upstreams:\n  web:\n    command: x\n    env: {{A: '${{exec:false {PLANTED['npm']}}}'}}\n",
        f"upstreams:\n  web:\n    command: x\n    env: {{A: '${{{PLANTED['npm']}'}}\n",
        f"upstreams:\n  web: {PLANTED['npm']}\n",
        f"mode: {PLANTED['npm']}\ninclude: {PLANTED['stripe']}\n",
        f"{PLANTED['npm']}: 1\nupstreams: {{}}\n",
        f"upstreams:\n  web:\n   command: x\n  password: '{PLANTED['npm']}\n",
        f"default_agent: {PLANTED['npm']}\naudit: {{directory: {{a: {PLANTED['stripe']}}}}}\n",
    ],
)
def test_what_is_wrong_in_a_file_is_told_without_its_secrets(world: World, lines: str) -> None:
    world.usual_agent()
    path = world.write()
    path.write_text(lines)
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "--config", str(path)],
        env=world.env,
        cwd=world.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout or done.stderr
    assert "Traceback" not in done.stderr
    assert found_in(done.stdout + done.stderr) == []


def test_the_hook_of_the_host_leaves_none(world: World) -> None:
    world.canary()
    world.agent("tester", ["Read", "mcp__canary__echo"])
    world.settings |= {
        "default_agent": None,
        "native_tools": "enforce",
        "audit": {"directory": str(world.root / "audit"), "arguments": "redacted"},
    }
    world.write()
    everything = "\n".join(TEXTS)
    said = {"session_id": "s", "hook_event_name": "PreToolUse", "cwd": str(world.root)}
    for number, (tool, arguments) in enumerate(
        [
            ("Bash", {"command": everything, "password": "planted-by-name"}),
            ("Read", {"file_path": everything}),
            ("Write", {"file_path": str(world.root / "gateway.yaml"), "content": everything}),
            ("mcp__canary__echo", {"text": everything}),
            (f"mcp__canary__{PLANTED['npm']}", {everything[:900]: 1}),
            (f"odd {PLANTED['stripe']}", everything),
        ]
    ):
        message = {"tool_name": tool, "tool_input": arguments, "tool_use_id": f"toolu_{number}"}
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "hook"],
            input=json.dumps({**said, **message, "agent_type": "tester", "agent_id": "a"}).encode(),
            env=world.env,
            cwd=world.root,
            capture_output=True,
            check=False,
        )
        assert found_in(done.stderr) == []
    assert len(world.decisions(transport="hook")) >= 4
    check_files(world)
