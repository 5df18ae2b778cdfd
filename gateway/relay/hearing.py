"""What a session's upstreams ask and tell: decided, then given to the client or dropped."""

from collections import deque
from collections.abc import Callable
from functools import partial

from gateway.policy.values import Action, Context
from gateway.relay.asking import Asking
from gateway.relay.authority import Authority
from gateway.relay.calls import Calls
from gateway.relay.connection import Connection
from gateway.relay.exchange import Exchange
from gateway.relay.gateway import Gateway
from gateway.relay.link import Data, UpstreamLink
from gateway.relay.listening import Listeners, untagged
from gateway.relay.recording import Party
from gateway.transports.client import Outlet
from gateway.wire import frames
from gateway.wire.envelope import MalformedFrame, Notification, Request, RequestId, Response
from gateway.wire.methods import SERVER_NOTIFICATIONS, SERVER_REQUESTS, Method
from gateway.wire.params import Params, decode_params, encode

_HELD_MESSAGES = 1_000
"""Messages kept for a client that has not finished its handshake."""
_UNKNOWN_METHOD = Method("unknown")
_CANNOT_TELL_WHOSE = (
    "a stateless client can only be asked in the answer to a call; not exactly one is under way on "
    "this connection, so it cannot be told which of them this belongs to"
)

Send = Callable[[bytes], None]


class Hearing:
    """The upstreams' side of one session. Is the LinkOwner of its links.

    `ready` is called with a link whenever its handshake is done. `listeners` are those of a
    stateless client; with `modern` set there is no other way to tell it anything but in answers.
    """

    def __init__(
        self,
        gateway: Gateway,
        authority: Authority,
        party: Party,
        outlet: Outlet,
        calls: Calls,
        asking: Asking,
        *,
        ready: Callable[[UpstreamLink], None],
    ) -> None:
        self.modern = False
        self.listeners = Listeners()
        self._asking = asking
        self._gateway = gateway
        self._party = party
        self._authority = authority
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

    def tell(self, method: str, params: Params) -> None:
        """Tell the client something that belongs to no call."""
        if self.modern:
            self.listeners.tell(method, params)
        else:
            self._send(self._outlet.send, frames.notification(method, _encoded(params)))

    # LinkOwner

    def upstream_asked(
        self, link: UpstreamLink, message: Request | Notification, request: int | None
    ) -> None:
        """Put an upstream's question or news to the client, if it may have it."""
        exchange = self._calls.exchange_of(link.connection, request)
        try:
            params = decode_params(message.params)
        except MalformedFrame as malformed:
            self.upstream_event(link, "frame.refused", {"reason": malformed.reason})
            if isinstance(message, Request):
                _respond_error(link.connection, message.id, frames.INVALID_PARAMS, malformed.reason)
            return
        if isinstance(message, Request):
            self._question(link, message, params, exchange)
            return
        if not self.told(link, message.method, params, request):
            self.upstream_event(link, "frame.dropped", {"method": message.method[:64]})

    def calls_on(self, link: UpstreamLink, request: int | None) -> bool:
        """Whether that request is a call of this session; None is any call on the link."""
        return self._calls.carries(link.connection, request)

    def told(self, link: UpstreamLink, method: str, params: Params, request: int | None) -> bool:
        """Give a notification on to whom it concerns; False where that is nobody here."""
        if method == "notifications/progress":
            return self._calls.progressed(link.connection, params)
        if method == "notifications/cancelled":
            return self._asking.cancelled(link.connection, params, self._outlet_send)
        if method == "notifications/subscriptions/acknowledged":
            return True
        exchange = self._calls.exchange_of(link.connection, request)
        return self._news(link, method, untagged(params), exchange)

    def upstream_event(self, link: UpstreamLink, event: str, data: Data) -> None:
        """Record what happened to an upstream."""
        self._gateway.recorder.event(
            event,
            data,
            session=self._party.session,
            agent=self._authority.identity.agent,
            upstream=link.name,
        )

    def upstream_ready(self, link: UpstreamLink) -> None:
        """Keep the handshake's answer for the next start."""
        if link.answer is not None:
            self._gateway.handshakes.put(link.name, link.greeting.key, link.answer)
        self._ready(link)

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

    def _question(
        self,
        link: UpstreamLink,
        request: Request,
        params: Params,
        exchange: Exchange | None,
    ) -> None:
        """A request of an upstream's: put as such, or in the answer to its call."""
        connection = link.connection
        if SERVER_REQUESTS.get(request.method, _UNKNOWN_METHOD).kind == "session":
            connection.respond(frames.result(request.id, b"{}"))
            return
        call = exchange.call if exchange is not None else None
        if self.modern:
            if exchange is None:
                data: Data = {"method": request.method[:64], "reason": "belongs to no one call"}
                self.upstream_event(link, "question.refused", data)
                _respond_error(connection, request.id, frames.UNAVAILABLE, _CANNOT_TELL_WHOSE)
                return
            put = partial(self._calls.rounds.park, exchange)
        else:
            put = partial(self._put, call.reply.send if call is not None else self._outlet.send)
        self._asking.ask(
            connection,
            request.method,
            params,
            put,
            partial(_respond, connection, request.id),
            upstream_id=request.id,
            caller=call.identity if call is not None else None,
        )

    def _put(self, way: Send, identifier: int, method: str, params: Params) -> None:
        self._send(way, frames.request(identifier, method, _encoded(params)))

    def _news(
        self, link: UpstreamLink, method: str, params: Params, exchange: Exchange | None
    ) -> bool:
        """Give a notification on; False where the client's agent may not have it."""
        if method == "notifications/tools/list_changed":
            link.mark_catalog_stale()
        known = SERVER_NOTIFICATIONS.get(method, _UNKNOWN_METHOD)
        call = exchange.call if exchange is not None else None
        caller = call.identity if call is not None else self._authority.identity
        task = params.get("taskId")
        context = Context(
            owns_task=isinstance(task, str)
            and self._calls.tasks.owns(link.name, task, caller.agent)
        )
        if link.shared and method == "notifications/resources/updated":
            uri = params.get("uri")
            if not isinstance(uri, str) or not self._calls.subscribed(link.name, uri):
                return True  # another session's
        action = Action(known.kind, method, link.name)
        if not self._authority.decide(action, context, caller).allows:
            return False
        if self.modern and known.kind == "logging":
            if call is not None and call.envelope is not None and call.envelope.log_level:
                call.reply.send(frames.notification(method, _encoded(params)))
            return True
        if self.modern:
            self.listeners.tell(method, params)
            return True
        way = call.reply.send if call is not None else self._outlet.send
        self._send(way, frames.notification(method, _encoded(params)))
        return True

    def _send(self, way: Send, frame: bytes) -> None:
        if self._client_ready:
            way(frame)
        else:
            self._held.append(frame)

    def _outlet_send(self, frame: bytes) -> None:
        if not self.modern:
            self._send(self._outlet.send, frame)


def _encoded(params: Params) -> bytes | None:
    return encode(params) if params else None


def _respond(connection: Connection, upstream_id: RequestId, response: Response) -> None:
    if response.result is not None:
        connection.respond(frames.result(upstream_id, response.result))
    else:
        connection.respond(frames.encoded_error(upstream_id, response.error or b"{}"))


def _respond_error(connection: Connection, upstream_id: RequestId, code: int, message: str) -> None:
    connection.respond(frames.error(upstream_id, code, message))
