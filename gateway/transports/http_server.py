"""The client side over streamable HTTP, as an ASGI application."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from gateway.transports.client import ClientHandler, Outlet, Reply
from gateway.transports.http_messages import (
    EVENTS,
    JSON,
    KEEP_ALIVE_S,
    REPEATED,
    Receive,
    Refused,
    Scope,
    Send,
    accepts,
    headers_of,
    host_name,
    read_body,
    respond,
    respond_error,
    send_events,
    wait_for_disconnect,
)
from gateway.transports.http_replies import HttpOutlet, MessageQueue, PostReply
from gateway.transports.http_resumption import KEPT_S, Budget, EventLog
from gateway.wire import frames
from gateway.wire.modern import (
    HEADER_MISMATCH,
    MISSING_CLIENT_CAPABILITY,
    PROTOCOL_VERSION,
    UNSUPPORTED_VERSION,
)

RESUMABLE_AFTER_S = 0.25
"""When an answer has been long enough in coming for its response to become one that can be
resumed, where the client's revision names such a one before its first message."""
IDLE_S = 1800.0
"""How long a session without any open request is kept."""
MAX_SESSIONS = 10_000
_SWEEP_S = 30.0
_CLOSE_GRACE_S = 2.0

_PRIMED_SINCE = b"2025-11-25"
"""The first revision whose clients take an event without data."""
_REVISION_KEY = PROTOCOL_VERSION.encode()
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


class Endpoint(Protocol):
    """An endpoint for clients without a session."""

    def receive(
        self, frame: bytes, headers: Mapping[str, str | None], reply: Reply
    ) -> Callable[[], None]:
        """Take the body of a POST; returns what cancels its request.

        `headers` are by lower-case name, None for one that came more than once.
        """

    def oversized(self, size_bytes: int, limit_bytes: int, reply: Reply) -> None:
        """A body over the size limit was dropped unread."""


class Service(Protocol):
    """What the application serves."""

    def stateless(self, path: str) -> Endpoint | None:
        """The endpoint for clients without a session; None where there is no such endpoint."""

    async def close(self) -> None:
        """End what clients without a session shared."""

    def open_session(self, path: str, outlet: Outlet) -> ClientHandler | None:
        """A new session on an endpoint; None where there is no such endpoint."""

    def problem(self) -> str | None:
        """Why calls cannot be served at the moment, or None."""


class HttpLimits(msgspec.Struct, frozen=True):
    """`hosts` are the accepted host names (lower case, no port); `origins` accepted besides the
    server's own; `revisions` the accepted values of MCP-Protocol-Version."""

    max_message_bytes: int
    hosts: frozenset[str]
    origins: frozenset[str]
    revisions: frozenset[str]


class _Session(msgspec.Struct):
    """`announced`: the client has been told its id."""

    handler: ClientHandler
    outlet: HttpOutlet
    path: str
    last_used_s: float
    log: EventLog
    announced: bool = False


