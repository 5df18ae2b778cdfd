"""Brings the index up to date with the journals, a bounded number of records at a time."""

import gzip
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from gateway.audit.database import make_indexes
from gateway.audit.files import COMPRESSED, journal_files
from gateway.audit.filling import Batch, Words, drop_unused_words, forget
from gateway.audit.reader import UNFINISHED, Problem, open_journal, read_journal, size_of

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
    make_indexes(db)


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
    forgotten = [known[name].id for name in known.keys() - files.keys()]
    forget(db, forgotten)
    words = Words(db)
    room, vanished = BATCH_RECORDS, False
    for name, path in files.items():
        indexed = known.get(name)
        try:
            state = _state(path)
            if indexed is not None and state == indexed.state:
                continue
            if room <= 0:
                break
            if indexed is not None and not _continues(path, indexed):
                forget(db, [indexed.id])
                forgotten.append(indexed.id)
                indexed = None
            if indexed is not None and _is_compressed(path, indexed):
                _note_state(db, state, indexed)
                continue
            if indexed is None:
                indexed = _introduce(db, name)
            batch = Batch(db, words, indexed.id)
            room -= _read(db, path, batch, indexed, state, room)
        except FileNotFoundError:
            vanished = True  # compressed meanwhile, or deleted: another look tells
    if forgotten:
        drop_unused_words(db)
    return room <= 0 or vanished


def _continues(path: Path, indexed: _Indexed) -> bool:
    """Whether the file still begins with what was read of it."""
    return _fingerprint(path, indexed.offset) == indexed.fingerprint


def _is_compressed(path: Path, indexed: _Indexed) -> bool:
    """Whether the file, which continues what is indexed, is the same compressed and no more."""
    return path.name.endswith(COMPRESSED) and size_of(path) == indexed.offset


def _note_state(db: apsw.Connection, state: tuple[int, int], indexed: _Indexed) -> None:
    db.execute(
        "UPDATE journal SET size_bytes = ?, modified_ns = ?, unfinished_bytes = 0 WHERE id = ?",
        (*state, indexed.id),
    )


def _fingerprint(path: Path, offset: int) -> str:
    """A digest of the two ends of what is before `offset`; another one when the file is shorter.

    Of a compressed file that is damaged there is none, so it is read again when it changes.
    """
    with open_journal(path) as file:
        try:
            ends = file.read(min(offset, FINGERPRINT_BYTES))
            file.seek(max(0, offset - FINGERPRINT_BYTES))
            ends += file.read(min(offset, FINGERPRINT_BYTES))
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return ""
    return sha256(ends).hexdigest()


def _introduce(db: apsw.Connection, name: str) -> _Indexed:
    db.execute("INSERT INTO journal VALUES (NULL, ?, 0, 0, 0, '', 0)", (name,))
    return _Indexed(db.last_insert_rowid(), (0, 0), 0, "")


def _read(
    db: apsw.Connection,
    path: Path,
    batch: Batch,
    indexed: _Indexed,
    state: tuple[int, int],
    room: int,
) -> int:
    """Index up to `room` more records of one journal; how many there were."""
    problems: list[Problem] = []
    offset, count, unfinished_bytes = indexed.offset, 0, 0
    for entry in read_journal(path, problems.append, indexed.offset):
        batch.add(entry)
        offset = entry.offset + len(entry.line) + 1
        count += 1
        if count >= room:
            state = (0, 0)  # not read to its end: come back
            break
    batch.write()
    for problem in problems:
        if problem.reason == UNFINISHED:
            unfinished_bytes = problem.size_bytes
        else:
            offset = max(offset, problem.offset + problem.size_bytes)
            db.execute("INSERT INTO problem VALUES (?, ?, ?, ?)", (indexed.id, *problem[1:]))
    db.execute(
        "UPDATE journal SET size_bytes = ?, modified_ns = ?, offset = ?, fingerprint = ?, "
        "unfinished_bytes = ? WHERE id = ?",
        (*state, offset, _fingerprint(path, offset), unfinished_bytes, indexed.id),
    )
    return count
