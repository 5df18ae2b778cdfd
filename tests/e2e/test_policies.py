"""Rules of policy files on the way of real calls: refused, narrowed in the listing, reloaded."""

import json
import os
import re
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Open
from tests.e2e.inbox import PATIENCE_S, call, text_of
from tests.e2e.test_pins import run
from tests.e2e.world import World

LANGUAGES = ("python", "toml")

ECHO = {
    "name": "echo",
    "inputSchema": {
        "type": "object",
        "properties": {"text": {"type": "string"}, "loud": {"type": "boolean"}},
    },
}


def rule(name: str = "only-hello", **more: Any) -> dict[str, Any]:
    schema = {"properties": {"text": {"pattern": "hello.*", "maxLength": 20}}}
    usual = {"effect": "allow-only-if", "tools": "mcp__canary__echo", "arguments": schema}
    return {"name": name, **usual, **more}


def write(world: World, *rules: dict[str, Any]) -> None:
    (world.root / "policies").mkdir(exist_ok=True)
    text = json.dumps({"rules": list(rules)}, indent=0)
    (world.root / "policies" / "p.yaml").write_text(text)


@pytest.fixture
def ruled(world: World) -> World:
    tools = [ECHO, {"name": "add", "inputSchema": {"type": "object"}}]
    world.canary(listing=json.dumps({"tools": tools}))
    world.usual_agent()
    world.settings["policies"] = "policies"
    write(world, rule())
    return world


def test_a_call_is_judged_by_its_arguments(ruled: World, connect: Open) -> None:
    with connect(ruled) as client:
        client.open()
        allowed = client.ask("tools/call", {"name": "echo", "arguments": {"text": "hello you"}})
        assert "isError" not in allowed["result"] or not allowed["result"]["isError"]
        for arguments in ({"text": "hush"}, {"text": "hello", "loud": True}, {}, None):
            params = (
                {"name": "echo"} if arguments is None else {"name": "echo", "arguments": arguments}
            )
            refused = client.ask("tools/call", params)
            assert refused["result"]["isError"]
            assert "only-hello" in text_of(refused)
            assert "policies/p.yaml:3" in text_of(refused)
            assert "hush" not in text_of(refused)
    assert len(ruled.calls()) == 1
    denied = [each for each in ruled.decisions(method="tools/call") if each["decision"] == "deny"]
    assert {each["rule"] for each in denied} == {"only-hello"}
    assert len(denied) == 4


def test_the_listing_shows_the_limits(ruled: World, connect: Open) -> None:
    with connect(ruled) as client:
        client.open()
        tools = {each["name"]: each for each in client.ask("tools/list")["result"]["tools"]}
    shown = tools["echo"]["inputSchema"]
    assert shown["properties"]["text"]["pattern"] == "^(?:hello.*)$"
    assert "Limited by policy only-hello" in shown["properties"]["text"]["description"]
    assert "loud" not in shown["properties"]
    assert shown["required"] == ["text"]
    assert tools["add"]["inputSchema"] == {"type": "object"}


def test_what_is_denied_altogether_is_not_listed(ruled: World, connect: Open) -> None:
    write(ruled, {"name": "no-adding", "effect": "deny", "tools": "mcp__*__add"})
    with connect(ruled) as client:
        client.open()
        names = [each["name"] for each in client.ask("tools/list")["result"]["tools"]]
    assert names == ["echo"]


def test_what_is_only_observed_passes_and_is_recorded(ruled: World, connect: Open) -> None:
    write(ruled, rule(observe=True))
    with connect(ruled) as client:
        client.open()
        client.ask("tools/call", {"name": "echo", "arguments": {"text": "other"}})
    assert len(ruled.calls()) == 1
    (decision,) = ruled.decisions(method="tools/call")
    assert decision["rule"] == "only-hello"


