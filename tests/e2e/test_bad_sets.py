"""Files with an error: nothing is served at the start, and nothing changes while running."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import Open
from tests.e2e.http import HttpClient
from tests.e2e.inbox import text_of
from tests.e2e.test_pins import run
from tests.e2e.world import World

ECHO = {"name": "echo", "inputSchema": {"type": "object", "properties": {"text": {}}}}


def rules(argument: str = "text") -> str:
    limits = {"properties": {argument: {"const": "hello"}}}
    about = {"tools": "mcp__canary__echo", "effect": "allow-only-if", "arguments": limits}
    return json.dumps({"rules": [{"name": "only-hello", **about}]}, indent=0)


def misspelt(world: World) -> None:
    (world.root / "policies" / "p.yaml").write_text(rules("txet"))


def broken(world: World) -> None:
    (world.root / "policies" / "p.yaml").write_text("rules:\n- name: x\n")


def gone(world: World) -> None:
    (world.root / "policies" / "p.yaml").unlink()


BAD: dict[str, tuple[Callable[[World], None], str]] = {
    "an argument that the pinned tool does not take": (
        misspelt,
        r"policies/p\.yaml:9: rules\[0\]\.arguments\.properties\.txet constrains 'txet', .*"
        r"gateway\.lock:\d+.* did you mean 'text'\?",
    ),
    "an incomplete rule": (broken, r"policies/p\.yaml:2: rules\[0\] needs the key 'effect'\."),
    "no file": (gone, r"gateway\.yaml:\d+: policies: The directory has no policy file"),
}
each_bad = pytest.mark.parametrize(("spoil", "told"), BAD.values(), ids=BAD)


@pytest.fixture
def pinned(world: World) -> World:
    world.canary(tools=[ECHO])
    world.usual_agent()
    world.settings["policies"] = "policies"
    (world.root / "policies").mkdir()
    (world.root / "policies" / "p.yaml").write_text(rules())
    world.write()
    run(world, "pin")
    run(world, "trust", "--yes")
    return world


def says(client: Any, text: str) -> str:
    """What a call comes to: the text again, or the refusal."""
    return text_of(client.call("echo", {"text": text}))


@each_bad
@pytest.mark.parametrize("command", [("check",), ("connect", "canary"), ("serve",)])
def test_at_the_start_nothing_is_served(
    pinned: World, spoil: Callable[[World], None], told: str, command: tuple[str, ...]
) -> None:
    before = len(pinned.received())
    spoil(pinned)
    done = pinned.gateway(*command)
    assert done.returncode == 2
    assert re.search(told, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert len(pinned.received()) == before


@each_bad
def test_while_running_the_set_before_stays_in_force(
    pinned: World, connect: Open, spoil: Callable[[World], None], told: str
) -> None:
    with connect(pinned) as client:
        client.open()
        spoil(pinned)
        pinned.wait_for(lambda: pinned.events("configuration.refused"))
        assert "only-hello" in says(client, "bye")
        assert says(client, "hello") == "hello"
        (pinned.root / "policies" / "p.yaml").write_text(rules())
        pinned.wait_for(lambda: pinned.events("configuration.restored"))
    [refused] = pinned.events("configuration.refused")
    assert re.search(told, refused["data"]["reason"])
    assert not pinned.events("configuration.reloaded")


@each_bad
def test_readyz_warns_until_the_files_are_mended(
    pinned: World, spoil: Callable[[World], None], told: str
) -> None:
    with pinned.serve() as served, HttpClient(served.url()) as client:

        def ready() -> dict[str, str]:
            answer = client.request("GET", f"{served.base}/readyz")
            assert answer.status_code == 200
            return dict(answer.json())

        assert ready() == {"status": "ready"}
        spoil(pinned)
        pinned.wait_for(lambda: "warning" in ready())
        assert re.search(told, ready()["warning"])
        assert ready()["status"] == "ready"
        assert re.search(told, "".join(served.stderr))
        (pinned.root / "policies" / "p.yaml").write_text(rules())
        pinned.wait_for(lambda: ready() == {"status": "ready"})


def test_a_pin_that_the_rules_do_not_fit_is_told_at_once(pinned: World) -> None:
    renamed = {**ECHO, "inputSchema": {"type": "object", "properties": {"texts": {}}}}
    pinned.script(tools=[renamed])
    done = pinned.gateway("pin", "--review", "--yes")
    assert done.returncode == 2
    assert "Pinned 1 tools in gateway.lock." in done.stdout
    assert "did you mean 'texts'?" in done.stderr
