"""What whoever watches calls is told of them."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from gateway.policy.values import Action, Decision


class Begun(msgspec.Struct, frozen=True):
    """A call that was decided on. `started_ns` is when it came, by the monotonic clock.

    `request` is the client's id for it, None where there is none.
    """

    call: str
    started_ns: int
    session: str
    transport: str
    protocol: str | None
    agent: str | None
    action: Action
    decision: Decision
    params: Mapping[str, object]
    request: str | int | None = None


class Ended(msgspec.Struct, frozen=True):
    """How an allowed call ended. `status` is that of its outcome in the audit log.

    `result` is the encoded result of a tool, None where there is none at hand.
    """

    call: str
    status: str
    duration_us: int
    error_code: int | None = None
    result: memoryview | None = None


class Watch(Protocol):
    """Is told of every call on the event loop, so it must not take long."""

    def decided(self, begun: Begun) -> str | None:
        """A call was decided on; a refused one ends with it.

        Returns the trace context by which the audit log can be joined to traces, if there is one.
        """

    def ended(self, ended: Ended) -> None:
        """A call that was allowed has ended. May be told of calls that it was not told begun."""

    def event(self, event: str, session: str | None, upstream: str | None) -> None:
        """Something else went into the audit log."""
