"""`gateway check` tells which lists are wider than what is used."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.audit.journal import Journal
from gateway.audit.records import Decision
from tests.audit.samples import decision, journals
from tests.cli.conftest import Project, Run

UNUSED = ("check", "--unused-days", "30", "--json")


def ago(days: float) -> str:
    moment = datetime.now(UTC) - timedelta(days=days)
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


def found(out: str, *codes: str) -> list[dict[str, Any]]:
    return [each for each in map(json.loads, out.splitlines()) if each.get("code") in codes]


def recorded(project: Project, days: float, *decisions: Decision) -> None:
    """An audit log that began so many days ago."""
    directory = project.root / "audit"
    journal = Journal.open(directory, durability="process")
    for each in decisions:
        journal.append(each)
    journal.close()
    (path,) = journals(directory)
    opened, *rest = path.read_bytes().splitlines(keepends=True)
    first = {**json.loads(opened), "time": ago(days)}
    path.write_bytes(json.dumps(first).encode() + b"\n" + b"".join(rest))


@pytest.fixture
def used(project: Project) -> Project:
    """`tester` called one of its tools lately and one long ago; the log is 60 days old."""
    for name in ("srv", "whole", "idle"):
        project.offers(name, ["echo", "old", "never"])
    project.agent(
        "tester",
        ["Read", "mcp__srv__echo", "mcp__srv__old", "mcp__srv__never", "mcp__whole", "mcp__idle"],
    )
    project.agent("other", ["mcp__srv__never"])
    project.write()
    calls = (
        ("tester", "mcp__srv__old", 60, "allow"),
        ("tester", "mcp__srv__echo", 2, "allow"),
        ("tester", "mcp__whole__old", 1, "deny"),
        ("other", "mcp__srv__never", 1, "allow"),
    )
    recorded(
        project,
        61,
        *(
            decision(agent=agent, tool=tool, time=ago(days), decision=effect)
            for agent, tool, days, effect in calls
        ),
    )
    return project


def test_declared_entries_without_a_call_are_told_where_they_stand(used: Project, run: Run) -> None:
    outcome = run(*UNUSED)
    assert outcome.code == 1
    notes = found(outcome.out, "unused-entry")
    assert [(note["agent"], note["tool"], note["line"]) for note in notes] == [
        ("tester", "mcp__srv__old", 7),
        ("tester", "mcp__srv__never", 8),
        ("tester", None, 10),
    ]
    assert notes[2]["message"].startswith("No tool of 'mcp__idle' was called by the agent")
    assert {note["path"] for note in notes} == {".claude/agents/tester.md"}


def test_the_days_and_the_agent_can_be_chosen(used: Project, run: Run) -> None:
    outcome = run("check", "--unused-days", "1000", "--json")
    assert found(outcome.out, "unused-entry") == []
    assert run("check", "--unused-days", "30", "--agent", "other").code == 0
    assert found(run("check", "--json").out, "unused-entry", "log-too-young") == []


@pytest.mark.parametrize("log", ["absent", "empty", "young"])
def test_a_log_that_does_not_reach_back_says_that_it_cannot_tell(
    project: Project, run: Run, log: str
) -> None:
    project.offers("srv", ["echo"])
    project.agent("tester", ["mcp__srv__echo"])
    project.write()
    if log == "young":
        recorded(project, 29)
    elif log == "empty":
        (project.root / "audit").mkdir()
    outcome = run(*UNUSED)
    assert outcome.code == 0
    assert found(outcome.out, "unused-entry") == []
    (note,) = found(outcome.out, "log-too-young")
    assert note["severity"] == "info"


def test_what_is_inherited_is_no_entry(project: Project, run: Run) -> None:
    project.offers("srv", ["echo"])
    (project.root / ".claude/agents/tester.md").write_text("---\nname: tester\ndescription: d\n---")
    project.settings = {"agents": {"tester": {"max_tools": ["mcp__srv__echo"]}}}
    project.write()
    recorded(project, 60)
    assert found(run(*UNUSED).out, "unused-entry") == []


def test_a_wildcard_that_matches_no_tool_is_told(project: Project, run: Run) -> None:
    project.offers("srv", [])
    project.offers("full", ["echo"])
    project.agent("tester", ["mcp__srv__*", "mcp__full"])
    project.settings = {"agents": {"tester": {"max_tools": ["mcp__srv", "mcp__full"]}}}
    project.write()
    assert found(run("check", "--json").out, "wildcard-without-tool") == []
    notes = found(run("check", "--live", "--json").out, "wildcard-without-tool")
    assert [(note["path"], note["line"], note["upstream"]) for note in notes] == [
        (".claude/agents/tester.md", 5, "srv"),
        ("gateway.yaml", 1, "srv"),
    ]
    assert notes[0]["message"].startswith("'mcp__srv__*' matches no tool")
