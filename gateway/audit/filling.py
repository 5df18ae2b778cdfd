"""Puts records into the tables of the index, and takes those of a journal out again."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final

import apsw
import msgspec

from gateway.audit.latency import slot_of
from gateway.audit.reader import Entry, Row

_CALL_COLUMNS: Final = 27  # after the id
_OUTCOME_AT: Final = 19  # where the outcome's begin
_NO_OUTCOME: Final = (None,) * (_CALL_COLUMNS - _OUTCOME_AT)
_OUTCOME: Final = (
    "outcome_journal, outcome_offset, outcome_size_bytes, outcome_time, "
    "status, duration_us, slot, error_code"
)
_STRAY: Final = "journal, offset, size_bytes, time, status, duration_us, slot, error_code"
WORDS: Final = {
    "call": (
        *("writer", "session", "agent", "upstream", "tool", "name", "method", "decision"),
        *("rule", "file", "reason", "status"),
    ),
    "stray": ("status",),
    "event": ("writer", "event", "session", "agent", "upstream", "tool"),
}
"""The columns of each table that hold ids of words."""

_Outcome = tuple[Any, ...]
"""The values of `_STRAY`."""


class Batch:
    """Records of one journal on their way into the index, within one transaction."""

    def __init__(self, db: apsw.Connection, words: "Words", journal: int) -> None:
        self._db = db
        self._words = words
        self._journal = journal
        self._calls: list[list[Any]] = []
        self._by_id: dict[str, list[Any]] = {}
        self._strays: list[tuple[Any, ...]] = []
        self._events: list[tuple[Any, ...]] = []
        self._odd: set[str] = set()  # calls whose outcome has to be looked for

    def add(self, entry: Entry) -> None:
        """Take in one record."""
        row = entry.row
        word = self._words
        if row.kind == "decision":
            call = row.call or ""
            values = [
                self._journal,
                entry.offset,
                len(entry.line),
                row.time,
                call,
                row.seq,
                word[row.writer],
                word[row.session],
                word[row.agent],
                word[row.upstream],
                word[row.tool],
                word[row.name],
                word[row.method],
                word[row.decision],
                word[row.rule],
                word[row.file],
                word[row.reason],
                row.line,
                row.enforced,
                *_NO_OUTCOME,
            ]
            self._calls.append(values)
            if self._by_id.setdefault(call, values) is not values:
                self._odd.add(call)
        elif row.kind == "outcome":
            duration_us = row.duration_us
            outcome = (
                self._journal,
                entry.offset,
                len(entry.line),
                row.time,
                word[row.status],
                duration_us,
                None if duration_us is None else slot_of(duration_us),
                row.error_code,
            )
            decision = self._by_id.get(row.call or "")
            if decision is not None and decision[_OUTCOME_AT] is None:
                decision[_OUTCOME_AT:] = outcome
            else:
                self._strays.append((row.call, *outcome))
        else:
            self._add_event(entry, row)

    def _add_event(self, entry: Entry, row: Row) -> None:
        call, tool = _about(entry.line)
        word = self._words
        self._events.append(
            (
                self._journal,
                entry.offset,
                len(entry.line),
                row.time,
                row.seq,
                word[row.writer],
                word[row.event or row.kind],
                word[row.session],
                word[row.agent],
                word[row.upstream],
                word[tool],
                call,
            )
        )

    def write(self) -> None:
        """Put all of them into the tables."""
        db = self._db
        calls = list(self._by_id)
        if calls and not _are_newer(db, calls):
            known = db.execute(
                "SELECT DISTINCT call FROM call WHERE call IN carray(?)", (_texts(calls),)
            )
            self._odd.update(call for (call,) in known)
        db.executemany(_insertion("call", "NULL", _CALL_COLUMNS), self._calls)
        db.executemany(_insertion("stray", "", 9), self._strays)
        db.executemany(_insertion("event", "NULL", 12), self._events)
        found = db.execute("SELECT DISTINCT stray.call FROM stray JOIN call USING (call)")
        self._odd.update(call for (call,) in found)
        for call in self._odd:
            _settle(db, call)


def forget(db: apsw.Connection, journals: Sequence[int]) -> None:
    """Take out all that these journals brought; `drop_unused_words` takes out the rest."""
    if not journals:
        return
    theirs = apsw.carray(array("q", journals))
    values = {"theirs": theirs}
    # A decision and its outcome may stand in different journals, where one succeeded the other.
    parted = db.execute(
        "SELECT DISTINCT call FROM call "
        "WHERE (journal IN carray(:theirs)) <> (outcome_journal IN carray(:theirs))",
        values,
    )
    odd = [call for (call,) in parted]
    db.execute(
        f"INSERT INTO stray SELECT call, {_OUTCOME} FROM call "
        "WHERE journal IN carray(:theirs) AND outcome_journal IS NOT NULL",
        values,
    )
    nothing = ", ".join(f"{column} = NULL" for column in _OUTCOME.split(", "))
    for statement in (
        "DELETE FROM call WHERE journal IN carray(:theirs)",
        f"UPDATE call SET {nothing} WHERE outcome_journal IN carray(:theirs)",
        "DELETE FROM stray WHERE journal IN carray(:theirs)",
        "DELETE FROM event WHERE journal IN carray(:theirs)",
        "DELETE FROM problem WHERE journal IN carray(:theirs)",
        "DELETE FROM journal WHERE id IN carray(:theirs)",
    ):
        db.execute(statement, values)
    for call in odd:
        _settle(db, call)


def drop_unused_words(db: apsw.Connection) -> None:
    """Take out the words that no record has any more."""
    used = " UNION ALL ".join(
        f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL"
        for table, columns in WORDS.items()
        for column in columns
    )
    db.execute(f"DELETE FROM word WHERE id NOT IN ({used})")


def _settle(db: apsw.Connection, call: str) -> None:
    """Give all decisions of one call its first outcome by time, and keep the others as strays."""
    known: set[_Outcome] = set(db.execute(f"SELECT {_STRAY} FROM stray WHERE call = ?", (call,)))
    known.update(
        db.execute(
            f"SELECT {_OUTCOME} FROM call WHERE call = ? AND outcome_journal IS NOT NULL", (call,)
        )
    )
    outcomes = sorted(known, key=_by_time)
    db.execute("DELETE FROM stray WHERE call = ?", (call,))
    if outcomes:
        db.execute(
            f"UPDATE call SET ({_OUTCOME}) = (?, ?, ?, ?, ?, ?, ?, ?) WHERE call = ?",
            (*outcomes[0], call),
        )
        if not db.changes():  # its decision is gone
            outcomes.insert(0, outcomes[0])
    db.executemany(_insertion("stray", "", 9), [(call, *outcome) for outcome in outcomes[1:]])


def _by_time(outcome: _Outcome) -> tuple[Any, ...]:
    journal, offset, _, time = outcome[:4]
    return time, journal, offset


def _are_newer(db: apsw.Connection, calls: Iterable[str]) -> bool:
    """Whether all these calls come after all that are indexed: then none of them is."""
    ((last,),) = db.execute("SELECT max(call) FROM call")
    return last is None or min(calls) > last


def _texts(texts: Iterable[str]) -> Any:
    return apsw.carray(tuple(texts))


def _insertion(table: str, identifier: str, columns: int) -> str:
    marks = ["?"] * columns
    return (
        f"INSERT INTO {table} VALUES ({', '.join([identifier, *marks] if identifier else marks)})"
    )


class Words(dict[str | None, int | None]):
    """The ids of words; new ones are entered. Good for one transaction: others may remove some."""

    def __init__(self, db: apsw.Connection) -> None:
        super().__init__({None: None})
        self._db = db

    def __missing__(self, text: str) -> int:
        found = self._db.execute("SELECT id FROM word WHERE text = ?", (text,)).fetchone()
        if found is None:
            self._db.execute("INSERT INTO word VALUES (NULL, ?)", (text,))
            found = (self._db.last_insert_rowid(),)
        self[text] = found[0]
        return int(found[0])


class _Data(msgspec.Struct, frozen=True, gc=False):
    call: object = None
    tool: object = None


class _About(msgspec.Struct, frozen=True, gc=False):
    data: _Data | None = None


_decode_about = msgspec.json.Decoder(_About).decode


def _about(line: bytes) -> tuple[str | None, str | None]:
    """The call and the tool that an event's data name."""
    try:
        data = _decode_about(line).data or _Data()
    except msgspec.ValidationError:  # of another version
        return None, None
    call, tool = data.call, data.tool
    return call if isinstance(call, str) else None, tool if isinstance(tool, str) else None
