"""`gateway audit suggest` prints the least list that the recorded calls need, as a diff."""

import json
import subprocess
from typing import Any

import pytest

from gateway.audit.arguments import ArgumentsLevel, summarise_arguments
from gateway.audit.journal import Journal
from gateway.audit.keys import Digester
from tests.audit.samples import decision
from tests.cli.conftest import Outcome, Project, Run

TESTER = ".claude/agents/tester.md"
OBSERVED = {"decision": "deny", "rule": "not declared", "enforced": False}
REFUSED = {"decision": "deny", "rule": "not declared"}


def called(project: Project, *calls: tuple[str, dict[str, Any]], agent: str = "tester") -> None:
    """Record calls of tools of `srv`; a name with a colon is that of another kind of action."""
    journal = Journal.open(project.root / "audit", durability="process")
    for name, changes in calls:
        fields: dict[str, Any] = {
            "agent": agent,
            "tool": f"mcp__srv__{name}",
            "name": name,
            "upstream": "srv",
            "rule": "declared tools",
        }
        journal.append(decision(**{**fields, **changes}))
    journal.close()


def with_arguments(value: object, level: ArgumentsLevel = "full") -> dict[str, Any]:
    encoded = json.dumps(value).encode()
    return {"arguments": summarise_arguments(level, value, encoded, Digester(b"k" * 32))}


def comments(outcome: Outcome) -> list[str]:
    return [line[2:] for line in outcome.out.splitlines() if line.startswith("# ")]


