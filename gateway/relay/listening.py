"""News of changes: what stateless clients listen to, and listening to stateless upstreams."""

import asyncio
from functools import partial

import msgspec

from gateway.relay.connection import Connection, Failure
from gateway.transports.client import Reply
from gateway.wire import frames
from gateway.wire.envelope import RequestId, Response
from gateway.wire.modern import SUBSCRIPTION_ID
from gateway.wire.params import Params, encode

_FLAGS = {
    "notifications/tools/list_changed": "toolsListChanged",
    "notifications/prompts/list_changed": "promptsListChanged",
    "notifications/resources/list_changed": "resourcesListChanged",
}
NEWS_OF_LISTS = frozenset(_FLAGS.values())
"""The flags of the protocol's filter for changed listings."""
_ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
_AGAIN_S = 1.0


class Wanted(msgspec.Struct, frozen=True):
    """Which news somebody wants: the flags of the protocol's filter, and resource URIs."""

    flags: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()

    def __or__(self, other: "Wanted") -> "Wanted":
        return Wanted(self.flags | other.flags, self.resources | other.resources)

    def covers(self, method: str, params: Params) -> bool:
        """Whether a notification is wanted."""
        if method == "notifications/resources/updated":
            return params.get("uri") in self.resources
        return _FLAGS.get(method) in self.flags

    def filter(self) -> Params:
        """The protocol's filter."""
        wanted: Params = dict.fromkeys(sorted(self.flags), True)
        if self.resources:
            wanted["resourceSubscriptions"] = sorted(self.resources)
        return wanted


def read_filter(params: Params, *, resources: bool, prompts: bool) -> Wanted:
    """What a client asks to be told, cut to what its agent may know."""
    given = params.get("notifications")
    if not isinstance(given, dict):
        return Wanted()
    allowed = {"toolsListChanged"}
    if resources:
        allowed.add("resourcesListChanged")
    if prompts:
        allowed.add("promptsListChanged")
    uris = given.get("resourceSubscriptions")
    wanted = uris if resources and isinstance(uris, list) else []
    return Wanted(
        frozenset(flag for flag in allowed if given.get(flag) is True),
        frozenset(uri for uri in wanted if isinstance(uri, str)),
    )


class Listeners:
    """The open `subscriptions/listen` requests of one session's client."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[RequestId, Wanted, Reply]] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    @property
    def wanted(self) -> Wanted:
        """All that anybody listens to."""
        together = Wanted()
        for _, wanted, _ in self._open.values():
            together |= wanted
        return together

    def open(self, key: str, client_id: RequestId, wanted: Wanted, reply: Reply) -> None:
        """Acknowledge a request to listen; it stays open."""
        self._open[key] = (client_id, wanted, reply)
        reply.send(_tagged(_ACKNOWLEDGED, {"notifications": wanted.filter()}, client_id))

    def close(self, key: str) -> None:
        """The client listens no more."""
        found = self._open.pop(key, None)
        if found is not None:
            found[2].withdraw()

    def close_id(self, client_id: object) -> bool:
        """The client cancels the request to listen that it gave this id."""
        for key, (identifier, _, _) in tuple(self._open.items()):
            if type(identifier) is type(client_id) and identifier == client_id:  # True equals 1
                self.close(key)
                return True
        return False

    def end(self) -> None:
        """The gateway ends the session: tell the listeners so."""
        while self._open:
            _, (client_id, _, reply) = self._open.popitem()
            meta = {SUBSCRIPTION_ID: client_id}
            result = encode({"resultType": "complete", "_meta": meta})
            reply.answer(frames.result(client_id, result))

    def tell(self, method: str, params: Params) -> None:
        """Give news to everybody who listens to it."""
        for client_id, wanted, reply in tuple(self._open.values()):
            if wanted.covers(method, params):
                reply.send(_tagged(method, params, client_id))


class Ear:
    """Listens to one stateless upstream for what its session wants to know."""

    def __init__(self) -> None:
        self._wanted = Wanted()
        self._connection: Connection | None = None
        self._request: int | None = None
        self._again: asyncio.TimerHandle | None = None

    def connect(self, connection: Connection) -> None:
        """The upstream is there (again)."""
        self._connection = connection
        self._request = None
        self._listen()

    def want(self, wanted: Wanted) -> None:
        """From now on listen to this."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._listen()

    def close(self) -> None:
        """Listen no more."""
        self._wanted = Wanted()
        self._connection = None
        if self._again is not None:
            self._again.cancel()

    def _listen(self) -> None:
        """Open a stream for what is wanted now, then leave the one before."""
        connection, before = self._connection, self._request
        if connection is None or not connection.modern:
            return
        self._request = None
        if self._wanted != Wanted():
            identifier = connection.next_id()
            self._request = identifier
            params: Params = {"notifications": self._wanted.filter()}
            ended = partial(self._ended, identifier)
            connection.send(identifier, "subscriptions/listen", params, ended)
        if before is not None:
            connection.abandon(before, {"reason": "replaced"})

    def _ended(self, request: int, answer: Response | Failure) -> None:
        """The upstream closed the stream: listen again in a while, unless it knows no such."""
        if self._request != request:
            return
        self._request = None
        if isinstance(answer, Failure) or answer.result is not None:
            loop = asyncio.get_running_loop()
            self._again = loop.call_later(_AGAIN_S, self._listen)


def untagged(params: Params) -> Params:
    """A notification's params without the mark of the stream it came on."""
    meta = params.get("_meta")
    if not isinstance(meta, dict) or SUBSCRIPTION_ID not in meta:
        return params
    kept = {key: value for key, value in meta.items() if key != SUBSCRIPTION_ID}
    if kept:
        return {**params, "_meta": kept}
    return {key: value for key, value in params.items() if key != "_meta"}


def _tagged(method: str, params: Params, client_id: RequestId) -> bytes:
    meta = params.get("_meta")
    marked = {**(meta if isinstance(meta, dict) else {}), SUBSCRIPTION_ID: client_id}
    return frames.notification(method, encode({**params, "_meta": marked}))
