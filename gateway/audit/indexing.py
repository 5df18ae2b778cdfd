"""Brings the index up to date with the journals, a bounded number of records at a time."""

from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import apsw
import msgspec

from gateway.audit.files import journal_files
from gateway.audit.latency import slot_of
from gateway.audit.reader import UNFINISHED, Problem, Row, open_journal, read_journal

BATCH_RECORDS: Final = 50_000  # in one transaction, so that other readers get their turn
FINGERPRINT_BYTES: Final = 4096


def bring_up_to_date(db: apsw.Connection, directory: Path) -> None:
    """Index what the journals of the audit directory `directory` hold beyond what is indexed.

    A journal that is gone is forgotten, one that was replaced or cut is read again. Safe with
    other processes doing the same.
    """
    if _outdated(db, directory):
        while _advance(db, directory):
            pass


class _Indexed(NamedTuple):
    """What the index has of one journal."""

    id: int
    state: tuple[int, int]
    offset: int
    fingerprint: str


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _outdated(db: apsw.Connection, directory: Path) -> bool:
    rows = db.execute("SELECT name, size_bytes, modified_ns FROM journal")
    known = {name: (size_bytes, modified_ns) for name, size_bytes, modified_ns in rows}
    try:
        return known != {name: _state(path) for name, path in journal_files(directory).items()}
    except FileNotFoundError:
        return True


def _advance(db: apsw.Connection, directory: Path) -> bool:
    """Index up to BATCH_RECORDS more records; whether there may be more."""
    db.execute("BEGIN IMMEDIATE")
    try:
        more = _advance_locked(db, directory)
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
    return more


def _advance_locked(db: apsw.Connection, directory: Path) -> bool:
    # The files are looked at only now that nobody else writes the index: what it says about a
    # journal is never newer than what is found here.
    files = journal_files(directory)
    known = {
        name: _Indexed(journal, (size, modified), offset, fingerprint)
        for journal, name, size, modified, offset, fingerprint in db.execute(
            "SELECT id, name, size_bytes, modified_ns, offset, fingerprint FROM journal"
        )
    }
    for name in known.keys() - files.keys():
        _forget(db, known[name])
    room = BATCH_RECORDS
    for name, path in files.items():
        indexed = known.get(name)
        try:
            state = _state(path)
            if indexed is not None and state == indexed.state:
                continue
            if room <= 0:
                return True
            if indexed is not None and not _continues(path, indexed):
                _forget(db, indexed)
                indexed = None
            if indexed is None:
                indexed = _introduce(db, name)
            room -= _read(db, path, indexed, state, room)
        except FileNotFoundError:
            continue  # deleted meanwhile: the next refresh sees that it is gone
    return room <= 0


def _continues(path: Path, indexed: _Indexed) -> bool:
    """Whether the file still begins with what was read of it."""
    return _fingerprint(path, indexed.offset) == indexed.fingerprint


def _fingerprint(path: Path, offset: int) -> str:
    """A digest of the two ends of what is before `offset`; another one when the file is shorter."""
    with open_journal(path) as file:
        ends = file.read(min(offset, FINGERPRINT_BYTES))
        file.seek(max(0, offset - FINGERPRINT_BYTES))
        ends += file.read(min(offset, FINGERPRINT_BYTES))
    return sha256(ends).hexdigest()


def _introduce(db: apsw.Connection, name: str) -> _Indexed:
    db.execute("INSERT INTO journal VALUES (NULL, ?, 0, 0, 0, '')", (name,))
    return _Indexed(db.last_insert_rowid(), (0, 0), 0, "")


def _forget(db: apsw.Connection, indexed: _Indexed) -> None:
    for statement in (
        "DELETE FROM decision WHERE journal = ?",
        "DELETE FROM outcome WHERE journal = ?",
        "DELETE FROM event WHERE journal = ?",
        "DELETE FROM problem WHERE journal = ?",
        "DELETE FROM journal WHERE id = ?",
    ):
        db.execute(statement, (indexed.id,))


def _read(
    db: apsw.Connection, path: Path, indexed: _Indexed, state: tuple[int, int], room: int
) -> int:
    """Index up to `room` more records of one journal; how many there were."""
    problems: list[Problem] = []
    decisions: list[tuple[object, ...]] = []
    outcomes: list[tuple[object, ...]] = []
    events: list[tuple[object, ...]] = []
    offset, count = indexed.offset, 0
    for entry in read_journal(path, problems.append, indexed.offset):
        row = entry.row
        beginning = (indexed.id, row.time)
        if row.kind == "decision":
            who = (row.session, row.agent, row.upstream)
            where = (row.writer, row.seq)
            what = (row.tool, row.name, row.method, row.decision, row.enforced)
            why = (row.rule, row.file, row.line, row.reason)
            decisions.append((*beginning, row.call, *where, *who, *what, *why, entry.line))
        elif row.kind == "outcome":
            end = (row.status, row.duration_us, _slot(row), row.error_code)
            outcomes.append((*beginning, row.call, *end, entry.line))
        else:
            who = (row.session, row.agent, row.upstream)
            about = _about(entry.line)
            where = (row.writer, row.seq)
            events.append((*beginning, *where, row.event or row.kind, *who, *about, entry.line))
        offset = entry.offset + len(entry.line) + 1
        count += 1
        if count >= room:
            state = (0, 0)  # not read to its end: come back
            break
    db.executemany(_insertion("decision", 18), decisions)
    db.executemany(_insertion("outcome", 8), outcomes)
    db.executemany(_insertion("event", 11), events)
    for problem in problems:
        if problem.reason != UNFINISHED:
            offset = max(offset, problem.offset + problem.size_bytes)
            db.execute("INSERT INTO problem VALUES (?, ?, ?, ?)", (indexed.id, *problem[1:]))
    db.execute(
        "UPDATE journal SET size_bytes = ?, modified_ns = ?, offset = ?, fingerprint = ? "
        "WHERE id = ?",
        (*state, offset, _fingerprint(path, offset), indexed.id),
    )
    return count


def _insertion(table: str, columns: int) -> str:
    return f"INSERT INTO {table} VALUES (NULL{', ?' * columns})"


def _slot(row: Row) -> int | None:
    return None if row.duration_us is None else slot_of(row.duration_us)


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
