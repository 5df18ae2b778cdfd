"""One client's session: what each of its messages is, and where it goes."""

import asyncio
import time
from collections.abc import Callable

from gateway.audit.errors import AuditUnavailable
from gateway.audit.records import ClientInfo, Transport, new_call_id
from gateway.identity.identity import Identity
from gateway.policy.decide import decide
from gateway.policy.snapshot import UpstreamPermissions
from gateway.policy.values import Action, Context, Decision
from gateway.relay.call import Call
from gateway.relay.calls import Calls
from gateway.relay.connection import Failure
from gateway.relay.gateway import Gateway, new_session_id
from gateway.relay.hearing import Hearing
from gateway.relay.link import Data, UpstreamLink
from gateway.relay.listings import NO_TOOLS, Lister, Listing
from gateway.relay.opening import (
    aggregate_result,
    bare_result,
    mirrored_result,
    negotiated,
    offered_kinds,
    upstream_handshake,
)
from gateway.relay.pages import LIST_MEMBERS
from gateway.relay.recording import Party
from gateway.relay.routes import ResourceRoutes
from gateway.relay.surface import Surface
from gateway.transports.client import Outlet, Reply
from gateway.wire import frames
from gateway.wire.envelope import (
    MalformedFrame,
    Notification,
    Request,
    RequestId,
    Response,
    parse,
    split_batch,
)
from gateway.wire.methods import BATCH_REVISIONS, CLIENT_NOTIFICATIONS, CLIENT_REQUESTS, Method
from gateway.wire.params import Params, decode_params, encode

_NO_PERMISSIONS = UpstreamPermissions()
_UNKNOWN_METHOD = Method("unknown")


class _NoReply:
    """Nobody waits for the answer. Is a Reply; what belongs to the request goes to `outlet`."""

    def __init__(self, outlet: Outlet) -> None:
        self.send = outlet.send

    def expect(self) -> None: ...
    def withdraw(self) -> None: ...
    def answer(self, frame: bytes) -> None: ...
    def reject(self, frame: bytes) -> None: ...
    def discard(self, frame: bytes) -> None: ...


