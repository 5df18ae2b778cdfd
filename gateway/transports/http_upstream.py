"""An upstream behind streamable HTTP, in either era of the protocol."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from gateway.transports.http_connection import HttpError, status_words
from gateway.transports.http_event_stream import EventStream
from gateway.transports.http_pool import HttpPool
from gateway.transports.http_request import HeaderBlock, Origin, header_block, split_url
from gateway.transports.upstream import UpstreamUnavailable
from gateway.wire.sse import Event, EventParser, OversizedEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.transports.http_connection import Exchange, ResponseHandler
    from gateway.transports.upstream import UpstreamEvents

_DELETE_S = 2.0
_LINGER_S = 5.0  # from the answer on a stream to the end of the stream
_MAX_IGNORED_BYTES = 64 << 10  # of a body that nobody wants; for more the connection is closed
# How a server of the older transport answers a POST to the address of its stream.
_LEGACY_STATUSES = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
_LEGACY_HINT = "; it may be a server of the older HTTP+SSE transport, which needs type: sse"
_SESSION_ID = re.compile(rb"[\x21-\x7e]{1,1024}")
_VERSION = re.compile(r"[0-9A-Za-z.-]{1,64}")
# Written by the transport itself; an entry of the configuration does not replace them.
_WRITTEN = frozenset(
    {"accept", "content-type", "last-event-id", "mcp-protocol-version", "mcp-session-id"}
)


class HttpSpec(msgspec.Struct, frozen=True):
    """Where an upstream is reached. `headers` is complete and may hold secrets."""

    upstream: str
    url: str
    headers: dict[str, str]
    max_frame_bytes: int

    def own_headers(self) -> list[tuple[str, str]]:
        """The configured headers, less those that a transport writes itself."""
        return [pair for pair in self.headers.items() if pair[0].lower() not in _WRITTEN]


class HttpUpstream:
    """An `UpstreamTransport` over HTTP: each message is a POST, its answer that POST's response.

    `pool` may serve many upstreams; without one the upstream opens its own. A stateless upstream
    gets no session: what its requests need is in the headers they bring.
    """

    closes_streams = True

    def __init__(
        self, spec: HttpSpec, events: UpstreamEvents, pool: HttpPool | None = None
    ) -> None:
        self.events = events
        self.max_frame_bytes = spec.max_frame_bytes
        self.accepted_once = False  # a POST has been answered with a status of success
        self._spec = spec
        self._pool = HttpPool() if pool is None else pool
        self._owns_pool = pool is None
        self._session_id: str | None = None
        self._version: str | None = None
        self._open: set[_Post | EventStream] = set()
        self._by_request: dict[int, _Post | EventStream] = {}
        self._reading = True
        self._closed = False
        self._stopping: asyncio.Task[None] | None = None
        # Set by start():
        self._origin: Origin
        self._target: str
        self._fixed_headers: list[tuple[str, str]]
        self._post_headers: HeaderBlock

    async def start(self) -> None:
        """Open a first connection. Raises UpstreamUnavailable where that is not possible."""
        try:
            self._origin, self._target = split_url(self._spec.url)
            self._fixed_headers = self._spec.own_headers()
            self._write_headers()
            await self._pool.connect(self._origin)
        except (ValueError, HttpError) as error:
            if self._owns_pool:
                await self._pool.close()
            raise UpstreamUnavailable(
                f"upstream {self._spec.upstream!r} cannot be reached: {error}"
            ) from None

    def send(
        self,
        frame: bytes,
        request: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """POST one message; see `UpstreamTransport.send`."""
        if b"\n" in frame:
            raise ValueError("a frame must not contain a line feed")
        if self._closed:
            return
        block = self._post_headers
        if headers:
            block = HeaderBlock(block + header_block(headers.items()))
        post = _Post(self, request)
        self.opened(post, request)
        post.exchange = self._request("POST", block, frame, post)

    def abandon(self, request: int) -> None:
        """Close the stream that was to bring the answer to `request`."""
        stream = self._by_request.get(request)
        if stream is not None:
            stream.abort()
            self.ended(stream, request)

    def session_started(self, protocol_version: str) -> None:
        """Send `protocol_version` from now on and open the GET stream."""
        if not _VERSION.fullmatch(protocol_version):
            raise ValueError("not a protocol version")
        self._version = protocol_version
        self._write_headers()
        if not self._closed:
            stream = EventStream(self, None)
            self.opened(stream, None)
            stream.open()

    def pause_reading(self) -> None:
        """See `UpstreamTransport.pause_reading`."""
        self._reading = False
        for stream in self._open:
            if stream.exchange is not None:
                stream.exchange.pause_reading()

    def resume_reading(self) -> None:
        """See `UpstreamTransport.resume_reading`."""
        self._reading = True
        for stream in list(self._open):
            if stream.exchange is not None:
                stream.exchange.resume_reading()

    async def stop(self, grace_s: float) -> None:
        """End the session at the upstream, waiting a moment for its answer, and close."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(min(grace_s, _DELETE_S)))
        await asyncio.shield(self._stopping)

    async def _stop(self, limit_s: float) -> None:
        was_closed = self._closed
        self._closed = True
        self._abort_all()
        if self._session_id is not None and not was_closed:
            farewell = _Farewell()
            headers = header_block([*self._fixed_headers, *self._session_headers()])
            exchange = self._request("DELETE", headers, b"", farewell)
            await asyncio.wait([farewell.over], timeout=limit_s)
            exchange.abort()
        if self._owns_pool:
            await self._pool.close()
        if not was_closed:
            self.events.closed("was disconnected", "")

    # For the streams:

    def open_get(self, last_event_id: bytes, handler: ResponseHandler) -> Exchange:
        """Ask for a stream of messages, from the given event on."""
        headers = [("Accept", "text/event-stream"), *self._fixed_headers]
        headers += self._session_headers()
        if last_event_id:
            headers.append(("Last-Event-ID", last_event_id.decode("latin-1")))
        return self._request("GET", header_block(headers), b"", handler)

    def opened(self, stream: _Post | EventStream, request: int | None) -> None:
        """From now on `stream` is to bring the answer to `request`."""
        self._open.add(stream)
        if request is not None:
            self._by_request[request] = stream

    def ended(self, stream: _Post | EventStream, request: int | None) -> None:
        """Nothing more comes from `stream`."""
        self._open.discard(stream)
        if request is not None and self._by_request.get(request) is stream:
            del self._by_request[request]

    def is_open(self, stream: _Post | EventStream) -> bool:
        """Whether `stream` has neither ended nor been abandoned."""
        return stream in self._open

    def session_expired(self) -> None:
        """The upstream does not know the session any more."""
        self._closed = True
        self._abort_all()
        self.events.closed("session expired", "the upstream answered HTTP 404 for the session")

    def has_session(self) -> bool:
        """Whether requests carry a session id."""
        return self._session_id is not None

    def take_session_id(self, value: bytes) -> bool:
        """Use what the answer to `initialize` gave; False if it is not a session id."""
        if self._session_id is None and self._version is None:
            if not _SESSION_ID.fullmatch(value):
                return False
            self._session_id = value.decode("ascii")
            self._write_headers()
        return True

    def report(
        self,
        items: list[Event | OversizedEvent],
        stream: _Post | EventStream,
        request: int | None,
    ) -> bool:
        """Report the messages among `items`; False if one was too large."""
        all_fit = True
        for item in items:
            if not self.is_open(stream):  # abandoned on account of the message before
                break
            if isinstance(item, OversizedEvent):
                all_fit = False
            elif item.type != b"message":
                self.events.noise(len(item.data))
            elif item.data:  # some streams open with an empty event, to give it an id
                self.events.frame_received(item.data, request)
        return all_fit

    def _request(
        self, method: str, headers: HeaderBlock, body: bytes, handler: ResponseHandler
    ) -> Exchange:
        exchange = self._pool.request(
            self._origin, method, self._target, headers, body, handler, idempotent=method != "POST"
        )
        if not self._reading:
            exchange.pause_reading()
        return exchange

    def _session_headers(self) -> list[tuple[str, str]]:
        headers = []
        if self._session_id is not None:
            headers.append(("Mcp-Session-Id", self._session_id))
        if self._version is not None:
            headers.append(("MCP-Protocol-Version", self._version))
        return headers

    def _write_headers(self) -> None:
        self._post_headers = header_block(
            [
                ("Accept", "application/json, text/event-stream"),
                ("Content-Type", "application/json"),
                *self._fixed_headers,
                *self._session_headers(),
            ]
        )

    def _abort_all(self) -> None:
        for stream in self._open:
            stream.abort()
        self._open.clear()
        self._by_request.clear()


