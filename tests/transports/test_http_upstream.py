"""An upstream behind streamable HTTP: what it sends, and what is reported of its answers."""

import asyncio
import json
import threading
from collections.abc import Callable

import pytest
from http_support import Application, listening, read_body, read_request, respond, serving, stream
from upstream_support import Recorder, until

from gateway.transports.http_pool import HttpPool
from gateway.transports.http_upstream import HttpSpec, HttpUpstream
from gateway.transports.upstream import UpstreamUnavailable
from gateway.wire.sse import event

SECRET = "Bearer s3cr3t-value"
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{}}'
NOTE = b'{"jsonrpc":"2.0","method":"notifications/message"}'


class Server:
    """A raw ASGI application that keeps the requests and answers as `reply` does."""

    def __init__(self, reply: Application) -> None:
        self.reply = reply
        self.seen: list[tuple[str, dict[str, str], bytes]] = []

    async def __call__(self, scope, receive, send) -> None:
        body = await read_body(receive)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append((scope["method"], headers, body))
        if scope["method"] == "POST":
            await self.reply(scope, receive, send)
        else:
            await respond(send, 405, b"Method Not Allowed", "text/plain")

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.seen]


def exchange(
    run,
    reply: Application | Server,
    scenario: Callable,
    limit: int = 1 << 20,
    headers: dict[str, str] | None = None,
    stop_s: float = 1.0,
) -> tuple[Recorder, Server]:
    """Connect to a server with `reply`, run the scenario, disconnect."""
    events = Recorder()
    server = reply if isinstance(reply, Server) else Server(reply)

    async def whole(port: int) -> None:
        all_headers = {"Authorization": SECRET, **(headers or {})}
        spec = HttpSpec("up", f"http://127.0.0.1:{port}/mcp?x=1", all_headers, limit)
        upstream = HttpUpstream(spec, events)
        await upstream.start()
        try:
            await scenario(upstream, events)
        finally:
            await upstream.stop(stop_s)
            await upstream.stop(stop_s)
        assert len(asyncio.all_tasks()) == 1
        upstream.send(b"{}", 99)  # after the end: nothing happens
        upstream.session_started("2025-06-18")
        assert len(events.closings) == 1

    with serving(server) as port:
        run(whole(port))
    for _, reason in events.failed:
        assert "s3cr3t" not in reason
    return events, server


async def one_call(upstream: HttpUpstream, events: Recorder) -> None:
    upstream.send(b'{"id":1,"method":"tools/call"}', 1)
    await until(lambda: 1 in events.answered)


def json_reply(body: bytes, status: int = 200, **headers: str) -> Application:
    async def reply(scope, receive, send) -> None:
        await respond(send, status, body, **headers)

    return reply


def sse_reply(*chunks: bytes) -> Application:
    async def reply(scope, receive, send) -> None:
        await stream(send, *chunks)

    return reply


def test_a_json_answer_is_one_frame_of_its_request(run) -> None:
    body = b' {"id":1,\r\n"result":{"x":"' + b"y" * 300_000 + b'"}}\n'
    events, server = exchange(run, json_reply(body), one_call)
    assert events.frames == [(body.strip(), 1)]
    assert events.failed == []
    ((method, headers, sent),) = server.seen
    assert (method, sent) == ("POST", b'{"id":1,"method":"tools/call"}')
    assert headers["accept"] == "application/json, text/event-stream"
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == SECRET
    assert "accept-encoding" not in headers
    assert "mcp-session-id" not in headers
    assert "mcp-protocol-version" not in headers


def test_headers_of_the_transport_are_not_replaced_by_configured_ones(run) -> None:
    configured = {"accept": "text/html", "Mcp-Session-Id": "mine", "X-Own": "1"}
    _, server = exchange(run, json_reply(ANSWER), one_call, headers=configured)
    headers = server.seen[0][1]
    assert headers["accept"] == "application/json, text/event-stream"
    assert "mcp-session-id" not in headers
    assert headers["x-own"] == "1"


