import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.audit.journal import Journal
from gateway.audit.records import HostCall
from gateway.cli.audit import audit_directory, command
from gateway.errors import UserError
from tests.audit.samples import decision, outcome

PROMISED = {"time", "call", "agent", "tool", "decision", "reason", "rule"}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.open(tmp_path, durability="process")
    yield journal
    journal.close()


def run(directory: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, [*arguments, "--directory", str(directory)])


def as_json(directory: Path, *arguments: str) -> list[dict[str, Any]]:
    result = run(directory, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def fill(journal: Journal) -> None:
    """An allowed call that ended, one that did not, a refused one of another agent."""
    first = decision(name="first", time="2026-01-01T10:00:00.000000Z")
    journal.append(first)
    journal.append(outcome(first.call))
    journal.append(decision(name="second", time="2026-01-02T10:00:00.000000Z"))
    journal.append(
        decision(
            name="third",
            agent="reviewer",
            tool="mcp__github__merge",
            upstream="github",
            decision="deny",
            time="2026-01-03T10:00:00.000000Z",
        )
    )


@pytest.mark.parametrize("name", ["tail", "list"])
def test_json_has_one_call_a_line_with_what_is_promised(
    tmp_path: Path, journal: Journal, name: str
) -> None:
    fill(journal)
    calls = as_json(tmp_path, name)
    assert [call["name"] for call in calls] == ["first", "second", "third"]
    assert all(call.keys() >= PROMISED for call in calls)
    assert [call.get("status") for call in calls] == ["ok", "unknown", None]
    assert [call.get("duration_us") for call in calls] == [1500, None, None]


@pytest.mark.parametrize("name", ["tail", "list"])
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--agent", "reviewer"), ["third"]),
        (("--tool", "mcp__supabase__execute_sql"), ["first", "second"]),
        (("--tool", "mcp__supabase__*"), ["first", "second"]),
        (("--tool", "mcp__supabase"), []),
        (("--upstream", "github"), ["third"]),
        (("--decision", "deny"), ["third"]),
        (("--since", "2026-01-02T10:00:00Z"), ["second", "third"]),
        (("--until", "2026-01-02T11:00:00+01:00"), ["first"]),
        (("--since", "2026-01-02T00:00:00Z", "--decision", "allow"), ["second"]),
        (("--since", "1m"), []),
        (("-n", "2"), ["second", "third"]),
    ],
)
def test_filters(
    tmp_path: Path, journal: Journal, name: str, arguments: tuple[str, ...], names: list[str]
) -> None:
    fill(journal)
    assert [call["name"] for call in as_json(tmp_path, name, *arguments)] == names


def test_an_age_is_counted_from_now(tmp_path: Path, journal: Journal) -> None:
    journal.append(decision(name="now"))
    for age in ("90s", "10m", "2h", "3d", "1w"):
        assert len(as_json(tmp_path, "list", "--since", age)) == 1
        assert as_json(tmp_path, "list", "--until", age) == []


@pytest.mark.parametrize("text", ["yesterday", "10", "2026-01-01T00:00:00", "-5m", "999999999w"])
def test_a_time_that_is_none_is_a_usage_error(tmp_path: Path, journal: Journal, text: str) -> None:
    result = run(tmp_path, "list", f"--since={text}")
    assert result.exit_code == 2
    assert "neither a time" in result.stderr


def test_list_says_when_there_is_more(tmp_path: Path, journal: Journal) -> None:
    fill(journal)
    assert "-n takes more" in run(tmp_path, "list", "-n", "2").stderr
    assert run(tmp_path, "list", "-n", "3").stderr == ""


def test_a_pipe_gets_plain_columns(tmp_path: Path, journal: Journal) -> None:
    fill(journal)
    head, *lines = run(tmp_path, "list").stdout.splitlines()
    assert head.split() == ["TIME", "CALL", "AGENT", "TARGET", "DECISION", "STATUS", "MS", "REASON"]
    assert [line.split()[2:7] for line in lines] == [
        ["backend-engineer", "mcp__supabase__execute_sql", "allow", "ok", "1.5"],
        ["backend-engineer", "mcp__supabase__execute_sql", "allow", "unknown", "-"],
        ["reviewer", "mcp__github__merge", "deny", "-", "-"],
    ]


@pytest.mark.parametrize("arguments", [["list"], ["tail"], ["list", "--json"], ["show"]])
def test_nothing_from_a_record_reaches_the_terminal_as_it_is(
    tmp_path: Path, journal: Journal, arguments: list[str]
) -> None:
    hostile = "\x1b[31m\x07\x9b\u202e\u200b\u2066\u3164\U000e0041\r\nfake line"
    record = decision(
        tool=None, method="resources/read", name=hostile, agent=hostile, reason=hostile
    )
    journal.append(record)
    result = run(tmp_path, *arguments, *([record.call] if arguments == ["show"] else []))
    assert result.exit_code == 0
    assert "fake line" in result.stdout
    assert "\\u202e" in result.stdout
    for character in result.stdout.replace("\n", ""):
        assert character.isprintable(), repr(character)
    assert not result.stdout.startswith("fake")
    assert "\nfake" not in result.stdout
    assert "\u3164" not in result.stdout


