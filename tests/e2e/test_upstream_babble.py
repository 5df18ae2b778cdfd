"""Upstreams that babble: noise, answers to nothing, unusable frames, hostile listings."""

import base64
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.inbox import request, text_of
from tests.e2e.stdio import StdioClient
from tests.e2e.world import World

DONE = b'{"jsonrpc":"2.0","id":@ID@,"result":{"content":[{"type":"text","text":"done"}]}}'


def raw(*frames: bytes, end: bytes = b"\n") -> dict[str, object]:
    """Arguments that make the canary write these frames."""
    return {"frames": [base64.b64encode(one + end).decode() for one in frames]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("babble"))
    noise = b"Debugger listening\n\x1b[0m\n\n[x\n"
    world.canary(before=base64.b64encode(noise).decode(), entry={"max_result_bytes": 65536})
    world.usual_agent()
    return world


@pytest.fixture(scope="module")
def running(shared: World) -> Iterator[StdioClient]:
    with shared.connect() as client:
        client.open()
        yield client


@pytest.fixture
def client(running: StdioClient) -> StdioClient:
    running.forget()
    return running


def test_noise_never_reaches_the_client(shared: World, client: StdioClient) -> None:
    assert text_of(client.call("noise")) == "noisy"
    assert len(client.lines) == 1
    assert len(shared.events("upstream.noise")) == 1


@pytest.mark.parametrize(
    "stray",
    [
        b'{"jsonrpc":"2.0","id":99999,"result":{}}',
        b'{"jsonrpc":"2.0","id":"1","result":{}}',
        b'{"jsonrpc":"2.0","id":-1,"result":{}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}',
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
        b'{"jsonrpc":"2.0","id":0,"result":{}}',
    ],
    ids=["unknown", "text", "negative", "null", "late", "zero"],
)
def test_answers_that_match_nothing_are_dropped(
    shared: World, client: StdioClient, stray: bytes
) -> None:
    before = len(shared.events("frame.orphan"))
    assert text_of(client.call("raw", raw(stray, DONE))) == "done"
    assert len(client.lines) == 1
    assert len(shared.events("frame.orphan")) == before + 1


def test_a_second_answer_is_dropped(shared: World, client: StdioClient) -> None:
    before = len(shared.events("frame.orphan"))
    assert text_of(client.call("raw", raw(DONE, DONE.replace(b"done", b"evil")))) == "done"
    assert text_of(client.call("echo", {"text": "x"})) == "x"
    assert not any(b"evil" in line for line in client.lines)
    assert len(shared.events("frame.orphan")) == before + 1


@pytest.mark.parametrize(
    "broken",
    [
        b'{"jsonrpc":"2.0","id":@ID@,"result":{"x":"' + b"a" * 70_000 + b'"}}',
        b'{"jsonrpc":"2.0","result":{"x":"' + b"a" * 70_000 + b'"},"id":@ID@}',
        b'{"jsonrpc":"2.0","id":@ID@,"result":{"x":"\xff"}}',
        b'{"jsonrpc":"2.0","id":@ID@,"result":{},"Result":{}}',
        b'{"jsonrpc":"2.0","id":@ID@,"result":{},"result":{}}',
        b'{"jsonrpc":"2.0","id":@ID@,"result":{},"error":{}}',
        b'{"jsonrpc":"2.0","id":@ID@,"result":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"jsonrpc":"2.0","id":@ID@,"result":{"a":1}',
        b'[{"jsonrpc":"2.0","id":@ID@,"result":{}}]',
    ],
    ids=["oversized", "id-last", "utf8", "case", "twice", "both", "deep", "cut", "batch"],
)
def test_an_unusable_answer_fails_its_call_at_once(
    shared: World, client: StdioClient, broken: bytes
) -> None:
    before = len(shared.events("frame.refused"))
    answer = client.call("raw", raw(broken))
    assert answer["error"]["code"] == 502
    assert "'canary'" in answer["error"]["message"]
    assert text_of(client.call("echo", {"text": "x"})) == "x"
    assert len(client.lines) == 2
    assert len(shared.events("frame.refused")) == before + 1


