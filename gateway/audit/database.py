"""The SQLite file of the index: its schema, opening it, and resetting a damaged one.

It holds what questions ask for and no lines: those stay in the journals, and the index knows where.
Texts that occur again and again are words, each kept once; two views put them back, for the
statements of `sql_log`. A call is one row with its first outcome, so that no question joins.

A damaged file is reset in place rather than deleted: another reader may have it open, and the
last one to close a deleted SQLite file takes the write-ahead log of its successor with it.
"""

import os
from pathlib import Path
from typing import Final

import apsw

SCHEMA_VERSION: Final = 2
BUSY_TIMEOUT_MS: Final = 60_000

_TABLES: Final = """
CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    size_bytes INTEGER NOT NULL,   -- with modified_ns: the file when it was last read to its end
    modified_ns INTEGER NOT NULL,
    offset INTEGER NOT NULL,       -- everything before it is indexed
    fingerprint TEXT NOT NULL,     -- of what is before it, to notice a file that was replaced
    unfinished_bytes INTEGER NOT NULL  -- of a last line without an end
);
CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE call (
    id INTEGER PRIMARY KEY,
    journal INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    time TEXT NOT NULL,
    call TEXT NOT NULL,
    seq INTEGER NOT NULL,
    -- These are words:
    writer INTEGER NOT NULL, session INTEGER, agent INTEGER, upstream INTEGER, tool INTEGER,
    name INTEGER, method INTEGER, decision INTEGER, rule INTEGER, file INTEGER, reason INTEGER,
    line INTEGER,
    enforced INTEGER NOT NULL,
    -- The first outcome by time, wherever it stands, or null:
    outcome_journal INTEGER,
    outcome_offset INTEGER,
    outcome_size_bytes INTEGER,
    outcome_time TEXT,
    status INTEGER,                -- a word
    duration_us INTEGER,
    slot INTEGER,
    error_code INTEGER
);
CREATE INDEX call_call ON call (call);
-- Outcomes of calls that have an earlier one, or whose decision is not in the log.
CREATE TABLE stray (
    call TEXT NOT NULL,
    journal INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    time TEXT NOT NULL,
    status INTEGER,
    duration_us INTEGER,
    slot INTEGER,
    error_code INTEGER
);
CREATE INDEX stray_call ON stray (call);
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    journal INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    time TEXT NOT NULL,
    seq INTEGER NOT NULL,
    -- These are words:
    writer INTEGER NOT NULL, event INTEGER NOT NULL, session INTEGER, agent INTEGER,
    upstream INTEGER, tool INTEGER,
    call TEXT
);
CREATE TABLE problem (
    journal INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    reason TEXT NOT NULL
);
CREATE VIEW calls AS
SELECT call.id, time, call, writer.text AS writer, seq, session.text AS session,
    agent.text AS agent, upstream.text AS upstream, tool.text AS tool, name.text AS name,
    method.text AS method, decision.text AS decision, enforced, rule.text AS rule,
    file.text AS file, line, reason.text AS reason,
    outcome_time, status.text AS status, duration_us, slot, error_code
FROM call
LEFT JOIN word AS writer ON writer.id = call.writer
LEFT JOIN word AS session ON session.id = call.session
LEFT JOIN word AS agent ON agent.id = call.agent
LEFT JOIN word AS upstream ON upstream.id = call.upstream
LEFT JOIN word AS tool ON tool.id = call.tool
LEFT JOIN word AS name ON name.id = call.name
LEFT JOIN word AS method ON method.id = call.method
LEFT JOIN word AS decision ON decision.id = call.decision
LEFT JOIN word AS rule ON rule.id = call.rule
LEFT JOIN word AS file ON file.id = call.file
LEFT JOIN word AS reason ON reason.id = call.reason
LEFT JOIN word AS status ON status.id = call.status;
CREATE VIEW events AS
SELECT event.id, time, writer.text AS writer, seq, kind.text AS event, session.text AS session,
    agent.text AS agent, upstream.text AS upstream, call, tool.text AS tool
FROM event
LEFT JOIN word AS writer ON writer.id = event.writer
LEFT JOIN word AS kind ON kind.id = event.event
LEFT JOIN word AS session ON session.id = event.session
LEFT JOIN word AS agent ON agent.id = event.agent
LEFT JOIN word AS upstream ON upstream.id = event.upstream
LEFT JOIN word AS tool ON tool.id = event.tool;
"""

# Made after a first filling: sorting once is several times faster than keeping order meanwhile.
# The first ones find calls in order of time, the last two count them without looking at a row.
_INDEXES: Final = {
    "call_time": "call (time, call, slot, decision, enforced, status)",
    "call_agent": "call (agent, time)",
    "call_tool": "call (tool, time)",
    "call_session": "call (session, time)",
    "call_decision": "call (decision, time)",
    "call_use": "call (agent, tool, decision, enforced, status, time)",
    "call_performance": "call (upstream, tool, decision, enforced, method, status, slot, "
    "duration_us, time)",
    "event_time": "event (time)",
    "event_session": "event (session, time)",
    "event_call": "event (call) WHERE call IS NOT NULL",
}


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
            if usable:
                prepare(db)
        except (apsw.NotADBError, apsw.CorruptError):
            usable = False
        if not usable:
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
    """Give an empty database its tables; of several processes at once the first one does it."""
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "normal")  # cannot damage it; what a power loss takes is read again
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.pragma("user_version") == 0:
            db.execute(_TABLES)
            db.pragma("user_version", SCHEMA_VERSION)
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def make_indexes(db: apsw.Connection) -> None:
    """Make what indexes are missing, each in a transaction of its own."""
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
    for name in _INDEXES:
        if name not in there:
            db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {_INDEXES[name]}")
