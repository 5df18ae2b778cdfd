"""`gateway explain` says what decides one tool id for one agent, with the function that decides."""

import json
from typing import Any

import pytest

from tests.cli.conftest import Outcome, Project, Run


def explained(outcome: Outcome) -> dict[str, Any]:
    (line,) = outcome.out.splitlines()
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


def facts(outcome: Outcome) -> dict[str, str]:
    """The labelled lines below the verdict."""
    lines = (line for line in outcome.out.splitlines()[1:] if line.startswith("  "))
    return {label: text for label, text in (line.split(maxsplit=1) for line in lines) if text}


@pytest.fixture
def backend(project: Project) -> Project:
    """`tester` declares three tools; one is disallowed again, one lies outside the ceiling."""
    project.offers("srv", ["echo", "get.it", "query_logs", "drop"])
    (project.root / ".claude/agents/tester.md").write_text(
        "---\nname: tester\ndescription: d\ntools:\n  - mcp__srv__echo\n  - mcp__srv__get_it\n"
        "  - mcp__srv__get_logs\n  - mcp__srv__drop\ndisallowedTools: mcp__srv__drop\n---\n"
    )
    project.settings = {
        "agents": {"tester": {"max_tools": ["mcp__srv__echo", "mcp__srv__get_logs"]}}
    }
    project.write()
    return project


FILE = ".claude/agents/tester.md"


class TestDecisions:
    def test_a_declared_tool_is_allowed_if_the_upstream_offers_it(
        self, backend: Project, run: Run
    ) -> None:
        outcome = run("explain", "tester", "mcp__srv__echo")
        assert outcome.code == 0
        verdict = outcome.out.splitlines()[0]
        assert verdict == (
            "mcp__srv__echo for the agent 'tester': allowed, if the upstream offers it"
        )
        assert facts(outcome) == {
            "reason": "mcp__srv__echo is declared by the agent 'tester' as 'mcp__srv__echo'",
            "rule": f"declared tools ({FILE}:5)",
            "declared": f"mcp__srv__echo ({FILE}:5)",
            "disallowed": "no entry",
            "ceiling": "mcp__srv__echo (gateway.yaml:1)",
            "upstream": "srv was not asked whether it offers the tool: give --live",
        }
        assert backend.received("srv") == []

    def test_asked_the_upstream_has_the_last_word(self, backend: Project, run: Run) -> None:
        outcome = run("explain", "tester", "mcp__srv__echo", "--live")
        assert outcome.code == 0
        assert outcome.out.splitlines()[0].endswith(": allowed")
        assert facts(outcome)["upstream"] == "srv offers the tool"
        outcome = run("explain", "tester", "mcp__srv__get_logs", "--live")
        assert outcome.code == 1
        assert facts(outcome)["rule"] == f"not offered ({FILE}:7)"
        assert facts(outcome)["upstream"] == (
            "srv does not offer the tool; likeliest successor: mcp__srv__query_logs"
        )
        assert not (backend.root / "audit").exists()

    def test_a_disallowed_tool_is_denied_by_that_line(self, backend: Project, run: Run) -> None:
        outcome = run("explain", "tester", "mcp__srv__drop")
        assert outcome.code == 1
        assert outcome.out.splitlines()[0].endswith(": denied")
        assert facts(outcome)["rule"] == f"disallowed tools ({FILE}:9)"
        assert facts(outcome)["disallowed"] == f"mcp__srv__drop ({FILE}:9)"
        assert facts(outcome)["declared"] == f"mcp__srv__drop ({FILE}:8)"

    def test_the_ceiling_denies_at_the_operators_line(self, backend: Project, run: Run) -> None:
        outcome = run("explain", "tester", "mcp__srv__get_it")
        assert outcome.code == 1
        assert facts(outcome)["rule"] == "ceiling (gateway.yaml:1)"
        assert facts(outcome)["ceiling"] == "no entry"

    def test_without_a_ceiling_it_says_so(self, project: Project, run: Run) -> None:
        project.offers("srv", ["echo"])
        project.agent("tester", ["mcp__srv"])
        project.write()
        outcome = run("explain", "tester", "mcp__srv__echo")
        assert outcome.code == 0
        assert facts(outcome)["ceiling"] == "none set (max_tools)"
        assert facts(outcome)["declared"] == f"mcp__srv ({FILE}:5)"

    def test_a_near_miss_is_named(self, backend: Project, run: Run) -> None:
        outcome = run("explain", "tester", "mcp__srv__ecco")
        assert outcome.code == 1
        assert facts(outcome)["reason"].endswith("; the declared tool mcp__srv__echo resembles it")

    def test_the_upstreams_own_spelling_is_found(self, project: Project, run: Run) -> None:
        project.offers("my.srv", ["get.it"])
        project.agent("tester", ["mcp__my_srv__get_it"])
        project.write()
        value = explained(run("explain", "tester", "mcp__my_srv__get_it", "--live", "--json"))
        assert (value["decision"], value["upstream"], value["offered"]) == ("allow", "my.srv", True)

    def test_a_withheld_tool_is_denied_with_the_reason(self, project: Project, run: Run) -> None:
        project.offers("srv", ["a.b", "a_b"])
        project.agent("tester", ["mcp__srv__a_b"])
        project.write()
        outcome = run("explain", "tester", "mcp__srv__a_b", "--live")
        assert outcome.code == 1
        assert "clients spell 'a.b' and 'a_b' alike" in facts(outcome)["reason"]

    def test_an_agent_that_may_use_nothing_is_denied_with_its_finding(
        self, project: Project, run: Run
    ) -> None:
        project.offers("srv", ["echo"])
        (project.root / FILE).write_text(
            "---\nname: tester\ndescription: d\nallowed-tools: x\ntools: mcp__srv\n---\n"
        )
        project.write()
        outcome = run("explain", "tester", "mcp__srv__echo")
        assert outcome.code == 1
        assert facts(outcome)["rule"] == f"agent file ({FILE}:4)"
        assert set(facts(outcome)) == {"reason", "rule", "upstream", "to"}
        assert facts(outcome)["to"].startswith("allow it mend what refuses the agent as a whole")