def test_another_set_holds_while_running_and_a_broken_one_never(
    ruled: World, connect: Open
) -> None:
    def refused(text: str) -> bool:
        params = {"name": "echo", "arguments": {"text": text}}
        return bool(client.ask("tools/call", params)["result"].get("isError"))

    with connect(ruled) as client:
        client.open()
        assert refused("bye")
        (ruled.root / "policies" / "broken.yaml").write_text("rules: nonsense\n")
        deadline = time.monotonic() + PATIENCE_S
        while not ruled.events("configuration.refused"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert refused("bye")
        assert not refused("hello")
        (ruled.root / "policies" / "broken.yaml").unlink()
        write(ruled, rule(arguments={"properties": {"text": {"const": "nothing"}}}))
        while not refused("hello"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert refused("bye")


@pytest.mark.parametrize("command", [("check",), ("connect", "canary"), ("serve",)])
def test_a_broken_set_serves_nothing_at_the_start(ruled: World, command: tuple[str, ...]) -> None:
    (ruled.root / "policies" / "p.yaml").write_text("rules:\n- name: x\n")
    done = ruled.gateway(*command)
    assert done.returncode == 2
    assert "policies/p.yaml:2" in done.stdout + done.stderr
    assert ruled.received() == []


def test_a_rule_about_no_argument_of_the_tool_is_found(ruled: World) -> None:
    write(ruled, rule(arguments={"properties": {"txet": {"const": "x"}}}))
    done = ruled.gateway("check", "--live", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    (note,) = [each for each in found if each.get("code") == "unknown-argument"]
    assert (note["severity"], note["path"], note["tool"]) == (
        "error",
        "policies/p.yaml",
        "mcp__canary__echo",
    )
    assert "'txet'" in note["message"]


def test_a_slow_guard_is_asked_before_the_call_is_decided(world: World, connect: Open) -> None:
    query = {"properties": {"text": {"sql": {"statements": ["select"]}}}}
    world.canary(listing=json.dumps({"tools": [ECHO]}))
    world.usual_agent()
    world.settings["policies"] = "policies"
    write(world, rule("read-only", arguments=query))
    with connect(world) as client:
        client.open()
        fine = client.call("echo", {"text": "select name from people where id = 1"})
        assert not fine["result"].get("isError")
        for text in (
            "drop table people",
            "select 1; delete from people",
            "(" * 400_000,
            "nonsense",
        ):
            refused = client.call("echo", {"text": text})
            assert refused["result"]["isError"]
            assert "read-only" in text_of(refused)
    assert len(world.calls()) == 1


def test_other_calls_do_not_wait_for_one_that_takes_long_to_examine(
    world: World, connect: Open
) -> None:
    world.canary(listing=json.dumps({"tools": [ECHO, {"name": "add", "inputSchema": {}}]}))
    world.usual_agent()
    world.settings["policies"] = "policies"
    write(world, rule("read-only", arguments={"properties": {"text": {"sql": {}}}}))
    long = f"select {', '.join(f'a{number} + b{number}' for number in range(3_000))} from t"
    with connect(world) as client:
        client.open()
        client.call("echo", {"text": "select 1"})  # from now on the guards' process is there
        client.forget()
        client.send(call("long", "echo", {"text": long}), call("short", "add", {"a": 1, "b": 2}))
        client.answer("long")
        answered = [message["id"] for message in client.messages if "id" in message]
    assert answered == ["short", "long"]


@pytest.mark.parametrize("slow", [False, True])
def test_a_guard_of_an_installed_package_judges_calls(
    world: World, connect: Open, slow: bool
) -> None:
    """The one that docs/guards.md shows, as pip would install it."""
    page = (Path(__file__).parents[2] / "docs" / "guards.md").read_text()
    module, entry = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)[-1] for kind in LANGUAGES)
    site = world.root / "site"
    (site / "my_package-1.0.dist-info").mkdir(parents=True)
    (site / "my_package.py").write_text(
        module.replace("(Guard):\n", "(Guard):\n    slow = True\n") if slow else module
    )
    [(group, lines)] = tomllib.loads(entry)["project"]["entry-points"].items()
    [(name, value)] = lines.items()
    info = site / "my_package-1.0.dist-info"
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    world.env["PYTHONPATH"] += f"{os.pathsep}{site}"
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    world.canary(listing=json.dumps({"tools": [{"name": "add", "inputSchema": schema}]}))
    world.usual_agent()
    world.settings["policies"] = "policies"
    limits = {"properties": {"a": {name: True}}}
    write(world, rule("even-only", tools="mcp__canary__add", arguments=limits))
    world.accepting = False
    world.write()
    assert run(world, "trust", "--yes")
    with connect(world) as client:
        client.open()
        assert not client.call("add", {"a": 2})["result"].get("isError")
        refused = client.call("add", {"a": 3})
        assert refused["result"]["isError"]
        assert "The number must be even." in text_of(refused)
    assert len(world.calls()) == 1


def test_an_agent_by_itself_can_be_observed(ruled: World, connect: Open) -> None:
    ruled.agent("other", ["mcp__canary__echo"])
    ruled.settings["agents"] = {"tester": {"mode": "observe"}}
    for name, refused in (("tester", False), ("other", True)):
        ruled.settings["default_agent"] = name
        with connect(ruled) as client:
            client.open()
            answer = client.call("echo", {"text": "bye"})
            assert bool(answer["result"].get("isError")) is refused
    enforced = {each["agent"]: each.get("enforced", True) for each in ruled.decisions()}
    assert enforced == {"tester": False, "other": True}
