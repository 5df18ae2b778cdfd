"""A client of the stateless revisions (2026-07-28): every request speaks for itself."""

from collections.abc import Callable, Mapping
from functools import partial

from gateway.audit.records import new_call_id
from gateway.policy.snapshot import UpstreamPermissions
from gateway.policy.values import Action, Decision
from gateway.relay.connection import Failure
from gateway.relay.core import UNKNOWN_METHOD, SessionCore
from gateway.relay.core_client import CoreClient, params_of
from gateway.relay.eras import discovered, with_modern
from gateway.relay.link import UpstreamLink
from gateway.relay.listening import Wanted, read_filter
from gateway.relay.listings import Listing
from gateway.relay.negotiation import Greeting
from gateway.relay.opening import NAME, aggregate_result, upstream_envelope, usable
from gateway.relay.pages import LIST_MEMBERS
from gateway.relay.recording import client_info
from gateway.transports.client import Reply
from gateway.wire import frames
from gateway.wire.envelope import MalformedFrame, Notification, Request, parse
from gateway.wire.methods import (
    HANDSHAKE_REVISIONS,
    LATEST_HANDSHAKE,
    STATELESS_REQUESTS,
)
from gateway.wire.modern import (
    MODERN_REVISIONS,
    Refusal,
    RequestEnvelope,
    check_headers,
    read_envelope,
    require_supported,
)
from gateway.wire.params import Params, encode

Headers = Mapping[str, str | None]
Cancel = Callable[[], None]

_VERSIONS = [*reversed(MODERN_REVISIONS), *reversed(HANDSHAKE_REVISIONS)]


def nothing() -> None:
    """There is nothing to cancel."""


class StatelessClient:
    """The requests of one such client, or of several that are alike.

    `own_keys`: their ids tell them apart only within one exchange (HTTP), not within the session.
    """

    def __init__(self, core: SessionCore, *, own_keys: bool) -> None:
        self.core = core
        self._own_keys = own_keys
        self._greeted = False
        self._subscribed: dict[str, frozenset[str]] = {}

    @property
    def serves_all(self) -> bool:
        """Whether clients of any kind may share this: no upstream was told of one in particular."""
        links = self.core.links.values()
        return bool(links) and all(link.ready and link.connection.modern for link in links)

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self.core.calls) or bool(self.core.hearing.listeners)

    def request(
        self,
        request: Request,
        params: Params,
        envelope: RequestEnvelope,
        reply: Reply,
        headers: Headers | None = None,
    ) -> Cancel:
        """Take a request whose envelope is in order; returns what cancels it.

        Raises MalformedFrame.
        """
        core = self.core
        if not self._greeted:
            self._greet(envelope)
        method = STATELESS_REQUESTS.get(request.method, UNKNOWN_METHOD)
        if request.method == "server/discover":
            self._discover(request, reply)
            return nothing
        if request.method == "subscriptions/listen":
            return self._listen(request, params, reply)
        if request.method == "tools/list" or (
            request.method in LIST_MEMBERS and core.surface.aggregate
        ):
            core.list(request, params, reply, _dress)
            return nothing
        if not self._own_keys and request.id in core.calls:
            raise MalformedFrame("a request with this id is still under way", request.id)
        self._set_level(envelope)
        call = core.call(
            request,
            method,
            params,
            reply,
            envelope=envelope,
            own_key=self._own_keys,
            headers=headers,
        )
        return lambda: core.calls.cancel_call(call, {"reason": "the client closed the stream"})

    def cancel(self, params: Params) -> None:
        """The client cancels a request by its id (stdio)."""
        if not self.core.calls.cancel(params) and self.core.hearing.listeners.close_id(
            params.get("requestId")
        ):
            self._rewant()

    def _greet(self, envelope: RequestEnvelope) -> None:
        self._greeted = True
        core = self.core
        core.hearing.modern = True
        core.party.protocol = envelope.revision

        def greet(permissions: UpstreamPermissions) -> Greeting:
            told = upstream_envelope(envelope.capabilities, envelope.client, permissions)
            client = envelope.client or {"name": NAME, "version": "unknown"}
            initialize: Params = {
                "protocolVersion": LATEST_HANDSHAKE,
                "capabilities": dict(told.capabilities),
                "clientInfo": dict(client),
            }
            return Greeting(initialize, told, permissions, modern_first=True)

        core.open(client_info(envelope.client), envelope.revision, greet)

    def _discover(self, request: Request, reply: Reply) -> None:
        core = self.core
        reply.expect()

        def answer(result: dict[str, object]) -> None:
            reply.answer(frames.result(request.id, encode(result)))

        if core.surface.aggregate:
            own = aggregate_result("", core.permissions.values(), ())
            answer(discovered(own, _VERSIONS))
            return
        name = core.surface.upstreams[0]
        link = core.links.get(name)
        if link is None:
            answer(discovered({"capabilities": {"tools": {}}}, _VERSIONS))
            return
        permissions = core.permissions[name]

        def known(failure: Failure | None) -> None:
            if failure is not None:
                frame = frames.error(request.id, failure.code, failure.reason)
                reply.answer(frame, failure.code)
                return
            told = core.answer_of(link)
            capabilities = usable(told.get("capabilities"), permissions)
            if not link.connection.modern:
                capabilities.pop("tasks", None)
            answer(discovered({**told, "capabilities": capabilities}, _VERSIONS))

        kept = core.kept_answer(link)
        if kept is not None and not link.ready:
            capabilities = usable(kept.get("capabilities"), permissions)
            answer(discovered({**kept, "capabilities": capabilities}, _VERSIONS))
        else:
            link.when_ready(known)

    def _listen(self, request: Request, params: Params, reply: Reply) -> Cancel:
        """Open a stream of news: recorded like a call, for as long as it is open."""
        core = self.core
        granted = core.permissions.values()
        wanted = read_filter(
            params,
            resources=any(each.resources is not None for each in granted),
            prompts=any(each.prompts is not None for each in granted),
        )
        key = new_call_id()
        reply.expect()
        core.event("listening", {"wanted": encode(wanted.filter()).decode()[:512]})
        core.hearing.listeners.open(key, request.id, wanted, reply)
        self._rewant()

        def close() -> None:
            core.hearing.listeners.close(key)
            self._rewant()

        return close

    def _rewant(self) -> None:
        """Have the upstreams tell what is listened to now, and nothing else."""
        core = self.core
        wanted = core.hearing.listeners.wanted
        for name, link in core.links.items():
            permissions = core.permissions[name]
            resources = wanted.resources if permissions.resources is not None else frozenset()
            before = self._subscribed.get(name, frozenset())
            self._subscribed[name] = resources
            if link.shared:  # what other sessions listen to is not ours to end
                link.want(Wanted(link.wanted.flags, link.wanted.resources | resources))
            else:
                link.want(Wanted(wanted.flags, resources))
            if link.connection.modern:
                continue
            for uri in resources - before:
                core.call_quietly("resources/subscribe", name, uri, {"uri": uri})
            for uri in () if link.shared else before - resources:
                core.call_quietly("resources/unsubscribe", name, uri, {"uri": uri})

    def _set_level(self, envelope: RequestEnvelope) -> None:
        """A handshake upstream has one log level for all: the last that a request asked for."""
        level = envelope.log_level
        if level is not None:
            for link in self.core.links.values():
                link.when_ready(partial(self._tell_level, link, level))

    def _tell_level(self, link: UpstreamLink, level: str, failure: Failure | None) -> None:
        if failure is not None or link.connection.modern or link.log_level == level:
            return
        told = (link.answer or {}).get("capabilities")
        if isinstance(told, dict) and "logging" in told:
            link.log_level = level
            self.core.call_quietly("logging/setLevel", link.name, "", {"level": level})


