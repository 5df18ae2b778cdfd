"""An upstream behind HTTP+SSE, honest and hostile."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator

import pytest
from http_support import listening, read_body, read_request, respond, serving
from upstream_support import Recorder, until

from gateway.transports import sse_upstream
from gateway.transports.http_upstream import HttpSpec
from gateway.transports.sse_upstream import SseUpstream
from gateway.transports.upstream import UpstreamUnavailable
from gateway.wire.sse import event

SECRET = "Bearer s3cr3t-value"
CALL = b'{"id":1,"method":"tools/call"}'
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{}}'
NOTE = b'{"jsonrpc":"2.0","method":"notifications/message"}'


def endpoint(url: str) -> bytes:
    return b"event: endpoint\ndata: " + url.encode() + b"\n\n"


class Server:
    """A raw server: one stream that the test writes to, and what was POSTed."""

    def __init__(self, *first: bytes, post_status: int = 202) -> None:
        self.first = first or (endpoint("/messages?id=7"),)
        self.post_status = post_status
        self.gets: list[dict[str, str]] = []
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self.accept = threading.Event()
        self.accept.set()
        self.gone = threading.Event()
        self._write: Callable[[bytes | None], None] = lambda _: None

    def write(self, chunk: bytes | None) -> None:
        """Write to the stream; None ends it."""
        self._write(chunk)

    async def __call__(self, scope, receive, send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if scope["method"] == "GET":
            self.gets.append(headers)
            await self._stream(receive, send)
            return
        body = await read_body(receive)
        target = scope["path"] + "?" + scope["query_string"].decode()
        self.posts.append((target, headers, body))
        await until(self.accept.is_set)
        await respond(send, self.post_status, b"Accepted", "text/plain")

    async def _stream(self, receive, send) -> None:
        loop, queue = asyncio.get_running_loop(), asyncio.Queue()
        self._write = lambda chunk: loop.call_soon_threadsafe(queue.put_nowait, chunk)
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-type", b"text/event-stream; charset=utf-8")]})
        for chunk in self.first:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        asyncio.get_running_loop().create_task(self._wait_gone(receive, queue))
        while (chunk := await queue.get()) is not None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _wait_gone(self, receive, queue) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.set()
        queue.put_nowait(None)


def exchange(run, server, scenario: Callable, limit: int = 1 << 20) -> Recorder:
    """Connect to a server, run the scenario, disconnect."""
    events = Recorder()

    async def whole(port: int) -> None:
        headers = {"Authorization": SECRET, "Accept": "text/html"}
        spec = HttpSpec("up", f"http://127.0.0.1:{port}/sse?key=1", headers, limit)
        upstream = SseUpstream(spec, events)
        await upstream.start()
        try:
            await scenario(upstream, events)
        finally:
            await upstream.stop(1.0)
            await upstream.stop(1.0)
        assert len(asyncio.all_tasks()) == 1
        upstream.send(b"{}", 99)  # after the end: nothing happens
        assert len(events.closings) == 1

    with serving(server) as port:
        run(whole(port))
    return events


def refusal(run, server) -> str:
    """Why a server is not taken."""
    events = Recorder()

    async def whole(port: int) -> str:
        headers = {"Authorization": SECRET}
        spec = HttpSpec("up", f"http://127.0.0.1:{port}/sse?key=1", headers, 1000)
        upstream = SseUpstream(spec, events)
        with pytest.raises(UpstreamUnavailable) as caught:
            await upstream.start()
        assert len(asyncio.all_tasks()) == 1
        upstream.send(b"{}", 1)
        return caught.value.reason

    with serving(server) as port:
        reason = run(whole(port))
    assert events.closings == []
    assert "s3cr3t" not in reason
    assert "key=1" not in reason
    return reason


async def one_call(upstream: SseUpstream, events: Recorder) -> None:
    upstream.send(CALL, 1)
    await until(lambda: 1 in events.answered)


def test_a_message_is_posted_where_the_stream_says_and_answered_on_the_stream(run) -> None:
    server = Server()

    async def scenario(upstream: SseUpstream, events: Recorder) -> None:
        upstream.send(CALL, 1)
        await until(lambda: server.posts)
        whole = b": ping\n\n" + event(NOTE, "4") + b"event: message\ndata: " + ANSWER + b"\n\n"
        for byte in whole:
            server.write(bytes([byte]))
        await until(lambda: len(events.frames) == 2)

    events = exchange(run, server, scenario)
    assert events.frames == [(NOTE, None), (ANSWER, None)]
    assert (events.failed, events.noises) == ([], [])
    assert events.closings == [("was disconnected", "")]
    ((target, headers, body),) = server.posts
    assert (target, body) == ("/messages?id=7", CALL)
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == SECRET
    (headers,) = server.gets
    assert headers["accept"] == "text/event-stream"
    assert headers["authorization"] == SECRET
    assert server.gone.wait(5)


@pytest.mark.parametrize("named", ["messages", "./messages", "http://127.0.0.1:{port}/messages"])
def test_an_endpoint_may_be_relative_or_whole(run, named: str) -> None:
    class Naming(Server):
        async def __call__(self, scope, receive, send) -> None:
            self.first = (endpoint(named.format(port=scope["server"][1])),)
            await super().__call__(scope, receive, send)

    server = Naming()

    async def scenario(upstream: SseUpstream, events: Recorder) -> None:
        upstream.send(CALL, 1)
        await until(lambda: server.posts)

    exchange(run, server, scenario)
    assert server.posts[0][0] == "/messages?"


@pytest.mark.parametrize(
    "named",
    [
        "http://127.0.0.1:9/messages",
        "https://127.0.0.1/messages",
        "//evil.example/messages",
        "http://evil.example/",
        "http://127.0.0.1@evil.example/",
        "http://user@127.0.0.1/",
        "http://[/",
        "javascript:alert(1)",
        "/mess ages",
        "/messäges",
        "",
        "/" + "x" * 5000,
    ],
)
def test_an_endpoint_of_another_origin_is_refused(run, named: str) -> None:
    server = Server(endpoint(named))
    reason = refusal(run, server)
    assert "'up' cannot be reached: its event stream named an endpoint" in reason or (
        "larger" in reason and len(named) > 1000
    )
    assert server.posts == []


def test_the_endpoint_does_not_change_afterwards(run) -> None:
    server = Server(endpoint("/messages"), endpoint("http://evil.example/"), endpoint("/other"))

    async def scenario(upstream: SseUpstream, events: Recorder) -> None:
        await until(lambda: len(events.noises) == 2)
        upstream.send(CALL, 1)
        await until(lambda: server.posts)

    exchange(run, server, scenario)
    assert server.posts[0][0] == "/messages?"


@pytest.mark.parametrize(
    ("status", "content_type", "words"),
    [
        (404, "text/plain", "the server answered HTTP 404 Not Found"),
        (302, "text/event-stream", "redirects are not followed"),
        (200, "application/json", "without an event stream"),
    ],
)
def test_what_is_no_event_stream_is_refused(
    run, status: int, content_type: str, words: str
) -> None:
    async def app(scope, receive, send) -> None:
        await respond(send, status, b"{}", content_type)

    assert words in refusal(run, app)


def test_a_stream_that_ends_or_overflows_before_it_names_an_endpoint_is_refused(run) -> None:
    class Ending(Server):
        async def _stream(self, receive, send) -> None:
            await respond(send, 200, b"".join(self.first), "text/event-stream")

    assert "ended its event stream" in refusal(run, Ending(event(NOTE)))
    assert "ended its event stream" in refusal(run, Ending(endpoint("/messages")))
    assert "larger than 1000 bytes" in refusal(run, Server(b"data: " + b"x" * 5000))


def test_a_stream_that_names_no_endpoint_is_not_waited_for_long(run, monkeypatch) -> None:
    monkeypatch.setattr(sse_upstream, "_ENDPOINT_S", 0.1)
    server = Server(b": hello\n\n", event(NOTE))
    assert "named no endpoint within 0.1 s" in refusal(run, server)
    assert server.gone.wait(5)


def test_nobody_there_is_said_so(run) -> None:
    with listening() as port:
        pass

    async def scenario() -> None:
        spec = HttpSpec("up", f"http://127.0.0.1:{port}/sse", {}, 1000)
        with pytest.raises(UpstreamUnavailable, match="connection refused"):
            await SseUpstream(spec, Recorder()).start()

    run(scenario())


def test_a_start_that_is_given_up_leaves_nothing(run) -> None:
    server = Server(b": hello\n\n")

    async def scenario(port: int) -> None:
        upstream = SseUpstream(HttpSpec("up", f"http://127.0.0.1:{port}/", {}, 9), Recorder())
        starting = asyncio.create_task(upstream.start())
        await until(lambda: server.gets)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert len(asyncio.all_tasks()) == 1

    with serving(server) as port:
        run(scenario(port))


@pytest.mark.parametrize("broken", [None, b"data: " + b"x" * 2000, event(b"x" * 1001)])
def test_the_end_of_the_stream_is_the_end_of_the_connection(run, broken: bytes | None) -> None:
    server = Server()

    async def scenario(upstream: SseUpstream, events: Recorder) -> None:
        upstream.send(CALL, 1)
        await until(lambda: server.posts)
        server.write(broken)
        await until(lambda: events.closings)
        upstream.send(CALL, 2)

    events = exchange(run, server, scenario, limit=1000)
    words = "ended its event stream" if broken is None else "sent a message larger than 1000 bytes"
    assert events.closings == [(words, "")]
    assert len(server.posts) == 1
    assert len(server.gets) == 1


def test_a_connection_that_breaks_is_told_once(run) -> None:
    def break_off(connection) -> None:
        read_request(connection)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n"
        connection.sendall(head + endpoint("/messages") + event(NOTE))

    events = Recorder()

    async def scenario(port: int) -> None:
        spec = HttpSpec("up", f"http://127.0.0.1:{port}/sse", {}, 1000)
        upstream = SseUpstream(spec, events)
        try:
            await upstream.start()
            await until(lambda: events.closings)
        except UpstreamUnavailable as unavailable:  # it came before we were ready
            events.closings.append((unavailable.reason, ""))
        await upstream.stop(1.0)

    with listening(break_off) as port:
        run(scenario(port))
    ((reason, _),) = events.closings
    assert "in the middle of its answer" in reason


@pytest.mark.parametrize("status", [400, 404, 500, 302])
def test_a_message_that_is_not_taken_fails(run, status: int) -> None:
    server = Server(post_status=status)

    async def scenario(upstream: SseUpstream, events: Recorder) -> None:
        await one_call(upstream, events)
        upstream.send(b"{}")
        await until(lambda: len(events.failed) == 2)

    events = exchange(run, server, scenario)
    assert [request for request, _ in events.failed] == [1, None]
    assert all(f"HTTP {status}" in reason for _, reason in events.failed)


def test_nothing_overtakes_a_notification(run) -> None:
    server = Server()

    async def scenario(upstream: SseUpstream, events: Recorder) -> None:
        server.accept.clear()
        upstream.send(b'{"method":"notifications/initialized"}')
        for number in range(5):
            upstream.send(b"%d" % number, number)
        await until(lambda: server.posts)
        await asyncio.sleep(0.1)
        assert len(server.posts) == 1
        server.accept.set()
        await until(lambda: len(server.posts) == 6)

    exchange(run, server, scenario)


def test_a_notification_that_is_never_accepted_does_not_hold_the_rest_up(run, monkeypatch) -> None:
    monkeypatch.setattr(sse_upstream, "_ACCEPTED_S", 0.05)
    server = Server()

    async def scenario(upstream: SseUpstream, events: Recorder) -> None:
        server.accept.clear()
        upstream.send(b'{"method":"notifications/initialized"}')
        upstream.send(b"{}")
        upstream.send(CALL, 1)
        await until(lambda: len(server.posts) == 3)
        server.accept.set()

    exchange(run, server, scenario)


def test_a_stateless_request_fails_at_once_and_is_not_sent(run) -> None:
    server = Server()

    async def scenario(upstream: SseUpstream, events: Recorder) -> None:
        upstream.send(CALL, 1, {"Mcp-Method": "server/discover"})
        assert events.failed == []
        await until(lambda: events.failed)

    events = exchange(run, server, scenario)
    assert events.failed == [(1, "the HTTP+SSE transport has no stateless protocol revision")]
    assert server.posts == []


def test_paused_reading_holds_the_stream_back(run) -> None:
    server = Server()

    async def scenario(upstream: SseUpstream, events: Recorder) -> None:
        upstream.pause_reading()
        server.write(event(NOTE))
        await asyncio.sleep(0.2)
        assert events.frames == []
        upstream.resume_reading()
        await until(lambda: events.frames)

    exchange(run, server, scenario)


@pytest.fixture(scope="module")
def sdk_port() -> Iterator[int]:
    """The SDK's own server over HTTP+SSE."""
    import pydantic
    from mcp.server.mcpserver import Context, MCPServer

    class Word(pydantic.BaseModel):
        word: str

    server = MCPServer("real")

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    async def ask(ctx: Context) -> str:
        answer = await ctx.elicit("Which word?", Word)
        return f"the client said {answer.data.word}"

    with serving(server.sse_app(), lifespan="on") as port:
        yield port