class TestMeanings:
    def test_an_upstream_that_is_not_configured_is_told(self, backend: Project, run: Run) -> None:
        agent = backend.root / FILE
        agent.write_text(agent.read_text().replace("mcp__srv__echo", "mcp__nowhere__echo"))
        backend.settings = {}
        backend.write()
        for more in ((), ("--live",)):
            outcome = run("explain", "tester", "mcp__nowhere__echo", *more)
            assert outcome.code == 1
            assert facts(outcome)["upstream"] == "nowhere is not configured; there are: srv"
            assert "names no configured upstream" in facts(outcome)["warning"]
            assert facts(outcome)["warning"].endswith(f"({FILE}:5)")

    def test_an_id_that_two_upstreams_could_own_is_explained_for_both(
        self, project: Project, run: Run
    ) -> None:
        project.offers("a", ["c__x"])
        project.offers("a__c", ["x"])
        project.agent("tester", ["mcp__a__c__x", "mcp__a"])
        project.write()
        outcome = run("explain", "tester", "mcp__a__c__x", "--json")
        assert outcome.code == 1
        first, second = map(json.loads, outcome.out.splitlines())
        assert (first["upstream"], first["decision"]) == ("a", "allow")
        assert first["declared"]["text"] == "mcp__a"
        assert (second["upstream"], second["decision"]) == ("a__c", "deny")
        assert [each["code"] for each in second["findings"]] == ["ambiguous-entry"]
        text = run("explain", "tester", "mcp__a__c__x").out
        assert "mcp__a__c__x could mean a tool of each of these upstreams" in text

    def test_json_has_every_fact(self, backend: Project, run: Run) -> None:
        value = explained(run("explain", "tester", "mcp__srv__drop", "--json"))
        reason = "mcp__srv__drop is disallowed for the agent 'tester' by 'mcp__srv__drop'"
        assert value == {
            "agent": "tester",
            "upstream": "srv",
            "tool": "mcp__srv__drop",
            "decision": "deny",
            "provisional": False,
            "enforced": True,
            "rule": "disallowed tools",
            "file": FILE,
            "line": 9,
            "reason": reason,
            "declared": {"text": "mcp__srv__drop", "file": FILE, "line": 8},
            "disallowed": {"text": "mcp__srv__drop", "file": FILE, "line": 9},
            "capped": True,
            "ceiling": None,
            "offered": None,
            "successor": None,
            "findings": [],
            "rules": [],
            "changes": [
                f"take mcp__srv__drop out of what is disallowed ({FILE}:9)",
                "add mcp__srv__drop to the operator's max_tools (gateway.yaml:1)",
            ],
            "results": [],
        }
        assert explained(run("explain", "tester", "mcp__srv__echo", "--json"))["provisional"]