def test_no_depth_of_nesting_ends_the_gateway(client: StdioClient) -> None:
    for levels in range(900, 1010, 2):
        deep = b"[" * levels + b"]" * levels
        for body in (b'"result":{"isError":%b}' % deep, b'"error":{"code":%b}' % deep):
            arguments = raw(b'{"jsonrpc":"2.0","id":@ID@,' + body + b"}")
            identifier = f"{levels}-{body[1:2].decode()}"
            params = {"name": "raw", "arguments": arguments}
            client.send(request(identifier, "tools/call", params))
            client.first_line(_containing(identifier.encode()))
    client.forget()
    assert text_of(client.call("echo", {"text": "x"})) == "x"


def _containing(text: bytes) -> Callable[[bytes], bool]:
    return lambda line: text in line


def test_a_lone_surrogate_is_mended(client: StdioClient) -> None:
    cut = DONE.replace(b"done", rb"cut \ud83d off, \ud83d\ude00 whole")
    assert text_of(client.call("raw", raw(cut))) == "cut \ufffd off, \U0001f600 whole"


def test_no_line_break_reaches_the_client(client: StdioClient) -> None:
    broken = b'{"jsonrpc":"2.0",\r"id":@ID@,"result":{"content":\r[{"type":"text","text":"a"}]}}'
    assert text_of(client.call("raw", raw(broken, end=b"\r\n"))) == "a"
    assert not any(b"\r" in line for line in client.lines)


def test_requests_before_its_time_are_dropped(world: World) -> None:
    early = b'{"jsonrpc":"2.0","id":1,"method":"roots/list"}\n'
    world.canary(before=base64.b64encode(early).decode())
    world.usual_agent()
    with world.connect() as client:
        client.open(roots={})
        assert text_of(client.call("echo", {"text": "x"})) == "x"
        assert all("method" not in message for message in client.messages)
    assert len(world.events("frame.early")) == 1


def test_batches_of_an_upstream_pass_where_its_revision_has_them(world: World) -> None:
    world.canary(protocol="2025-03-26")
    world.usual_agent()
    news = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}'
    nested = b"[" * 900 + b"]" * 900
    with world.connect() as client:
        client.open()
        answer = client.call("raw", raw(b"[" + news + b"," + nested + b"," + DONE + b"]"))
        assert text_of(answer) == "done"
        assert client.told("notifications/message")
        assert text_of(client.call("raw", raw(nested, DONE))) == "done"
    assert len(world.events("frame.refused")) == 2


def test_hostile_listings(world: World) -> None:
    tools = [
        *({"name": name, "inputSchema": {}} for name in ("echo", "echo", "add", "a b", "a_b")),
        {"name": "hang\u202e", "inputSchema": {}},
        {"name": "\u0435cho", "inputSchema": {}},
        {"name": 7},
        {"no": "name"},
        "text",
        None,
        {"name": "raw", "inputSchema": {}, "description": "\x1b[31m"},
    ]
    world.canary(tools=tools, pages=3)
    world.agent("tester", ["mcp__canary"])
    with world.connect() as client:
        client.open()
        listing = client.ask("tools/list")["result"]
        assert [tool["name"] for tool in listing["tools"]] == ["add", "raw"]
        assert "nextCursor" not in listing
        for name in ("echo", "a b", "a_b", "hang\u202e", "\u0435cho", ""):
            assert client.call(name)["result"]["isError"] is True
    assert world.calls() == []
    assert {record["decision"] for record in world.decisions()} == {"deny"}


@pytest.mark.parametrize(
    "listing",
    [
        b'{"tools":[],"nextCursor":"0"}',
        b'{"tools":[],"nextCursor":7}',
        b'{"tools":{}}',
        b"[]",
        b'{"tools":[' + b"[" * 500 + b"]" * 500 + b"]}",
    ],
    ids=["endless", "cursor", "object", "list", "deep"],
)
def test_an_unusable_listing_fails_and_the_session_goes_on(world: World, listing: bytes) -> None:
    world.canary(listing=listing.decode())
    world.usual_agent()
    with world.connect() as client:
        client.open()
        assert "'canary'" in client.ask("tools/list")["error"]["message"]
        assert "'canary'" in client.call("echo")["error"]["message"]
        assert client.ask("ping")["result"] == {}
    assert world.calls() == []
