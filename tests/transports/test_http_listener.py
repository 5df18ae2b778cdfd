"""The listener on real sockets: requests in any shape, answers in order, hostile and slow peers."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transports.http_exchange import HttpRequest, Receiver
from gateway.transports.http_inbound import MAX_HEADER_BYTES, MAX_HEADERS
from gateway.transports.http_listener import HttpListener, HttpTimes

Run = Callable[[Coroutine[Any, Any, Any]], Any]

LIMIT = 10_000
BRIEF = HttpTimes(header_s=0.3, body_s=0.3, idle_s=0.3, stall_s=0.3, linger_s=0.3, tick_s=0.05)
PATIENT = HttpTimes(tick_s=0.05)


class Taken(NamedTuple):
    method: str
    path: str
    body: bytes | None
    size_bytes: int


class Echo:
    """Answers with the body. Is an Application.

    `/later` keeps its answer back, `/stream` begins one, `/refused` is refused before its body is
    there, `/broken` raises.
    """

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.pending: list[HttpRequest] = []
        self.gone: list[HttpRequest] = []
        self.accepted: list[HttpRequest] = []

    def accept(self, request: HttpRequest) -> Receiver | None:
        self.accepted.append(request)
        if request.path == "/refused":
            request.refuse(401, "no", b"www-authenticate: Bearer\r\n")
            return None

        def receive(body: bytes | None, size_bytes: int) -> None:
            self.taken.append(Taken(request.method, request.path, body, size_bytes))
            request.gone = lambda: self.gone.append(request)
            if request.path == "/broken":
                raise RuntimeError("a mistake of ours")
            if request.path == "/later":
                self.pending.append(request)
            elif request.path == "/stream":
                request.begin(b"content-type: text/plain\r\n", b"begun;")
                self.pending.append(request)
            elif body is None:
                request.refuse(413, "too large")
            else:
                request.respond(200, body)

        return receive


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Peer:
    """One connection with the listener."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, head: bool = False) -> Answer:
        """The next answer, by its own framing."""
        async with asyncio.timeout(5):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            status = int(lines[0].split(" ")[1])
            headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines[1:])}
            body = b""
            if head or status < 200 or status == 204:
                assert status != 204 or "content-length" not in headers
            elif "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            elif headers.get("transfer-encoding") == "chunked":
                while chunk := await self.chunk():
                    body += chunk
            else:
                body = await self.reader.read()
            return Answer(status, headers, body)

    async def chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        chunk = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return chunk

    async def ended(self) -> bool:
        """Whether the listener closes the connection, without another byte."""
        async with asyncio.timeout(5):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


class World:
    def __init__(self, app: Echo, listener: HttpListener) -> None:
        self.app = app
        self.listener = listener
        self.peers: list[Peer] = []

    async def connect(self) -> Peer:
        peer = Peer(*await asyncio.open_connection(*self.listener.address))
        self.peers.append(peer)
        return peer

    async def ask(self, data: bytes) -> Answer:
        peer = await self.connect()
        peer.send(data)
        return await peer.answer()


@contextlib.asynccontextmanager
async def serving(
    times: HttpTimes = PATIENT, host: str = "127.0.0.1", **more: Any
) -> AsyncIterator[World]:
    app = Echo()
    listener = HttpListener(app, max_body_bytes=LIMIT, times=times, **more)
    await listener.start(host, 0)
    world = World(app, listener)
    try:
        yield world
    finally:
        await listener.close(0.2)
        for peer in world.peers:
            peer.writer.close()
            with contextlib.suppress(ConnectionError):
                await peer.writer.wait_closed()


