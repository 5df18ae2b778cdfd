"""An upstream that still speaks HTTP+SSE, behind either transport of the gateway's own."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Open
from tests.e2e.inbox import call, request, text_of
from tests.e2e.world import World, until


def start(world: World) -> subprocess.Popen[bytes]:
    port_file = world.root / "canary.port"
    port_file.unlink(missing_ok=True)
    env = {**world.env, "CANARY_PORT": str(port_file)}
    process = subprocess.Popen([sys.executable, "-m", "tests.upstreams.sse_server"], env=env)
    until(port_file.exists)
    world.upstreams["canary"] = {
        "type": "sse",
        "url": f"http://127.0.0.1:{port_file.read_text()}/sse",
    }
    world.usual_agent()
    return process


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("sse-upstream"))
    process = start(world)
    yield world
    process.kill()
    process.wait(10)


def test_calls_pass_and_refusals_do_not(shared: World, connect: Open) -> None:
    with connect(shared) as client:
        client.open()
        names = [tool["name"] for tool in client.ask("tools/list")["result"]["tools"]]
        assert "echo" in names
        assert "hidden" not in names
        for number in range(20):
            assert text_of(client.call("echo", {"text": str(number)})) == str(number)
        assert client.call("hidden")["result"]["isError"] is True
        params = {"name": "progress", "arguments": {}, "_meta": {"progressToken": "p"}}
        client.send(request("with-progress", "tools/call", params))
        assert client.told("notifications/progress")["params"]["progressToken"] == "p"


def test_the_end_of_its_stream_ends_its_calls_and_the_next_one_starts_anew(
    world: World, connect: Open
) -> None:
    process = start(world)
    with connect(world) as client:
        client.open()
        assert text_of(client.call("echo", {"text": "x"})) == "x"
        client.send(call("h", "hang"))
        world.wait_for(lambda: world.decisions()[-1]["name"] == "hang")
        process.kill()
        process.wait(10)
        answer = client.answer("h")
        assert "'canary'" in answer["error"]["message"]


def test_an_http_entry_for_it_is_told_the_right_type(world: World, connect: Open) -> None:
    process = start(world)
    world.upstreams["canary"]["type"] = "http"
    with connect(world) as client:
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        answer = client.ask("initialize", params)
        assert "type: sse" in answer["error"]["message"]
    process.kill()
    process.wait(10)
