"""The client's hook as the client runs it: a process, JSON on stdin, JSON or nothing on stdout."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.config.trust import accept
from gateway.identity.spool import MAX_AGE_S, Refused, Registration, Spool
from tests.audit.samples import journals, verified
from tests.e2e.inbox import Message
from tests.e2e.test_startup import HEAVY, imported
from tests.e2e.world import World

TOO_HEAVY_HERE = (
    *HEAVY,
    *("click", "asyncio", "selectors", "inspect", "ast", "json", "difflib"),
    *("subprocess", "logging", "gateway.cli.main", "gateway.agents.reader"),
)
MOST_MODULES = 155
"""Measured: 143, of which the interpreter has some 30 before the first line of the program."""


class Said(NamedTuple):
    """What one hook came to."""

    code: int
    out: bytes
    err: str

    @property
    def denied(self) -> str:
        """The reason of a refusal."""
        answer = json.loads(self.out)["hookSpecificOutput"]
        assert answer["hookEventName"] == "PreToolUse"
        assert answer["permissionDecision"] == "deny"
        assert (self.code, self.err) == (0, "")
        reason: str = answer["permissionDecisionReason"]
        return reason


NOTHING = Said(0, b"", "")


class Host:
    """The client's host in one project."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.monkeypatch = monkeypatch
        self.spool = Spool(Path(world.env["HOME"], ".local/state/mcp-tool-gateway/calls"))
        self.number = 0

    def trust(self, **settings: Any) -> None:
        """Write the configuration, and accept it as a person does."""
        self.world.settings |= {"default_agent": None, **settings}
        self.world.write()
        with self.monkeypatch.context() as patched:
            patched.setenv("HOME", self.world.env["HOME"])
            for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
                patched.delenv(name, raising=False)
            accept(self.world.root / "gateway.yaml", cwd=self.world.root)

    def message(self, tool: str, tool_input: object = None, **changes: Any) -> Message:
        self.number += 1
        message = {
            "session_id": "host-session",
            "transcript_path": "/transcript",
            "cwd": str(self.world.root),
            "hook_event_name": "PreToolUse",
            "tool_name": tool,
            "tool_input": {} if tool_input is None else tool_input,
            "tool_use_id": f"toolu_{self.number}",
            "agent_type": "tester",
            "agent_id": "agent-1",
            **changes,
        }
        return {name: value for name, value in message.items() if value is not None}

    def ask(self, tool: str, tool_input: object = None, **changes: Any) -> Said:
        """One message of the host, of the agent `tester` where nothing else is said."""
        return self.say(json.dumps(self.message(tool, tool_input, **changes)).encode())

    def say(
        self,
        data: bytes,
        *arguments: str,
        cwd: Path | None = None,
        env: Mapping[str, str] = {},
        program: Sequence[str] = ("-m", "gateway"),
    ) -> Said:
        done = subprocess.run(
            [sys.executable, *program, "hook", *arguments],
            input=data,
            capture_output=True,
            cwd=cwd or self.world.root,
            env={**self.world.env, **env},
            timeout=30,
        )
        return Said(done.returncode, done.stdout, done.stderr.decode())

    def claim(self) -> Registration | Refused | None:
        """What the gateway would get for the last call."""
        return self.spool.claim(f"toolu_{self.number}")

    def refusals(self) -> list[str]:
        """The reasons of the messages that were refused for what they are."""
        return [event["data"]["reason"] for event in self.world.events("hook.refused")]