def test_events_of_a_stream_are_frames_of_its_request(run) -> None:
    chunks = (
        event(b"", "0"),
        b": ping\n\n",
        event(NOTE),
        b"event: other\ndata: x\n\n",
        event(ANSWER),
    )
    whole = b"".join(chunks)
    cut = [whole[at : at + 7] for at in range(0, len(whole), 7)]
    events, _ = exchange(run, sse_reply(*cut), one_call)
    assert events.frames == [(NOTE, 1), (ANSWER, 1)]
    assert events.noises == [1]
    assert events.failed == []


def test_many_calls_at_once_each_get_their_own_answer(run) -> None:
    async def reply(scope, receive, send) -> None:
        number = int(server.seen[-1][2])
        body = b'{"id":%d}' % number
        await (respond(send, 200, body) if number % 2 else stream(send, event(body)))

    server = Server(reply)

    async def scenario(upstream: HttpUpstream, events: Recorder) -> None:
        for number in range(1, 65):
            upstream.send(b"%d" % number, number)
        await until(lambda: len(events.answered) == 64)

    events, _ = exchange(run, server, scenario)
    assert sorted(events.frames, key=lambda f: f[1]) == [
        (b'{"id":%d}' % n, n) for n in range(1, 65)
    ]


def test_request_zero_is_a_request(run) -> None:
    async def scenario(upstream: HttpUpstream, events: Recorder) -> None:
        upstream.send(b'{"id":0}', 0)
        await until(lambda: 0 in events.answered)

    events, _ = exchange(run, json_reply(ANSWER), scenario)
    assert events.frames == [(ANSWER, 0)]


def test_the_session_id_and_the_version_are_sent_from_the_handshake_on(run) -> None:
    async def reply(scope, receive, send) -> None:
        first = len(server.seen) == 1
        session = "abc-123" if first else "another"
        await respond(send, 200 if first else 202, ANSWER if first else b"", mcp_session_id=session)

    server = Server(reply)

    async def scenario(upstream: HttpUpstream, events: Recorder) -> None:
        await one_call(upstream, events)
        upstream.session_started("2025-11-25")
        upstream.send(NOTE)
        upstream.send(NOTE)
        await until(lambda: len(server.seen) == 4)
        await asyncio.sleep(0.1)

    events, _ = exchange(run, server, scenario)
    assert sorted(server.methods()) == ["DELETE", "GET", "POST", "POST", "POST"]
    for _, headers, _ in server.seen[1:]:
        assert headers["mcp-session-id"] == "abc-123"
        assert headers["mcp-protocol-version"] == "2025-11-25"
        assert headers["authorization"] == SECRET
    assert server.methods()[-1] == "DELETE"
    assert events.frames == [(ANSWER, 1)]
    assert events.failed == []
    assert events.noises == []
    assert events.closings == [("was disconnected", "")]


@pytest.mark.parametrize("session", ["a b", "\u00fc", "x" * 1025, ""])
def test_a_session_id_that_is_none_fails_the_handshake(run, session: str) -> None:
    events, _ = exchange(run, json_reply(ANSWER, mcp_session_id=session), one_call)
    assert events.failed == [(1, "the server's session id is not valid")]


def test_a_version_that_is_none_is_refused(run) -> None:
    async def scenario(upstream: HttpUpstream, events: Recorder) -> None:
        with pytest.raises(ValueError, match="version"):
            upstream.session_started("1\r\nX: y")

    exchange(run, json_reply(ANSWER), scenario)


