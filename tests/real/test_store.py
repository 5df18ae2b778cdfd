"""The shared audit store itself: what it takes, what it refuses, and who may do what in it."""

import gzip
import json
import os
import random
import shutil
import socket
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gateway.audit.files import segment_name
from gateway.audit.journal import Journal
from gateway.audit.latency import slot_of
from gateway.audit.postgres.address import Address, StoreUnavailable
from gateway.audit.postgres.copying import Copier
from gateway.audit.postgres.migrating import migrate
from gateway.audit.postgres.schema import REVISION, require_schema
from gateway.audit.postgres.source import Differs, sources
from gateway.audit.postgres.verifying import verify_store
from gateway.audit.records import Event
from gateway.audit.shared_journal import SharedJournal
from gateway.errors import UserError
from tests.audit.samples import decision, outcome
from tests.real.certificates import certificate_for
from tests.real.store import PASSWORD, Store, copy, journal_lines, store_of

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with store_of() as store:
        yield store


def write(directory: Path, calls: int, **changes: Any) -> Journal:
    journal = Journal.open(directory, durability="process")
    for _ in range(calls):
        record = decision(**changes)
        journal.append(record)
        journal.append(outcome(record.call))
    return journal


def chained(writer: str, number: int, prev: str | None, **changes: Any) -> bytes:
    """A line as a journal of `writer` would have it."""
    record = {"kind": "event", "event": "x", "time": "2026-01-01T00:00:00.000000Z", "v": 1}
    record |= {"writer": writer, "seq": number, "prev": prev, **changes}
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def append(address: Address, writer: str, after: int, *lines: bytes) -> object:
    with address.connect() as connection:
        row = connection.execute(
            "SELECT gateway_audit.append(%s, %s, %b)", (writer, after, b"\n".join(lines))
        ).fetchone()
        assert row is not None
        return row[0]


def test_records_stand_in_the_store_byte_for_byte_and_once(store: Store, tmp_path: Path) -> None:
    journals = [write(tmp_path, 40), write(tmp_path, 1)]
    copy(tmp_path, store.gateway)
    for journal in journals:
        record = decision()
        journal.append(record)
        journal.close()
    copy(tmp_path, store.gateway)
    copy(tmp_path, store.gateway)
    kept, lines = store.lines(), journal_lines(tmp_path)
    assert {writer: kept[writer] for writer in lines} == lines


def test_the_journal_of_the_hook_is_copied_too(store: Store, tmp_path: Path) -> None:
    for _ in range(3):
        SharedJournal.open(tmp_path, durability="process").append(decision())
        copy(tmp_path, store.gateway)
    (lines,) = journal_lines(tmp_path).values()
    assert store.lines()[json.loads(lines[0])["writer"]] == lines


def test_the_hooks_of_two_machines_have_journals_of_their_own(store: Store, tmp_path: Path) -> None:
    for machine in ("one", "two"):
        SharedJournal.open(tmp_path / machine, durability="process").append(decision())
        copy(tmp_path / machine, store.address(machine))
    kept = store.lines()
    for machine in ("one", "two"):
        ((writer, lines),) = journal_lines(tmp_path / machine).items()
        assert kept[writer] == lines


def test_hostile_texts_are_copied(store: Store, tmp_path: Path) -> None:
    chance = random.Random(1)
    letters = "".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(1024))
    texts = [
        "nul \0 in it\0\0",
        letters,
        "\\u0000",
        "\\\0\\\\\0",
        "\u202e\x1b[31m",
        "'; DROP TABLE x; --",
        "\n\r\t",
    ]
    journal = Journal.open(tmp_path, durability="process")
    for text in texts:
        record = decision(tool=text, name=text, agent=text, reason=text, session=text)
        journal.append(record)
        journal.append(outcome(record.call, status="tool_error"))
        journal.append(Event(time=record.time, event="x", session=text, data={"tool": text}))
    journal.close()
    copy(tmp_path, store.gateway)
    assert store.lines()[journal.writer] == journal_lines(tmp_path)[journal.writer]
    assert "columns" not in {finding.code for finding in verify_store(store.reader).findings}


def test_a_torn_last_line_is_not_copied(store: Store, tmp_path: Path) -> None:
    journal = write(tmp_path, 3)
    path = tmp_path / "journal" / f"{journal.writer}.jsonl"
    with path.open("ab") as file:
        file.write(b'{"half":')
    copy(tmp_path, store.gateway)
    assert store.lines()[journal.writer] == journal_lines(tmp_path)[journal.writer]