class StdioStatelessClient(CoreClient):
    """Such a client over stdio. Is a ClientHandler.

    `opened` turns True with the first request that is in order.
    """

    def __init__(self, core: SessionCore) -> None:
        super().__init__(core)
        self.opened = False
        self._client = StatelessClient(core, own_keys=False)

    def receive(self, frame: bytes, reply: Reply) -> None:
        """Take one frame."""
        try:
            message = parse(frame)
            if isinstance(message, Notification):
                self._notification(message, reply)
            elif isinstance(message, Request):
                self._request(message, reply)
            else:
                refused = MalformedFrame("this protocol revision has no answers from clients")
                self._core.refuse(refused, reply, answered=False)
        except MalformedFrame as malformed:
            self._core.refuse(malformed, reply)

    def _request(self, request: Request, reply: Reply) -> None:
        params = params_of(request)
        try:
            envelope = read_envelope(params)
            require_supported(envelope)
        except Refusal as refused:
            refuse_by_rule(self._core, request, refused, reply)
            return
        self.opened = True
        self._client.request(request, params, envelope, reply)

    def _notification(self, notification: Notification, reply: Reply) -> None:
        try:
            params = params_of(notification)
            if notification.method != "notifications/cancelled":
                raise MalformedFrame(f"{notification.method[:64]} is no notification of clients")
        except MalformedFrame as malformed:
            self._core.refuse(malformed, reply, answered=False)
        else:
            self._client.cancel(params)


def accept(request: Request, params: Params, headers: Headers) -> RequestEnvelope:
    """The envelope of a request over HTTP, checked against its headers; raises Refusal."""
    envelope = read_envelope(params)
    check_headers(headers, request.method, params, envelope.revision)
    require_supported(envelope)
    return envelope


def refuse_by_rule(core: SessionCore, request: Request, refused: Refusal, reply: Reply) -> None:
    """Record a request that breaks a rule of its revision, then answer it as prescribed."""
    frame = frames.error(request.id, refused.code, refused.message, refused.data)
    reply.expect()
    core.record(
        Action("unknown", request.method[:64], ""),
        Decision("deny", "protocol", refused.message),
        lambda unavailable: reply.answer(frame, refused.code),
    )


def _dress(method: str, listing: Listing) -> bytes:
    """A listing as this era has it: whole, and nobody else's."""
    value = dict(listing.members)
    if listing.ttl_ms is not None:
        value["ttlMs"] = listing.ttl_ms
    return encode(with_modern(method, value))