@pytest.mark.parametrize(
    ("status", "content_type", "words"),
    [
        (500, "text/plain", "the server answered HTTP 500 Internal Server Error"),
        (401, "text/html", "the server answered HTTP 401 Unauthorized"),
        (404, "text/plain", "the server answered HTTP 404 Not Found"),
        (307, "text/plain", "307 Temporary Redirect, and redirects are not followed"),
        (299, "text/plain", "HTTP 299 without an answer"),
        (202, "text/plain", "HTTP 202 Accepted without an answer to the request"),
        (200, "text/html", "HTTP 200 OK without an answer to the request"),
    ],
)
def test_a_status_without_an_answer_fails_the_request(run, status, content_type, words) -> None:
    async def reply(scope, receive, send) -> None:
        await respond(send, status, b"<b>s3cr3t-value</b>", content_type)

    events, _ = exchange(run, reply, one_call)
    ((request, reason),) = events.failed
    assert request == 1
    assert words in reason
    assert events.frames == []


def test_a_json_error_with_an_error_status_is_the_answer(run) -> None:
    error = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"no"}}'
    events, _ = exchange(run, json_reply(error, 400), one_call)
    assert events.frames == [(error, 1)]
    assert events.failed == []


def test_json_that_is_not_the_answer_still_fails_the_request(run) -> None:
    def scenario(upstream: HttpUpstream, events: Recorder):
        events.answers = lambda frame: False
        upstream.send(b"{}", 1)
        return until(lambda: events.failed)

    events, _ = exchange(run, json_reply(b'{"detail":"gone"}', 410), scenario)
    assert events.frames == [(b'{"detail":"gone"}', 1)]
    assert events.failed == [(1, "the server answered HTTP 410 Gone")]


@pytest.mark.parametrize("status", [404, 405])
def test_a_first_post_that_finds_nothing_hints_at_the_older_transport(run, status: int) -> None:
    events, _ = exchange(
        run, json_reply(b"nothing here", status, content_type="text/plain"), one_call
    )
    ((_, reason),) = events.failed
    assert f"HTTP {status}" in reason
    assert reason.endswith("older HTTP+SSE transport, which needs type: sse")


def test_a_later_one_does_not(run) -> None:
    server = Server(json_reply(ANSWER))

    async def scenario(upstream: HttpUpstream, events: Recorder) -> None:
        await one_call(upstream, events)
        server.reply = json_reply(b"nothing here", 405, content_type="text/plain")
        upstream.send(b"{}", 2)
        await until(lambda: 2 in events.answered)

    events, _ = exchange(run, server, scenario)
    assert events.failed == [(2, "the server answered HTTP 405 Method Not Allowed")]


def test_a_refused_notification_is_reported_without_a_request(run) -> None:
    async def scenario(upstream: HttpUpstream, events: Recorder) -> None:
        upstream.send(NOTE)
        await until(lambda: events.failed)

    events, _ = exchange(run, json_reply(b"{}", 400), scenario)
    assert events.failed == [(None, "the server answered HTTP 400 Bad Request")]
    assert events.frames == []


@pytest.mark.parametrize(
    "reply",
    [
        json_reply(b"[" + b"1," * 6000 + b"1]"),
        sse_reply(event(NOTE), event(b"x" * 10_001), event(ANSWER)),
        sse_reply(b"data: ", *[b"x" * 1000] * 200),
    ],
)
def test_an_answer_over_the_limit_fails_the_request(run, reply: Application) -> None:
    events, _ = exchange(run, reply, one_call, limit=10_000)
    assert (1, "the server's answer is larger than 10000 bytes") in events.failed
    assert len(events.failed) == 1


