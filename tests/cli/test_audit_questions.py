import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.audit.journal import Journal
from gateway.audit.records import Event
from gateway.cli.audit import command
from gateway.errors import UserError
from tests.audit.samples import decision, outcome
from tests.cli.conftest import Project, Run
from tests.real.store import store_of

DAY = "2026-01-0{}T10:00:00.000000Z"
HOSTILE = "mcp__s__\x1b[31m\u202ex"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.open(tmp_path, durability="process")
    yield journal
    journal.close()


def run(directory: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(
        command, [*arguments, "--directory", str(directory)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result


def as_json(directory: Path, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(directory, *arguments, "--json").stdout.splitlines()]


def called(journal: Journal, status: str | None = "ok", duration_us: int = 0, **fields: Any) -> str:
    record = decision(**fields)
    journal.append(record)
    if status is not None:
        journal.append(
            outcome(record.call, status=status, duration_us=duration_us, time=record.time)
        )
    return record.call


def test_who_counts_the_calls_of_a_tool_by_agent(tmp_path: Path, journal: Journal) -> None:
    called(journal, agent="a", time=DAY.format(1))
    called(journal, "error", agent="a", time=DAY.format(2))
    called(journal, None, agent="b", decision="deny", time=DAY.format(3))
    called(journal, agent="b", tool="mcp__supabase__other", time=DAY.format(3))
    assert as_json(tmp_path, "who", "mcp__supabase__execute_sql") == [
        {
            "agent": "a",
            "tool": "mcp__supabase__execute_sql",
            "calls": 2,
            "refused": 0,
            "failed": 1,
            "first": DAY.format(1),
            "last": DAY.format(2),
        },
        {
            "agent": "b",
            "tool": "mcp__supabase__execute_sql",
            "calls": 1,
            "refused": 1,
            "failed": 0,
            "first": DAY.format(3),
            "last": DAY.format(3),
        },
    ]
    assert len(as_json(tmp_path, "who", "mcp__supabase__*")) == 3
    assert len(as_json(tmp_path, "who", "mcp__supabase__*", "--until", DAY.format(2))) == 1
    limited = run(tmp_path, "who", "mcp__supabase__*", "-n", "1")
    assert len(limited.stdout.splitlines()) == 2
    assert "only 1 are shown" in limited.stderr


def test_refusals_name_the_rule_and_its_place_and_the_last_reason(
    tmp_path: Path, journal: Journal
) -> None:
    why: dict[str, Any] = {"rule": "read-only", "file": "policies/p.yaml", "line": 7}
    for number in (1, 2):
        called(
            *(journal, None),
            **why,
            decision="deny",
            reason=f"no writing, {number}",
            time=DAY.format(number),
        )
    called(journal, **why, decision="deny", enforced=False, time=DAY.format(3))
    called(journal, time=DAY.format(4))
    first, second = as_json(tmp_path, "refusals")
    assert first["calls"] == 2
    assert first["enforced"]
    assert (first["rule"], first["file"], first["line"]) == ("read-only", "policies/p.yaml", 7)
    assert first["reason"] == "no writing, 2"
    assert [each["call"] for each in as_json(tmp_path, "show", first["call"])] == [first["call"]]
    assert not second["enforced"]
    text = run(tmp_path, "refusals").stdout
    assert "policies/p.yaml:7" in text
    assert "deny (observed)" in text
    assert len(as_json(tmp_path, "refusals", "--agent", "nobody")) == 0


def test_changes_tell_what_changed_and_not_what_merely_happened(
    tmp_path: Path, journal: Journal
) -> None:
    for number, (event, data) in enumerate(
        [
            ("session.opened", {}),
            ("configuration.reloaded", {"digest": "abc"}),
            ("tool.changed", {"tool": "mcp__supabase__execute_sql", "part": "schemas"}),
            ("upstream.noise", {"size_bytes": 3}),
            ("approval.answered", {"by": "somebody"}),
        ],
        1,
    ):
        journal.append(
            Event(time=DAY.format(number), event=event, upstream="supabase", data={**data})
        )
    assert [each["event"] for each in as_json(tmp_path, "changes")] == [
        "configuration.reloaded",
        "tool.changed",
        "approval.answered",
    ]
    assert "digest abc" in run(tmp_path, "changes").stdout
    [noise] = as_json(tmp_path, "changes", "--event", "upstream.")
    assert noise["data"] == {"size_bytes": 3}
    [changed] = as_json(tmp_path, "changes", "--tool", "mcp__supabase__execute_sql")
    assert changed["event"] == "tool.changed"
    assert [each["event"] for each in as_json(tmp_path, "changes", "-n", "1")] == [
        "approval.answered"
    ]


def test_upstreams_tell_what_is_slow_and_what_fails(tmp_path: Path, journal: Journal) -> None:
    for _ in range(3):
        called(journal, duration_us=2_000_000, upstream="slow", tool="mcp__slow__x")
    called(journal, "timeout", 1_000, upstream="failing", tool="mcp__failing__x")
    called(journal, None, upstream="failing", tool="mcp__failing__y")
    called(journal, None, decision="deny", upstream="failing", tool="mcp__failing__y")
    by_failures = as_json(tmp_path, "upstreams")
    assert [(each["upstream"], each["tool"]) for each in by_failures] == [
        ("failing", None),
        ("failing", "mcp__failing__x"),
        ("failing", "mcp__failing__y"),
        ("slow", None),
        ("slow", "mcp__slow__x"),
    ]
    whole = by_failures[0]
    assert (whole["calls"], whole["passed"], whole["failed"]) == (3, 2, 1)
    assert (whole["timeouts"], whole["unknown"]) == (1, 1)
    slow = as_json(tmp_path, "upstreams", "--sort", "slow", "--no-tools")
    assert [each["upstream"] for each in slow] == ["slow", "failing"]
    assert slow[0]["p95_us"] == pytest.approx(2_000_000, rel=0.016)
    assert slow[0]["max_us"] == 2_000_000
    by_name = as_json(tmp_path, "upstreams", "--sort", "name", "--no-tools")
    assert [each["upstream"] for each in by_name] == ["failing", "slow"]
    assert "2000.0" in run(tmp_path, "upstreams").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("who", "mcp__s__x"),
        ("refusals",),
        ("changes",),
        ("upstreams",),
        ("stats",),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_an_empty_answer_says_so_on_stderr_only(
    tmp_path: Path, arguments: tuple[str, ...], form: tuple[str, ...]
) -> None:
    result = run(tmp_path, *arguments, *form)
    assert result.stdout == ""
    assert result.stderr.startswith("gateway: ")


@pytest.mark.parametrize(
    "arguments", [("who", "*"), ("refusals",), ("upstreams",), ("stats",), ("changes",)]
)
def test_foreign_text_cannot_fool_the_terminal(
    tmp_path: Path, journal: Journal, arguments: tuple[str, ...]
) -> None:
    called(
        *(journal, None),
        tool=HOSTILE,
        agent="\x9b31m",
        upstream="\x00",
        decision="deny",
        reason="\u200b",
        rule="\x07",
    )
    journal.append(Event(time=DAY.format(1), event="tool.changed", data={"tool": HOSTILE}))
    for text in (run(tmp_path, *arguments).stdout, run(tmp_path, *arguments, "--json").stdout):
        assert text
        assert all(character == "\n" or character.isprintable() for character in text)
        assert "\u202e" not in text


def test_the_story_of_a_call_has_its_approval_and_where_it_stands(
    tmp_path: Path, journal: Journal
) -> None:
    def happened(second: int, event: str, **data: Any) -> None:
        journal.append(
            Event(
                time=f"2026-01-01T10:00:0{second}.000000Z",
                event=event,
                session="session-1",
                data=data,
            )
        )

    happened(0, "session.opened")
    record = decision(time="2026-01-01T10:00:02.000000Z", decision="ask", rule="migrations", line=9)
    journal.append(record)
    happened(3, "upstream.noise")
    journal.append(outcome(record.call, time="2026-01-01T10:00:04.000000Z"))
    happened(5, "listing")
    happened(6, "approval.answered", call=record.call, said="approved")
    [story] = as_json(tmp_path, "show", record.call[:18])
    assert story["session_opened"]["time"] == "2026-01-01T10:00:00.000000Z"
    assert [event["event"] for event in story["events"]] == ["upstream.noise", "approval.answered"]
    assert story["positions"]["decision"]["seq"] == 3
    assert story["positions"]["outcome"]["prev"] != story["positions"]["decision"]["prev"]
    text = run(tmp_path, "show", record.call).stdout
    assert f"number 3 of {journal.writer}, after {story['prev']}" in text
    assert "said approved" in text


def test_pages_of_a_list_follow_each_other(tmp_path: Path, journal: Journal) -> None:
    calls = [called(journal, time=DAY.format(number)) for number in range(1, 6)]
    newest = as_json(tmp_path, "list", "-n", "2")
    assert [each["call"] for each in newest] == calls[3:]
    result = run(tmp_path, "list", "-n", "2")
    assert f"--before {calls[3]}" in result.stderr
    older = as_json(tmp_path, "list", "-n", "2", "--before", calls[3])
    assert [each["call"] for each in older] == calls[1:3]
    with pytest.raises(UserError, match="no call in the audit log begins with nothing"):
        run(tmp_path, "list", "--before", "nothing")


def test_declared_tools_that_nobody_calls_are_told_with_their_last_call(
    project: Project, run: Run
) -> None:
    def ago(days: float) -> str:
        moment = datetime.now(UTC) - timedelta(days=days)
        return moment.isoformat(timespec="microseconds")[:-6] + "Z"

    for name in ("srv", "whole"):
        project.offers(name, ["echo"])
    project.agent("tester", ["mcp__srv__echo", "mcp__srv__old", "mcp__srv__never", "mcp__whole"])
    project.write()
    empty = run("audit", "unused", "--json", "--directory", str(project.root / "audit"))
    assert empty.code == 2  # there is no log yet
    journal = Journal.open(project.root / "audit", durability="process")
    called(journal, agent="tester", tool="mcp__srv__old", time=ago(40))
    called(journal, None, agent="tester", tool="mcp__srv__echo", decision="deny", time=ago(2))
    called(journal, agent="other", tool="mcp__srv__never", time=ago(1))
    journal.close()
    outcome = run("audit", "unused", "--json")
    assert outcome.code == 0
    assert [
        (each["entry"], each["last"] is None) for each in map(json.loads, outcome.out.splitlines())
    ] == [
        ("mcp__srv__old", False),
        ("mcp__srv__never", True),
        ("mcp__whole", True),
    ]
    text = run("audit", "unused", "--agent", "tester", "--days", "60")
    assert "never" in text.out
    assert "mcp__srv__old" not in text.out
    assert "less than 60 days ago" in text.err
    assert run("audit", "unused", "--agent", "nobody").code == 2


@pytest.mark.real
def test_the_store_in_postgresql_answers_the_same(tmp_path: Path, journal: Journal) -> None:
    call = called(journal, agent="a", time=DAY.format(1), duration_us=5)
    called(journal, None, agent="b", decision="deny", time=DAY.format(3))
    journal.append(Event(time=DAY.format(2), event="tool.changed", data={"tool": "mcp__s__x"}))
    journal.close()
    with store_of(tmp_path) as store:
        runner = CliRunner(env={"AUDIT_READER": store.reader.url})
        for arguments in (
            ("list", "--json"),
            ("show", call, "--json"),
            ("who", "*", "--json"),
            ("refusals", "--json"),
            ("changes", "--json"),
            ("upstreams", "--json"),
            ("stats", "--json"),
            ("export",),
            ("export", "--format", "csv"),
        ):
            there = runner.invoke(command, [*arguments, "--store", "${AUDIT_READER}"])
            assert there.exit_code == 0, there.output
            assert there.stdout == run(tmp_path, *arguments).stdout != ""
    both = ["list", "--store", "${AUDIT_READER}", "--directory", str(tmp_path)]
    with pytest.raises(UserError, match="two logs"):
        runner.invoke(command, both, catch_exceptions=False)