def test_a_record_that_was_changed_after_it_was_copied_is_told(
    store: Store, tmp_path: Path
) -> None:
    journal = write(tmp_path, 3)
    copy(tmp_path, store.gateway)
    before = store.lines()[journal.writer]
    path = tmp_path / "journal" / f"{journal.writer}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-1] = lines[-1].replace(b'"ok"', b'"no"')
    path.write_bytes(b"".join(lines))
    with pytest.raises(Differs, match="record 7 is another one in the store"):
        copy(tmp_path, store.gateway)
    path.write_bytes(b"".join(lines[:4]))
    with pytest.raises(Differs, match="the store has 7 records of it, the journal 4"):
        copy(tmp_path, store.gateway)
    assert store.lines()[journal.writer] == before


def test_records_up_to_one_that_does_not_follow_are_copied(store: Store, tmp_path: Path) -> None:
    journal = write(tmp_path, 50)
    path = tmp_path / "journal" / f"{journal.writer}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[60] = lines[60].replace(b'"time":"2', b'"time":"3')
    path.write_bytes(b"".join(lines))
    # The changed one still follows; the next one does not follow it.
    with pytest.raises(Differs, match="refuses record 62: a record does not follow"):
        copy(tmp_path, store.gateway)
    assert len(store.lines()[journal.writer]) == 61
    lines[20] = b"not a record\n"
    other = tmp_path / "other"
    (other / "journal").mkdir(parents=True)
    (other / "journal" / "another.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(Differs, match="refuses record 1"):
        copy(other, store.gateway)


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 3},
        {"seq": 1},
        {"prev": "0" * 64},
        {"prev": None},
        {"writer": "somebody"},
        {"kind": None},
        {"time": None},
    ],
    ids=str,
)
def test_what_does_not_follow_is_refused_by_the_server(
    store: Store, changes: dict[str, Any]
) -> None:
    writer = f"w-{sha256(str(changes).encode()).hexdigest()[:8]}"
    first = chained(writer, 1, "0" * 64)
    assert append(store.gateway, writer, 0, first) == 1
    good: dict[str, Any] = {"writer": writer, "number": 2, "prev": sha256(first).hexdigest()}
    named = {name: changes.get(name, value) for name, value in good.items()}
    wrong = chained(**named, **{key: changes[key] for key in changes.keys() - good.keys()})
    with pytest.raises(psycopg.Error) as raised:
        append(store.gateway, writer, 1, wrong)
    assert raised.value.sqlstate in ("GA001", "23502", "23505")
    assert store.lines()[writer] == [first]


def test_what_the_store_has_already_is_not_taken_again(store: Store) -> None:
    first = chained("again", 1, "0" * 64)
    assert append(store.gateway, "again", 0, first) == 1
    assert append(store.gateway, "again", 0, first) is None
    assert append(store.gateway, "again", 5, first) is None
    assert store.lines()["again"] == [first]


def test_a_journal_belongs_to_the_role_that_began_it(store: Store) -> None:
    first = chained("mine", 1, "0" * 64)
    append(store.gateway, "mine", 0, first)
    second = chained("mine", 2, sha256(first).hexdigest())
    with pytest.raises(psycopg.Error, match="another role"):
        append(store.address("two"), "mine", 1, second)
    assert append(store.owner, "mine", 1, second) == 2