def test_a_chunked_json_answer_over_the_limit_is_not_read_to_its_end(run) -> None:
    gone = threading.Event()

    async def reply(scope, receive, send) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(100_000):
            if scope.get("gone"):
                break
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            await asyncio.sleep(0)
            if (await asyncio.wait([asyncio.ensure_future(receive())], timeout=0))[0]:
                gone.set()
                return

    events, _ = exchange(run, reply, one_call, limit=10_000)
    assert events.failed == [(1, "the server's answer is larger than 10000 bytes")]
    assert gone.is_set()


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"", "the server closed the connection before it answered"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
            "the server closed the connection in the middle of its answer",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + event(NOTE),
            "the server's response ended without an answer",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n",
            "the server closed the connection in the middle of its answer",
        ),
    ],
)
def test_a_connection_that_breaks_fails_the_request_and_nothing_is_sent_twice(
    run, response: bytes, reason: str
) -> None:
    seen = []

    def handle(connection) -> None:
        seen.append(read_request(connection))
        connection.sendall(response)

    async def scenario(port: int) -> None:
        events = Recorder()
        upstream = HttpUpstream(HttpSpec("up", f"http://127.0.0.1:{port}", {}, 1000), events)
        await upstream.start()
        await one_call(upstream, events)
        await upstream.stop(1)
        assert events.failed == [(1, reason)]

    with listening(handle, handle) as port:
        run(scenario(port))
    assert len(seen) == 1


def test_a_session_that_is_gone_closes_the_upstream_once(run) -> None:
    async def reply(scope, receive, send) -> None:
        if len(server.seen) == 1:
            await respond(send, 200, ANSWER, mcp_session_id="s")
        else:
            await respond(send, 404, b'{"jsonrpc":"2.0","id":null,"error":{}}')

    server = Server(reply)

    async def scenario(upstream: HttpUpstream, events: Recorder) -> None:
        await one_call(upstream, events)
        for request in (2, 3, 4):
            upstream.send(b"{}", request)
        await until(lambda: events.closings)
        await asyncio.sleep(0.05)

    events, _ = exchange(run, server, scenario)
    assert [reason for reason, _ in events.closings] == ["session expired"]
    assert "DELETE" not in server.methods()
    assert len(events.frames) == 1


