"""One HTTP/1.1 connection of a pool, and one request and its answer on it."""

from __future__ import annotations

import asyncio
import select
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, cast

import httptools

if TYPE_CHECKING:
    from gateway.transports.http_pool import HttpPool
    from gateway.transports.http_request import Origin

_BODILESS = (204, 304)


class HttpError(Exception):
    """No (whole) answer came; the text says why, in words and without secrets."""


class ResponseHandler(Protocol):
    """What is told about one answer, on the loop's thread: headers, body and then one of
    `on_complete` and `on_error`. The methods must not raise. Nothing is called after `abort()`."""

    def on_headers(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The header names are in lower case."""

    def on_body(self, chunk: bytes) -> None: ...

    def on_complete(self) -> None: ...

    def on_error(self, error: HttpError) -> None: ...


class Exchange:
    """One request and its answer."""

    def __init__(
        self, origin: Origin, data: bytes, handler: ResponseHandler, *, idempotent: bool
    ) -> None:
        self.origin = origin
        self.data = data
        self.handler = handler
        self.may_retry = idempotent
        self.over = False
        self.paused = False
        self.connection: Connection | None = None

    def abort(self) -> None:
        """Take no more of the answer; the connection is closed."""
        if not self.over:
            self.over = True
            if self.connection is not None:
                self.connection.abort()

    def pause_reading(self) -> None:
        """Let the answer wait in the connection."""
        if not self.paused:
            self.paused = True
            if self.connection is not None:
                self.connection.pause_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading()`."""
        if self.paused:
            self.paused = False
            if self.connection is not None:
                self.connection.resume_reading()

    def fail(self, reason: str) -> None:
        """End with an error, unless it is over already."""
        if not self.over:
            self.over = True
            self.handler.on_error(HttpError(reason))


class Connection(asyncio.Protocol):
    """One connection: at most one exchange at a time."""

    def __init__(self, pool: HttpPool, origin: Origin) -> None:
        self.origin = origin
        self.loop = asyncio.get_running_loop()
        self.deadline: float | None = None  # of the headers, or of being kept
        self.keep_alive_s: float | None = None
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._poll = select.poll()
        self._exchange: Exchange | None = None
        self._kept = False
        self._answered = False  # at least one byte of the answer has come
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = 0
        self._raw_bytes = 0  # received before the headers were complete, interim answers included
        self._in_body = False  # the headers are complete
        self._complete = False
        self._keep = False
        self._until_eof = False
        self._reading = True
        self._transport: asyncio.Transport

    def is_usable(self) -> bool:
        """Whether the peer has neither closed the connection nor said anything unasked."""
        return not self._transport.is_closing() and not self._poll.poll(0)

    def begin(self, exchange: Exchange, *, kept: bool) -> None:
        """Send the request of `exchange` and give it what comes back.

        `kept`: the connection was open before, and the peer may be about to close it.
        """
        self._exchange = exchange
        exchange.connection = self
        self._kept = kept
        self._answered = self._in_body = self._complete = self._until_eof = False
        self._raw_bytes = 0
        self.keep_alive_s = None
        if exchange.paused:
            self.pause_reading()
        self._transport.write(exchange.data)

    def pause_reading(self) -> None:
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once; nothing more is reported."""
        self._exchange = None
        self._transport.abort()

    def fail(self, reason: str) -> None:
        """Close at once; the exchange, if there is one, ends with an error."""
        exchange, self._exchange = self._exchange, None
        self._transport.abort()
        if exchange is not None:
            exchange.fail(reason)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:  # said without having been asked
            self._transport.abort()
            return
        self._answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            self._transport.abort()
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail("the server's answer is not valid HTTP/1.1")
            return
        if not self._in_body:
            self._raw_bytes += len(data)
        if max(self._raw_bytes, self._header_bytes) > self._pool.max_header_bytes:
            self.fail("the headers of the server's answer are too large")
        elif self._complete:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.lost(self)
        exchange, self._exchange = self._exchange, None
        if exchange is None or exchange.over:
            return
        if self._until_eof and exc is None:
            exchange.over = True
            exchange.handler.on_complete()
        elif self._in_body:
            exchange.fail("the server closed the connection in the middle of its answer")
        elif exchange.may_retry and self._kept and not self._answered:
            self._pool.retry(exchange)
        else:
            exchange.fail("the server closed the connection before it answered")

    # httptools

    def on_message_begin(self) -> None:
        if self._complete and self._exchange is not None:
            # A second answer to one request: nothing that follows can be trusted.
            self._keep = False
        self._headers = []
        self._header_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value) + len(b": \r\n")
        if not self._in_body and self._header_bytes <= self._pool.max_header_bytes:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._complete or self._exchange is None:
            return
        self._in_body = True
        self.deadline = None
        framed = status in _BODILESS
        for name, value in self._headers:
            if name in (b"content-length", b"transfer-encoding"):
                framed = True
            elif name == b"keep-alive":
                self.keep_alive_s = _keep_alive_s(value)
        self._until_eof = not framed
        if self._header_bytes <= self._pool.max_header_bytes:
            self._exchange.handler.on_headers(status, self._headers)

    def on_body(self, chunk: bytes) -> None:
        if self._exchange is not None and not self._complete:
            self._exchange.handler.on_body(chunk)

    def on_message_complete(self) -> None:
        if self._in_body and not self._complete:
            self._complete = True
            self._keep = self._parser.should_keep_alive()  # known only here

    def _end(self) -> None:
        """The answer is complete: free the connection first, as the handler may want it."""
        exchange, self._exchange = self._exchange, None
        unsent = self._transport.get_write_buffer_size()
        if self._keep and not unsent and not self._transport.is_closing():
            self.resume_reading()
            self._pool.put_back(self)
        else:
            self._transport.close()
        if exchange is not None and not exchange.over:
            exchange.over = True
            exchange.connection = None
            exchange.handler.on_complete()


def _keep_alive_s(value: bytes) -> float | None:
    """The `timeout` of a Keep-Alive header."""
    for part in value.split(b","):
        name, _, number = part.strip().partition(b"=")
        if name.lower() == b"timeout" and number.isdigit() and len(number) < 6:
            return float(number)
    return None


def status_words(status: int) -> str:
    """What an HTTP status that brought no answer means, in words."""
    try:
        words = f"the server answered HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        words = f"the server answered HTTP {status}"
    if 300 <= status < 400:
        words += ", and redirects are not followed"
    return words + (" without an answer to the request" if 200 <= status < 300 else "")
