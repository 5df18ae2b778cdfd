"""An ASGI application under a path of the listener: answers, streams, bounds, mistakes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest

from gateway.transports.http_asgi import AsgiLimits, AsgiMount
from gateway.transports.http_exchange import HttpRequest, Receiver
from gateway.transports.http_listener import HttpListener, HttpTimes
from tests.transports.test_http_listener import Answer, Peer, chunked, post, until

Run = Callable[[Coroutine[Any, Any, Any]], Any]
App = Callable[[Any, Any, Any], Awaitable[None]]

SMALL = AsgiLimits(max_body_bytes=100, max_requests=2, answer_s=0.5, stream_s=1.0)


class Pages:
    """Nothing but the mount. Is an Application."""

    def __init__(self, mount: AsgiMount) -> None:
        self.mount = mount

    def accept(self, request: HttpRequest) -> Receiver | None:
        if self.mount.serves(request.path):
            return self.mount.accept(request)
        request.refuse(404, "elsewhere")
        return None


class World:
    def __init__(self, listener: HttpListener, mount: AsgiMount) -> None:
        self.listener = listener
        self.mount = mount
        self.reported: list[Any] = []
        self.peers: list[Peer] = []

    async def connect(self) -> Peer:
        peer = Peer(*await asyncio.open_connection(*self.listener.address))
        self.peers.append(peer)
        return peer

    async def ask(self, data: bytes, *, head: bool = False) -> Answer:
        peer = await self.connect()
        peer.send(data)
        return await peer.answer(head=head)


@contextlib.asynccontextmanager
async def serving(
    app: App, *, load: Callable[[], App] | None = None, limits: AsgiLimits = SMALL
) -> AsyncIterator[World]:
    mount = AsgiMount("/pages", load or (lambda: app), limits)
    listener = HttpListener(Pages(mount), max_body_bytes=10_000, times=HttpTimes(tick_s=0.05))
    await listener.start("127.0.0.1", 0)
    world = World(listener, mount)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: world.reported.append(context))
    try:
        yield world
    finally:
        listener.stop_accepting()
        await mount.close()
        await listener.close(0.2)
        for peer in world.peers:
            peer.writer.close()
            with contextlib.suppress(ConnectionError):
                await peer.writer.wait_closed()


def get(path: str = "/pages/", *more: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *more]).encode() + b"\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Tells what it got."""
    body = (await receive())["body"]
    told = repr((scope["method"], scope["path"], scope["query_string"], body, scope["headers"]))
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"1"), (b"x-own", b"yes")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": told.encode()})