def post(body: bytes = b"hello", path: str = "/", *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(body: bytes, path: str = "/", size: int = 3) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + framed + b"0\r\nX-Trailer: 1\r\n\r\n"


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110 - of what is waited for, nobody is told
            await asyncio.sleep(0.005)


class TestRequests:
    @pytest.mark.parametrize("data", [post(b"hello"), chunked(b"hello"), post(b"hello", "/a?b=c")])
    def test_a_body_is_taken_whole(self, run: Run, data: bytes) -> None:
        async def scenario() -> None:
            async with serving() as world:
                answer = await world.ask(data)
                assert (answer.status, answer.body) == (200, b"hello")
                assert answer.headers["content-type"] == "application/json"
                assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", answer.headers["date"])
                (request,) = world.app.accepted
                assert request.loopback
                assert b"x-trailer" not in request.headers

        run(scenario())

    def test_headers_arrive_by_lower_case_name_and_repeated_ones_are_marked(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                more = ["X-One:  a b \t", "ORIGIN: a", "Origin: b", "Accept: a", "accept: b"]
                more += ["Authorization: Bearer one", "authorization: Bearer two "]
                await world.ask(post(b"x", "/", *more))
                (request,) = world.app.accepted
                assert request.headers[b"x-one"] == b"a b"
                assert request.headers[b"origin"] == b"\0"
                assert request.headers[b"accept"] == b"a, b"
                assert b"authorization" not in request.headers
                assert request.authorization == (b"Bearer one", b"Bearer two")

        run(scenario())

    def test_a_path_is_left_encoded(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                for target in ("/a%20b", "/%C3%A9?q", "/plain"):
                    await world.ask(post(b"", target))
                paths = [taken.path for taken in world.app.taken]
                assert paths == ["/a%20b", "/%C3%A9", "/plain"]

        run(scenario())

    def test_a_connection_is_kept(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                for body in (b"one", b"", b"three"):
                    peer.send(post(body))
                    assert (await peer.answer()).body == body

        run(scenario())

    @pytest.mark.parametrize(
        "start", ["POST / HTTP/1.0\r\n", "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"]
    )
    def test_a_connection_is_closed_where_the_client_wants_that(self, run: Run, start: str) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                peer.send(start.encode() + b"Content-Length: 2\r\n\r\nhi" + post(b"not read"))
                answer = await peer.answer()
                assert (answer.status, answer.body) == (200, b"hi")
                assert answer.headers["connection"] == "close"
                assert await peer.ended()
                assert len(world.app.taken) == 1

        run(scenario())

    def test_an_offer_of_another_protocol_is_passed_over(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                offer = ("Connection: Upgrade", "Upgrade: h2c")
                peer.send(post(b"", "/", *offer) + b"PRI *")
                assert (await peer.answer()).status == 200
                assert await peer.ended()
                assert (await world.ask(post(b"hi", "/", *offer))).status == 400
                assert [taken.body for taken in world.app.taken] == [b""]

        run(scenario())

    def test_a_head_request_gets_no_body(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                peer.send(b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + post())
                answer = await peer.answer(head=True)
                assert answer.headers["content-length"] == "3"
                assert (await peer.answer()).body == b"hello"

        run(scenario())

    def test_over_ipv6(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving(host="::1") as world:
                assert (await world.ask(post())).body == b"hello"
                assert world.app.accepted[0].loopback

        run(scenario())

    def test_a_taken_address_is_an_error(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                other = HttpListener(Echo(), max_body_bytes=LIMIT)
                with pytest.raises(OSError, match=r"."):
                    await other.start(*world.listener.address)
                await other.close(0)

        run(scenario())


class TestExpect:
    def test_the_body_is_asked_for(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                whole = post(b"hello", "/", "Expect: 100-continue")
                peer.send(whole[:-5])
                assert (await peer.answer()).status == 100
                peer.send(whole[-5:])
                assert (await peer.answer()).body == b"hello"
                peer.send(whole)  # and not where it comes unasked
                await peer.answer()
                assert len(world.app.taken) == 2

        run(scenario())

    @pytest.mark.parametrize(
        ("path", "length", "status"), [("/refused", 5, 401), ("/", LIMIT + 1, 413)]
    )
    def test_and_not_where_it_is_refused(
        self, run: Run, path: str, length: int, status: int
    ) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                head = f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                peer.send(f"{head}Content-Length: {length}\r\n\r\n".encode())
                assert (await peer.answer()).status == status
                assert await peer.ended()

        run(scenario())

    def test_nothing_else_can_be_expected(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                assert (await world.ask(post(b"", "/", "Expect: miracles"))).status == 417

        run(scenario())


class TestPipelining:
    def test_answers_come_in_the_order_of_requests(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                peer.send(post(b"1", "/later") + post(b"2") + chunked(b"3") + post(b"4", "/later"))
                await until(lambda: world.app.pending)
                await asyncio.sleep(0.05)
                assert len(world.app.accepted) == 1  # the second is not begun before the first ends
                world.app.pending[0].respond(200, b"first")
                assert [(await peer.answer()).body for _ in range(3)] == [b"first", b"2", b"3"]
                await until(lambda: len(world.app.pending) == 2)
                world.app.pending[1].respond(200, b"last")
                assert (await peer.answer()).body == b"last"
                peer.send(post(b"5"))
                assert (await peer.answer()).body == b"5"

        run(scenario())

    def test_nothing_is_read_ahead_of_a_slow_answer(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                peer.send(post(b"", "/later"))
                await until(lambda: world.app.pending)
                one = post(b"x" * LIMIT)
                for _ in range(3000):
                    peer.send(one)
                await asyncio.sleep(0.3)
                unsent = peer.writer.transport.get_write_buffer_size()  # type: ignore[attr-defined] # of a WriteTransport
                assert unsent > 15_000_000
                world.app.pending[0].respond(200)
                for _ in range(20):
                    await peer.answer()
                assert len(world.app.taken) < 1500

        run(scenario())

    def test_what_cannot_be_read_is_refused_after_the_answers_before_it(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                peer.send(post(b"1", "/later") + b"nonsense\r\n\r\n")
                await until(lambda: world.app.pending)
                world.app.pending[0].respond(200, b"first")
                assert (await peer.answer()).body == b"first"
                assert (await peer.answer()).status == 400
                assert await peer.ended()

        run(scenario())


class TestRefusals:
    def test_a_refused_request_keeps_its_connection_where_its_body_is_small(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                whole = post(b"hello", "/refused")
                peer.send(whole[:-3])
                await asyncio.sleep(0.02)
                peer.send(whole[-3:] + post(b"next"))
                answer = await peer.answer()
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert (await peer.answer()).body == b"next"
                assert [taken.path for taken in world.app.taken] == ["/"]

        run(scenario())

    def test_and_is_answered_at_once_where_it_is_large(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                peer.send(b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n")
                answer = await peer.answer()
                assert (answer.status, answer.headers["connection"]) == (401, "close")
                peer.send(b"x" * 1000)  # what still comes does not reset the connection
                assert await peer.ended()

        run(scenario())

    @pytest.mark.parametrize("size", [LIMIT, LIMIT + 1, 50 * LIMIT])
    @pytest.mark.parametrize("shape", [post, lambda body: chunked(body, size=999)])
    def test_a_body_over_the_limit_is_dropped(
        self, run: Run, size: int, shape: Callable[[bytes], bytes]
    ) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                peer.send(shape(b"x" * size))
                answer = await peer.answer()
                (taken,) = world.app.taken
                assert (answer.status == 200) == (size <= LIMIT) == (taken.body is not None)
                assert taken.size_bytes == size or LIMIT < taken.size_bytes < size
                if answer.headers.get("connection") == "close":
                    assert await peer.ended()
                else:
                    peer.send(post(b"next"))
                    assert (await peer.answer()).body == b"next"

        run(scenario())

    def test_a_mistake_of_ours_is_told_and_ends_the_connection(self) -> None:
        told: list[Any] = []

        async def scenario() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
            async with serving() as world:
                peer = await world.connect()
                peer.send(post(b"", "/broken"))
                assert (await peer.answer()).status == 500
                assert await peer.ended()
                peer = await world.connect()
                peer.send(post(b"", "/") + post(b"", "/broken"))
                assert [(await peer.answer()).status for _ in range(2)] == [200, 500]

        asyncio.run(scenario())
        assert [str(error) for error in told] == 2 * ["a mistake of ours"]


HOST = b"POST / HTTP/1.1\r\nHost: x\r\n"
HOSTILE = {
    "both lengths": HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, reversed": HOST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "two equal lengths": HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": HOST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": HOST + b"Content-Length: +3\r\n\r\nabc",
    "a negative length": HOST + b"Content-Length: -1\r\n\r\n",
    "a hexadecimal length": HOST + b"Content-Length: 0x3\r\n\r\nabc",
    "an empty length": HOST + b"Content-Length:\r\n\r\n",
    "a huge length": HOST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "another coding": HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": HOST + 2 * b"Transfer-Encoding: chunked\r\n" + b"\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk size": HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a huge chunk size": HOST + b"Transfer-Encoding: chunked\r\n\r\n" + 20 * b"f" + b"\r\n",
    "a chunk that is too long": HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "bare line feeds": b"POST / HTTP/1.1\nHost: x\n\n",
    "a bare carriage return": HOST + b"X: a\rb\r\n\r\n",
    "a folded line": HOST + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": HOST + b"Content-Length : 3\r\n\r\nabc",
    "a bad name": HOST + b"X(y): a\r\n\r\n",
    "an empty name": HOST + b": a\r\n\r\n",
    "a line without a colon": HOST + b"nonsense\r\n\r\n",
    "NUL in a value": HOST + b"X: a\0b\r\n\r\n",
    "a control in a value": HOST + b"X: a\x01b\r\n\r\n",
    "no host": b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "two hosts": HOST + b"Host: x\r\nContent-Length: 0\r\n\r\n",
    "an absolute target": b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "no path": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a blank in the target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown version": b"GET / HTTP/1.7\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_could_be_read_in_two_ways_is_refused_and_closed(run: Run, data: bytes) -> None:
    async def scenario() -> None:
        async with serving() as world:
            peer = await world.connect()
            peer.send(data + post(b"smuggled"))
            answer = await peer.answer()
            assert answer.status == 400
            assert answer.headers["connection"] == "close"
            assert await peer.ended()
            assert world.app.taken == []

    run(scenario())


def test_no_version_at_all_is_refused(run: Run) -> None:
    async def scenario() -> None:
        async with serving() as world:
            assert (await world.ask(b"GET /\r\n\r\n")).status == 505
            assert world.app.taken == []

    run(scenario())


@pytest.mark.parametrize(
    "data",
    [
        HOST + b"X: " + b"a" * MAX_HEADER_BYTES,
        HOST + b"X: " + b"a" * MAX_HEADER_BYTES + b"\r\n\r\n",
        b"GET /" + b"a" * MAX_HEADER_BYTES,
        HOST + b"".join(b"X-%d: a\r\n" % n for n in range(MAX_HEADERS)) + b"\r\n",
        HOST + b"Authorization: a\r\n" * MAX_HEADERS + b"\r\n",
    ],
    ids=["an endless value", "a long value", "a long target", "many headers", "many credentials"],
)
def test_headers_are_bounded(run: Run, data: bytes) -> None:
    async def scenario() -> None:
        async with serving() as world:
            peer = await world.connect()
            peer.send(data)
            assert (await peer.answer()).status == 431
            assert await peer.ended()
            assert world.app.taken == []

    run(scenario())


@pytest.mark.parametrize("around", [b"1;" + b"x" * 600_000, b"0\r\nX: " + b"x" * 600_000])
def test_what_stands_around_a_body_is_bounded(run: Run, around: bytes) -> None:
    async def scenario() -> None:
        async with serving() as world:
            peer = await world.connect()
            peer.send(HOST + b"Transfer-Encoding: chunked\r\n\r\n" + around)
            assert (await peer.answer()).status == 400
            assert await peer.ended()
            assert world.app.taken == []

    run(scenario())


class TestTime:
    @pytest.mark.parametrize(
        "sent", [HOST, HOST + b"Content-Length: 5\r\n\r\nhe", b"P"], ids=["headers", "body", "byte"]
    )
    def test_a_request_that_does_not_end_is_refused(self, run: Run, sent: bytes) -> None:
        async def scenario() -> None:
            async with serving(BRIEF) as world:
                peer = await world.connect()
                peer.send(sent)
                assert (await peer.answer()).status == 408
                assert await peer.ended()
                assert world.app.taken == []

        run(scenario())

    def test_dripping_bytes_win_no_time(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving(BRIEF) as world:
                peer = await world.connect()
                loop = asyncio.get_running_loop()
                begun_s = loop.time()
                for byte in HOST * 100:
                    peer.send(bytes((byte,)))
                    await asyncio.sleep(0.01)
                    if peer.reader._buffer:  # type: ignore[attr-defined] # to look without waiting
                        break
                assert (await peer.answer()).status == 408
                assert loop.time() - begun_s < 2

        run(scenario())

    @pytest.mark.parametrize("sent", [b"", b"\r\n\r\n", post()], ids=["never", "blank", "after"])
    def test_a_connection_without_a_request_is_closed(self, run: Run, sent: bytes) -> None:
        async def scenario() -> None:
            async with serving(BRIEF) as world:
                peer = await world.connect()
                peer.send(sent)
                if sent == post():
                    await peer.answer()
                assert await peer.ended()

        run(scenario())

    def test_an_answer_may_take_its_time(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving(BRIEF) as world:
                peer = await world.connect()
                peer.send(post(b"", "/later"))
                await asyncio.sleep(0.8)
                world.app.pending[0].respond(200, b"late")
                assert (await peer.answer()).body == b"late"

        run(scenario())

    def test_who_takes_nothing_is_dropped(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving(BRIEF) as world:
                peer = await world.connect()
                peer.writer.transport.pause_reading()  # type: ignore[attr-defined] # of a Transport
                peer.send(post(b"", "/stream"))
                await until(lambda: world.app.pending)
                (request,) = world.app.pending
                while request.writable:
                    request.write(b"x" * 1_000_000)
                await until(lambda: world.app.gone)
                assert world.app.gone == [request]

        run(scenario())

    def test_who_takes_it_slowly_is_not(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving(BRIEF) as world:
                peer = await world.connect()
                peer.send(post(b"", "/stream"))
                await until(lambda: world.app.pending)
                (request,) = world.app.pending
                drained: list[bool] = []
                request.drained = lambda: drained.append(request.writable)
                sent = 0
                while request.writable and sent < 60:
                    request.write(b"x" * 1_000_000)
                    sent += 1
                assert not request.writable
                request.end(b"")
                async with asyncio.timeout(20):
                    got = 0
                    while got < sent * 1_000_000:
                        got += len(await peer.reader.readexactly(1_000_000))
                        await asyncio.sleep(0.5 / sent)
                assert world.app.gone == []

        run(scenario())


class TestStreams:
    def test_parts_arrive_as_they_are_written(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                peer.send(post(b"", "/stream") + post(b"after"))
                await until(lambda: world.app.pending)
                (request,) = world.app.pending
                await peer.reader.readuntil(b"\r\n\r\n")
                assert await peer.chunk() == b"begun;"
                request.write(b"more")
                assert await peer.chunk() == b"more"
                request.write(b"y" * 100_000)
                request.end(b"last")
                assert await peer.chunk() == b"y" * 100_000
                assert await peer.chunk() == b"last"
                assert await peer.chunk() == b""
                assert (await peer.answer()).body == b"after"

        run(scenario())

    def test_an_old_client_reads_to_the_end_of_the_connection(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                peer.send(b"GET /stream HTTP/1.0\r\n\r\n")
                await until(lambda: world.app.pending)
                world.app.pending[0].end(b"last")
                answer = await peer.answer()
                assert "transfer-encoding" not in answer.headers
                assert answer.body == b"begun;last"

        run(scenario())

    @pytest.mark.parametrize("path", ["/later", "/stream"])
    def test_a_client_that_goes_away_is_noticed_once(self, run: Run, path: str) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                peer.send(post(b"", path))
                await until(lambda: world.app.pending)
                peer.writer.close()
                await until(lambda: world.app.gone)
                (request,) = world.app.pending
                request.respond(200, b"nobody")
                request.write(b"nobody")
                request.end(b"nobody")
                await asyncio.sleep(0.02)
                assert world.app.gone == [request]

        run(scenario())


class TestEnd:
    def test_idle_connections_end_at_once_and_answers_are_finished(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                idle, busy = await world.connect(), await world.connect()
                idle.send(post())
                await idle.answer()
                busy.send(post(b"", "/later"))
                await until(lambda: world.app.pending)
                address = world.listener.address
                closing = asyncio.ensure_future(world.listener.close(5))
                assert await idle.ended()
                with pytest.raises(OSError, match=r"."):
                    await asyncio.open_connection(*address)
                world.app.pending[0].respond(200, b"done")
                answer = await busy.answer()
                assert (answer.body, answer.headers["connection"]) == (b"done", "close")
                assert await busy.ended()
                await closing

        run(scenario())

    def test_what_takes_too_long_is_cut_off(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving() as world:
                peer = await world.connect()
                peer.send(post(b"", "/later"))
                await until(lambda: world.app.pending)
                await world.listener.close(0.05)
                assert world.app.gone == world.app.pending
                assert await peer.ended()

        run(scenario())

    def test_there_is_a_bound_to_connections(self, run: Run) -> None:
        async def scenario() -> None:
            async with serving(max_connections=2) as world:
                first, second, third = [await world.connect() for _ in range(3)]
                for peer in (first, second):
                    peer.send(post())
                    assert (await peer.answer()).status == 200
                assert await third.ended()
                first.writer.close()
                await asyncio.sleep(0.02)
                assert (await world.ask(post())).status == 200

        run(scenario())


REQUESTS = [post(b"hello"), chunked(b"chunked body"), b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_however_the_bytes_are_cut_the_answers_are_the_same(data: st.DataObject) -> None:
    whole = b"".join(data.draw(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3)))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=12)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    async def answered(pieces: list[bytes]) -> tuple[bytes, list[Taken]]:
        app = Echo()
        listener = HttpListener(app, max_body_bytes=LIMIT)
        near, far = socket.socketpair()
        loop = asyncio.get_running_loop()
        from gateway.transports.http_inbound import InboundConnection

        await loop.connect_accepted_socket(lambda: InboundConnection(listener), far)
        near.setblocking(False)
        for piece in pieces:
            await loop.sock_sendall(near, piece)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        near.shutdown(socket.SHUT_WR)
        got = b""
        while chunk := await loop.sock_recv(near, 65536):
            got += chunk
        near.close()
        await listener.close(0)
        return re.sub(rb"date: [^\r]*", b"", got), app.taken

    async def scenario() -> None:
        assert await answered(parts) == await answered([whole])

    asyncio.run(scenario())
