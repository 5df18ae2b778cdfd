"""The gateway as a service: which endpoint leads to which upstreams, and whether calls can run."""

from collections.abc import Iterable

from gateway.identity.identity import Identity
from gateway.relay.core import SessionCore
from gateway.relay.fronts import StatelessEndpoint
from gateway.relay.gateway import Gateway
from gateway.relay.handshake_client import HandshakeClient
from gateway.relay.shared import SharedUpstreams
from gateway.relay.surface import Aggregate, Mirror, Surface
from gateway.transports.client import Outlet

_CLOSE_GRACE_S = 2.0


class GatewayService:
    """`/mcp` is the aggregate of all upstreams, `/<upstream>/mcp` the mirror of one.

    `identity` is the agent of every connection. Raises UserError where upstreams cannot be served
    together.
    """

    def __init__(self, gateway: Gateway, identity: Identity, upstreams: Iterable[str]) -> None:
        self._gateway = gateway
        self._identity = identity
        names = tuple(upstreams)
        self._surfaces: dict[str, Surface] = {f"/{name}/mcp": Mirror(name) for name in names}
        self._surfaces["/mcp"] = Aggregate(names)
        self._stateless: dict[str, StatelessEndpoint] = {}
        self._shared = SharedUpstreams(gateway)

    @property
    def paths(self) -> tuple[str, ...]:
        """The endpoints."""
        return tuple(self._surfaces)

    def open_session(self, path: str, outlet: Outlet) -> HandshakeClient | None:
        """A new session of the handshake era; None where there is no such endpoint."""
        surface = self._surfaces.get(path)
        if surface is None:
            return None
        core = SessionCore(self._gateway, surface, self._identity, outlet, "http", self._shared)
        return HandshakeClient(core)

    def stateless(self, path: str) -> StatelessEndpoint | None:
        """The endpoint for clients without a session; None where there is no such endpoint."""
        endpoint = self._stateless.get(path)
        if endpoint is None and path in self._surfaces:
            endpoint = StatelessEndpoint(
                self._gateway, self._surfaces[path], self._identity, self._shared
            )
            self._stateless[path] = endpoint
        return endpoint

    def problem(self) -> str | None:
        """Why calls cannot be served at the moment, or None."""
        if not self._gateway.recorder.writable:
            return "the audit log cannot be written"
        return None

    async def close(self) -> None:
        """End what stateless clients shared."""
        for endpoint in self._stateless.values():
            await endpoint.close("the gateway is stopping")
        await self._shared.close(_CLOSE_GRACE_S)
