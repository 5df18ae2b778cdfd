"""What the log survives that nobody meant: damaged files, clocks, two writers, disks."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit.calls import Filters
from gateway.audit.errors import AuditUnavailable
from gateway.audit.index import Index
from gateway.audit.journal import Journal
from gateway.audit.keys import directory_id
from gateway.audit.reader import Problem, read_journals
from gateway.audit.shared_journal import SharedJournal
from gateway.audit.verify.verification import verify
from gateway.errors import UserError
from tests.audit.samples import decision, journals, outcome
from tests.audit.test_verify import lines_of, only, put, tampering, write


class TestCorruptFile:
    def test_the_other_records_are_still_read_and_the_bad_one_is_named(
        self, tmp_path: Path
    ) -> None:
        path = write(tmp_path)
        lines = lines_of(path)
        put(path, [*lines[:4], b"\0" * 200 + b"\n", *lines[5:]])
        problems: list[Problem] = []
        assert len(list(read_journals(tmp_path, problems.append))) == len(lines) - 1
        assert [problem.offset for problem in problems] == [sum(map(len, lines[:4]))]
        with Index.open(tmp_path) as index:
            index.refresh()
            assert len(index.calls(Filters())) == 6
            assert len(index.problems()) == 1
        finding = only(verify(tmp_path))
        assert (finding.code, finding.line) == ("damaged", 5)

    def test_the_next_gateway_writes_all_the_same(self, tmp_path: Path) -> None:
        write(tmp_path).write_bytes(os.urandom(5000))
        write(tmp_path)
        assert len({journal for _, journal in tampering(verify(tmp_path))}) == 1


class TestClocks:
    def test_a_clock_that_goes_back_and_forth_breaks_no_chain(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stamps = iter(["20300101T000000Z", "20200101T000000Z", "20260101T000000Z"])
        monkeypatch.setattr("gateway.audit.journal.time.strftime", lambda *_: next(stamps))
        for year in (2030, 2020, 2026):
            journal = Journal.open(tmp_path, durability="process")
            for hour in (9, 3, 5):
                record = decision(time=f"{year}-01-01T0{hour}:00:00.000000Z")
                journal.append(record)
                journal.append(outcome(record.call))
            journal.close()
        assert verify(tmp_path).findings == ()
        path = tmp_path / "journal" / journals(tmp_path)[0].name
        path.unlink()  # the one that was opened second
        assert [code for code, _ in tampering(verify(tmp_path))] == ["missing-journal"]

    def test_a_hook_whose_clock_was_set_back_goes_on_in_the_newest_file(
        self, tmp_path: Path
    ) -> None:
        for now_s in (1_800_000_000.0, 1_700_000_000.0, 1_800_000_000.0):
            SharedJournal.open(tmp_path, durability="process", clock=lambda at=now_s: at).append(
                decision(decision="deny")
            )
        name = f"20270115-hook-{directory_id(tmp_path)}-0001.jsonl"
        assert [path.name for path in journals(tmp_path)] == [name]
        assert verify(tmp_path).findings == ()


class TestTwoWriters:
    def test_each_gateway_has_a_file_of_its_own(self, tmp_path: Path) -> None:
        code = (
            "import sys\nfrom pathlib import Path\nfrom tests.audit.test_verify import write\n"
            "write(Path(sys.argv[1]), 50)"
        )
        processes = [
            subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)
        ]
        assert [process.wait() for process in processes] == [0] * 3
        assert len(journals(tmp_path)) == 3
        assert verify(tmp_path).findings == ()

    def test_somebody_who_writes_into_the_file_of_a_gateway_is_found(self, tmp_path: Path) -> None:
        journal = Journal.open(tmp_path, durability="process")
        journal.append(decision(decision="deny"))
        [path] = journals(tmp_path)
        own = lines_of(path)[-1]
        with path.open("ab") as file:
            file.write(own.replace(b'"seq":2', b'"seq":3'))
        journal.append(decision(decision="deny"))
        journal.close()
        assert tampering(verify(tmp_path)) != []
        assert only(verify(tmp_path)).line in (2, 3)


class TestReadOnlyDisk:
    @pytest.fixture
    def disk(self, tmp_path: Path) -> Iterator[Path]:
        """A file system that can be made read-only: only root can do that."""
        if os.geteuid() != 0:
            pytest.skip("only root can mount a file system")
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", disk]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("this machine lets nobody mount a file system")
        yield disk
        subprocess.run(["umount", "-l", disk], check=True)

    def test_nothing_starts_on_it_and_what_is_there_can_be_verified(self, disk: Path) -> None:
        write(disk / "audit")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        journal = Journal.open(disk / "audit", durability="process")
        assert not journal.writable
        with pytest.raises(AuditUnavailable, match="Read-only"):
            journal.append(decision())
        with pytest.raises(AuditUnavailable, match="Read-only"):
            SharedJournal.open(disk / "audit", durability="process").append(decision())
        with pytest.raises(UserError, match="Read-only"):
            Journal.open(disk / "other", durability="process")
        assert verify(disk / "audit").findings == ()
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        journal.append(decision(decision="deny"))  # and it recovers by itself
        journal.close()
        report = verify(disk / "audit")
        assert report.clean
        assert [each.code for each in report.findings] == ["gap"]

    def test_a_directory_that_cannot_be_written_to(self, tmp_path: Path) -> None:
        if os.geteuid() == 0:
            pytest.skip("root can write everywhere")
        write(tmp_path)
        (tmp_path / "journal").chmod(0o500)
        try:
            assert not Journal.open(tmp_path, durability="process").writable
            assert verify(tmp_path).findings == ()
        finally:
            (tmp_path / "journal").chmod(0o700)
