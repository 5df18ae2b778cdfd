"""Writes a log, verifies it, indexes it, asks it everything, and does the same with PostgreSQL."""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from bench.audit.generate import generate
from bench.places import WORK
from gateway.audit.calls import Cursor, Filters
from gateway.audit.index import Index
from gateway.audit.log import CHANGES, AuditLog
from gateway.audit.segments import compress
from gateway.audit.verify.verification import verify
from tests.real.installed import SetupMissingError

AGAIN: Final = 5
"""How often a question is asked again, for the median."""

T = TypeVar("T")


class Asked(msgspec.Struct, frozen=True):
    """How long one question took, in milliseconds: at first, and the median of the next ones.

    `processor_ms` is what this process computed for it, without what others took meanwhile.
    """

    question: str
    first_ms: float
    again_ms: float
    processor_ms: float
    answers: int


class Stored(msgspec.Struct, frozen=True):
    """What one store is like with the whole log in it."""

    filling_s: float
    processor_s: float  # of this process
    size_bytes: int
    asked: list[Asked]


class Results(msgspec.Struct, frozen=True):
    """One run; rates are in records a second."""

    started: str
    records: int
    calls: int
    append_s: float
    append_processor_s: float
    journal_bytes: int
    packed_bytes: int
    verify_s: float
    cpus: int
    load: tuple[float, float]
    index: Stored
    same_after_deletion: bool
    packed_show_ms: float
    """One call of a compressed segment, which is unpacked for it."""
    postgres: Stored | None


def measure(records: int, *, postgres: bool, say: Callable[[str], None]) -> Results:
    """Take all figures with a log of so many records, in a directory that is gone afterwards."""
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    load = os.getloadavg()[0]
    WORK.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="audit-", dir=WORK))
    try:
        say(f"writing {records:,} records")
        written = generate(directory, records)
        _settled(directory)
        journal_bytes = _size(directory / "journal")
        say("verifying")
        (verify_s, _), report = _timed(lambda: verify(directory, processes=os.cpu_count() or 1))
        if any(finding.severity == "tampering" for finding in report.findings):
            raise RuntimeError(f"the log does not verify: {report.findings}")
        say("indexing")
        index, answers = _index(directory)
        say("indexing again")
        for path in directory.glob("index.sqlite*"):
            path.unlink()
        again = _answers_of(directory)
        store = None
        if postgres:
            say("copying to PostgreSQL")
            try:
                store = _postgres(directory)
            except SetupMissingError as error:
                say(f"PostgreSQL is left out: {error}")
        say("compressing")
        packed_bytes, packed_show_ms = _compressed(directory)
        return Results(
            started=started,
            records=written.records,
            calls=written.calls,
            append_s=written.seconds,
            append_processor_s=written.processor_s,
            journal_bytes=journal_bytes,
            packed_bytes=packed_bytes,
            verify_s=verify_s,
            cpus=os.cpu_count() or 1,
            load=(load, os.getloadavg()[0]),
            index=index,
            same_after_deletion=answers == again,
            packed_show_ms=packed_show_ms,
            postgres=store,
        )
    finally:
        shutil.rmtree(directory)