def patched(project: Project, outcome: Outcome) -> str:
    """The agent file after `git apply` took the whole output as it is."""
    done = subprocess.run(
        ["git", "apply", "-"], cwd=project.root, input=outcome.out.encode(), capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    return (project.root / TESTER).read_text()


@pytest.fixture
def backend(project: Project) -> Project:
    project.offers("srv", ["echo", "add", "drop", "more"])
    project.agent("tester", ["Read", "mcp__srv__echo", "mcp__srv__add", "mcp__else__x"])
    project.write()
    return project


def test_what_was_not_called_goes_and_what_was_observed_comes(backend: Project, run: Run) -> None:
    called(backend, ("echo", {}), ("more", OBSERVED), ("drop", REFUSED), ("drop", REFUSED))
    outcome = run("audit", "suggest", "tester")
    assert outcome.code == 0
    assert comments(outcome) == [
        "What 4 recorded tool calls of the agent 'tester' need.",
        "refused 2 times, left out: mcp__srv__drop (not declared)",
        "kept, because it does not pass the gateway: Read, mcp__else__x",
    ]
    assert f"--- a/{TESTER}\n+++ b/{TESTER}\n" in outcome.out
    changed = [line for line in outcome.out.splitlines() if line[:1] in "+-" and line[1:2] == " "]
    assert changed == ["-  - mcp__srv__add", "+  - mcp__srv__more"]
    assert patched(backend, outcome) == (
        "---\nname: tester\ndescription: test\ntools:\n  - Read\n  - mcp__srv__echo\n"
        "  - mcp__else__x\n  - mcp__srv__more\n---\nBody.\n"
    )


def test_a_least_list_is_left_as_it_is(backend: Project, run: Run) -> None:
    called(backend, ("echo", {}), ("add", {}))
    outcome = run("audit", "suggest", "tester")
    assert outcome.code == 0
    assert comments(outcome)[-1] == "The list is the least already."
    assert "---" not in outcome.out


def test_a_whole_upstream_becomes_the_tools_that_were_called(project: Project, run: Run) -> None:
    project.offers("srv", ["echo", "add"])
    (project.root / TESTER).write_text(
        "---\nname: tester\ndescription: d\ntools: Read, mcp__srv__*, mcp__srv__gone\n---"
    )
    project.write()
    resource = {"action": "resource", "method": "resources/read", "tool": None}
    called(project, ("add", {}), ("echo", {}), ("file:///x", resource))
    outcome = run("audit", "suggest", "tester")
    assert "resources or prompts of 'srv' were used" in outcome.out
    assert "tools: Read, mcp__srv__add, mcp__srv__echo\n" in patched(project, outcome)


def test_an_agent_that_inherits_gets_a_list(project: Project, run: Run) -> None:
    project.offers("srv", ["echo", "add"])
    (project.root / TESTER).write_text("---\nname: tester\ndescription: d\n---\nBody.\n")
    project.write()
    native = {"action": "native", "method": "PreToolUse", "tool": "Bash", "name": "Bash"}
    refusal = {"decision": "deny", "rule": "agent file", "enforced": False}
    called(project, ("echo", refusal), ("Bash", native))
    outcome = run("audit", "suggest", "tester")
    assert "add the client's own tools that the agent needs" in outcome.out
    assert patched(project, outcome) == (
        "---\nname: tester\ndescription: d\ntools: Bash, mcp__srv__echo\n---\nBody.\n"
    )


def test_a_tool_that_the_list_takes_away_again_is_not_suggested(backend: Project, run: Run) -> None:
    refusal = {"decision": "deny", "rule": "disallowed tools", "enforced": False}
    called(backend, ("echo", {}), ("add", {}), ("more", refusal))
    outcome = run("audit", "suggest", "tester")
    assert "refused once, left out: mcp__srv__more (disallowed tools)" in comments(outcome)
    assert "+++" not in outcome.out


def test_arguments_that_never_change_are_worth_a_rule(backend: Project, run: Run) -> None:
    for number in range(3):
        called(
            backend,
            ("echo", with_arguments({"project": "p", "n": number, "deep": {"a": 1}})),
            ("add", with_arguments({"a": 1}, "shape")),
        )
    called(backend, ("more", {**OBSERVED, **with_arguments({"a": 1})}))
    found = [each for each in comments(run("audit", "suggest", "tester")) if "worth" in each]
    assert found == [
        "worth a rule: all 3 calls of mcp__srv__add had the same arguments",
        'worth a rule: all 3 calls of mcp__srv__echo had project = "p"',
    ]


def test_json_is_one_object(backend: Project, run: Run) -> None:
    called(backend, ("echo", {}), ("more", OBSERVED), ("drop", REFUSED))
    outcome = run("audit", "suggest", "tester", "--json")
    value = json.loads(outcome.out)
    assert value["entries"] == ["Read", "mcp__srv__echo", "mcp__else__x", "mcp__srv__more"]
    assert (value["added"], value["removed"]) == (["mcp__srv__more"], ["mcp__srv__add"])
    assert value["refused"] == [{"tool": "mcp__srv__drop", "calls": 1, "rule": "not declared"}]
    assert value["diff"].startswith(f"--- a/{TESTER}\n")
    assert (value["agent"], value["file"], value["problem"]) == ("tester", TESTER, "")


def test_only_calls_since_a_time_count(backend: Project, run: Run) -> None:
    called(backend, ("add", {"time": "2026-01-01T00:00:00.000000Z"}), ("echo", {}))
    outcome = run("audit", "suggest", "tester", "--since", "1h")
    assert "-  - mcp__srv__add" in outcome.out.splitlines()
    assert comments(outcome)[0].startswith("What 1 recorded")


def test_without_a_call_nothing_is_suggested(backend: Project, run: Run) -> None:
    called(backend, ("echo", {}), agent="somebody")
    outcome = run("audit", "suggest", "tester")
    assert (outcome.code, outcome.out) == (1, "")
    assert "no tool call of the agent tester is recorded" in outcome.err


def test_mistakes_are_told(backend: Project, run: Run) -> None:
    outcome = run("audit", "suggest", "tester")
    assert outcome.code == 2
    assert "there is no audit log here" in outcome.err
    assert "did you mean 'tester'?" in run("audit", "suggest", "testr").err
    (backend.root / TESTER).write_text("---\nname: tester\ndescription: d\nallowed-tools: x\n---\n")
    outcome = run("audit", "suggest", "tester")
    assert outcome.code == 2
    assert outcome.err.startswith(f"{TESTER}: The agent file is refused")


def test_a_list_in_a_form_of_its_own_is_told_without_a_diff(backend: Project, run: Run) -> None:
    (backend.root / TESTER).write_text(
        "---\nname: tester\ndescription: d\ntools: [mcp__srv__add,\n  mcp__srv__echo]\n---\n"
    )
    called(backend, ("echo", {}))
    outcome = run("audit", "suggest", "tester")
    assert outcome.code == 0
    assert comments(outcome)[-1] == "tools: mcp__srv__echo"
    assert "+++" not in outcome.out


def test_nothing_from_a_file_reaches_the_terminal_as_it_is(backend: Project, run: Run) -> None:
    path = backend.root / TESTER
    path.write_text(
        "---\nname: tester\ndescription: d\ntools: mcp__srv__add, mcp__srv__echo\n---\n\t\x1b[2J\n"
    )
    called(backend, ("echo", {}))
    outcome = run("audit", "suggest", "tester")
    assert "\x1b" not in outcome.out
    assert " \t\\x1b[2J" in outcome.out.splitlines()
