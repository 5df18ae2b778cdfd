"""A small HTTP/1.1 client for the path of a call: pooled connections, answers by callback."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

from gateway.transports.http_connection import Connection, Exchange, HttpError
from gateway.transports.http_request import request_bytes

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from gateway.transports.http_connection import ResponseHandler
    from gateway.transports.http_request import HeaderBlock, Origin

_SWEEP_S = 0.25


class HttpPool:
    """Keeps connections to any number of origins and sends requests over them.

    Redirects are not followed, cookies not kept, compression not offered. A request is sent at
    most once, except that one marked idempotent is sent again when a kept connection turns out
    to have been closed. A kept connection that the peer has closed already is not used.

    `tls_context` makes the one context that all connections share; it is called when the first
    is needed, in a thread, because reading the certificates takes tens of milliseconds.
    `idle_s` is how long an unused connection is kept where the server does not say: below the
    5 s after which several servers close theirs, so that no request meets a closing one.
    """

    def __init__(
        self,
        *,
        tls_context: Callable[[], ssl.SSLContext] | None = None,
        connect_timeout_s: float = 10.0,
        headers_timeout_s: float | None = None,
        idle_s: float = 4.0,
        max_header_bytes: int = 64 << 10,
        max_connections: int = 512,
    ) -> None:
        self.max_header_bytes = max_header_bytes
        self._make_tls_context = tls_context or _default_tls_context
        self._tls_context: asyncio.Future[ssl.SSLContext] | None = None
        self._connect_timeout_s = connect_timeout_s
        self._headers_timeout_s = headers_timeout_s
        self._idle_s = idle_s
        self._max_connections = max_connections
        self._idle: defaultdict[Origin, list[Connection]] = defaultdict(list)
        self._connections: set[Connection] = set()
        self._connecting: dict[asyncio.Task[None], Exchange | None] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None

    def request(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: HeaderBlock,
        body: bytes,
        handler: ResponseHandler,
        *,
        idempotent: bool = False,
    ) -> Exchange:
        """Send a request, at once where a connection is free. `handler` is not called before
        this returns. Raises ValueError for a bad method or target."""
        data = request_bytes(origin, method, target, headers, body)
        exchange = Exchange(origin, data, handler, idempotent=idempotent)
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if connection.is_usable():
                self._begin(connection, exchange, kept=True)
                return exchange
            connection.abort()
        self._connect_for(exchange)
        return exchange

    async def connect(self, origin: Origin) -> None:
        """Open a connection to be used by the next request. Raises HttpError."""
        connection = await self._open(origin)
        if not self._closed:
            self.put_back(connection)

    async def close(self) -> None:
        """Close all connections; requests under way end with an error."""
        self._closed = True
        for task, exchange in list(self._connecting.items()):
            task.cancel()
            if exchange is not None:
                exchange.fail("the connection was closed by the gateway")
        for connection in list(self._connections):
            connection.fail("the connection was closed by the gateway")
        await asyncio.gather(*self._connecting, return_exceptions=True)
        if self._connections:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied
        if self._sweeper is not None:
            self._sweeper.cancel()

    def put_back(self, connection: Connection) -> None:
        """Keep a connection whose answer is complete."""
        keep_s = self._idle_s
        if connection.keep_alive_s is not None:
            keep_s = min(connection.keep_alive_s - 1.0, 60.0)
        if self._closed or keep_s <= 0:
            connection.abort()
            return
        connection.deadline = connection.loop.time() + keep_s
        self._idle[connection.origin].append(connection)

    def opened(self, connection: Connection) -> None:
        """The connection is open."""
        self._connections.add(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def lost(self, connection: Connection) -> None:
        """The connection is closed."""
        self._connections.discard(connection)
        idle = self._idle[connection.origin]
        if connection in idle:
            idle.remove(connection)
        if not idle:
            del self._idle[connection.origin]
        if self._emptied is not None and not self._connections and not self._emptied.done():
            self._emptied.set_result(None)

    def retry(self, exchange: Exchange) -> None:
        """Send an idempotent request again, on a new connection."""
        exchange.may_retry = False
        exchange.connection = None
        self._connect_for(exchange)

    def _begin(self, connection: Connection, exchange: Exchange, *, kept: bool) -> None:
        limit_s = self._headers_timeout_s
        connection.deadline = None if limit_s is None else connection.loop.time() + limit_s
        connection.begin(exchange, kept=kept)

    def _connect_for(self, exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        if self._closed:
            loop.call_soon(exchange.fail, "the connection was closed by the gateway")
            return
        task = loop.create_task(self._open_for(exchange))
        self._connecting[task] = exchange
        task.add_done_callback(lambda task: self._connecting.pop(task, None))

    async def _open_for(self, exchange: Exchange) -> None:
        try:
            connection = await self._open(exchange.origin)
        except HttpError as error:
            exchange.fail(str(error))
            return
        if exchange.over:
            self.put_back(connection)
        else:
            self._begin(connection, exchange, kept=False)

    async def _open(self, origin: Origin) -> Connection:
        loop = asyncio.get_running_loop()
        if len(self._connections) + len(self._connecting) > self._max_connections:
            raise HttpError("too many connections are open")
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                tls = await self._tls() if origin.tls else None
                _, connection = await loop.create_connection(
                    lambda: Connection(self, origin), origin.host, origin.port, ssl=tls
                )
        except TimeoutError:
            raise HttpError(
                f"{origin.host} accepted no connection within {self._connect_timeout_s:g} s"
            ) from None
        except OSError as error:
            raise HttpError(f"no connection to {origin.host}: {_words(error)}") from None
        return connection

    async def _tls(self) -> ssl.SSLContext:
        if self._tls_context is None:
            loop = asyncio.get_running_loop()
            self._tls_context = loop.run_in_executor(None, self._make_tls_context)
        return await asyncio.shield(self._tls_context)

    def _sweep(self) -> None:
        """One timer for all deadlines, instead of one for each request."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._connections):
            if connection.deadline is not None and connection.deadline <= now:
                connection.fail("the server did not begin to answer in time")
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep) if self._connections else None


def _default_tls_context() -> ssl.SSLContext:
    import ssl

    return ssl.create_default_context()


def _words(error: OSError) -> str:
    import socket
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason}"
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "connection refused"
    return error.strerror or "connection failed"
