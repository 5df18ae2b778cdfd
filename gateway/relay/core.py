"""What every client session has, whichever era its client speaks: links, calls, listings."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from functools import partial

from gateway.audit.errors import AuditUnavailable
from gateway.audit.records import ClientInfo, Transport, new_call_id
from gateway.identity.identity import Identity
from gateway.policy.snapshot import UpstreamPermissions
from gateway.policy.values import Action, Decision
from gateway.relay.asking import Asking
from gateway.relay.authority import Authority
from gateway.relay.call import Call
from gateway.relay.callers import Callers
from gateway.relay.calls import Calls
from gateway.relay.connection import Failure
from gateway.relay.gateway import Gateway, new_session_id
from gateway.relay.hearing import Hearing
from gateway.relay.link import Data, UpstreamLink
from gateway.relay.listings import NO_TOOLS, Lister, Listing
from gateway.relay.negotiation import Greeting
from gateway.relay.opening import offered_kinds
from gateway.relay.recording import Party
from gateway.relay.routes import ResourceRoutes
from gateway.relay.shared import SharedUpstreams
from gateway.relay.surface import Surface
from gateway.transports.client import Outlet, Reply
from gateway.wire import frames
from gateway.wire.envelope import MalformedFrame, Request
from gateway.wire.methods import CLIENT_REQUESTS, Method
from gateway.wire.modern import RequestEnvelope
from gateway.wire.params import Params

UNKNOWN_METHOD = Method("unknown")


class _NoReply:
    """Nobody waits for the answer. Is a Reply; what belongs to the request goes to `outlet`."""

    def __init__(self, outlet: Outlet) -> None:
        self.send = outlet.send

    def expect(self) -> None: ...
    def withdraw(self) -> None: ...
    def answer(self, frame: bytes, code: int | None = None) -> None: ...
    def reject(self, frame: bytes) -> None: ...
    def discard(self, frame: bytes) -> None: ...


class SessionCore:
    """One client's links to upstreams, its calls on their way, and how they are recorded.

    Every method runs on the event loop and returns at once, but for `close`.
    """

    def __init__(
        self,
        gateway: Gateway,
        surface: Surface,
        identity: Identity,
        outlet: Outlet,
        transport: Transport,
        shared: SharedUpstreams | None = None,
    ) -> None:
        self.id = new_session_id()
        self.gateway = gateway
        self.surface = surface
        self.identity = identity
        self.party = Party(self.id, transport)
        self.links: dict[str, UpstreamLink] = {}
        self.routes = ResourceRoutes()
        self.authority = Authority(gateway.in_force, identity)
        self.permissions = self._permissions()
        self.asking = Asking(
            self.authority,
            gateway.recorder,
            self.party,
            name_origin=surface.aggregate,
        )
        callers = None
        if self.authority.shared and gateway.spool is not None:
            callers = Callers(gateway.spool, gateway.recorder.digester, surface)
        self.calls = Calls(
            gateway,
            self.authority,
            self.party,
            self.links.get,
            self.asking,
            offered_kinds(self.permissions.values()),
            callers,
            self._declared,
        )
        self._no_reply = _NoReply(outlet)
        self.hearing = Hearing(
            gateway,
            self.authority,
            self.party,
            outlet,
            self.calls,
            self.asking,
            ready=self._upstream_ready,
        )
        self._lister = Lister(
            self.authority,
            surface,
            self.links,
            self.routes,
            lambda: self.hearing.tell("notifications/tools/list_changed", {}),
        )
        self._shared = shared
        self._greet: Callable[[UpstreamPermissions], Greeting] | None = None
        self._capabilities: object = None
        self._opened = False
        self._closed = False

    def open(
        self,
        client: ClientInfo | None,
        requested: str,
        greet: Callable[[UpstreamPermissions], Greeting],
        *,
        capabilities: object = None,
    ) -> None:
        """The client has made itself known: record it, and begin to connect its upstreams.

        `capabilities` are those that it declared for the whole session.
        """
        self._capabilities = capabilities
        self._opened = True
        self.party.client = client
        self.event(
            "session.opened",
            {
                "transport": self.party.transport,
                "identified": self.identity.means,
                "requested": requested[:64],
            },
        )
        self._greet = greet
        self.gateway.in_force.subscribe(self._policy_changed)
        # Another snapshot may have come since the client connected.
        self.permissions = self._permissions()
        self._open_links()

    def _open_links(self) -> None:
        """Connect the upstreams that this session may use and that it is not connected to."""
        if self._greet is None:
            return
        for name in self.surface.upstreams:
            if name in self.links or not self.decide(Action("session", "initialize", name)).allows:
                continue
            limits = self.gateway.limits[name]
            if limits.shared and self._shared is not None:
                self.links[name] = self._shared.join(name, self.hearing)
                continue
            link = UpstreamLink(
                name,
                self.hearing,
                partial(self.gateway.open_transport, name),
                greeting=self._greet(self.permissions[name]),
                start_timeout_s=limits.start_timeout_s,
                max_items=limits.max_tools,
                compare=self.gateway.in_force.heard,
            )
            if self.authority.snapshot.pinned:
                link.follow_tools()
            self.links[name] = link
            self.gateway.links.add(link)
            link.start()

    def _policy_changed(self) -> None:
        """Another snapshot is in force: what it takes away is gone at once, what it gives comes."""
        self.permissions = self._permissions()
        if self.authority.snapshot.pinned:
            for link in self.links.values():
                link.follow_tools()
        self._open_links()
        self.calls.policy_changed()
        self.hearing.tell("notifications/tools/list_changed", {})

    def _declared(self, call: Call) -> object:
        """What the client of a call says that it can do."""
        return self._capabilities if call.envelope is None else call.envelope.capabilities

    def _permissions(self) -> dict[str, UpstreamPermissions]:
        return {name: self.authority.permissions(name) for name in self.surface.upstreams}

    def kept_answer(self, link: UpstreamLink) -> dict[str, object] | None:
        """What an upstream answered to such a client at an earlier start."""
        return self._tellable(link.name, self.gateway.handshakes.get(link.name, link.greeting.key))

    def answer_of(self, link: UpstreamLink) -> dict[str, object]:
        """What an upstream answered in this session; empty where it has not yet."""
        return self._tellable(link.name, link.answer) or {}

    def _tellable(
        self, upstream: str, answer: dict[str, object] | None
    ) -> dict[str, object] | None:
        """An answer without instructions that are withheld, because they are not as pinned."""
        instructions = None if answer is None else answer.get("instructions")
        if answer is None or instructions is None:
            return answer
        snapshot = self.authority.snapshot
        for pins in (snapshot.pins, snapshot.accepted_pins):
            if pins is not None and pins.withholds_instructions(upstream, instructions):
                return {key: value for key, value in answer.items() if key != "instructions"}
        return answer

    def pause_upstreams(self) -> None:
        """Read no more from the upstreams until the client takes what there is."""
        for link in self.links.values():
            if not link.shared:
                link.pause_reading()

    def resume_upstreams(self) -> None:
        """Read from the upstreams again."""
        for link in self.links.values():
            link.resume_reading()

    async def close(self, reason: str, grace_s: float) -> None:
        """Record what is open and end the upstreams of this session."""
        if self._closed:
            return
        self._closed = True
        self.gateway.in_force.unsubscribe(self._policy_changed)
        self.hearing.listeners.end()
        self.calls.close()
        self.asking.close()
        own = [link for link in self.links.values() if not link.shared]
        await asyncio.gather(*(link.stop(grace_s) for link in own))
        if self._shared is not None:
            self._shared.leave(self.hearing)
        await self.gateway.recorder.drain()
        if self._opened:
            self.event("session.closed", {"reason": reason})

    # Calls

    def call(
        self,
        request: Request,
        method: Method,
        params: Params,
        reply: Reply,
        *,
        envelope: RequestEnvelope | None = None,
        own_key: bool = False,
        headers: Mapping[str, str | None] | None = None,
    ) -> Call:
        """Send a request of the client's on its way; raises MalformedFrame."""
        call = Call(
            request.id,
            self._action(request, method, params),
            params,
            identity=self.identity,
            reply=reply,
            started_ns=time.monotonic_ns(),
            envelope=envelope,
            own_key=own_key,
            headers=headers,
            identifier=self.gateway.recorder.new_call_id(),
        )
        reply.expect()
        if method.kind == "logging" and self.surface.aggregate:
            for name in self.links:
                self.call_quietly(request.method, name, "", params)
            reply.answer(frames.result(request.id, b"{}"))
        else:
            self.calls.submit(call)
        return call

    def call_quietly(self, method: str, upstream: str, name: str, params: Params) -> None:
        """Send a call of the session's own making the one way of a call."""
        kind = CLIENT_REQUESTS[method].kind
        call = Call(
            new_call_id(),
            Action(kind, method, upstream, name),
            {key: value for key, value in params.items() if key != "_meta"},
            identity=self.identity,
            reply=self._no_reply,
            quiet=True,
            started_ns=time.monotonic_ns(),
        )
        self.calls.submit(call)

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
        if not self.surface.aggregate:
            return Action(kind, request.method, self.surface.upstreams[0], name)
        upstream = ""
        if kind in ("tool", "prompt"):
            upstream, name = self.surface.find(name)
            target[method.target] = name
        elif kind == "resource":
            granted = tuple(
                one for one, permissions in self.permissions.items() if permissions.resources
            )
            upstream = self.routes.find(name, granted)
        elif kind == "task":
            upstream = self.calls.tasks.upstream_of(name)
        return Action(kind, request.method, upstream, name)

    def _upstream_ready(self, link: UpstreamLink) -> None:
        """Tell a restarted upstream its log level and subscriptions again."""
        for (method, name), params in self.calls.standing(link.name):
            self.call_quietly(method, link.name, name, params)
        self._lister.upstream_ready(link)

    # Listings

    def list(
        self,
        request: Request,
        params: Params,
        reply: Reply,
        dress: Callable[[str, Listing], bytes],
    ) -> None:
        """Answer a listing that the gateway makes itself; `dress` fits the result to the era."""
        reply.expect()
        method = request.method

        def answer(listing: Listing | Failure) -> None:
            if isinstance(listing, Failure):
                error = frames.error(request.id, listing.code, listing.reason)
                reply.answer(error, listing.code)
                return
            result = dress(method, listing)
            data: Data = {
                "method": method,
                "offered": listing.offered,
                "shown": listing.shown,
                "digest": hashlib.sha256(result).hexdigest(),
            }
            if listing.missing:
                data["missing"] = ", ".join(listing.missing)
            self.event("listing", data)
            reply.answer(frames.result(request.id, result))

        if self.surface.aggregate:
            self._lister.list_all(method, answer)
            return
        link = self.links.get(self.surface.upstreams[0])
        if link is None:
            answer(NO_TOOLS)
        elif "cursor" in params:
            code = frames.INVALID_PARAMS
            reply.answer(frames.error(request.id, code, "Invalid cursor"), code)
        else:
            self._lister.list_one(method, link, answer)

    # Decisions and records

    def decide(self, action: Action) -> Decision:
        """Decide something that needs no catalog."""
        return self.authority.decide(action)

    def record(
        self,
        action: Action,
        verdict: Decision,
        then: Callable[[AuditUnavailable | None], None],
        *,
        call: str | None = None,
    ) -> None:
        """Record a decision on something other than a call, under a new id or that of `call`."""
        call = new_call_id() if call is None else call
        recorder = self.gateway.recorder
        snapshot = self.authority.snapshot.digest
        recorder.decision(
            call, self.party, self.identity, action, verdict, {}, then, snapshot=snapshot
        )

    def refuse(self, malformed: MalformedFrame, reply: Reply, *, answered: bool = True) -> None:
        """Record a frame that is no acceptable message, then answer it where it wants one."""
        text = f"Invalid request: {malformed.reason}"
        answer = frames.error(malformed.request_id, frames.INVALID_REQUEST, text)
        reply.expect()
        self.record(
            Action("unknown", "", ""),
            Decision("deny", "protocol", malformed.reason),
            lambda unavailable: reply.reject(answer) if answered else reply.discard(answer),
        )

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self._closed

    def event(self, event: str, data: Data) -> None:
        """Record something that happened in this session."""
        self.gateway.recorder.event(event, data, session=self.id, agent=self.identity.agent)
