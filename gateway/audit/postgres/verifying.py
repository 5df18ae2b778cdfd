"""Verifies the copies in the store: as journals, and by what else the database says of them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.audit.files import PLAIN, journal_directory
from gateway.audit.notes import Verifier
from gateway.audit.postgres.address import Address, StoreUnavailable, said
from gateway.audit.postgres.schema import READER, require_schema
from gateway.audit.reader import Row
from gateway.audit.verify.findings import Finding, Report
from gateway.audit.verify.verification import Anchored, verify
from gateway.errors import UserError
from gateway.state import make_private_directory

if TYPE_CHECKING:
    import psycopg

_AT_ONCE: Final = 2000
_NAMED: Final = 10

# What questions are answered from goes with the line as a list of texts; see `_columns_of`.
_RECORDS: Final = """
SELECT journal.name, kind, record.seq, columns, line FROM (
    SELECT journal, 'decision' AS kind, seq, line, ARRAY[
        seq::text, time, call, session, agent, upstream, tool, name, method, decision,
        enforced::text, rule, file, file_line::text, reason
    ] AS columns FROM gateway_audit.decision
    UNION ALL SELECT journal, 'outcome', seq, line, ARRAY[
        seq::text, time, call, status, duration_us::text, error_code::text
    ] FROM gateway_audit.outcome
    UNION ALL SELECT journal, 'event', seq, line, ARRAY[
        seq::text, time, event, session, agent, upstream
    ] FROM gateway_audit.event
) AS record JOIN gateway_audit.journal ON journal.id = record.journal
ORDER BY record.journal, record.seq
"""
# Whether a gateway lives cannot be told from here: one that sent something lately, and not its
# closing record, may.
_RUNNING: Final = """
SELECT DISTINCT name FROM gateway_audit.receipt
JOIN gateway_audit.journal ON journal.id = receipt.journal
WHERE received_at > now() - interval '1 hour' AND NOT EXISTS (
    SELECT FROM gateway_audit.event
    WHERE event.journal = journal.id AND event.seq = journal.seq AND event.event = 'journal.closed'
)
"""
_HEADS: Final = "SELECT name, seq FROM gateway_audit.journal"
# Each receipt, and the journal's own row, say what the last line was when it was taken.
_OTHERS: Final = """
SELECT journal.name, said.seq, said.received_at FROM (
    SELECT journal, last_seq AS seq, digest, to_char(
        received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'
    ) AS received_at FROM gateway_audit.receipt
    UNION ALL SELECT id, journal.seq, digest, NULL FROM gateway_audit.journal
) AS said
JOIN gateway_audit.journal ON journal.id = said.journal
LEFT JOIN gateway_audit.decision ON decision.journal = said.journal AND decision.seq = said.seq
LEFT JOIN gateway_audit.outcome ON outcome.journal = said.journal AND outcome.seq = said.seq
LEFT JOIN gateway_audit.event ON event.journal = said.journal AND event.seq = said.seq
WHERE said.digest IS DISTINCT FROM
    encode(sha256(coalesce(decision.line, outcome.line, event.line)), 'hex')
