"""`gateway policy` tests policies against cases and shows what a change of them changes."""

import json
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from gateway.audit.arguments import ArgumentsLevel, summarise_arguments
from gateway.audit.journal import Journal
from gateway.audit.keys import Digester
from tests.audit.samples import decision
from tests.cli.conftest import Project, Run

RULES = """\
rules:
  - name: few-rows
    effect: allow-only-if
    tools: mcp__srv__query
    arguments: {properties: {rows: {maximum: 10}}}
  - name: ask-first
    effect: ask
    tools: mcp__srv__write
  - name: office
    effect: allow-only-if
    tools: mcp__srv__mail
    when: {hours: ["08:00-18:00"], timezone: UTC, identified: [token]}
"""
CASES = """\
cases:
  - {agent: tester, tool: mcp__srv__query, arguments: {rows: 3}, decision: allow}
  - {agent: tester, tool: mcp__srv__query, arguments: {rows: 30}, decision: deny, rule: few-rows}
  - {agent: tester, tool: mcp__srv__query, decision: deny, rule: few-rows}
  - {agent: tester, tool: mcp__srv__write, decision: ask, rule: ask-first}
  - {agent: tester, tool: mcp__srv__other, decision: deny, rule: not declared}
  - {agent: tester, tool: mcp__nowhere__x, decision: deny, rule: not declared}
  - {agent: tester, tool: Read, decision: allow, rule: declared tools}
  - agent: tester
    tool: mcp__srv__mail
    decision: allow
    at: 2026-01-31T12:00:00Z
    identified: token
  - {agent: tester, tool: mcp__srv__mail, decision: deny, at: "2026-01-31T20:00:00Z",
     identified: token}
  - {agent: tester, tool: mcp__srv__mail, decision: deny, at: "2026-01-31T12:00:00Z"}
"""


@pytest.fixture
def ruled(project: Project) -> Project:
    """`tester` declares four tools, three of which rules narrow; nobody has accepted anything."""
    project.accepting = False
    project.offers("srv", ["query", "write", "mail", "free", "other"])
    names = ["query", "write", "mail", "free"]
    project.agent("tester", ["Read", *(f"mcp__srv__{name}" for name in names)])
    (project.root / "rules.yaml").write_text(RULES)
    project.settings = {"policies": ["rules.yaml"]}
    project.write()
    return project


def cases(project: Project, text: str, name: str = "cases.yaml") -> str:
    (project.root / name).write_text(text)
    return name


