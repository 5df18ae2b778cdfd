import gzip
import io
from pathlib import Path

import pytest

from gateway.audit import reader
from gateway.audit.files import journal_files
from gateway.audit.journal import Journal
from gateway.audit.reader import (
    MAX_LINE_BYTES,
    NOT_A_RECORD,
    UNFINISHED,
    Problem,
    follow,
    read_journal,
    read_journals,
)
from tests.audit.samples import decision, journals, line_of, outcome


def write(directory: Path, name: str, *lines: bytes) -> Path:
    path = directory / "journal" / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.writelines(lines)
    return path


def read(directory: Path) -> tuple[list[str | None], list[Problem]]:
    problems: list[Problem] = []
    return [entry.row.call for entry in read_journals(directory, problems.append)], problems


def at(second: int, call: str) -> bytes:
    time = f"2026-01-01T00:00:{second:02}.000000Z"
    return line_of({"kind": "decision", "time": time, "call": call, "writer": "w", "seq": 1})


def test_journals_are_merged_by_time(tmp_path: Path) -> None:
    write(tmp_path, "a", at(1, "1"), at(4, "4"))
    write(tmp_path, "b", at(2, "2"), at(3, "3"), at(6, "6"))
    write(tmp_path, "c", at(5, "5"))
    assert read(tmp_path) == (["1", "2", "3", "4", "5", "6"], [])


def test_a_journal_keeps_its_order_where_its_clock_was_set_back(tmp_path: Path) -> None:
    write(tmp_path, "a", at(5, "first"), at(1, "second"))
    write(tmp_path, "b", at(6, "last"))
    assert read(tmp_path) == (["first", "second", "last"], [])


def test_a_torn_last_line_is_reported_and_no_record(tmp_path: Path) -> None:
    whole, torn = at(1, "1"), at(2, "2")[:-1]  # the line is there, its end is not
    write(tmp_path, "a", whole, torn)
    assert read(tmp_path) == (["1"], [Problem("a", len(whole), len(torn), UNFINISHED)])


class Growing(io.BytesIO):
    """A file that is still being written: its end is at `cut` for so many looks as `ends`."""

    def __init__(self, data: bytes, cut: int, ends: int) -> None:
        super().__init__(data)
        self.cut = cut
        self.ends = ends

    def readline(self, size: int | None = -1) -> bytes:
        size = -1 if size is None else size
        room = self.cut - self.tell()
        if room > 0:
            return super().readline(room if size < 0 else min(size, room))
        if room == 0 and self.ends:
            self.ends -= 1
            return b""
        return super().readline(size)


@pytest.mark.parametrize("ends", [0, 1])
def test_a_line_that_is_written_while_it_is_read_is_one_record_or_none_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: int
) -> None:
    lines = [at(number, str(number)) for number in range(3)]
    data = b"".join(lines)
    path = write(tmp_path, "a", data)
    for cut in range(len(data) + 1):
        monkeypatch.setattr(reader, "open_journal", lambda _, cut=cut: Growing(data, cut, ends))
        problems: list[Problem] = []
        found = [entry.line + b"\n" for entry in read_journal(path, problems.append)]
        whole = data[: data.rfind(b"\n", 0, cut) + 1] if ends else data
        assert b"".join(found) == whole, cut
        torn = cut - len(whole)
        assert problems == ([Problem("a", len(whole), torn, UNFINISHED)] if torn > 0 else []), cut


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"\x00" * 40 + b"\n",
        b"[]\n",
        b"{}\n",
        b"not json\n",
        b'{"kind":"decision","seq":1,"time":"x","writer":"\xff"}\n',
        line_of({"kind": "decision", "time": "t", "writer": "w", "seq": 1}),  # no call
        line_of({"kind": "decision", "time": "t", "writer": "w", "seq": 2**70, "call": "c"}),
        line_of({"kind": "event", "time": 5, "writer": "w", "seq": 1}),
        b"[" * 100_000 + b"\n",
        b'"' + b"x" * (MAX_LINE_BYTES + 1) + b'"\n',
    ],
    ids=range(11),
)
def test_a_line_that_is_no_record_is_reported_and_passed_over(tmp_path: Path, line: bytes) -> None:
    before = at(1, "1")
    write(tmp_path, "a", before, line, at(3, "3"))
    assert read(tmp_path) == (["1", "3"], [Problem("a", len(before), len(line), NOT_A_RECORD)])


def test_a_journal_without_any_record_is_only_reported(tmp_path: Path) -> None:
    write(tmp_path, "a", b"torn")
    write(tmp_path, "b")
    assert read(tmp_path) == ([], [Problem("a", 0, 4, UNFINISHED)])


def test_only_regular_files_are_journals(tmp_path: Path) -> None:
    path = write(tmp_path, "a", at(1, "1"))
    (path.parent / "b.jsonl").symlink_to(path)
    (path.parent / "c.jsonl").mkdir()
    (path.parent / "a.txt").touch()
    assert list(journal_files(tmp_path)) == ["a"]
    assert journal_files(tmp_path / "missing") == {}


def test_following_yields_what_is_added_and_new_journals_and_waits_for_whole_lines(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, "a", at(1, "old"))
    problems: list[Problem] = []
    batches = follow(tmp_path, {"a": path.stat().st_size}, problems.append, interval_s=0)

    def added() -> list[str | None]:
        return [entry.row.call for entry in next(batches)]

    assert added() == []
    write(tmp_path, "a", at(3, "3"), at(4, "4")[:10])
    write(tmp_path, "b", at(2, "2"))
    assert added() == ["2", "3"]
    assert added() == []
    write(tmp_path, "a", at(4, "4")[10:], b"damaged\n")
    assert added() == ["4"]
    assert [problem.reason for problem in problems] == [NOT_A_RECORD]
    write(tmp_path, "a", at(5, "5"))
    path.with_name("b.jsonl").unlink()
    assert added() == ["5"]
    assert len(problems) == 1


def test_segments_of_one_journal_follow_each_other_where_its_clock_was_set_back(
    tmp_path: Path,
) -> None:
    write(tmp_path, "w", at(5, "first"))
    write(tmp_path, "w.0002", at(1, "second"))
    write(tmp_path, "other", at(3, "other"))
    assert read(tmp_path)[0] == ["other", "first", "second"]


def test_following_keeps_the_order_of_a_journal_and_goes_on_where_segments_are_compressed(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, "w", at(5, "5"))
    problems: list[Problem] = []
    batches = follow(tmp_path, {"w": path.stat().st_size}, problems.append, interval_s=0)

    def added() -> list[str | None]:
        return [entry.row.call for entry in next(batches)]

    assert added() == []
    # Within one turn: the rest of a segment, which is compressed by then, and the next one.
    write(tmp_path, "w", at(7, "7"), at(6, "set back"))
    path.with_name("w.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    write(tmp_path, "w.0002", at(2, "set back further"))
    write(tmp_path, "other", at(6, "other"))
    assert added() == ["other", "7", "set back", "set back further"]
    write(tmp_path, "w.0002", at(8, "8"))
    assert added() == ["8"]
    assert problems == []


def test_the_reader_reads_what_the_journal_writes(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, durability="process")
    record = decision()
    journal.append(record)
    journal.append(outcome(record.call))
    journal.close()
    problems: list[Problem] = []
    entries = list(read_journals(tmp_path, problems.append))
    assert problems == []
    assert b"".join(entry.line + b"\n" for entry in entries) == journals(tmp_path)[0].read_bytes()
    assert [entry.row.seq for entry in entries] == [1, 2, 3, 4]
