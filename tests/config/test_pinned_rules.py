"""Rules are held against what is pinned when a configuration is loaded."""

from typing import Any

import pytest

from gateway.catalog.listing import build_catalog
from gateway.config.load import load
from gateway.config.lock import Lock, LockedUpstream, encode_lock, locked
from gateway.config.problems import ConfigurationError
from gateway.errors import UserError

from .conftest import Project

TAKEN = {
    "table": {"type": "string"},
    "filter": {"type": "object", "properties": {"column": {"type": "string"}}},
}
CONFIG = "upstreams: {db: {command: db}}\npolicies: policies\n"
RULE = """
rules:
- name: only-orders
  effect: allow-only-if
  tools: mcp__db__query
  agents: a
  arguments:
    properties:
      table: {const: orders}
      KEY: {properties: {INNER: {const: 1}}}
"""


@pytest.fixture(autouse=True)
def _state(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def pinned(project: Project) -> Project:
    project.config(CONFIG)
    project.agent("a", "mcp__db__query, mcp__db__list")
    project.agent("b", "mcp__db__drop")
    schema = {"type": "object", "properties": TAKEN}
    definitions = [{"name": name, "inputSchema": schema} for name in ("query", "list", "drop")]
    definitions[2]["inputSchema"] = {}
    tools = build_catalog("db", definitions).tools.values()
    lock = Lock({"db": LockedUpstream({each.tool_id: locked(each) for each in tools})})
    (project.root / "gateway.lock").write_bytes(encode_lock(lock, path="gateway.lock"))
    return project


def write(project: Project, key: str = "filter", inner: str = "column", **more: str) -> None:
    text = RULE.replace("KEY", key).replace("INNER", inner)
    for before, after in more.items():
        text = text.replace(before, after)
    project.write("policies/a.yaml", text)


def problems(project: Project) -> list[UserError]:
    with pytest.raises(ConfigurationError) as caught:
        project.load()
    return list(caught.value.problems)


def test_a_rule_about_arguments_that_a_tool_takes_is_fine(pinned: Project) -> None:
    write(pinned)
    assert len(pinned.load().settings.policies) == 1


def test_one_about_another_argument_is_refused_with_its_line_and_the_likeliest_name(
    pinned: Project,
) -> None:
    write(pinned, table="tabel")
    [problem] = problems(pinned)
    assert (problem.path, problem.line) == ("policies/a.yaml", 9)
    lock = (pinned.root / "gateway.lock").read_text().split("\n")
    line = next(number for number, text in enumerate(lock, 1) if '"mcp__db__query"' in text)
    assert problem.message == (
        "rules[0].arguments.properties.tabel constrains 'tabel', which is no argument of "
        f"mcp__db__query as pinned (gateway.lock:{line}), so it limits nothing; did you mean "
        "'table'?"
    )


def test_one_inside_of_another_is_told_by_its_whole_name(pinned: Project) -> None:
    write(pinned, inner="colum")
    [problem] = problems(pinned)
    assert (problem.path, problem.line) == ("policies/a.yaml", 10)
    assert "'filter.colum'" in problem.message
    assert problem.message.endswith("did you mean 'column'?")


def test_all_of_them_are_told_at_once_each_with_the_tools_that_it_is_about(
    pinned: Project,
) -> None:
    write(pinned, key="x", table="y", mcp__db__query="mcp__db__*")
    found = [problem.message for problem in problems(pinned)]
    assert len(found) == 2
    assert all("mcp__db__list, mcp__db__query" in each for each in found)


def test_a_tool_that_no_agent_of_the_rule_may_call_does_not_matter(pinned: Project) -> None:
    write(pinned, mcp__db__query="mcp__db__*")
    assert len(pinned.load().settings.policies) == 1
    write(pinned, mcp__db__query="mcp__db__*", **{"agents: a": "agents: '*'"})
    assert all("mcp__db__drop" in problem.message for problem in problems(pinned))


def test_what_is_pinned_of_another_upstream_does_not_matter(pinned: Project) -> None:
    write(pinned, key="x")
    pinned.config("upstreams: {db: {command: db}, other: {command: o}}\npolicies: policies\n")
    text = (pinned.root / "gateway.lock").read_text()
    (pinned.root / "gateway.lock").write_text(
        text.replace("mcp__db__", "mcp__other__").replace('"db"', '"other"')
    )
    assert len(pinned.load().settings.policies) == 1


def test_it_is_looked_at_when_compiling_and_not_at_each_start(
    pinned: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(pinned)
    assert not load(None, cwd=pinned.root, trusted=True).cached
    monkeypatch.setattr("gateway.config.pinned_rules.mismatches", pytest.fail)
    assert load(None, cwd=pinned.root, trusted=True).cached