@pytest.fixture
def host(world: World, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A project with one upstream, whose agent `tester` declares `Read` and one tool of it."""
    world.canary()
    world.canary("second")
    world.agent("tester", ["Read", "mcp__canary__echo", "mcp__elsewhere__look"])
    host = Host(world, monkeypatch)
    host.trust()
    return host


# Calls of upstreams


@pytest.mark.parametrize("tool", ["mcp__canary__echo", "mcp__all__canary__echo"])
def test_a_declared_tool_is_left_to_the_gateway(host: Host, tool: str) -> None:
    assert host.ask(tool, {"text": "x"}) == NOTHING
    claimed = host.claim()
    assert isinstance(claimed, Registration)
    assert (claimed.agent_type, claimed.agent_id, claimed.tool) == ("tester", "agent-1", tool)
    assert claimed.session == "host-session"
    assert host.world.records() == []


@pytest.mark.parametrize("tool", ["mcp__canary__add", "mcp__all__canary__add"])
def test_an_undeclared_tool_is_refused_and_recorded(host: Host, tool: str) -> None:
    assert "mcp__canary__add is not declared" in host.ask(tool, {"a": 1}).denied
    [record] = host.world.decisions()
    assert (record["agent"], record["identified"]) == ("tester", "hook")
    assert (record["decision"], record["rule"]) == ("deny", "not declared")
    assert (record["tool"], record["upstream"]) == ("mcp__canary__add", "canary")
    assert (record["method"], record["action"]) == ("tools/call", "tool")
    assert record["host"] == {
        "agent_id": "agent-1",
        "agent_type": "tester",
        "session": "host-session",
        "tool_use_id": "toolu_1",
    }
    assert record["arguments"]["shape"]["members"] == [{"key": "a", "type": "integer"}]
    assert host.claim() is None


def test_a_name_with_two_meanings_is_left_to_the_gateway_where_one_is_allowed(host: Host) -> None:
    assert host.ask("mcp__second__canary__echo") == NOTHING
    assert isinstance(host.claim(), Registration)
    assert "not declared" in host.ask("mcp__second__canary__add").denied


def test_in_observe_mode_the_gateway_records_what_it_would_have_refused(host: Host) -> None:
    host.trust(mode="observe")
    assert host.ask("mcp__canary__add") == NOTHING
    assert isinstance(host.claim(), Registration)
    assert host.world.records() == []


def test_what_nobody_has_accepted_is_refused(host: Host) -> None:
    host.world.agent("tester", ["mcp__canary__echo", "mcp__canary__add"])
    assert "gateway trust" in host.ask("mcp__canary__add").denied
    assert host.ask("mcp__canary__echo") == NOTHING
    host.world.agent("tester", ["mcp__second__echo"])
    assert "not declared" in host.ask("mcp__canary__echo").denied


# Who asks


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"agent_type": None, "agent_id": None}, "set main_thread"),
        ({"agent_type": "Explore"}, "set builtin_agents"),
        ({"agent_type": "plugin:a:b"}, "'plugin:a:b' is not defined"),
        ({"agent_type": "@main-thread"}, "is no name of an agent"),
    ],
)
def test_who_is_no_agent_is_refused(host: Host, changes: Message, told: str) -> None:
    assert told in host.ask("mcp__canary__echo", **changes).denied
    [record] = host.world.decisions()
    assert (record["rule"], record["identified"]) == ("identity", "hook")


def test_the_main_thread_is_who_the_configuration_says(host: Host) -> None:
    host.trust(main_thread="tester")
    main = {"agent_type": None, "agent_id": None}
    assert host.ask("mcp__canary__echo", **main) == NOTHING
    claimed = host.claim()
    assert isinstance(claimed, Registration)
    assert claimed.agent_type is None
    assert "'tester'" in host.ask("mcp__canary__add", **main).denied


# Native tools


def test_native_tools_are_not_looked_at_unless_the_configuration_says_so(host: Host) -> None:
    assert host.ask("Bash", {"command": "ls"}) == NOTHING
    assert host.claim() is None
    assert host.world.records() == []


def test_native_tools_observed(host: Host) -> None:
    host.trust(native_tools="observe")
    assert host.ask("Bash", {"command": "ls"}) == NOTHING
    [record] = host.world.decisions()
    assert (record["decision"], record["enforced"]) == ("deny", False)


def test_native_tools_enforced(host: Host) -> None:
    host.trust(native_tools="enforce")
    assert "Bash is not declared" in host.ask("Bash", {"command": "ls"}).denied
    assert host.ask("Read", {"file_path": "x"}) == NOTHING
    refused, allowed = host.world.decisions()
    assert (refused["tool"], refused["decision"], refused["action"]) == ("Bash", "deny", "native")
    assert (allowed["tool"], allowed["decision"]) == ("Read", "allow")
    assert (allowed["method"], allowed["agent"]) == ("PreToolUse", "tester")
    assert "secret" not in json.dumps(refused["arguments"])


def test_tools_of_other_servers_count_as_native(host: Host) -> None:
    assert host.ask("mcp__other__look") == NOTHING
    assert isinstance(host.claim(), Registration)
    host.trust(native_tools="enforce")
    assert "mcp__other__look is not declared" in host.ask("mcp__other__look").denied
    assert host.claim() is None
    assert host.ask("mcp__elsewhere__look") == NOTHING
    assert isinstance(host.claim(), Registration)


@pytest.mark.parametrize("settings", [{}, {"mode": "observe", "native_tools": "observe"}])
def test_a_file_that_grants_is_protected_whatever_is_observed(
    host: Host, settings: Message
) -> None:
    host.trust(**settings)
    path = str(host.world.root / ".claude/agents/tester.md")
    for tool, name in (("Edit", "file_path"), ("NotebookEdit", "notebook_path")):
        assert "gateway trust" in host.ask(tool, {name: path}).denied
    assert "gateway trust" in host.ask("Bash", {"command": "gateway trust"}).denied
    assert {record["rule"] for record in host.world.decisions()} == {"protected file"}
    assert host.ask("Write", {"file_path": "notes.md"}) == NOTHING


# Bad input


def test_a_forged_second_registration_takes_the_first_away(host: Host) -> None:
    message = host.message("mcp__canary__echo", {"text": "x"})
    assert host.say(json.dumps(message).encode()) == NOTHING
    forged = {**message, "agent_type": None, "agent_id": None}
    host.world.settings["main_thread"] = "tester"
    host.trust()
    assert (
        "given this call's id before"
        in host.say(json.dumps({k: v for k, v in forged.items() if v is not None}).encode()).denied
    )
    assert isinstance(host.claim(), Refused)
    [event] = host.world.events("hook.refused")
    assert event["session"] == "host-session"
    assert event["data"]["tool_use_id"] == "toolu_1"
    assert event["data"]["agent_type"] is None


def test_a_replayed_message_is_refused_though_its_call_was_made(host: Host) -> None:
    data = json.dumps(host.message("mcp__canary__echo")).encode()
    assert host.say(data) == NOTHING
    assert isinstance(host.claim(), Registration)
    assert "given this call's id before" in host.say(data).denied
    assert isinstance(host.claim(), Refused)
    assert len(host.refusals()) == 1


def test_a_late_call_is_refused(host: Host) -> None:
    assert host.ask("mcp__canary__echo") == NOTHING
    directory = Path(host.world.env["HOME"], ".local/state/mcp-tool-gateway/calls")
    later = Spool(directory, lambda: time.time_ns() + (MAX_AGE_S + 1) * 1_000_000_000)
    assert isinstance(later.claim("toolu_1"), Refused)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tool_use_id": None}, "tool_use_id"),
        ({"tool_use_id": "x" * 300}, "tool_use_id"),
        ({"tool_use_id": 7}, "tool_use_id"),
        ({"tool_input": "text"}, "tool_input"),
        ({"session_id": None}, "session_id"),
        ({"agent_type": None}, "agent_id"),
        ({"agent_type": ["tester"]}, "agent_type"),
        ({"hook_event_name": None}, "hook_event_name"),
    ],
)
def test_a_malformed_message_is_refused_and_recorded(
    host: Host, changes: Message, told: str
) -> None:
    assert told in host.ask("mcp__canary__echo", **changes).denied
    [reason] = host.refusals()
    assert told in reason
    assert host.claim() is None


@pytest.mark.parametrize("data", [b"", b"{}", b"text", b"\xff\xfe", b"[" * 1000])
def test_what_is_no_message_is_refused_and_recorded(host: Host, data: bytes) -> None:
    assert "the host's message is refused" in host.say(data).denied
    assert len(host.refusals()) == 1


def test_a_message_about_another_event_is_noted(host: Host) -> None:
    assert host.ask("mcp__canary__echo", hook_event_name="PostToolUse") == NOTHING
    assert len(host.refusals()) == 1
    assert host.claim() is None


# Which configuration


def test_without_a_configuration_nothing_is_governed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    host = Host(world, monkeypatch)
    for data in (json.dumps(host.message("Bash", cwd=str(bare))).encode(), b"no message"):
        assert host.say(data, cwd=bare) == NOTHING
    assert list(Path(world.env["HOME"]).iterdir()) == []


def test_the_hosts_project_comes_before_the_directory_of_the_message(
    host: Host, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "gateway.yaml").write_text("upstreams: {}\n")
    data = json.dumps(host.message("mcp__canary__add", cwd=str(away))).encode()
    project = {"CLAUDE_PROJECT_DIR": str(host.world.root)}
    assert "'tester'" in host.say(data, cwd=away, env=project).denied
    assert host.say(data, cwd=away) == NOTHING  # there it is nobody's


@pytest.mark.parametrize("option", [("-c",), ("--config",), ("--config=",)])
def test_a_configuration_can_be_named(host: Host, tmp_path: Path, option: tuple[str]) -> None:
    away = tmp_path / "away"
    away.mkdir()
    path = str(host.world.root / "gateway.yaml")
    arguments = [option[0] + path] if option[0].endswith("=") else [*option, path]
    data = json.dumps(host.message("mcp__canary__add", cwd=str(away))).encode()
    assert "'tester'" in host.say(data, *arguments, cwd=away).denied


def test_a_project_without_a_configuration_of_the_gateway_is_left_alone(host: Host) -> None:
    (host.world.root / "gateway.yaml").unlink(missing_ok=True)
    servers = {"mcpServers": {"direct": {"command": "direct"}}}
    (host.world.root / ".mcp.json").write_text(json.dumps(servers))
    for tool in ("Bash", "mcp__direct__x", "mcp__other__x"):
        assert host.ask(tool) == NOTHING


def test_a_broken_configuration_refuses_everything(host: Host) -> None:
    (host.world.root / "gateway.yaml").write_text("upstreams: {}\nagents: 7\n")
    for tool in ("Read", "mcp__canary__echo"):
        assert "gateway.yaml:2:" in host.ask(tool).denied
    own = Path(host.world.env["HOME"], ".local/state/mcp-tool-gateway/audit")
    [path] = journals(own)
    assert [each.get("event") for each in verified(path)][1:] == ["hook.refused"] * 2


# When things fail


def test_nothing_runs_that_cannot_be_recorded(host: Host) -> None:
    host.trust(native_tools="enforce")
    (host.world.root / "audit").write_text("in the way")
    assert "cannot be recorded" in host.ask("Read").denied
    assert "not declared" in host.ask("Bash").denied
    assert "cannot be registered" in host.ask("mcp__canary__echo").denied
    host.trust(native_tools="observe")
    assert host.ask("Read") == NOTHING


def test_anything_unexpected_blocks_with_one_line(host: Host) -> None:
    whole = [sys.executable, "-m", "gateway", "hook"]
    for closing in ("<&-", ">&- <message"):
        (host.world.root / "message").write_text(json.dumps(host.message("mcp__canary__add")))
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" "$@" {closing}', *whole],
            env=host.world.env,
            cwd=host.world.root,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("gateway hook: it failed unexpectedly (OSError)")


def test_a_wrong_command_line_blocks_too(host: Host) -> None:
    said = host.say(b"", "--nonsense")
    assert (said.code, said.out) == (2, b"")
    assert "Traceback" not in said.err
    said = host.say(b"", "--help")
    assert said.code == 0
    assert b"PreToolUse" in said.out


def test_many_at_once_leave_one_chain_and_every_call(host: Host) -> None:
    host.trust(native_tools="enforce")
    messages = [host.message(tool) for _ in range(12) for tool in ("Read", "mcp__canary__echo")]
    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(host.say, [json.dumps(each).encode() for each in messages]))
    assert said == [NOTHING] * 24
    [path] = journals(host.world.root / "audit")
    assert len(verified(path)) == 13
    claimed = [host.spool.claim(each["tool_use_id"]) for each in messages[1::2]]
    assert all(isinstance(each, Registration) for each in claimed)


@pytest.mark.parametrize("tool", ["Read", "mcp__canary__echo"])
def test_next_to_nothing_is_imported(host: Host, tool: str) -> None:
    host.trust(native_tools="enforce")
    assert host.ask(tool) == NOTHING  # fills the caches
    data = json.dumps(host.message(tool)).encode()
    said = host.say(data, program=("-X", "importtime", "-m", "gateway"))
    assert (said.code, said.out) == (0, b"")
    modules = imported(said.err)
    assert "gateway.hook.run" in modules
    roots = {name.partition(".")[0] for name in modules} | modules
    assert roots & set(TOO_HEAVY_HERE) == set()
    assert len(modules) <= MOST_MODULES


# Rules of policy files


def test_what_a_rule_refuses_is_refused_before_it_reaches_the_gateway(host: Host) -> None:
    (host.world.root / "policies").mkdir()
    (host.world.root / "policies" / "p.yaml").write_text(
        "rules:\n- name: only-hello\n  effect: allow-only-if\n  tools: mcp__canary__echo\n"
        "  arguments: {properties: {text: {const: hello}}}\n"
    )
    host.trust(policies="policies")
    assert "only-hello" in host.ask("mcp__canary__echo", {"text": "bye"}).denied
    assert host.ask("mcp__canary__echo", {"text": "hello"}) == NOTHING


def test_a_guard_that_takes_long_is_left_to_the_gateway(host: Host) -> None:
    (host.world.root / "policies").mkdir()
    (host.world.root / "policies" / "p.yaml").write_text(
        "rules:\n- name: reading\n  effect: allow-only-if\n  tools: mcp__canary__echo\n"
        "  arguments: {properties: {text: {sql: {dialect: postgres}, maxLength: 20}}}\n"
    )
    host.trust(policies="policies")
    assert host.ask("mcp__canary__echo", {"text": "select 1"}) == NOTHING
    assert "reading" in host.ask("mcp__canary__echo", {"text": "x" * 21}).denied
