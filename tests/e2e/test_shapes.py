"""Messages of a shape that has no place: refused, recorded once, nothing upstream."""

import itertools
import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.http import HttpClient
from tests.e2e.inbox import Inbox, call, frame, request
from tests.e2e.stdio import StdioClient
from tests.e2e.world import World

ECHO = b'"method":"tools/call","params":{"name":"echo","arguments":{}}'
SHAPES = {
    "not json": b"{nonsense",
    "empty object": b"{}",
    "text": b'"tools/call"',
    "byte-order mark": b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,' + ECHO + b"}",
    "invalid utf-8": b'{"jsonrpc":"2.0","id":1,' + ECHO[:-2] + b',"x":"\xff"}}',
    "lone surrogate": b'{"jsonrpc":"2.0","id":1,' + ECHO[:-2] + b',"x":"\\ud800"}}',
    "no version": b'{"id":1,' + ECHO + b"}",
    "version 1.0": b'{"jsonrpc":"1.0","id":1,' + ECHO + b"}",
    "call without id": b'{"jsonrpc":"2.0",' + ECHO + b"}",
    "id null": b'{"jsonrpc":"2.0","id":null,' + ECHO + b"}",
    "id true": b'{"jsonrpc":"2.0","id":true,' + ECHO + b"}",
    "id fraction": b'{"jsonrpc":"2.0","id":1.5,' + ECHO + b"}",
    "id object": b'{"jsonrpc":"2.0","id":{},' + ECHO + b"}",
    "id twice": b'{"jsonrpc":"2.0","id":1,"id":1,' + ECHO + b"}",
    "method twice": b'{"jsonrpc":"2.0","id":1,"method":"ping",' + ECHO + b"}",
    "params twice": b'{"jsonrpc":"2.0","id":1,' + ECHO + b',"params":{"name":"hidden"}}',
    "params as list": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["echo"]}',
    "name twice": b'{"jsonrpc":"2.0","id":1,"method":"tools/call",'
    b'"params":{"name":"echo","name":"hidden"}}',
    "argument twice": b'{"jsonrpc":"2.0","id":1,"method":"tools/call",'
    b'"params":{"name":"echo","arguments":{"a":{"b":[{"c":1,"c":2}]}}}}',
    "argument twice, escaped": b'{"jsonrpc":"2.0","id":1,"method":"tools/call",'
    b'"params":{"name":"echo","arguments":{"a":1,"\\u0061":2}}}',
    "meta twice": b'{"jsonrpc":"2.0","id":1,"method":"tools/call",'
    b'"params":{"name":"echo","_meta":{"k":1,"k":2}}}',
    "Method": b'{"jsonrpc":"2.0","id":1,"Method":"tools/call","params":{"name":"echo"}}',
    "METHOD beside method": b'{"jsonrpc":"2.0","id":1,"method":"ping","METHOD":"tools/call"}',
    "escaped member": b'{"jsonrpc":"2.0","id":1,"m\\u0065thod":"tools/call",'
    b'"params":{"name":"echo"}}',
    "long s in params": '{"jsonrpc":"2.0","id":1,"method":"ping","param\u017f":{}}'.encode(),
    "Name beside name": b'{"jsonrpc":"2.0","id":1,"method":"tools/call",'
    b'"params":{"name":"echo","Name":"hidden"}}',
    "Kelvin sign": '{"jsonrpc":"2.0","id":1,"method":"tasks/get",'
    '"params":{"taskId":"a","tas\u212aId":"b"}}'.encode(),
    "unknown member": b'{"jsonrpc":"2.0","id":1,"extra":1,' + ECHO + b"}",
    "request and response": b'{"jsonrpc":"2.0","id":1,"result":{},' + ECHO + b"}",
    "orphan result": b'{"jsonrpc":"2.0","id":1,"result":{}}',
    "orphan error": b'{"jsonrpc":"2.0","id":"x","error":{"code":1,"message":""}}',
    "too deep": b'{"jsonrpc":"2.0","id":1,"method":"tools/call",'
    b'"params":{"name":"echo","arguments":{"a":' + b"[" * 100 + b"]" * 100 + b"}}}",
    "far too deep": b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "batch": b'[{"jsonrpc":"2.0","id":1,' + ECHO + b"}]",
    "empty batch": b"[]",
    "nested batch": b'[[{"jsonrpc":"2.0","id":1,' + ECHO + b"}]]",
    "notification with id": b'{"jsonrpc":"2.0","id":1,"method":"notifications/initialized"}',
    "unknown notification": b'{"jsonrpc":"2.0","method":"notifications/tools/call"}',
    "name not text": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["echo"]}}',
    "no name": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{}}}',
    "arguments as list": b'{"jsonrpc":"2.0","id":1,"method":"tools/call",'
    b'"params":{"name":"echo","arguments":[1]}}',
    "arguments null": b'{"jsonrpc":"2.0","id":1,"method":"tools/call",'
    b'"params":{"name":"echo","arguments":null}}',
    "initialize again": b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{'
    b'"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}',
    "number out of range": b'{"jsonrpc":"2.0","id":1,"method":"tools/call",'
    b'"params":{"name":"echo","arguments":{"n":1e999}}}',
}
_ids = itertools.count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("shapes"))
    world.canary()
    world.usual_agent()
    return world