class TestCases:
    def test_cases_that_come_out_as_they_say_pass(self, ruled: Project, run: Run) -> None:
        outcome = run("policy", "test", cases(ruled, CASES))
        assert (outcome.out, outcome.code) == ("10 cases in 1 file: 10 passed, 0 failed.\n", 0)
        assert ruled.received("srv") == []

    def test_a_failure_is_a_small_diff_at_its_line(self, ruled: Project, run: Run) -> None:
        text = (
            "cases:\n"
            "  - {agent: tester, tool: mcp__srv__free, decision: allow}\n"
            "  - name: no big results\n"
            "    agent: tester\n"
            "    tool: mcp__srv__query\n"
            "    arguments: {rows: 30}\n"
            "    decision: allow\n"
            "    rule: declared tools\n"
        )
        outcome = run("policy", "test", cases(ruled, text))
        assert outcome.code == 1
        assert outcome.out.splitlines() == [
            "FAILED cases.yaml:3: no big results",
            "  agent      tester",
            "  tool       mcp__srv__query",
            '  arguments  {"rows": 30}',
            "- decision   allow",
            "+ decision   deny",
            "- rule       declared tools",
            "+ rule       few-rows (rules.yaml:2)",
            "  reason     the rule 'few-rows' refuses it: the argument 'rows' must be at most 10",
            "",
            "2 cases in 1 file: 1 passed, 1 failed.",
        ]

    def test_the_right_decision_by_another_rule_fails(self, ruled: Project, run: Run) -> None:
        text = (
            "cases:\n  - {agent: tester, tool: mcp__srv__other, decision: deny, rule: few-rows}\n"
        )
        outcome = run("policy", "test", cases(ruled, text))
        assert outcome.code == 1
        assert "- rule       few-rows" in outcome.out.splitlines()

    def test_json_and_junit_say_the_same(self, ruled: Project, run: Run) -> None:
        good = cases(ruled, CASES)
        bad = cases(
            ruled,
            "cases:\n  - {agent: tester, tool: mcp__srv__free, decision: deny, name: 'a <b>'}\n",
            "bad.yaml",
        )
        outcome = run("policy", "test", good, bad, "--format", "json")
        assert outcome.code == 1
        values = [json.loads(line) for line in outcome.out.splitlines()]
        assert [value["passed"] for value in values] == [True] * 10 + [False]
        assert values[-1]["case"]["file"] == "bad.yaml"
        assert values[-1]["decision"]["effect"] == "allow"
        outcome = run("policy", "test", good, bad, "--format", "junit")
        assert outcome.code == 1
        suites = ET.fromstring(outcome.out)
        assert [(suite.get("tests"), suite.get("failures")) for suite in suites] == [
            ("10", "0"),
            ("1", "1"),
        ]
        failed = suites[1][0]
        assert (failed.get("name"), failed.get("line")) == ("a <b>", "2")
        assert "+ decision   allow" in (failed[0].text or "")

    def test_what_is_only_observed_is_said(self, ruled: Project, run: Run) -> None:
        ruled.settings["mode"] = "observe"
        ruled.write()
        outcome = run("policy", "test", cases(ruled, CASES))
        assert outcome.code == 0
        assert "decisions are only observed: such calls are let through." in outcome.out

    @pytest.mark.parametrize(
        ("text", "line", "problem"),
        [
            ("cases: []\n", 1, "cases"),
            ("case: []\n", 1, "did you mean 'cases'"),
            ("- 1\n", 1, ""),
            ("cases:\n  - {agent: tester, tool: x}\n", 2, "decision"),
            ("cases:\n  - agent: tester\n    tool: x\n    decision: maybe\n", 4, "decision"),
            (
                "cases:\n  - {agent: tester, tool: x, decision: deny,\n     at: 2026-01-31}\n",
                3,
                "at must be a time with its zone",
            ),
            ("cases:\n  - {agent: tster, tool: x, decision: deny}\n", 2, "there are: tester"),
            ("cases:\n  - {agent: a, agent: b}\n", 2, "given twice"),
        ],
    )
    def test_a_mistake_is_told_at_its_line(
        self, ruled: Project, run: Run, text: str, line: int, problem: str
    ) -> None:
        outcome = run("policy", "test", cases(ruled, text))
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith(f"cases.yaml:{line}: ")
        assert problem in outcome.err

    def test_a_file_that_is_not_there_is_told(self, ruled: Project, run: Run) -> None:
        outcome = run("policy", "test", "none.yaml")
        assert outcome.code == 2
        assert outcome.err.startswith("none.yaml: Cannot be read")

    def test_guards_that_take_long_are_asked(self, ruled: Project, run: Run) -> None:
        (ruled.root / "rules.yaml").write_text(
            "rules:\n  - name: reads\n    effect: allow-only-if\n    tools: mcp__srv__query\n"
            "    arguments:\n      properties:\n        sql:\n          type: string\n"
            "          sql: {dialect: postgres}\n"
        )
        text = (
            "cases:\n"
            "  - {agent: tester, tool: mcp__srv__query, arguments: {sql: SELECT 1}, "
            "decision: allow}\n"
            "  - {agent: tester, tool: mcp__srv__query, arguments: {sql: DROP TABLE a}, "
            "decision: deny, rule: reads}\n"
        )
        outcome = run("policy", "test", cases(ruled, text))
        assert (outcome.out, outcome.code) == ("2 cases in 1 file: 2 passed, 0 failed.\n", 0)


@pytest.fixture
def both(ruled: Project) -> tuple[Project, Path]:
    """The project, and a copy of it as it was."""
    old = ruled.root / "old"
    old.mkdir()
    for name in ("gateway.yaml", "rules.yaml"):
        shutil.copy(ruled.root / name, old)
    shutil.copytree(ruled.root / ".claude", old / ".claude")
    return ruled, old


def rows(out: str) -> list[list[str]]:
    """The lines of the first table without its head."""
    return [re.split("  +", line) for line in out.split("\n\n")[0].splitlines()[1:]]


