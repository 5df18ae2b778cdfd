import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from gateway.audit import syncers
from gateway.audit.errors import AuditUnavailable
from gateway.audit.journal import Journal
from gateway.audit.segments import SegmentLimits
from gateway.audit.syncers import ProcessSyncer, Syncer, ThreadSyncer, start_syncer, sync_data
from tests.audit.samples import decision, journals, verified

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
ENDED = "the process that does it has ended"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    with (tmp_path / "file").open("wb") as file:
        file.write(b"text")
        file.flush()
        yield file.fileno()


@pytest.fixture(params=["process", "thread"])
def syncer(request: pytest.FixtureRequest, file: int, tmp_path: Path) -> Iterator[Syncer]:
    started: Syncer = (
        ProcessSyncer(file, tmp_path)
        if request.param == "process"
        else ThreadSyncer(file, tmp_path, sync_data)
    )
    yield started
    started.close()


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner


def never() -> None:
    raise AssertionError("nobody waits for this")


def test_it_syncs_as_often_as_it_is_asked(syncer: Syncer) -> None:
    for _ in range(3):
        syncer.begin(None, None, never)
        assert syncer.result() is None


def test_the_loop_is_told_when_the_result_is_there(syncer: Syncer, runner: asyncio.Runner) -> None:
    async def scenario() -> list[str | None]:
        loop = asyncio.get_running_loop()
        results = []
        for _ in range(3):
            told = asyncio.Event()
            assert not syncer.ready()
            syncer.begin(None, loop, told.set)
            async with asyncio.timeout(10):
                await told.wait()
            assert syncer.ready()
            results.append(syncer.result())
        return results

    assert runner.run(scenario()) == [None, None, None]


def test_a_result_can_be_waited_for_although_a_loop_is_to_be_told(
    syncer: Syncer, runner: asyncio.Runner
) -> None:
    async def scenario() -> str | None:
        syncer.begin(None, asyncio.get_running_loop(), lambda: None)
        return syncer.result()  # blocks

    assert runner.run(scenario()) is None


def test_another_loop_can_follow(syncer: Syncer) -> None:
    async def scenario() -> str | None:
        told = asyncio.Event()
        syncer.begin(None, asyncio.get_running_loop(), told.set)
        async with asyncio.timeout(10):
            await told.wait()
        return syncer.result()

    for loop_factory in (*LOOPS.values(), *LOOPS.values()):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            assert runner.run(scenario()) is None


def test_what_goes_wrong_is_said(tmp_path: Path) -> None:
    outgoing, incoming = os.pipe()  # which nothing can sync
    for syncer in (
        ProcessSyncer(incoming, tmp_path),
        ThreadSyncer(incoming, tmp_path, sync_data),
    ):
        syncer.begin(None, None, never)
        assert syncer.result() == os.strerror(errno.EINVAL)
        syncer.close()
    os.close(outgoing)
    os.close(incoming)


def test_it_goes_on_with_the_next_file_and_lets_go_of_the_one_before(
    file: int, tmp_path: Path
) -> None:
    syncer = ProcessSyncer(file, tmp_path)
    with (tmp_path / "next").open("wb") as following:
        syncer.begin(following.fileno(), None, never)
        assert syncer.result() is None
    assert held_by(syncer) == {str(tmp_path / "next")}
    syncer.begin(None, None, never)
    assert syncer.result() is None
    syncer.close()


def test_a_directory_that_is_gone_is_said(file: int, tmp_path: Path) -> None:
    directory = tmp_path / "gone"
    for syncer in (ProcessSyncer(file, directory), ThreadSyncer(file, directory, sync_data)):
        with (tmp_path / "next").open("wb") as following:
            syncer.begin(following.fileno(), None, never)
            assert syncer.result() == os.strerror(errno.ENOENT)
        syncer.close()


