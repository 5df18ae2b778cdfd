"""The sessions of HTTP clients: whose they are, how long they are kept, what ends them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from gateway.transports.http_messages import Refused
from gateway.transports.http_resumption import KEPT_S, Budget, EventLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.transports.client import ClientHandler
    from gateway.transports.http_replies import HttpOutlet
    from gateway.transports.http_server import Admission

IDLE_S = 1800.0
"""How long a session without any open request is kept."""
MAX_SESSIONS = 10_000
_SWEEP_S = 0.5
"""So that a revoked token ends the open streams of its sessions within a second."""
_CLOSE_GRACE_S = 2.0


class Session(msgspec.Struct, eq=False):
    """`admission` opened it; `announced`: the client has been told its id."""

    handler: ClientHandler
    outlet: HttpOutlet
    admission: Admission
    last_used_s: float
    log: EventLog
    announced: bool = False


class Sessions:
    """All sessions of one server."""

    def __init__(self, admits_still: Callable[[Admission], bool]) -> None:
        self._admits_still = admits_still
        self._loop = asyncio.get_running_loop()
        self._sessions: dict[bytes, Session] = {}
        self._budget = Budget()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def find(self, identifier: bytes, admission: Admission) -> Session:
        """The session of that id. Raises Refused where the caller has none of it.

        Nobody learns that there is one of another's, or on another endpoint.
        """
        session = self._sessions.get(identifier)
        if session is None or session.admission != admission:
            raise Refused(404, "Session not found")
        return session

    def check_room(self) -> None:
        """Raises Refused where there are as many sessions as there may be."""
        if len(self._sessions) >= MAX_SESSIONS:
            raise Refused(503, "Too many sessions")

    def create(self, handler: ClientHandler, outlet: HttpOutlet, admission: Admission) -> Session:
        """A session that its client does not know yet."""
        return Session(handler, outlet, admission, self._loop.time(), EventLog(self._budget))

    def used(self, session: Session) -> None:
        """The client needs its session still."""
        session.last_used_s = self._loop.time()

    def announce(self, session: Session) -> bytes:
        """The header that gives a session its id once it is open; from then on it is known."""
        handler = session.handler
        if session.announced or not handler.opened:
            return b""
        session.announced = True
        identifier = handler.id.encode()
        self._sessions[identifier] = session
        if self._sweeper is None:
            self._schedule_sweep()
        return b"mcp-session-id: %b\r\n" % identifier

    def discard(self, session: Session) -> None:
        """End a session that its client was never told of."""
        self._close_aside(session, "the session was never opened")

    def end(self, session: Session, reason: str) -> None:
        """End a session."""
        if self._sessions.pop(session.handler.id.encode(), None) is not None:
            session.outlet.end()
            session.log.close()
            self._close_aside(session, reason)

    def close(self) -> None:
        """End every session."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for session in tuple(self._sessions.values()):
            self.end(session, "the gateway is stopping")

    async def settled(self) -> None:
        """Wait until what ended is closed."""
        if self._closing:
            await asyncio.wait(self._closing)

    def _close_aside(self, session: Session, reason: str) -> None:
        closing = session.handler.close(reason, _CLOSE_GRACE_S)
        task = self._loop.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _schedule_sweep(self) -> None:
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        now_s = self._loop.time()
        for session in tuple(self._sessions.values()):
            session.log.drop_before(now_s - KEPT_S)
            if not self._admits_still(session.admission):
                self.end(session, "its token is not valid any more")
            elif not session.outlet.busy and now_s - session.last_used_s > IDLE_S:
                self.end(session, "idle")
        self._schedule_sweep()
