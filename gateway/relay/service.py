"""The gateway as a service: which endpoint leads to which upstreams, and whether calls can run."""

from collections.abc import Iterable

from gateway.identity.identity import Identity
from gateway.relay.gateway import Gateway
from gateway.relay.session import ClientSession
from gateway.relay.surface import Aggregate, Mirror, Surface
from gateway.transports.client import Outlet


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

    @property
    def paths(self) -> tuple[str, ...]:
        """The endpoints."""
        return tuple(self._surfaces)

    def open_session(self, path: str, outlet: Outlet) -> ClientSession | None:
        """A new session on an endpoint; None where there is no such endpoint."""
        surface = self._surfaces.get(path)
        if surface is None:
            return None
        return ClientSession(self._gateway, surface, self._identity, outlet, "http")

    def problem(self) -> str | None:
        """Why calls cannot be served at the moment, or None."""
        if not self._gateway.recorder.writable:
            return "the audit log cannot be written"
        return None
