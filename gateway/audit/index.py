"""The index of the audit log: a SQLite file that finds calls fast and proves nothing.

The journals are the evidence; the index is brought up to date from them by whoever reads, and is
rebuilt from them when it is missing, damaged or of another schema. It is never on the path of a
call.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import msgspec

from gateway.audit.calls import Call, Filters
from gateway.audit.database import connect, reset
from gateway.audit.files import index_file
from gateway.audit.indexing import bring_up_to_date
from gateway.audit.reader import UNFINISHED, Problem, Row
from gateway.errors import UserError

T = TypeVar("T")

# An outcome joins on the call alone: it may stand in the journal that succeeded a broken one.
_CALLS: Final = """
SELECT decision.line, outcome.line FROM decision
LEFT JOIN outcome ON outcome.id = (
    SELECT id FROM outcome WHERE outcome.call = decision.call ORDER BY time, id LIMIT 1
)
"""
_NEWEST_FIRST: Final = "ORDER BY decision.time DESC, decision.call DESC, decision.id DESC"
_LAST_CHARACTER: Final = "\U0010ffff"  # what begins with P is at least P and less than P + this


class Index:
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

    def calls(self, filters: Filters, limit: int | None = None) -> list[Call]:
        """The calls that match, the newest last; with a `limit` the newest of them."""
        where, values = _conditions(filters)
        # Chosen by an index alone where one suffices: the sorting does not drag lines along.
        chosen = f"SELECT id FROM decision {where} {_NEWEST_FIRST} LIMIT ?"  # noqa: S608 - constants
        query = f"{_CALLS} WHERE decision.id IN ({chosen}) {_NEWEST_FIRST}"
        rows = self._select(query, (*values, -1 if limit is None else limit))
        return [_call(*row) for row in reversed(rows)]

    def call(self, prefix: str, limit: int = 2) -> list[Call]:
        """Up to `limit` calls whose id begins with `prefix`, by their ids."""
        where = "WHERE decision.call >= ? AND decision.call < ?"
        query = f"{_CALLS} {where} ORDER BY decision.call, decision.id LIMIT ?"
        rows = self._select(query, (prefix, prefix + _LAST_CHARACTER, limit))
        return [_call(*row) for row in rows]

    def problems(self) -> list[Problem]:
        """What in the journals was no record when the index was last brought up to date."""
        rows = self._select(
            "SELECT name, problem.offset, problem.size_bytes, reason FROM problem "
            "JOIN journal ON journal.id = problem.journal UNION ALL "
            "SELECT name, offset, size_bytes - offset, ? FROM journal WHERE size_bytes > offset "
            "ORDER BY 1, 2",
            (UNFINISHED,),
        )
        return [Problem(*row) for row in rows]

    def positions(self) -> dict[str, int]:
        """How far each journal is indexed, as `reader.follow` takes it."""
        return dict(self._select("SELECT name, offset FROM journal", ()))

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is asked inside sees one state, whatever other readers add meanwhile."""
        with self._explained():
            self._db.execute("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:
                self._db.execute("COMMIT")

    def _select(self, query: str, values: tuple[object, ...]) -> list[Any]:
        def select() -> list[Any]:
            return list(self._db.execute(query, values))

        return self._recovering(select)

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


def _conditions(filters: Filters) -> tuple[str, tuple[str, ...]]:
    conditions: list[str] = []
    values: list[str] = []
    for condition, value in (
        ("decision.agent = ?", filters.agent),
        ("decision.upstream = ?", filters.upstream),
        ("decision.decision = ?", filters.decision),
        ("decision.session = ?", filters.session),
        ("decision.time >= ?", filters.since),
        ("decision.time < ?", filters.until),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if filters.tool is not None:
        if filters.tool.endswith("*"):
            beginning = filters.tool[:-1]
            conditions.append("decision.tool >= ? AND decision.tool < ?")
            values += [beginning, beginning + _LAST_CHARACTER]
        else:
            conditions.append("decision.tool = ?")
            values.append(filters.tool)
    return f"WHERE {' AND '.join(conditions)}" if conditions else "", tuple(values)


def _call(decision: bytes, outcome: bytes | None) -> Call:
    return Call(
        decision=_row(decision),
        decision_line=decision,
        outcome=None if outcome is None else _row(outcome),
        outcome_line=outcome,
    )


_row = msgspec.json.Decoder(Row).decode
