"""The answers to POSTs: plain JSON where the answer is the first thing to come, else a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.transports.http_replies import nothing
from gateway.transports.http_streams import EventResponse
from gateway.wire import frames
from gateway.wire.modern import (
    HEADER_MISMATCH,
    MISSING_CLIENT_CAPABILITY,
    UNSUPPORTED_VERSION,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.transports.http_exchange import HttpRequest
    from gateway.transports.http_replies import PostReply
    from gateway.transports.http_resumption import ResumableStream
    from gateway.transports.http_sessions import Session, Sessions
    from gateway.transports.patience import Patience

_STATUSES = {
    frames.PARSE_ERROR: 400,
    frames.INVALID_REQUEST: 400,
    frames.INVALID_PARAMS: 400,
    frames.METHOD_NOT_FOUND: 404,
    HEADER_MISMATCH: 400,
    MISSING_CLIENT_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
}
"""The HTTP status of an error in the stateless era, by its code; 200 for any other."""


class PostResponse:
    """The response to one POST, whose messages its `reply` collects.

    It becomes an event stream when something comes before the answer, or when the patience that it
    was given is over; neither where the client takes no streams.
    """

    __slots__ = ("_keep_alive", "_patience", "_reply", "_request", "_streams")

    def __init__(
        self, request: HttpRequest, reply: PostReply, keep_alive: Patience, *, streams: bool
    ) -> None:
        self._request = request
        self._reply = reply
        self._keep_alive = keep_alive
        self._streams = streams
        self._patience: Patience | None = None

    def start(self, patience: Patience | None) -> None:
        """The session has the messages: answer now, or when it does."""
        reply = self._reply
        if reply.queue.ended or reply.streamed:
            self._changed()
            return
        reply.queue.changed = self._changed
        self._request.gone = self._gone
        if self._streams and patience is not None:
            self._patience = patience
            patience.start(self)

    def fail(self) -> None:
        """The session could not take the messages: there will be no answer."""
        self._gone()

    def waited(self) -> None:
        """The answer is long in coming."""
        self._patience = None
        self._stream()

    def _changed(self) -> None:
        reply = self._reply
        ended = reply.queue.ended
        if reply.streamed or (ended and self._streams and reply.answers > 1):
            self._stream()
        elif ended:
            self._plain()

    def _plain(self) -> None:
        self._wait_no_more()
        reply, request = self._reply, self._request
        lines = self._lines()
        if not reply.answers:
            request.respond(202, b"", lines)
        elif reply.answers == 1:
            status = 400 if reply.rejected else self._status(reply.code)
            request.respond(status, reply.queue.take() or b"", lines)
        else:
            answers = list(iter(reply.queue.take, None))
            request.respond(200, b"[" + b",".join(answers) + b"]", lines)
        self._over()

    def _stream(self) -> None:
        self._wait_no_more()
        response = EventResponse(
            self._request, self._reply.queue, self._resumable(), self._keep_alive, self._over
        )
        response.open(self._lines(), primes=self._primes())

    def _gone(self) -> None:
        """The client has closed the connection."""
        self._wait_no_more()
        self._reply.queue.abandon()
        self._over()

    def _wait_no_more(self) -> None:
        self._reply.queue.changed = nothing
        self._request.gone = nothing
        if self._patience is not None:
            self._patience.stop(self)
            self._patience = None

    # What the eras differ in

    def _lines(self) -> bytes:
        """Headers of the response, with line ends."""
        raise NotImplementedError

    def _status(self, code: int | None) -> int:
        """The status of the one answer; `code` is that of the error, if it is one."""
        raise NotImplementedError

    def _resumable(self) -> ResumableStream | None:
        """The stream that the client can come back to."""
        raise NotImplementedError

    def _primes(self) -> bool:
        """Whether the client takes an event without data."""
        raise NotImplementedError

    def _over(self) -> None:
        """The response is over, or its client has gone."""
        raise NotImplementedError


class SessionPost(PostResponse):
    """The response to messages of a session. A client that knows the session can resume it."""

    __slots__ = ("_announced", "_primed", "_session", "_sessions")

    def __init__(
        self,
        request: HttpRequest,
        reply: PostReply,
        keep_alive: Patience,
        sessions: Sessions,
        session: Session,
        *,
        streams: bool,
        primes: bool,
    ) -> None:
        super().__init__(request, reply, keep_alive, streams=streams)
        self._sessions = sessions
        self._session = session
        self._announced = session.announced
        self._primed = primes

    def _lines(self) -> bytes:
        return b"" if self._announced else self._sessions.announce(self._session)

    def _status(self, code: int | None) -> int:
        return 200

    def _resumable(self) -> ResumableStream | None:
        return self._reply.begin(self._session.log) if self._announced else None

    def _primes(self) -> bool:
        return self._primed

    def _over(self) -> None:
        self._reply.over()
        if not self._session.announced:
            self._sessions.discard(self._session)


class StatelessPost(PostResponse):
    """The response to a client without a session; its end cancels what it asked for."""

    __slots__ = ("_cancel",)

    def __init__(
        self,
        request: HttpRequest,
        reply: PostReply,
        keep_alive: Patience,
        cancel: Callable[[], None],
        *,
        streams: bool,
    ) -> None:
        super().__init__(request, reply, keep_alive, streams=streams)
        self._cancel = cancel

    def _lines(self) -> bytes:
        return b""

    def _status(self, code: int | None) -> int:
        return 200 if code is None else _STATUSES.get(code, 200)

    def _resumable(self) -> ResumableStream | None:
        return None

    def _primes(self) -> bool:
        return False

    def _over(self) -> None:
        self._cancel()
        self._reply.queue.close()
