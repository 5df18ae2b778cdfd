"""The index of the audit log: a SQLite file that finds calls fast and proves nothing.

The journals are the evidence; the index is brought up to date from them by whoever reads, and is
rebuilt from them when it is missing, damaged or of another schema. It is never on the path of a
call.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw

from gateway.audit.database import connect, reset
from gateway.audit.files import index_file
from gateway.audit.indexing import bring_up_to_date
from gateway.audit.reader import UNFINISHED, Problem
from gateway.audit.sql_log import CallLines, SqlLog, Values
from gateway.errors import UserError

T = TypeVar("T")


class Index(SqlLog):
    """One reader's connection to the index of an audit directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = index_file(directory)
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
        self._recovering(lambda: bring_up_to_date(self._db, self._directory))

    def problems(self) -> list[Problem]:
        """What in the journals was no record when the index was last brought up to date."""
        rows = self._rows(
            "SELECT name, problem.offset, problem.size_bytes, reason FROM problem "
            "JOIN journal ON journal.id = problem.journal UNION ALL "
            "SELECT name, offset, size_bytes - offset, ? FROM journal WHERE size_bytes > offset "
            "ORDER BY 1, 2",
            (UNFINISHED,),
        )
        return [Problem(*row) for row in rows]

    def positions(self) -> dict[str, int]:
        """How far each journal is indexed, as `reader.follow` takes it."""
        return dict(self._rows("SELECT name, offset FROM journal", ()))

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

    def _call_lines(self, ids: Sequence[int]) -> dict[int, CallLines]:
        if not ids:  # which an array cannot be bound without
            return {}
        rows = self._rows(
            "SELECT decision.id, decision.line, (SELECT line FROM outcome "
            "WHERE outcome.call = decision.call ORDER BY time, id LIMIT 1) "
            "FROM decision WHERE id IN carray(?)",
            (apsw.carray(array("q", ids)),),
        )
        return {identifier: (decision, outcome) for identifier, decision, outcome in rows}

    def _event_lines(self, ids: Sequence[int]) -> dict[int, bytes]:
        if not ids:
            return {}
        statement = "SELECT id, line FROM event WHERE id IN carray(?)"
        return dict(self._rows(statement, (apsw.carray(array("q", ids)),)))

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
