"""Nothing of a project is started or granted before a person accepted it, and news take effect."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.acceptance import accept_in
from tests.e2e.http import HttpClient
from tests.e2e.inbox import text_of
from tests.e2e.stdio import StdioClient
from tests.e2e.world import World, processes_naming

_SOON_S = 2.0
"""One second is what is promised; the machine may be busy."""


def trust(world: World) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "trust", "--yes", "--config", "gateway.yaml"],
        env=world.env,
        cwd=world.root,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def git(directory: Path, *arguments: str) -> None:
    author = ("-c", "user.name=tester", "-c", "user.email=tester@example.invalid")
    subprocess.run(["git", *author, *arguments], cwd=directory, check=True, capture_output=True)


def test_a_fresh_clone_starts_no_command_before_it_is_trusted(world: World, tmp_path: Path) -> None:
    marker = world.root / "resolved"
    world.canary()
    world.upstreams["canary"]["env"]["X"] = f"${{exec:touch {marker}}}"
    world.usual_agent()
    world.write()
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    for name in (".claude", "gateway.yaml"):
        (world.root / name).rename(origin / name)
    git(origin, "init", "--quiet")
    git(origin, "add", ".")
    git(origin, "commit", "--quiet", "-m", "All of it.")
    git(tmp_path, "clone", "--quiet", str(origin), str(clone))

    def connect(*more: str) -> StdioClient:
        argv = [sys.executable, "-m", "gateway", "connect", "canary", *more]
        return StdioClient(argv, env=world.env, cwd=clone)

    with connect() as client:
        assert client.close() == 2
        assert "run `gateway trust`" in client.stderr
    with connect("--agent", "tester") as client:
        client.open()
        assert client.ask("tools/list")["result"]["tools"] == []
        assert "gateway trust" in text_of(client.call("echo"))
    assert world.received() == []
    assert not marker.exists()

    accept_in(world.env, clone / "gateway.yaml")
    assert not marker.exists()
    with connect() as client:
        client.open()
        assert not client.call("echo")["result"].get("isError")
    assert len(world.calls()) == 1
    assert marker.exists()


def test_a_tool_that_an_agent_adds_to_its_own_file_gains_it_nothing(world: World) -> None:
    world.canary()
    world.agent("tester", ["mcp__canary__echo"])
    world.write()
    world.accepting = False
    path = world.agent("tester", ["mcp__canary__echo", "mcp__canary__hidden"])
    with world.connect() as client:
        client.open()
        names = {tool["name"] for tool in client.ask("tools/list")["result"]["tools"]}
        assert names == {"echo"}
        refused = client.call("hidden")
        assert refused["result"]["isError"]
        assert "gateway trust" in text_of(refused)
        assert not client.call("echo")["result"].get("isError")
    [decision] = world.decisions(tool="mcp__canary__hidden")
    assert (decision["decision"], decision["rule"]) == ("deny", "trust")
    assert decision["file"] == str(path.relative_to(world.root))
    assert [call["params"]["name"] for call in world.calls()] == ["echo"]
    trust(world)
    with world.connect() as client:
        client.open()
        assert not client.call("hidden")["result"].get("isError")


def test_a_service_whose_files_are_trusted_takes_them_as_they_are(world: World) -> None:
    world.accepting = False
    world.canary()
    world.usual_agent()
    with world.serve("--trusted") as served, HttpClient(served.url()) as client:
        client.open()
        assert not client.call("echo")["result"].get("isError")


def test_a_running_session_loses_at_once_and_gains_when_accepted(world: World) -> None:
    world.canary()
    world.agent("tester", ["mcp__canary__echo", "mcp__canary__add"])
    with world.connect() as client:
        client.open()
        assert not client.call("add", {"a": 1, "b": 2})["result"].get("isError")

        def works(tool: str) -> bool:
            return not client.call(tool, {"a": 1, "b": 2, "text": ""})["result"].get("isError")

        def within(expected: bool, tool: str) -> None:
            deadline = time.monotonic() + _SOON_S
            while works(tool) != expected:
                assert time.monotonic() < deadline, (tool, expected)
                time.sleep(0.05)

        world.accepting = False
        client.forget()
        world.agent("tester", ["mcp__canary__echo"])
        within(False, "add")
        client.told("notifications/tools/list_changed")
        trust(world)
        world.agent("tester", ["mcp__canary__echo", "mcp__canary__add"])
        world.wait_for(lambda: len(world.events("configuration.reloaded")) >= 2)
        assert not works("add")
        client.forget()
        trust(world)
        within(True, "add")
        client.told("notifications/tools/list_changed")
        assert works("echo")
        (world.root / "gateway.yaml").write_text("upstreams: [")
        world.wait_for(lambda: world.events("configuration.refused"))
        assert works("add")


def test_an_entry_that_changes_while_it_runs_is_not_started_when_the_upstream_restarts(
    world: World,
) -> None:
    marker = world.root / "started"
    world.canary()
    world.usual_agent()
    with world.connect() as client:
        client.open()
        assert not client.call("echo")["result"].get("isError")
        path = world.root / "gateway.yaml"
        settings = json.loads(path.read_text())
        settings["upstreams"]["canary"] |= {"command": "/usr/bin/touch", "args": [str(marker)]}
        path.write_text(json.dumps(settings))
        world.wait_for(lambda: world.events("configuration.reloaded"))
        for pid in processes_naming(str(world.root / "canary.received")):
            os.kill(pid, signal.SIGKILL)
        world.wait_for(lambda: len(world.events("upstream.exited")) >= 2)
        time.sleep(0.2)
        assert not marker.exists()


def test_a_default_agent_that_is_taken_away_is_gone_from_running_sessions(world: World) -> None:
    world.canary()
    world.usual_agent()
    with world.connect() as client:
        client.open()
        assert not client.call("echo")["result"].get("isError")
        path = world.root / "gateway.yaml"
        settings = json.loads(path.read_text())
        del settings["default_agent"]
        path.write_text(json.dumps(settings))
        world.wait_for(lambda: world.events("configuration.reloaded"))
        assert client.call("echo")["result"].get("isError")