def test_an_abandoned_request_closes_its_stream_and_reports_nothing_more(run) -> None:
    gone = threading.Event()

    async def reply(scope, receive, send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": event(NOTE, "7"), "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        gone.set()

    async def scenario(upstream: HttpUpstream, events: Recorder) -> None:
        upstream.send(b"{}", 1)
        await until(lambda: events.frames)
        upstream.abandon(1)
        upstream.abandon(1)
        await until(gone.is_set)
        await asyncio.sleep(0.1)

    events, server = exchange(run, reply, scenario)
    assert events.failed == []
    assert server.methods() == ["POST"]


class Getting(Server):
    """Answers GETs, one after the other, by `gets`; later ones stay open."""

    def __init__(self, reply: Application, *gets: Application) -> None:
        super().__init__(reply)
        self.gets = list(gets)
        self.ids: list[str | None] = []

    async def __call__(self, scope, receive, send) -> None:
        if scope["method"] != "GET":
            await super().__call__(scope, receive, send)
            return
        await read_body(receive)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        assert headers["accept"] == "text/event-stream"
        self.ids.append(headers.get("last-event-id"))
        if self.gets:
            await self.gets.pop(0)(scope, receive, send)
            return
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-type", b"text/event-stream")]})
        await receive()


def test_the_get_stream_brings_messages_and_is_opened_again_where_it_broke_off(run) -> None:
    server = Getting(
        json_reply(ANSWER),
        sse_reply(b"retry: 60\n\n", event(b"", "1"), event(NOTE, "2")),
        json_reply(b"", 503),
        sse_reply(event(NOTE, "3"), b"id: 4\ndata: unfinished"),
    )

    async def scenario(upstream: HttpUpstream, events: Recorder) -> None:
        await one_call(upstream, events)
        upstream.session_started("2025-06-18")
        await until(lambda: len(server.ids) == 4)

    events, _ = exchange(run, server, scenario)
    assert events.frames == [(ANSWER, 1), (NOTE, None), (NOTE, None)]
    assert server.ids == [None, "2", "2", "3"]
    assert events.failed == []


@pytest.mark.parametrize("status", [404, 405, 400, 401, 301, 200])
def test_an_upstream_without_a_get_stream_is_asked_once(run, status: int) -> None:
    server = Getting(json_reply(ANSWER, mcp_session_id="s"), json_reply(b"{}", status))

    async def scenario(upstream: HttpUpstream, events: Recorder) -> None:
        await one_call(upstream, events)
        upstream.session_started("2025-06-18")
        await asyncio.sleep(0.2)
        await one_call(upstream, events)

    events, _ = exchange(run, server, scenario)
    assert server.ids == [None]
    assert events.closings == [("was disconnected", "")]


def test_a_get_stream_that_meets_404_later_tells_that_the_session_is_gone(run) -> None:
    server = Getting(
        json_reply(ANSWER, mcp_session_id="s"),
        sse_reply(b"retry: 60\n\n" + event(NOTE)),
        json_reply(b"{}", 404),
    )

    async def scenario(upstream: HttpUpstream, events: Recorder) -> None:
        await one_call(upstream, events)
        upstream.session_started("2025-06-18")
        await until(lambda: events.closings)

    events, _ = exchange(run, server, scenario)
    assert [reason for reason, _ in events.closings] == ["session expired"]


def test_an_oversized_message_on_the_get_stream_is_noise(run) -> None:
    server = Getting(json_reply(ANSWER), sse_reply(event(b"x" * 2000), event(NOTE)))

    async def scenario(upstream: HttpUpstream, events: Recorder) -> None:
        await one_call(upstream, events)
        upstream.session_started("2025-06-18")
        await until(lambda: len(events.frames) == 2)

    events, _ = exchange(run, server, scenario, limit=1000)
    assert events.noises == [1000]
    assert events.closings == [("was disconnected", "")]


def test_an_answer_whose_stream_is_broken_off_on_purpose_is_fetched_where_it_went_on(run) -> None:
    server = Getting(
        sse_reply(b"retry: 60\n", event(b"", "a-0")),
        sse_reply(event(NOTE, "a-1")),
        sse_reply(event(ANSWER, "a-2")),
    )
    events, _ = exchange(run, server, one_call)
    assert events.frames == [(NOTE, 1), (ANSWER, 1)]
    assert server.ids == ["a-0", "a-1"]
    assert server.methods() == ["POST"]
    assert events.failed == []


def test_an_answer_that_cannot_be_fetched_any_more_fails(run) -> None:
    server = Getting(sse_reply(b"retry: 60\n", event(b"", "a-0")), json_reply(b"{}", 405))
    events, _ = exchange(run, server, one_call)
    assert events.failed == [(1, "the server answered HTTP 405 Method Not Allowed")]


def test_paused_reading_holds_all_streams_back(run) -> None:
    async def scenario(upstream: HttpUpstream, events: Recorder) -> None:
        upstream.pause_reading()
        upstream.send(b"{}", 1)
        await asyncio.sleep(0.2)
        assert events.frames == []
        upstream.resume_reading()
        await until(lambda: events.frames)

    exchange(run, json_reply(ANSWER), scenario)


def test_a_server_that_does_not_answer_the_farewell_is_not_waited_for_long(run) -> None:
    release = threading.Event()

    class Silent(Server):
        async def __call__(self, scope, receive, send) -> None:
            if scope["method"] == "DELETE":
                await receive()
                await receive()
                release.set()
            else:
                await super().__call__(scope, receive, send)

    server = Silent(json_reply(ANSWER, mcp_session_id="s"))
    events, _ = exchange(run, server, one_call, stop_s=0.1)
    assert release.is_set()
    assert events.closings == [("was disconnected", "")]


@pytest.mark.parametrize(
    ("url", "headers", "words"),
    [
        ("http://127.0.0.1:1/mcp", {}, "no connection to 127.0.0.1: connection refused"),
        ("ws://host/", {}, "the URL does not begin with http"),
        ("http://user:s3cr3t@host/", {}, "the URL contains a user name or password"),
        ("http://host/", {"Authorization": "s3cr3t\n"}, "the value of the header 'Authorization'"),
    ],
)
def test_what_cannot_be_reached_says_why(run, url, headers, words) -> None:
    async def scenario() -> None:
        events = Recorder()
        with pytest.raises(UpstreamUnavailable, match="upstream 'up' cannot be reached") as failed:
            await HttpUpstream(HttpSpec("up", url, headers, 1000), events).start()
        assert words in failed.value.reason
        assert "s3cr3t" not in failed.value.reason
        assert events.closings == []

    run(scenario())


def test_a_shared_pool_outlives_its_upstreams(run) -> None:
    async def scenario(port: int) -> None:
        pool = HttpPool()
        for _ in range(2):
            events = Recorder()
            spec = HttpSpec("up", f"http://127.0.0.1:{port}", {}, 1000)
            upstream = HttpUpstream(spec, events, pool)
            await upstream.start()
            await one_call(upstream, events)
            await upstream.stop(1)
            assert events.frames == [(ANSWER, 1)]
        await pool.close()

    with serving(Server(json_reply(ANSWER))) as port:
        run(scenario(port))


INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"elicitation": {}},
    "clientInfo": {"name": "test", "version": "0"},
}


