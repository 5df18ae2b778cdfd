"""The tables of the log, the one way to append to it, and who may do what.

What the columns hold is taken from the line in the database itself, so that the two cannot say
different things. `calls` and `events` are what `gateway.audit.sql_log` asks.

There are no partitions by month: every unique key would need the month in it, the two records of a
call may stand in two months, and dropping one would cut chains in two.
"""

from alembic import op

revision = "0001"
down_revision = None

_TABLES = """
CREATE TABLE gateway_audit.journal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,  -- the writer of its records
    seq bigint NOT NULL,                    -- of the newest one here
    digest text COLLATE "C" NOT NULL,       -- SHA-256 of that one's line, hex
    size_bytes bigint NOT NULL,             -- of the lines here, with their line ends
    role text NOT NULL                      -- who alone may append to it, besides the owner
);
-- What came when, by this server's own clock: no gateway can date a head back.
CREATE TABLE gateway_audit.receipt (
    journal bigint NOT NULL REFERENCES gateway_audit.journal,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    digest text COLLATE "C" NOT NULL,
    role text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (journal, first_seq)
);
CREATE TABLE gateway_audit.decision (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    journal bigint NOT NULL,
    seq bigint NOT NULL,
    time text COLLATE "C" NOT NULL,
    call text COLLATE "C" NOT NULL,
    session text COLLATE "C",
    agent text COLLATE "C",
    upstream text COLLATE "C",
    tool text COLLATE "C",
    name text COLLATE "C",
    method text COLLATE "C",
    decision text COLLATE "C",
    enforced integer NOT NULL,
    rule text COLLATE "C",
    file text COLLATE "C",
    file_line bigint,
    reason text COLLATE "C",
    line bytea NOT NULL,
    UNIQUE (journal, seq)
);
CREATE INDEX decision_time ON gateway_audit.decision (time);
CREATE INDEX decision_agent ON gateway_audit.decision (agent, time);
CREATE INDEX decision_tool ON gateway_audit.decision (tool, time);
CREATE INDEX decision_decision ON gateway_audit.decision (decision, time);
CREATE INDEX decision_session ON gateway_audit.decision (session, time);
CREATE INDEX decision_call ON gateway_audit.decision (call);
CREATE TABLE gateway_audit.outcome (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    journal bigint NOT NULL,
    seq bigint NOT NULL,
    time text COLLATE "C" NOT NULL,
    call text COLLATE "C" NOT NULL,
    first boolean NOT NULL,  -- of its call, by time: mostly there is no other
    status text COLLATE "C",
    duration_us bigint,
    slot bigint,
    error_code bigint,
    line bytea NOT NULL,
    UNIQUE (journal, seq)
);
CREATE INDEX outcome_call ON gateway_audit.outcome (call, time);
CREATE TABLE gateway_audit.event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    journal bigint NOT NULL,
    seq bigint NOT NULL,
    time text COLLATE "C" NOT NULL,
    event text COLLATE "C",
    session text COLLATE "C",
    agent text COLLATE "C",
    upstream text COLLATE "C",
    call text COLLATE "C",
    tool text COLLATE "C",
    line bytea NOT NULL,
    UNIQUE (journal, seq)
);
CREATE INDEX event_time ON gateway_audit.event (time);
CREATE INDEX event_event ON gateway_audit.event (event, time);
CREATE INDEX event_session ON gateway_audit.event (session, time);
CREATE INDEX event_call ON gateway_audit.event (call) WHERE call IS NOT NULL;
CREATE VIEW gateway_audit.calls AS
SELECT decision.id, decision.time, decision.call, journal.name AS writer, decision.seq, session,
    agent, upstream, tool, decision.name, method, decision, enforced, rule, file,
    file_line AS line, reason, outcome.time AS outcome_time, status, duration_us, slot, error_code
FROM gateway_audit.decision
JOIN gateway_audit.journal ON journal.id = decision.journal
LEFT JOIN gateway_audit.outcome ON outcome.call = decision.call AND outcome.first;
CREATE VIEW gateway_audit.events AS
SELECT event.id, time, name AS writer, event.seq, event, session, agent, upstream, call, tool
FROM gateway_audit.event JOIN gateway_audit.journal ON journal.id = event.journal;
-- The same as gateway.audit.latency.slot_of.
CREATE FUNCTION gateway_audit.slot_of(duration_us bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE WHEN duration_us < 64 THEN greatest(duration_us, 0) ELSE (
        SELECT (shift << 5) + (duration_us >> shift)
        FROM (SELECT length(ltrim(duration_us::bit(64)::text, '0')) - 6 AS shift) AS shifted
    ) END
$$;
"""