class TestMistakes:
    @pytest.mark.parametrize(
        ("tool", "told"),
        [
            ("echo", "'echo' is no tool id; write mcp__UPSTREAM__TOOL"),
            ("mcp__srv", "write mcp__UPSTREAM__TOOL"),
            ("mcp__srv__get.it", "did you mean mcp__srv__get_it?"),
            ("mcp__srv__\u0435cho", "did you mean mcp__srv___cho?"),
            ("srv/echo", "write mcp__UPSTREAM__TOOL"),
            ("", "'' is no tool id"),
        ],
    )
    def test_what_is_no_tool_id_is_a_mistake(
        self, backend: Project, run: Run, tool: str, told: str
    ) -> None:
        outcome = run("explain", "tester", tool)
        assert (outcome.code, outcome.out) == (2, "")
        assert told in outcome.err

    def test_rules_about_what_comes_back_are_told(self, backend: Project, run: Run) -> None:
        (backend.root / "results.yaml").write_text(
            "results:\n  - name: clean\n    tools: mcp__srv__*\n    redact: true\n"
            "    max_bytes: 9\n"
            "  - {name: other, tools: mcp__srv__drop, mark: true, observe: true}\n"
        )
        backend.settings["policies"] = ["results.yaml"]
        backend.write()
        told = facts(run("explain", "tester", "mcp__srv__echo"))["results"]
        assert told == "clean (results.yaml:2): withholds more than 9 bytes, takes out secrets"
        value = explained(run("explain", "tester", "mcp__srv__drop", "--json"))
        assert [rule["name"] for rule in value["results"]] == ["clean", "other"]

    def test_an_unknown_agent_is_a_mistake(self, backend: Project, run: Run) -> None:
        outcome = run("explain", "tesster", "mcp__srv__echo")
        assert (outcome.code, outcome.out) == (2, "")
        assert "defines the agent 'tesster'; did you mean 'tester'?" in outcome.err
        assert "there are: tester" in run("explain", "x", "mcp__srv__echo").err

    def test_an_upstream_that_cannot_be_asked_is_told_with_its_line(
        self, backend: Project, run: Run
    ) -> None:
        backend.script("srv", exit_with=4, stderr="no token\n")
        outcome = run("explain", "tester", "mcp__srv__echo", "--live")
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("gateway.yaml:1: the upstream 'srv' exited with status 4")
        assert "no token" in outcome.err


class TestNativeTools:
    @pytest.mark.parametrize(("tool", "code"), [("Read", 0), ("Bash", 1)])
    def test_they_are_explained_by_the_agents_list(
        self, backend: Project, run: Run, tool: str, code: int
    ) -> None:
        (backend.root / ".claude/agents/tester.md").write_text(
            "---\nname: tester\ndescription: d\ntools: Read\n---\n"
        )
        backend.settings = {"native_tools": "enforce"}
        backend.write()
        outcome = run("explain", "tester", tool)
        assert outcome.code == code
        assert outcome.out.splitlines()[0].endswith("denied" if code else "allowed")
        assert facts(outcome)["governed"] == "native_tools: enforce, by the client's hook alone"
        assert explained(run("explain", "tester", tool, "--json"))["enforced"] is True


def test_a_refusal_that_is_only_observed_is_told_as_one(backend: Project, run: Run) -> None:
    backend.settings = {"mode": "observe"}
    backend.write()
    outcome = run("explain", "tester", "mcp__srv__drop")
    assert outcome.code == 1
    assert "denied, but only observed" in outcome.out.splitlines()[0]
    value = explained(run("explain", "tester", "mcp__srv__drop", "--json"))
    assert (value["decision"], value["enforced"]) == ("deny", False)


RULES = """\
rules:
  - name: few-rows
    effect: allow-only-if
    tools: mcp__srv__echo
    arguments: {properties: {rows: {maximum: 10}}}
    message: Ask for less.
  - name: ask-first
    effect: ask
    tools: mcp__srv__ask*
  - name: office
    effect: allow-only-if
    tools: mcp__srv__echo
    when: {identified: [process]}
  - name: watch
    effect: deny
    tools: mcp__srv__echo
    observe: true
  - name: never
    effect: deny
    tools: mcp__srv__never
"""


