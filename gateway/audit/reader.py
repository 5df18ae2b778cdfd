"""Reads journals: one, all of them merged by time, or what is being added to them.

What is not a record is reported, never raised and never taken for one: the torn last line of a
killed writer, and lines that somebody or a failing disk has changed.
"""

import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from heapq import heapify, heappop, heappush, merge
from itertools import groupby
from pathlib import Path
from typing import Annotated, BinaryIO, Final, NamedTuple, TypeAlias, cast

import msgspec

from gateway.audit.files import COMPRESSED, PLAIN, file_name, journal_files, place_of
from gateway.audit.records import INTEGER_LIMIT

MAX_LINE_BYTES: Final = 4 * 1024 * 1024

_Int: TypeAlias = Annotated[int, msgspec.Meta(ge=-INTEGER_LIMIT, le=INTEGER_LIMIT)]


class Row(msgspec.Struct, frozen=True, gc=False):
    """The fields of a record that are searched and shown, of any kind; the rest is in its line.

    Looser than the records themselves, so that those of other versions can be read as well.
    """

    kind: str
    time: str
    writer: str
    seq: _Int
    call: str | None = None
    session: str | None = None
    agent: str | None = None
    upstream: str | None = None
    tool: str | None = None
    name: str | None = None
    method: str | None = None
    decision: str | None = None
    enforced: bool = True
    rule: str | None = None
    file: str | None = None
    line: _Int | None = None
    reason: str | None = None
    status: str | None = None
    duration_us: _Int | None = None
    error_code: _Int | None = None
    event: str | None = None


class Entry(NamedTuple):
    """One record where it stands: its line (without line end) is the evidence."""

    journal: str  # the file's name without its suffix
    offset: int
    line: bytes
    row: Row


class Problem(NamedTuple):
    """Bytes of a journal that are no record, and why."""

    journal: str
    offset: int
    size_bytes: int
    reason: str


Report: TypeAlias = Callable[[Problem], None]

UNFINISHED: Final = "unfinished last line"
NOT_A_RECORD: Final = "not a record"
DAMAGED: Final = "the compressed file is damaged from here on"


UNPACKING_ERRORS: Final = (EOFError, zlib.error)
"""What reading a damaged compressed segment raises, besides an OSError without a number."""


def open_journal(path: Path) -> BinaryIO:
    """The journal file at `path` as it was written, whether it is compressed by now or not.

    Raises OSError when it cannot be read.
    """
    if path.name.endswith(PLAIN):
        try:
            return path.open("rb")
        except FileNotFoundError:
            path = path.with_name(path.name.removesuffix(PLAIN) + COMPRESSED)
    import gzip  # for old segments only

    return cast("BinaryIO", gzip.open(path, "rb"))


def size_of(path: Path) -> int:
    """How many bytes of lines the journal file at `path` has; raises OSError."""
    if not path.name.endswith(COMPRESSED):
        return path.stat().st_size
    with path.open("rb") as file:  # the last four bytes say it (RFC 1952): segments are below 4 GiB
        file.seek(max(0, path.stat().st_size - 4))
        return int.from_bytes(file.read(4), "little")


def read_journal(path: Path, report: Report, offset: int = 0) -> Iterator[Entry]:
    """The records of the journal file `path` from the byte `offset` on, where a line begins.

    Raises OSError when the file cannot be read.
    """
    journal = file_name(path)
    with open_journal(path) as file:
        try:
            file.seek(offset)
            while line := file.readline(MAX_LINE_BYTES):
                size_bytes = len(line)
                whole = line.endswith(b"\n")
                while not whole and (more := file.readline(MAX_LINE_BYTES)):
                    if size_bytes < MAX_LINE_BYTES:  # it was still being written when we looked
                        line += more
                    size_bytes += len(more)
                    whole = more.endswith(b"\n")
                fits = whole and size_bytes == len(line) <= MAX_LINE_BYTES
                row = as_row(line) if fits else None
                if row is not None:
                    yield Entry(journal, offset, line[:-1], row)
                else:
                    reason = NOT_A_RECORD if whole else UNFINISHED
                    report(Problem(journal, offset, size_bytes, reason))
                    if not whole:
                        return  # what comes by now is the rest of this line, not the next one
                offset += size_bytes
        except (EOFError, OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # not about what the file says: gzip has no number for that
            report(Problem(journal, offset, 0, DAMAGED))


def read_journals(directory: Path, report: Report) -> Iterator[Entry]:
    """The records of all journals of `directory` merged by time.

    Within one journal, from segment to segment too, their order stays as it is, also where its
    clock was set back. Only journals that overlap in time are open together: a directory can hold
    thousands.
    """
    heap: list[tuple[str, int, Entry, Iterator[Entry]]] = []
    for number, (_, files) in enumerate(groupby(journal_files(directory).items(), _writer)):
        paths = [path for _, path in files]
        first = next(_of_all(paths, _ignore), None)
        records = _of_all(paths, report)
        if first is None:
            for _ in records:  # there is none: only its problems are of interest
                pass
        else:
            heap.append((first.row.time, -number - 1, first, records))
    heapify(heap)
    while heap:
        _, number, entry, records = heappop(heap)
        if number < 0:  # not open yet
            number = -number - 1
            if next(records, None) is None:
                continue
        yield entry
        following = next(records, None)
        if following is not None:
            heappush(heap, (following.row.time, number, following, records))


def follow(
    directory: Path, positions: Mapping[str, int], report: Report, interval_s: float = 0.2
) -> Iterator[list[Entry]]:
    """What is added to the journals from `positions` (byte offsets by journal) on, without end.

    Yields one batch in order of time every `interval_s`, also when it is empty; of one journal in
    the order that they stand in. Files without a position are new and read from their beginning.
    A line that is still being written waits.
    """
    reached = dict(positions)
    packed: dict[str, int] = {}  # sizes of compressed files, which do not change any more
    while True:
        added: dict[str, list[Entry]] = {}
        for journal, path in journal_files(directory).items():
            offset = reached.get(journal, 0)
            try:
                if journal in packed and packed[journal] <= offset:
                    continue
                size_bytes = size_of(path)
                if path.name.endswith(COMPRESSED):
                    packed[journal] = size_bytes
                if size_bytes <= offset:
                    continue
                entries, reached[journal] = _read_whole_lines(path, offset, report)
            except FileNotFoundError:
                continue
            added.setdefault(place_of(journal)[0], []).extend(entries)
        yield list(merge(*added.values(), key=lambda entry: entry.row.time))
        time.sleep(interval_s)


def _read_whole_lines(path: Path, offset: int, report: Report) -> tuple[list[Entry], int]:
    """The records after `offset` and where the last whole line ends."""
    end = offset
    problems: list[Problem] = []
    entries = list(read_journal(path, problems.append, offset))
    if entries:
        end = entries[-1].offset + len(entries[-1].line) + 1
    for problem in problems:
        if problem.reason != UNFINISHED:
            report(problem)
            end = max(end, problem.offset + problem.size_bytes)
    return entries, end


def _writer(named: tuple[str, Path]) -> str:
    return place_of(named[0])[0]


def _of_all(segments: Sequence[Path], report: Report) -> Iterator[Entry]:
    for path in segments:
        with suppress(FileNotFoundError):  # deleted since it was listed
            yield from read_journal(path, report)


def _ignore(_: Problem) -> None:
    pass


def as_row(line: bytes) -> Row | None:
    """The fields of a record that are searched and shown; None of what is no record."""
    try:
        row = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if row.call is None and row.kind in ("decision", "outcome") else row


_decode = msgspec.json.Decoder(Row).decode