@pytest.fixture(scope="module")
def stdio(shared: World) -> Iterator[StdioClient]:
    with shared.connect() as client:
        client.open()
        client.call("echo")
        yield client


@pytest.fixture(scope="module")
def http(shared: World) -> Iterator[HttpClient]:
    with shared.serve() as served, HttpClient(served.url()) as client:
        client.open()
        client.call("echo")
        yield client


@pytest.mark.parametrize("shape", SHAPES)
def test_over_stdio(shared: World, stdio: StdioClient, shape: str) -> None:
    received, decided = shared.received(), len(shared.decisions())
    stdio.forget()
    stdio.send(SHAPES[shape])
    # A refusal waits for its record, which is written with all else of its turn: ask twice.
    assert stdio.ask("ping")["result"] == {}
    assert stdio.ask("ping")["result"] == {}
    (record,) = shared.decisions()[decided:]
    assert record["decision"] == "deny"
    assert record["reason"]
    assert shared.received() == received
    refusals = [message for message in stdio.messages if "error" in message]
    assert len(refusals) <= 1
    assert len(stdio.messages) == len(refusals) + 2


@pytest.mark.parametrize("shape", SHAPES)
def test_over_http(shared: World, http: HttpClient, shape: str) -> None:
    received, decided = shared.received(), len(shared.decisions())
    response = http.post(SHAPES[shape])
    (record,) = shared.decisions()[decided:]
    assert record["decision"] == "deny"
    assert shared.received() == received
    if response.content:
        assert response.status_code == 400
        assert json.loads(response.content)["error"]
    else:
        assert (response.status_code, record["method"]) == (202, "notifications/tools/call")


def test_an_id_under_way_cannot_be_used_again(shared: World, stdio: StdioClient) -> None:
    before = len(shared.calls())
    stdio.send(call(7, "hang"), call(7, "echo"), call("7", "echo"))
    assert stdio.answer("7")["result"]
    assert "under way" in stdio.answer(7)["error"]["message"]
    assert [message["params"]["name"] for message in shared.calls()[before:]] == ["hang", "echo"]
    stdio.send(frame({"method": "notifications/cancelled", "params": {"requestId": 7}}))
    assert stdio.ask("ping")["result"] == {}


MUTATIONS = st.sampled_from(
    ["E", "\u0435", "\uff45", "\u200b", "\u202e", "\u0301", " ", "\t", "_", "-", ".", "/", "\x00"]
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 4), st.integers(0, 1), MUTATIONS | st.characters(codec="utf-8"))
def test_only_the_exact_name_passes(
    shared: World, stdio: StdioClient, where: int, cut: int, put: str
) -> None:
    name = "echo"[:where] + put + "echo"[where + cut :]
    before = len(shared.calls())
    answer = stdio.call(name)
    if name == "echo":
        assert "isError" not in answer["result"]
        assert len(shared.calls()) == before + 1
    else:
        assert answer["result"]["isError"] is True
        assert len(shared.calls()) == before


