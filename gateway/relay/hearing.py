"""What a session's upstreams ask and tell: decided, then given to the client or dropped."""

from collections import deque
from collections.abc import Callable

from gateway.identity.identity import Identity
from gateway.policy.decide import decide
from gateway.policy.values import Action, Context
from gateway.relay.asking import Asking
from gateway.relay.calls import Calls
from gateway.relay.gateway import Gateway
from gateway.relay.link import Data, UpstreamLink
from gateway.relay.recording import Party
from gateway.transports.client import Outlet
from gateway.wire import frames
from gateway.wire.envelope import MalformedFrame, Notification, Request
from gateway.wire.methods import SERVER_NOTIFICATIONS, Method
from gateway.wire.params import Params, decode_params, encode

_HELD_MESSAGES = 1_000
"""Messages kept for a client that has not finished its handshake."""
_UNKNOWN_METHOD = Method("unknown")

Send = Callable[[bytes], None]


class Hearing:
    """The upstreams' side of one session. Is the LinkOwner of its links.

    `ready` is called with a link whenever its handshake is done.
    """

    def __init__(
        self,
        gateway: Gateway,
        party: Party,
        identity: Identity,
        outlet: Outlet,
        calls: Calls,
        *,
        name_origin: bool,
        ready: Callable[[UpstreamLink], None],
    ) -> None:
        self.asking = Asking(
            gateway.snapshot, gateway.recorder, party, identity, name_origin=name_origin
        )
        self._gateway = gateway
        self._party = party
        self._identity = identity
        self._outlet = outlet
        self._calls = calls
        self._ready = ready
        self._client_ready = False
        self._held: deque[bytes] = deque(maxlen=_HELD_MESSAGES)
        self._pauses = 0

    def client_ready(self) -> None:
        """The client has finished its handshake and may be told things."""
        self._client_ready = True
        while self._held:
            self._outlet.send(self._held.popleft())

    def tell(self, frame: bytes) -> None:
        """Tell the client something that belongs to no call."""
        self._send(self._outlet.send, frame)

    # LinkOwner

    def upstream_asked(
        self, link: UpstreamLink, message: Request | Notification, request: int | None
    ) -> None:
        """Put an upstream's question or news to the client, if it may have it."""
        call = self._calls.of(link.connection, request)
        way = call.reply.send if call is not None else self._outlet.send
        if isinstance(message, Request):
            self.asking.request(link.connection, message, lambda frame: self._send(way, frame))
            return
        try:
            params = decode_params(message.params)
        except MalformedFrame as malformed:
            self.upstream_event(link, "frame.refused", {"reason": malformed.reason})
            return
        if message.method == "notifications/progress":
            carried = self._calls.progressed(link.connection, params)
        elif message.method == "notifications/cancelled":
            carried = self.asking.cancelled(link.connection, params, self.tell)
        else:
            carried = self._news(link, message.method, params, way)
        if not carried:
            self.upstream_event(link, "frame.dropped", {"method": message.method[:64]})

    def upstream_event(self, link: UpstreamLink, event: str, data: Data) -> None:
        """Record what happened to an upstream."""
        self._gateway.recorder.event(
            event,
            data,
            session=self._party.session,
            agent=self._identity.agent,
            upstream=link.name,
        )

    def upstream_ready(self, link: UpstreamLink) -> None:
        """Keep the handshake's answer for the next start."""
        if link.handshake_result is not None:
            self._gateway.handshakes.put(link.name, link.handshake, link.handshake_result)
        self._ready(link)

    def upstream_lost(self, link: UpstreamLink) -> None:
        """Withdraw the questions of an upstream that is gone."""
        self.asking.forget(link.connection, self.tell)

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

    def _news(self, link: UpstreamLink, method: str, params: Params, way: Send) -> bool:
        """Give a notification on; False where the client's agent may not have it."""
        if method == "notifications/tools/list_changed":
            link.mark_catalog_stale()
        known = SERVER_NOTIFICATIONS.get(method, _UNKNOWN_METHOD)
        agent = self._identity.agent
        task = params.get("taskId")
        context = Context(
            owns_task=isinstance(task, str) and self._calls.tasks.owns(link.name, task, agent)
        )
        action = Action(known.kind, method, link.name)
        if not decide(agent, action, self._gateway.snapshot, context).allows:
            return False
        self._send(way, frames.notification(method, encode(params) if params else None))
        return True

    def _send(self, way: Send, frame: bytes) -> None:
        if self._client_ready:
            way(frame)
        else:
            self._held.append(frame)
