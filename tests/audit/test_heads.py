"""A new journal says where the others stood."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.audit import heads
from gateway.audit.files import journal_files
from gateway.audit.heads import MAX_HEADS, heads_of_others
from gateway.audit.journal import Journal
from gateway.audit.records import Event, timestamp
from gateway.audit.segments import SegmentLimits, compress
from gateway.audit.shared_journal import SharedJournal
from tests.audit.samples import decision, journals, verified


def opened(directory: Path, records: int = 1) -> Journal:
    journal = Journal.open(directory, durability="process")
    for _ in range(records):
        journal.append(decision())
    return journal


def path_of(directory: Path, journal: Journal) -> Path:
    return directory / "journal" / f"{journal.writer}.jsonl"


def heads_in(path: Path) -> dict[str, tuple[int, str]]:
    return {head["writer"]: (head["seq"], head["digest"]) for head in verified(path)[0]["heads"]}


def head(path: Path) -> tuple[int, str]:
    line = path.read_bytes().splitlines()[-1]
    return json.loads(line)["seq"], sha256(line).hexdigest()


def test_a_journal_opens_with_the_heads_of_those_that_are_closed_and_those_that_live(
    tmp_path: Path,
) -> None:
    closed, living = opened(tmp_path, 3), opened(tmp_path, 2)
    closed.close()
    third = opened(tmp_path)
    assert heads_in(path_of(tmp_path, third)) == {
        closed.writer: head(path_of(tmp_path, closed)),
        living.writer: head(path_of(tmp_path, living)),
    }
    living.close()
    third.close()


def test_a_final_head_is_said_once_and_a_living_one_as_often_as_it_moves(tmp_path: Path) -> None:
    closed, living = opened(tmp_path), opened(tmp_path)
    closed.close()
    opened(tmp_path).close()
    later = opened(tmp_path)
    assert closed.writer not in heads_in(path_of(tmp_path, later))
    assert living.writer not in heads_in(path_of(tmp_path, later))
    living.append(decision())
    last = opened(tmp_path)
    assert heads_in(path_of(tmp_path, last))[living.writer] == head(path_of(tmp_path, living))
    for journal in (living, later, last):
        journal.close()


def test_what_a_killed_writer_left_is_said_without_its_torn_tail(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom tests.audit.test_heads import opened\n"
        "opened(Path(sys.argv[1]))\nos._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    [path] = journals(tmp_path)
    expected = head(path)
    with path.open("ab") as file:
        file.write(b'{"torn')
    next_one = opened(tmp_path)
    next_one.close()
    assert heads_in(path_of(tmp_path, next_one)) == {path.stem: expected}
    after = opened(tmp_path)
    after.close()
    assert path.stem not in heads_in(path_of(tmp_path, after))


def test_a_journal_that_is_gone_before_anybody_spoke_of_it_is_said_to_be_gone(
    tmp_path: Path,
) -> None:
    gone = opened(tmp_path)
    gone.close()
    path_of(tmp_path, gone).unlink()
    following = opened(tmp_path)
    following.close()
    assert heads_in(path_of(tmp_path, following)) == {gone.writer: (0, "")}


def test_the_hooks_journal_says_it_once_for_each_file(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    hook = SharedJournal.open(tmp_path, durability="process")
    for _ in range(3):
        hook.append(decision())
    [path] = [path for path in journals(tmp_path) if "hook" in path.name]
    first, *others = verified(path)
    assert [each["writer"] for each in first["heads"]] == [journal.writer]
    assert len(others) == 3
    assert not any("heads" in record for record in others)
    after = opened(tmp_path)
    assert heads_in(path_of(tmp_path, after)) == {path.stem: head(path)}
    journal.close()
    after.close()


def test_a_living_journal_is_followed_into_its_newest_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its first ones are compressed, and nobody could tell the register of the last."""
    monkeypatch.setattr("gateway.audit.journal.compress_aside", compress)
    living = Journal.open(tmp_path, durability="process", segments=SegmentLimits(max_bytes=1500))
    state = (tmp_path / "heads.json").read_bytes()
    for _ in range(10):
        living.append(decision())
    (tmp_path / "heads.json").write_bytes(state)
    *packed, last = journal_files(tmp_path).values()
    assert len(packed) > 2
    other = opened(tmp_path)
    assert heads_in(path_of(tmp_path, other)) == {living.writer: head(last)}
    living.append(decision())
    third = opened(tmp_path)
    assert living.writer in heads_in(path_of(tmp_path, third))
    for journal in (living, other, third):
        journal.close()


def test_thousands_cost_a_new_journal_no_more_than_it_may_say(tmp_path: Path) -> None:
    for _ in range(2 * MAX_HEADS + 5):
        opened(tmp_path).close()
    everything = {path.stem for path in journals(tmp_path)}
    (tmp_path / "heads.json").unlink()  # or an older version that had none
    said: list[set[str]] = []
    for _ in range(5):
        journal = opened(tmp_path)
        journal.close()
        said.append(set(heads_in(path_of(tmp_path, journal))))
    assert max(map(len, said)) == MAX_HEADS
    assert everything <= set().union(*said)
    assert len(said[-1]) == 1  # of the one before it


@pytest.mark.parametrize("state", [b"", b"{", b'{"v":2,"open":[]}', b"[" * 5000])
def test_a_damaged_register_is_made_anew(tmp_path: Path, state: bytes) -> None:
    first = opened(tmp_path)
    first.close()
    (tmp_path / "heads.json").write_bytes(state)
    second = opened(tmp_path)
    second.close()
    assert set(heads_in(path_of(tmp_path, second))) == {first.writer}


def test_a_register_that_is_never_given_back_does_not_keep_a_journal_from_opening(
    tmp_path: Path,
) -> None:
    journals = tmp_path / "journal"
    journals.mkdir(mode=0o700)
    with (
        heads_of_others(journals, "other"),
        heads_of_others(journals, "second", timeout_s=0.02) as none,
    ):
        assert none is None
    assert json.loads((tmp_path / "heads.json").read_bytes())["open"] == [
        {"writer": "other", "segment": 1, "size_bytes": 0}
    ]


def test_a_journal_that_could_not_be_opened_is_not_missed(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir(mode=0o700)
    with pytest.raises(RuntimeError), heads_of_others(tmp_path / "journal", "failed"):
        raise RuntimeError
    journal = opened(tmp_path)
    journal.close()
    assert heads_in(path_of(tmp_path, journal)) == {}


def test_a_fork_does_not_pass_for_the_writer(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(Event(time=timestamp(), event="x"))
    assert heads.has_writer(path_of(tmp_path, journal))
    journal.close()
    assert not heads.has_writer(path_of(tmp_path, journal))
    assert os.access(tmp_path / "heads.lock", os.R_OK)
