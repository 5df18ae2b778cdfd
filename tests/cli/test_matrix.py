"""`gateway matrix` shows agents and tools, decided by the function that decides calls."""

import json
import re
import sys
from html.parser import HTMLParser
from typing import Any

import pytest

from gateway.cli import matrix
from gateway.policy.matrix import Row
from tests.cli.conftest import Project, Run

TESTER = ".claude/agents/tester.md"


def cells(out: str) -> dict[tuple[str, str], dict[str, Any]]:
    found = map(json.loads, out.splitlines())
    return {(cell["agent"], cell["tool"]): cell for cell in found}


def table(out: str) -> dict[str, list[str]]:
    """The first table of a piped output, its cells split where two blanks stand."""
    lines = out.split("\n\n")[0].splitlines()
    return {first: rest for first, *rest in (re.split(r"  +", line) for line in lines)}


@pytest.fixture
def two(project: Project) -> Project:
    """`tester` lists tools and loses one again, one is beyond its ceiling; `other` has all."""
    project.offers("srv", ["echo", "get.it", "drop", "more"])
    (project.root / TESTER).write_text(
        "---\nname: tester\ndescription: d\ntools:\n  - mcp__srv__echo\n  - mcp__srv__get_it\n"
        "  - mcp__srv__old\n  - mcp__srv__drop\ndisallowedTools: mcp__srv__drop\n---\n"
    )
    project.agent("other", ["mcp__srv"])
    project.settings = {
        "agents": {"tester": {"max_tools": ["mcp__srv__echo", "mcp__srv__old", "mcp__srv__drop"]}}
    }
    project.write()
    return project


def test_without_asking_it_shows_what_the_lists_name(two: Project, run: Run) -> None:
    outcome = run("matrix")
    assert outcome.code == 0
    assert table(outcome.out) == {
        "TOOL": ["other", "tester"],
        "mcp__srv__*": ["yes", "."],
        "mcp__srv__drop": ["yes", "denied [1]"],
        "mcp__srv__echo": ["yes", "yes"],
        "mcp__srv__get_it": ["yes", "denied [2]"],
        "mcp__srv__old": ["yes", "yes"],
    }
    assert f"[1] disallowed tools ({TESTER}:9)" in outcome.out.splitlines()
    assert "[2] ceiling (gateway.yaml:1)" in outcome.out.splitlines()
    assert "A line with a * stands for every other tool whose name begins so." in outcome.out
    assert outcome.out.endswith("The upstreams were not asked what they offer: give --live.\n")
    assert two.received("srv") == []


def test_asked_the_upstreams_show_what_is_gone_and_what_nobody_named(
    two: Project, run: Run
) -> None:
    outcome = run("matrix", "--live")
    assert outcome.code == 0
    shown = table(outcome.out)
    assert shown["mcp__srv__old"] == ["gone [3]", "gone [4]"]
    assert shown["mcp__srv__more"] == ["yes", "."]
    assert shown["mcp__srv__get_it"] == ["yes", "denied [2]"]
    assert "mcp__srv__*" not in shown
    assert f"[4] not offered ({TESTER}:7)" in outcome.out
    assert not (two.root / "audit").exists()


def test_json_has_one_cell_a_line_with_what_decides_it(two: Project, run: Run) -> None:
    found = cells(run("matrix", "--live", "--format", "json", "--agent", "tester").out)
    assert {agent for agent, _ in found} == {"tester"}
    assert found["tester", "mcp__srv__get_it"] == {
        "agent": "tester",
        "upstream": "srv",
        "tool": "mcp__srv__get_it",
        "state": "denied",
        "declared": True,
        "certain": True,
        "enforced": True,
        "rule": "ceiling",
        "file": "gateway.yaml",
        "line": 1,
        "reason": "mcp__srv__get_it is declared by the agent 'tester', but not within the "
        "operator's max_tools for it",
        "conditions": [],
    }
    states = {tool: cell["state"] for (_, tool), cell in found.items()}
    assert states == {
        "mcp__srv__drop": "denied",
        "mcp__srv__echo": "reachable",
        "mcp__srv__get_it": "denied",
        "mcp__srv__more": "undeclared",
        "mcp__srv__old": "drifted",
    }
    unsure = cells(run("matrix", "--format", "json").out)
    assert unsure["tester", "mcp__srv__echo"]["certain"] is False


def test_the_matrix_says_what_explain_says(two: Project, run: Run) -> None:
    for (agent, tool), cell in cells(run("matrix", "--live", "--format", "json").out).items():
        explained = json.loads(run("explain", agent, tool, "--live", "--json").out)
        assert (cell["state"] == "reachable") == (explained["decision"] == "allow")
        assert (cell["rule"], cell["line"]) == (explained["rule"], explained["line"])


def test_an_agent_that_is_refused_as_a_whole_is_denied_everywhere(two: Project, run: Run) -> None:
    (two.root / ".claude/agents/wild.md").write_text("---\nname: wild\ndescription: d\n---\n")
    two.write()
    found = cells(run("matrix", "--format", "json", "--agent", "wild").out)
    assert found == {}
    found = cells(run("matrix", "--format", "json").out)
    assert {cell["state"] for (agent, _), cell in found.items() if agent == "wild"} == {"denied"}


