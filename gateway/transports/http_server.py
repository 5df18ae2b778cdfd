"""The client side over streamable HTTP: who may speak to it, and what becomes of each request."""

from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol

import msgspec

from gateway.transports.client import ClientHandler, Outlet, Reply
from gateway.transports.http_exchange import HttpRequest, Receiver
from gateway.transports.http_messages import (
    EVENTS,
    JSON,
    REPEATED,
    Refused,
    accepts,
    header_line,
    host_name,
    is_json,
)
from gateway.transports.http_posts import SessionPost, StatelessPost
from gateway.transports.http_replies import HttpOutlet, MessageQueue, NoOutlet, PostReply, nothing
from gateway.transports.http_sessions import Session, Sessions
from gateway.transports.http_streams import EventResponse
from gateway.transports.patience import Patience
from gateway.wire.modern import PROTOCOL_VERSION

RESUMABLE_AFTER_S = 0.25
"""When an answer has been long enough in coming for its response to become one that can be
resumed, where the client's revision names such a one before its first message."""
KEEP_ALIVE_S = 15.0
"""How long a response may be silent before a comment shows that it lives."""

_PRIMED_SINCE = b"2025-11-25"
"""The first revision whose clients take an event without data."""
_REVISION_KEY = PROTOCOL_VERSION.encode()
_KNOWN_HOSTS = 256
_METRICS = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"


class Admission(msgspec.Struct, frozen=True):
    """`endpoint` is the path of the endpoint without its agent part, `principal` whose sessions
    these are."""

    endpoint: str
    principal: str


class Denied(msgspec.Struct, frozen=True):
    """`challenge` is the value of WWW-Authenticate."""

    status: int
    message: str
    challenge: str | None


class Endpoint(Protocol):
    """An endpoint for clients without a session."""

    def receive(
        self, frame: bytes, headers: Mapping[str, str | None], reply: Reply
    ) -> Callable[[], None]:
        """Take the body of a POST; returns what cancels its request.

        `headers` are those whose lower-case name begins with `mcp-`, by it; None for one that came
        more than once.
        """

    def oversized(self, size_bytes: int, limit_bytes: int, reply: Reply) -> None:
        """A body over the size limit was dropped unread."""


class Service(Protocol):
    """What is served."""

    def admit(
        self, path: str, authorization: tuple[bytes, ...], *, loopback: bool
    ) -> Admission | Denied:
        """Whether a request may go on. Asked for each one, so it has to be cheap.

        `authorization` has the value of every Authorization header; `loopback` is whether the
        peer's address is.
        """

    def open_session(self, admission: Admission, outlet: Outlet) -> ClientHandler | None:
        """A new session on an endpoint; None where there is no such endpoint."""

    def stateless(self, admission: Admission) -> Endpoint | None:
        """The endpoint for clients without a session; None where there is no such endpoint."""

    def admits_still(self, admission: Admission) -> bool:
        """Whether what was admitted would be again; its streams end otherwise."""

    def problem(self) -> str | None:
        """Why calls cannot be served at the moment, or None."""

    def warning(self, *, loopback: bool) -> str | None:
        """What somebody should look at though calls are served, or None."""

    def scrape(self, authorization: tuple[bytes, ...], *, loopback: bool) -> bytes | Denied:
        """What is counted, as text for whoever scrapes it, or why it is not shown."""

    async def close(self) -> None:
        """End what clients without a session shared."""


class Pages(Protocol):
    """What is served to browsers beside the endpoints."""

    def serves(self, path: str) -> bool:
        """Whether a path is one of its own."""

    def accept(self, request: HttpRequest) -> Receiver | None:
        """See `Application.accept`. Host and Origin have been looked at, nothing else."""

    async def close(self) -> None:
        """End what is being answered."""


class HttpLimits(msgspec.Struct, frozen=True):
    """`hosts` are the accepted host names (lower case, no port); `origins` accepted besides the
    server's own; `revisions` the accepted values of MCP-Protocol-Version."""

    max_message_bytes: int
    hosts: frozenset[str]
    origins: frozenset[str]
    revisions: frozenset[str]