def test_a_session_with_the_sdks_server(run, sdk_port: int) -> None:
    events = Recorder()

    def message(**members) -> bytes:
        return json.dumps({"jsonrpc": "2.0", **members}).encode()

    def found(**wanted) -> dict:
        messages = (json.loads(text) for text in events.texts)
        matching = [m for m in messages if wanted.items() <= m.items()]
        return matching[0] if matching else {}

    async def scenario() -> None:
        spec = HttpSpec("real", f"http://127.0.0.1:{sdk_port}/sse", {}, 1 << 20)
        upstream = SseUpstream(spec, events)
        await upstream.start()
        handshake = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "test", "version": "0"},
        }

        async def call(request: int, method: str, params: dict) -> dict:
            upstream.send(message(id=request, method=method, params=params), request)
            await until(lambda: found(id=request))
            return found(id=request)["result"]

        assert (await call(101, "initialize", handshake))["serverInfo"]["name"] == "real"
        upstream.session_started("2025-11-25")
        upstream.send(message(method="notifications/initialized"))
        tools = await call(102, "tools/list", {})
        assert {tool["name"] for tool in tools["tools"]} == {"add", "ask"}
        added = await call(103, "tools/call", {"name": "add", "arguments": {"a": 2, "b": 3}})
        assert added["content"][0]["text"] == "5"
        params = {"name": "ask", "arguments": {}}
        upstream.send(message(id=104, method="tools/call", params=params), 104)
        await until(lambda: found(method="elicitation/create"))
        result = {"action": "accept", "content": {"word": "yes"}}
        upstream.send(message(id=found(method="elicitation/create")["id"], result=result))
        await until(lambda: found(id=104))
        assert found(id=104)["result"]["content"][0]["text"] == "the client said yes"
        await upstream.stop(5)
        assert events.failed == []
        assert events.closings == [("was disconnected", "")]

    run(scenario())
