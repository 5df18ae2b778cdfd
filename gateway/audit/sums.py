"""Adds up groups of calls that a store has counted, to the answers of `gateway.audit.log`."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final, TypeVar

from gateway.audit.calls import HOST_METHOD
from gateway.audit.latency import percentiles
from gateway.audit.log import Activity, Caller, Performance, Refusal, Unit
from gateway.audit.units import floored

GOOD: Final = ("ok", "input_required")
"""The statuses of calls that did not fail."""

_Counted = TypeVar("_Counted", Caller, Refusal)


def largest(groups: list[_Counted], limit: int | None) -> list[_Counted]:
    """The largest of `groups`, of those that are equal the latest, and the same ones each time."""
    groups.sort(key=lambda group: (group.agent or "", group.tool or ""))
    groups.sort(key=lambda group: (group.calls, group.last), reverse=True)
    return groups[:limit]


class Column:
    """The calls of one unit of time, or of several."""

    __slots__ = ("calls", "failed", "refused", "slots")

    def __init__(self) -> None:
        self.calls = self.refused = self.failed = 0
        self.slots: dict[int, int] = {}

    def add(self, other: "Column") -> None:
        """Take the calls of another one in."""
        self.calls += other.calls
        self.refused += other.refused
        self.failed += other.failed
        for slot, calls in other.slots.items():
            self.slots[slot] = self.slots.get(slot, 0) + calls

    def told(self, start: str) -> Activity:
        """The answer."""
        median, high = percentiles(self.slots.items(), 0.5, 0.95)
        return Activity(
            start=start,
            calls=self.calls,
            refused=self.refused,
            failed=self.failed,
            p50_us=median,
            p95_us=high,
        )


def merged(columns: Mapping[str, Column], unit: Unit, every: int) -> list[tuple[str, Column]]:
    """The same by so many units, in order."""
    merged: dict[str, Column] = {}
    for start, column in columns.items():
        begin = floored(start, unit, every)
        if begin in merged:
            merged[begin].add(column)
        else:
            merged[begin] = column
    return sorted(merged.items())


class Sum:
    """Adds up groups of calls."""

    __slots__ = ("calls", "failed", "first", "last", "refused")

    def __init__(self) -> None:
        self.calls = self.refused = self.failed = 0
        self.first = self.last = ""

    def add(
        self,
        decision: str | None,
        enforced: int,
        status: str | None,
        calls: int,
        first: str = "",
        last: str = "",
    ) -> None:
        """Take a group of calls in."""
        self.calls += calls
        if decision not in (None, "allow") and enforced:
            self.refused += calls
        if status is not None and status not in GOOD:
            self.failed += calls
        self.first = min(first, self.first) if self.first else first
        self.last = max(last, self.last)


class Answers:
    """Adds up groups of calls of one upstream or tool."""

    def __init__(self) -> None:
        self._passed = self._unknown = 0
        self._statuses: dict[str | None, int] = defaultdict(int)
        self._slots: dict[int, int] = defaultdict(int)
        self._longest_us: int | None = None

    def add(
        self,
        decision: str | None,
        enforced: int,
        method: str | None,
        status: str | None,
        slot: int | None,
        calls: int,
        longest_us: int | None,
    ) -> None:
        """Take a group of calls in."""
        self._statuses[status] += calls
        if decision == "allow" or not enforced:
            self._passed += calls
            if status is None and method != HOST_METHOD:
                self._unknown += calls
        if slot is not None and longest_us is not None:
            self._slots[slot] += calls
            self._longest_us = max(longest_us, self._longest_us or 0)

    def told(self, upstream: str, tool: str) -> Performance:
        """The answer; `tool` is empty for the whole upstream."""
        median, high, highest = percentiles(self._slots.items(), 0.5, 0.95, 0.99)
        statuses = self._statuses
        return Performance(
            upstream=upstream,
            tool=tool or None,
            calls=sum(statuses.values()),
            passed=self._passed,
            errors=statuses["error"] + statuses["tool_error"],
            timeouts=statuses["timeout"],
            lost=statuses["upstream_lost"],
            cancelled=statuses["cancelled"],
            unanswered=statuses["unanswered"],
            unknown=self._unknown,
            p50_us=median,
            p95_us=high,
            p99_us=highest,
            max_us=self._longest_us,
        )