def test_show_finds_a_call_by_the_beginning_of_its_id(tmp_path: Path, journal: Journal) -> None:
    fill(journal)
    first = as_json(tmp_path, "list")[0]
    [shown] = as_json(tmp_path, "show", first["call"])
    assert {key: shown[key] for key in first} == first
    assert shown["positions"]["decision"]["seq"] == 2
    assert shown["positions"]["outcome"]["seq"] == 3
    text = run(tmp_path, "show", first["call"]).stdout
    for key in ("agent", "rule", "snapshot", "status", "duration_us"):
        assert (re.search(rf"^{key}: +\S", text, re.MULTILINE) is not None) == (key in first)


def test_what_was_only_observed_is_marked(tmp_path: Path, journal: Journal) -> None:
    record = decision(decision="deny", enforced=False)
    journal.append(record)
    journal.append(outcome(record.call))
    for name in ("tail", "list"):
        assert "  deny (observed)  ok" in run(tmp_path, name).stdout
        assert [call["enforced"] for call in as_json(tmp_path, name)] == [False]
    assert re.search(r"^enforced: +false$", run(tmp_path, "show", record.call).stdout, re.MULTILINE)


def test_show_tells_what_the_clients_host_said(tmp_path: Path, journal: Journal) -> None:
    host = HostCall(session="s-1", tool_use_id="toolu_1", agent_type="reviewer", agent_id="a-1")
    record = decision(identified="hook", host=host)
    journal.append(record)
    text = run(tmp_path, "show", record.call).stdout
    for name, value in (
        ("session", "s-1"),
        ("tool_use_id", "toolu_1"),
        ("agent_type", "reviewer"),
        ("agent_id", "a-1"),
    ):
        assert re.search(rf"^host\.{name}: +{value}$", text, re.MULTILINE)
    [shown] = as_json(tmp_path, "show", record.call)
    assert shown["host"]["agent_type"] == "reviewer"


def test_show_without_such_a_call_ends_with_1(tmp_path: Path, journal: Journal) -> None:
    result = run(tmp_path, "show", "no-such\x1b")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "no call" in result.stderr
    assert "\x1b" not in result.stderr


def test_show_refuses_to_choose(tmp_path: Path, journal: Journal) -> None:
    fill(journal)
    error = run(tmp_path, "show", "0").exception
    assert isinstance(error, UserError)
    assert "more than one" in error.message


@pytest.mark.parametrize("arguments", [["tail"], ["tail", "-f"], ["list"], ["show", "x"]])
def test_a_missing_audit_directory_is_a_users_error(tmp_path: Path, arguments: list[str]) -> None:
    error = run(tmp_path / "missing", *arguments).exception
    assert isinstance(error, UserError)
    assert error.path == str(tmp_path / "missing")


def test_what_is_no_record_is_said_on_stderr(tmp_path: Path, journal: Journal) -> None:
    path = tmp_path / "journal" / "20260101T000000Z-1-x.jsonl"
    path.write_bytes(b"torn")
    result = run(tmp_path, "tail")
    assert result.stdout == ""
    assert "unfinished last line at byte 0 (4 bytes)" in result.stderr


def test_where_the_audit_directory_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.delenv("MCP_TOOL_GATEWAY_AUDIT", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert audit_directory(None) == Path("/home/u/.local/state/mcp-tool-gateway/audit")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert audit_directory(None) == Path("/state/mcp-tool-gateway/audit")
    monkeypatch.setenv("MCP_TOOL_GATEWAY_AUDIT", "/named")
    assert audit_directory(None) == Path("/named")


def start(directory: Path, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", "audit", "tail", *arguments, "--directory", directory],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_following_shows_decisions_as_they_come_and_outcomes_joined(
    tmp_path: Path, journal: Journal
) -> None:
    before = decision(name="before")
    journal.append(before)
    journal.append(decision(name="other", agent="other"))
    process = start(tmp_path, "-f", "--json", "--agent", "backend-engineer")
    assert process.stdout is not None

    def following() -> tuple[str, str | None]:
        assert process.stdout is not None
        fields = json.loads(process.stdout.readline())
        assert fields.keys() >= PROMISED
        return fields["name"], fields.get("status")

    assert following() == ("before", "unknown")
    second = Journal.open(tmp_path, durability="process")
    added = decision(name="added")
    second.append(added)
    second.append(decision(name="other", agent="other"))
    assert following() == ("added", None)
    second.append(outcome(added.call, status="tool_error"))
    assert following() == ("added", "tool_error")
    journal.append(outcome(before.call))
    assert following() == ("before", "ok")
    second.close()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


def test_following_ends_when_nobody_reads_though_nothing_comes(
    tmp_path: Path, journal: Journal
) -> None:
    journal.append(decision())
    process = start(tmp_path, "-f")
    assert process.stdout is not None
    assert process.stderr is not None
    assert "mcp__supabase__execute_sql" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=10) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_terminal_gets_a_table(tmp_path: Path, journal: Journal) -> None:
    journal.append(decision(reason="[bold]\x1b[2J"))
    reading, writing = pty.openpty()
    process = start(tmp_path, stdout=writing)
    os.close(writing)
    shown = b""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            data = os.read(reading, 65536)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        shown += data
    os.close(reading)
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert b"AGENT" in shown
    assert b"\x1b[2J" not in shown
    assert b"[bold]" in re.sub(rb"\s", b"", shown)
