import gzip
import os
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit import indexing
from gateway.audit.calls import Call, Filters
from gateway.audit.filling import Batch
from gateway.audit.index import CHANGED, Index
from gateway.audit.journal import Journal
from gateway.audit.reader import (
    NOT_A_RECORD,
    UNFINISHED,
    Entry,
    Problem,
    read_journal,
    read_journals,
)
from gateway.audit.sql_log import Values
from gateway.errors import UserError
from tests.audit.samples import decision, journals, line_of, outcome

ALL = Filters()


def scanned(directory: Path, filters: Filters) -> list[Call]:
    """What the index must say, read from the journals alone."""
    decisions: list[Entry] = []
    outcomes: dict[str | None, Entry] = {}
    for entry in read_journals(directory, lambda _: None):
        if entry.row.kind == "decision":
            decisions.append(entry)
        elif entry.row.kind == "outcome":
            outcomes.setdefault(entry.row.call, entry)
    calls = []
    for entry in decisions:
        if filters.match(entry.row):
            end = outcomes.get(entry.row.call)
            calls.append(
                Call(entry.row, entry.line, end and end.row, end and end.line)  # None stays None
            )
    return sorted(calls, key=lambda call: (call.decision.time, call.decision.call or ""))


def indexed(directory: Path, filters: Filters = ALL, limit: int | None = None) -> list[Call]:
    with Index.open(directory) as index:
        index.refresh()
        return index.calls(filters, limit)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """Two journals with twenty calls; every fourth has no outcome."""
    writers = [Journal.open(tmp_path, durability="process") for _ in range(2)]
    for number in range(20):
        record = decision(name=str(number))
        writers[number % 2].append(record)
        if number % 4:
            writers[number % 2].append(outcome(record.call))
    yield tmp_path
    for journal in writers:
        journal.close()


agents = st.sampled_from([None, "a", "b", "\x00\U0001f600"])
tools = st.sampled_from([None, "mcp__s__x", "mcp__s__xy", "mcp__t__x", "MCP__s__x"])
effects = st.sampled_from(["allow", "ask", "deny"])
times = st.integers(0, 5).map(lambda second: f"2026-01-01T00:00:0{second}.000000Z")
steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["call", "call", "call", "refresh", "outcome", "torn", "damage", "delete"]),
        st.fixed_dictionaries({"agent": agents, "tool": tools, "decision": effects, "time": times}),
    ),
    max_size=25,
)
filters = st.builds(
    Filters,
    agent=agents,
    tool=tools | st.sampled_from(["mcp__s__*", "*", "mcp__*"]),
    upstream=st.sampled_from([None, "s", "t"]),
    decision=st.none() | effects,
    since=st.none() | times,
    until=st.none() | times,
    session=st.sampled_from([None, "1"]),
)


@settings(max_examples=60, deadline=None)
@given(steps, filters, st.integers(1, 5))
def test_the_index_is_equal_to_a_scan_of_the_journals(
    steps: list[tuple[int, str, dict[str, Any]]], filters: Filters, limit: int
) -> None:
    with TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "journal").mkdir()
        calls: list[str] = []
        generations = [0, 0, 0]  # the name of a journal is not used twice
        with Index.open(directory) as index:
            for number, (writer, step, fields) in enumerate(steps):
                path = directory / "journal" / f"{writer}-{generations[writer]}.jsonl"
                record: dict[str, Any] = {"writer": "w", "seq": number, **fields}
                if step == "refresh":
                    index.refresh()
                elif step == "delete":
                    path.unlink(missing_ok=True)
                    generations[writer] += 1
                else:
                    line = b"torn" if step == "torn" else b"damaged\n"
                    if step == "call":
                        calls.append(f"call-{number:02}")
                        extra = {"session": str(writer), "upstream": "st"[writer % 2]}
                        line = line_of({**record, "kind": "decision", "call": calls[-1], **extra})
                    elif step == "outcome" and calls:
                        line = line_of(
                            {**record, "kind": "outcome", "call": calls.pop(), "status": "ok"}
                        )
                    with path.open("ab") as file:
                        file.write(line)
            index.refresh()
            expected = scanned(directory, filters)
            assert index.calls(filters) == expected
            assert index.calls(filters, limit) == expected[-limit:]
            counted = Counter(call.decision.agent for call in expected)
            tallies = index.tallies("agent", filters, len(counted) + 1)
            assert {tally.name: tally.calls for tally in tallies} == counted
            assert sum(each.calls for each in index.performance(filters)) == 2 * sum(
                call.decision.tool is not None for call in expected
            ) + sum(call.decision.tool is None for call in expected)
            problems: list[Problem] = []
            list(read_journals(directory, problems.append))
            assert index.problems() == sorted(problems)