# A text of a record may be longer than an index takes, and may hold NUL, which no text here can:
# columns have the first 512 characters, with U+FFFD for NUL. The line has it all.
_APPEND = r"""
CREATE FUNCTION gateway_audit.append(journal_name text, after bigint, block bytea)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = gateway_audit, pg_temp AS $$
#variable_conflict use_column
DECLARE
    head journal;
    appended record;
BEGIN
    INSERT INTO journal (name, seq, digest, size_bytes, role)
    VALUES (journal_name, 0, repeat('0', 64), 0, session_user)
    ON CONFLICT (name) DO NOTHING;
    SELECT * INTO head FROM journal WHERE name = journal_name FOR UPDATE;
    IF head.role <> session_user AND NOT pg_has_role(session_user, current_user, 'MEMBER') THEN
        RAISE EXCEPTION 'another role appends to this journal' USING ERRCODE = 'GA002';
    END IF;
    IF head.seq <> after THEN
        RETURN NULL;
    END IF;
    WITH lines AS (
        SELECT position, text, convert_to(text, 'UTF8') AS whole
        FROM unnest(string_to_array(convert_from(block, 'UTF8'), E'\n'))
            WITH ORDINALITY AS split (text, position)
    ), fields AS (
        SELECT position, whole, encode(sha256(whole), 'hex') AS digest, field.*
        FROM lines, jsonb_to_record((
            CASE WHEN strpos(text, '\u0000') > 0
            THEN regexp_replace(text, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g')
            ELSE text END
        )::jsonb) AS field (
            kind text, writer text, seq bigint, prev text, time text, call text, session text,
            agent text, upstream text, tool text, name text, method text, decision text,
            enforced boolean, rule text, file text, line bigint, reason text, status text,
            duration_us bigint, error_code bigint, event text, data jsonb
        )
    ), records AS MATERIALIZED (
        SELECT *, kind IS NOT NULL
            AND writer = journal_name
            AND seq = head.seq + position
            AND prev = lag(digest, 1, head.digest) OVER (ORDER BY position) AS follows
        FROM fields
    ), decisions AS (
        INSERT INTO decision (
            journal, seq, time, call, session, agent, upstream, tool, name, method, decision,
            enforced, rule, file, file_line, reason, line
        )
        SELECT head.id, seq, left(time, 64), left(call, 128), left(session, 512), left(agent, 512),
            left(upstream, 512), left(tool, 512), name, method, left(decision, 64),
            coalesce(enforced, true)::integer, rule, file, line, reason, whole
        FROM records WHERE kind = 'decision' ORDER BY position
    ), ended AS MATERIALIZED (
        SELECT *, left(call, 128) AS cut, row_number() OVER (
            PARTITION BY left(call, 128) ORDER BY left(time, 64), position
        ) = 1 AS first
        FROM records WHERE kind = 'outcome'
    ), second AS (
        UPDATE outcome SET first = false FROM ended
        WHERE ended.first AND outcome.first AND outcome.call = cut
            AND outcome.time > left(ended.time, 64)
    ), outcomes AS (
        INSERT INTO outcome
            (journal, seq, time, call, first, status, duration_us, slot, error_code, line)
        SELECT head.id, seq, left(time, 64), cut, first AND NOT EXISTS (
                SELECT FROM outcome AS other
                WHERE other.call = cut AND other.time <= left(ended.time, 64)
            ), status, duration_us, slot_of(duration_us), error_code, whole
        FROM ended ORDER BY position
    ), events AS (
        INSERT INTO event
            (journal, seq, time, event, session, agent, upstream, call, tool, line)
        SELECT head.id, seq, left(time, 64), left(coalesce(event, kind), 512), left(session, 512),
            left(agent, 512), left(upstream, 512),
            CASE WHEN jsonb_typeof(data -> 'call') = 'string' THEN left(data ->> 'call', 128) END,
            CASE WHEN jsonb_typeof(data -> 'tool') = 'string' THEN left(data ->> 'tool', 512) END,
            whole
        FROM records WHERE kind NOT IN ('decision', 'outcome') ORDER BY position
    )
    SELECT count(*) AS number, bool_and(coalesce(follows, false)) AS good,
        (array_agg(digest ORDER BY position DESC))[1] AS digest
    INTO appended FROM records;
    IF NOT appended.good THEN
        RAISE EXCEPTION 'a record does not follow the one before it' USING ERRCODE = 'GA001';
    END IF;
    UPDATE journal SET
        seq = head.seq + appended.number,
        digest = appended.digest,
        size_bytes = head.size_bytes + length(block) + 1
    WHERE id = head.id;
    INSERT INTO receipt (journal, first_seq, last_seq, digest, role)
    VALUES (head.id, head.seq + 1, head.seq + appended.number, appended.digest, session_user);
    RETURN head.seq + appended.number;
END
$$;
REVOKE ALL ON FUNCTION gateway_audit.append, gateway_audit.slot_of FROM PUBLIC;
"""

# Neither role may insert: `append` does that, for records that follow.
_ROLES = """
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['gateway_audit_writer', 'gateway_audit_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA gateway_audit TO %I', name);
    END LOOP;
END
$$;
GRANT SELECT ON gateway_audit.alembic_version, gateway_audit.journal TO gateway_audit_writer;
GRANT EXECUTE ON FUNCTION gateway_audit.append TO gateway_audit_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA gateway_audit TO gateway_audit_reader;
"""


def upgrade() -> None:
    """Make all of it."""
    connection = op.get_bind()
    for script in (_TABLES, _APPEND, _ROLES):
        connection.exec_driver_sql(script.replace("%", "%%"))  # psycopg would take them for its own
