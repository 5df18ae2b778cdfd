"""What can be asked of the audit log, whichever store answers, and what the answers look like.

The command line and the console ask an `AuditLog`; `gateway.audit.sql_log` answers for every store
that speaks SQL. Times are as records have them; durations are microseconds. A *refused* call is one
whose decision stopped it; *failed* is one that was let through and ended badly.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from gateway.audit.calls import Call, Cursor, Filters
from gateway.audit.reader import Entry, Problem, Report, Row

Unit: TypeAlias = Literal["minute", "hour", "day", "month"]
Dimension: TypeAlias = Literal["agent", "tool", "upstream"]

CHANGES: Final = (
    "anchor.",
    "approval.",
    "audit.",
    "checkpoint.failed",
    "configuration.",
    "instructions.",
    "journal.gap",
    "journal.pruned",
    "store.",
    "tool.",
    "upstream.exited",
    "upstream.ready",
    "upstream.started",
    "upstream.stopped",
)
"""Beginnings of the events that tell what changed: what is permitted, offered, running or kept."""


class LoggedEvent(msgspec.Struct, frozen=True):
    """An event as the log tells it: the line is the evidence."""

    row: Row
    line: bytes

    @property
    def cursor(self) -> Cursor:
        """Its place among the events."""
        return Cursor(self.row.time, f"{self.row.writer} {self.row.seq}")

    def fields(self) -> dict[str, Any]:
        """The record, the form of `--json`."""
        fields: dict[str, Any] = msgspec.json.decode(self.line)
        return fields


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """One agent's use of one tool."""

    agent: str | None
    tool: str | None
    calls: int
    refused: int
    failed: int
    first: str
    last: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that one rule did not simply allow to one agent, of one tool.

    `tool` is None for what is no tool; `method` tells what was asked for. `enforced` False: they
    were only observed. `reason` and `call` are those of the last one.
    """

    decision: str
    enforced: bool
    rule: str | None
    file: str | None
    line: int | None
    agent: str | None
    tool: str | None
    method: str | None
    calls: int
    first: str
    last: str
    reason: str | None = None
    call: str = ""


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """How the calls of one upstream, or of one of its tools, went.

    `tool` None: of all that went to the upstream. `passed` were let through, of which `errors` were
    answered with an error, `timeouts` not in time, `lost` with the upstream, `cancelled` by the
    client, `unanswered` when the session ended; of `unknown` there is no outcome. The percentiles
    are of those that have one.
    """

    upstream: str
    tool: str | None
    calls: int
    passed: int
    errors: int
    timeouts: int
    lost: int
    cancelled: int
    unanswered: int
    unknown: int
    p50_us: int | None
    p95_us: int | None
    p99_us: int | None
    max_us: int | None

    @property
    def failed(self) -> int:
        """How many did not do what they were to do, as far as it is known."""
        return self.errors + self.timeouts + self.lost + self.cancelled + self.unanswered


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How many calls one agent, tool or upstream has."""

    name: str | None
    calls: int
    refused: int
    failed: int


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one unit of time, or of several; where there are no calls, there is none."""

    start: str  # the time's beginning: 2026-01, 2026-01-31, 2026-01-31T12 or 2026-01-31T12:30
    calls: int
    refused: int
    failed: int
    p50_us: int | None
    p95_us: int | None


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one call: its records, and the events around it."""

    call: Call
    events: list[LoggedEvent]
    """Of this call, or of its session while it went on, in order."""
    session_opened: LoggedEvent | None


class Freshness(msgspec.Struct, frozen=True, kw_only=True):
    """From when to when the log tells of something; None while it is empty."""

    oldest: str | None
    newest: str | None


class AuditLog(Protocol):
    """A store of the audit log that readers ask.

    Raises UserError when the store cannot be used.
    """

    def close(self) -> None:
        """Let go of the store."""

    def refresh(self) -> None:
        """Take in what was recorded since; what is asked before that may miss the newest."""

    def snapshot(self) -> AbstractContextManager[None]:
        """All that is asked inside sees one state."""

    def calls(
        self,
        filters: Filters,
        limit: int | None = None,
        *,
        before: Cursor | None = None,
        after: Cursor | None = None,
        lines: bool = True,
    ) -> list[Call]:
        """The calls that match, the newest last.

        With a `limit` the newest of them, or with `after` the first ones that follow it. Without
        `lines` they have only their rows, which some stores tell sooner.
        """

    def stream(self, filters: Filters) -> Iterator[Call]:
        """All calls that match, the newest last, a few of them in memory at a time."""

    def call(self, prefix: str, limit: int = 2) -> list[Call]:
        """Up to `limit` calls whose id begins with `prefix`, by their ids."""

    def story(self, call: Call) -> Story:
        """What else is known of `call`."""

    def events(
        self,
        filters: Filters,
        limit: int | None = None,
        *,
        beginnings: Sequence[str] = (),
        before: Cursor | None = None,
    ) -> list[LoggedEvent]:
        """The events that match and begin with one of `beginnings` (none: all), the newest last.

        `filters.decision` and `filters.tool` must be None but for events that name a tool. With a
        `limit` the newest of them. `CHANGES` are the beginnings of what changed.
        """

    def callers(self, filters: Filters, limit: int | None = None) -> list[Caller]:
        """Who called what, the busiest first."""

    def refusals(self, filters: Filters, limit: int | None = None) -> list[Refusal]:
        """What was not simply allowed and why, the most frequent first."""

    def performance(self, filters: Filters) -> list[Performance]:
        """How upstreams and their tools do, by name; each upstream's sum before its tools."""

    def tallies(self, dimension: Dimension, filters: Filters, limit: int) -> list[Tally]:
        """The agents, tools or upstreams with the most calls, the busiest first."""

    def activity(self, unit: Unit, filters: Filters, every: int = 1) -> list[Activity]:
        """The calls over time, in order, by so many units (of months always one)."""

    def problems(self) -> list[Problem]:
        """What in the store was no record."""

    def freshness(self) -> Freshness:
        """From when to when the log tells of something."""

    def positions(self) -> dict[str, int]:
        """How far each journal is known, in the store's own measure; for `follow`."""

    def follow(self, positions: Mapping[str, int], report: Report) -> Iterator[list[Entry]]:
        """The records that come after `positions`, a batch every now and then, also an empty one.

        Each batch is in order of time. `report` hears of what is no record.
        """
