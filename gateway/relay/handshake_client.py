"""A client of the handshake revisions: `initialize`, then messages in both directions."""

import time
from collections.abc import Callable

from gateway.audit.errors import AuditUnavailable
from gateway.audit.records import new_call_id
from gateway.policy.snapshot import UpstreamPermissions
from gateway.policy.values import Action
from gateway.relay.connection import Failure
from gateway.relay.core import UNKNOWN_METHOD, SessionCore
from gateway.relay.core_client import CoreClient, params_of
from gateway.relay.listening import Wanted
from gateway.relay.listings import Listing
from gateway.relay.negotiation import Greeting
from gateway.relay.opening import (
    aggregate_result,
    bare_result,
    initialize_params,
    mirrored_result,
    negotiated,
    upstream_envelope,
)
from gateway.relay.pages import LIST_MEMBERS
from gateway.relay.recording import client_info
from gateway.transports.client import Reply
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
from gateway.wire.methods import BATCH_REVISIONS, CLIENT_NOTIFICATIONS, CLIENT_REQUESTS
from gateway.wire.params import Params, encode


class HandshakeClient(CoreClient):
    """The messages of one such client. Is a ClientHandler.

    `start_failed` is told the reason when the only upstream cannot be started at all.
    """

    def __init__(
        self, core: SessionCore, *, start_failed: Callable[[str], None] | None = None
    ) -> None:
        super().__init__(core)
        self.opened = False
        self._start_failed = start_failed
        self._greeted = False

    def receive(self, frame: bytes, reply: Reply) -> None:
        """Take one frame, or each member of a batch where the revision has them."""
        try:
            batch = split_batch(frame) if frame[:1] in b"[ \t\r\n" else None
            if batch is not None and self._core.party.protocol not in BATCH_REVISIONS:
                raise MalformedFrame("batches are not part of this protocol revision")
        except MalformedFrame as malformed:
            self._core.refuse(malformed, reply)
            return
        for member in [frame] if batch is None else batch:
            try:
                message = parse(member)
                if isinstance(message, Request):
                    self._request(message, reply)
                else:
                    self._take(message, reply)
            except MalformedFrame as malformed:
                self._core.refuse(malformed, reply)

    def _request(self, request: Request, reply: Reply) -> None:
        core = self._core
        method = CLIENT_REQUESTS.get(request.method, UNKNOWN_METHOD)
        if request.id in core.calls:
            raise MalformedFrame("a request with this id is still under way", request.id)
        if method.kind == "unknown" and request.method in CLIENT_NOTIFICATIONS:
            raise MalformedFrame("a notification cannot have an id", request.id)
        if request.method == "ping":
            reply.expect()
            reply.answer(frames.result(request.id, b"{}"))
            return
        params = params_of(request)
        if request.method == "initialize":
            self._initialize(request, params, reply)
            return
        revision = core.party.protocol
        if revision is None:
            raise MalformedFrame("the session must begin with initialize", request.id)
        if method.since > revision:
            method = UNKNOWN_METHOD
        if request.method == "tools/list" or (
            request.method in LIST_MEMBERS and core.surface.aggregate
        ):
            core.list(request, params, reply, _dress)
            return
        core.call(request, method, params, reply)

    def _take(self, message: Notification | Response, reply: Reply) -> None:
        """Take a message that wants no answer, not even when it is refused."""
        try:
            if isinstance(message, Notification):
                self._notification(message, reply)
            elif not self._core.asking.answer(message):
                raise MalformedFrame("the answer belongs to no request of this session")
        except MalformedFrame as malformed:
            self._core.refuse(malformed, reply, answered=False)

    def _notification(self, notification: Notification, reply: Reply) -> None:
        core = self._core
        if notification.method in CLIENT_REQUESTS:
            raise MalformedFrame(f"{notification.method} needs an id")
        params = params_of(notification)
        known = CLIENT_NOTIFICATIONS.get(notification.method)
        if notification.method == "notifications/initialized":
            core.hearing.client_ready()
        elif notification.method == "notifications/cancelled":
            core.calls.cancel(params)
        elif notification.method == "notifications/progress":
            if not core.asking.progressed(params):
                core.event("frame.orphan", {"method": notification.method})
        elif known is not None:
            for name in core.links:
                self._tell(Action(known.kind, notification.method, name), params, reply)
        else:
            upstream = "" if core.surface.aggregate else core.surface.upstreams[0]
            self._tell(Action("unknown", notification.method, upstream), params, reply)

    def _tell(self, action: Action, params: Params, reply: Reply) -> None:
        """Give a notification on to an upstream, once it is allowed and recorded.

        One that is not ready does without: no notification may come before its handshake.
        """
        core = self._core
        verdict = core.decide(action)
        call, started_ns = new_call_id(), time.monotonic_ns()
        reply.expect()

        def recorded(unavailable: AuditUnavailable | None) -> None:
            reply.withdraw()
            if unavailable is not None or not verdict.allows:
                return
            link = core.links.get(action.upstream)
            if link is not None and link.ready:
                link.connection.notify(action.method, params)
                core.gateway.recorder.done(call, started_ns)
            else:
                core.gateway.recorder.failed(call, started_ns, "upstream_lost")

        core.record(action, verdict, recorded, call=call)

    # The handshake

    def _initialize(self, request: Request, params: Params, reply: Reply) -> None:
        core = self._core
        if self._greeted:
            raise MalformedFrame("the session is initialized already", request.id)
        client, requested = params.get("clientInfo"), params.get("protocolVersion")
        if not isinstance(requested, str) or not isinstance(client, dict):
            raise MalformedFrame("initialize needs protocolVersion and clientInfo", request.id)
        reply.expect()
        self._greeted = True
        revision = negotiated(requested)

        def greet(permissions: UpstreamPermissions) -> Greeting:
            envelope = upstream_envelope(params.get("capabilities"), client, permissions)
            return Greeting(initialize_params(params, revision, envelope), envelope, permissions)

        core.open(client_info(client), requested, greet, capabilities=params.get("capabilities"))
        for name, link in core.links.items():
            permissions = core.permissions[name]
            flags = {"toolsListChanged"}
            if permissions.resources is not None:
                flags.add("resourcesListChanged")
            if permissions.prompts is not None:
                flags.add("promptsListChanged")
            if not link.shared:
                link.want(Wanted(frozenset(flags)))
        if core.surface.aggregate:
            self._answer_aggregate(request.id, revision, reply)
        else:
            self._answer_mirror(request.id, revision, reply)

    def _answer_aggregate(self, client_id: RequestId, revision: str, reply: Reply) -> None:
        core = self._core
        answers = {name: core.kept_answer(link) or {} for name, link in core.links.items()}
        instructions = [(name, answer.get("instructions")) for name, answer in answers.items()]
        result = aggregate_result(revision, core.permissions.values(), instructions)
        self._answer(client_id, result, reply)

    def _answer_mirror(self, client_id: RequestId, revision: str, reply: Reply) -> None:
        core = self._core
        name = core.surface.upstreams[0]
        link = core.links.get(name)
        if link is None:
            self._answer(client_id, bare_result(revision, name), reply)
            return
        permissions = core.permissions[name]
        kept = core.kept_answer(link)
        if kept is not None:
            self._answer(client_id, mirrored_result(kept, revision, name, permissions), reply)
            return

        def known(failure: Failure | None) -> None:
            if failure is None:
                result = mirrored_result(core.answer_of(link), revision, name, permissions)
                self._answer(client_id, result, reply)
            elif failure.status == "timeout":
                self._answer(client_id, bare_result(revision, name), reply)
            else:
                reply.answer(frames.error(client_id, failure.code, failure.reason), failure.code)
                if self._start_failed is not None and not core.closed:
                    self._start_failed(failure.reason)

        link.when_ready(known)

    def _answer(self, client_id: RequestId, result: dict[str, object], reply: Reply) -> None:
        self._core.party.protocol = str(result.get("protocolVersion"))
        self.opened = True
        reply.answer(frames.result(client_id, encode(result)))


def _dress(method: str, listing: Listing) -> bytes:
    return encode(listing.members)
