"""The server's side of HTTP/1.1: whole requests in, bytes out."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import httptools

REASONS = {200: b"OK", 202: b"Accepted", 404: b"Not Found", 405: b"Method Not Allowed"}


@dataclass
class Request:
    """One request, complete. Header names are lower case."""

    connection: "ServerConnection"
    method: bytes = b""
    path: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""

    def answer(self, status: int, body: bytes = b"", headers: bytes = b"") -> None:
        """Answer with one body; `headers` are encoded lines, each with its line end."""
        self.connection.write(head(status, len(body), headers))
        if body:
            self.connection.write(body)


def head(status: int, size_bytes: int, headers: bytes = b"") -> bytes:
    """Status line and headers of an answer with a body of `size_bytes`."""
    reason = REASONS.get(status, b"-")
    return b"HTTP/1.1 %d %b\r\ncontent-length: %d\r\n%b\r\n" % (status, reason, size_bytes, headers)


class ServerConnection(asyncio.Protocol):
    """One client's connection; `handle` is called with each request, which it answers later."""

    def __init__(self, handle: Callable[[Request], None]) -> None:
        self._handle = handle
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request(self)
        self._chunks: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def write(self, data: bytes) -> None:
        """Send bytes of an answer; nothing where the client is gone."""
        if self._transport is not None:
            self._transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods but not the base class.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # What httptools calls

    def on_message_begin(self) -> None:
        self._request = Request(self)
        self._chunks = []

    def on_url(self, url: bytes) -> None:
        self._request.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method()
        request.body = b"".join(self._chunks)
        self._handle(request)


async def listen(handle: Callable[[Request], None], port: int) -> asyncio.Server:
    """Serve on loopback."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: ServerConnection(handle), "127.0.0.1", port, backlog=2048
    )


async def until_abandoned() -> None:
    """Wait until stdin ends: whoever started this process is gone then, however that came."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def readable() -> None:
        if not os.read(0, 4096):
            ended.set()

    loop.add_reader(0, readable)
    await ended.wait()
    loop.remove_reader(0)