class _Post:
    """The response to one message. Its kind is known with the headers."""

    def __init__(self, upstream: HttpUpstream, request: int | None) -> None:
        self.exchange: Exchange | None = None
        self._upstream = upstream
        self._request = request
        self._status = 0
        self._json = False
        self._body: bytes | bytearray = b""
        self._parser: EventParser | None = None
        self._linger: asyncio.TimerHandle | None = None

    def abort(self) -> None:
        if self.exchange is not None:
            self.exchange.abort()
        if self._linger is not None:
            self._linger.cancel()

    def on_headers(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status
        upstream = self._upstream
        if 200 <= status < 300:
            upstream.accepted_once = True
        if status == HTTPStatus.NOT_FOUND and upstream.has_session():
            upstream.session_expired()
            return
        content_type = b""
        for name, value in headers:
            if name == b"content-type":
                content_type = value.partition(b";")[0].strip().lower()
            elif (
                name == b"mcp-session-id"
                and 200 <= status < 300
                and not upstream.take_session_id(value)
            ):
                self._give_up("the server's session id is not valid")
                return
            elif name == b"content-length" and _content_length(value) > upstream.max_frame_bytes:
                self._give_up(self._too_large())
                return
        if content_type == b"application/json":
            self._json = True
        elif content_type == b"text/event-stream" and status == HTTPStatus.OK:
            self._parser = EventParser(upstream.max_frame_bytes)

    def on_body(self, chunk: bytes) -> None:
        if self._parser is not None:
            items = self._parser.feed(chunk)
            self._events_received(items, overflowing=self._parser.overflowing)
            return
        if not self._body:
            self._body = chunk
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += chunk
        wanted = self._json and self._request is not None
        if len(self._body) > (self._upstream.max_frame_bytes if wanted else _MAX_IGNORED_BYTES):
            self._give_up(self._too_large() if wanted else self._words())

    def on_complete(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
        self._upstream.ended(self, self._request)
        events = self._upstream.events
        if self._parser is not None:
            self._stream_ended("the server's response ended without an answer")
            return
        body = bytes(self._body).strip()
        self._body = b""  # this object is in a cycle with its exchange: do not keep a large answer
        if self._request is None:
            if not 200 <= self._status < 300:
                events.request_failed(None, self._words())
            elif body:
                events.noise(len(body))
            return
        if self._json and body:
            events.frame_received(body, self._request)
        if events.waiting_for(self._request):
            events.request_failed(self._request, self._words())

    def on_error(self, error: HttpError) -> None:
        if self._linger is not None:
            self._linger.cancel()
        self._upstream.ended(self, self._request)
        if self._parser is not None:
            self._stream_ended(str(error))
        else:
            self._upstream.events.request_failed(self._request, str(error))

    def _events_received(self, items: list[Event | OversizedEvent], *, overflowing: bool) -> None:
        upstream, request = self._upstream, self._request
        fit = upstream.report(items, self, request)
        if (overflowing or not fit) and upstream.is_open(self):
            self._give_up(self._too_large())
        elif (
            request is not None
            and items
            and self._linger is None
            and not upstream.events.waiting_for(request)
            and upstream.is_open(self)
        ):
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(_LINGER_S, self._give_up, "")

    def _stream_ended(self, reason: str) -> None:
        """The upstream may break a stream off and have it fetched again from where it was."""
        request, parser = self._request, self._parser
        if request is None or parser is None or not self._upstream.events.waiting_for(request):
            return
        if parser.last_event_id:
            stream = EventStream(self._upstream, request, parser.last_event_id, parser.retry_ms)
            self._upstream.opened(stream, request)
            stream.open_later()
        else:
            self._upstream.events.request_failed(request, reason)

    def _give_up(self, reason: str) -> None:
        self.abort()
        self._upstream.ended(self, self._request)
        if self._request is None or self._upstream.events.waiting_for(self._request):
            self._upstream.events.request_failed(self._request, reason)

    def _too_large(self) -> str:
        return f"the server's answer is larger than {self._upstream.max_frame_bytes} bytes"

    def _words(self) -> str:
        words = status_words(self._status)
        if self._status in _LEGACY_STATUSES and not self._upstream.accepted_once:
            words += _LEGACY_HINT
        return words


class _Farewell:
    """Waits for the end of a response and looks at nothing."""

    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_headers(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        pass

    def on_body(self, chunk: bytes) -> None:
        pass

    def on_complete(self) -> None:
        self.over.set_result(None)

    def on_error(self, error: HttpError) -> None:
        self.over.set_result(None)


def _content_length(value: bytes) -> int:
    """The number in a Content-Length header; 0 where it is none (the parser refuses it)."""
    return int(value) if value.isdigit() and len(value) < 20 else 0