class TestDiff:
    def test_nothing_differs(self, both: tuple[Project, Path], run: Run) -> None:
        outcome = run("policy", "diff", "old", ".")
        assert outcome.code == 0
        assert outcome.out == "No agent may do anything else with any tool.\n"

    def test_rules_and_lists_that_differ_show_in_their_cells(
        self, both: tuple[Project, Path], run: Run
    ) -> None:
        project, _ = both
        changed = RULES.replace("maximum: 10", "maximum: 99").replace("ask-first", "asks-first")
        more = "  - {name: no-free, effect: deny, tools: 'mcp__srv__f*'}\n"
        (project.root / "rules.yaml").write_text(changed + more)
        project.agent("tester", ["mcp__srv__query", "mcp__srv__write", "mcp__srv__free"])
        project.agent("fresh", ["mcp__srv__mail"])
        outcome = run("policy", "diff", "old/gateway.yaml", ".")
        assert outcome.code == 1
        assert rows(outcome.out) == [
            ["tester", "mcp__srv__free", "yes", "denied: no-free", "+no-free"],
            ["fresh", "mcp__srv__mail", "no agent", "if"],
            ["tester", "mcp__srv__mail", "if", "."],
            ["tester", "mcp__srv__query", "if", "if", "+few-rows -few-rows"],
            [
                "tester",
                "mcp__srv__write",
                "ask: ask-first",
                "ask: asks-first",
                "+asks-first -ask-first",
            ],
        ]

    def test_a_rule_that_only_moves_changes_nothing(
        self, both: tuple[Project, Path], run: Run
    ) -> None:
        project, _ = both
        (project.root / "rules.yaml").write_text(f"# moved\n\n{RULES}")
        assert run("policy", "diff", "old", ".").code == 0

    def test_a_rule_within_a_whole_upstream_shows(
        self, both: tuple[Project, Path], run: Run
    ) -> None:
        project, old = both
        for root in (project.root, old):
            (root / ".claude/agents/tester.md").write_text(
                "---\nname: tester\ndescription: d\ntools: mcp__srv\n---\n"
            )
        more = "  - {name: no-drop, effect: deny, tools: [mcp__srv__drop, 'mcp__srv__rm*']}\n"
        (project.root / "rules.yaml").write_text(RULES + more)
        outcome = run("policy", "diff", "old", ".", "--json")
        changes = [json.loads(line) for line in outcome.out.splitlines()]
        assert [(each["tool"], each["new"]["state"], each["gained"]) for each in changes] == [
            ("mcp__srv__drop", "denied", ["no-drop"]),
            ("mcp__srv__rm*", "denied", ["no-drop"]),
        ]

    def test_recorded_calls_that_would_end_differently_are_counted(
        self, both: tuple[Project, Path], run: Run
    ) -> None:
        def called(name: str, arguments: dict[str, Any], level: ArgumentsLevel = "full") -> None:
            summary = summarise_arguments(
                level, arguments, json.dumps(arguments).encode(), Digester(b"k" * 32)
            )
            fields: dict[str, Any] = {"agent": "tester", "upstream": "srv", "name": name}
            journal.append(
                decision(
                    tool=f"mcp__srv__{name}",
                    arguments=summary,
                    time="2026-01-31T12:00:00.000000Z",
                    **fields,
                )
            )

        project, _ = both
        journal = Journal.open(project.root / "audit", durability="process")
        called("query", {"rows": 5})
        called("query", {"rows": 3})
        called("query", {"rows": 1})
        called("query", {"rows": 50})
        called("query", {"rows": 5}, "shape")
        called("free", {}, "shape")
        called("other", {})
        journal.close()
        changed = RULES.replace("maximum: 10", "maximum: 2") + (
            "  - {name: free-if, effect: deny, tools: mcp__srv__free,\n"
            "     arguments: {properties: {x: {const: 1}}}}\n"
        )
        (project.root / "rules.yaml").write_text(changed)
        outcome = run("policy", "diff", "old", ".", "--audit")
        assert outcome.code == 1
        lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
        assert "tester mcp__srv__query allow deny 2 few-rows (rules.yaml:2)" in lines
        assert "tester mcp__srv__free allow unknown 1 arguments that were not recorded" in lines
        assert lines[-1] == "Of 7 recorded calls 3 would be decided differently."
        outcome = run("policy", "diff", "old", ".", "--audit", "--json")
        found = [json.loads(line) for line in outcome.out.splitlines()]
        calls = [each for each in found if each["kind"] == "call"]
        assert [(each["tool"], each["calls"]) for each in calls] == [
            ("mcp__srv__free", 1),
            ("mcp__srv__query", 2),
        ]

    def test_a_directory_without_a_configuration_is_told(
        self, ruled: Project, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (ruled.root / "empty").mkdir()
        monkeypatch.setenv("MCP_TOOL_GATEWAY_CONFIG", str(ruled.root / "gateway.yaml"))
        outcome = run("policy", "diff", "empty", ".")
        assert outcome.code == 2
        assert outcome.err.startswith("empty: There is neither gateway.yaml nor .mcp.json")

    def test_a_configuration_that_is_broken_is_told(
        self, both: tuple[Project, Path], run: Run
    ) -> None:
        _, old = both
        (old / "rules.yaml").write_text("rules: 1\n")
        outcome = run("policy", "diff", "old", ".")
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("old/rules.yaml:1: ")
