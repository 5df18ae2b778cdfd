"""A journal of several files is one chain, wherever its writer is killed."""

import asyncio
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.audit import files, segments
from gateway.audit.calls import Filters
from gateway.audit.files import journal_files, place_of, segment_name
from gateway.audit.index import Index
from gateway.audit.journal import Journal
from gateway.audit.pruning import prune
from gateway.audit.reader import Problem, follow, open_journal, read_journals, size_of
from gateway.audit.retention import Limits, outlived
from gateway.audit.segments import SegmentLimits, compress
from gateway.audit.signing_keys import create_key
from gateway.audit.verify.verification import verify
from gateway.errors import UserError
from tests.audit import independent
from tests.audit.samples import decision, outcome

SMALL = SegmentLimits(max_bytes=3000)


def fill(journal: Journal, calls: int = 20) -> list[str]:
    written = []
    for _ in range(calls):
        record = decision()
        journal.append(record)
        journal.append(outcome(record.call))
        written.append(record.call)
    return written


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealed segments stay as they are."""
    monkeypatch.setattr("gateway.audit.journal.compress_aside", lambda path: None)


def calls_of(directory: Path) -> list[str | None]:
    problems: list[Problem] = []
    entries = list(read_journals(directory, problems.append))
    assert problems == []
    return [entry.row.call for entry in entries if entry.row.kind == "decision"]


@pytest.mark.usefixtures("unpacked")
def test_a_journal_goes_on_in_the_next_file(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, durability="process", segments=SMALL)
    written = fill(journal)
    journal.close()
    files = journal_files(tmp_path)
    assert len(files) > 3
    assert list(files) == [segment_name(journal.writer, each + 1) for each in range(len(files))]
    assert calls_of(tmp_path) == written
    report = verify(tmp_path)
    assert report.findings == ()
    assert report.journals[0].segments == report.journals[0].sealed == len(files)
    assert independent.verify(tmp_path, []) == []
    for number, path in enumerate(files.values(), 1):
        first, *_, last = map(json.loads, path.read_bytes().splitlines())
        assert first["event"] == ("journal.opened" if number == 1 else "segment.opened")
        assert last["event"] == ("segment.sealed" if number < len(files) else "journal.closed")
        assert path.stat().st_size < SMALL.max_bytes + 1500


@pytest.mark.usefixtures("unpacked")
def test_an_old_segment_is_followed_by_another(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, durability="process", segments=SegmentLimits(max_age_s=0))
    fill(journal, 2)
    journal.close()
    assert len(journal_files(tmp_path)) == 5
    assert verify(tmp_path).findings == ()


@pytest.mark.usefixtures("unpacked")
def test_a_segment_opens_with_the_heads_of_other_journals(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, durability="process", segments=SMALL)
    other = Journal.open(tmp_path, durability="process")
    other.close()
    fill(journal)
    journal.close()
    second = next(path for name, path in journal_files(tmp_path).items() if name.endswith(".0002"))
    opening = json.loads(second.read_bytes().splitlines()[0])
    assert [head["writer"] for head in opening["heads"]] == [other.writer]


@pytest.mark.usefixtures("unpacked")
def test_power_goes_on_without_waiting_and_with_all_of_it_synced(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = Journal.open(tmp_path, durability="power", segments=SMALL)
        waiting = []
        for _ in range(60):
            waiting.append(asyncio.get_running_loop().create_future())
            journal.append(decision(), waiting[-1].set_result)
            await asyncio.sleep(0)
        journal.close()
        assert await asyncio.gather(*waiting) == [None] * 60

    asyncio.run(scenario())
    assert len(journal_files(tmp_path)) > 5
    assert verify(tmp_path).clean


@pytest.mark.usefixtures("unpacked")
def test_where_no_other_file_can_be_made_the_old_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.open(tmp_path, durability="process", segments=SegmentLimits(max_bytes=1))
    with monkeypatch.context() as patched:
        patched.setattr("gateway.audit.open_segment._create", fail)
        fill(journal, 3)
    assert len(journal_files(tmp_path)) == 1
    journal.close()
    assert verify(tmp_path).findings == ()


def fail(*_: object) -> int:
    raise OSError(24, "Too many open files")


@pytest.mark.usefixtures("unpacked")
def test_whatever_is_gone_of_it_is_missed(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, durability="process", segments=SMALL)
    fill(journal)
    journal.close()
    names = list(journal_files(tmp_path))
    for gone in names:
        path = journal_files(tmp_path)[gone]
        data = path.read_bytes()
        path.unlink()
        [finding] = [each for each in verify(tmp_path).findings if each.severity == "tampering"]
        assert gone in finding.message
        assert finding.code == ("truncated" if gone == names[-1] else "missing")
        path.write_bytes(data)
    assert verify(tmp_path).findings == ()


class TestCompressed:
    @pytest.fixture(autouse=True)
    def _only_by_the_test(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else a thread may put a whole file in the place of one that was damaged."""
        monkeypatch.setattr("gateway.audit.journal.compress_aside", lambda path: None)

    def test_it_is_read_as_if_it_were_not(self, tmp_path: Path) -> None:
        journal = Journal.open(tmp_path, durability="process", segments=SMALL)
        written = fill(journal)
        journal.close()
        with Index.open(tmp_path) as index:
            index.refresh()
            before = index.calls(Filters())
        for path in journal_files(tmp_path).values():
            with open_journal(path) as file:
                data = file.read()
            assert size_of(path) == len(data)
            packed = compress(path.with_name(path.name.removesuffix(".gz")))
            assert size_of(packed) == len(data)
        assert all(path.name.endswith(".gz") for path in journal_files(tmp_path).values())
        assert calls_of(tmp_path) == written
        assert verify(tmp_path).findings == ()
        assert independent.verify(tmp_path, []) == []
        with Index.open(tmp_path) as index:
            index.refresh()
            assert index.calls(Filters()) == before
            assert index.problems() == []
            batch = next(follow(tmp_path, index.positions(), print))
            assert batch == []
        assert len(next(follow(tmp_path, {}, print))) > 2 * len(written)

    def test_a_reader_that_has_listed_the_plain_file_finds_the_other(self, tmp_path: Path) -> None:
        journal = Journal.open(tmp_path, durability="process")
        fill(journal, 1)
        journal.close()
        [path] = journal_files(tmp_path).values()
        data = path.read_bytes()
        packed = compress(path)
        assert gzip.decompress(packed.read_bytes()) == data
        with open_journal(path) as file:
            assert file.read() == data
        assert compress(path) == packed  # again: nothing left to do

    def test_damage_anywhere_in_one_is_told_of_and_stops_no_reader(self, tmp_path: Path) -> None:
        journal = Journal.open(tmp_path, durability="process", segments=SMALL)
        fill(journal)
        journal.close()
        [first] = [each for each in files.segments(tmp_path) if each.number == 1]
        packed = compress(first.path)
        [first] = [each for each in files.segments(tmp_path) if each.number == 1]
        whole = bytearray(packed.read_bytes())
        signer = create_key(tmp_path, "example.com/audit")
        for position in range(10, len(whole), max(1, len(whole) // 60)):
            damaged = bytearray(whole)
            damaged[position] ^= 0x55
            packed.write_bytes(damaged)
            findings = verify(tmp_path).findings
            assert any(each.severity == "tampering" for each in findings), position
            with Index.open(tmp_path) as index:
                index.refresh()
                index.calls(Filters())
            outlived(tmp_path, Limits(max_age_s=1.0), now_s=2e9, trust_clock=True)
            with pytest.raises(UserError, match="not whole"):
                prune(tmp_path, [first], signer, version="")
            assert packed.exists()

    def test_a_damaged_one_is_told_of(self, tmp_path: Path) -> None:
        journal = Journal.open(tmp_path, durability="process")
        fill(journal, 50)
        journal.close()
        [path] = journal_files(tmp_path).values()
        packed = compress(path)
        data = packed.read_bytes()
        for damaged in (data[: len(data) // 2], data[:2000] + b"\0\0" + data[2002:], b"no gzip"):
            packed.write_bytes(damaged)
            findings = verify(tmp_path).findings
            assert "unreadable" in [each.code for each in findings]
            problems: list[Problem] = []
            list(read_journals(tmp_path, problems.append))
            assert problems != []

    def test_two_that_compress_the_same_at_once_lose_nothing(self, tmp_path: Path) -> None:
        journal = Journal.open(tmp_path, durability="process")
        fill(journal, 3000)
        journal.close()
        [path] = journal_files(tmp_path).values()
        data = path.read_bytes()
        code = (
            "import sys\nfrom pathlib import Path\nfrom contextlib import suppress\n"
            "from gateway.audit.segments import compress\n"
            "with suppress(FileNotFoundError): compress(Path(sys.argv[1]))"
        )
        argv = [sys.executable, "-c", code, str(path)]
        processes = [subprocess.Popen(argv) for _ in range(4)]
        assert [process.wait() for process in processes] == [0] * 4
        [packed] = path.parent.iterdir()
        assert gzip.decompress(packed.read_bytes()) == data

    def test_what_was_packed_wrongly_leaves_the_plain_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = Journal.open(tmp_path, durability="process")
        fill(journal, 1)
        journal.close()
        [path] = journal_files(tmp_path).values()
        monkeypatch.setattr(segments, "_unpacked_digest", lambda path: b"")
        with pytest.raises(OSError, match="does not say what"):
            compress(path)
        assert list(path.parent.iterdir()) == [path]


KILLED = """
import os, sys
from pathlib import Path
from gateway.audit import journal as module
from gateway.audit.pruning import prune
from gateway.audit.retention import Limits, outlived
from gateway.audit.segments import SegmentLimits, compress
from gateway.audit.signing_keys import create_key
from tests.audit.test_segments import fill
import threading, zlib

directory, step, sealing = Path(sys.argv[1]), 0, False
while True:
    where = directory / f"{step:03d}"
    child = os.fork()
    if child == 0:
        module.compress_aside = compress
        journal = module.Journal.open(where, durability="process",
                                      segments=SegmentLimits(max_bytes=3000))
        left = step

        def dying(function, half=False):
            def counted(*arguments, **options):
                global left
                if left == 0:
                    if half:  # a part of it was written
                        function(arguments[0], arguments[1][: len(arguments[1]) // 2])
                    os._exit(9)
                left -= 1
                return function(*arguments, **options)
            return counted

        fill(journal, 2)
        for name in ("open", "fsync", "close", "ftruncate"):
            setattr(os, name, dying(getattr(os, name)))
        os.write = dying(os.write, half=True)
        Path.replace, Path.unlink = dying(Path.replace), dying(Path.unlink)
        fill(journal, 3)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.wait()[1])
    if status == 0:
        break
    assert status == 9, status
    step += 1
print(step)
"""


def test_a_kill_at_any_step_of_sealing_and_compressing_leaves_one_readable_chain(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    steps = int(done.stdout)
    assert steps > 20
    several = 0
    for directory in sorted(tmp_path.iterdir())[:steps]:
        report = verify(directory)
        codes = {each.code for each in report.findings}
        assert report.clean, report.findings
        assert codes <= {"unclosed", "torn-tail", "outcome-unknown"}
        problems: list[Problem] = []
        entries = list(read_journals(directory, problems.append))
        assert len(entries) == report.records >= 5
        assert [entry.row.seq for entry in entries] == list(range(1, len(entries) + 1))
        several += report.journals[0].segments > 1
        following = Journal.open(directory, durability="process")
        fill(following, 1)
        following.close()
        for name, path in list(journal_files(directory).items()):
            if path.suffix == ".jsonl" and place_of(name)[0] != following.writer:
                compress(path)
        assert verify(directory).clean
    assert several > 10


def test_names() -> None:
    for name in ("20260101T000000Z-1-aa", "20270115-hook-0001"):
        for number in (1, 2, 9999, 10_000):
            assert place_of(segment_name(name, number)) == (name, number)
    for foreign in ("a.0001", "a.2", "a.0002.0003", ".0002", "a b.0002"):
        assert place_of(foreign) == (foreign, 1)
