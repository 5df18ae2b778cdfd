"""One client's session: what each of its messages is, and where it goes."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from gateway.audit.records import ClientInfo, Transport, new_call_id
from gateway.identity.identity import Identity
from gateway.policy.decide import decide
from gateway.policy.snapshot import UpstreamPermissions
from gateway.policy.values import Action, Context, Decision
from gateway.relay.asking import Asking
from gateway.relay.call import Call
from gateway.relay.calls import Calls
from gateway.relay.connection import Failure
from gateway.relay.gateway import Gateway, new_session_id
from gateway.relay.link import Data, UpstreamLink
from gateway.relay.listings import Filter, Gathering, Listing, list_one, listed_action
from gateway.relay.opening import (
    aggregate_result,
    bare_result,
    mirrored_result,
    negotiated,
    upstream_handshake,
)
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
from gateway.wire.methods import (
    BATCH_REVISIONS,
    CLIENT_NOTIFICATIONS,
    CLIENT_REQUESTS,
    SERVER_NOTIFICATIONS,
    Method,
)
from gateway.wire.params import Params, decode_params, encode

_GATHERING_S = 8.0
"""How long an aggregate listing waits for its slowest upstream."""
_HELD_MESSAGES = 1_000
"""Messages of upstreams kept for a client that has not finished its handshake."""
_NO_PERMISSIONS = UpstreamPermissions()
_UNKNOWN_METHOD = Method("unknown")


class ClientSession:
    """A session of one client, over any transport, in front of one upstream or many.

    `start_failed` is told the reason when the only upstream cannot be started at all. Implements
    ClientHandler and LinkOwner; every method runs on the event loop and returns at once.
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
        self._outlet = outlet
        self._start_failed = start_failed
        self._party = Party(self.id, transport)
        self._links: dict[str, UpstreamLink] = {}
        self._handshake: Params | None = None
        self._client_ready = False
        self._closed = False
        self._held: deque[bytes] = deque(maxlen=_HELD_MESSAGES)
        self._pauses = 0
        self._routes = ResourceRoutes()
        self._replayed: dict[str, dict[tuple[str, str], bytes]] = {}
        self._listed_without: set[str] = set()
        self._filter = Filter(gateway.snapshot, identity, surface)
        self._calls = Calls(gateway, self._party, self._link)
        self._asking = Asking(
            gateway.snapshot,
            gateway.recorder,
            self._party,
            identity,
            name_origin=surface.aggregate,
        )
        agent = gateway.snapshot.agents.get(identity.agent or "")
        self._permissions = {
            name: agent.upstreams.get(name, _NO_PERMISSIONS) if agent else _NO_PERMISSIONS
            for name in surface.upstreams
        }

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
                elif isinstance(message, Notification):
                    self._notification(message)
                else:
                    self._response(message)
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
        self._asking.close()
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
        if method.kind == "list":
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
            self._set_levels(call)
        else:
            self._remember(call)
            self._calls.submit(call)

    def _notification(self, notification: Notification) -> None:
        if notification.method in CLIENT_REQUESTS:
            raise MalformedFrame(f"{notification.method} needs an id")
        params = _params_of(notification)
        known = CLIENT_NOTIFICATIONS.get(notification.method)
        if notification.method == "notifications/initialized":
            self._client_ready = True
            while self._held:
                self._outlet.send(self._held.popleft())
        elif notification.method == "notifications/cancelled":
            self._calls.cancel(params)
        elif notification.method == "notifications/progress":
            if not self._asking.progressed(params):
                self._event("frame.orphan", {"method": notification.method})
        else:
            kind = known.kind if known is not None else "unknown"
            for name in self._surface.upstreams:
                self._tell(Action(kind, notification.method, name), notification)

    def _response(self, response: Response) -> None:
        if not self._asking.answered(response):
            raise MalformedFrame("the answer belongs to no request of this session")

    def _tell(self, action: Action, notification: Notification) -> None:
        """Give a notification on to an upstream that may have it; a refusal is recorded."""
        verdict = self._decide(action)
        if verdict.allows:
            link = self._links.get(action.upstream)
            if link is not None and link.ready:
                params = _params_of(notification)
                link.connection.notify(action.method, encode(params) if params else None)
        else:
            self._record_refusal(action, verdict)

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
                if self._start_failed is not None:
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
            self,
            lambda connection: self._gateway.open_transport(upstream, connection),
            handshake=handshake,
            start_timeout_s=self._gateway.limits[upstream].start_timeout_s,
        )
        self._links[upstream] = link
        link.start()

    def _link(self, upstream: str) -> UpstreamLink | None:
        return self._links.get(upstream)

    # Listings

    def _list(self, request: Request, params: Params, reply: Reply) -> None:
        method = request.method
        if self._surface.aggregate:
            self._list_all(request.id, method, reply)
            return
        name = self._surface.upstreams[0]
        link = self._links.get(name)
        if method == "tools/list":
            if link is None:
                reply.answer(frames.result(request.id, b'{"tools":[]}'))
            elif "cursor" in params:
                reply.answer(frames.error(request.id, frames.INVALID_PARAMS, "Invalid cursor"))
            else:
                list_one(method, link, self._filter, self._lister(request.id, method, reply))
            return
        verdict = self._decide(listed_action(method, name))
        if link is None or not verdict.allows:
            self._record_refusal(listed_action(method, name), verdict)
            reply.answer(frames.error(request.id, frames.METHOD_NOT_FOUND, "Method not found"))
            return
        self._pass_listing(request.id, method, params, link, reply)

    def _pass_listing(
        self, client_id: RequestId, method: str, params: Params, link: UpstreamLink, reply: Reply
    ) -> None:
        """Resources and prompts are granted by the server: their pages pass as they are."""

        def answered(response: Response | Failure) -> None:
            if isinstance(response, Failure):
                reply.answer(frames.error(client_id, response.code, response.reason))
            elif response.result is None:
                reply.answer(frames.encoded_error(client_id, response.error or b"{}"))
            else:
                reply.answer(frames.result(client_id, response.result))
                self._event("listing", {"method": method}, upstream=link.name)

        def ask(failure: Failure | None) -> None:
            if failure is not None:
                answered(failure)
            else:
                link.connection.request(method, encode(params) if params else None, answered)

        link.when_ready(ask)

    def _list_all(self, client_id: RequestId, method: str, reply: Reply) -> None:
        links = list(self._links.values())
        if method != "tools/list":
            links = [
                link for link in links if self._decide(listed_action(method, link.name)).allows
            ]
        answer = self._lister(client_id, method, reply)
        self._listed_without.difference_update(self._links)

        def gathered(listing: Listing) -> None:
            if method == "tools/list":
                self._listed_without.update(listing.missing)
            answer(listing)

        gathering = Gathering(method, links, self._filter, gathered, self._routes.learn)
        gathering.begin(_GATHERING_S)

    def _lister(
        self, client_id: RequestId, method: str, reply: Reply
    ) -> Callable[[Listing | Failure], None]:
        def answer(listing: Listing | Failure) -> None:
            if isinstance(listing, Failure):
                reply.answer(frames.error(client_id, listing.code, listing.reason))
                return
            data: Data = {
                "method": method,
                "offered": listing.offered,
                "shown": listing.shown,
                "digest": listing.digest,
            }
            if listing.missing:
                data["missing"] = ", ".join(listing.missing)
            upstream = None if self._surface.aggregate else self._surface.upstreams[0]
            self._event("listing", data, upstream=upstream)
            reply.answer(frames.result(client_id, listing.result))

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

    def _set_levels(self, call: Call) -> None:
        """The log level of a connection to many upstreams is that of each that has levels."""
        for name, link in self._links.items():
            result = link.handshake_result or {}
            capabilities = result.get("capabilities")
            if isinstance(capabilities, dict) and "logging" in capabilities and link.ready:
                link.connection.request(
                    call.action.method, encode(call.params), lambda response: None
                )
            self._keep_for_restart(name, call.action.method, "", call.params)
        action = Action("logging", call.action.method, "")
        verdict = Decision("allow", "logging", "the log level goes to every upstream in use")
        self._gateway.recorder.decision(
            call.id,
            self._party,
            self._identity,
            action,
            verdict,
            call.params,
            lambda unavailable: call.reply.answer(frames.result(call.client_id, b"{}")),
        )

    def _remember(self, call: Call) -> None:
        """Keep what a restarted upstream must be told again: its log level and subscriptions."""
        method, name = call.action.method, call.action.name
        if method == "logging/setLevel":
            self._keep_for_restart(call.action.upstream, method, "", call.params)
        elif method == "resources/subscribe":
            self._keep_for_restart(call.action.upstream, method, name, call.params)
        elif method == "resources/unsubscribe":
            kept = self._replayed.get(call.action.upstream, {})
            kept.pop(("resources/subscribe", name), None)

    def _keep_for_restart(self, upstream: str, method: str, name: str, params: Params) -> None:
        without_meta = {key: value for key, value in params.items() if key != "_meta"}
        self._replayed.setdefault(upstream, {})[(method, name)] = encode(without_meta)

    # LinkOwner

    def upstream_asked(
        self, link: UpstreamLink, message: Request | Notification, request: int | None
    ) -> None:
        """Put an upstream's question or news to the client, if it may have it."""
        call = self._calls.of(link.connection, request)
        send = call.reply.send if call is not None else self._outlet_send
        if isinstance(message, Request):
            self._asking.request(link.connection, message, self._sender(send))
            return
        try:
            params = decode_params(message.params)
        except MalformedFrame as malformed:
            self.upstream_event(link, "frame.refused", {"reason": malformed.reason})
            return
        self._told(link, message.method, params, send)

    def upstream_event(self, link: UpstreamLink, event: str, data: Data) -> None:
        """Record what happened to an upstream."""
        self._event(event, data, upstream=link.name)

    def upstream_ready(self, link: UpstreamLink) -> None:
        """Keep the handshake's answer, and tell a restarted upstream what it knew."""
        if link.handshake_result is not None:
            self._gateway.handshakes.put(link.name, link.handshake, link.handshake_result)
        for (method, _), params in self._replayed.get(link.name, {}).items():
            link.connection.request(method, params, lambda response: None)
        if link.name in self._listed_without:
            self._listed_without.discard(link.name)
            self._outlet_send(frames.notification("notifications/tools/list_changed", None))

    def upstream_lost(self, link: UpstreamLink) -> None:
        """Withdraw the questions of an upstream that is gone."""
        self._asking.forget(link.connection, self._outlet_send)

    def pause_client(self) -> None:
        """An upstream takes no more: take no more from the client."""
        self._pauses += 1
        if self._pauses == 1:
            self._outlet.pause_reading()

    def resume_client(self) -> None:
        """An upstream takes more again."""
        self._pauses = max(self._pauses - 1, 0)
        if self._pauses == 0:
            self._outlet.resume_reading()

    def _told(
        self, link: UpstreamLink, method: str, params: Params, send: Callable[[bytes], None]
    ) -> None:
        """An upstream's notification."""
        if method == "notifications/progress":
            if not self._calls.progressed(link.connection, params):
                self.upstream_event(link, "frame.orphan", {"method": method})
            return
        if method == "notifications/cancelled":
            if not self._asking.cancelled(link.connection, params, self._outlet_send):
                self.upstream_event(link, "frame.orphan", {"method": method})
            return
        if method == "notifications/tools/list_changed":
            link.mark_catalog_stale()
        known = SERVER_NOTIFICATIONS.get(method)
        kind = known.kind if known is not None else "unknown"
        if method == "notifications/resources/list_changed":
            kind = "resource"
        elif method == "notifications/prompts/list_changed":
            kind = "prompt"
        task = params.get("taskId") if kind == "task" else None
        owned = isinstance(task, str) and self._calls.tasks.owns(
            link.name, task, self._identity.agent
        )
        action = Action(kind, method, link.name)
        if self._decide(action, owns_task=owned).allows:
            self._sender(send)(frames.notification(method, encode(params) if params else None))
        elif known is None:
            self.upstream_event(link, "frame.refused", {"method": method[:64]})

    # Small parts

    def _decide(self, action: Action, *, owns_task: bool = False) -> Decision:
        context = Context(owns_task=owns_task)
        return decide(self._identity.agent, action, self._gateway.snapshot, context)

    def _refuse_frame(self, malformed: MalformedFrame, reply: Reply) -> None:
        """Record a frame that is no acceptable message; then answer it."""
        action = Action("unknown", "", "")
        verdict = Decision("deny", "protocol", malformed.reason)
        answer = frames.error(
            malformed.request_id, frames.INVALID_REQUEST, f"Invalid request: {malformed.reason}"
        )
        reply.expect()
        self._gateway.recorder.decision(
            new_call_id(),
            self._party,
            self._identity,
            action,
            verdict,
            {},
            lambda unavailable: reply.reject(answer),
        )

    def _record_refusal(self, action: Action, verdict: Decision) -> None:
        self._gateway.recorder.decision(
            new_call_id(),
            self._party,
            self._identity,
            action,
            verdict,
            {},
            lambda unavailable: None,
        )

    def _sender(self, send: Callable[[bytes], None]) -> Callable[[bytes], None]:
        return send if self._client_ready else self._held.append

    def _outlet_send(self, frame: bytes) -> None:
        self._sender(self._outlet.send)(frame)

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