@pytest.fixture(scope="module", params=[False, True], ids=["sse", "json"])
def sdk_server(request: pytest.FixtureRequest):
    """The SDK's own server over streamable HTTP, answering in events or in JSON."""
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
        await ctx.report_progress(1, 2, "half")
        answer = await ctx.elicit("Which word?", Word)
        return f"the client said {answer.data.word}"

    app = server.streamable_http_app(json_response=request.param)
    with serving(app, lifespan="on") as port:
        yield port, request.param


def test_a_session_with_the_sdks_server(run, sdk_server) -> None:
    port, json_only = sdk_server
    events = Recorder()

    def message(**members) -> bytes:
        return json.dumps({"jsonrpc": "2.0", **members}).encode()

    def received() -> list[dict]:
        return [json.loads(text) for text in events.texts]

    def answer(request: int) -> dict:
        (found,) = [m for m in received() if m.get("id") == request and "method" not in m]
        return found["result"]

    async def scenario() -> None:
        spec = HttpSpec("real", f"http://127.0.0.1:{port}/mcp", {}, 1 << 20)
        upstream = HttpUpstream(spec, events)
        await upstream.start()

        async def call(request: int, method: str, params: dict) -> dict:
            upstream.send(message(id=request, method=method, params=params), request)
            await until(lambda: request in events.answered)
            return answer(request)

        initialized = await call(101, "initialize", INITIALIZE)
        assert initialized["serverInfo"]["name"] == "real"
        upstream.session_started(initialized["protocolVersion"])
        upstream.send(message(method="notifications/initialized"))
        tools = await call(102, "tools/list", {})
        assert {tool["name"] for tool in tools["tools"]} == {"add", "ask"}
        added = await call(103, "tools/call", {"name": "add", "arguments": {"a": 2, "b": 3}})
        assert added["content"][0]["text"] == "5"
        if not json_only:
            params = {"name": "ask", "arguments": {}, "_meta": {"progressToken": 7}}
            upstream.send(message(id=104, method="tools/call", params=params), 104)
            await until(lambda: any(m.get("method") == "elicitation/create" for m in received()))
            (asked,) = [m for m in received() if m.get("method") == "elicitation/create"]
            result = {"action": "accept", "content": {"word": "yes"}}
            upstream.send(message(id=asked["id"], result=result))
            await until(lambda: 104 in events.answered)
            assert answer(104)["content"][0]["text"] == "the client said yes"
            assert [r for text, r in events.frames if b"notifications/progress" in text] == [104]
            assert [r for text, r in events.frames if b"elicitation/create" in text] == [104]
        await upstream.stop(5)
        assert events.failed == []
        assert events.closings == [("was disconnected", "")]

    run(scenario())
