"""Reads one part of a journal's file and says whether its records are one chain.

The parts of a log are read apart, in several processes where there is much of it; what depends on
others (the record before the first one, other journals, signatures) is settled by
`gateway.audit.verify.verification`.
"""

import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias

import msgspec

from gateway.audit.reader import MAX_LINE_BYTES, open_journal
from gateway.audit.records import Pruned
from gateway.audit.tree import Range

CHUNK_BYTES: Final = 4 * 1024 * 1024
_OF_HOST: Final = "PreToolUse"

Why: TypeAlias = Literal["changed", "damaged", "missing", "out-of-order", "foreign", "unreadable"]


class Task(msgspec.Struct, frozen=True):
    """Which bytes of which file to read, and what of them is wanted.

    `seqs`: records whose digest is compared with what others say of them. `sizes`: sizes of the
    tree that somebody signed. `hashing`: whether to make the tree at all.
    """

    path: Path
    name: str
    writer: str
    begin: int = 0
    end: int | None = None
    seqs: frozenset[int] = frozenset()
    sizes: frozenset[int] = frozenset()
    hashing: bool = False


class Place(msgspec.Struct, frozen=True):
    """A record and where it stands: line and byte are counted from the beginning of the part."""

    seq: int
    line: int
    byte: int
    prev: str = ""
    digest: str = ""
    event: str = ""


class Break(msgspec.Struct, frozen=True):
    """Something that is not the next record of the chain, or a record that was changed."""

    why: Why
    place: Place
    message: str


class Said(msgspec.Struct, frozen=True):
    """An event that verification looks at."""

    event: str
    place: Place
    data: dict[str, str | int | bool | None]
    pruned: Pruned | None = None


class Part(msgspec.Struct):
    """What was found. `tree` ends at the first break."""

    name: str
    writer: str
    begin: int
    records: int = 0
    lines: int = 0
    first: Place | None = None
    last: Place | None = None
    breaks: list[Break] = []
    damaged_before: int = 0  # lines before the first record that are none
    closed_seq: int = 0  # of the last closing record
    torn_bytes: int = 0
    tree: Range | None = None
    trees: dict[int, Range] = {}  # by the size of the whole tree
    digests: dict[int, str] = {}
    said: list[Said] = []
    waiting: set[str] = set()  # calls that were let through and have no outcome here
    ended: set[str] = set()  # outcomes whose decision is not here


class _Row(msgspec.Struct, frozen=True, gc=False):
    kind: str
    writer: str
    seq: int
    prev: str
    call: str | None = None
    decision: str | None = None
    method: str | None = None
    enforced: bool = True
    event: str | None = None


class _EventRow(msgspec.Struct, frozen=True):
    data: dict[str, str | int | bool | None] = {}
    pruned: Pruned | None = None


_decode = msgspec.json.Decoder(_Row).decode
_decode_event = msgspec.json.Decoder(_EventRow).decode
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_TOLD: Final = frozenset({"checkpoint", "journal.gap", "journal.pruned", "anchor.failed"})


