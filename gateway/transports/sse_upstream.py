"""An upstream behind HTTP+SSE, the transport of revision 2024-11-05 that came before today's."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from gateway.transports.http_connection import HttpError, status_words
from gateway.transports.http_pool import HttpPool
from gateway.transports.http_request import HeaderBlock, Origin, header_block, split_url
from gateway.transports.upstream import UpstreamUnavailable
from gateway.wire.sse import Event, EventParser, OversizedEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.transports.http_connection import Exchange
    from gateway.transports.http_upstream import HttpSpec
    from gateway.transports.upstream import UpstreamEvents

_ENDPOINT_S = 20.0  # until the stream has named the address for POSTs
_ACCEPTED_S = 5.0  # how long what follows a notification waits for it to be taken
_MAX_IGNORED_BYTES = 64 << 10  # of a body that nobody wants; for more the connection is closed
_URL = re.compile(rb"[!-~]{1,4096}")
_STATELESS = "the HTTP+SSE transport has no stateless protocol revision"


class SseUpstream:
    """An `UpstreamTransport` of one event stream, which brings everything, and POSTs beside it.

    The stream's first event names the address for the POSTs, which must be of the configured
    origin: nobody else gets the configured headers. The connection is over when the stream is.
    `pool` may serve many upstreams; without one the upstream opens its own.
    """

    closes_streams = False

    def __init__(
        self, spec: HttpSpec, events: UpstreamEvents, pool: HttpPool | None = None
    ) -> None:
        self.events = events
        self._spec = spec
        self._pool = HttpPool() if pool is None else pool
        self._owns_pool = pool is None
        self._stream: Exchange | None = None
        self._posts: set[_Post] = set()
        self._barrier: _Post | None = None
        self._barrier_timer: asyncio.TimerHandle | None = None
        self._waiting: deque[tuple[bytes, int | None]] = deque()
        self._target: str | None = None  # None until the stream has named it
        self._started = False
        self._closed = False
        self._problem = ""  # why it closed before it was started
        self._stopping: asyncio.Task[None] | None = None
        # Set by start():
        self._opened: asyncio.Future[None]
        self._origin: Origin
        self._post_headers: HeaderBlock

    @property
    def max_frame_bytes(self) -> int:
        """The size limit of one message."""
        return self._spec.max_frame_bytes

    async def start(self) -> None:
        """Open the stream and learn where to POST. Raises UpstreamUnavailable."""
        self._opened = asyncio.get_running_loop().create_future()
        problem = ""
        try:
            self._origin, target = split_url(self._spec.url)
            own = self._spec.own_headers()
            self._post_headers = header_block([("Content-Type", "application/json"), *own])
            get_headers = header_block([("Accept", "text/event-stream"), *own])
            self._stream = self._pool.request(
                self._origin, "GET", target, get_headers, b"", _Stream(self), idempotent=True
            )
            async with asyncio.timeout(_ENDPOINT_S):
                await self._opened
            problem = self._problem
            self._started = not problem
        except ValueError as error:
            problem = str(error)
        except TimeoutError:
            problem = f"its event stream named no endpoint within {_ENDPOINT_S:g} s"
        finally:
            if not self._started:
                self._closed = True
                self._abort_all()
                if self._owns_pool:
                    await self._pool.close()
        if problem:
            raise UpstreamUnavailable(
                f"upstream {self._spec.upstream!r} cannot be reached: {problem}"
            )

    def send(
        self,
        frame: bytes,
        request: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """POST one message; see `UpstreamTransport.send`.

        A request with headers of its own is of a stateless revision, and fails: this transport
        has none, and a server that never heard of one might not even answer.
        """
        if b"\n" in frame:
            raise ValueError("a frame must not contain a line feed")
        if self._closed:
            return
        if headers:
            loop = asyncio.get_running_loop()
            loop.call_soon(self.events.request_failed, request, _STATELESS)
        elif self._barrier is not None:
            self._waiting.append((frame, request))
        else:
            self._post(frame, request)

    def abandon(self, request: int) -> None:
        """Nothing to close: the answer would come on the one stream."""

    def session_started(self, protocol_version: str) -> None:
        """Nothing to do: the stream is open, and versions are not sent in headers here."""

    def pause_reading(self) -> None:
        """See `UpstreamTransport.pause_reading`."""
        if self._stream is not None:
            self._stream.pause_reading()

    def resume_reading(self) -> None:
        """See `UpstreamTransport.resume_reading`."""
        if self._stream is not None:
            self._stream.resume_reading()

    async def stop(self, grace_s: float) -> None:
        """Close the stream, and with it the session."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        self.lost("was disconnected")
        if self._owns_pool:
            await self._pool.close()

    # For the stream:

    def take(self, item: Event | OversizedEvent) -> None:
        """Take one event; after the end nothing counts."""
        if self._closed:
            return
        if isinstance(item, OversizedEvent):
            self.overflowed()
        elif item.type == b"endpoint" and self._target is None:
            try:
                self._target = _endpoint_target(self._spec.url, self._origin, item.data)
            except ValueError as error:
                self.lost(str(error))
            else:
                self._opened.set_result(None)
        elif item.type == b"message" and self._target is not None:
            self.events.frame_received(item.data, None)
        else:
            self.events.noise(len(item.data))

    def overflowed(self) -> None:
        """A message is too large. Which request it answers cannot be told, so all of them fail."""
        self.lost(f"sent a message larger than {self.max_frame_bytes} bytes")

    def lost(self, reason: str) -> None:
        """The stream is over, and with it the connection."""
        if self._closed:
            return
        self._closed = True
        self._abort_all()
        if self._started:
            self.events.closed(reason, "")
            return
        self._problem = reason
        if not self._opened.done():
            self._opened.set_result(None)

    # For the POSTs:

    def accepted(self, post: _Post) -> None:
        """The server has a message: what was not to overtake it may follow."""
        if post is not self._barrier:
            return
        self._barrier = None
        if self._barrier_timer is not None:
            self._barrier_timer.cancel()
        while self._waiting and self._barrier is None:
            self._post(*self._waiting.popleft())

    def ended(self, post: _Post, failure: str) -> None:
        """The response is over; `failure` says why the message was not taken, if it was not."""
        self._posts.discard(post)
        if failure:
            self.events.request_failed(post.request, failure)
        self.accepted(post)

    def _post(self, frame: bytes, request: int | None) -> None:
        post = _Post(self, request)
        self._posts.add(post)
        post.exchange = self._pool.request(
            self._origin, "POST", self._target or "/", self._post_headers, frame, post
        )
        if request is None:
            # Each POST has a connection of its own: without this, a request could come in before
            # the notification that the session is initialized.
            self._barrier = post
            loop = asyncio.get_running_loop()
            self._barrier_timer = loop.call_later(_ACCEPTED_S, self.accepted, post)

    def _abort_all(self) -> None:
        if self._stream is not None:
            self._stream.abort()
        for post in self._posts:
            if post.exchange is not None:
                post.exchange.abort()
        self._posts.clear()
        self._waiting.clear()
        if self._barrier_timer is not None:
            self._barrier_timer.cancel()


