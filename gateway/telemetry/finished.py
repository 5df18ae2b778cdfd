"""What is known of a call when it is over, and what the conventions of OpenTelemetry call it."""

import time

import msgspec

from gateway.telemetry.names import OTHER, outcome
from gateway.telemetry.watch import Begun, Ended
from gateway.wire.trace import TraceContext

Attributes = dict[str, str | int | bool]

SHOWN_CHARS = 8_192
"""How much of arguments and of a result a span holds, where it may hold any."""


class Spans(msgspec.Struct, frozen=True):
    """The ids of a call's spans. `own` is that of the gateway as the client's server, `client` that
    of the gateway as the upstream's client."""

    trace_id: str
    parent: TraceContext | None
    own: str
    client: str
    sampled: bool


class Finished(msgspec.Struct, frozen=True):
    """One call that is over. `sent_ns` is when it left for its upstream, 0 where it did not.

    Both `_ns` are of the monotonic clock. `tool` and `method` are as `Names` tells them.
    """

    begun: Begun
    tool: str
    method: str
    spans: Spans | None
    sent_ns: int
    ended_ns: int
    ended: Ended | None
    arguments: str | None = None
    result: str | None = None

    @property
    def name(self) -> str:
        """The name of its spans: the method, and the tool or prompt where it is a known one."""
        target = self._target
        return f"{self.method} {target}" if target else self.method

    @property
    def _target(self) -> str:
        known = self.tool not in ("", OTHER) or self.begun.action.kind == "prompt"
        return self.begun.action.name[:256] if known else ""

    @property
    def error_type(self) -> str | None:
        """The class of error it ended with, None where it went well."""
        ended = self.ended
        if ended is None:
            return "denied"
        if ended.error_code is not None:
            return str(ended.error_code)
        return None if ended.status in _WELL else ended.status

    def attributes(self) -> Attributes:
        """What is told of it in metrics: few different values."""
        action = self.begun.action
        told: Attributes = {
            "mcp.method.name": self.method,
            "network.transport": "tcp" if self.begun.transport == "http" else "pipe",
            "gateway.upstream": action.upstream,
            "gateway.decision": outcome(self.begun),
        }
        if self.begun.protocol:
            told["mcp.protocol.version"] = self.begun.protocol
        if action.kind == "tool":
            told["gen_ai.operation.name"] = "execute_tool"
            told["gen_ai.tool.name"] = self._target or OTHER
        if self.error_type is not None:
            told["error.type"] = self.error_type
        code = None if self.ended is None else self.ended.error_code
        if code is not None:
            # An upstream may make up codes without end.
            told["error.type"] = str(code) if code in _CODES else OTHER
            told["rpc.response.status_code"] = told["error.type"]
        return told

    def details(self) -> Attributes:
        """What is told besides in spans."""
        begun = self.begun
        told: Attributes = {
            "mcp.session.id": begun.session,
            "gateway.call.id": begun.call,
            "gateway.rule": begun.decision.rule,
        }
        if begun.action.kind == "prompt":
            told["gen_ai.prompt.name"] = self._target
        if self.ended is not None and self.ended.error_code is not None:
            told["error.type"] = told["rpc.response.status_code"] = str(self.ended.error_code)
        if begun.agent is not None:
            told["gateway.agent"] = begun.agent
        if self.tool:
            told["gateway.tool.id"] = self.tool
        if begun.request is not None:
            told["jsonrpc.request.id"] = str(begun.request)[:256]
        if self.arguments is not None:
            told["gen_ai.tool.call.arguments"] = self.arguments
        if self.result is not None:
            told["gen_ai.tool.call.result"] = self.result
        return told


class SessionOver(msgspec.Struct, frozen=True):
    """A session that has ended: a client's, or the gateway's own with `upstream`."""

    upstream: str
    duration_s: float


def wall_clock() -> int:
    """What to add to the monotonic clock for the time of day, in nanoseconds."""
    return time.time_ns() - time.monotonic_ns()


_CODES = range(-32_768, -31_999)
"""The codes that JSON-RPC keeps for itself and for protocols on top of it."""
_WELL = frozenset(("ok", "input_required"))