@pytest.mark.parametrize("user", ["one", "looker"])
@pytest.mark.parametrize("table", ["decision", "outcome", "event", "journal", "receipt"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE gateway_audit.{0} SET {1} = {1}",
        "DELETE FROM gateway_audit.{0}",
        "TRUNCATE gateway_audit.{0} CASCADE",
        "INSERT INTO gateway_audit.{0} DEFAULT VALUES",
        "ALTER TABLE gateway_audit.{0} ADD COLUMN x text",
        "DROP TABLE gateway_audit.{0}",
        "CREATE TRIGGER t BEFORE INSERT ON gateway_audit.{0} FOR EACH ROW "
        "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ],
)
def test_gateways_and_readers_may_change_nothing(
    store: Store, user: str, table: str, statement: str
) -> None:
    column = "name" if table == "journal" else "journal"
    with (
        store.address(user).connect() as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.format(table, column))


def test_a_gateway_reads_no_records_and_a_reader_appends_none(store: Store) -> None:
    for statement in (
        *(f"SELECT * FROM gateway_audit.{name}" for name in ("decision", "calls", "events")),
        "CREATE TABLE gateway_audit.x (y text)",
        "SELECT gateway_audit.slot_of(1)",
    ):
        with (
            store.gateway.connect() as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(statement)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        append(store.reader, "of-a-reader", 0, chained("of-a-reader", 1, "0" * 64))


def test_durations_have_the_slots_of_the_embedded_index(store: Store) -> None:
    durations = [-5, 0, 63, 64, 65, 127, 128, *(2**n + d for n in range(7, 53) for d in (-1, 0, 7))]
    with store.owner.connect() as connection:
        rows = connection.execute(
            "SELECT d, gateway_audit.slot_of(d) FROM unnest(%s::bigint[]) AS d", (durations,)
        ).fetchall()
    assert rows == [(duration, slot_of(duration)) for duration in durations]


def test_of_two_outcomes_the_first_by_time_counts_whichever_comes_first(
    store: Store, tmp_path: Path
) -> None:
    record = decision()
    times = [f"2026-01-01T00:00:0{second}.000000Z" for second in (5, 3, 9)]
    for number, time in enumerate(times):
        journal = Journal.open(tmp_path, durability="process")
        if not number:
            journal.append(record)
        journal.append(outcome(record.call, time=time))
        journal.close()
        copy(tmp_path, store.gateway)
    with store.owner.connect() as connection:
        rows = connection.execute(
            "SELECT outcome_time FROM gateway_audit.calls WHERE call = %s", (record.call,)
        ).fetchall()
    assert rows == [(times[1],)]


def test_the_server_notes_when_it_got_what(store: Store, tmp_path: Path) -> None:
    journal = write(tmp_path, 2)
    copy(tmp_path, store.gateway)
    journal.close()
    copy(tmp_path, store.gateway)
    lines = journal_lines(tmp_path)[journal.writer]
    with store.owner.connect() as connection:
        rows = connection.execute(
            "SELECT first_seq, last_seq, receipt.digest, receipt.role, "
            "received_at > now() - interval '1 minute' FROM gateway_audit.receipt "
            "JOIN gateway_audit.journal ON journal.id = journal WHERE name = %s ORDER BY 1",
            (journal.writer,),
        ).fetchall()
    digests = [sha256(line).hexdigest() for line in lines]
    assert rows == [(1, 5, digests[4], "one", True), (6, 6, digests[5], "one", True)]


def test_migrating_again_changes_nothing(store: Store) -> None:
    assert migrate(store.owner) == (REVISION, REVISION)


@pytest.mark.parametrize(
    ("revision", "sentence"),
    [
        ("0000", "is older than this program's, .*; run `gateway audit migrate`"),
        ("9999", "is newer than this program's, .*; upgrade the program"),
    ],
)
def test_another_schema_is_told_and_left_alone(store: Store, revision: str, sentence: str) -> None:
    set_to = "UPDATE gateway_audit.alembic_version SET version_num = %s"
    with store.owner.connect() as owner:
        owner.execute(set_to, (revision,))
        try:
            with (
                store.gateway.connect() as connection,
                pytest.raises(StoreUnavailable, match=sentence),
            ):
                require_schema(connection)
            if revision > REVISION:
                with pytest.raises(UserError, match=sentence):
                    migrate(store.owner)
        finally:
            owner.execute(set_to, (REVISION,))


def test_a_database_without_the_schema_or_the_right_to_it_is_told(store: Store) -> None:
    empty = Address(store.postgres.dsn)
    with (
        empty.connect() as connection,
        pytest.raises(StoreUnavailable, match="has no tables of the gateway"),
    ):
        require_schema(connection)
    with store.postgres.connect() as connection:
        connection.execute(f"CREATE ROLE nobody LOGIN PASSWORD '{PASSWORD}'")
    with (
        store.address("nobody").connect() as connection,
        pytest.raises(StoreUnavailable, match="grant it gateway_audit_writer"),
    ):
        require_schema(connection)
    with pytest.raises(UserError, match="migrate as the role that owns it"):
        migrate(store.address("nobody"))
    with pytest.raises(UserError, match="may not do all that a migration does"):
        migrate(Address(store.postgres.address("nobody", PASSWORD)))


def test_a_reader_without_the_right_is_told_which_it_needs(store: Store, tmp_path: Path) -> None:
    with store.reader.connect() as connection:
        copier = Copier(connection)
        write(tmp_path, 1).close()
        (source,) = sources(tmp_path).values()
        with pytest.raises(StoreUnavailable, match="may not append; grant it gateway_audit_writer"):
            copier.copy(source)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://one:{password}@/nowhere?host={directory}",
        "postgresql://one:{password}x@/audit?host={directory}",
        "postgresql://one:{password}@/audit?host={directory}/nowhere",
        "postgresql://one:{password}@127.0.0.1:1/audit",
        "postgresql://one:{password}@127.0.0.1:1/audit?sslmode=verify-full&sslrootcert=/none",
        "postgresql://one:{password}%zz@/audit?host={directory}",
        "postgresql://one:{password}@/audit?host={directory}&nonsense={password}",
        "postgresql://one:{password}@host:{password}/audit",
        "mysql://one:{password}@/audit",
    ],
)
def test_no_error_tells_the_password(store: Store, url: str) -> None:
    address = Address(url.format(password=PASSWORD, directory=store.postgres.directory))
    with pytest.raises(StoreUnavailable) as raised:
        address.connect()
    assert PASSWORD not in f"{raised.value!r} {raised.value.__cause__} {address!r}"
    assert str(raised.value)


