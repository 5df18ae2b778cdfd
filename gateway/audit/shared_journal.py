"""A journal that many short processes append to, one record each, under a lock.

The same records in the same chain as those of `gateway.audit.journal`, so that every reader takes
it for one of them. It has one file a day, and another one where that is full, torn or not to be
relied on. There is no closing record: no writer knows that it is the last.
"""

import os
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

import msgspec

from gateway.audit.errors import AuditUnavailable
from gateway.audit.files import PLAIN, journal_directory
from gateway.audit.heads import heads_of_others
from gateway.audit.keys import directory_id
from gateway.audit.records import (
    NO_RECORD,
    Event,
    Head,
    Record,
    Scalar,
    encode_record,
    stamped,
)
from gateway.errors import UserError
from gateway.state import make_private_directory, sync_directory

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
MAX_FILES_A_DAY: Final = 9_999
LOCK_TIMEOUT_S: Final = 2.0
"""How long another writer may take; the client gives up on its hook after some seconds more."""

_LOCK_INTERVAL_S: Final = 0.002
_TAIL_BYTES: Final = 16 * 1024
_MAX_TAIL_BYTES: Final = 4 * 1024 * 1024


class SharedJournal:
    """The writer of one of those processes into the audit log."""

    def __init__(
        self,
        directory: Path,
        durability: Literal["process", "power"],
        version: str,
        clock: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._name = ""
        self._durability = durability
        self._version = version
        self._clock = clock

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        durability: Literal["process", "power"],
        version: str = "",
        clock: Callable[[], float] = time.time,
    ) -> "SharedJournal":
        """The shared journal in the audit directory `directory`, which is made when missing.

        `version` is the program's, for opening records; `clock` gives seconds since 1970. Raises
        UserError when the directory cannot be used.
        """
        journals = journal_directory(directory)
        make_private_directory(journals)
        return cls(journals, durability, version, clock)

    def append(self, record: Record) -> None:
        """Commit `record` before this returns, or raise AuditUnavailable with nothing written."""
        predecessor = ""
        try:
            # Journals of many machines stand side by side in a shared store.
            self._name = self._name or f"hook-{directory_id(self._directory.parent)}"
            day = self._day()
            for number in range(1, MAX_FILES_A_DAY + 1):
                writer = f"{day}-{self._name}-{number:04d}"
                if self._append_to(writer, predecessor, record):
                    return
                predecessor = writer
        except OSError as error:
            raise _unavailable(str(error.strerror)) from error
        except UserError as error:
            raise _unavailable(error.message) from error
        raise _unavailable(f"there are more than {MAX_FILES_A_DAY} files of one day")

    def _day(self) -> str:
        """Today, or the newest day that there are files of where the clock was set back.

        Retention never deletes those: so the name of a deleted file is not used again.
        """
        today = time.strftime("%Y%m%d", time.gmtime(self._clock()))
        first = f"-{self._name}-0001{PLAIN}"
        if (self._directory / f"{today}{first}").exists():
            return today
        with os.scandir(self._directory) as entries:
            days = [entry.name[:8] for entry in entries if entry.name.endswith(first)]
        return max(today, *days) if days else today

    def _append_to(self, writer: str, predecessor: str, record: Record) -> bool:
        """Append to one file; False where it takes no more."""
        path = self._directory / f"{writer}{PLAIN}"
        descriptor = _open_own(path)
        try:
            if os.fstat(descriptor).st_size >= MAX_FILE_BYTES:
                return False
            _lock(descriptor)
            end = _end_of(descriptor, writer)
            if end is None:
                return False
            size_bytes, seq, prev = end
            if size_bytes:
                line = encode_record(stamped(record, writer=writer, seq=seq + 1, prev=prev))
                self._write(descriptor, line + b"\n", size_bytes)
            else:
                with heads_of_others(self._directory, writer) as heads:
                    opening = self._opening(record.time, predecessor, heads)
                    self._write(descriptor, _chained([opening, record], writer), 0)
            if not _is_still(path, descriptor):
                raise _unavailable("its file was removed meanwhile")
        finally:
            os.close(descriptor)  # which gives the lock back
        return True

    def _write(self, descriptor: int, data: bytes, size_bytes: int) -> None:
        """Write all of `data` after what is there, or nothing."""
        try:
            if os.write(descriptor, data) != len(data):
                raise _unavailable("no space left for a record")
            if self._durability == "power":
                os.fsync(descriptor)
                if not size_bytes:
                    sync_directory(self._directory)
        except (OSError, AuditUnavailable):
            with suppress(OSError):  # what stays is torn, and nobody writes after it
                os.ftruncate(descriptor, size_bytes)
            raise

    def _opening(self, when: str, predecessor: str, heads: tuple[Head, ...] | None) -> Event:
        data: dict[str, Scalar] = {"pid": os.getpid(), "durability": self._durability}
        if self._version:
            data["version"] = self._version
        if predecessor:
            data["predecessor"] = predecessor
        return Event(time=when, event="journal.opened", data=data, heads=heads)


def _chained(records: list[Record], writer: str) -> bytes:
    """The first lines of a file."""
    lines, prev = [], NO_RECORD
    for seq, record in enumerate(records, 1):
        line = encode_record(stamped(record, writer=writer, seq=seq, prev=prev))
        prev = sha256(line).hexdigest()
        lines.append(line + b"\n")
    return b"".join(lines)


class _Place(msgspec.Struct, frozen=True):
    """Where a record says that it stands."""

    writer: str
    seq: int


_decode = msgspec.json.Decoder(_Place).decode


def _end_of(descriptor: int, writer: str) -> tuple[int, int, str] | None:
    """The size of a file and the number and digest of its last record; None: add nothing to it.

    That is: it is full, its last line is torn, or that line is no record of this journal.
    """
    size_bytes = os.fstat(descriptor).st_size
    if not size_bytes:
        return 0, 0, NO_RECORD
    if size_bytes >= MAX_FILE_BYTES:
        return None
    wanted = _TAIL_BYTES
    while True:
        begin = max(0, size_bytes - wanted)
        tail = os.pread(descriptor, size_bytes - begin, begin)
        if not tail.endswith(b"\n"):
            return None
        before = tail.rfind(b"\n", 0, -1)
        if before >= 0 or not begin:
            break
        if wanted >= _MAX_TAIL_BYTES:
            return None
        wanted *= 4
    line = tail[before + 1 : -1]
    try:
        place = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if place.writer != writer or place.seq < 1:
        return None
    return size_bytes, place.seq, sha256(line).hexdigest()


def _open_own(path: Path) -> int:
    # A named pipe would keep an open waiting without O_NONBLOCK.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags, 0o600)
    status = os.fstat(descriptor)
    foreign = os.name == "posix" and (status.st_uid != os.geteuid() or status.st_mode & 0o022)
    if not stat.S_ISREG(status.st_mode) or foreign:
        os.close(descriptor)
        raise _unavailable(f"{path.name} is not a file of this user's alone")
    return descriptor


def _lock(descriptor: int) -> None:
    """Have the file for this process alone until it is closed; a killed process has none."""
    if sys.platform == "win32":
        raise _unavailable("this system has no lock for it")
    import fcntl

    deadline_s = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                raise _unavailable("another writer keeps it locked") from None
            time.sleep(_LOCK_INTERVAL_S)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _unavailable(why: str) -> AuditUnavailable:
    return AuditUnavailable(f"the client's hook cannot write its journal: {why}")