def test_the_process_knows_no_secret_and_holds_one_file(
    file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPABASE_ACCESS_TOKEN", "not for everybody")
    with (tmp_path / "other").open("wb"):
        syncer = ProcessSyncer(file, tmp_path)
        syncer.begin(None, None, never)
        assert syncer.result() is None
        assert held_by(syncer) == {str(tmp_path / "file")}
    process = Path(f"/proc/{syncer.pid}")
    assert b"SUPABASE" not in (process / "environ").read_bytes()
    assert os.fsencode(tmp_path) not in (process / "cmdline").read_bytes()
    syncer.close()
    assert not process.exists()


def test_a_process_that_has_ended_is_a_failure_each_time(
    file: int, tmp_path: Path, runner: asyncio.Runner
) -> None:
    syncer = ProcessSyncer(file, tmp_path)

    async def scenario() -> list[str | None]:
        loop = asyncio.get_running_loop()
        results = []
        for number in range(3):
            told = asyncio.Event()
            syncer.begin(None, loop, told.set)
            async with asyncio.timeout(10):
                await told.wait()
            results.append(syncer.result())
            if not number:
                os.kill(syncer.pid, signal.SIGKILL)
                await asyncio.sleep(0.05)  # the loop meets the end of the stream meanwhile
        return results

    assert runner.run(scenario()) == [None, ENDED, ENDED]
    syncer.begin(None, None, never)
    assert syncer.result() == ENDED
    syncer.close()


def test_a_loop_is_not_told_for_ever_that_the_process_has_ended(
    file: int, tmp_path: Path, runner: asyncio.Runner
) -> None:
    syncer = ProcessSyncer(file, tmp_path)
    descriptor = syncer._socket.fileno()

    async def scenario() -> bool:
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        syncer.begin(None, loop, told.set)
        async with asyncio.timeout(10):
            await told.wait()
        assert syncer.result() is None
        os.kill(syncer.pid, signal.SIGKILL)
        for _ in range(1000):
            await asyncio.sleep(0.005)
            if syncer._watching is None:
                break
        return loop.remove_reader(descriptor)

    assert not runner.run(scenario())
    syncer.close()


def test_a_thread_does_it_where_no_process_can_be_started(
    file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(syncers.subprocess, "Popen", refuse)
    before = threading.active_count()
    syncer = start_syncer(file, tmp_path)
    assert isinstance(syncer, ThreadSyncer)
    assert threading.active_count() == before + 1
    syncer.begin(None, None, never)
    assert syncer.result() is None
    syncer.close()


@pytest.mark.parametrize("program", ["/bin/true", "/bin/cat", "/nonexistent"])
def test_a_thread_does_it_where_the_process_does_not_work(
    file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(syncers.sys, "executable", program)
    syncer = start_syncer(file, tmp_path)
    assert isinstance(syncer, ThreadSyncer)
    assert helpers() == []
    syncer.close()


class TestJournal:
    """Durability "power", with a process as everybody has it."""

    def test_closing_waits_for_what_is_under_way(
        self, tmp_path: Path, runner: asyncio.Runner
    ) -> None:
        told: list[AuditUnavailable | None] = []

        async def scenario() -> None:
            journal = Journal.open(tmp_path, durability="power")
            for _ in range(100):
                journal.append(decision(), told.append)
            journal.close()
            await asyncio.sleep(0)

        runner.run(scenario())
        assert told == [None] * 100
        assert len(verified(journals(tmp_path)[0])) == 102

    def test_a_call_waits_through_a_change_of_segments(
        self, tmp_path: Path, runner: asyncio.Runner
    ) -> None:
        async def scenario() -> int:
            limits = SegmentLimits(max_bytes=4_000)
            journal = Journal.open(tmp_path, durability="power", segments=limits)
            for _ in range(40):
                done = asyncio.get_running_loop().create_future()
                journal.append(decision(), done.set_result)
                assert await done is None
            journal.close()
            return len(journals(tmp_path))

        assert runner.run(scenario()) > 3

    def test_when_the_process_dies_calls_are_refused_until_another_file_is_open(
        self, tmp_path: Path, runner: asyncio.Runner
    ) -> None:
        async def answer(journal: Journal) -> AuditUnavailable | None:
            done: asyncio.Future[AuditUnavailable | None]
            done = asyncio.get_running_loop().create_future()
            journal.append(decision(), done.set_result)
            async with asyncio.timeout(10):
                return await done

        async def scenario() -> None:
            journal = Journal.open(tmp_path, durability="power")
            assert await answer(journal) is None
            [helper] = helpers()
            os.kill(helper, signal.SIGKILL)
            assert ENDED in str(await answer(journal))
            assert not journal.writable
            assert await answer(journal) is None
            assert journal.writable
            journal.close()

        runner.run(scenario())
        files = [verified(path) for path in journals(tmp_path)]
        [new] = [lines for lines in files if "predecessor" in lines[0]["data"]]
        gap = next(line for line in new if line.get("event") == "journal.gap")
        assert gap["data"] == {"lost": 0, "unsynced": 1}

    def test_the_process_goes_with_a_gateway_that_is_killed(self, tmp_path: Path) -> None:
        code = """
import sys, time
from pathlib import Path
from gateway.audit.journal import Journal
journal = Journal.open(Path(sys.argv[1]), durability="power")
print("open", flush=True)
time.sleep(60)
"""
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE
        ) as gateway:
            assert gateway.stdout is not None
            assert gateway.stdout.readline() == b"open\n"
            [helper] = helpers(gateway.pid)
            gateway.kill()
        waited = threading.Event()
        while (
            Path(f"/proc/{helper}/cmdline").exists()
            and Path(f"/proc/{helper}/cmdline").read_bytes()
        ):
            waited.wait(0.01)


def helpers(parent: int | None = None) -> list[int]:
    """The processes that sync for this one, or for another."""
    parent = os.getpid() if parent is None else parent
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"sync_process" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def held_by(syncer: ProcessSyncer) -> set[str]:
    """The regular files that the process has open."""
    links = [str(each.readlink()) for each in Path(f"/proc/{syncer.pid}/fd").iterdir()]
    return {link for link in links if link.startswith("/") and link != os.devnull}
