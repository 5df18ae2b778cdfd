"""What retention deletes, what it leaves, and what verification accepts of it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.audit import pruning as module
from gateway.audit.checkpoints import Checkpoints
from gateway.audit.files import Segment, journal_files, segments
from gateway.audit.heads import shares
from gateway.audit.journal import Journal
from gateway.audit.keys import directory_id
from gateway.audit.notes import Signer
from gateway.audit.pruning import prune
from gateway.audit.retention import Limits, outlived
from gateway.audit.segments import SegmentLimits, compress, compress_leftovers
from gateway.audit.shared_journal import SharedJournal
from gateway.audit.signing_keys import create_key
from gateway.errors import UserError
from tests.audit import independent
from tests.audit.samples import decision, outcome, verified
from tests.audit.test_checkpoints import keys_of, report_on
from tests.audit.test_verify import flipped, tampering

DAY_S = 86_400.0
NOW_S = datetime(2026, 3, 1, tzinfo=UTC).timestamp()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir(mode=0o700)
    return tmp_path / "log"


@pytest.fixture
def signer(log: Path) -> Signer:
    return create_key(log, "example.com/audit")


class Clock:
    """The time that records are made at, in days before NOW_S."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.age_days = 0.0
        for place in ("journal", "checkpoints", "pruning"):
            monkeypatch.setattr(f"gateway.audit.{place}.timestamp", self.timestamp)

    def timestamp(self) -> str:
        moment = datetime.fromtimestamp(NOW_S - self.age_days * DAY_S, UTC)
        return moment.isoformat(timespec="microseconds")[:-6] + "Z"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def written(
    log: Path, signer: Signer, clock: Clock, age_days: float, calls: int = 6, **limits: int
) -> Journal:
    """A journal whose records are so old, closed."""
    clock.age_days = age_days
    journal = Journal.open(
        log,
        durability="process",
        checkpoints=Checkpoints(log, [signer]),
        segments=SegmentLimits(**limits),
    )
    for number in range(calls):
        record = decision(name=f"call-{number}", time=clock.timestamp())
        journal.append(record)
        journal.append(outcome(record.call, time=clock.timestamp()))
    journal.close()
    clock.age_days = 0
    return journal


def chosen(log: Path, **limits: float) -> list[Segment]:
    return outlived(log, Limits(**limits), now_s=NOW_S)  # type: ignore[arg-type]


def names(gone: list[Segment]) -> list[str]:
    return [segment.name for segment in gone]


def test_old_journals_go_and_verification_accepts_just_that(
    log: Path, signer: Signer, clock: Clock
) -> None:
    old, middle, new = (written(log, signer, clock, age) for age in (40, 20, 1))
    gone = chosen(log, max_age_s=30 * DAY_S)
    assert names(gone) == [old.writer]
    prune(log, gone, signer, version="1")
    assert old.writer not in journal_files(log)
    assert {middle.writer, new.writer} <= journal_files(log).keys()
    report = report_on(log)
    assert report.findings == ()
    [pruned] = [journal for journal in report.journals if journal.journal == old.writer]
    assert (pruned.state, pruned.records, pruned.last_seq) == ("pruned", 0, 15)
    assert independent.verify(log, keys_of(log)) == []
    (log / "journal" / f"{middle.writer}.jsonl").unlink()
    assert ("missing-journal", middle.writer) in tampering(report_on(log))