class HttpServer:
    """The ASGI application: endpoints of the service, `/healthz` and `/readyz`."""

    def __init__(self, service: Service, limits: HttpLimits) -> None:
        self._service = service
        self._limits = limits
        self._sessions: dict[str, _Session] = {}
        self._budget = Budget()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers = headers_of(scope["headers"])
        try:
            self._check_source(headers)
            await self._route(scope, headers, receive, send)
        except Refused as refused:
            await respond_error(send, refused.status, refused.message)

    async def close(self) -> None:
        """End every session."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for identifier in tuple(self._sessions):
            self._end(identifier, "the gateway is stopping")
        await self._service.close()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _route(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        path, method = scope["path"], scope["method"]
        if path == "/healthz":
            await respond(send, 200, b'{"status":"ok"}')
        elif path == "/readyz":
            problem = self._service.problem()
            body = {"status": "ready"} if problem is None else {"status": "no", "reason": problem}
            await respond(send, 200 if problem is None else 503, msgspec.json.encode(body))
        elif method == "POST":
            await self._post(path, headers, receive, send)
        elif method == "GET":
            await self._get(path, headers, receive, send)
        elif method == "DELETE":
            session = self._session(path, headers)
            self._end(session.handler.id, "the client ended the session")
            await respond(send, 204, b"")
        else:
            raise Refused(405, "Method not allowed")

    # POST: messages from the client

    async def _post(
        self, path: str, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        accept = headers.get(b"accept", b"*/*")
        streams = accepts(accept, EVENTS)
        if not streams and not accepts(accept, JSON):
            raise Refused(406, "Accept must name application/json and text/event-stream")
        media_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if media_type != JSON:
            raise Refused(415, "Content-Type must be application/json")
        body, size_bytes = await read_body(receive, self._limits.max_message_bytes)
        if self._is_stateless(headers, body):
            await self._post_stateless(path, headers, body, size_bytes, receive, send, streams)
            return
        self._check_revision(headers)
        session = self._session(path, headers, create=True)
        session.last_used_s = asyncio.get_running_loop().time()
        handler = session.handler
        queue = MessageQueue(handler.client_full, handler.client_drained)
        reply = PostReply(queue, session.outlet, streams=streams)
        gone: asyncio.Future[None] | None = None
        primes = headers.get(b"mcp-protocol-version", b"") >= _PRIMED_SINCE
        patience_s = RESUMABLE_AFTER_S if primes else KEEP_ALIVE_S
        try:
            if body is None:
                handler.oversized(size_bytes, self._limits.max_message_bytes, reply)
            else:
                handler.receive(body, reply)
            if not queue.ended and reply.expected:
                gone = asyncio.ensure_future(wait_for_disconnect(receive, queue.abandon))
            if streams and reply.expected:
                session.outlet.attach_reply(reply)
            # A stream that begins before the session has an id would be of no use.
            await self._answer(
                reply,
                send,
                streams=streams,
                admit=lambda: self._session_header(session),
                log=session.log if session.announced else None,
                primes=primes,
                patience_s=patience_s if session.announced else None,
            )
        finally:
            if gone is not None:
                gone.cancel()
            reply.over()
            if not session.announced:
                self._close_aside(session, "the session was never opened")

    def _is_stateless(self, headers: Mapping[bytes, bytes], body: bytes | None) -> bool:
        """Whether a POST is of the stateless era: it names no session, and such a revision.

        A body that hides the revision's name behind escapes is taken for one of the other era, and
        refused there for want of a session.
        """
        if b"mcp-session-id" in headers:
            return False
        revision = headers.get(b"mcp-protocol-version")
        if revision is not None and revision.decode("latin-1") not in self._limits.revisions:
            return True
        return body is not None and _REVISION_KEY in body

    async def _post_stateless(
        self,
        path: str,
        headers: Mapping[bytes, bytes],
        body: bytes | None,
        size_bytes: int,
        receive: Receive,
        send: Send,
        streams: bool,
    ) -> None:
        endpoint = self._service.stateless(path)
        if endpoint is None:
            raise Refused(404, "Not found")
        reply = PostReply(MessageQueue(_nothing, _nothing), HttpOutlet(), streams=streams)
        texts = {
            name.decode("latin-1"): None if value == REPEATED else value.decode("latin-1")
            for name, value in headers.items()
        }
        if body is None:
            endpoint.oversized(size_bytes, self._limits.max_message_bytes, reply)
            cancel = _nothing
        else:
            cancel = endpoint.receive(body, texts, reply)
        gone = asyncio.ensure_future(wait_for_disconnect(receive, cancel))
        try:
            await self._answer(reply, send, streams=streams, admit=list, stateless=True)
        finally:
            gone.cancel()
            cancel()
            reply.queue.close()

    async def _answer(
        self,
        reply: PostReply,
        send: Send,
        *,
        streams: bool,
        admit: Callable[[], list[tuple[bytes, bytes]]],
        stateless: bool = False,
        log: EventLog | None = None,
        primes: bool = False,
        patience_s: float | None = KEEP_ALIVE_S,
    ) -> None:
        """Answer a POST: with the plain answer where that comes first, else with a stream.

        The stream begins when `patience_s` are over, if not before. With a `log` the client can
        resume it.
        """
        queue = reply.queue
        if not reply.expected and not reply.answers:
            await respond(send, 202, b"", admit())
            return
        while not queue.ended and not (streams and reply.streamed):
            if not await queue.change(patience_s) and streams:
                break
        if queue.ended and not reply.streamed and not reply.answers:
            await respond(send, 202, b"", admit())
        elif queue.ended and not reply.streamed and reply.answers == 1:
            frame = queue.take() or b""
            status = 400 if reply.rejected else 200
            if stateless and reply.code is not None:
                status = _STATUSES.get(reply.code, 200)
            await respond(send, status, frame, admit())
        elif streams:
            stream = None if log is None else reply.begin(log)
            await send_events(queue, send, admit(), stream, primes=primes)
        else:
            answers = list(iter(queue.take, None))
            body = b"[" + b",".join(answers) + b"]" if answers else b""
            await respond(send, 200 if answers else 202, body, admit())

    def _session_header(self, session: _Session) -> list[tuple[bytes, bytes]]:
        """The id of a session that has just opened; from now on it is known by it."""
        handler = session.handler
        if handler.opened and not session.announced:
            session.announced = True
            self._sessions[handler.id] = session
            if self._sweeper is None:
                self._schedule_sweep()
            return [(b"mcp-session-id", handler.id.encode())]
        return []

    # GET: a stream of what answers nothing, or the rest of one that broke off

    async def _get(
        self, path: str, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        if not accepts(headers.get(b"accept", b"*/*"), EVENTS):
            raise Refused(406, "Accept must name text/event-stream")
        session = self._session(path, headers)
        self._check_revision(headers)
        outlet = session.outlet
        queue = MessageQueue(session.handler.client_full, session.handler.client_drained)
        resumed = session.log.resume(headers.get(b"last-event-id", b""), queue)
        stream, replayed = (session.log.open(queue), []) if resumed is None else resumed
        if stream.reply is None:
            outlet.attach_stream(queue)
        elif not stream.finished:
            outlet.attach_reply(stream.reply)
        gone = asyncio.ensure_future(wait_for_disconnect(receive, queue.abandon))
        try:
            await send_events(queue, send, [], stream, replayed=replayed)
        finally:
            gone.cancel()
            if stream.break_off(queue) and stream.reply is not None:
                outlet.detach_reply(stream.reply)
            outlet.detach_stream(queue)
            session.last_used_s = asyncio.get_running_loop().time()

    # Sessions

    def _session(
        self, path: str, headers: Mapping[bytes, bytes], *, create: bool = False
    ) -> _Session:
        identifier = headers.get(b"mcp-session-id")
        if identifier is not None:
            session = self._sessions.get(identifier.decode("latin-1"))
            if session is None or session.path != path:
                raise Refused(404, "Session not found")
            return session
        outlet = HttpOutlet()
        handler = self._service.open_session(path, outlet)
        if handler is None:
            raise Refused(404, "Not found")
        if not create:
            modern = headers.get(b"mcp-protocol-version", b"").decode("latin-1")
            if modern and modern not in self._limits.revisions:
                raise Refused(405, "Method not allowed")
            raise Refused(400, "Mcp-Session-Id is required")
        if len(self._sessions) >= MAX_SESSIONS:
            raise Refused(503, "Too many sessions")
        now_s = asyncio.get_running_loop().time()
        return _Session(handler, outlet, path, now_s, EventLog(self._budget))

    def _end(self, identifier: str, reason: str) -> None:
        session = self._sessions.pop(identifier, None)
        if session is not None:
            session.outlet.end()
            session.log.close()
            self._close_aside(session, reason)

    def _close_aside(self, session: _Session, reason: str) -> None:
        closing = session.handler.close(reason, _CLOSE_GRACE_S)
        task = asyncio.get_running_loop().create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _schedule_sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for identifier, session in tuple(self._sessions.items()):
            session.log.drop_before(now_s - KEPT_S)
            if not session.outlet.busy and now_s - session.last_used_s > IDLE_S:
                self._end(identifier, "idle")
        self._schedule_sweep()

    # Checks

    def _check_source(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse foreign Host and Origin headers: a web page must not reach a local gateway."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host_name(host) not in self._limits.hosts:
            raise Refused(403, "The Host header is not allowed")
        origin = headers.get(b"origin")
        if origin is None:
            return
        text = origin.decode("latin-1").lower()
        own = text.partition("://")[2] == host and text.startswith(("http://", "https://"))
        if not own and text not in self._limits.origins:
            raise Refused(403, "The Origin header is not allowed")

    def _check_revision(self, headers: Mapping[bytes, bytes]) -> None:
        revision = headers.get(b"mcp-protocol-version")
        if revision is not None and revision.decode("latin-1") not in self._limits.revisions:
            raise Refused(400, "The MCP-Protocol-Version is not supported")


def _nothing() -> None:
    """Nobody has to know."""