ORDER BY journal.name, said.seq, said.received_at NULLS LAST
"""


def verify_store(
    address: Address,
    verifiers: Sequence[Verifier] = (),
    anchored: Sequence[Anchored] = (),
    *,
    processes: int = 1,
) -> Report:
    """Verify what is in the store, as journals of a directory are verified.

    It is written into a temporary directory for that. Raises UserError.
    """
    import psycopg

    try:
        with (
            address.connect(autocommit=False) as connection,
            TemporaryDirectory(prefix="gateway-verify-") as directory,
        ):
            require_schema(connection)
            connection.rollback()
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            heads = dict(connection.execute(_HEADS).fetchall())
            running = {name for (name,) in connection.execute(_RUNNING).fetchall()}
            told = [*_write(connection, Path(directory)), *_others(connection)]
            report = verify(
                Path(directory), verifiers, anchored, processes=processes, running=running
            )
    except StoreUnavailable as error:
        raise UserError(f"the audit store cannot be used: {error}") from None
    except psycopg.errors.InsufficientPrivilege:
        raise UserError(f"this role may not read the audit store; grant it {READER}") from None
    except psycopg.Error as error:
        raise UserError(f"the audit store does not answer: {said(error)}") from None
    except OSError as error:
        raise UserError(
            f"the records cannot be written to a temporary directory: {error.strerror}; free some "
            "space, or name another one with TMPDIR",
            path=error.filename,
        ) from None
    findings = (*(_judged(finding, heads) for finding in report.findings), *told)
    return msgspec.structs.replace(report, findings=findings)


def _write(connection: "psycopg.Connection[Any]", directory: Path) -> list[Finding]:
    """Write each journal as the file that it is a copy of; tell of columns that are not right."""
    journals = journal_directory(directory)
    make_private_directory(journals)
    findings: list[Finding] = []
    with ExitStack() as stack, connection.cursor("records") as cursor:
        cursor.itersize = _AT_ONCE
        rows = cursor.execute(_RECORDS)
        for name, records in groupby(rows, key=itemgetter(0)):
            stack.close()
            path = journals / f"{_file_name(name)}{PLAIN}"
            file = stack.enter_context(path.open("ab"))
            wrong = []
            for _, kind, seq, columns, line in records:
                file.write(line + b"\n")
                if columns != _columns_of(kind, line):
                    wrong.append(seq)
            findings += [_wrong_columns(name, seq) for seq in wrong[:_NAMED]]
    return findings


def _columns_of(table: str, line: bytes) -> list[str | None] | None:
    """What the columns should hold by what a line says, as texts."""
    try:
        row = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    first = [str(row.seq), _cut(row.time, 64)]
    if table == "event":
        rest = (row.event or row.kind, row.session, row.agent, row.upstream)
        return [*first, *(_cut(text, 512) for text in rest)]
    call = _cut(row.call, 128)
    if table == "outcome":
        return [*first, call, _clean(row.status), _number(row.duration_us), _number(row.error_code)]
    who = (row.session, row.agent, row.upstream, row.tool)
    what = (_clean(row.name), _clean(row.method), _cut(row.decision, 64))
    why = (_clean(row.rule), _clean(row.file), _number(row.line), _clean(row.reason))
    return [*first, call, *(_cut(text, 512) for text in who), *what, str(int(row.enforced)), *why]


def _clean(text: str | None) -> str | None:
    return None if text is None else text.replace("\0", "\ufffd")


def _cut(text: str | None, characters: int) -> str | None:
    return None if text is None else text.replace("\0", "\ufffd")[:characters]


def _number(number: int | None) -> str | None:
    return None if number is None else str(number)


_decode: Final = msgspec.json.Decoder(Row).decode


def _wrong_columns(journal: str, seq: int) -> Finding:
    return Finding(
        severity="tampering",
        code="columns",
        journal=journal,
        seq=seq,
        message=f"the columns of record {seq} do not say what its line says",
    )


def _file_name(writer: str) -> str:
    """A name for a journal's file: the writer's own, if it is one that a gateway gives."""
    if writer and all(character.isalnum() or character in "-_" for character in writer):
        return writer[:200]
    return f"unusual-{writer.encode().hex()[:180]}"


def _others(connection: "psycopg.Connection[Any]") -> Iterator[Finding]:
    """Where the lines are others than they were when they were taken; the first of each journal."""
    told = set()
    for name, seq, received_at in connection.execute(_OTHERS).fetchall():
        if name not in told:
            told.add(name)
            when = "by the journal's own row" if received_at is None else f"at {received_at}"
            yield Finding(
                severity="tampering",
                code="rewritten",
                journal=name,
                seq=seq,
                message=f"record {seq} is missing or another one than the database got {when}",
            )


def _judged(finding: Finding, heads: dict[str, int]) -> Finding:
    """A finding as it stands for a copy: what may only not have been copied yet is none."""
    copied = heads.get(finding.journal)
    not_here = finding.code == "missing-journal" and copied is None
    not_yet = finding.code == "truncated" and copied == finding.seq
    if not_here or not_yet:
        return msgspec.structs.replace(
            finding,
            severity="note",
            code="not-copied",
            message=f"{finding.message}; or the rest was not copied yet",
        )
    return finding
