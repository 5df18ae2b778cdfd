import asyncio
import contextlib
import errno
import os
import random
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gateway.audit.errors import AuditUnavailable
from gateway.audit.journal import Journal
from gateway.audit.reader import UNFINISHED, Problem, read_journals
from gateway.errors import UserError
from tests.audit.samples import decision, journals, outcome, verified


def test_each_record_is_chained_to_the_one_before(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, durability="process", version="1.2.3")
    for number in range(500):
        record = decision(name=f"tool\n{number}" * (number % 7))
        journal.append(record)
        journal.append(outcome(record.call))
    journal.close()
    [path] = journals(tmp_path)
    records = verified(path)
    assert len(records) == 1002
    assert records[0]["event"] == "journal.opened"
    assert records[0]["data"] == {"pid": os.getpid(), "durability": "process", "version": "1.2.3"}
    assert records[-1]["event"] == "journal.closed"
    assert path.stem == journal.writer


def test_a_record_is_in_the_file_before_its_continuation_runs(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, durability="process")
    seen: list[object] = []

    def then(error: AuditUnavailable | None) -> None:
        seen.append((error, len(journals(tmp_path)[0].read_bytes().splitlines())))

    journal.append(decision(), then)
    assert seen == [(None, 2)]
    assert journal.writable
    journal.close()


