"""The journals of a directory as they are copied to the store: whole lines, from any record on."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from gateway.audit.files import segments
from gateway.audit.heads import has_writer, shares
from gateway.audit.reader import MAX_LINE_BYTES, open_journal, size_of

BLOCK_BYTES: Final = 1024 * 1024


class Differs(Exception):  # noqa: N818 - what was found, not a failure of ours
    """A journal does not hold what the store has of it, or holds what is no record."""


class Place(msgspec.Struct, frozen=True):
    """Where copying goes on: after the record `seq`, at a byte of one of the journal's files."""

    seq: int
    file: str
    offset: int


class Source:
    """One journal: the chain of one writer, in its segments by name."""

    def __init__(self, writer: str, files: Mapping[str, Path]) -> None:
        self.writer = writer
        self._files = dict(files)

    def sizes(self) -> dict[str, int]:
        """How many bytes of lines there are of it now, by segment; raises OSError."""
        return {name: size_of(path) for name, path in self._files.items()}

    def is_whole(self) -> bool:
        """Whether its first segment is there still."""
        return self.writer in self._files

    def has(self, place: Place) -> bool:
        """Whether the segment of `place` is there still: retention may have deleted it."""
        return place.file in self._files

    def copied(self, seq: int, digest: str) -> dict[str, int]:
        """The bytes of each segment up to the record `seq`; what has none is missing.

        Raises as `place_after`.
        """
        place = self.place_after(seq, digest)
        sizes = self.sizes()
        names = list(sizes)
        copied = {name: sizes[name] for name in names[: names.index(place.file)]}
        return copied | ({place.file: place.offset} if place.offset else {})

    def changed_s(self) -> float:
        """When it was last added to, in seconds since 1970; raises OSError."""
        return max(path.stat().st_mtime for path in self._files.values())

    def is_left(self) -> bool:
        """Whether no running gateway copies it: its writer is gone, or it never has one for long.

        Raises OSError.
        """
        return shares(self.writer) or not has_writer(list(self._files.values())[-1])

    def place_after(self, seq: int, digest: str) -> Place:
        """Where the record after `seq` begins, whose line has this digest.

        Raises Differs where the journal has no such record, OSError where it cannot be read.
        """
        names = list(self._files)
        for name in reversed(names):
            first = self._first_seq(name)
            if first is not None and first <= seq + 1:
                return self._place_in(name, first, seq, digest)
        if not seq and names and self._first_seq(names[0]) is None:
            return Place(0, names[0], 0)  # nothing whole stands in it yet
        raise Differs(f"record {seq + 1} was not copied and is not in the journal any more")

    def blocks(self, place: Place) -> Iterator[tuple[Place, bytes]]:
        """What follows `place` in blocks of whole lines, each with where it begins.

        The line ends between the lines are in them, the last one is not. A line that is still
        being written, or was torn when its writer died, is not told. Raises OSError, and Differs
        where there is no line end for far too long.
        """
        names = list(self._files)
        for name in names[names.index(place.file) :]:
            if name != place.file:
                place = Place(place.seq, name, 0)
            with _open(self._files[name]) as file:
                file.seek(place.offset)
                rest = b""
                while data := file.read(BLOCK_BYTES):
                    data = rest + data
                    end = data.rfind(b"\n")
                    if end < 0:
                        if len(data) > MAX_LINE_BYTES:
                            raise Differs(f"what follows record {place.seq} is no record")
                        rest = data
                        continue
                    block, rest = data[:end], data[end + 1 :]
                    yield place, block
                    place = after(place, block)

    def _first_seq(self, name: str) -> int | None:
        """The number of a file's first record; None where there is none."""
        with _open(self._files[name]) as file:
            line = file.readline(MAX_LINE_BYTES)
        try:
            return _decode(line).seq if line.endswith(b"\n") else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _place_in(self, name: str, first: int, seq: int, digest: str) -> Place:
        if seq < first:
            return Place(seq, name, 0)
        offset, line = 0, b""
        with _open(self._files[name]) as file:
            for number in range(first, seq + 1):
                line = file.readline(MAX_LINE_BYTES)
                if not line.endswith(b"\n"):
                    raise Differs(f"the store has {seq} records of it, the journal {number - 1}")
                offset += len(line)
        if sha256(line[:-1]).hexdigest() != digest:
            raise Differs(f"record {seq} is another one in the store")
        return Place(seq, name, offset)


def after(place: Place, block: bytes) -> Place:
    """Where a block that begins at `place` ends."""
    return Place(place.seq + block.count(b"\n") + 1, place.file, place.offset + len(block) + 1)


def sources(directory: Path) -> dict[str, Source]:
    """The journals of the audit directory `directory` by their writers, the oldest first."""
    found: dict[str, dict[str, Path]] = {}
    for segment in segments(directory):
        found.setdefault(segment.writer, {})[segment.name] = segment.path
    return {writer: Source(writer, files) for writer, files in found.items()}


class _Numbered(msgspec.Struct, frozen=True):
    seq: int


_decode = msgspec.json.Decoder(_Numbered).decode


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """A segment to read, compressed or not. A damaged one ends in Differs."""
    with open_journal(path) as file:
        try:
            yield file
        except (EOFError, zlib.error):
            raise Differs(f"the compressed file {path.name} is damaged") from None
        except OSError as error:
            if error.errno is None:  # what gzip raises
                raise Differs(f"the compressed file {path.name} is damaged") from None
            raise