@pytest.fixture
def ruled(project: Project) -> Project:
    project.offers("srv", [{"name": "echo", "inputSchema": {"properties": {"rows": {}}}}])
    project.agent("tester", [f"mcp__srv__{name}" for name in ("echo", "ask", "never")])
    (project.root / "rules.yaml").write_text(RULES)
    project.settings = {"policies": ["rules.yaml"]}
    project.write()
    return project


def told(outcome: Outcome, label: str) -> list[str]:
    """All lines under one label, without it."""
    lines = (line[2:] for line in outcome.out.splitlines() if line.startswith("  "))
    return [line[12:] for line in lines if line.startswith(f"{label:<12}")]


class TestRules:
    def test_every_rule_is_told_in_words_with_its_line(self, ruled: Project, run: Run) -> None:
        outcome = run("explain", "tester", "mcp__srv__echo", "--arguments", '{"rows": 30}')
        assert outcome.code == 1
        assert outcome.out.splitlines()[0].endswith(": denied")
        assert facts(outcome)["reason"] == "Ask for less"
        assert told(outcome, "rules") == [
            "few-rows (rules.yaml:2): refuses it: the argument 'rows' must be at most 10",
            "office (rules.yaml:10): allows it only to callers known by process: so it is",
            "watch (rules.yaml:14): denies it (only observed)",
        ]
        assert told(outcome, "to allow it") == [
            "in the call, give 'rows' as 10; or change or remove the rule 'few-rows' (rules.yaml:2)"
        ]

    def test_with_arguments_that_pass_it_is_allowed(self, ruled: Project, run: Run) -> None:
        outcome = run("explain", "tester", "mcp__srv__echo", "--arguments", '{"rows": 3}', "--json")
        value = explained(outcome)
        assert (value["decision"], value["enforced"], value["changes"]) == ("deny", False, [])
        assert [each["says"] for each in value["rules"]] == ["nothing", "nothing", "denies"]
        (ruled.root / "rules.yaml").write_text(RULES.replace("    observe: true\n", ""))
        outcome = run("explain", "tester", "mcp__srv__echo", "--arguments", '{"rows": 3}', "--live")
        assert (outcome.code, facts(outcome)["rule"]) == (1, "watch (rules.yaml:14)")

    def test_without_arguments_it_says_what_depends_on_them(self, ruled: Project, run: Run) -> None:
        text = RULES.replace(
            "tools: mcp__srv__echo\n    observe", "tools: mcp__srv__x\n    observe"
        )
        (ruled.root / "rules.yaml").write_text(text)
        outcome = run("explain", "tester", "mcp__srv__echo")
        assert outcome.code == 0
        assert outcome.out.splitlines()[0].endswith(
            ": allowed, if the upstream offers it, if its arguments are as the rules say"
        )
        assert told(outcome, "rules")[0] == (
            "few-rows (rules.yaml:2): allows it only if 'rows' is at most 10 (give --arguments)"
        )

    def test_how_the_caller_is_known_can_be_said(self, ruled: Project, run: Run) -> None:
        for means, says in (("process", "nothing"), ("token", "denies")):
            arguments = ("--arguments", '{"rows": 3}', "--identified", means, "--json")
            value = explained(run("explain", "tester", "mcp__srv__echo", *arguments))
            assert value["rules"][1]["says"] == says

    def test_what_asks_or_denies_outright_is_told_with_what_would_change_it(
        self, ruled: Project, run: Run
    ) -> None:
        outcome = run("explain", "tester", "mcp__srv__ask")
        assert outcome.code == 1
        assert ": allowed only after a person says yes, if" in outcome.out.splitlines()[0]
        outcome = run("explain", "tester", "mcp__srv__never")
        assert told(outcome, "to allow it") == ["change or remove the rule 'never' (rules.yaml:18)"]
        outcome = run("explain", "tester", "mcp__srv__asking")
        assert told(outcome, "to allow it") == [
            f"add mcp__srv__asking to the agent's tools ({FILE}:4)",
            "have a person approve it, or change or remove the rule 'ask-first' (rules.yaml:7)",
        ]

    @pytest.mark.parametrize("text", ["x", "[]", "1", "[" * 100_000])
    def test_arguments_that_are_no_object_are_a_mistake(
        self, ruled: Project, run: Run, text: str
    ) -> None:
        outcome = run("explain", "tester", "mcp__srv__echo", "--arguments", text)
        assert (outcome.code, outcome.out) == (2, "")
        assert "--arguments" in outcome.err