def test_the_application_has_the_name_that_the_url_gives_it(store: Store) -> None:
    with Address(f"{store.gateway.url}&application_name=branch-7").connect() as connection:
        assert connection.execute("SHOW application_name").fetchone() == ("branch-7",)
    with store.gateway.connect() as connection:
        assert connection.execute("SHOW application_name").fetchone() == ("mcp-tool-gateway",)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_tls_is_as_the_url_says(tmp_path: Path) -> None:
    another, _ = certificate_for("localhost", tmp_path / "another")
    with store_of() as store:
        directory = store.postgres.directory
        certificate, key = certificate_for("localhost", directory / "tls")
        if os.geteuid() == 0:
            shutil.chown(key, directory.owner())
        port = free_port()
        store.postgres.halt()
        store.postgres.resume(
            listen_addresses="127.0.0.1",
            port=str(port),
            ssl="on",
            ssl_cert_file=str(certificate),
            ssl_key_file=str(key),
        )
        url = f"postgresql://one:{PASSWORD}@localhost:{port}/audit?sslmode=verify-full&sslrootcert="
        with Address(f"{url}{certificate}").connect() as connection:
            require_schema(connection)
            used = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert connection.execute(used).fetchone() == (True,)
        for wrong in (another, tmp_path / "none.pem"):
            with pytest.raises(StoreUnavailable, match="certificate"):
                Address(f"{url}{wrong}").connect()
        with pytest.raises(StoreUnavailable, match="host name"):
            Address(f"{url}{certificate}".replace("localhost", "127.0.0.1")).connect()
        with pytest.raises(StoreUnavailable, match="no encryption"):
            Address(f"{url}".replace("verify-full", "disable")).connect()


ALTERED = {
    "a line": (
        "UPDATE gateway_audit.decision SET line = "
        "convert_to(replace(convert_from(line, 'UTF8'), 'allow', 'deny'), 'UTF8') WHERE seq = 8",
        {("columns", 8), ("changed", 8)},
    ),
    "a line becomes nonsense": (
        "UPDATE gateway_audit.outcome SET line = '\\xff00' WHERE seq = 9",
        {("columns", 9), ("damaged", 0)},
    ),
    "a record is gone": (
        "DELETE FROM gateway_audit.outcome WHERE seq = 9",
        {("missing", 10)},
    ),
    "two swapped": (
        "UPDATE gateway_audit.outcome SET line = (SELECT line FROM gateway_audit.outcome AS other "
        "WHERE other.seq = 16 - outcome.seq) WHERE seq IN (7, 9)",
        {("columns", 7), ("columns", 9)},
    ),
    "a column": (
        "UPDATE gateway_audit.decision SET agent = 'other' WHERE seq = 4",
        {("columns", 4)},
    ),
    "the end is gone": (
        "DELETE FROM gateway_audit.event WHERE seq = 43",
        {("rewritten", 43)},
    ),
    "the end is gone and the journal's row says so": (
        "DELETE FROM gateway_audit.event WHERE seq = 43; "
        "UPDATE gateway_audit.journal SET seq = 42, digest = "
        "(SELECT encode(sha256(line), 'hex') FROM gateway_audit.decision WHERE seq = 42)",
        {("rewritten", 43)},
    ),
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Path]]:
    """A store with the 43 records of one closed journal, which came in two blocks."""
    directory = tmp_path_factory.mktemp("filled")
    journal = write(directory, 20)
    with store_of(directory) as store:
        journal.append(decision())
        journal.close()
        copy(directory, store.gateway)
        yield store, directory


