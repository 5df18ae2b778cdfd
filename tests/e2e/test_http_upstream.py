"""An upstream over HTTP: honest ones are carried, of hostile ones nothing gets through."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Open, over_stdio
from tests.e2e.inbox import text_of
from tests.e2e.stdio import StdioClient
from tests.e2e.world import World, until

GOOD = b'{"jsonrpc":"2.0","id":@ID@,"result":{"content":[{"type":"text","text":"good"}]}}'
EVIL = b'{"jsonrpc":"2.0","id":"ask-1","result":{"content":[{"type":"text","text":"evil"}]}}'
EVENTS = "text/event-stream"


def start_http_canary(world: World) -> subprocess.Popen[bytes]:
    """An HTTP canary in this world, ready to be called."""
    port_file = world.root / "canary.port"
    world.script("canary")
    env = {
        **world.env,
        "CANARY_LOG": str(world.root / "canary.received"),
        "CANARY_SCRIPT": str(world.root / "canary.script"),
        "CANARY_PORT": str(port_file),
    }
    process = subprocess.Popen([sys.executable, "-m", "tests.upstreams.canary_http"], env=env)
    until(port_file.exists)
    world.upstreams["canary"] = {"url": f"http://127.0.0.1:{port_file.read_text()}/mcp"}
    world.usual_agent()
    return process


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("http-upstream"))
    process = start_http_canary(world)
    yield world
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def running(shared: World) -> Iterator[StdioClient]:
    with over_stdio(shared) as client:
        client.open()
        yield client


@pytest.fixture
def client(running: StdioClient) -> StdioClient:
    running.forget()
    return running


def body(data: bytes, **more: object) -> dict[str, object]:
    return {"body": base64.b64encode(data).decode(), **more}


def events(*frames: bytes) -> bytes:
    return b"".join(b"data: " + frame + b"\n\n" for frame in frames)


def test_calls_pass_and_refusals_do_not(shared: World, connect: Open) -> None:
    before = len(shared.calls())
    with connect(shared) as client:
        client.open()
        assert text_of(client.call("echo", {"text": "x"})) == "x"
        assert client.call("hidden")["result"]["isError"] is True
        names = [tool["name"] for tool in client.ask("tools/list")["result"]["tools"]]
        assert "hidden" not in names
    assert [message["params"]["name"] for message in shared.calls()[before:]] == ["echo"]


@pytest.mark.parametrize("media_type", ["application/json", EVENTS])
def test_an_honest_answer_passes(client: StdioClient, media_type: str) -> None:
    data = GOOD if media_type != EVENTS else events(GOOD)
    assert text_of(client.call("raw", body(data, type=media_type))) == "good"


def test_a_frame_behind_a_line_break_between_tokens_stays_inside(client: StdioClient) -> None:
    hidden = GOOD.replace(b'"content":', b'"content":\n\r\n')
    answer = client.call("raw", body(hidden))
    assert text_of(answer) == "good"
    spread = b'{"jsonrpc":"2.0","id":@ID@,"result":{"content":[],"x":\n' + EVIL + b"\n}}"
    assert client.call("raw", body(spread))["result"]["x"]["id"] == "ask-1"
    assert len(client.lines) == 2
    assert not any(line.startswith(EVIL[:30]) for line in client.lines)


HOSTILE = {
    "second frame": GOOD + b"\n" + EVIL,
    "second frame first": EVIL + b"\n" + GOOD,
    "result twice": GOOD.replace(b'"result"', b'"result":{},"result"'),
    "Result beside result": GOOD[:-1] + b',"Result":{"content":[]}}',
    "escaped member": GOOD.replace(b'"result"', b'"\\u0072esult"'),
    "id twice": GOOD.replace(b'"id":@ID@', b'"id":@ID@,"id":@ID@'),
    "invalid utf-8": GOOD.replace(b"good", b"\xff\xfe"),
    "overlong utf-8": GOOD.replace(b"good", b"\xc0\xaf"),
    "utf-16": GOOD.decode().encode("utf-16"),
    "byte-order mark": b"\xef\xbb\xbf" + GOOD,
    "too deep": GOOD.replace(b"[", b"[" * 5000).replace(b"]", b"]" * 5000),
    "unknown member": GOOD[:-1] + b',"extra":1}',
    "no json": b"<html>evil</html>",
    "batch": b"[" + GOOD + b"]",
    "nothing": b" ",
}


@pytest.mark.parametrize("media_type", ["application/json", EVENTS])
@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_hostile_gets_through(
    shared: World, client: StdioClient, kind: str, media_type: str
) -> None:
    data = HOSTILE[kind]
    if media_type == EVENTS:
        data = b"".join(b"data: " + line + b"\n" for line in data.split(b"\n")) + b"\n"
    before = len(shared.records(kind="event"))
    answer = client.call("raw", body(data, type=media_type))
    assert "'canary'" in answer["error"]["message"]
    assert len(client.lines) == 1
    assert b"evil" not in client.lines[0]
    told = [record["event"] for record in shared.records(kind="event")[before:]]
    assert told or kind in ("nothing", "no json", "utf-16")
    (decision,) = shared.decisions()[-1:]
    shared.wait_for(lambda: shared.records(kind="outcome", call=decision["call"]))
    (outcome,) = shared.records(kind="outcome", call=decision["call"])
    assert outcome["status"] == "upstream_lost"
    assert text_of(client.call("echo", {"text": "alive"})) == "alive"


@pytest.mark.parametrize(
    ("more", "data"),
    [
        ({"status": 500}, b"secret stack trace"),
        ({"status": 401}, b""),
        ({"type": "text/html"}, GOOD),
        ({"status": 202}, b""),
        ({"type": EVENTS}, events(b'{"jsonrpc":"2.0","method":"notifications/message"}')),
        ({"cut": True}, GOOD[:20]),
    ],
    ids=["500", "401", "html", "202", "stream-without-answer", "cut"],
)
def test_a_request_that_fails_is_told_at_once(
    client: StdioClient, more: dict[str, object], data: bytes
) -> None:
    answer = client.call("raw", body(data, **more))
    assert "'canary'" in answer["error"]["message"]
    assert "secret" not in json.dumps(answer)
    assert text_of(client.call("echo", {"text": "alive"})) == "alive"


def test_answers_to_others_in_ones_stream_are_dropped(shared: World, client: StdioClient) -> None:
    stray = [
        b'{"jsonrpc":"2.0","id":99999,"result":{}}',
        b'{"jsonrpc":"2.0","id":"x","result":{}}',
        GOOD,
        GOOD.replace(b"good", b"evil"),
    ]
    before = len(shared.events("frame.orphan"))
    assert text_of(client.call("raw", body(events(*stray), type=EVENTS))) == "good"
    assert text_of(client.call("echo", {"text": "x"})) == "x"
    assert not any(b"evil" in line for line in client.lines)
    assert len(shared.events("frame.orphan")) >= before + 2


def test_one_that_is_not_there_ends_connect_with_its_name(world: World) -> None:
    world.upstreams["canary"] = {"url": "http://127.0.0.1:9/mcp"}
    world.usual_agent()
    with world.connect() as client:
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        assert "'canary'" in client.ask("initialize", params)["error"]["message"]
        assert client.close() == 2
        assert "canary" in client.stderr
        assert "Traceback" not in client.stderr
