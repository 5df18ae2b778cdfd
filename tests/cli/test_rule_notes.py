"""`gateway check` tells of rules that do nothing, and of secrets that stand in any of its files."""

import json
from typing import Any

import pytest

from tests.cli.conftest import Project, Run

TAKEN = {"type": "object", "properties": {"table": {"type": "string"}}}
ORDERS = {"properties": {"table": {"const": "orders"}}}


@pytest.fixture
def ruled(project: Project) -> Project:
    project.offers("db", [{"name": "query", "inputSchema": TAKEN}, "drop"])
    project.agent("tester", ["mcp__db__query"])
    project.agent("other", ["mcp__db"])
    project.settings["policies"] = "policies"
    (project.root / "policies").mkdir()
    return project


def write(project: Project, *rules: dict[str, Any]) -> None:
    usual = {"effect": "deny", "tools": "mcp__db__drop"}
    text = json.dumps({"rules": [{**usual, **each} for each in rules]}, indent=0)
    (project.root / "policies" / "p.yaml").write_text(text)
    project.write()


def found(run: Run, *arguments: str) -> list[dict[str, Any]]:
    outcome = run("check", "--json", *arguments)
    notes = [each for each in map(json.loads, outcome.out.splitlines()) if "code" in each]
    chosen = [each for each in notes if each["code"] not in ("inherits", "native-tools")]
    assert (outcome.code == 1) == any(each["severity"] != "info" for each in notes)
    return chosen


def test_rules_that_do_something_give_no_reason_to_complain(ruled: Project, run: Run) -> None:
    write(
        ruled,
        {"name": "no-drop"},
        {"name": "ask", "effect": "ask", "tools": "mcp__db__query"},
        {"name": "orders", "effect": "allow-only-if", "tools": "*__query", "arguments": ORDERS},
    )
    assert found(run) == found(run, "--live") == []


def test_one_that_none_of_its_agents_can_trigger(ruled: Project, run: Run) -> None:
    write(ruled, {"name": "no-drop", "agents": "tester"})
    [note] = found(run)
    assert (note["code"], note["path"], note["line"]) == (
        "rule-never-matches",
        "policies/p.yaml",
        3,
    )
    assert "'no-drop' never matches: no agent that it is about may call" in note["message"]


def test_one_about_a_tool_that_nobody_offers_is_found_when_they_are_asked(
    ruled: Project, run: Run
) -> None:
    write(ruled, {"name": "no-drop", "tools": ["mcp__db__drop", "mcp__db__dorp"]})
    assert found(run) == []
    [note] = found(run, "--live")
    assert note["code"] == "pattern-without-tool"
    assert "'mcp__db__dorp'" in note["message"]


@pytest.mark.parametrize(
    ("effect", "told"),
    [("deny", "so it never matches"), ("allow-only-if", "so it refuses every call")],
)
def test_one_that_no_arguments_meet(ruled: Project, run: Run, effect: str, told: str) -> None:
    nothing = {"properties": {"table": {"const": 1, "type": "string"}}}
    about = {"tools": "mcp__db__query", "arguments": nothing}
    write(ruled, {"name": "odd", "effect": effect, **about})
    [note] = found(run)
    assert (note["code"], note["line"]) == ("rule-never-matches", 7)
    assert told in note["message"]


def test_one_that_another_makes_superfluous(ruled: Project, run: Run) -> None:
    write(
        ruled,
        {"name": "nothing", "tools": "mcp__db__*"},
        {"name": "no-drop", "agents": "other"},
    )
    [note] = found(run)
    assert (note["code"], note["line"]) == ("rule-shadowed", 8)
    assert "'nothing' (policies/p.yaml:3) refuses all that it would" in note["message"]
    assert found(run, "--agent", "tester") == []


@pytest.mark.parametrize(
    ("by", "demand", "told"),
    [(["client"], "authenticated", True), ([], "any", True), (["client"], "any", False)],
)
def test_one_that_asks_and_that_nobody_could_answer(
    ruled: Project, run: Run, by: list[str], demand: str, told: bool
) -> None:
    ruled.settings["approvals"] = {"by": by}
    write(ruled, {"name": "asks", "effect": "ask", "approval": demand})
    assert [note["code"] for note in found(run)] == ["rule-unanswerable"] * told


def test_packs_may_be_about_what_nobody_may_call_yet(project: Project, run: Run) -> None:
    project.offers("git", ["git_status"])
    project.agent("tester", ["mcp__git__git_status"])
    project.settings["policies"] = "pack:git"
    project.write()
    assert found(run) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".claude/agents/tester.md", "Use the key sk-live-0123456789abcdef."),
        ("policies/p.yaml", "# was postgres://me:hunter2@db/x"),
    ],
)
def test_what_looks_like_a_secret_is_found_in_every_file(
    ruled: Project, run: Run, name: str, text: str
) -> None:
    write(ruled, {"name": "no-drop"})
    path = ruled.root / name
    path.write_text(f"{path.read_text().rstrip()}\n{text}\n")
    [note] = found(run)
    assert (note["code"], note["path"]) == ("plain-secret", name)
    assert path.read_text().splitlines()[note["line"] - 1] == text
    assert "hunter2" not in json.dumps(note)


@pytest.mark.parametrize("text", ["sk-your-key-here-000", "db://${USER}:${PASSWORD}@db", "sk-..."])
def test_what_only_shows_the_form_of_one_is_none(ruled: Project, run: Run, text: str) -> None:
    write(ruled, {"name": "no-drop"})
    path = ruled.root / "policies" / "p.yaml"
    path.write_text(f"{path.read_text()}\n# {text}\n")
    assert found(run) == []


def test_one_in_the_entry_of_an_upstream_is_told_once(ruled: Project, run: Run) -> None:
    write(ruled, {"name": "no-drop"})
    ruled.upstreams["db"]["env"]["API_TOKEN"] = "sk-live-0123456789abcdef"
    (ruled.root / "gateway.yaml").unlink()
    ruled.write()
    [note] = found(run)
    assert note["code"] == "plain-secret"
    assert "API_TOKEN" in note["message"]
