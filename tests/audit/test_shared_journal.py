"""Many short processes, one chain."""

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.audit import shared_journal
from gateway.audit.calls import Filters
from gateway.audit.errors import AuditUnavailable
from gateway.audit.index import Index
from gateway.audit.journal import Journal
from gateway.audit.keys import directory_id
from gateway.audit.reader import UNFINISHED, Problem, read_journals
from gateway.audit.shared_journal import SharedJournal
from gateway.errors import UserError
from tests.audit.samples import decision, journals, verified

NOON_S = 1_800_000_000.0
DAY_S = 86_400


def shared(directory: Path, now_s: float = NOON_S) -> SharedJournal:
    return SharedJournal.open(directory, durability="process", version="1.2.3", clock=lambda: now_s)


def test_each_writer_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    for number in range(20):
        shared(tmp_path).append(decision(name=f"tool\n{number}" * 200 * (number % 3)))
    [path] = journals(tmp_path)
    records = verified(path)
    assert path.name == f"20270115-hook-{directory_id(tmp_path)}-0001.jsonl"
    assert [record["kind"] for record in records] == ["event"] + ["decision"] * 20
    assert records[0]["event"] == "journal.opened"
    assert records[0]["data"] == {"durability": "process", "pid": os.getpid(), "version": "1.2.3"}


APPENDING = """
import sys
from pathlib import Path
from gateway.audit.shared_journal import SharedJournal
from tests.audit.samples import decision
for number in range(50):
    journal = SharedJournal.open(Path(sys.argv[1]), durability="process")
    journal.append(decision(session=f"{sys.argv[2]}", name=str(number)))
"""


def test_many_processes_make_one_unbroken_chain(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", APPENDING, str(tmp_path), str(number)])
        for number in range(8)
    ]
    assert [process.wait() for process in processes] == [0] * 8
    records = [record for path in journals(tmp_path) for record in verified(path)]
    calls = [record for record in records if record["kind"] == "decision"]
    assert len({(record["session"], record["name"]) for record in calls}) == 400
    for number in range(8):
        own = [record["name"] for record in calls if record["session"] == str(number)]
        assert own == [str(each) for each in range(50)]


def test_each_day_has_a_file_of_its_own(tmp_path: Path) -> None:
    for day in (0, 1, 0):
        shared(tmp_path, NOON_S + day * DAY_S).append(decision())
    assert [len(verified(path)) for path in journals(tmp_path)] == [3, 2]


def test_a_full_file_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_journal, "MAX_FILE_BYTES", 2000)
    for _ in range(10):
        shared(tmp_path).append(decision())
    files = journals(tmp_path)
    assert len(files) > 2
    assert sum(len(verified(path)) - 1 for path in files) == 10
    openings = [verified(path)[0]["data"].get("predecessor") for path in files]
    assert openings == [None, *(path.stem for path in files[:-1])]


@pytest.mark.parametrize(
    "tail",
    [b'{"kind":"decision","torn', b"not a record\n", b"\n", b'{"seq":9,"writer":"other"}\n'],
)
def test_what_cannot_be_relied_on_is_left_as_it_is(tmp_path: Path, tail: bytes) -> None:
    shared(tmp_path).append(decision())
    [path] = journals(tmp_path)
    with path.open("ab") as file:
        file.write(tail)
    before = path.read_bytes()
    for _ in range(2):
        shared(tmp_path).append(decision())
    first, second = journals(tmp_path)
    assert first.read_bytes() == before
    assert len(verified(second)) == 3
    problems: list[Problem] = []
    assert len(list(read_journals(tmp_path, problems.append))) >= 5
    if not tail.endswith(b"\n"):
        assert [problem.reason for problem in problems] == [UNFINISHED]


def test_a_record_longer_than_the_tail_that_is_read_first(tmp_path: Path) -> None:
    for _ in range(3):
        shared(tmp_path).append(decision(arguments={"text": "x" * 100_000}))
    [path] = journals(tmp_path)
    assert len(verified(path)) == 4


def test_readers_take_it_for_one_of_their_journals(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, durability="process")
    first, second = decision(), decision()
    journal.append(first)
    SharedJournal.open(tmp_path, durability="process").append(second)
    journal.close()
    with Index.open(tmp_path) as index:
        index.refresh()
        calls = index.calls(Filters())
    assert {call.decision.call for call in calls} == {first.call, second.call}


def test_power_syncs_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    journal = SharedJournal.open(tmp_path, durability="power")
    directory_id(tmp_path)  # makes the key of the directory, and syncs it
    monkeypatch.setattr(
        os, "fsync", lambda each: synced.append(stat.S_ISDIR(os.fstat(each).st_mode))
    )
    journal.append(decision())
    assert synced == [False, True]
    journal.append(decision())
    assert synced == [False, True, False]


def test_a_sync_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    journal = SharedJournal.open(tmp_path, durability="power")
    journal.append(decision())
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(AuditUnavailable, match="Input/output error"):
            journal.append(decision())
    journal.append(decision())
    [path] = journals(tmp_path)
    assert len(verified(path)) == 3


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from gateway.audit.calls import Filters
from gateway.audit.errors import AuditUnavailable
from gateway.audit.shared_journal import SharedJournal
from tests.audit.samples import decision
journal = SharedJournal.open(Path(sys.argv[1]), durability="process")
journal.append(decision())
[path] = (Path(sys.argv[1]) / "journal").iterdir()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, resource.RLIM_INFINITY))
try:
    journal.append(decision())
except AuditUnavailable as error:
    print(error)
"""


def test_a_record_that_does_not_fit_leaves_nothing_of_itself(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "no space left" in done.stdout
    shared(tmp_path).append(decision())
    assert [len(verified(path)) for path in journals(tmp_path)] in ([3], [2, 2])


def test_a_lock_that_is_never_given_back_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_journal, "LOCK_TIMEOUT_S", 0.05)
    shared(tmp_path).append(decision())
    [path] = journals(tmp_path)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(AuditUnavailable, match="keeps it locked"):
            shared(tmp_path).append(decision())
    shared(tmp_path).append(decision())
    assert len(verified(path)) == 3


def test_a_file_that_is_not_the_journals_is_not_written(tmp_path: Path) -> None:
    SharedJournal.open(tmp_path, durability="process")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"")
    path = tmp_path / "journal" / f"20270115-hook-{directory_id(tmp_path)}-0001.jsonl"
    path.symlink_to(elsewhere)
    with pytest.raises(AuditUnavailable):
        shared(tmp_path).append(decision())
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(AuditUnavailable, match="alone"):
        shared(tmp_path).append(decision())
    path.unlink()
    path.touch()
    path.chmod(0o622)
    with pytest.raises(AuditUnavailable, match="alone"):
        shared(tmp_path).append(decision())
    assert elsewhere.read_bytes() == b""


def test_everything_is_the_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        shared(tmp_path / "audit").append(decision())
    finally:
        os.umask(before)
    [path] = journals(tmp_path / "audit")
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, path.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]


def test_a_directory_that_others_reach_into_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal").chmod(0o755)
    with pytest.raises(UserError, match="chmod 700"):
        shared(tmp_path)