class TestBatch:
    """2025-03-26 has batches: each member is a message like any other."""

    @pytest.fixture
    def batching(self, shared: World) -> Iterator[Inbox]:
        with shared.connect() as client:
            client.open("2025-03-26")
            client.call("echo")
            yield client

    def test_each_member_is_decided(self, shared: World, batching: Inbox) -> None:
        before, decided = len(shared.calls()), len(shared.decisions())
        members = [
            call(1, "echo", {"text": "a"}),
            call(2, "hidden"),
            frame({"method": "tools/call", "params": {"name": "echo"}}),
            request(3, "ping"),
            b"[" + call(4, "echo") + b"]",
            b"7",
        ]
        batching.send(b"[" + b",".join(members) + b"]")
        assert batching.answer(1)["result"]["structuredContent"] == {"text": "a"}
        assert batching.answer(2)["result"]["isError"] is True
        assert batching.answer(3)["result"] == {}
        decisions = shared.decisions()[decided:]
        assert sorted(record["decision"] for record in decisions) == ["allow", *4 * ["deny"]]
        assert len(shared.calls()) == before + 1
        assert batching.answers(4) == []

    @pytest.mark.parametrize("batch", [b"[]", b"[1", b"[" + b"1," * 50 + b"1]"])
    def test_empty_broken_and_endless_ones_are_refused_whole(
        self, shared: World, batching: Inbox, batch: bytes
    ) -> None:
        decided = len(shared.decisions())
        batching.send(batch)
        assert batching.ask("ping")["result"] == {}
        (record,) = shared.decisions()[decided:]
        assert record["decision"] == "deny"

    def test_over_http_all_answers_come_in_one_response(self, shared: World) -> None:
        with shared.serve() as served, HttpClient(served.url()) as client:
            client.open("2025-03-26")
            before = len(shared.calls())
            client.send(b"[" + call(1, "echo") + b"," + call(2, "hidden") + b"]")
            assert client.answer(1)["result"]
            assert client.answer(2)["result"]["isError"] is True
            alone = client.post(
                b"[" + call(3, "echo") + b"," + call(4, "hidden") + b"]", Accept="application/json"
            )
            assert {answer["id"] for answer in alone.json()} == {3, 4}
            assert len(shared.calls()) == before + 2


def test_before_initialize_nothing_but_ping_is_answered(shared: World) -> None:
    with shared.connect() as client:
        received = shared.received()
        assert client.ask("ping")["result"] == {}
        assert "initialize" in client.call("echo")["error"]["message"]
        assert "initialize" in client.ask("tools/list")["error"]["message"]
        client.send(b"[" + call(1, "echo") + b"]")
        assert client.ask("ping")["result"] == {}
        assert shared.received() == received
        client.open()
        assert client.call("echo")["result"]


def test_too_large_a_message_is_refused_and_the_session_goes_on(world: World) -> None:
    world.canary()
    world.usual_agent()
    world.settings["limits"] = {"max_message_bytes": 65536}
    with world.connect() as client:
        client.open()
        client.send(call(1, "echo", {"text": "x" * 70_000}))
        refused = client.first(lambda message: "error" in message)
        assert "65536" in refused["error"]["message"]
        assert client.call("echo", {"text": "x" * 60_000})["result"]
    with world.serve() as served, HttpClient(served.url()) as http_client:
        http_client.open()
        response = http_client.post(call(1, "echo", {"text": "x" * 5_000_000}))
        assert response.status_code == 400
        assert "65536" in response.json()["error"]["message"]
        assert http_client.call("echo", {"text": "x"})["result"]
    assert [record["decision"] for record in world.decisions()] == 2 * ["deny", "allow"]
    assert len(world.calls()) == 2