def test_segments_go_from_the_front_and_the_rest_keeps_its_signed_root(
    log: Path, signer: Signer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.audit.journal.compress_aside", lambda path: None)
    journal = written(log, signer, clock, 40, calls=30, max_bytes=3000)
    written(log, signer, clock, 1)
    count = len(journal_files(log)) - 1
    total_bytes = sum(path.stat().st_size for path in journal_files(log).values())
    for _ in range(3):  # each goes on where the last one ended
        total_bytes -= 3000
        gone = chosen(log, max_bytes=total_bytes)
        assert gone
        prune(log, gone, signer, version="1")
        report = report_on(log)
        assert report.findings == ()
        [rest] = [each for each in report.journals if each.journal == journal.writer]
        assert rest.signed_records == rest.last_seq - 1
        assert independent.verify(log, keys_of(log)) == []
    left = [segment.number for segment in segments(log) if segment.writer == journal.writer]
    assert left == list(range(count - len(left) + 1, count + 1))
    first = next(each for each in segments(log) if each.writer == journal.writer)
    first.path.unlink()  # without a tombstone
    assert ("missing", journal.writer) in tampering(report_on(log))


def test_tombstones_outlive_the_journal_that_they_stand_in(
    log: Path, signer: Signer, clock: Clock
) -> None:
    old = written(log, signer, clock, 100)
    written(log, signer, clock, 70)
    clock.age_days = 60
    prune(
        log,
        outlived(log, Limits(max_age_s=5 * DAY_S), now_s=NOW_S - 60 * DAY_S),
        signer,
        version="1",
    )
    written(log, signer, clock, 1)
    gone = chosen(log, max_age_s=30 * DAY_S)
    assert len(gone) == 2
    prune(log, gone, signer, version="1")
    report = report_on(log)
    assert report.findings == ()
    assert old.writer in {journal.journal for journal in report.journals}
    assert independent.verify(log, keys_of(log)) == []


def test_a_tombstone_that_nobody_signed_excuses_nothing(
    log: Path, signer: Signer, clock: Clock
) -> None:
    old = written(log, signer, clock, 40)
    written(log, signer, clock, 1)
    gone = chosen(log, max_age_s=30 * DAY_S)
    stranger = Signer.generate("example.com/audit")
    prune(log, gone, stranger, version="1")
    (log / "keys" / "public.keys").write_text(signer.verifier().text() + "\n")
    found = tampering(report_on(log))
    assert "bad-tombstone" in [code for code, _ in found]
    assert ("missing-journal", old.writer) in found


def test_what_is_not_whole_is_not_deleted(log: Path, signer: Signer, clock: Clock) -> None:
    old = written(log, signer, clock, 40)
    written(log, signer, clock, 1)
    path = log / "journal" / f"{old.writer}.jsonl"
    flipped(path, 4)
    with pytest.raises(UserError, match="not whole"):
        prune(log, chosen(log, max_age_s=30 * DAY_S), signer, version="1")
    assert path.exists()


class TestWhatStays:
    def test_the_newest_and_what_is_written(self, log: Path, signer: Signer, clock: Clock) -> None:
        clock.age_days = 50
        living = Journal.open(log, durability="process")
        closed = written(log, signer, clock, 40)
        newest = written(log, signer, clock, 1)
        assert names(chosen(log, max_bytes=0)) == [closed.writer]
        assert newest.writer in journal_files(log)
        living.close()
        assert len(chosen(log, max_bytes=0)) == 2

    def test_everything_where_the_clock_jumped(
        self, log: Path, signer: Signer, clock: Clock
    ) -> None:
        written(log, signer, clock, 10)
        written(log, signer, clock, 1)
        limits = Limits(max_age_s=5 * DAY_S)
        for years in (-10, 10):
            with pytest.raises(UserError, match="--trust-clock"):
                outlived(log, limits, now_s=NOW_S + years * 365 * DAY_S)
        # A little ahead: what is old is so by the newest record, not by the clock.
        assert len(outlived(log, limits, now_s=NOW_S + 9 * DAY_S)) == 1
        assert len(outlived(log, Limits(max_age_s=9.5 * DAY_S), now_s=NOW_S + 9 * DAY_S)) == 0
        assert len(outlived(log, limits, now_s=NOW_S + 9000 * DAY_S, trust_clock=True)) == 1

    def test_what_comes_after_a_record_of_the_future(
        self, log: Path, signer: Signer, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.audit.journal.compress_aside", lambda path: None)
        clock.age_days = 40
        journal = Journal.open(log, durability="process", segments=SegmentLimits(max_bytes=1))
        for age in (40, -5, 39):  # the clock was ahead for a while
            clock.age_days = age
            journal.append(decision(time=clock.timestamp(), decision="deny"))
        journal.close()
        written(log, signer, clock, 1)
        gone = outlived(log, Limits(max_age_s=30 * DAY_S), now_s=NOW_S + 5 * DAY_S)
        assert names(gone) == [journal.writer]  # and what stands behind the others stays

    def test_the_hooks_newest_day_whatever_the_clock_says(
        self, log: Path, signer: Signer, clock: Clock
    ) -> None:
        def hooked(now_s: float) -> None:
            SharedJournal.open(log, durability="process", clock=lambda: now_s).append(
                decision(decision="deny", time=clock.timestamp())
            )

        own = directory_id(log)
        for age in (50, 40):
            clock.age_days = age
            hooked(NOW_S - age * DAY_S)
        clock.age_days = 0
        written(log, signer, clock, 1)
        gone = chosen(log, max_bytes=0)
        assert [name for name in names(gone) if shares(name)] == [f"20260110-hook-{own}-0001"]
        prune(log, gone, signer, version="1")
        hooked(NOW_S - 50 * DAY_S)  # the clock is set back: the name is not used again
        assert [name for name in journal_files(log) if shares(name)] == [
            f"20260120-hook-{own}-0001"
        ]
        assert report_on(log).clean

    def test_what_the_shared_store_does_not_have(
        self, log: Path, signer: Signer, clock: Clock
    ) -> None:
        first, second = (written(log, signer, clock, age) for age in (40, 39))
        written(log, signer, clock, 1)
        size_bytes = journal_files(log)[first.writer].stat().st_size
        limits = Limits(max_age_s=30 * DAY_S)
        copied = {first.writer: size_bytes, second.writer: 10}
        gone = outlived(log, limits, now_s=NOW_S, copied=copied)
        assert names(gone) == [first.writer]


KILLED = """
import os, shutil, sys
from pathlib import Path
from gateway.audit.pruning import prune
from gateway.audit.retention import Limits, outlived
from gateway.audit.signing_keys import own_signer

log, copies, step = Path(sys.argv[1]), Path(sys.argv[2]), 0
while True:
    where = copies / f"{step:03d}"
    shutil.copytree(log, where)
    child = os.fork()
    if child == 0:
        left = step

        def dying(function):
            def counted(*arguments, **options):
                global left
                if left == 0:
                    os._exit(9)
                left -= 1
                return function(*arguments, **options)
            return counted

        gone, signer = outlived(where, Limits(max_bytes=0)), own_signer(where)
        signer.load()
        for name in ("open", "write", "fsync", "close"):
            setattr(os, name, dying(getattr(os, name)))
        Path.unlink, Path.replace = dying(Path.unlink), dying(Path.replace)
        prune(where, gone, signer, version="1")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        break
    assert status == 9, status
    step += 1
print(step)
"""


def test_a_kill_at_any_step_leaves_a_file_too_many_and_never_one_too_few(
    log: Path, signer: Signer, tmp_path: Path
) -> None:
    for _ in range(3):
        journal = Journal.open(log, durability="process", checkpoints=Checkpoints(log, [signer]))
        journal.append(decision(decision="deny"))
        journal.close()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(log), str(tmp_path / "copies")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    copies = sorted((tmp_path / "copies").iterdir())
    assert int(done.stdout) == len(copies) - 1 > 15
    before = len(journal_files(log))
    left = [len(journal_files(copy)) for copy in copies]
    assert left[0] == before
    assert left[-1] == 2
    for copy in copies:
        assert tampering(report_on(copy)) == []


def test_a_segment_that_is_being_sealed_is_left_alone(
    log: Path, signer: Signer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next file is made first: until it has a record, the writer may add to this one."""
    monkeypatch.setattr("gateway.audit.journal.compress_aside", lambda path: None)
    journal = written(log, signer, clock, 40, calls=20, max_bytes=3000)
    written(log, signer, clock, 1)
    path = journal_files(log)[f"{journal.writer}.0003"]
    data = path.read_bytes()
    for later in range(3, 20):
        (log / "journal" / f"{journal.writer}.{later:04d}.jsonl").unlink(missing_ok=True)
    path.touch()
    assert names(chosen(log, max_bytes=0)) == [journal.writer]
    compress_leftovers(log)
    own = [each for each in segments(log) if each.writer == journal.writer]
    assert [each.compressed for each in own] == [True, False, False]
    path.write_bytes(data)
    compress_leftovers(log)
    own = [each for each in segments(log) if each.writer == journal.writer]
    assert [each.compressed for each in own] == [True, True, False]


def test_a_segment_that_is_compressed_meanwhile_is_looked_at_again(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = SegmentLimits(max_bytes=4_000)
    monkeypatch.setattr("gateway.audit.journal.compress_aside", lambda path: None)
    journal = Journal.open(log, durability="process", segments=limits)
    for _ in range(20):
        journal.append(decision())
    journal.close()
    plain = segments(log)
    looks = []

    def listed(directory: Path) -> list[Segment]:
        looks.append(len(looks))
        return segments(directory) if looks[-1] else plain

    compress(plain[0].path)
    monkeypatch.setattr("gateway.audit.retention.segments", listed)
    gone = outlived(log, Limits(max_bytes=1), trust_clock=True)
    assert looks == [0, 1]
    assert gone[0].compressed
    assert [each.number for each in gone] == [each.number for each in plain[:-1]]


def test_two_at_once_and_a_log_on_hold(log: Path, signer: Signer) -> None:
    with module.pruning(log), pytest.raises(UserError, match="is running"), module.pruning(log):
        pass
    module.hold_file(log).touch()
    with pytest.raises(UserError, match="on hold"), module.pruning(log):
        pass


def test_segments_that_a_killed_gateway_left_are_compressed(
    log: Path, signer: Signer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("gateway.audit.journal.compress_aside", lambda path: None)
        journal = written(log, signer, clock, 1, calls=20, max_bytes=3000)
    left = log / "journal" / "x.jsonl.gz.1.packing"
    left.touch()
    compress_leftovers(log)
    assert left.exists()  # somebody may be at work on it
    os.utime(left, (0, 0))
    compress_leftovers(log)
    assert not left.exists()
    *sealed, last = [each for each in segments(log) if each.writer == journal.writer]
    assert all(segment.compressed for segment in sealed)
    assert not last.compressed
    assert journal.writer == last.writer
    assert report_on(log).findings == ()


def test_the_tombstone_says_what_was_there(log: Path, signer: Signer, clock: Clock) -> None:
    old = written(log, signer, clock, 40)
    written(log, signer, clock, 1)
    data = (log / "journal" / f"{old.writer}.jsonl").read_bytes()
    prune(log, chosen(log, max_age_s=30 * DAY_S), signer, version="1")
    [record] = [
        each
        for segment in segments(log)
        for each in verified(segment.path)
        if each.get("event") == "journal.pruned"
    ]
    lines = data.splitlines()
    grave = record["pruned"]
    assert (grave["first_seq"], grave["last_seq"], grave["size_bytes"]) == (1, 15, len(data))
    assert json.loads(lines[-1])["seq"] == 15
    assert len(grave["tree"]) == 4  # 15 = 8 + 4 + 2 + 1


def test_the_command(log: Path, tmp_path: Path) -> None:
    def audit(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "gateway", "audit", *arguments, "--directory", str(log)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )

    for _ in range(2):
        journal = Journal.open(log, durability="process")
        journal.append(decision(decision="deny"))
        journal.close()
    refused = audit("prune", "--max-bytes", "0")
    assert (refused.returncode, "keys create" in refused.stderr) == (2, True)
    assert audit("keys", "create").returncode == 0
    assert "nothing says what to keep" in audit("prune").stderr
    assert "on hold" in audit("hold").stdout
    assert "on hold" in audit("prune", "--max-bytes", "0").stderr
    assert "ended" in audit("hold", "--release").stdout
    told = audit("changes").stdout
    assert all(event in told for event in ("audit.held", "audit.released"))
    planned = audit("prune", "--max-bytes", "0", "--dry-run")
    assert "would be deleted" in planned.stdout
    count = len(journal_files(log))
    done = audit("prune", "--max-bytes", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{count - 1} segments")
    assert len(journal_files(log)) == 2  # the newest, and the journal with the tombstones
    assert audit("verify").returncode == 0
    told = audit("changes").stdout
    assert "journal.pruned" in told
    assert "first_seq 1, last_seq 3" in told
    assert "digest" not in told