def test_a_decision_and_its_outcome_are_one_call(log: Path) -> None:
    calls = indexed(log)
    assert len(calls) == 20
    for number, call in enumerate(calls):
        fields = call.fields()
        assert fields["name"] == str(number)
        assert fields["kind"] == "decision"
        if number % 4:
            assert (call.status, fields["status"], fields["duration_us"]) == ("ok", "ok", 1500)
        else:
            assert (call.status, fields["status"]) == ("unknown", "unknown")
            assert "duration_us" not in fields


def test_only_an_allowed_call_without_an_outcome_is_unknown(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, durability="process")
    for effect in ("deny", "ask", "allow"):
        journal.append(decision(decision=effect))
    journal.close()
    assert [call.status for call in indexed(tmp_path)] == [None, None, "unknown"]


def test_an_observed_refusal_went_to_its_upstream(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, durability="process")
    ended = decision(decision="deny", enforced=False)
    journal.append(ended)
    journal.append(outcome(ended.call))
    journal.append(decision(decision="ask", enforced=False))
    journal.close()
    assert [call.status for call in indexed(tmp_path)] == ["ok", "unknown"]
    assert [call.fields()["enforced"] for call in indexed(tmp_path)] == [False, False]


def test_a_call_is_found_by_the_beginning_of_its_id(log: Path) -> None:
    call = indexed(log)[7]
    with Index.open(log) as index:
        assert index.call(call.decision.call or "") == [call]
        assert call in index.call("", limit=20)
        assert len(index.call("0")) == 2
        assert index.call("x") == []


def test_deleting_the_index_loses_nothing(log: Path) -> None:
    before = indexed(log)
    for path in log.glob("index.sqlite*"):
        path.unlink()
    assert indexed(log) == before


@pytest.mark.parametrize(
    "content", [b"", b"no database" * 1000, b"SQLite format 3\x00" + b"\xff" * 9000]
)
def test_a_damaged_index_is_rebuilt(log: Path, content: bytes) -> None:
    before = indexed(log)
    (log / "index.sqlite").write_bytes(content)
    assert indexed(log) == before


def test_an_index_that_is_damaged_inside_is_rebuilt(log: Path) -> None:
    before = indexed(log)
    path = log / "index.sqlite"
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    assert indexed(log) == before


@pytest.mark.parametrize("version", [-1, 1, 99])
def test_an_index_of_another_schema_is_rebuilt(log: Path, version: int) -> None:
    before = indexed(log)
    db = apsw.Connection(os.fspath(log / "index.sqlite"))
    db.execute("DROP TABLE call; CREATE TABLE call (other)")
    db.pragma("user_version", version)
    db.close()
    assert indexed(log) == before


def test_a_reset_by_one_reader_is_noticed_by_another(log: Path) -> None:
    with Index.open(log) as index:
        index.refresh()
        before = index.calls(ALL)
        db = apsw.Connection(os.fspath(log / "index.sqlite"))
        db.config(apsw.SQLITE_DBCONFIG_RESET_DATABASE, 1)
        db.execute("VACUUM")
        db.close()
        assert index.calls(ALL) == before


