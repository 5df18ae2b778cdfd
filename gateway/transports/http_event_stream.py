"""A GET stream of messages from an upstream, opened again whenever it breaks off."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from gateway.transports.http_connection import status_words
from gateway.wire.sse import EventParser

if TYPE_CHECKING:
    from gateway.transports.http_connection import Exchange, HttpError
    from gateway.transports.http_upstream import HttpUpstream

_FIRST_DELAY_S = 1.0
_LEAST_DELAY_S = 0.05
_LAST_DELAY_S = 30.0
_ATTEMPTS = 5  # in a row without an event, for the answer to a request


class EventStream:
    """The upstream's own messages (`request` None), or the rest of the answer to a request.

    Opening it again continues after `last_event_id`, if the upstream gives its events ids. A
    stream of the upstream's own messages is tried for ever, unless the upstream offers none;
    the answer to a request a few times.
    """

    def __init__(
        self,
        upstream: HttpUpstream,
        request: int | None,
        last_event_id: bytes = b"",
        retry_ms: int | None = None,
    ) -> None:
        self.exchange: Exchange | None = None
        self._upstream = upstream
        self._request = request
        self._last_event_id = last_event_id
        self._retry_ms = retry_ms
        self._parser: EventParser | None = None
        self._offered = request is not None
        self._refused = 0  # the status with which the upstream refused the stream for good
        self._vain = 0  # times in a row that it brought nothing
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Ask for the stream."""
        self._timer = None
        self._parser = None
        self.exchange = self._upstream.open_get(self._last_event_id, self)

    def open_later(self) -> None:
        """Ask for the stream after the delay that the upstream wants, longer after failures."""
        delay_s = _FIRST_DELAY_S if self._retry_ms is None else self._retry_ms / 1000
        if self._vain:
            delay_s = max(delay_s, _FIRST_DELAY_S * 2.0 ** min(self._vain - 1, 10))
        delay_s = min(max(delay_s, _LEAST_DELAY_S), _LAST_DELAY_S)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self.open)

    def abort(self) -> None:
        """Close the stream and do not open it again."""
        if self._timer is not None:
            self._timer.cancel()
        if self.exchange is not None:
            self.exchange.abort()

    def on_headers(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        content_type = dict(headers).get(b"content-type", b"").partition(b";")[0].strip().lower()
        if status == HTTPStatus.OK and content_type == b"text/event-stream":
            self._offered = True
            self._parser = EventParser(self._upstream.max_frame_bytes)
        elif status == HTTPStatus.NOT_FOUND and self._offered and self._upstream.has_session():
            self._upstream.session_expired()
        elif status < 500 and status != HTTPStatus.TOO_MANY_REQUESTS:
            self._refused = status

    def on_body(self, chunk: bytes) -> None:
        if self._parser is None:
            return
        items = self._parser.feed(chunk)
        if not items:
            return
        self._vain = 0
        upstream, request = self._upstream, self._request
        if not upstream.report(items, self, request):
            upstream.events.noise(upstream.max_frame_bytes)
        if request is not None and not upstream.events.waiting_for(request):
            self.abort()
            upstream.ended(self, request)

    def on_complete(self) -> None:
        self._broken_off("the server's response ended without an answer")

    def on_error(self, error: HttpError) -> None:
        self._broken_off(str(error))

    def _broken_off(self, reason: str) -> None:
        if self._parser is not None:
            self._last_event_id = self._parser.last_event_id or self._last_event_id
            if self._parser.retry_ms is not None:
                self._retry_ms = self._parser.retry_ms
        request, events = self._request, self._upstream.events
        if not self._refused and (request is None or self._vain < _ATTEMPTS):
            self.open_later()
            self._vain += 1
            return
        self._upstream.ended(self, request)
        if request is not None:
            events.request_failed(request, status_words(self._refused) if self._refused else reason)
