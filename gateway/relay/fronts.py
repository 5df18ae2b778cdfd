"""Finds out which era a client speaks, and hands its messages to a client of that era."""

import asyncio
from collections.abc import Callable

import msgspec

from gateway.identity.identity import Identity
from gateway.relay.core import SessionCore
from gateway.relay.core_client import params_of, too_large
from gateway.relay.gateway import Gateway
from gateway.relay.handshake_client import HandshakeClient
from gateway.relay.shared import SharedUpstreams
from gateway.relay.stateless_client import (
    Cancel,
    Headers,
    StatelessClient,
    StdioStatelessClient,
    accept,
    nothing,
    refuse_by_rule,
)
from gateway.relay.surface import Surface
from gateway.transports.client import Outlet, Reply
from gateway.wire.envelope import MalformedFrame, Notification, Request, parse
from gateway.wire.modern import Refusal, RequestEnvelope, is_modern

_IDLE_S = 300.0
"""How long the upstreams of stateless clients are kept for the next one that is alike."""
_MAX_POOLED = 64
"""Kinds of stateless clients of one endpoint at a time; each may have processes of its own."""
_CLOSE_GRACE_S = 2.0


class StdioFront:
    """The one client at the other end of stdin and stdout. Is a ClientHandler.

    The first request that is in order settles its era.
    """

    def __init__(
        self, core: SessionCore, *, start_failed: Callable[[str], None] | None = None
    ) -> None:
        self.id = core.id
        self._handshake = HandshakeClient(core, start_failed=start_failed)
        self._stateless = StdioStatelessClient(core)
        self._settled: HandshakeClient | StdioStatelessClient | None = None

    @property
    def opened(self) -> bool:
        """Whether the client has made itself known."""
        return self._handshake.opened or self._stateless.opened

    def receive(self, frame: bytes, reply: Reply) -> None:
        """Take one frame."""
        if self._settled is None:
            self._settle(frame)
        (self._settled or self._handshake).receive(frame, reply)
        if self._settled is self._stateless and not self._stateless.opened:
            self._settled = None

    def oversized(self, size_bytes: int, limit_bytes: int, reply: Reply) -> None:
        """Refuse a frame that was dropped for its size."""
        self._handshake.oversized(size_bytes, limit_bytes, reply)

    def client_full(self) -> None:
        """The client takes no more for now."""
        self._handshake.client_full()

    def client_drained(self) -> None:
        """The client takes more again."""
        self._handshake.client_drained()

    async def close(self, reason: str, grace_s: float) -> None:
        """The client is gone."""
        await self._handshake.close(reason, grace_s)

    def _settle(self, frame: bytes) -> None:
        try:
            message = parse(frame)
            if not isinstance(message, Request):
                return
            if message.method == "initialize":
                self._settled = self._handshake
            elif message.method == "server/discover" or is_modern(params_of(message)):
                self._settled = self._stateless
        except MalformedFrame:
            return  # refused, and recorded, by whoever gets it


class _Pooled(msgspec.Struct):
    client: StatelessClient
    idle: asyncio.TimerHandle | None = None


class StatelessEndpoint:
    """An HTTP endpoint as stateless clients use it.

    Without sessions there is nothing to hang an upstream session on; so clients that are alike in
    agent, name and capabilities share one, which outlives them by some minutes. Where every
    upstream is stateless too, all clients of the agent do.
    """

    def __init__(
        self, gateway: Gateway, surface: Surface, identity: Identity, shared: SharedUpstreams
    ) -> None:
        self._shared = shared
        self._gateway = gateway
        self._surface = surface
        self._identity = identity
        self._desk = self._core()
        self._pool: dict[bytes, _Pooled] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def receive(self, frame: bytes, headers: Headers, reply: Reply) -> Cancel:
        """Take the body of one POST; returns what cancels its request.

        `headers` are by lower-case name, None for one that came more than once.
        """
        try:
            message = parse(frame)
            if isinstance(message, Notification):
                if message.method != "notifications/cancelled":
                    raise MalformedFrame(f"{message.method[:64]} is no notification of clients")
                return nothing
            if not isinstance(message, Request):
                raise MalformedFrame("this protocol revision has no answers from clients")
            params = params_of(message)
            try:
                envelope = accept(message, params, headers)
            except Refusal as refused:
                refuse_by_rule(self._desk, message, refused, reply)
                return nothing
            return self._pooled(envelope).client.request(message, params, envelope, reply, headers)
        except MalformedFrame as malformed:
            self._desk.refuse(malformed, reply)
            return nothing

    def oversized(self, size_bytes: int, limit_bytes: int, reply: Reply) -> None:
        """Refuse a body that was dropped for its size."""
        self._desk.refuse(too_large(size_bytes, limit_bytes), reply)

    async def close(self, reason: str) -> None:
        """End what the clients shared."""
        pooled, self._pool = self._pool, {}
        for each in pooled.values():
            self._end(each, reason)
        if self._closing:
            await asyncio.wait(self._closing)

    def _core(self) -> SessionCore:
        return SessionCore(
            self._gateway, self._surface, self._identity, _NO_OUTLET, "http", self._shared
        )

    def _pooled(self, envelope: RequestEnvelope) -> _Pooled:
        key = msgspec.json.encode((envelope.capabilities, envelope.client), order="deterministic")
        pooled = self._pool.get(key)
        if pooled is None:
            pooled = next((each for each in self._pool.values() if each.client.serves_all), None)
        if pooled is None:
            if len(self._pool) >= _MAX_POOLED:
                self._make_room()
            pooled = _Pooled(StatelessClient(self._core(), own_keys=True))
            self._pool[key] = pooled
        if pooled.idle is not None:
            pooled.idle.cancel()
        loop = asyncio.get_running_loop()
        pooled.idle = loop.call_later(_IDLE_S, self._expire, pooled)
        return pooled

    def _make_room(self) -> None:
        """End what the kind of client shared that came first of those with nothing under way."""
        for key, pooled in self._pool.items():
            if not pooled.client.busy:
                del self._pool[key]
                self._end(pooled, "another kind of client needs the room")
                return
        raise MalformedFrame("too many kinds of clients at once")

    def _expire(self, pooled: _Pooled) -> None:
        if pooled.client.busy:
            loop = asyncio.get_running_loop()
            pooled.idle = loop.call_later(_IDLE_S, self._expire, pooled)
            return
        for key, each in tuple(self._pool.items()):
            if each is pooled:
                del self._pool[key]
        self._end(pooled, "idle")

    def _end(self, pooled: _Pooled, reason: str) -> None:
        if pooled.idle is not None:
            pooled.idle.cancel()
        closing = pooled.client.core.close(reason, _CLOSE_GRACE_S)
        task = asyncio.get_running_loop().create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _NoOutlet:
    """A stateless client can be told nothing but answers. Is an Outlet."""

    def send(self, frame: bytes) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


_NO_OUTLET: Outlet = _NoOutlet()
