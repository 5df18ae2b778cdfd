"""Event streams as responses: what comes out of a queue, until its end."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from gateway.transports.http_messages import CONTENT_EVENTS
from gateway.transports.http_replies import nothing
from gateway.wire import sse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.transports.http_exchange import HttpRequest
    from gateway.transports.http_replies import MessageQueue
    from gateway.transports.http_resumption import ResumableStream
    from gateway.transports.patience import Patience

_WRITTEN_BYTES = 64 * 1024
"""About how much is written at a time; then it is seen whether the client takes more."""
_COMMENT = b":\n\n"
_RETRY = b"retry: 1000\n"
"""After how many milliseconds a client is to come back to a stream that broke off."""


class EventResponse:
    """The answer to a request is an event stream; `over` is called at its end, whatever made it.

    With a `stream` its events have ids. A comment shows that it lives when `keep_alive` is over.
    What one turn of the event loop brings is written at once.
    """

    __slots__ = (
        "_keep_alive",
        "_loop",
        "_open",
        "_over",
        "_queue",
        "_replayed",
        "_request",
        "_scheduled",
        "_stream",
    )

    def __init__(
        self,
        request: HttpRequest,
        queue: MessageQueue,
        stream: ResumableStream | None,
        keep_alive: Patience,
        over: Callable[[], None],
    ) -> None:
        self._request = request
        self._queue = queue
        self._stream = stream
        self._keep_alive = keep_alive
        self._over = over
        self._replayed: deque[tuple[str, bytes]] = deque()
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._open = True

    def open(
        self,
        lines: bytes = b"",
        *,
        primes: bool = False,
        replayed: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        """Begin, with further headers, with what is `replayed`.

        `primes`: the first event has nothing but its id.
        """
        request, stream = self._request, self._stream
        self._replayed.extend(replayed)
        request.gone = self._gone
        request.drained = self._changed
        self._queue.changed = self._changed
        # The first bytes make the headers leave: without them some clients wait for an event.
        first = _COMMENT
        if stream is not None and primes:
            first = _RETRY + sse.event(b"", stream.prime())
        request.begin(CONTENT_EVENTS + lines, first)
        self._keep_alive.start(self)
        self._changed()

    def waited(self) -> None:
        """It has been silent for long."""
        if self._request.writable:
            self._request.write(_COMMENT)
        self._keep_alive.start(self)

    def _changed(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Send what there is, as far as the client takes it."""
        self._scheduled = False
        request = self._request
        while self._open and request.writable:
            events, size_bytes = [], 0
            while size_bytes < _WRITTEN_BYTES and (event := self._next()) is not None:
                events.append(event)
                size_bytes += len(event)
            if self._queue.spent and not self._replayed:
                self._close()
                request.end(b"".join(events))
                self._over()
            elif events:
                request.write(b"".join(events))
                self._keep_alive.stop(self)
                self._keep_alive.start(self)
            else:
                return

    def _next(self) -> bytes | None:
        if self._replayed:
            event_id, frame = self._replayed.popleft()
            return sse.event(frame, event_id)
        taken = self._queue.take()
        if taken is None:
            return None
        return sse.event(taken, None if self._stream is None else self._stream.sent(taken))

    def _gone(self) -> None:
        """The client has closed the connection."""
        self._close()
        self._queue.abandon()
        self._over()

    def _close(self) -> None:
        self._open = False
        self._keep_alive.stop(self)
        self._queue.changed = nothing
        self._request.drained = self._request.gone = nothing
