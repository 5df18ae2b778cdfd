"""The relay with an HTTP client: bodies to a child's pipes in order, or requests to a server."""

import asyncio
from collections import deque

from bench.net.client import Headers, Pool
from bench.net.server import REASONS, Request, head, listen, until_abandoned
from bench.relays.pipes import Lines, child, read_from, write_to

_JSON = b"content-type: application/json\r\n"


async def to_stdio(port: int, command: list[str]) -> None:
    """Give bodies to one child a path; answers go back in the order of the requests.

    That is right for an upstream that answers in order, as the echo upstream does: anything else
    would need the ids, and so a parser.
    """
    children: dict[bytes, _Child] = {}

    def handle(request: Request) -> None:
        if request.method != b"POST":
            request.answer(405)
            return
        if request.path not in children:
            children[request.path] = _Child(command)
        children[request.path].take(request)

    await listen(handle, port)
    await until_abandoned()


class _Child:
    def __init__(self, command: list[str]) -> None:
        self._waiting: deque[Request] = deque()
        self._unsent: list[bytes] = []
        self._stdin: asyncio.WriteTransport | None = None
        self._starting = asyncio.get_running_loop().create_task(self._start(command))

    def take(self, request: Request) -> None:
        if b'"id"' in request.body:
            self._waiting.append(request)
        else:
            request.answer(202)
        parts = (request.body, b"\n")
        if self._stdin is None:
            self._unsent += parts
        else:
            self._stdin.writelines(parts)

    async def _start(self, command: list[str]) -> None:
        process = child(command)
        assert process.stdin is not None
        assert process.stdout is not None
        await read_from(process.stdout, Lines(self._answer).feed, lambda: None)
        self._stdin, _ = await write_to(process.stdin)
        self._stdin.writelines(self._unsent)

    def _answer(self, line: list[bytes]) -> None:
        request = self._waiting.popleft()
        size_bytes = sum(map(len, line))
        if size_bytes <= 1 << 16:
            request.connection.write(b"".join((head(200, size_bytes, _JSON), *line)))
            return
        request.connection.write(head(200, size_bytes, _JSON))
        for chunk in line:
            request.connection.write(chunk)


async def to_http(port: int, url: str) -> None:
    """Pass requests and answers on as they are; a body's pieces leave as they come."""
    pool = Pool(url)
    address = f"{pool.host}:{pool.port}".encode()

    def handle(request: Request) -> None:
        request.headers[b"host"] = address
        lines = b"".join(b"%b: %b\r\n" % header for header in request.headers.items())
        start = b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method, request.path, lines)
        pool.send(start + request.body, _Answer(request))

    await listen(handle, port)
    await until_abandoned()


class _Answer:
    """An answer on its way back. Is a Sink."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._head = b""

    def head(self, status: int, headers: Headers) -> None:
        lines = b"".join(b"%b: %b\r\n" % header for header in headers.items())
        self._head = b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, REASONS.get(status, b"-"), lines)

    def body(self, chunk: bytes) -> None:
        self._request.connection.write(self._head + chunk if self._head else chunk)
        self._head = b""

    def complete(self) -> None:
        if self._head:
            self._request.connection.write(self._head)

    def lost(self) -> None:
        self._request.answer(502)
