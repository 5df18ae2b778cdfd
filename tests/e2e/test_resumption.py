"""A client over HTTP whose stream broke off comes back and misses nothing."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from tests.e2e.http import HttpClient
from tests.e2e.inbox import call, frame, initialize_params, request, text_of
from tests.e2e.world import ServedGateway, World

PRIMED = "2025-11-25"
ELICIT = {
    "method": "elicitation/create",
    "params": {"message": "?", "requestedSchema": {"type": "object", "properties": {}}},
}


class Event(NamedTuple):
    id: str
    data: str


class Broken:
    """What a response brought: the first `stop_after` events, or all of them.

    `opened` is called when its headers are there.
    """

    def __init__(
        self,
        client: HttpClient,
        method: str,
        body: bytes = b"",
        *,
        stop_after: int,
        opened: Callable[[], object] = lambda: None,
        **headers: str,
    ) -> None:
        self.events: list[Event] = []
        self.retry = ""
        self.ended = False
        fields = {"id": "", "data": ""}
        with (
            httpx.Client(timeout=10, trust_env=False) as http,
            http.stream(
                method, client.url, content=body, headers=client.headers(**headers)
            ) as response,
        ):
            assert response.status_code == 200
            self.type = response.headers["content-type"]
            opened()
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "retry":
                    self.retry = value
                elif line == "" and (fields["id"] or fields["data"]):
                    self.events.append(Event(**fields))
                    fields = {"id": "", "data": ""}
                    if len(self.events) == stop_after:
                        return
                elif name in fields:
                    fields[name] = value
        self.ended = True

    def messages(self) -> list[Any]:
        return [json.loads(event.data) for event in self.events if event.data]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("resumption"))
    world.canary()
    world.usual_agent()
    return world


@pytest.fixture(scope="module")
def served(shared: World) -> Iterator[ServedGateway]:
    with shared.serve() as running:
        yield running


@pytest.fixture
def client(served: ServedGateway) -> Iterator[HttpClient]:
    with HttpClient(served.url()) as client:
        client.open(PRIMED, elicitation={})
        yield client


def post(client: HttpClient, body: bytes, stop_after: int = 0, revision: str = PRIMED) -> Broken:
    return Broken(client, "POST", body, stop_after=stop_after, MCP_Protocol_Version=revision)


def resume(client: HttpClient, last_event_id: str, stop_after: int = 0) -> Broken:
    return Broken(client, "GET", stop_after=stop_after, Last_Event_ID=last_event_id)


def asking(identifier: str) -> bytes:
    return call(identifier, "ask", {"id": f"q-{identifier}", **ELICIT})


def answer_question(client: HttpClient, question: Any) -> None:
    reply = frame({"id": question["id"], "result": {"action": "accept", "content": {}}})
    assert client.post(reply).status_code == 202


def test_an_answer_that_comes_first_is_plain_json(client: HttpClient) -> None:
    client.call("echo")
    response = client.post(call(1, "echo", {"text": "x"}), MCP_Protocol_Version=PRIMED)
    assert response.headers["content-type"] == "application/json"
    assert text_of(response.json()) == "x"


def test_a_slow_answer_can_be_fetched_with_the_priming_event(client: HttpClient) -> None:
    client.call("echo")
    broken = post(client, call("slow", "stall", {"seconds": 1}), stop_after=1)
    assert broken.type == "text/event-stream"
    assert broken.retry == "1000"
    (primed,) = broken.events
    assert primed.id
    assert primed.data == ""
    again = resume(client, primed.id)
    assert [message["id"] for message in again.messages()] == ["slow"]
    assert again.ended
    time.sleep(0.1)
    late = resume(client, primed.id)  # it may get lost once more
    assert late.events == again.events
    assert resume(client, again.events[0].id).events == []


def test_what_a_call_brings_while_the_client_is_away_is_replayed(
    shared: World, client: HttpClient
) -> None:
    broken = post(client, asking("a"), stop_after=2)
    primed, asked = broken.events
    assert primed.data == ""
    answer_question(client, json.loads(asked.data))
    shared.wait_for(lambda: shared.records(kind="outcome")[-1]["status"] == "ok")
    again = resume(client, asked.id)
    assert [message["id"] for message in again.messages()] == ["a"]
    assert again.ended
    whole = resume(client, primed.id)
    assert [event.data for event in whole.events] == [asked.data, again.events[0].data]


def test_the_stream_goes_on_where_it_was_resumed(client: HttpClient) -> None:
    (_, asked) = post(client, asking("b"), stop_after=2).events
    (repeated,) = resume(client, f"{asked.id.partition('-')[0]}-0", stop_after=1).events
    assert repeated == asked
    client.send(call("h", "hang"))  # so that news belong to no single call, and not to this stream
    client.listen()
    http = httpx.Client(timeout=20, trust_env=False)
    with (
        http,
        http.stream("GET", client.url, headers=client.headers(Last_Event_ID=asked.id)) as response,
    ):
        make_news(client, "elsewhere")
        assert client.told("notifications/message")
        answer_question(client, json.loads(asked.data))
        data = [line for line in response.iter_lines() if line.startswith("data: ")]
    assert [json.loads(line[6:])["id"] for line in data] == ["b"]


def test_an_older_revision_has_ids_on_real_events_only(served: ServedGateway) -> None:
    with HttpClient(served.url()) as client:
        client.open("2025-06-18", elicitation={})
        slow = post(client, call("slow", "stall", {"seconds": 0.5}), revision="2025-06-18")
        assert slow.type == "application/json"
        (asked,) = post(client, asking("c"), stop_after=1, revision="2025-06-18").events
        assert asked.id
        assert asked.data
        answer_question(client, json.loads(asked.data))
        assert [message["id"] for message in resume(client, asked.id).messages()] == ["c"]


def make_news(client: HttpClient, *texts: str) -> None:
    """Have the upstream tell something after its answer, so that it belongs to no call."""
    done = b'{"jsonrpc":"2.0","id":@ID@,"result":{"content":[]}}\n'
    told = [
        frame({"method": "notifications/message", "params": {"level": "info", "data": text}})
        for text in texts
    ]
    lines = [done, *(line.rstrip() + b"\n" for line in told)]
    frames = [base64.b64encode(line).decode() for line in lines]
    assert client.post(call("news", "raw", {"frames": frames})).status_code == 200


def news(broken: Broken) -> list[object]:
    return [message["params"]["data"] for message in broken.messages()]


def test_news_missed_by_a_broken_get_stream_are_replayed(client: HttpClient) -> None:
    client.call("echo")
    seen = Broken(client, "GET", stop_after=1, opened=lambda: make_news(client, "a", "b", "c"))
    again = resume(client, seen.events[0].id, stop_after=2)
    assert (news(seen), news(again)) == (["a"], ["b", "c"])
    make_news(client, "while away")
    assert news(resume(client, again.events[1].id, stop_after=1)) == ["while away"]


@pytest.mark.parametrize("unknown", ["", "x", "77-1", "1-99", "0-0"])
def test_an_unknown_id_gets_a_fresh_stream(client: HttpClient, unknown: str) -> None:
    client.call("echo")
    post(client, call("slow", "stall", {"seconds": 0.5}))
    fresh = Broken(
        client,
        "GET",
        stop_after=1,
        opened=lambda: make_news(client, "new"),
        Last_Event_ID=unknown,
    )
    assert news(fresh) == ["new"]


def test_an_id_of_another_session_gets_nothing_of_it(
    served: ServedGateway, client: HttpClient
) -> None:
    client.call("echo")
    (primed,) = post(client, call("slow", "stall", {"seconds": 0.5}), stop_after=1).events
    with HttpClient(served.url()) as other:
        other.open(PRIMED)
        other.call("echo")
        fresh = Broken(
            other,
            "GET",
            stop_after=1,
            opened=lambda: make_news(other, "new"),
            Last_Event_ID=primed.id,
        )
        assert news(fresh) == ["new"]
    assert [message["id"] for message in resume(client, primed.id).messages()] == ["slow"]


def test_the_stateless_revision_has_no_ids(served: ServedGateway) -> None:
    client = HttpClient(served.url())
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": 1,
    }
    params = {"name": "progress", "arguments": {}, "_meta": meta}
    streamed = Broken(
        client,
        "POST",
        request(1, "tools/call", params),
        stop_after=0,
        MCP_Protocol_Version="2026-07-28",
        Mcp_Method="tools/call",
        Mcp_Name="progress",
    )
    assert len(streamed.events) > 1
    assert {event.id for event in streamed.events} == {""}
    assert streamed.retry == ""
    client.close()


def test_the_sdks_client_gets_its_answer_over_a_line_that_breaks(served: ServedGateway) -> None:
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    url = httpx.URL(served.url())
    cuts = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
                if b"retry: " in data and not cuts:
                    cuts.append(data)
                    await asyncio.sleep(0.05)
                    break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    lines: list[asyncio.Task[Any]] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(url.host, url.port)
        ways = (pump(reader, forth), pump(back, writer))
        lines.extend(asyncio.ensure_future(way) for way in ways)

    async def scenario() -> None:
        server = await asyncio.start_server(relay, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport = streamable_http_client(f"http://127.0.0.1:{port}{url.path}")
        async with Client(transport, mode="legacy") as client:
            answer = await client.call_tool("stall", {"seconds": 1})
            assert answer.content[0].text == "back"
        server.close()
        await asyncio.gather(*lines)

    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert len(cuts) == 1


def test_a_slow_start_still_gives_the_session_its_id(world: World) -> None:
    world.canary(start_delay_s=0.8)
    world.usual_agent()
    with world.serve() as served, HttpClient(served.url()) as client:
        opening = request(1, "initialize", initialize_params(PRIMED))
        response = client.post(opening, MCP_Protocol_Version=PRIMED)
        assert response.headers["content-type"] == "application/json"
        client.session = response.headers["mcp-session-id"]
        assert text_of(client.call("echo", {"text": "x"})) == "x"
