"""The gateway as a service: who may come in, which endpoint leads where, whether calls can run."""

import time
from collections.abc import Iterable
from urllib.parse import unquote

from gateway.identity.bearer import Rejected, TokenBook
from gateway.identity.endpoints import Forbidden, split_path, who
from gateway.identity.identity import Identity
from gateway.relay.core import SessionCore
from gateway.relay.fronts import StatelessEndpoint
from gateway.relay.gateway import Gateway
from gateway.relay.handshake_client import HandshakeClient
from gateway.relay.scraping import Scraping
from gateway.relay.shared import SharedUpstreams
from gateway.relay.surface import Aggregate, Mirror, Surface
from gateway.transports.client import Outlet
from gateway.transports.http_server import Admission, Denied

_CLOSE_GRACE_S = 2.0
_REFUSALS_EVERY_S = 1.0
_NOT_FOUND = Denied(404, "Not found", None)


class Caller(Admission, frozen=True):
    """A request that was admitted, and as which agent."""

    identity: Identity
    token: str | None = None


class GatewayService:
    """`/mcp` is the aggregate of all upstreams, `/<upstream>/mcp` the mirror of one.

    In front of either, `/agents/<agent>` names the agent. `tokens` says who may act as which;
    `anonymous` is who calls without one from this host, None where nobody may. Raises UserError
    where upstreams cannot be served together.
    """

    def __init__(
        self,
        gateway: Gateway,
        upstreams: Iterable[str],
        tokens: TokenBook,
        *,
        anonymous: Identity | None,
        scraping: Scraping | None = None,
    ) -> None:
        self._gateway = gateway
        self._scraping = scraping
        self._tokens = tokens
        self._anonymous = anonymous
        names = tuple(upstreams)
        self._surfaces: dict[str, Surface] = {f"/{name}/mcp": Mirror(name) for name in names}
        self._surfaces["/mcp"] = Aggregate(names)
        self._stateless: dict[tuple[str, str], StatelessEndpoint] = {}
        self._shared = SharedUpstreams(gateway)
        self._refusals = _Refusals(gateway)

    @property
    def paths(self) -> tuple[str, ...]:
        """The endpoints."""
        return tuple(self._surfaces)

    def admit(
        self, path: str, authorization: tuple[bytes, ...], *, loopback: bool
    ) -> Admission | Denied:
        """Who sends a request, or why it is not served.

        Without a valid token nobody learns which endpoints there are.
        """
        verified = self._tokens.verify(authorization)
        anonymous = self._anonymous if loopback else None
        bearer = None if isinstance(verified, Rejected) else verified
        if isinstance(verified, Rejected) and (not verified.missing or anonymous is None):
            self._refusals.note(verified.status, verified.reason)
            return Denied(verified.status, verified.message, verified.challenge)
        agent, endpoint = (None, path) if path in self._surfaces else split_path(path)
        if endpoint not in self._surfaces:
            endpoint = unquote(endpoint)
            if endpoint not in self._surfaces:
                return _NOT_FOUND
        identity = who(agent, bearer, anonymous=anonymous)
        if isinstance(identity, Forbidden):
            self._refusals.note(identity.status, identity.message)
            return Denied(identity.status, identity.message, identity.challenge)
        if agent is not None and agent not in self._gateway.in_force.snapshot.agents:
            return _NOT_FOUND
        principal = f"{bearer.id if bearer is not None else identity.means} {identity.agent}"
        return Caller(endpoint, principal, identity, None if bearer is None else bearer.id)

    def admits_still(self, admission: Admission) -> bool:
        """Whether the token of an admitted request is valid still."""
        token = admission.token if isinstance(admission, Caller) else None
        return token is None or self._tokens.valid(token)

    def open_session(self, admission: Admission, outlet: Outlet) -> HandshakeClient | None:
        """A new session of the handshake era; None where there is no such endpoint."""
        surface = self._surfaces.get(admission.endpoint)
        if surface is None:
            return None
        identity = _identity(admission)
        core = SessionCore(self._gateway, surface, identity, outlet, "http", self._shared)
        return HandshakeClient(core)

    def stateless(self, admission: Admission) -> StatelessEndpoint | None:
        """The endpoint for clients without a session; None where there is no such endpoint.

        Each principal has one of its own: nothing in it is shared with another.
        """
        key = (admission.endpoint, admission.principal)
        endpoint = self._stateless.get(key)
        if endpoint is None and admission.endpoint in self._surfaces:
            surface = self._surfaces[admission.endpoint]
            identity = _identity(admission)
            endpoint = StatelessEndpoint(self._gateway, surface, identity, self._shared)
            self._stateless[key] = endpoint
        return endpoint

    def problem(self) -> str | None:
        """Why calls cannot be served at the moment, or None."""
        if not self._gateway.recorder.writable:
            return "the audit log cannot be written"
        held = self._gateway.recorder.held
        if held is not None:
            return f"the audit store is away for too long: {held}"
        return self._tokens.problem()

    def warning(self, *, loopback: bool) -> str | None:
        """What somebody should look at though calls are served, or None.

        Where files and lines stand is told to this host only.
        """
        refused = self._gateway.in_force.refused
        if not refused:
            problem = self._gateway.recorder.store_problem
            if problem is None:
                return None
            told = "the audit store cannot be used, so records wait in the journal"
            return f"{told}: {problem}" if loopback else told
        told = "the configuration's files were changed and refused, so those before are in force"
        return f"{told}: {refused}" if loopback else told

    def scrape(self, authorization: tuple[bytes, ...], *, loopback: bool) -> bytes | Denied:
        """What is counted, or why it is not shown."""
        if self._scraping is None:
            return _NOT_FOUND
        return self._scraping.answer(self._tokens, authorization, loopback=loopback)

    async def close(self) -> None:
        """End what stateless clients shared."""
        self._refusals.flush()
        for endpoint in self._stateless.values():
            await endpoint.close("the gateway is stopping")
        await self._shared.close(_CLOSE_GRACE_S)


def _identity(admission: Admission) -> Identity:
    if not isinstance(admission, Caller):
        raise TypeError("only what this service admitted is served")
    return admission.identity


class _Refusals:
    """Records that requests were not admitted: at most one record a second, with their number.

    Whoever floods the port would fill the disk otherwise.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._count = 0
        self._status = 0
        self._reason = ""
        self._next_s = float("-inf")

    def note(self, status: int, reason: str) -> None:
        """Count one, and record it if it is time."""
        self._count += 1
        self._status, self._reason = status, reason
        if time.monotonic() >= self._next_s:
            self.flush()

    def flush(self) -> None:
        """Record what was counted."""
        if self._count:
            self._next_s = time.monotonic() + _REFUSALS_EVERY_S
            self._gateway.recorder.event(
                "request.refused",
                {"status": self._status, "reason": self._reason, "count": self._count},
            )
            self._count = 0