def test_only_what_was_added_is_read_again(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_from: list[int] = []

    def spy(path: Path, report: Any, offset: int = 0) -> Iterator[Entry]:
        read_from.append(offset)
        return read_journal(path, report, offset)

    monkeypatch.setattr(indexing, "read_journal", spy)
    with Index.open(log) as index:
        index.refresh()
        assert read_from == [0, 0]
        index.refresh()
        assert read_from == [0, 0]
        path = journals(log)[0]
        size_bytes = path.stat().st_size
        with path.open("ab") as file:
            file.write(line_of({"kind": "event", "time": "t", "writer": "w", "seq": 1}))
        index.refresh()
        assert read_from == [0, 0, size_bytes]


def test_a_journal_that_was_cut_or_replaced_is_read_again(log: Path) -> None:
    before = indexed(log)
    path = journals(log)[0]
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]))
    assert indexed(log) == scanned(log, ALL)
    path.write_bytes(b"".join([lines[1], lines[0], *lines[2:], *lines[2:]]))
    assert indexed(log) == scanned(log, ALL)
    path.write_bytes(content)
    assert indexed(log) == before


def test_a_journal_of_which_nothing_could_be_read_is_read_again_when_replaced(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal" / "a.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"damaged\n")
    assert indexed(tmp_path) == []
    path.write_bytes(
        line_of({"kind": "decision", "time": "t", "writer": "w", "seq": 1, "call": "c"})
    )
    assert [call.decision.call for call in indexed(tmp_path)] == ["c"]


def test_a_log_larger_than_one_transaction_is_indexed_whole(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "BATCH_RECORDS", 3)
    assert indexed(log) == scanned(log, ALL)


