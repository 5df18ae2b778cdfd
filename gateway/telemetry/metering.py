"""Counts calls for whoever scrapes `/metrics`: everything is counted on the event loop."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable

import msgspec

from gateway.policy.snapshot import Snapshot
from gateway.telemetry.names import OTHER, Names, outcome
from gateway.telemetry.watch import Begun, Ended

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

MAX_OPEN = 100_000
MAX_SERIES = 20_000
"""How many combinations of labels are told apart; what comes after them is OTHER."""


class Calls(msgspec.Struct, frozen=True, order=True):
    """The labels of calls that are counted together."""

    upstream: str
    method: str
    tool: str
    decision: str
    status: str


class Refusals(msgspec.Struct, frozen=True, order=True):
    """The labels of refusals that are counted together; not enforced ones were only recorded."""

    rule: str
    decision: str
    enforced: bool


class Histogram:
    """Durations: how many were at most as long as each bound, and how long all were together."""

    __slots__ = ("count", "counts", "sum_us")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.count = 0
        self.sum_us = 0

    def add(self, duration_us: int) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS_S, duration_us / 1e6)] += 1
        self.count += 1
        self.sum_us += duration_us


class _Open(msgspec.Struct):
    upstream: str
    method: str
    tool: str
    decision: str


class Metering:
    """Is a Watch. What it has counted stands in its attributes."""

    def __init__(self, in_force: Callable[[], Snapshot]) -> None:
        self._names = Names(in_force)
        self.calls: Counter[Calls] = Counter()
        self.refusals: Counter[Refusals] = Counter()
        self.durations: dict[str, Histogram] = {}
        self.in_flight: Counter[str] = Counter()
        self.upstream_events: Counter[tuple[str, str]] = Counter()
        """By upstream, and "ready" or "exited"."""
        self.last: dict[str, str] = {}
        """The last of these of each upstream."""
        self.connections: set[tuple[str, str]] = set()
        """The upstream and the session of each connection that stands; "" is a shared one."""
        self.sessions: set[str] = set()
        self._open: dict[str, _Open] = {}

    def decided(self, begun: Begun) -> None:
        """See Watch."""
        decision = begun.decision
        upstream, method = begun.action.upstream, self._names.method(begun)
        opened = _Open(upstream, method, self._names.tool(begun), outcome(begun))
        if decision.effect != "allow":
            key = Refusals(decision.rule, decision.effect, decision.enforced)
            if key in self.refusals or len(self.refusals) < MAX_SERIES:
                self.refusals[key] += 1
        if decision.refuses:
            self._count(opened, "refused")
        elif len(self._open) < MAX_OPEN:
            self._open[begun.call] = opened
            self.in_flight[upstream] += 1

    def ended(self, ended: Ended) -> None:
        """See Watch."""
        opened = self._open.pop(ended.call, None)
        if opened is None:
            return
        self.in_flight[opened.upstream] -= 1
        self._count(opened, ended.status)
        histogram = self.durations.get(opened.upstream)
        if histogram is None:
            histogram = self.durations[opened.upstream] = Histogram()
        histogram.add(ended.duration_us)

    def event(self, event: str, session: str | None, upstream: str | None) -> None:
        """See Watch."""
        what = _LIFECYCLE.get(event)
        if what is not None and upstream is not None:
            connection = (upstream, session or "")
            if what == "ready":
                self.connections.add(connection)
            else:
                self.connections.discard(connection)
            if what != "stopped":
                self.upstream_events[upstream, what] += 1
                self.last[upstream] = what
        elif session is not None and event == "session.opened":
            self.sessions.add(session)
        elif session is not None and event == "session.closed":
            self.sessions.discard(session)

    def _count(self, opened: _Open, status: str) -> None:
        key = Calls(opened.upstream, opened.method, opened.tool, opened.decision, status)
        if key not in self.calls and len(self.calls) >= MAX_SERIES:
            key = Calls(opened.upstream, OTHER, OTHER, opened.decision, status)
        self.calls[key] += 1


_LIFECYCLE = {
    "upstream.ready": "ready",
    "upstream.exited": "exited",
    "upstream.stopped": "stopped",
}
