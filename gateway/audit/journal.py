"""The journal: append-only files of one process, one record a line, each chained to the one before.

A record is in the log as soon as the kernel has taken its line, and survives the death of the
process from then on. A line is written by one write; one that fails or comes out short is taken
back, so that the file only ever holds whole lines (and, should the process be killed inside a
write on a full disk, one torn tail that nothing follows). A file that cannot be trusted any more
is left as it is, and the next record opens another journal. One that is large or old enough is
sealed, and the same chain goes on in the next segment.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from gateway.audit.errors import AuditUnavailable
from gateway.audit.files import PLAIN, journal_directory, segment_name
from gateway.audit.heads import heads_of_others
from gateway.audit.open_segment import OpenSegment
from gateway.audit.records import (
    Event,
    Head,
    Record,
    Scalar,
    encode_record,
    stamped,
    timestamp,
)
from gateway.audit.segments import DEFAULT_LIMITS, SegmentLimits, compress_aside
from gateway.state import make_private_directory, sync_directory

if TYPE_CHECKING:
    from gateway.audit.checkpoints import Checkpoints
    from gateway.audit.commit import GroupCommit, Waiting

Durability: TypeAlias = Literal["process", "power"]
Then: TypeAlias = Callable[[AuditUnavailable | None], None]


class Journal:
    """This process's writer into the audit log. Its methods are called on one thread."""

    def __init__(
        self,
        directory: Path,
        durability: Durability,
        version: str,
        sync: Callable[[int], None] | None,
        segments: SegmentLimits,
        checkpoints: "Checkpoints | None",
    ) -> None:
        self._directory = directory
        self._segments = segments
        self._checkpoints = checkpoints
        self._durability = durability
        self._version = version
        self._sync = sync
        self._pid = os.getpid()
        self._file: OpenSegment | None = None
        self._commit: GroupCommit | None = None  # of self._file, durability "power" only
        self._failure: AuditUnavailable | None = None
        self._predecessor = ""
        self._lost = 0  # records that were refused and are in no file
        self._unsynced = 0  # records that are in a file but were refused: their sync failed
        self._closed = False

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        durability: Durability,
        version: str = "",
        sync: Callable[[int], None] | None = None,
        segments: SegmentLimits = DEFAULT_LIMITS,
        checkpoints: "Checkpoints | None" = None,
    ) -> "Journal":
        """A new journal in the audit directory `directory`, which is made when it is missing.

        `version` is the program's, for the opening record. `sync` replaces fdatasync. `segments`
        says when a file is followed by another, `checkpoints` signs what is written. Raises
        UserError when the directory cannot be used. A full disk is no error here: the journal is
        then not `writable`, and each append tries again.
        """
        journals = journal_directory(directory)
        make_private_directory(journals)
        journal = cls(journals, durability, version, sync, segments, checkpoints)
        try:
            journal._ensure_file()
        except AuditUnavailable as error:
            journal._failure = error
        return journal

    @property
    def writable(self) -> bool:
        """Whether the last append was good; if not, appending is how to find out again."""
        return self._failure is None and (self._commit is None or self._commit.failure is None)

    @property
    def continues_later(self) -> bool:
        """Whether a continuation never runs before the append that it was given to returns."""
        return self._durability == "power"

    @property
    def writer(self) -> str:
        """The id of this journal in its records: the name of its file without the suffix."""
        return self._predecessor if self._file is None else self._file.writer

    def append(self, record: Record, then: Then | None = None) -> None:
        """Commit `record`, then call `then(None)`.

        Durability "process": both happen before this returns. "power": the record is written at
        once and `then` is called on the running event loop after the next group commit.
        A failure reaches `then` as AuditUnavailable in the same way, or is raised where there is
        no `then` and the write failed. Nothing of a refused record stays in the file, except of
        one whose sync failed.
        """
        if self._durability == "process":
            try:
                self._write([record])
            except AuditUnavailable as error:
                if then is None:
                    raise
                then(error)
                return
            if then is not None:
                then(None)
        else:
            self._append_synced(record, then)

    def append_all(self, entries: Sequence[tuple[Record, Then | None]]) -> None:
        """Commit several records by one write, all or none, then call each `then` in order.

        As `append` otherwise, but that a failure with nobody to hear of it is not raised.
        """
        try:
            self._write([record for record, _ in entries])
        except AuditUnavailable as error:
            failure: AuditUnavailable | None = error
        else:
            failure = None
        if self._durability == "process":
            for _, then in entries:
                if then is not None:
                    then(failure)
            return
        waiting = _waiting([then for _, then in entries if then is not None], len(entries))
        if failure is not None:
            from gateway.audit.commit import deliver

            deliver([waiting], failure)
        elif self._commit is not None:
            self._commit.submit(waiting)

    def checkpoint(self) -> None:
        """Sign what is written so far, and put that into the journal; a failure shows there."""
        checkpoints = self._checkpoints
        if checkpoints is None or self._file is None or self._closed:
            return
        try:
            # Another segment or a gap first: nothing may come between what is signed and the note.
            self._write([])
            record, publish = checkpoints.sign()
            self._put([record])
        except AuditUnavailable as error:
            self._failure = error
            return

        def committed(error: AuditUnavailable | None) -> None:
            if error is None:
                publish()

        if self._commit is None:
            committed(None)
        else:
            self._commit.submit(_waiting((committed,), 1))

    def close(self) -> None:
        """Write the closing record if that is possible and let go of the file.

        With durability "power" this blocks until everything is synced; continuations that wait
        for it are called when the loop runs again. Closing twice is fine.
        """
        if self._closed:
            return
        self._closed = True
        if os.getpid() != self._pid:
            if self._file is not None:
                os.close(self._file.descriptor)
            return
        publish: Callable[[], None] | None = None
        if self._file is not None:
            try:
                self._put([Event(time=timestamp(), event="journal.closed")])
                if self._checkpoints is not None:
                    record, publish = self._checkpoints.sign()
                    self._put([record])
            except AuditUnavailable as error:
                self._failure, publish = error, None
            else:
                if self._commit is not None:
                    self._commit.submit(_waiting((), 1))
            self._leave_file()
        if self._checkpoints is not None:
            if publish is not None and self._unsynced == 0:
                publish()
            self._checkpoints.close()

    def _append_synced(self, record: Record, then: Then | None) -> None:
        waiting = _waiting(() if then is None else (then,), 1)
        try:
            self._write([record])
        except AuditUnavailable as error:
            if then is None:
                raise
            from gateway.audit.commit import deliver

            deliver([waiting], error)
            return
        if self._commit is not None:
            self._commit.submit(waiting)

    def _write(self, records: list[Record]) -> None:
        if os.getpid() != self._pid:
            raise AuditUnavailable("this process is not the journal's writer but a fork of it")
        if self._closed:
            raise AuditUnavailable("the journal is closed")
        try:
            self._ensure_file()
            if self._file is not None:
                self._go_on(self._file)
            if self._lost or self._unsynced:
                self._put([self._gap(), *records])
                self._lost = self._unsynced = 0
            elif records:
                self._put(records)
        except AuditUnavailable as error:
            self._lost += len(records)
            self._failure = error
            raise
        self._failure = None

    def _put(self, records: list[Record]) -> None:
        """Write `records` to the file, all or none. The chain moves on only when they are in."""
        file = self._file
        if file is None:
            raise AuditUnavailable("the journal has no file")
        seq, prev, lines = file.seq, file.prev, []
        for record in records:
            seq += 1
            line = encode_record(stamped(record, writer=file.writer, seq=seq, prev=prev))
            prev = sha256(line).hexdigest()
            lines.append(line)
        data = b"\n".join([*lines, b""])
        try:
            written = os.write(file.descriptor, data)
        except OSError as error:
            self._take_back(file)
            raise _unavailable(error) from error
        if written != len(data):
            self._take_back(file)
            raise AuditUnavailable("the journal cannot be written: no space left for a record")
        file.size_bytes += written
        file.seq, file.prev = seq, prev
        if self._checkpoints is not None:
            self._checkpoints.added(lines)

    def _take_back(self, file: OpenSegment) -> None:
        """Remove what a failed write may have left of a line; leave the file if that fails too."""
        try:
            os.ftruncate(file.descriptor, file.size_bytes)
        except OSError:
            self._leave_file()

    def _ensure_file(self) -> None:
        if self._commit is not None and self._commit.failure is not None:
            self._leave_file()
        if self._file is not None:
            return
        predecessor = self._predecessor
        try:
            self._file = OpenSegment.create(self._directory, self._pid)
        except OSError as error:
            raise _unavailable(error) from error
        path = self._directory / f"{self._file.writer}{PLAIN}"
        if self._checkpoints is not None:
            self._checkpoints.begin(self._file.writer, self)
        try:
            with heads_of_others(self._directory, self._file.writer) as heads:
                self._put([self._opening(heads)])
            if self._durability == "power":
                self._start_commit(self._file.descriptor)
        except (AuditUnavailable, OSError) as error:
            # Nothing was promised on this file yet: remove it, or a full disk fills up with them.
            self._leave_file()
            self._predecessor = predecessor
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _unavailable(error) from error
            raise

    def _go_on(self, file: OpenSegment) -> None:
        """Go on in the next segment if it is time to; see to it that a new one has its opening."""
        if file.size_bytes and (
            file.size_bytes >= self._segments.max_bytes
            or time.monotonic() - file.opened_s >= self._segments.max_age_s
        ):
            file = self._next_segment(file)
        if not file.size_bytes:
            # Without waiting for the register: calls wait for this.
            with heads_of_others(self._directory, file.writer, file.number, timeout_s=0) as heads:
                opening = Event(
                    time=timestamp(),
                    event="segment.opened",
                    data={"segment": file.number},
                    heads=heads,
                )
                self._put([opening])

    def _next_segment(self, file: OpenSegment) -> OpenSegment:
        """The file after `file`, which is sealed; `file` itself where no other can be made.

        A kill at any point leaves what readers take for one chain: the new file is there, empty,
        before the old one says that it is sealed.
        """
        try:
            following = file.next(self._directory)
        except OSError:
            file.opened_s = time.monotonic()  # not again with the next record
            return file
        path = self._directory / (segment_name(file.writer, following.number) + PLAIN)
        try:
            sealing = Event(time=timestamp(), event="segment.sealed", data={"segment": file.number})
            self._put([sealing])
        except AuditUnavailable:
            os.close(following.descriptor)
            path.unlink(missing_ok=True)
            raise
        following.seq, following.prev = file.seq, file.prev
        self._file = following
        if self._commit is not None:
            self._commit.move(following.descriptor)
        else:
            os.close(file.descriptor)
        compress_aside(self._directory / (segment_name(file.writer, file.number) + PLAIN))
        return following

    def _start_commit(self, descriptor: int) -> None:
        """Have the new file itself on the disk, and from then on its records, group by group."""
        from gateway.audit.commit import GroupCommit
        from gateway.audit.syncers import sync_data

        (self._sync or sync_data)(descriptor)
        sync_directory(self._directory)
        sync_directory(self._directory.parent)
        self._commit = GroupCommit(descriptor, self._directory, self._sync)

    def _leave_file(self) -> None:
        if self._commit is not None:
            self._commit.close()
            self._unsynced += self._commit.unsynced
            self._commit = None
        if self._file is not None:
            self._predecessor = self._file.writer
            with suppress(OSError):  # what it could tell is known: this file is not used again
                os.close(self._file.descriptor)
            self._file = None

    def _opening(self, heads: tuple[Head, ...] | None) -> Event:
        data: dict[str, Scalar] = {"pid": self._pid, "durability": self._durability}
        if self._version:
            data["version"] = self._version
        if self._predecessor:
            data["predecessor"] = self._predecessor
        return Event(time=timestamp(), event="journal.opened", data=data, heads=heads)

    def _gap(self) -> Event:
        data: dict[str, Scalar] = {"lost": self._lost, "unsynced": self._unsynced}
        return Event(time=timestamp(), event="journal.gap", data=data)


def _waiting(thens: Sequence[Then], records: int) -> "Waiting":
    from gateway.audit.commit import Waiting  # asyncio: for durability "power" only

    return Waiting(thens, records)


def _unavailable(error: OSError) -> AuditUnavailable:
    return AuditUnavailable(f"the journal cannot be written: {error.strerror}")
