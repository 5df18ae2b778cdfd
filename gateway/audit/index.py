"""The index of the audit log: a SQLite file that finds calls fast and proves nothing.

The journals are the evidence; the index is brought up to date from them by whoever reads, and is
rebuilt from them when it is missing, damaged or of another schema. It is never on the path of a
call.
"""

from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from gateway.audit.calls import Call, Filters
from gateway.audit.database import connect, reset
from gateway.audit.files import index_file
from gateway.audit.filling import WORDS
from gateway.audit.indexing import bring_up_to_date
from gateway.audit.lines import LineReader, Place
from gateway.audit.reader import UNFINISHED, Entry, Problem, Report, as_row, follow
from gateway.audit.sql_log import CallLines, SqlLog, Values, Where
from gateway.errors import UserError

T = TypeVar("T")

CHANGED: Final = "changed since it was indexed"


class Index(SqlLog):
    """One reader's connection to the index of an audit directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = index_file(directory)
        self._changed: dict[Place, Problem] = {}
        self._reader: LineReader | None = None  # while all calls are streamed
        with self._explained():
            self._db = connect(self._path)

    @classmethod
    def open(cls, directory: Path) -> "Index":
        """The index of the audit directory `directory`; `refresh` before asking it anything.

        Raises UserError when there is no such directory or the index cannot be written there.
        """
        if not directory.is_dir():
            raise UserError(
                "there is no audit log here; name its directory with --directory, "
                "or run the gateway first",
                path=str(directory),
            )
        return cls(directory)

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. The index cannot be used after that."""
        self._db.close()

    def refresh(self) -> None:
        """Bring the index up to date with the journals. Raises UserError when it cannot."""
        self._changed.clear()
        self._recovering(lambda: bring_up_to_date(self._db, self._directory))

    def stream(self, filters: Filters) -> Iterator[Call]:
        """As `AuditLog` says."""
        with closing(LineReader(self._directory)) as self._reader:
            yield from super().stream(filters)
        self._reader = None

    def problems(self) -> list[Problem]:
        """What in the journals was no record when the index was last brought up to date.

        Since then, too, as far as it was looked at.
        """
        rows = self._rows(
            "SELECT name, problem.offset, problem.size_bytes, reason FROM problem "
            "JOIN journal ON journal.id = problem.journal UNION ALL "
            "SELECT name, offset, unfinished_bytes, ? FROM journal WHERE unfinished_bytes > 0 "
            "ORDER BY 1, 2",
            (UNFINISHED,),
        )
        return [Problem(*row) for row in rows] + sorted(self._changed.values())

    def positions(self) -> dict[str, int]:
        """How far each journal is indexed, as `reader.follow` takes it."""
        return dict(self._rows("SELECT name, offset FROM journal", ()))

    def follow(self, positions: Mapping[str, int], report: Report) -> Iterator[list[Entry]]:
        """As `AuditLog` says: straight from the journals."""
        return follow(self._directory, positions, report)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is asked inside sees one state, whatever other readers add meanwhile."""
        if self._db.in_transaction:
            yield
            return
        with self._explained():
            self._db.execute("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:
                self._db.execute("COMMIT")

    def _rows(self, statement: str, values: Values) -> list[Any]:
        def select() -> list[Any]:
            return list(self._db.execute(statement, values))

        return self._recovering(select)

    def _counted(
        self, columns: Sequence[str], where: Where, aggregates: Sequence[str] = ()
    ) -> list[Any]:
        # Counted by the numbers of words, in the order of an index where there is one, and only
        # the groups are put into words: several times faster than over the view.
        numbers = ", ".join(map(str, range(1, len(columns) + 1)))
        conditions = [
            f"{column} IN (SELECT id FROM word WHERE text {condition} ?)" if column else condition
            for column, condition in where.conditions
        ]
        statement = (
            f"SELECT {', '.join((*columns, 'count(*)', *aggregates))} "
            f"FROM call {'WHERE' if conditions else ''} {' AND '.join(conditions)} "
            f"GROUP BY {numbers}"
        )
        with self.snapshot():
            rows = self._rows(statement, where.values)
            worded = [number for number, column in enumerate(columns) if column in WORDS["call"]]
            used = {row[number] for number in worded for row in rows} - {None}
            words = self._words(used)
        for number in worded:
            rows = [(*row[:number], words.get(row[number]), *row[number + 1 :]) for row in rows]
        return rows

    def _words(self, ids: Collection[int]) -> dict[int | None, str | None]:
        if not ids:
            return {None: None}
        statement = "SELECT id, text FROM word WHERE id IN carray(?)"
        return {None: None, **dict(self._rows(statement, (apsw.carray(array("q", ids)),)))}

    def _call_lines(self, ids: Sequence[int]) -> dict[int, CallLines]:
        if not ids:  # an empty array cannot be bound
            return {}
        rows = self._rows(
            "SELECT call.id, call, journal.name, call.offset, call.size_bytes, "
            "ended.name, outcome_offset, outcome_size_bytes FROM call "
            "JOIN journal ON journal.id = call.journal "
            "LEFT JOIN journal AS ended ON ended.id = outcome_journal "
            "WHERE call.id IN carray(?)",
            (apsw.carray(array("q", ids)),),
        )
        expected: dict[Place, str | None] = {}
        for _, call, *places in rows:
            expected[_place(places[:3])] = call
            if places[3] is not None:
                expected[_place(places[3:])] = call
        lines = self._lines(expected)
        found: dict[int, CallLines] = {}
        for identifier, _, *places in rows:
            decision = lines.get(_place(places[:3]))
            outcome = None if places[3] is None else lines.get(_place(places[3:]), b"")
            if decision is not None and outcome != b"":
                found[identifier] = (decision, outcome)
        return found

    def _event_lines(self, ids: Sequence[int]) -> dict[int, bytes]:
        if not ids:
            return {}
        rows = self._rows(
            "SELECT event.id, name, event.offset, event.size_bytes FROM event "
            "JOIN journal ON journal.id = journal WHERE event.id IN carray(?)",
            (apsw.carray(array("q", ids)),),
        )
        lines = self._lines(dict.fromkeys((_place(row[1:]) for row in rows), None))
        return {row[0]: lines[row[1:]] for row in rows if row[1:] in lines}

    def _lines(self, expected: Mapping[Place, str | None]) -> dict[Place, bytes]:
        """The lines at these places that still are records, of the call that is expected there."""
        if self._reader is not None:
            lines = self._reader.read(expected)
        else:
            with closing(LineReader(self._directory)) as reader:
                lines = reader.read(expected)
        for place, call in expected.items():
            row = as_row(lines.get(place, b""))
            if row is None or (call is not None and row.call != call):
                lines.pop(place, None)
                self._changed[place] = Problem(*place, CHANGED)
        return lines

    def _recovering(self, operation: Callable[[], T]) -> T:
        """The result of `operation`, after a rebuild if the index turns out to be damaged."""
        with self._explained():
            try:
                return operation()
            except (apsw.NotADBError, apsw.CorruptError, apsw.SQLError):
                # SQLError: another process has just reset it, or made a table of another schema.
                reset(self._db)
                bring_up_to_date(self._db, self._directory)
                return operation()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (apsw.Error, OSError) as error:
            raise UserError(
                f"cannot use the index of the audit log: {error}; it can be deleted, "
                "the next reader makes a new one",
                path=str(self._path),
            ) from error


def _place(columns: Sequence[Any]) -> Place:
    name, offset, size_bytes = columns
    return name, offset, size_bytes
