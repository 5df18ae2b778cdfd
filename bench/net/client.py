"""The client's side of HTTP/1.1: keep-alive connections with one request at a time, and a pool."""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools

Headers = dict[bytes, bytes]


class Sink(Protocol):
    """Who takes an answer, in the pieces that it comes in."""

    def head(self, status: int, headers: Headers) -> None:
        """The status and the headers, names in lower case."""

    def body(self, chunk: bytes) -> None:
        """More of the body."""

    def complete(self) -> None:
        """The answer is over."""

    def lost(self) -> None:
        """The connection ended in the middle."""


class ClientConnection(asyncio.Protocol):
    """One connection; `idle` is called whenever it can take another request."""

    def __init__(self, idle: Callable[["ClientConnection"], None]) -> None:
        self._idle = idle
        self._parser = httptools.HttpResponseParser(self)
        self._headers: Headers = {}
        self._sink: Sink | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def open(self) -> bool:
        """Whether it can be used."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, data: bytes, sink: Sink) -> None:
        """Send one whole request."""
        if self._transport is None:
            sink.lost()
            return
        self._sink = sink
        self._transport.write(data)

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods but not the base class.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._sink is not None:
            sink, self._sink = self._sink, None
            sink.lost()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # What httptools calls

    def on_message_begin(self) -> None:
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._sink is not None:
            self._sink.head(self._parser.get_status_code(), self._headers)

    def on_body(self, body: bytes) -> None:
        if self._sink is not None:
            self._sink.body(body)

    def on_message_complete(self) -> None:
        sink, self._sink = self._sink, None
        self._idle(self)
        if sink is not None:
            sink.complete()


class Pool:
    """Connections to one server. A request that finds none idle waits until one is being made."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or "127.0.0.1"
        self.port = parts.port or 80
        self._connections: set[ClientConnection] = set()
        self._idle: list[ClientConnection] = []
        self._making: set[asyncio.Task[None]] = set()

    async def prepare(self, connections: int) -> None:
        """Have at least so many connections."""
        while len(self._connections) < connections:
            await self._connect()

    def send(self, data: bytes, sink: Sink) -> None:
        """Send one whole request over any connection."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                connection.send(data, sink)
                return
            self._connections.discard(connection)
        task = asyncio.get_running_loop().create_task(self._connect_and_send(data, sink))
        self._making.add(task)
        task.add_done_callback(self._making.discard)

    def close(self) -> None:
        """Close all of them."""
        for connection in self._connections:
            connection.close()

    async def _connect(self) -> ClientConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: ClientConnection(self._idle.append), self.host, self.port
        )
        self._connections.add(connection)
        self._idle.append(connection)
        return connection

    async def _connect_and_send(self, data: bytes, sink: Sink) -> None:
        try:
            connection = await self._connect()
        except OSError:
            sink.lost()
            return
        if connection in self._idle:
            self._idle.remove(connection)
            connection.send(data, sink)
        else:  # it was taken, or has ended already
            self.send(data, sink)
