"""Takes the connections of HTTP clients, and looks after their deadlines."""

from __future__ import annotations

import asyncio
import contextlib
from email.utils import formatdate
from typing import TYPE_CHECKING

import msgspec

from gateway.transports.http_inbound import InboundConnection

if TYPE_CHECKING:
    from gateway.transports.http_exchange import Application

MAX_CONNECTIONS = 10_000
_BACKLOG = 2048


class HttpTimes(msgspec.Struct, frozen=True):
    """How long a client may take, looked at every `tick_s`.

    header_s: to send the headers of a request; body_s: its body; idle_s: without a request on an
    open connection; stall_s: to take anything of what waits for it; linger_s: to notice that its
    request was refused and the connection closed.
    """

    header_s: float = 10.0
    body_s: float = 60.0
    idle_s: float = 75.0
    stall_s: float = 60.0
    linger_s: float = 2.0
    tick_s: float = 1.0


class HttpListener:
    """Serves an application on the running event loop; a body over `max_body_bytes` is not read."""

    def __init__(
        self,
        application: Application,
        *,
        max_body_bytes: int,
        times: HttpTimes = HttpTimes(),  # noqa: B008 - frozen
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.application = application
        self.loop = asyncio.get_running_loop()
        self.max_body_bytes = max_body_bytes
        self.times = times
        self.now_s = 0.0
        """The event loop's time at the last tick: exact enough for deadlines, and free."""
        self.date_line = b""
        self.stopping = False
        self._max_connections = max_connections
        self._connections: set[InboundConnection] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None
        self._emptied = asyncio.Event()

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free one. Raises OSError where that is not possible."""
        self._server = await self.loop.create_server(
            lambda: InboundConnection(self), host, port, backlog=_BACKLOG
        )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first socket that is listened on."""
        if self._server is None:
            raise RuntimeError("not started")
        name = self._server.sockets[0].getsockname()
        return name[0], name[1]

    def stop_accepting(self) -> None:
        """Take no more connections, and on the open ones no more requests."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            if connection.idle:
                connection.close()

    async def close(self, grace_s: float) -> None:
        """Close every connection: those that are being answered when that is done, or in time."""
        self.stop_accepting()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._emptied.wait()
        for connection in tuple(self._connections):
            connection.abort()
        if self._connections:
            self._emptied.clear()
            await self._emptied.wait()
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    # For the connections

    def opened(self, connection: InboundConnection) -> None:
        """A client has connected."""
        if self.stopping or len(self._connections) >= self._max_connections:
            connection.abort()
        self._connections.add(connection)
        self._emptied.clear()
        if self._ticker is None:
            self._tick()

    def lost(self, connection: InboundConnection) -> None:
        """A connection is closed."""
        self._connections.discard(connection)
        if not self._connections:
            self._emptied.set()

    def _tick(self) -> None:
        """One timer for all deadlines, instead of some for each request."""
        now_s = self.now_s = self.loop.time()
        self.date_line = f"date: {formatdate(usegmt=True)}\r\n".encode()
        for connection in tuple(self._connections):
            if connection.deadline_s <= now_s:
                connection.expire()
            elif not connection.writable:
                connection.watch(now_s)
        ticking = bool(self._connections)
        self._ticker = self.loop.call_later(self.times.tick_s, self._tick) if ticking else None