def questions(log: AuditLog) -> dict[str, Callable[[], Sequence[Any]]]:
    """Each question of docs/audit-questions.md, and what answers it."""
    agent, tool = "search-engineer-00", "mcp__upstream-00__search_documents"
    rare = "run-engineer-35"
    since, until = "2026-01-10T00:00:00.000000Z", "2026-01-12T00:00:00.000000Z"
    two_days = Filters(agent=agent, since=since, until=until)
    (some,) = log.calls(Filters(agent=agent), 1, before=Cursor(until, ""))
    return {
        "the newest 1000 calls": lambda: log.calls(Filters(), 1000, lines=False),
        "the same with their records": lambda: log.calls(Filters(), 1000),
        "an agent's calls in two days (1000)": lambda: log.calls(two_days, 1000, lines=False),
        "a seldom seen agent's last 1000": lambda: log.calls(
            Filters(agent=rare), 1000, lines=False
        ),
        "an agent's calls of one tool (1000)": lambda: log.calls(
            Filters(agent=agent, tool=tool), 1000, lines=False
        ),
        "a page from the middle (1000)": lambda: log.calls(
            Filters(), 1000, before=Cursor(since, ""), lines=False
        ),
        "who called a tool": lambda: log.callers(Filters(tool=tool)),
        "what was refused, and why": lambda: log.refusals(Filters(), 100),
        "what changed (100)": lambda: log.events(Filters(), 100, beginnings=CHANGES),
        "who called what (for: never used)": lambda: log.callers(Filters()),
        "slow and failing upstreams": lambda: log.performance(Filters()),
        "the same in a fortnight": lambda: log.performance(Filters(since=since)),
        "activity by the hour, a month": lambda: log.activity("hour", Filters()),
        "activity by the day, one agent": lambda: log.activity("day", Filters(agent=agent)),
        "the busiest tools": lambda: log.tallies("tool", Filters(), 10),
        "one call, by the beginning of its id": lambda: log.call((some.decision.call or "")[:18]),
        "its story": lambda: [log.story(some)],
    }


def _ask(log: AuditLog) -> tuple[list[Asked], dict[str, Any]]:
    asked: list[Asked] = []
    answers: dict[str, Any] = {}
    for question, answer in questions(log).items():
        first, answers[question] = _timed(answer)
        again = [_timed(answer)[0] for _ in range(AGAIN)]
        clock_s, processor_s = map(statistics.median, zip(*again, strict=True))
        found = len(answers[question])
        asked.append(Asked(question, first[0] * 1e3, clock_s * 1e3, processor_s * 1e3, found))
    return asked, answers


def _index(directory: Path) -> tuple[Stored, dict[str, Any]]:
    with Index.open(directory) as index:
        filling, _ = _timed(index.refresh)
        asked, answers = _ask(index)
    size_bytes = sum(path.stat().st_size for path in directory.glob("index.sqlite*"))
    return Stored(*filling, size_bytes, asked), answers


def _answers_of(directory: Path) -> dict[str, Any]:
    with Index.open(directory) as index:
        index.refresh()
        return {question: answer() for question, answer in questions(index).items()}


def _postgres(directory: Path) -> Stored:
    # The server and its roles as the tests have them, without what tests need to look at.
    import psycopg

    from gateway.audit.postgres.log import PostgresLog
    from tests.real.store import copy, store_of

    with store_of(None, shared_buffers="256MB", log_statement="none", max_wal_size="4GB") as store:
        filling, _ = _timed(lambda: copy(directory, store.gateway))
        with store.owner.connect() as connection:
            ((size_bytes,),) = connection.execute("SELECT pg_database_size('audit')").fetchall()
        server = store.postgres.address("postgres", database="audit")
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")  # as the server does by itself after a while
        with _closing(PostgresLog.open(store.reader)) as log:
            asked, _ = _ask(log)
    return Stored(*filling, size_bytes, asked)


def _compressed(directory: Path) -> tuple[int, float]:
    """The size of all journals compressed, and how long one call of them takes to be shown."""
    for path in sorted((directory / "journal").glob("*.jsonl")):
        compress(path)
    with Index.open(directory) as index:
        index.refresh()
        (some,) = index.calls(Filters(until="2026-01-15T00:00:00.000000Z"), 1, lines=False)
        (show_s, _), _ = _timed(lambda: index.call(some.decision.call or ""))
    return _size(directory / "journal"), show_s * 1e3


def _settled(directory: Path) -> None:
    """Wait until no segment is being compressed any more."""
    while any((directory / "journal").glob("*.packing")):
        time.sleep(0.1)


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


def _timed(work: Callable[[], T]) -> tuple[tuple[float, float], T]:
    """How long it took, by the clock and of this process's computing, and what came of it."""
    clock_s, processor_s = time.perf_counter(), time.process_time()
    result = work()
    return (time.perf_counter() - clock_s, time.process_time() - processor_s), result


@contextmanager
def _closing(log: Any) -> Iterator[Any]:
    try:
        yield log
    finally:
        log.close()