class _Stream:
    """The response that brings all events."""

    def __init__(self, upstream: SseUpstream) -> None:
        self._upstream = upstream
        self._parser = EventParser(upstream.max_frame_bytes)

    def on_headers(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        content_type = dict(headers).get(b"content-type", b"").partition(b";")[0].strip().lower()
        if status != HTTPStatus.OK:
            self._upstream.lost(status_words(status))
        elif content_type != b"text/event-stream":
            self._upstream.lost("the server answered without an event stream")

    def on_body(self, chunk: bytes) -> None:
        for item in self._parser.feed(chunk):
            self._upstream.take(item)
        if self._parser.overflowing:
            self._upstream.overflowed()

    def on_complete(self) -> None:
        self._upstream.lost("ended its event stream")

    def on_error(self, error: HttpError) -> None:
        self._upstream.lost(str(error))


class _Post:
    """The response to one message: only its status counts."""

    def __init__(self, upstream: SseUpstream, request: int | None) -> None:
        self.exchange: Exchange | None = None
        self.request = request
        self._upstream = upstream
        self._status = 0
        self._ignored_bytes = 0

    def on_headers(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status
        self._upstream.accepted(self)

    def on_body(self, chunk: bytes) -> None:
        self._ignored_bytes += len(chunk)
        if self._ignored_bytes > _MAX_IGNORED_BYTES and self.exchange is not None:
            self.exchange.abort()
            self.on_complete()

    def on_complete(self) -> None:
        taken = 200 <= self._status < 300
        self._upstream.ended(self, "" if taken else status_words(self._status))

    def on_error(self, error: HttpError) -> None:
        self._upstream.ended(self, str(error))


def _endpoint_target(url: str, origin: Origin, data: bytes) -> str:
    """The request target that an `endpoint` event names; ValueError where it is of no use."""
    if not _URL.fullmatch(data):
        raise ValueError("its event stream named an endpoint that is no URL")
    try:
        named, target = split_url(urljoin(url, data.decode("ascii")))
    except ValueError:
        raise ValueError("its event stream named an endpoint that is no URL") from None
    if named != origin:
        raise ValueError("its event stream named an endpoint on another host, port or scheme")
    return target