def scan(task: Task) -> Part:
    """Read the part that `task` names. Raises OSError when the file cannot be read."""
    part = Part(task.name, task.writer, task.begin)
    scanner = _Scanner(task, part)
    with open_journal(task.path) as file:
        file.seek(task.begin)
        try:
            for lines in _chunks(file, None if task.end is None else task.end - task.begin, part):
                scanner.feed(lines)
        except (EOFError, OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            scanner.unreadable("the compressed file cannot be read any further")
        except _TooLong:
            scanner.unreadable("a line is longer than any record")
    return part


class _TooLong(Exception):  # noqa: N818 - never leaves this module
    """A line that no record can be."""


def _chunks(file: BinaryIO, size_bytes: int | None, part: Part) -> Iterator[list[bytes]]:
    """The whole lines, many at a time; what has no end is counted as torn."""
    rest = b""
    left = size_bytes
    while chunk := file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
        if left is not None:
            left -= len(chunk)
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        yield lines
        if len(rest) > MAX_LINE_BYTES:
            raise _TooLong
    part.torn_bytes = len(rest)


class _Scanner:
    def __init__(self, task: Task, part: Part) -> None:
        self._task = task
        self._part = part
        self._byte = 0
        self._damaged = 0  # lines since the last record that are none

    def unreadable(self, message: str) -> None:
        place = Place(0, self._part.lines + 1, self._byte)
        self._break("unreadable", place, message)

    def feed(self, lines: list[bytes]) -> None:
        part, task = self._part, self._task
        waiting, ended = part.waiting, part.ended
        writer, seqs, sizes = task.writer, task.seqs, task.sizes
        last = part.last
        seq, prev = (last.seq, last.digest) if last is not None else (-1, "")
        event: str | None = "" if last is None else last.event
        byte, hashed = self._byte, 0
        good_line, good_byte = (0, -1) if last is None else (last.line, last.byte)
        for index, line in enumerate(lines):
            number = part.lines + index + 1
            try:
                row = _decode(line)
            except _UNDECODABLE:
                self._break("damaged", Place(0, number, byte), "this line is not a record")
                self._damaged += 1
                byte += len(line) + 1
                continue
            digest = sha256(line).hexdigest()
            if seq < 0:
                place = Place(row.seq, number, byte, row.prev, digest)
                if row.writer != writer:
                    message = f"this is a record of the journal {row.writer}"
                    self._break("foreign", place, message)
                part.first = place
                part.damaged_before = self._damaged
                if task.hashing and not part.breaks:
                    part.tree = Range(row.seq - 1)
            elif row.seq != seq + 1 or row.prev != prev or row.writer != writer:
                before = Place(seq, good_line, good_byte)
                following = lines[index + 1] if index + 1 < len(lines) else b""
                here = Place(row.seq, number, byte, row.prev, digest)
                self._judge(row, here, before, prev, following)
            self._damaged = 0
            seq, prev, event = row.seq, digest, row.event
            if seq in seqs:
                part.digests[seq] = digest
            kind = row.kind
            if kind == "decision":
                if (row.decision == "allow" or not row.enforced) and row.method != _OF_HOST:
                    waiting.add(row.call or "")
            elif kind == "outcome":
                call = row.call or ""
                if call in waiting:
                    waiting.remove(call)
                else:
                    ended.add(call)
            elif event == "journal.closed":
                part.closed_seq = seq
            elif event in _TOLD:
                if event == "checkpoint":
                    hashed = self._tree(lines, hashed, index, seq - 1)
                self._told(line, Place(seq, number, byte, "", digest), event or "")
            if seq in sizes:
                hashed = self._tree(lines, hashed, index + 1, seq)
            part.records += 1
            good_line, good_byte = number, byte
            byte += len(line) + 1
        if not part.breaks:
            self._tree(lines, hashed, len(lines), None)
        part.lines += len(lines)
        self._byte = byte
        if seq >= 0:
            part.last = Place(seq, good_line, good_byte, "", prev, event or "")

    def _tree(self, lines: list[bytes], begin: int, end: int, size: int | None) -> int:
        """Hash the lines from `begin` to `end`, and keep the tree where it has its `size`."""
        tree = self._part.tree
        if tree is None or self._part.breaks:
            return end
        tree.append_all(lines[begin:end])
        if size is not None and tree.end == size:
            self._part.trees[size] = tree.copy()
        return end

    def _told(self, line: bytes, place: Place, event: str) -> None:
        try:
            said = _decode_event(line)
        except _UNDECODABLE:
            self._break("damaged", place, f"this {event} record is malformed")
            return
        self._part.said.append(Said(event, place, said.data, said.pruned))

    def _judge(self, row: _Row, here: Place, before: Place, prev: str, following: bytes) -> None:
        """Say what is wrong with a record that does not follow from the one before it."""
        expected = before.seq + 1 + self._damaged
        if row.writer != self._task.writer:
            self._break("foreign", here, f"this is a record of the journal {row.writer}")
            return
        if self._damaged and row.seq == expected:
            return  # the damaged lines have been told of
        after = _row(following)
        follows = after is not None and after.prev == here.digest
        if row.seq == expected:
            if follows or after is None:
                also = "" if follows else f", or record {row.seq} after it"
                self._break(
                    "changed",
                    before,
                    f"record {before.seq} is not the one that record {row.seq} follows{also}: "
                    "it was changed",
                )
            else:
                self._break("changed", here, f"record {row.seq} was changed")
        elif row.prev == prev:
            place = Place(expected, here.line, here.byte)
            self._break("changed", place, f"record {expected} was changed: its number is {row.seq}")
        elif row.seq > expected and after is not None and after.seq - expected in (0, 1):
            self._break(
                "out-of-order", here, f"record {row.seq} stands where record {expected} belongs"
            )
        elif row.seq > expected:
            self._break("missing", here, f"{_records(expected, row.seq - 1)} missing before it")
        else:
            self._break(
                "out-of-order", here, f"record {row.seq} stands after record {before.seq}, again"
            )

    def _break(self, why: Why, place: Place, message: str) -> None:
        self._part.breaks.append(Break(why, place, message))


def _records(first: int, last: int) -> str:
    return f"record {first} is" if first == last else f"records {first} to {last} are"


def _row(line: bytes) -> _Row | None:
    try:
        return _decode(line)
    except _UNDECODABLE:
        return None
