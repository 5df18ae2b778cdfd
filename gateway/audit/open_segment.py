"""The file that a journal is writing."""

import os
import time
from pathlib import Path

from gateway.audit.files import PLAIN, segment_name
from gateway.audit.heads import hold
from gateway.audit.records import NO_RECORD


class OpenSegment:
    """The newest segment of a journal, and where the chain stands."""

    __slots__ = ("descriptor", "number", "opened_s", "prev", "seq", "size_bytes", "writer")

    def __init__(self, descriptor: int, writer: str, number: int = 1) -> None:
        self.descriptor = descriptor
        self.writer = writer
        self.number = number
        self.opened_s = time.monotonic()
        self.size_bytes = 0
        self.seq = 0
        self.prev = NO_RECORD

    @classmethod
    def create(cls, directory: Path, pid: int) -> "OpenSegment":
        """A new journal that no other process has, under a name that is not used twice."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        writer = f"{stamp}-{pid}-{os.urandom(4).hex()}"
        return cls(_create(directory, segment_name(writer, 1)), writer)

    def next(self, directory: Path) -> "OpenSegment":
        """The next segment, empty."""
        number = self.number + 1
        descriptor = _create(directory, segment_name(self.writer, number))
        return OpenSegment(descriptor, self.writer, number)


def _create(directory: Path, name: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    descriptor = os.open(directory / f"{name}{PLAIN}", flags, 0o600)
    hold(descriptor)
    return descriptor
