"""What all client sessions of one gateway process share."""

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

import msgspec

from gateway.identity.spool import Spool
from gateway.relay.approvals import Approvals
from gateway.relay.authority import InForce
from gateway.relay.connection import Connection
from gateway.relay.guarding import Guarding
from gateway.relay.limiting import Limiting
from gateway.relay.parking import Binder
from gateway.relay.recording import Recorder
from gateway.transports.upstream import UpstreamTransport
from gateway.wire.params import Params

if TYPE_CHECKING:
    from gateway.relay.link import UpstreamLink

OpenTransport = Callable[[str, Connection], Awaitable[UpstreamTransport]]
"""Makes an unstarted transport to the named upstream; raises UpstreamUnavailable."""


class UpstreamLimits(msgspec.Struct, frozen=True):
    """What the configuration says of one upstream that matters to a session."""

    start_timeout_s: float = 20.0
    call_timeout_s: float | None = None
    shared: bool = False
    max_tools: int = 50_000


class Handshakes(Protocol):
    """Answers to `initialize` and `server/discover`, kept between runs."""

    def get(self, upstream: str, greeting: bytes) -> dict[str, object] | None:
        """The answer that this upstream last gave to a client with this greeting's key."""

    def put(self, upstream: str, greeting: bytes, result: dict[str, object]) -> None:
        """Keep an answer."""


class Follower(Protocol):
    """Follows calls for OpenTelemetry: `gateway.telemetry.tracing`."""

    def carried(self, call: str, params: Params) -> Params:
        """The params of a call that leaves for its upstream, with its trace context."""

    def stop(self) -> None:
        """Send what is left, if that takes no longer than a moment."""


class Gateway(msgspec.Struct, frozen=True):
    """The parts that do not change while the gateway runs.

    `guarding` asks the guards of rules that take long, `limiting` counts for those with limits.
    `approvals` are the questions to people, `configuration` is the path of gateway.yaml. `spool` is
    where the host's hook leaves whose a call is; None where nothing asks it. `tracing` follows
    calls where telemetry is sent. `links` are those of all sessions, for whoever wants to know how
    upstreams do.
    """

    in_force: InForce
    recorder: Recorder
    binder: Binder
    handshakes: Handshakes
    open_transport: OpenTransport
    limits: Mapping[str, UpstreamLimits]
    guarding: Guarding
    approvals: Approvals
    configuration: str = ""
    spool: Spool | None = None
    tracing: "Follower | None" = None
    limiting: Limiting = msgspec.field(default_factory=Limiting)
    links: "WeakSet[UpstreamLink]" = msgspec.field(default_factory=WeakSet)


def new_session_id() -> str:
    """128 random bits; also the key by which an HTTP client finds its session again."""
    return os.urandom(16).hex()