def test_what_is_only_observed_is_said(two: Project, run: Run) -> None:
    two.settings["mode"] = "observe"
    two.write()
    outcome = run("matrix", "--agent", "tester")
    assert "[2] ceiling (gateway.yaml:1), only observed: it is let through" in outcome.out
    found = cells(run("matrix", "--agent", "tester", "--format", "json").out)
    assert found["tester", "mcp__srv__get_it"]["enforced"] is False


def test_an_upstream_that_does_not_start_is_told_and_the_rest_is_shown(
    two: Project, run: Run
) -> None:
    two.upstreams["broken"] = {"command": "/nonexistent/server"}
    two.write()
    outcome = run("matrix", "--live")
    assert outcome.code == 2
    assert table(outcome.out)["mcp__srv__more"] == ["yes", "."]
    assert outcome.err.startswith("gateway.yaml:1: ")


def test_an_unknown_agent_is_a_mistake(two: Project, run: Run) -> None:
    outcome = run("matrix", "--agent", "testr")
    assert (outcome.code, outcome.out) == (2, "")
    assert "did you mean 'tester'?" in outcome.err


def test_nothing_to_show_is_said(project: Project, run: Run) -> None:
    project.agent("tester", ["Read"])
    project.write()
    outcome = run("matrix")
    assert outcome.code == 0
    assert outcome.out.startswith("There is no tool to show")


def test_many_agents_make_several_tables_on_a_terminal(
    two: Project, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        two.agent(f"agent-number-{number:02}", ["mcp__srv__echo"])
    two.write()
    assert run("matrix").out.count("TOOL") == 1
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"agent-number-{number:02}" for number in range(12)]
    blocks = list(matrix._blocks(names, [Row("srv", "echo")]))
    assert [name for block in blocks for name in block] == names
    assert max(len(block) for block in blocks) == 3


class Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_accessible(two: Project, run: Run) -> None:
    outcome = run("matrix", "--live", "--format", "html")
    page = Page(outcome.out)
    tags = [tag for tag, _ in page.tags]
    assert outcome.out.startswith("<!doctype html>")
    assert ("html", {"lang": "en"}) in page.tags
    assert {"title", "main", "h1", "caption"} <= set(tags)
    assert not {"script", "link", "img", "iframe"} & set(tags)
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    assert tags.count("td") == 5 * 2
    assert "mcp__srv__more" in page.text
    assert "the upstream 'srv' does not offer it now" in page.text


def test_nothing_from_outside_becomes_markup(project: Project, run: Run) -> None:
    project.offers("srv", ["echo"])
    project.agent("tester", [])
    name = "<img src=x onerror=alert(1)>$title"
    (project.root / ".claude/agents/evil.md").write_text(
        f"---\nname: '{name}'\ndescription: d\ntools: mcp__srv__echo\n---\n"
    )
    project.write()
    out = run("matrix", "--format", "html").out
    page = Page(out)
    assert "img" not in [tag for tag, _ in page.tags]
    assert name in page.text


def test_rules_are_shown_where_they_decide_or_may(two: Project, run: Run) -> None:
    (two.root / "rules.yaml").write_text(
        "rules:\n"
        "  - {name: no-more, effect: deny, tools: mcp__srv__more, agents: other}\n"
        "  - {name: few-echoes, effect: allow-only-if, tools: 'mcp__srv__ec*',\n"
        "     arguments: {properties: {n: {maximum: 3}}}}\n"
        "  - {name: watch, effect: deny, tools: mcp__srv__drop, agents: other, observe: true}\n"
    )
    two.settings["policies"] = ["rules.yaml"]
    two.write()
    outcome = run("matrix")
    shown = table(outcome.out)
    assert shown["mcp__srv__*"] == ["yes", "."]
    assert shown["mcp__srv__ec*"] == ["if [3]", "."]
    assert shown["mcp__srv__echo"] == ["if [3]", "if [3]"]
    assert shown["mcp__srv__more"] == ["denied [5]", "."]
    notes = {line[:3]: line[4:] for line in outcome.out.splitlines() if line.startswith("[")}
    assert notes["[3]"] == "as far as these rules let it: few-echoes (rules.yaml:3)"
    assert notes["[5]"] == "no-more (rules.yaml:2)"
    found = cells(run("matrix", "--format", "json").out)
    assert found["other", "mcp__srv__echo"]["conditions"] == [
        {"rule": "few-echoes", "file": "rules.yaml", "line": 3}
    ]
    assert (found["other", "mcp__srv__drop"]["enforced"], notes["[1]"]) == (
        False,
        "watch (rules.yaml:5), only observed: it is let through",
    )
    page = Page(run("matrix", "--format", "html").out)
    assert "If this rule lets it: few-echoes rules.yaml:3" in page.text


def test_the_page_has_a_part_for_each_upstream_and_names_lines_of_many_tools(
    two: Project, run: Run
) -> None:
    page = run("matrix", "--format", "html").out
    assert page.count('scope="rowgroup"') == page.count("<tbody>") == 1
    assert "mcp__srv__* is declared by the agent" in page
