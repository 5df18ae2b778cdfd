"""Answers the questions that people ask of the audit log out of a store that speaks SQL.

The statements run unchanged on SQLite and on PostgreSQL. They ask two relations, tables or views,
that the store provides. Texts must compare byte by byte (in PostgreSQL: COLLATE "C"), `?` stands
for a value, and `id` is the store's own number of a row.

    calls   id, time, call, writer, seq, session, agent, upstream, tool, name, method, decision,
            enforced (0 or 1), rule, file, line, reason        of the decision record
            outcome_time, status, duration_us, error_code      of its first outcome by time, or null
            slot                                               latency.slot_of(duration_us), or null
    events  id, time, writer, seq, event, session, agent, upstream    of the record
            call, tool                                         of its data, where they are texts
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, TypeAlias

import msgspec

from gateway.audit.calls import HOST_METHOD, Call, Cursor, Filters
from gateway.audit.latency import percentiles
from gateway.audit.log import (
    Activity,
    Caller,
    Dimension,
    Freshness,
    LoggedEvent,
    Performance,
    Refusal,
    Story,
    Tally,
    Unit,
)
from gateway.audit.reader import Problem, Row

Values: TypeAlias = tuple[object, ...]
CallLines: TypeAlias = tuple[bytes, bytes | None]

_LAST_CHARACTER: Final = "\U0010ffff"  # what begins with P is at least P and less than P + this
_PAGE: Final = 1000  # calls in memory while all are streamed
_NEIGHBOURS: Final = 200  # events of a session that are told with one call of it

_OF_DECISION: Final = (
    *("time", "call", "writer", "seq", "session", "agent", "upstream", "tool", "name", "method"),
    *("decision", "enforced", "rule", "file", "line", "reason"),
)
_OF_OUTCOME: Final = ("outcome_time", "status", "duration_us", "error_code")
_OF_EVENT: Final = ("time", "writer", "seq", "event", "session", "agent", "upstream")
_CALL_COLUMNS: Final = ", ".join(("id", *_OF_DECISION, *_OF_OUTCOME))
_EVENT_COLUMNS: Final = ", ".join(("id", *_OF_EVENT))

_REFUSED: Final = "sum(CASE WHEN decision <> 'allow' AND enforced = 1 THEN 1 ELSE 0 END)"
_FAILED: Final = "sum(CASE WHEN status NOT IN ('ok', 'input_required') THEN 1 ELSE 0 END)"
_PASSED: Final = "CASE WHEN decision = 'allow' OR enforced = 0 THEN 1 ELSE 0 END"
_AWAITED: Final = f"CASE WHEN method = '{HOST_METHOD}' THEN 0 ELSE 1 END"
_UNIT_CHARS: Final[dict[Unit, int]] = {"day": 10, "hour": 13, "minute": 16}


class SqlLog(ABC):
    """The questions of `AuditLog`, for a store that says how to run a statement and find a line."""

    @abstractmethod
    def _rows(self, statement: str, values: Values) -> list[Any]:
        """The rows (tuples) that `statement` selects. Raises UserError."""

    @abstractmethod
    def _call_lines(self, ids: Sequence[int]) -> Mapping[int, CallLines]:
        """The lines of the decisions with these ids and of their outcomes.

        What is gone meanwhile may be missing.
        """

    @abstractmethod
    def _event_lines(self, ids: Sequence[int]) -> Mapping[int, bytes]:
        """The lines of the events with these ids. What is gone meanwhile may be missing."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """All that is asked inside sees one state. May be entered again inside."""

    @abstractmethod
    def problems(self) -> list[Problem]:
        """What in the store was no record."""

    def calls(
        self,
        filters: Filters,
        limit: int | None = None,
        *,
        before: Cursor | None = None,
        after: Cursor | None = None,
        lines: bool = True,
    ) -> list[Call]:
        """As `AuditLog` says."""
        where = _Where(filters)
        if before is not None:
            where.add("(time, call) < (?, ?)", before.time, before.tie)
        if after is not None:
            where.add("(time, call) > (?, ?)", after.time, after.tie)
        order = "" if after is not None else " DESC"
        statement = (
            f"SELECT {_CALL_COLUMNS} FROM calls {where} "
            f"ORDER BY time{order}, call{order}, id{order}{_limit(limit)}"
        )
        with self.snapshot():
            rows = self._rows(statement, where.values)
            if order:
                rows.reverse()
            return self._calls(rows, lines)

    def stream(self, filters: Filters) -> Iterator[Call]:
        """As `AuditLog` says."""
        reached: Values = ()
        while True:
            where = _Where(filters)
            if reached:
                where.add("(time, call, id) > (?, ?, ?)", *reached)
            statement = (
                f"SELECT {_CALL_COLUMNS} FROM calls {where} ORDER BY time, call, id LIMIT {_PAGE}"
            )
            with self.snapshot():
                rows = self._rows(statement, where.values)
                calls = self._calls(rows, lines=True)
            yield from calls
            if len(rows) < _PAGE:
                return
            identifier, time, call = rows[-1][:3]
            reached = (time, call, identifier)

    def call(self, prefix: str, limit: int = 2) -> list[Call]:
        """As `AuditLog` says."""
        statement = (
            f"SELECT {_CALL_COLUMNS} FROM calls WHERE call >= ? AND call < ? "
            f"ORDER BY call, id{_limit(limit)}"
        )
        with self.snapshot():
            rows = self._rows(statement, (prefix, prefix + _LAST_CHARACTER))
            return self._calls(rows, lines=True)

    def story(self, call: Call) -> Story:
        """As `AuditLog` says."""
        decision = call.decision
        opened = self._events(
            "WHERE session = ? AND event = 'session.opened'", (decision.session,), 1
        )
        until = decision.time if call.outcome is None else call.outcome.time
        events = self._events(
            "WHERE call = ? OR (session = ? AND time >= ? AND time <= ?)",
            (decision.call, decision.session, decision.time, until),
            _NEIGHBOURS,
        )
        return Story(call=call, events=events, session_opened=opened[0] if opened else None)

    def events(
        self,
        filters: Filters,
        limit: int | None = None,
        *,
        beginnings: Sequence[str] = (),
        before: Cursor | None = None,
    ) -> list[LoggedEvent]:
        """As `AuditLog` says."""
        where = _Where(filters)
        if beginnings:
            values = [text for each in beginnings for text in (each, each + _LAST_CHARACTER)]
            where.add(f"({' OR '.join(['event >= ? AND event < ?'] * len(beginnings))})", *values)
        if before is not None:
            writer, _, seq = before.tie.rpartition(" ")
            where.add("(time, writer, seq) < (?, ?, ?)", before.time, writer, int(seq))
        return self._events(str(where), where.values, limit)

    def callers(self, filters: Filters, limit: int | None = None) -> list[Caller]:
        """As `AuditLog` says."""
        where = _Where(filters)
        statement = (
            f"SELECT agent, tool, count(*), {_REFUSED}, {_FAILED}, min(time), max(time) "
            f"FROM calls {where} GROUP BY agent, tool ORDER BY 3 DESC, 7 DESC{_limit(limit)}"
        )
        return [
            Caller(
                agent=agent,
                tool=tool,
                calls=calls,
                refused=refused,
                failed=failed or 0,
                first=first,
                last=last,
            )
            for agent, tool, calls, refused, failed, first, last in self._rows(
                statement, where.values
            )
        ]

    def refusals(self, filters: Filters, limit: int | None = None) -> list[Refusal]:
        """As `AuditLog` says."""
        where = _Where(filters)
        where.add("decision <> 'allow'")
        group = "decision, enforced, rule, file, line, agent, tool, method"
        statement = (
            f"SELECT {group}, count(*), min(time), max(time), max(time || ' ' || call) "
            f"FROM calls {where} GROUP BY {group} ORDER BY 9 DESC, 11 DESC{_limit(limit)}"
        )
        rows = self._rows(statement, where.values)
        reasons = self._reasons([row[-1].partition(" ")[2] for row in rows])
        return [_refusal(row, reasons) for row in rows]

    def performance(self, filters: Filters) -> list[Performance]:
        """As `AuditLog` says."""
        where = _Where(filters)
        where.add("upstream IS NOT NULL")
        statement = (
            f"SELECT upstream, tool, {_PASSED}, {_AWAITED}, status, slot, count(*), "
            f"max(duration_us) FROM calls {where} GROUP BY 1, 2, 3, 4, 5, 6"
        )
        # Sorted here: where nulls go differs between databases.
        rows = sorted(
            self._rows(statement, where.values), key=lambda row: (row[0], row[1] or "", row[1:2])
        )
        found: list[Performance] = []
        for upstream, group in groupby(rows, key=itemgetter(0)):
            all_rows = list(group)
            found.append(_performance(upstream, None, all_rows))
            for tool, of_tool in groupby(all_rows, key=itemgetter(1)):
                if tool is not None:
                    found.append(_performance(upstream, tool, list(of_tool)))
        return found

    def tallies(self, dimension: Dimension, filters: Filters, limit: int) -> list[Tally]:
        """As `AuditLog` says."""
        where = _Where(filters)
        statement = (
            f"SELECT {dimension}, count(*), {_REFUSED}, {_FAILED} FROM calls {where} "
            f"GROUP BY {dimension} ORDER BY 2 DESC, 1{_limit(limit)}"
        )
        return [
            Tally(name=name, calls=calls, refused=refused, failed=failed or 0)
            for name, calls, refused, failed in self._rows(statement, where.values)
        ]

    def activity(self, unit: Unit, filters: Filters) -> list[Activity]:
        """As `AuditLog` says."""
        where = _Where(filters)
        start = f"substr(time, 1, {_UNIT_CHARS[unit]})"
        statement = (
            f"SELECT {start}, slot, count(*), {_REFUSED}, {_FAILED} FROM calls {where} "
            "GROUP BY 1, 2 ORDER BY 1"
        )
        found = []
        for begin, group in groupby(self._rows(statement, where.values), key=itemgetter(0)):
            rows = list(group)
            counts = [(slot, calls) for _, slot, calls, _, _ in rows if slot is not None]
            median, high = percentiles(counts, 0.5, 0.95)
            found.append(
                Activity(
                    start=begin,
                    calls=sum(row[2] for row in rows),
                    refused=sum(row[3] for row in rows),
                    failed=sum(row[4] or 0 for row in rows),
                    p50_us=median,
                    p95_us=high,
                )
            )
        return found

    def freshness(self) -> Freshness:
        """As `AuditLog` says."""
        ((first, last, begin, end),) = self._rows(
            "SELECT (SELECT min(time) FROM calls), (SELECT max(time) FROM calls), "
            "(SELECT min(time) FROM events), (SELECT max(time) FROM events)",
            (),
        )
        return Freshness(
            oldest=min(filter(None, (first, begin)), default=None),
            newest=max(filter(None, (last, end)), default=None),
        )

    def _calls(self, rows: Sequence[Any], lines: bool) -> list[Call]:
        if not lines:
            return [_call_of(row) for row in rows]
        found = self._call_lines([row[0] for row in rows])
        return [_call(*found[row[0]]) for row in rows if row[0] in found]

    def _events(self, where: str, values: Values, limit: int | None) -> list[LoggedEvent]:
        statement = (
            f"SELECT id FROM events {where} "
            f"ORDER BY time DESC, writer DESC, seq DESC, id DESC{_limit(limit)}"
        )
        with self.snapshot():
            ids = [row[0] for row in self._rows(statement, values)]
            lines = self._event_lines(ids)
        return [
            LoggedEvent(row=_row(lines[identifier]), line=lines[identifier])
            for identifier in reversed(ids)
            if identifier in lines
        ]

    def _reasons(self, calls: Sequence[str]) -> dict[str, str | None]:
        reasons: dict[str, str | None] = {}
        for begin in range(0, len(calls), _PAGE):
            some = calls[begin : begin + _PAGE]
            marks = ", ".join("?" * len(some))
            statement = f"SELECT call, reason FROM calls WHERE call IN ({marks})"
            reasons.update(self._rows(statement, tuple(some)))
        return reasons


class _Where:
    """The conditions of a statement and the values in them."""

    def __init__(self, filters: Filters) -> None:
        self._conditions: list[str] = []
        self.values: Values = ()
        for condition, value in (
            ("agent = ?", filters.agent),
            ("upstream = ?", filters.upstream),
            ("decision = ?", filters.decision),
            ("session = ?", filters.session),
            ("time >= ?", filters.since),
            ("time < ?", filters.until),
        ):
            if value is not None:
                self.add(condition, value)
        tool = filters.tool
        if tool is not None and tool.endswith("*"):
            self.add("tool >= ? AND tool < ?", tool[:-1], tool[:-1] + _LAST_CHARACTER)
        elif tool is not None:
            self.add("tool = ?", tool)

    def add(self, condition: str, *values: object) -> None:
        """What must hold as well."""
        self._conditions.append(condition)
        self.values += values

    def __str__(self) -> str:
        return f"WHERE {' AND '.join(self._conditions)}" if self._conditions else ""


def _limit(limit: int | None) -> str:
    return "" if limit is None else f" LIMIT {int(limit)}"


def _refusal(row: Sequence[Any], reasons: Mapping[str, str | None]) -> Refusal:
    decision, enforced, rule, file, line, agent, tool, method, calls, first, last, example = row
    call = example.partition(" ")[2]
    return Refusal(
        decision=decision,
        enforced=bool(enforced),
        rule=rule,
        file=file,
        line=line,
        agent=agent,
        tool=tool,
        method=method,
        calls=calls,
        first=first,
        last=last,
        reason=reasons.get(call),
        call=call,
    )


def _performance(upstream: str, tool: str | None, rows: Sequence[Any]) -> Performance:
    slots: dict[int, int] = defaultdict(int)
    statuses: dict[str | None, int] = defaultdict(int)
    passed = unknown = 0
    longest: int | None = None
    for _, _, let_through, awaited, status, slot, calls, duration_us in rows:
        statuses[status] += calls
        passed += calls if let_through else 0
        unknown += calls if let_through and awaited and status is None else 0
        if slot is not None:
            slots[slot] += calls
            longest = duration_us if longest is None else max(longest, duration_us)
    median, high, highest = percentiles(slots.items(), 0.5, 0.95, 0.99)
    return Performance(
        upstream=upstream,
        tool=tool,
        calls=sum(statuses.values()),
        passed=passed,
        errors=statuses["error"] + statuses["tool_error"],
        timeouts=statuses["timeout"],
        lost=statuses["upstream_lost"],
        cancelled=statuses["cancelled"],
        unanswered=statuses["unanswered"],
        unknown=unknown,
        p50_us=median,
        p95_us=high,
        p99_us=highest,
        max_us=longest,
    )


def _call(decision: bytes, outcome: bytes | None) -> Call:
    return Call(
        decision=_row(decision),
        decision_line=decision,
        outcome=None if outcome is None else _row(outcome),
        outcome_line=outcome,
    )


def _call_of(row: Sequence[Any]) -> Call:
    """The call of a row of `_CALL_COLUMNS`, without its lines."""
    fields = dict(zip(_OF_DECISION, row[1:], strict=False))
    fields["enforced"] = bool(fields["enforced"])
    time, status, duration_us, error_code = row[-len(_OF_OUTCOME) :]
    outcome = time and Row(
        kind="outcome",
        time=time,
        writer="",
        seq=0,
        call=fields["call"],
        status=status,
        duration_us=duration_us,
        error_code=error_code,
    )
    return Call(decision=Row(kind="decision", **fields), decision_line=b"", outcome=outcome)


_row: Final[Callable[[bytes], Row]] = msgspec.json.Decoder(Row).decode
