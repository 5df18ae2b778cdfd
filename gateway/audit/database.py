"""The SQLite file of the index: its schema, opening it, and resetting a damaged one.

A damaged file is reset in place rather than deleted: another reader may have it open, and the
last one to close a deleted SQLite file takes the write-ahead log of its successor with it.
"""

import os
from pathlib import Path
from typing import Final

import apsw

SCHEMA_VERSION: Final = 2
BUSY_TIMEOUT_MS: Final = 60_000

_SCHEMA: Final = """
CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    size_bytes INTEGER NOT NULL,   -- with modified_ns: the file when it was last read to its end
    modified_ns INTEGER NOT NULL,
    offset INTEGER NOT NULL,       -- everything before it is indexed
    fingerprint TEXT NOT NULL      -- of what is before it, to notice a file that was replaced
);
CREATE TABLE decision (
    id INTEGER PRIMARY KEY,
    journal INTEGER NOT NULL,
    time TEXT NOT NULL,
    call TEXT NOT NULL,
    writer TEXT NOT NULL,
    seq INTEGER NOT NULL,
    session TEXT, agent TEXT, upstream TEXT, tool TEXT, name TEXT, method TEXT,
    decision TEXT,
    enforced INTEGER NOT NULL,
    rule TEXT, file TEXT, file_line INTEGER, reason TEXT,
    line BLOB NOT NULL
);
-- With the call, which settles the order of one time: nothing is left to sort.
CREATE INDEX decision_time ON decision (time, call);
CREATE INDEX decision_agent ON decision (agent, time, call);
CREATE INDEX decision_tool ON decision (tool, time, call);
CREATE INDEX decision_decision ON decision (decision, time, call);
CREATE INDEX decision_call ON decision (call);
CREATE TABLE outcome (
    id INTEGER PRIMARY KEY,
    journal INTEGER NOT NULL,
    time TEXT NOT NULL,
    call TEXT NOT NULL,
    status TEXT, duration_us INTEGER, slot INTEGER, error_code INTEGER,
    line BLOB NOT NULL
);
CREATE INDEX outcome_call ON outcome (call, time);
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    journal INTEGER NOT NULL,
    time TEXT NOT NULL,
    writer TEXT NOT NULL,
    seq INTEGER NOT NULL,
    event TEXT, session TEXT, agent TEXT, upstream TEXT, call TEXT, tool TEXT,
    line BLOB NOT NULL
);
CREATE INDEX event_time ON event (time);
-- An outcome joins on the call alone: it may stand in the journal that succeeded a broken one.
CREATE VIEW calls AS
SELECT decision.id, decision.time, decision.call, writer, seq, session, agent, upstream, tool, name,
    method, decision, enforced, rule, file, file_line AS line, reason,
    outcome.time AS outcome_time, status, duration_us, slot, error_code
FROM decision LEFT JOIN outcome ON outcome.id = (
    SELECT id FROM outcome WHERE outcome.call = decision.call ORDER BY time, id LIMIT 1
);
CREATE VIEW events AS
SELECT id, time, writer, seq, event, session, agent, upstream, call, tool FROM event;
CREATE TABLE problem (
    journal INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    reason TEXT NOT NULL
);
"""


def connect(path: Path) -> apsw.Connection:
    """The index at `path`, owner-only, with its schema; empty if it was missing or unusable.

    Raises OSError or apsw.Error when the file cannot be written.
    """
    # Made here so that SQLite gives its companions the same mode.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    db = apsw.Connection(os.fspath(path))
    try:
        db.set_busy_timeout(BUSY_TIMEOUT_MS)
        try:
            usable = db.pragma("user_version") in (0, SCHEMA_VERSION)
        except (apsw.NotADBError, apsw.CorruptError):
            usable = False
        if usable:
            prepare(db)
        else:
            reset(db)
    except BaseException:
        db.close()
        raise
    return db


def reset(db: apsw.Connection) -> None:
    """Make the database empty, whatever is wrong with it."""
    if db.in_transaction:
        db.execute("ROLLBACK")
    db.config(apsw.SQLITE_DBCONFIG_RESET_DATABASE, 1)
    try:
        db.execute("VACUUM")
    finally:
        db.config(apsw.SQLITE_DBCONFIG_RESET_DATABASE, 0)
    prepare(db)


def prepare(db: apsw.Connection) -> None:
    """Give an empty database its schema; of several processes at once the first one does it."""
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "normal")  # cannot damage it; what a power loss takes is read again
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.pragma("user_version") == 0:
            db.execute(_SCHEMA)
            db.pragma("user_version", SCHEMA_VERSION)
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