def test_durability_process_imports_no_event_loop(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from gateway.audit.journal import Journal
Journal.open(Path(sys.argv[1]), durability="process").close()
print("asyncio" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert done.stdout == "False\n"


def test_everything_is_the_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Journal.open(tmp_path / "state" / "audit", durability="process").close()
    finally:
        os.umask(before)
    modes = {
        str(path.relative_to(tmp_path).parent / path.suffix): stat.S_IMODE(path.stat().st_mode)
        for path in tmp_path.rglob("*")
    }
    assert modes == {
        ".": 0o700,
        "state": 0o700,
        "state/audit": 0o700,
        "state/audit/.json": 0o600,
        "state/audit/.lock": 0o600,
        "state/audit/journal/.jsonl": 0o600,
    }


def test_a_journal_directory_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal").chmod(0o750)
    with pytest.raises(UserError, match="chmod 700"):
        Journal.open(tmp_path, durability="process")


def test_a_file_in_the_way_of_the_directory_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "audit").touch()
    with pytest.raises(UserError, match="cannot make the directory"):
        Journal.open(tmp_path / "audit", durability="process")


def test_two_journals_never_share_a_file(tmp_path: Path) -> None:
    first = Journal.open(tmp_path, durability="process")
    second = Journal.open(tmp_path, durability="process")
    for journal in (first, second, first):
        journal.append(decision())
    first.close()
    second.close()
    assert [len(verified(path)) for path in journals(tmp_path)] in ([4, 3], [3, 4])


def test_a_fork_of_the_writer_cannot_write(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from gateway.audit.errors import AuditUnavailable
from gateway.audit.journal import Journal
from gateway.audit.records import Event, timestamp
journal = Journal.open(Path(sys.argv[1]), durability="process")
if os.fork() == 0:
    try:
        journal.append(Event(time=timestamp(), event="x"))
    except AuditUnavailable:
        journal.close()
        os._exit(7)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
journal.append(Event(time=timestamp(), event="y"))
journal.close()
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    events = [record["event"] for record in verified(journals(tmp_path)[0])]
    assert events == ["journal.opened", "y", "journal.closed"]


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, durability="process")
    journal.close()
    journal.close()
    with pytest.raises(AuditUnavailable, match="closed"):
        journal.append(decision())


_WRITE_FOREVER = """
import sys
from pathlib import Path
from gateway.audit.journal import Journal
from tests.audit.samples import decision, outcome
journal = Journal.open(Path(sys.argv[1]), durability="process")
print("writing", flush=True)
while True:
    record = decision(reason="x" * 900)
    journal.append(record, lambda error: sys.stdout.write(record.call + "\\n"))
    journal.append(outcome(record.call))
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_writer_leaves_whole_records_and_all_that_it_said_were_written(
    tmp_path: Path, seed: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", _WRITE_FOREVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    said: list[str] = []
    collector = threading.Thread(target=lambda out: said.extend(out), args=(process.stdout,))
    collector.start()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(random.Random(seed).uniform(0.01, 0.2))
    process.send_signal(signal.SIGKILL)
    process.wait()
    collector.join()
    process.stdout.close()

    problems: list[Problem] = []
    entries = list(read_journals(tmp_path, problems.append))
    assert [problem.reason for problem in problems] in ([], [UNFINISHED])
    [path] = journals(tmp_path)
    if problems:
        with path.open("r+b") as file:
            file.truncate(problems[0].offset)
    assert len(verified(path)) == len(entries)
    written = {entry.row.call for entry in entries if entry.row.kind == "decision"}
    assert len(said) > 0
    assert {call.strip() for call in said if call.endswith("\n")} <= written


_FULL_DISK = """
import resource, sys
from pathlib import Path
from gateway.audit.errors import AuditUnavailable
from gateway.audit.journal import Journal
from tests.audit.samples import decision, journals

def limit(size_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

directory = Path(sys.argv[1])
answers = []
if sys.argv[2] == "opening":
    limit(100)
journal = Journal.open(directory, durability="process")
if sys.argv[2] == "appending":
    limit(2000)
    while journal.writable:
        journal.append(decision(name="before"), answers.append)
    assert [type(answer) for answer in answers[-2:]] == [type(None), AuditUnavailable]
    size_bytes = journals(directory)[0].stat().st_size
else:
    assert not journal.writable
    assert journals(directory) == []
for _ in range(3):
    try:
        journal.append(decision(name="lost"))
    except AuditUnavailable:
        continue
    raise SystemExit("a record was taken by a full disk")
if sys.argv[2] == "appending":
    assert journals(directory)[0].stat().st_size == size_bytes
assert not journal.writable
limit(resource.RLIM_INFINITY)
journal.append(decision(name="after"), answers.append)
assert answers[-1] is None
assert journal.writable
journal.append(decision(name="after"))
journal.close()
"""


@pytest.mark.parametrize(("when", "lost"), [("appending", 4), ("opening", 3)])
def test_a_full_disk_refuses_records_and_recovers_with_a_gap_record(
    tmp_path: Path, when: str, lost: int
) -> None:
    subprocess.run([sys.executable, "-c", _FULL_DISK, str(tmp_path), when], check=True)
    [path] = journals(tmp_path)
    records = verified(path)
    names = [record.get("event") or record["name"] for record in records]
    assert "lost" not in names
    assert names[names.index("journal.gap") :] == [
        "journal.gap",
        "after",
        "after",
        "journal.closed",
    ]
    assert records[names.index("journal.gap")]["data"] == {"lost": lost, "unsynced": 0}


def test_a_file_that_cannot_even_be_cut_back_is_left_for_another(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, durability="process")
    journal.append(decision(name="before"))
    [first] = journals(tmp_path)
    full = os.open("/dev/full", os.O_WRONLY)
    for link in Path("/proc/self/fd").iterdir():
        if link.is_symlink() and link.readlink() == first:
            os.dup2(full, int(link.name))
    os.close(full)
    with pytest.raises(AuditUnavailable, match="No space left"):
        journal.append(decision(name="lost"))
    assert not journal.writable
    journal.append(decision(name="after"))
    assert journal.writable
    journal.close()
    [second] = set(journals(tmp_path)) - {first}
    assert [record.get("name") for record in verified(first)] == [None, "before"]
    records = verified(second)
    assert records[0]["data"]["predecessor"] == first.stem
    assert records[1]["data"] == {"lost": 1, "unsynced": 0}
    assert records[2]["name"] == "after"


class Disk:
    """A disk for group commits that syncs when it is told to, and can fail."""

    def __init__(self) -> None:
        self.turn = threading.Semaphore(0)
        self.failing = False
        self.started = threading.Semaphore(0)
        self.log: list[str] = []

    def sync(self, descriptor: int) -> None:
        if threading.current_thread() is threading.main_thread():
            if self.failing:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return  # the opening of a file is synced on the spot
        self.started.release()
        assert self.turn.acquire(timeout=10)
        if self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(descriptor)
        self.log.append("synced")


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until `condition` holds; fail when it does not in ten seconds."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came")


def test_power_calls_back_in_order_and_only_after_the_sync(tmp_path: Path) -> None:
    disk = Disk()

    async def scenario() -> None:
        journal = Journal.open(tmp_path, durability="power", sync=disk.sync)
        loop_thread = threading.current_thread()

        def then(name: str, error: AuditUnavailable | None) -> None:
            assert error is None
            assert threading.current_thread() is loop_thread
            disk.log.append(name)

        journal.append(decision(), lambda error: then("first", error))
        assert await asyncio.to_thread(disk.started.acquire, timeout=10)
        # Written while the first sync runs: it may not cover these, so they wait for the second.
        journal.append(decision(), lambda error: then("second", error))
        journal.append(decision(), lambda error: then("third", error))
        await asyncio.sleep(0.05)
        assert disk.log == []
        assert len(journals(tmp_path)[0].read_bytes().splitlines()) == 4  # written at once
        disk.turn.release()
        assert await asyncio.to_thread(disk.started.acquire, timeout=10)
        await until(lambda: len(disk.log) >= 2)
        assert disk.log == ["synced", "first"]
        disk.turn.release()
        await until(lambda: len(disk.log) >= 5)
        assert disk.log == ["synced", "first", "synced", "second", "third"]
        disk.turn.release()
        journal.close()

    asyncio.run(scenario())
    assert len(verified(journals(tmp_path)[0])) == 5


def test_power_refuses_what_could_not_be_synced_and_never_trusts_that_file_again(
    tmp_path: Path,
) -> None:
    disk = Disk()

    async def scenario() -> None:
        journal = Journal.open(tmp_path, durability="power", sync=disk.sync)
        answers: list[AuditUnavailable | None] = []
        disk.failing = True
        journal.append(decision(name="unsynced"), answers.append)
        journal.append(decision(name="unsynced"), answers.append)
        disk.turn.release()  # one sync for both, or one that fails for them both
        await until(lambda: len(answers) == 2)
        assert [type(answer) for answer in answers] == [AuditUnavailable] * 2
        assert not journal.writable

        answers.clear()
        journal.append(decision(name="lost"), answers.append)
        assert answers == []  # not before append returns, as in the good case
        await until(lambda: len(answers) == 1)
        assert [type(answer) for answer in answers] == [AuditUnavailable]
        assert len(journals(tmp_path)) == 1

        disk.failing = False
        answers.clear()
        journal.append(decision(name="after"), answers.append)
        for _ in range(2):
            disk.turn.release()
        await until(lambda: len(answers) == 1)
        assert answers == [None]
        assert journal.writable
        journal.close()

    asyncio.run(scenario())
    old, new = (
        [verified(path) for path in journals(tmp_path)]
        if "predecessor" not in verified(journals(tmp_path)[0])[0]["data"]
        else [verified(path) for path in reversed(journals(tmp_path))]
    )
    assert [record.get("name") for record in old] == [None, "unsynced", "unsynced"]
    assert new[0]["data"]["predecessor"] == old[0]["writer"]
    assert new[1]["event"] == "journal.gap"
    assert new[1]["data"] == {"lost": 1, "unsynced": 2}
    assert new[2]["name"] == "after"


def test_power_with_the_real_sync_commits_many_records_in_order(tmp_path: Path) -> None:
    async def scenario() -> list[int]:
        journal = Journal.open(tmp_path, durability="power")
        done: list[int] = []
        everything = asyncio.get_running_loop().create_future()

        def then(number: int, error: AuditUnavailable | None) -> None:
            assert error is None
            done.append(number)
            if number == 299:
                everything.set_result(None)

        for number in range(300):
            journal.append(decision(), partial(then, number))
            if number % 50 == 0:
                await asyncio.sleep(0)
        await everything
        journal.close()
        return done

    assert asyncio.run(scenario()) == list(range(300))
    assert len(verified(journals(tmp_path)[0])) == 302


def test_power_outlives_an_event_loop_that_ended_with_records_waiting(tmp_path: Path) -> None:
    disk = Disk()

    async def scenario() -> Journal:
        journal = Journal.open(tmp_path, durability="power", sync=disk.sync)
        journal.append(decision(), lambda _: None)
        return journal

    journal = asyncio.run(scenario())
    for _ in range(3):
        disk.turn.release()
    journal.close()
    assert len(verified(journals(tmp_path)[0])) == 3


def test_a_continuation_that_raises_does_not_stop_the_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        raised: list[object] = []
        loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
        journal = Journal.open(tmp_path, durability="power")
        second = loop.create_future()

        def broken(_: AuditUnavailable | None) -> None:
            raise RuntimeError("broken")

        journal.append(decision(), broken)
        journal.append(decision(), second.set_result)
        assert await second is None
        assert [type(error) for error in raised] == [RuntimeError]
        journal.close()

    asyncio.run(scenario())
