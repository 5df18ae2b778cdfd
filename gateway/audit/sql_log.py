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
from operator import itemgetter
from typing import Any, Final, TypeAlias

import msgspec

from gateway.audit.calls import Call, Cursor, Filters
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
from gateway.audit.sums import GOOD, Answers, Column, Sum, largest, merged
from gateway.audit.units import UNIT_CHARS

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

_OF_REFUSAL: Final = (*("decision", "enforced", "rule", "file", "line", "agent", "tool", "method"),)
_SPAN: Final = ("min(time)", "max(time)")


class SqlLog(ABC):
    """The questions of `AuditLog`, for a store that says how to run a statement and find a line."""

    @abstractmethod
    def _rows(self, statement: str, values: Values) -> list[Any]:
        """The rows (tuples) that `statement` selects. Raises UserError."""

    @abstractmethod
    def _call_lines(self, ids: Sequence[int]) -> Mapping[int, CallLines]:
        """The lines of the decisions with these ids and of their outcomes.

        What is gone or no record any more is missing.
        """

    @abstractmethod
    def _event_lines(self, ids: Sequence[int]) -> Mapping[int, bytes]:
        """The lines of the events with these ids, but for what is gone or no record any more."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """All that is asked inside sees one state. May be entered again inside."""

    @abstractmethod
    def problems(self) -> list[Problem]:
        """What in the store was no record."""

    def _counted(
        self, columns: Sequence[str], where: "Where", aggregates: Sequence[str] = ()
    ) -> list[Any]:
        """Groups of calls: the values of `columns`, how many there are, and `aggregates` of them.

        `columns` are those of `calls`, or expressions. A store may know how to do it sooner.
        """
        numbers = ", ".join(map(str, range(1, len(columns) + 1)))
        statement = (
            f"SELECT {', '.join((*columns, 'count(*)', *aggregates))} "
            f"FROM calls {where} GROUP BY {numbers}"
        )
        return self._rows(statement, where.values)

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
        where = Where(filters)
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
            where = Where(filters)
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
        where = Where(filters)
        if beginnings:
            values = [text for each in beginnings for text in (each, each + _LAST_CHARACTER)]
            where.add(f"({' OR '.join(['event >= ? AND event < ?'] * len(beginnings))})", *values)
        if before is not None:
            writer, _, seq = before.tie.rpartition(" ")
            where.add("(time, writer, seq) < (?, ?, ?)", before.time, writer, int(seq))
        return self._events(str(where), where.values, limit)

    def callers(self, filters: Filters, limit: int | None = None) -> list[Caller]:
        """As `AuditLog` says."""
        groups: dict[tuple[str | None, str | None], Sum] = defaultdict(Sum)
        columns = ("agent", "tool", "decision", "enforced", "status")
        for agent, tool, *rest in self._counted(columns, Where(filters), _SPAN):
            groups[agent, tool].add(*rest)
        callers = [
            Caller(
                agent=agent,
                tool=tool,
                calls=each.calls,
                refused=each.refused,
                failed=each.failed,
                first=each.first,
                last=each.last,
            )
            for (agent, tool), each in groups.items()
        ]
        return largest(callers, limit)

    def refusals(self, filters: Filters, limit: int | None = None) -> list[Refusal]:
        """As `AuditLog` says."""
        where = Where(filters)
        where.add_text("decision", "<>", "allow")
        refusals = [
            Refusal(
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
            )
            for decision, enforced, rule, file, line, agent, tool, method, calls, first, last in (
                self._counted(_OF_REFUSAL, where, _SPAN)
            )
        ]
        return self._with_examples(largest(refusals, limit))

    def performance(self, filters: Filters) -> list[Performance]:
        """As `AuditLog` says."""
        where = Where(filters)
        where.add("upstream IS NOT NULL")
        groups: dict[tuple[str, str], Answers] = defaultdict(Answers)
        columns = ("upstream", "tool", "decision", "enforced", "method", "status", "slot")
        for upstream, tool, *rest in self._counted(columns, where, ("max(duration_us)",)):
            groups[upstream, ""].add(*rest)
            if tool is not None:
                groups[upstream, tool].add(*rest)
        return [each.told(*name) for name, each in sorted(groups.items(), key=itemgetter(0))]

    def tallies(self, dimension: Dimension, filters: Filters, limit: int) -> list[Tally]:
        """As `AuditLog` says."""
        groups: dict[str | None, Sum] = defaultdict(Sum)
        # Counted by more than is told, but in the order of an index that stores have.
        columns: tuple[str, ...]
        if dimension == "upstream":
            columns = ("upstream", "tool", "decision", "enforced", "method", "status")
        else:
            columns = ("agent", "tool", "decision", "enforced", "status")
        which = columns.index(dimension)
        for row in self._counted(columns, Where(filters)):
            groups[row[which]].add(*row[2:4], *row[-2:])
        tallies = [
            Tally(name=name, calls=each.calls, refused=each.refused, failed=each.failed)
            for name, each in groups.items()
        ]
        tallies.sort(key=lambda tally: (-tally.calls, tally.name or ""))
        return tallies[:limit]

    def activity(self, unit: Unit, filters: Filters, every: int = 1) -> list[Activity]:
        """As `AuditLog` says."""
        start = f"substr(time, 1, {UNIT_CHARS[unit]})"
        found: dict[str, Column] = {}
        columns = (start, "slot", "decision", "enforced", "status")
        for begin, slot, decision, enforced, status, calls in self._counted(
            columns, Where(filters)
        ):
            column = found.get(begin)
            if column is None:
                column = found[begin] = Column()
            column.calls += calls
            if enforced and decision != "allow" and decision is not None:
                column.refused += calls
            if slot is not None:
                column.slots[slot] = column.slots.get(slot, 0) + calls
            if status is not None and status not in GOOD:
                column.failed += calls
        return [column.told(begin) for begin, column in merged(found, unit, every)]

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
        # A call whose lines are not to be had is told without them: it must not seem not to be.
        return [_call(*found[row[0]]) if row[0] in found else _call_of(row) for row in rows]

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

    def _with_examples(self, refusals: Sequence[Refusal]) -> list[Refusal]:
        """The same with the reason and the id of the last call of each."""
        columns = ", ".join(("time", *_OF_REFUSAL, "call", "reason"))
        examples: dict[tuple[Any, ...], tuple[str, str | None]] = {}
        for begin in range(0, len(refusals), _PAGE):
            times = {each.last for each in refusals[begin : begin + _PAGE]}
            statement = (
                f"SELECT {columns} FROM calls WHERE decision <> 'allow' "
                f"AND time IN ({', '.join('?' * len(times))}) ORDER BY call"
            )
            for *group, call, reason in self._rows(statement, tuple(times)):
                examples[tuple(group)] = (call, reason)
        told = []
        for each in refusals:
            group = (each.last, *(getattr(each, field) for field in _OF_REFUSAL))
            call, reason = examples.get(group, ("", None))
            told.append(msgspec.structs.replace(each, call=call, reason=reason))
        return told


class Where:
    """The conditions of a statement and the values in them."""

    def __init__(self, filters: Filters) -> None:
        self.conditions: list[tuple[str, str]] = []
        """Pairs of a column that holds texts and a comparison, or of "" and a condition."""
        self.values: Values = ()
        for column in ("agent", "upstream", "decision", "session"):
            text = getattr(filters, column)
            if text is not None:
                self.add_text(column, "=", text)
        if filters.since is not None:
            self.add("time >= ?", filters.since)
        if filters.until is not None:
            self.add("time < ?", filters.until)
        tool = filters.tool
        if tool is not None and tool.endswith("*"):
            self.add_text("tool", ">=", tool[:-1])
            self.add_text("tool", "<", tool[:-1] + _LAST_CHARACTER)
        elif tool is not None:
            self.add_text("tool", "=", tool)

    def add_text(self, column: str, comparison: str, text: str) -> None:
        """A text that must compare so."""
        self.conditions.append((column, comparison))
        self.values += (text,)

    def add(self, condition: str, *values: object) -> None:
        """What must hold as well."""
        self.conditions.append(("", condition))
        self.values += values

    def __str__(self) -> str:
        written = [
            f"{column} {condition} ?" if column else condition
            for column, condition in self.conditions
        ]
        return f"WHERE {' AND '.join(written)}" if written else ""


def _limit(limit: int | None) -> str:
    return "" if limit is None else f" LIMIT {int(limit)}"


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
