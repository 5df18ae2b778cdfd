"""The store in PostgreSQL as readers ask it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.audit.postgres.address import Address, StoreUnavailable, said
from gateway.audit.postgres.schema import READER, require_schema
from gateway.audit.reader import Entry, Problem, Report, Row
from gateway.audit.sql_log import CallLines, SqlLog, Values
from gateway.errors import UserError

if TYPE_CHECKING:
    import psycopg

_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_CALL_LINES: Final = """
SELECT decision.id, decision.line, outcome.line FROM decision
LEFT JOIN outcome ON outcome.call = decision.call AND outcome.first
WHERE decision.id = ANY(%s)
"""


_ADDED: Final = """
SELECT line FROM (
    SELECT journal, seq, line FROM decision
    UNION ALL SELECT journal, seq, line FROM outcome
    UNION ALL SELECT journal, seq, line FROM event
) AS record WHERE journal = %s AND seq > %s ORDER BY seq LIMIT 10000
"""
_FOLLOW_S: Final = 0.5


class PostgresLog(SqlLog):
    """One reader's connection to the store."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection
        self._inside = False

    @classmethod
    def open(cls, address: Address) -> "PostgresLog":
        """The store at `address`. Raises UserError when it cannot be used."""
        try:
            connection = address.connect()
            try:
                require_schema(connection)
                connection.execute("SET search_path = gateway_audit")
            except BaseException:
                connection.close()
                raise
        except StoreUnavailable as error:
            raise UserError(f"the audit store cannot be used: {error}") from None
        return cls(connection)

    def __enter__(self) -> "PostgresLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """As `AuditLog` says."""
        self._connection.close()

    def refresh(self) -> None:
        """Nothing is to be done: each question sees what was copied by then."""

    def problems(self) -> list[Problem]:
        """None: the store takes records only."""
        return []

    def positions(self) -> dict[str, int]:
        """As `AuditLog` says: the number of each journal's newest record here."""
        return dict(self._run("SELECT name, seq FROM journal", None))

    def follow(self, positions: Mapping[str, int], report: Report) -> Iterator[list[Entry]]:
        """As `AuditLog` says; there is nothing to report."""
        reached = dict(positions)
        while True:
            batch: list[Entry] = []
            for journal, name, seq in self._run("SELECT id, name, seq FROM journal", None):
                if reached.get(name, 0) < seq:
                    lines = self._run(_ADDED, [journal, reached.get(name, 0)])
                    batch += [Entry(name, 0, line, _decode(line)) for (line,) in lines]
                    reached[name] = batch[-1].row.seq if lines else seq
            batch.sort(key=lambda entry: entry.row.time)
            yield batch
            time.sleep(_FOLLOW_S)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """As `AuditLog` says."""
        if self._inside:
            yield
            return
        self._run(_SNAPSHOT, None)
        self._inside = True
        try:
            yield
        finally:
            self._inside = False
            self._run("ROLLBACK", None)

    def _rows(self, statement: str, values: Values) -> list[Any]:
        # The columns have U+FFFD where a record has NUL, which no text of PostgreSQL can hold.
        texts = [_sendable(value) if isinstance(value, str) else value for value in values]
        return self._run(statement.replace("%", "%%").replace("?", "%s"), texts)

    def _call_lines(self, ids: Sequence[int]) -> dict[int, CallLines]:
        rows = self._run(_CALL_LINES, [list(ids)])
        return {identifier: (decision, outcome) for identifier, decision, outcome in rows}

    def _event_lines(self, ids: Sequence[int]) -> dict[int, bytes]:
        return dict(self._run("SELECT id, line FROM event WHERE id = ANY(%s)", [list(ids)]))

    def _run(self, statement: str, values: Sequence[object] | None) -> list[Any]:
        import psycopg

        try:
            cursor = self._connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description is not None else []
        except psycopg.errors.InsufficientPrivilege:
            raise UserError(f"this role may not read the audit store; grant it {READER}") from None
        except psycopg.Error as error:
            raise UserError(f"the audit store does not answer: {said(error)}") from None


_decode: Final = msgspec.json.Decoder(Row).decode


def _sendable(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