class ClientSession:
    """A session of one client, over any transport, in front of one upstream or many.

    `start_failed` is told the reason when the only upstream cannot be started at all. Implements
    ClientHandler; every method runs on the event loop and returns at once.
    """

    def __init__(
        self,
        gateway: Gateway,
        surface: Surface,
        identity: Identity,
        outlet: Outlet,
        transport: Transport,
        *,
        start_failed: Callable[[str], None] | None = None,
    ) -> None:
        self.id = new_session_id()
        self.opened = False
        self._gateway = gateway
        self._surface = surface
        self._identity = identity
        self._start_failed = start_failed
        self._party = Party(self.id, transport)
        self._links: dict[str, UpstreamLink] = {}
        self._handshake: Params | None = None
        self._closed = False
        self._routes = ResourceRoutes()
        self._no_reply = _NoReply(outlet)
        agent = gateway.snapshot.agents.get(identity.agent or "")
        self._permissions = {
            name: agent.upstreams.get(name, _NO_PERMISSIONS) if agent else _NO_PERMISSIONS
            for name in surface.upstreams
        }
        self._calls = Calls(
            gateway, self._party, self._links.get, offered_kinds(self._permissions.values())
        )
        self._hearing = Hearing(
            gateway,
            self._party,
            identity,
            outlet,
            self._calls,
            name_origin=surface.aggregate,
            ready=self._upstream_ready,
        )
        self._lister = Lister(
            gateway.snapshot,
            identity,
            surface,
            self._links,
            self._routes,
            lambda: self._hearing.tell(
                frames.notification("notifications/tools/list_changed", None)
            ),
        )

    # ClientHandler

    def receive(self, frame: bytes, reply: Reply) -> None:
        """Take one frame, or each member of a batch where the revision has them."""
        try:
            batch = split_batch(frame) if frame[:1] in b"[ \t\r\n" else None
            if batch is not None and self._party.protocol not in BATCH_REVISIONS:
                raise MalformedFrame("batches are not part of this protocol revision")
        except MalformedFrame as malformed:
            self._refuse_frame(malformed, reply)
            return
        for member in [frame] if batch is None else batch:
            try:
                message = parse(member)
                if isinstance(message, Request):
                    self._request(message, reply)
                else:
                    self._take(message, reply)
            except MalformedFrame as malformed:
                self._refuse_frame(malformed, reply)

    def oversized(self, size_bytes: int, limit_bytes: int, reply: Reply) -> None:
        """Refuse a frame that was dropped for its size."""
        reason = f"the message has {size_bytes} bytes, more than the {limit_bytes} allowed"
        self._refuse_frame(MalformedFrame(reason), reply)

    def client_full(self) -> None:
        """Read no more from the upstreams until the client takes what there is."""
        for link in self._links.values():
            link.pause_reading()

    def client_drained(self) -> None:
        """Read from the upstreams again."""
        for link in self._links.values():
            link.resume_reading()

    async def close(self, reason: str, grace_s: float) -> None:
        """Record what is open and end the upstreams of this session."""
        if self._closed:
            return
        self._closed = True
        self._calls.close()
        self._hearing.asking.close()
        await asyncio.gather(*(link.stop(grace_s) for link in self._links.values()))
        await self._gateway.recorder.drain()
        if self._handshake is not None:
            self._event("session.closed", {"reason": reason})

    # What the client sends

    def _request(self, request: Request, reply: Reply) -> None:
        method = CLIENT_REQUESTS.get(request.method, _UNKNOWN_METHOD)
        if request.id in self._calls:
            raise MalformedFrame("a request with this id is still under way", request.id)
        if method.kind == "unknown" and request.method in CLIENT_NOTIFICATIONS:
            raise MalformedFrame("a notification cannot have an id", request.id)
        if request.method == "ping":
            reply.expect()
            reply.answer(frames.result(request.id, b"{}"))
            return
        params = _params_of(request)
        if request.method == "initialize":
            self._initialize(request, params, reply)
            return
        revision = self._party.protocol
        if revision is None:
            raise MalformedFrame("the session must begin with initialize", request.id)
        if method.since > revision:
            method = _UNKNOWN_METHOD
        if request.method == "tools/list" or (
            request.method in LIST_MEMBERS and self._surface.aggregate
        ):
            reply.expect()
            self._list(request, params, reply)
            return
        call = Call(
            request.id,
            self._action(request, method, params),
            params,
            identity=self._identity,
            reply=reply,
            started_ns=time.monotonic_ns(),
        )
        reply.expect()
        if method.kind == "logging" and self._surface.aggregate:
            self._fan_out(call)
        else:
            self._calls.submit(call)

    def _take(self, message: Notification | Response, reply: Reply) -> None:
        """Take a message that wants no answer, not even when it is refused."""
        try:
            if isinstance(message, Notification):
                self._notification(message)
            elif not self._hearing.asking.answered(message):
                raise MalformedFrame("the answer belongs to no request of this session")
        except MalformedFrame as malformed:
            self._refuse_frame(malformed, reply, answered=False)

    def _notification(self, notification: Notification) -> None:
        if notification.method in CLIENT_REQUESTS:
            raise MalformedFrame(f"{notification.method} needs an id")
        params = _params_of(notification)
        known = CLIENT_NOTIFICATIONS.get(notification.method)
        if notification.method == "notifications/initialized":
            self._hearing.client_ready()
        elif notification.method == "notifications/cancelled":
            self._calls.cancel(params)
        elif notification.method == "notifications/progress":
            if not self._hearing.asking.progressed(params):
                self._event("frame.orphan", {"method": notification.method})
        elif known is not None:
            for name in self._links:
                self._tell(Action(known.kind, notification.method, name), notification)
        else:
            upstream = "" if self._surface.aggregate else self._surface.upstreams[0]
            self._tell(Action("unknown", notification.method, upstream), notification)

    def _tell(self, action: Action, notification: Notification) -> None:
        """Give a notification on to an upstream, once it is allowed and recorded.

        One that is not ready does without: no notification may come before its handshake.
        """
        params = _params_of(notification)
        verdict = self._decide(action)
        call, started_ns = new_call_id(), time.monotonic_ns()

        def recorded(unavailable: AuditUnavailable | None) -> None:
            if unavailable is not None or not verdict.allows:
                return
            link = self._links.get(action.upstream)
            if link is not None and link.ready:
                link.connection.notify(action.method, encode(params) if params else None)
                self._gateway.recorder.done(call, started_ns)
            else:
                self._gateway.recorder.failed(call, started_ns, "upstream_lost")

        self._record(action, verdict, recorded, call=call)

    # The handshake

    def _initialize(self, request: Request, params: Params, reply: Reply) -> None:
        if self._handshake is not None:
            raise MalformedFrame("the session is initialized already", request.id)
        client = params.get("clientInfo")
        if not isinstance(params.get("protocolVersion"), str) or not isinstance(client, dict):
            raise MalformedFrame("initialize needs protocolVersion and clientInfo", request.id)
        reply.expect()
        self._handshake = params
        revision = negotiated(params["protocolVersion"])
        named = client.get("version")
        self._party.client = ClientInfo(
            name=str(client.get("name")), version=None if named is None else str(named)
        )
        self._event(
            "session.opened",
            {
                "transport": self._party.transport,
                "identified": self._identity.means,
                "requested": str(params["protocolVersion"])[:64],
            },
        )
        for name in self._surface.upstreams:
            if self._usable(name):
                self._open(name, revision)
        if self._surface.aggregate:
            self._answer_aggregate(request.id, revision, reply)
        else:
            self._answer_mirror(request.id, revision, reply)

    def _answer_aggregate(self, client_id: RequestId, revision: str, reply: Reply) -> None:
        instructions = []
        for name, link in self._links.items():
            kept = self._gateway.handshakes.get(name, link.handshake)
            if kept is not None:
                instructions.append((name, kept.get("instructions")))
        result = aggregate_result(revision, self._permissions.values(), instructions)
        self._answer_handshake(client_id, result, reply)

    def _answer_mirror(self, client_id: RequestId, revision: str, reply: Reply) -> None:
        name = self._surface.upstreams[0]
        link = self._links.get(name)
        if link is None:
            self._answer_handshake(client_id, bare_result(revision, name), reply)
            return
        permissions = self._permissions[name]
        kept = self._gateway.handshakes.get(name, link.handshake)
        if kept is not None:
            self._answer_handshake(client_id, mirrored_result(kept, permissions), reply)
            return

        def known(failure: Failure | None) -> None:
            if failure is None:
                result = mirrored_result(link.handshake_result or {}, permissions)
                self._answer_handshake(client_id, result, reply)
            elif failure.status == "timeout":
                self._answer_handshake(client_id, bare_result(revision, name), reply)
            else:
                reply.answer(frames.error(client_id, failure.code, failure.reason))
                if self._start_failed is not None and not self._closed:
                    self._start_failed(failure.reason)

        link.when_ready(known)

    def _answer_handshake(
        self, client_id: RequestId, result: dict[str, object], reply: Reply
    ) -> None:
        self._party.protocol = str(result.get("protocolVersion"))
        self.opened = True
        reply.answer(frames.result(client_id, encode(result)))

    def _usable(self, upstream: str) -> bool:
        return self._decide(Action("session", "initialize", upstream)).allows

    def _open(self, upstream: str, revision: str) -> None:
        handshake = upstream_handshake(self._handshake or {}, revision, self._permissions[upstream])
        link = UpstreamLink(
            upstream,
            self._hearing,
            lambda connection: self._gateway.open_transport(upstream, connection),
            handshake=handshake,
            start_timeout_s=self._gateway.limits[upstream].start_timeout_s,
        )
        self._links[upstream] = link
        link.start()

    # Listings

    def _list(self, request: Request, params: Params, reply: Reply) -> None:
        """Listings that the gateway makes itself: of tools always, of the rest for an aggregate."""
        answer = self._listing_answer(request, reply)
        if self._surface.aggregate:
            self._lister.list_all(request.method, answer)
            return
        link = self._links.get(self._surface.upstreams[0])
        if link is None:
            answer(NO_TOOLS)
        elif "cursor" in params:
            reply.answer(frames.error(request.id, frames.INVALID_PARAMS, "Invalid cursor"))
        else:
            self._lister.list_one(request.method, link, answer)

    def _listing_answer(
        self, request: Request, reply: Reply
    ) -> Callable[[Listing | Failure], None]:
        def answer(listing: Listing | Failure) -> None:
            if isinstance(listing, Failure):
                reply.answer(frames.error(request.id, listing.code, listing.reason))
                return
            data: Data = {
                "method": request.method,
                "offered": listing.offered,
                "shown": listing.shown,
                "digest": listing.digest,
            }
            if listing.missing:
                data["missing"] = ", ".join(listing.missing)
            self._event("listing", data)
            reply.answer(frames.result(request.id, listing.result))

        return answer

    # Calls

    def _action(self, request: Request, method: Method, params: Params) -> Action:
        """What the request asks for; its params are changed to the upstream's own names."""
        kind, name = method.kind, ""
        target = params
        if kind == "completion":
            ref = params.get("ref")
            if not isinstance(ref, dict) or ref.get("type") not in ("ref/prompt", "ref/resource"):
                raise MalformedFrame("a completion needs a ref to a prompt or resource", request.id)
            target = ref
            kind = "prompt" if ref["type"] == "ref/prompt" else "resource"
            method = Method(kind, target="name" if kind == "prompt" else "uri")
        if method.target:
            value = target.get(method.target)
            if not isinstance(value, str):
                raise MalformedFrame(f"{request.method} needs a {method.target}", request.id)
            name = value
        if kind == "tool" and not isinstance(params.get("arguments", {}), dict):
            raise MalformedFrame("the arguments of a tool must be an object", request.id)
        if not self._surface.aggregate:
            return Action(kind, request.method, self._surface.upstreams[0], name)
        upstream = ""
        if kind in ("tool", "prompt"):
            upstream, name = self._surface.find(name)
            target[method.target] = name
        elif kind == "resource":
            granted = tuple(
                one for one, permissions in self._permissions.items() if permissions.resources
            )
            upstream = self._routes.find(name, granted)
        elif kind == "task":
            upstream = self._calls.tasks.upstream_of(name)
        return Action(kind, request.method, upstream, name)

    def _fan_out(self, call: Call) -> None:
        """A log level goes to every upstream in use, each decided and recorded by itself."""
        for name in self._links:
            self._submit_quietly(call.action.method, name, "", call.params)
        call.reply.answer(frames.result(call.client_id, b"{}"))

    def _submit_quietly(self, method: str, upstream: str, name: str, params: Params) -> None:
        """Send a call of the session's own making the one way of a call."""
        kind = CLIENT_REQUESTS[method].kind
        call = Call(
            new_call_id(),
            Action(kind, method, upstream, name),
            {key: value for key, value in params.items() if key != "_meta"},
            identity=self._identity,
            reply=self._no_reply,
            started_ns=time.monotonic_ns(),
        )
        self._calls.submit(call)

    def _upstream_ready(self, link: UpstreamLink) -> None:
        """Tell a restarted upstream its log level and subscriptions again."""
        for (method, name), params in self._calls.standing(link.name):
            self._submit_quietly(method, link.name, name, params)
        self._lister.upstream_ready(link)

    # Small parts

    def _decide(self, action: Action) -> Decision:
        return decide(self._identity.agent, action, self._gateway.snapshot, Context())

    def _refuse_frame(
        self, malformed: MalformedFrame, reply: Reply, *, answered: bool = True
    ) -> None:
        """Record a frame that is no acceptable message, then answer it where it wants one."""
        text = f"Invalid request: {malformed.reason}"
        answer = frames.error(malformed.request_id, frames.INVALID_REQUEST, text)
        reply.expect()
        self._record(
            Action("unknown", "", ""),
            Decision("deny", "protocol", malformed.reason),
            lambda unavailable: reply.reject(answer) if answered else reply.discard(answer),
        )

    def _record(
        self,
        action: Action,
        verdict: Decision,
        then: Callable[[AuditUnavailable | None], None],
        *,
        call: str | None = None,
    ) -> None:
        call = new_call_id() if call is None else call
        recorder = self._gateway.recorder
        recorder.decision(call, self._party, self._identity, action, verdict, {}, then)

    def _event(self, event: str, data: Data, *, upstream: str | None = None) -> None:
        self._gateway.recorder.event(
            event, data, session=self.id, agent=self._identity.agent, upstream=upstream
        )


def _params_of(message: Request | Notification) -> Params:
    try:
        return decode_params(message.params)
    except MalformedFrame as malformed:
        identifier = message.id if isinstance(message, Request) else None
        raise MalformedFrame(malformed.reason, identifier) from None