class TestAnswers:
    @pytest.mark.parametrize(
        "data", [post(b"a=b", "/pages/x%20y?q=%2F"), chunked(b"a=b", "/pages/x%20y?q=%2F")]
    )
    def test_the_application_gets_the_request_and_answers_it(self, run: Run, data: bytes) -> None:
        async def scenario() -> None:
            async with serving(echo) as world:
                answer = await world.ask(data)
                assert answer.status == 201
                assert answer.headers["content-type"] == "text/plain"
                assert answer.headers["x-own"] == "yes"
                assert int(answer.headers["content-length"]) == len(answer.body)
                assert b"('POST', '/pages/x y', b'q=%2F', b'a=b', [" in answer.body

        run(scenario())

    def test_neither_tokens_of_agents_nor_repeated_headers_reach_it(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving(echo) as world:
                more = ("Authorization: Bearer one", "Cookie: a", "Cookie: b", "X-Once: c")
                answer = await world.ask(get("/pages/", *more))
                assert b"x-once" in answer.body
                assert b"Bearer" not in answer.body
                assert b"cookie" not in answer.body

        run(scenario())

    def test_head_is_answered_without_a_body(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving(echo) as world:
                peer = await world.connect()
                peer.send(get(method="HEAD") + get())
                head = await peer.answer(head=True)
                assert int(head.headers["content-length"]) > 10
                assert (await peer.answer()).status == 201

        run(scenario())

    def test_what_is_not_below_the_prefix_and_what_is_an_endpoint_is_not_its(
        self, run: Run
    ) -> None:
        async def scenario() -> None:
            async with serving(echo) as world:
                assert (await world.ask(get("/pages"))).status == 201
                for path in ("/", "/pagesx", "/pages/mcp", "/%70ages/", "/x/pages/"):
                    assert (await world.ask(get(path))).status == 404

        run(scenario())

    def test_it_is_loaded_once_at_the_first_request_and_again_after_a_failure(
        self, run: Run
    ) -> None:
        loads: list[int] = []

        def load() -> App:
            loads.append(1)
            if len(loads) == 1:
                raise RuntimeError("not yet")
            return echo

        async def scenario() -> None:
            async with serving(echo, load=load) as world:
                assert loads == []
                assert (await world.ask(get())).status == 500
                answers = await asyncio.gather(world.ask(get()), world.ask(get()))
                assert [each.status for each in answers] == [201, 201]
                assert len(loads) == 2
                assert len(world.reported) == 1

        run(scenario())


class TestStreams:
    def test_parts_arrive_as_they_are_sent(self, run: Run) -> None:
        more = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await more.wait()
            await send({"type": "http.response.body", "body": b"two", "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        async def scenario() -> None:
            async with serving(app) as world:
                peer = await world.connect()
                peer.send(get())
                assert b"chunked" in await peer.reader.readuntil(b"\r\n\r\n")
                assert await peer.chunk() == b"one"
                more.set()
                assert await peer.chunk() == b"two"
                assert await peer.chunk() == b""

        run(scenario())

    def test_a_client_that_goes_away_is_told_of(self, run: Run) -> None:
        seen: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert (await receive())["type"] == "http.request"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            seen.append((await receive())["type"])
            try:
                await send({"type": "http.response.body", "body": b"two", "more_body": True})
            except OSError:
                seen.append("gone")
                raise

        async def scenario() -> None:
            async with serving(app) as world:
                peer = await world.connect()
                peer.send(get())
                await peer.reader.readuntil(b"one")
                peer.writer.close()
                await until(lambda: seen == ["http.disconnect", "gone"])
                await asyncio.sleep(0)
                assert world.reported == []

        run(scenario())

    def test_a_client_that_takes_nothing_holds_the_application_up(self, run: Run) -> None:
        sent: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for number in range(200):
                part = {"type": "http.response.body", "body": b"x" * 100_000, "more_body": True}
                await send(part)
                sent.append(number)
            await send({"type": "http.response.body", "body": b"end"})

        async def scenario() -> None:
            async with serving(app, limits=AsgiLimits(stream_s=30)) as world:
                peer = await world.connect()
                peer.send(get())
                await until(lambda: len(sent) > 1)
                before = -1
                while before != len(sent):
                    before = len(sent)
                    await asyncio.sleep(0.05)
                assert len(sent) < 200
                await peer.reader.readuntil(b"\r\n\r\n")
                size = 0
                while chunk := await peer.chunk():
                    size += len(chunk)
                assert size == 200 * 100_000 + 3

        run(scenario())

    def test_an_answer_that_breaks_off_does_not_look_finished(self, run: Run) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            raise RuntimeError("a mistake of ours")

        async def scenario() -> None:
            async with serving(app) as world:
                peer = await world.connect()
                peer.send(get())
                received = b""
                with contextlib.suppress(ConnectionError):
                    received = await peer.reader.read()
                assert not received.endswith(b"0\r\n\r\n")
                assert len(world.reported) == 1

        run(scenario())


class TestBounds:
    @pytest.mark.parametrize("data", [post(b"x" * 101, "/pages/"), chunked(b"x" * 101, "/pages/")])
    def test_a_large_body_is_refused(self, run: Run, data: bytes) -> None:
        async def scenario() -> None:
            async with serving(echo) as world:
                assert (await world.ask(data)).status == 413
                assert (await world.ask(post(b"x" * 100, "/pages/"))).status == 201

        run(scenario())

    def test_no_more_than_so_many_are_worked_on_at_a_time(self, run: Run) -> None:
        release = asyncio.Event()
        entered: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            entered.append(1)
            await release.wait()
            await echo(scope, receive, send)

        async def scenario() -> None:
            limits = AsgiLimits(max_requests=2)
            async with serving(app, limits=limits) as world:
                held = [asyncio.create_task(world.ask(get())) for _ in range(2)]
                await until(lambda: len(entered) == 2)
                refused = await world.ask(get())
                assert refused.status == 503
                assert refused.headers["retry-after"] == "1"
                release.set()
                assert [(await each).status for each in held] == [201, 201]
                assert (await world.ask(get())).status == 201

        run(scenario())

    def test_one_that_takes_too_long_is_given_up(self, run: Run) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(60)

        async def scenario() -> None:
            async with serving(app) as world:
                assert (await world.ask(get())).status == 504

        run(scenario())

    def test_closing_ends_what_is_under_way(self, run: Run) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(60)

        async def scenario() -> None:
            async with serving(app, limits=AsgiLimits(answer_s=60)) as world:
                held = asyncio.create_task(world.ask(get()))
                await until(lambda: world.mount.busy)
                await world.mount.close()
                assert (await held).status == 503

        run(scenario())


class TestMistakes:
    @pytest.mark.parametrize(
        "headers", [[(b"x", b"a\r\nb: c")], [(b"x y", b"a")], [(b"", b"a")], [(b"x", b"a\0")]]
    )
    def test_a_header_that_would_break_out_is_not_sent(self, run: Run, headers: Any) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def scenario() -> None:
            async with serving(app) as world:
                assert (await world.ask(get())).status == 500

        run(scenario())

    def test_an_application_that_says_nothing_is_an_error(self, run: Run) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            return None

        async def scenario() -> None:
            async with serving(app) as world:
                assert (await world.ask(get())).status == 500
                assert len(world.reported) == 1

        run(scenario())