def test_a_journal_that_was_compressed_is_the_same_and_is_not_indexed_again(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = indexed(log)
    for path in journals(log):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()

    def refuse(*_: object) -> None:
        raise AssertionError("it was indexed again")

    monkeypatch.setattr(Batch, "add", refuse)
    assert indexed(log) == before == scanned(log, ALL)
    with Index.open(log) as index:
        assert list(index.stream(ALL)) == before
    assert {path.name for path in log.iterdir()} <= {
        *("journal", "hmac.key", "heads.json", "heads.lock"),
        *("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"),
    }


def test_an_outcome_is_found_whichever_journal_is_indexed_first(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    base = {"writer": "w", "seq": 1, "call": "c"}
    asked = line_of({**base, "kind": "decision", "time": "1"})
    late = line_of({**base, "kind": "outcome", "time": "3", "status": "late"})
    early = line_of({**base, "kind": "outcome", "time": "2", "status": "early"})
    files = {"a": late, "b": asked, "c": early, "d": asked}
    for first in files:
        (tmp_path / "journal" / f"{first}.jsonl").write_bytes(files[first])
        indexed(tmp_path)
        for name, content in files.items():
            (tmp_path / "journal" / f"{name}.jsonl").write_bytes(content)
        assert [call.status for call in indexed(tmp_path)] == ["early", "early"]
        (tmp_path / "journal" / "c.jsonl").unlink()
        assert [call.status for call in indexed(tmp_path)] == ["late", "late"]
        (tmp_path / "journal" / "b.jsonl").unlink()
        assert [call.status for call in indexed(tmp_path)] == ["late"]
        (tmp_path / "journal" / "a.jsonl").unlink()
        assert [call.status for call in indexed(tmp_path)] == [None]
        (tmp_path / "journal" / "d.jsonl").unlink()
        assert indexed(tmp_path) == []


def test_nothing_of_a_journal_that_is_gone_stays_in_the_index(tmp_path: Path) -> None:
    for name in ("kept", "gone"):
        journal = Journal.open(tmp_path, durability="process")
        journal.append(decision(agent=name, reason=f"{name} for a reason"))
        journal.close()
        if name == "kept":
            indexed(tmp_path)
    for path in journals(tmp_path):
        if b"gone for" in path.read_bytes():
            indexed(tmp_path)
            path.unlink()
    assert [call.decision.agent for call in indexed(tmp_path)] == ["kept"]
    db = apsw.Connection(os.fspath(tmp_path / "index.sqlite"))
    words = {text for (text,) in db.execute("SELECT text FROM word")}
    db.close()
    assert "kept" in words
    assert not any("gone" in text for text in words)


def test_problems_in_the_journals_are_known(log: Path) -> None:
    first, second = journals(log)
    with first.open("ab") as file:
        file.write(b"damaged\n")
    with second.open("ab") as file:
        file.write(b"torn")
    with Index.open(log) as index:
        index.refresh()
        reasons = {problem.journal: problem.reason for problem in index.problems()}
    assert reasons == {first.stem: NOT_A_RECORD, second.stem: UNFINISHED}


_READ = """
import sys
from pathlib import Path
from gateway.audit.calls import Filters
from gateway.audit.index import CHANGED, Index
sys.stdin.readline()
for _ in range(5):
    with Index.open(Path(sys.argv[1])) as index:
        for _ in range(20):
            index.refresh()
            print(len(index.calls(Filters())))
"""


def test_readers_that_refresh_at_once_agree_with_the_journals(tmp_path: Path) -> None:
    writers = [Journal.open(tmp_path, durability="process") for _ in range(2)]
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", _READ, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for reader in readers:
        assert reader.stdin is not None
        reader.stdin.write("go\n")
        reader.stdin.flush()
    while any(reader.poll() is None for reader in readers):
        for journal in writers:
            journal.append(decision())
        time.sleep(0.002)
    for reader in readers:
        counts = [int(line) for line in reader.communicate()[0].split()]
        assert reader.returncode == 0
        assert len(counts) == 100
        assert counts == sorted(counts)
    for journal in writers:
        journal.close()
    assert indexed(tmp_path) == scanned(tmp_path, ALL)


def test_one_snapshot_is_not_changed_by_another_reader(log: Path) -> None:
    with Index.open(log) as index, Index.open(log) as other:
        with index.snapshot():
            assert index.calls(ALL) == []
            other.refresh()
            assert index.positions() == {}
        assert len(index.positions()) == 2


def test_the_index_is_the_owners_alone_whatever_the_umask(log: Path) -> None:
    before = os.umask(0)
    try:
        with Index.open(log) as index:
            index.refresh()
            modes = {stat.S_IMODE(path.stat().st_mode) for path in log.glob("index.sqlite*")}
    finally:
        os.umask(before)
    assert modes == {0o600}


def test_a_missing_directory_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no audit log here"):
        Index.open(tmp_path / "missing")


def test_an_index_in_the_way_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").mkdir()
    with pytest.raises(UserError, match="cannot use the index"):
        Index.open(tmp_path)


def test_a_star_inside_a_tool_filter_is_refused() -> None:
    with pytest.raises(UserError, match="end"):
        Filters(tool="mcp__*__x")


@pytest.mark.parametrize(
    ("filters", "index_name"),
    [
        (Filters(), "call_time"),
        (Filters(agent="a"), "call_agent"),
        (Filters(tool="t"), "call_tool"),
        (Filters(decision="deny"), "call_decision"),
    ],
)
def test_each_common_question_has_its_index(
    log: Path, monkeypatch: pytest.MonkeyPatch, filters: Filters, index_name: str
) -> None:
    plans: list[str] = []
    original = Index._rows

    def explaining(self: Index, statement: str, values: Values) -> list[Any]:
        if not plans:
            plans.extend(
                row[3] for row in original(self, f"EXPLAIN QUERY PLAN {statement}", values)
            )
        return original(self, statement, values)

    monkeypatch.setattr(Index, "_rows", explaining)
    with Index.open(log) as index:
        index.refresh()
        index.calls(filters, 10)
    assert any(f"INDEX {index_name}" in plan for plan in plans), plans
    assert not any("TEMP B-TREE FOR ORDER" in plan for plan in plans), plans


def test_a_record_that_was_changed_in_its_place_is_told_and_not_hidden(log: Path) -> None:
    before = indexed(log)
    path = journals(log)[0]
    status = path.stat()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = b"x" * (len(lines[3]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with Index.open(log) as index:
        index.refresh()
        calls = index.calls(ALL)
        problems = index.problems()
    assert [call.decision for call in calls] == [call.decision for call in before]
    assert [problem.reason for problem in problems] == [CHANGED]
    (told,) = [call for call in calls if not call.decision_line]
    whole = before[calls.index(told)]
    known = {key: value for key, value in whole.fields().items() if key in told.fields()}
    assert told.fields() | known == told.fields()