@pytest.mark.parametrize("what", ALTERED)
def test_verify_names_what_was_altered_in_the_database(
    filled: tuple[Store, Path], what: str
) -> None:
    store, directory = filled
    statements, expected = ALTERED[what]
    whole = verify_store(store.reader)
    assert whole.clean
    assert (whole.records, len(whole.journals)) == (43, 1)
    with store.owner.connect() as owner:
        for statement in statements.split("; "):
            assert owner.execute(statement).rowcount > 0
        report = verify_store(store.reader)
        owner.execute(
            "TRUNCATE gateway_audit.journal, gateway_audit.receipt, gateway_audit.decision, "
            "gateway_audit.outcome, gateway_audit.event"
        )
    copy(directory, store.gateway)
    assert not report.clean
    assert expected <= {(finding.code, finding.seq) for finding in report.findings}


def test_a_journal_that_is_not_copied_yet_is_no_tampering(tmp_path: Path) -> None:
    first = write(tmp_path, 5)
    second = write(tmp_path, 5)
    with store_of() as store, store.gateway.connect() as connection:
        Copier(connection).copy(sources(tmp_path)[second.writer])
        report = verify_store(store.reader)
        assert report.clean
        assert "not-copied" in {finding.code for finding in report.findings}
        copy(tmp_path, store.gateway)
        assert verify_store(store.reader).clean
    first.close()
    second.close()


def in_segments(directory: Path, journal: Journal, *ends: int) -> list[Path]:
    """Part a journal's file into segments that end after these records."""
    first = directory / "journal" / f"{journal.writer}.jsonl"
    lines = first.read_bytes().splitlines(keepends=True)
    paths = []
    for number, (begin, end) in enumerate(pairwise((0, *ends, len(lines))), 1):
        name = segment_name(journal.writer, number)
        paths.append(first.with_name(f"{name}.jsonl"))
        paths[-1].write_bytes(b"".join(lines[begin:end]))
    return paths


def compress(path: Path) -> None:
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def test_a_journal_in_segments_is_one_chain(store: Store, tmp_path: Path) -> None:
    journal = write(tmp_path, 20)
    lines = journal_lines(tmp_path)[journal.writer]
    segments = in_segments(tmp_path, journal, 10, 30)
    left = segments.pop()
    rest = left.read_bytes()
    left.unlink()
    compress(segments[0])
    copy(tmp_path, store.gateway)
    assert store.lines()[journal.writer] == lines[:30]
    compress(segments[1])
    left.write_bytes(rest)
    copy(tmp_path, store.gateway)
    assert store.lines()[journal.writer] == lines
    # Retention deletes what was copied; what comes later still follows.
    segments[0].with_name(f"{segments[0].name}.gz").unlink()
    segments[1].with_name(f"{segments[1].name}.gz").unlink()
    more = chained(journal.writer, len(lines) + 1, sha256(lines[-1]).hexdigest())
    left.with_name(f"{segment_name(journal.writer, 4)}.jsonl").write_bytes(more + b"\n")
    left.unlink()
    copy(tmp_path, store.gateway)
    assert store.lines()[journal.writer] == [*lines, more]


def test_what_was_deleted_before_it_was_copied_is_told(store: Store, tmp_path: Path) -> None:
    journal = write(tmp_path, 20)
    in_segments(tmp_path, journal, 10, 30)[0].unlink()
    with pytest.raises(Differs, match="record 1 was not copied and is not in the journal any more"):
        copy(tmp_path, store.gateway)
    assert journal.writer not in store.lines()


def test_a_damaged_compressed_segment_is_told(store: Store, tmp_path: Path) -> None:
    journal = write(tmp_path, 20)
    first, _ = in_segments(tmp_path, journal, 30)
    compress(first)
    packed = first.with_name(f"{first.name}.gz")
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(Differs, match="is damaged"):
        copy(tmp_path, store.gateway)


def test_how_much_of_each_segment_is_copied(store: Store, tmp_path: Path) -> None:
    journal = write(tmp_path, 20)
    other = write(tmp_path, 2)
    paths = in_segments(tmp_path, journal, 10, 30)
    (last,) = paths[2:]
    rest = last.read_bytes()
    last.unlink()
    with store.gateway.connect() as connection:
        copier = Copier(connection)
        assert copier.copied(sources(tmp_path)) == {}
        copier.copy(sources(tmp_path)[journal.writer])
        last.write_bytes(rest)
        copied = copier.copied(sources(tmp_path))
        sizes = [path.stat().st_size for path in paths]
        assert copied == {path.stem: size for path, size in zip(paths[:2], sizes, strict=False)}
        assert other.writer not in copied
        copier.copy(sources(tmp_path)[journal.writer])
        assert copier.copied(sources(tmp_path))[paths[2].stem] == sizes[2]