class HttpServer:
    """Endpoints of the service, `/healthz`, `/readyz`, `/metrics` and `pages`. Is an Application.

    Of every request Host and Origin are looked at first; then the service admits it; then comes
    everything else.
    """

    def __init__(self, service: Service, limits: HttpLimits, pages: Pages | None = None) -> None:
        self._service = service
        self._pages = pages
        self._limits = limits
        self._revisions = frozenset(each.encode() for each in limits.revisions)
        self._sessions = Sessions(service.admits_still)
        self._known_hosts: set[bytes] = set()
        self._resumable = Patience(RESUMABLE_AFTER_S)
        self._keep_alive = Patience(KEEP_ALIVE_S)
        self._no_outlet = NoOutlet()
        self._closed = False

    def accept(self, request: HttpRequest) -> Receiver | None:
        """See `Application.accept`."""
        try:
            self._check_source(request.headers)
            return self._route(request)
        except Refused as refused:
            request.refuse(refused.status, refused.message, refused.lines)
            return None

    async def close(self) -> None:
        """End every session."""
        self._closed = True
        self._sessions.close()
        if self._pages is not None:
            await self._pages.close()
        await self._service.close()
        await self._sessions.settled()

    def _route(self, request: HttpRequest) -> Receiver | None:
        if request.path == "/healthz":
            request.respond(200, b'{"status":"ok"}')
            return None
        if request.path == "/metrics":
            scraped = self._service.scrape(request.authorization, loopback=request.loopback)
            if isinstance(scraped, Denied):
                _refuse(scraped)
            request.respond(200, scraped, kind=_METRICS)
            return None
        if request.path == "/readyz":
            problem = self._service.problem()
            body = {"status": "ready"} if problem is None else {"status": "no", "reason": problem}
            warning = self._service.warning(loopback=request.loopback)
            if warning is not None:
                body["warning"] = warning
            request.respond(200 if problem is None else 503, msgspec.json.encode(body))
            return None
        if self._pages is not None and self._pages.serves(request.path):
            if self._closed:
                raise Refused(503, "The gateway is stopping")
            return self._pages.accept(request)
        admission = self._service.admit(
            request.path, request.authorization, loopback=request.loopback
        )
        if isinstance(admission, Denied):
            _refuse(admission)
        if self._closed:
            raise Refused(503, "The gateway is stopping")
        if request.method == "POST":
            _check_post(request.headers)
            step = self._post
        elif request.method == "GET":
            step = self._get
        elif request.method == "DELETE":
            step = self._delete
        else:
            raise Refused(405, "Method not allowed", b"allow: DELETE, GET, POST\r\n")

        def receive(body: bytes | None, size_bytes: int) -> None:
            try:
                step(request, admission, body, size_bytes)
            except Refused as refused:
                request.refuse(refused.status, refused.message, refused.lines)

        return receive

    # POST: messages from the client

    def _post(
        self, request: HttpRequest, admission: Admission, body: bytes | None, size_bytes: int
    ) -> None:
        headers = request.headers
        streams = accepts(headers.get(b"accept", b"*/*"), EVENTS)
        if self._is_stateless(headers, body):
            self._post_stateless(request, admission, body, size_bytes, streams=streams)
            return
        self._check_revision(headers)
        session = self._session_of_post(headers, admission)
        self._sessions.used(session)
        handler = session.handler
        reply = PostReply(
            MessageQueue(handler.client_full, handler.client_drained),
            session.outlet,
            streams=streams,
        )
        primes = headers.get(b"mcp-protocol-version", b"") >= _PRIMED_SINCE
        response = SessionPost(
            request,
            reply,
            self._keep_alive,
            self._sessions,
            session,
            streams=streams,
            primes=primes,
        )
        reply.expect()  # so that it is not over before the last message of a batch
        try:
            if body is None:
                handler.oversized(size_bytes, self._limits.max_message_bytes, reply)
            else:
                handler.receive(body, reply)
        except BaseException:
            response.fail()
            raise
        reply.withdraw()
        if streams and reply.expected:
            session.outlet.attach_reply(reply)
        # A stream that begins before the session has an id would be of no use.
        patience = (self._resumable if primes else self._keep_alive) if session.announced else None
        response.start(patience)

    def _post_stateless(
        self,
        request: HttpRequest,
        admission: Admission,
        body: bytes | None,
        size_bytes: int,
        *,
        streams: bool,
    ) -> None:
        endpoint = self._service.stateless(admission)
        if endpoint is None:
            raise Refused(404, "Not found")
        reply = PostReply(MessageQueue(nothing, nothing), self._no_outlet, streams=streams)
        texts = {
            name.decode("latin-1"): None if value == REPEATED else value.decode("latin-1")
            for name, value in request.headers.items()
            if name.startswith(b"mcp-")
        }
        cancel: Callable[[], None] = nothing
        reply.expect()
        if body is None:
            endpoint.oversized(size_bytes, self._limits.max_message_bytes, reply)
        else:
            cancel = endpoint.receive(body, texts, reply)
        reply.withdraw()
        response = StatelessPost(request, reply, self._keep_alive, cancel, streams=streams)
        response.start(self._keep_alive)

    def _is_stateless(self, headers: Mapping[bytes, bytes], body: bytes | None) -> bool:
        """Whether a POST is of the stateless era: it names no session, and such a revision.

        A body that hides the revision's name behind escapes is taken for one of the other era, and
        refused there for want of a session.
        """
        if b"mcp-session-id" in headers:
            return False
        revision = headers.get(b"mcp-protocol-version")
        if revision is not None and revision not in self._revisions:
            return True
        return body is not None and _REVISION_KEY in body

    def _session_of_post(self, headers: Mapping[bytes, bytes], admission: Admission) -> Session:
        """The session that a POST names, else a new one."""
        identifier = headers.get(b"mcp-session-id")
        if identifier is not None:
            return self._sessions.find(identifier, admission)
        self._sessions.check_room()
        outlet = HttpOutlet()
        handler = self._service.open_session(admission, outlet)
        if handler is None:
            raise Refused(404, "Not found")
        return self._sessions.create(handler, outlet, admission)

    # GET: a stream of what answers nothing, or the rest of one that broke off

    def _get(
        self, request: HttpRequest, admission: Admission, body: bytes | None, size_bytes: int
    ) -> None:
        headers = request.headers
        if not accepts(headers.get(b"accept", b"*/*"), EVENTS):
            raise Refused(406, "Accept must name text/event-stream")
        session = self._named_session(headers, admission)
        self._check_revision(headers)
        outlet = session.outlet
        queue = MessageQueue(session.handler.client_full, session.handler.client_drained)
        resumed = session.log.resume(headers.get(b"last-event-id", b""), queue)
        stream, replayed = (session.log.open(queue), []) if resumed is None else resumed
        if stream.reply is None:
            outlet.attach_stream(queue)
        elif not stream.finished:
            outlet.attach_reply(stream.reply)

        def over() -> None:
            if stream.break_off(queue) and stream.reply is not None:
                outlet.detach_reply(stream.reply)
            outlet.detach_stream(queue)
            self._sessions.used(session)

        EventResponse(request, queue, stream, self._keep_alive, over).open(replayed=replayed)

    def _delete(
        self, request: HttpRequest, admission: Admission, body: bytes | None, size_bytes: int
    ) -> None:
        session = self._named_session(request.headers, admission)
        self._sessions.end(session, "the client ended the session")
        request.respond(204)

    def _named_session(self, headers: Mapping[bytes, bytes], admission: Admission) -> Session:
        """The session that a request has to name."""
        identifier = headers.get(b"mcp-session-id")
        if identifier is not None:
            return self._sessions.find(identifier, admission)
        revision = headers.get(b"mcp-protocol-version", b"")
        if revision and revision not in self._revisions:
            raise Refused(405, "Method not allowed", b"allow: POST\r\n")
        raise Refused(400, "Mcp-Session-Id is required")

    # Checks

    def _check_source(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse foreign Host and Origin headers: a web page must not reach a local gateway."""
        value, origin = headers.get(b"host", b""), headers.get(b"origin")
        if origin is None and value in self._known_hosts:
            return
        host = value.decode("latin-1").lower()
        if host_name(host) not in self._limits.hosts:
            raise Refused(403, "The Host header is not allowed")
        if origin is not None:
            text = origin.decode("latin-1").lower()
            own = text.partition("://")[2] == host and text.startswith(("http://", "https://"))
            if not own and text not in self._limits.origins:
                raise Refused(403, "The Origin header is not allowed")
        if len(self._known_hosts) < _KNOWN_HOSTS:
            self._known_hosts.add(value)

    def _check_revision(self, headers: Mapping[bytes, bytes]) -> None:
        revision = headers.get(b"mcp-protocol-version")
        if revision is not None and revision not in self._revisions:
            raise Refused(400, "The MCP-Protocol-Version is not supported")


def _refuse(denied: Denied) -> NoReturn:
    challenge = denied.challenge
    lines = b"" if challenge is None else header_line("www-authenticate", challenge)
    raise Refused(denied.status, denied.message, lines)


def _check_post(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a POST whose body, or whose answer, would not be of a known kind."""
    accept = headers.get(b"accept", b"*/*")
    if not accepts(accept, EVENTS) and not accepts(accept, JSON):
        raise Refused(406, "Accept must name application/json and text/event-stream")
    if not is_json(headers.get(b"content-type", b"")):
        raise Refused(415, "Content-Type must be application/json")
