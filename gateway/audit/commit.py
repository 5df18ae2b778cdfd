"""Group commit: one fdatasync for all records that were written before it started."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, NamedTuple, TypeAlias

from gateway.audit.errors import AuditUnavailable

Then: TypeAlias = Callable[[AuditUnavailable | None], None]
Sync: TypeAlias = Callable[[int], None]

# macOS has no fdatasync.
sync_data: Final[Sync] = getattr(os, "fdatasync", os.fsync)

UNWAITED_S: Final = 0.05
"""How long records that nobody waits for may stay unsynced."""


class GroupCommit:
    """Syncs one file in a thread of its own and says on the event loop which records are safe.

    After a sync has failed, nothing written to that file can be trusted any more: the kernel may
    have dropped the pages and would report the next sync as good. So `failure` is final, and what
    is submitted from then on is refused with it.
    """

    def __init__(self, descriptor: int, sync: Sync) -> None:
        self.failure: AuditUnavailable | None = None
        self.unsynced = 0
        """How many records were refused because of `failure`."""
        self._descriptor = descriptor
        self._sync = sync
        self._queue: SimpleQueue[Waiting | _Move | None] = SimpleQueue()  # None: stop
        self._unwaited = 0  # records that nobody waits for, and that are not submitted yet
        self._timer: asyncio.TimerHandle | None = None
        self._thread = Thread(target=self._run, name="audit-commit", daemon=True)
        self._thread.start()

    def submit(self, waiting: "Waiting") -> None:
        """Have all that is written to the file so far on the disk, then tell `waiting`.

        Where nobody waits, it may take UNWAITED_S until then: outcomes are as many as decisions,
        and would have the disk do everything twice. Must be called on one thread.
        """
        if not waiting.thens and self.failure is None:
            self._unwaited += waiting.records
            if self._timer is None and (loop := _running_loop()) is not None:
                self._timer = loop.call_later(UNWAITED_S, self._submit_unwaited)
            if self._timer is not None:
                return
        self._submit_unwaited()
        if waiting.thens or self.failure is not None:
            self._queue.put(waiting)

    def move(self, descriptor: int, made_safe: Callable[[], None]) -> None:
        """Go on with another file, once all that is in this one is synced, and close this one.

        `made_safe` has the new file's name on the disk; it raises OSError where that fails.
        """
        self._submit_unwaited()
        self._queue.put(_Move(descriptor, made_safe))

    def close(self) -> None:
        """Sync what is left and end the thread; blocks for as long as that takes."""
        self._submit_unwaited()
        self._queue.put(None)
        self._thread.join()

    def _submit_unwaited(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        records, self._unwaited = self._unwaited, 0
        if records:
            self._queue.put(Waiting((), records))

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            group: list[Waiting] = []
            while isinstance(item, Waiting):
                group.append(item)
                try:
                    item = self._queue.get_nowait()
                except Empty:
                    break
            if group:
                self._commit(group)
            if item is None:
                return
            if isinstance(item, _Move):
                self._go_on_with(item)

    def _go_on_with(self, move: "_Move") -> None:
        former, self._descriptor = self._descriptor, move.descriptor
        try:
            if self.failure is None:
                self._sync(move.descriptor)
                move.made_safe()
        except OSError as error:
            self.failure = AuditUnavailable(f"the journal cannot be synced: {error.strerror}")
        with suppress(OSError):
            os.close(former)

    def _commit(self, waiting: "list[Waiting]") -> None:
        if self.failure is None:
            try:
                self._sync(self._descriptor)
            except OSError as error:
                self.failure = AuditUnavailable(f"the journal cannot be synced: {error.strerror}")
        if self.failure is not None:
            self.unsynced += sum(entry.records for entry in waiting)
        deliver(waiting, self.failure)


class Waiting:
    """Who waits for some records: continuations and the event loop that they run on, or nobody."""

    __slots__ = ("loop", "records", "thens")

    def __init__(self, thens: Sequence[Then], records: int) -> None:
        """Raises RuntimeError where there are `thens` and no event loop runs in this thread."""
        self.thens = thens
        self.records = records
        self.loop = asyncio.get_running_loop() if thens else None


class _Move(NamedTuple):
    descriptor: int
    made_safe: Callable[[], None]


def deliver(waiting: Sequence[Waiting], failure: AuditUnavailable | None) -> None:
    """Tell everybody in `waiting` in order, each on their loop, one wake-up for all of a loop."""
    loops = {entry.loop: None for entry in waiting if entry.loop is not None}
    for loop in loops:
        continuations = [then for entry in waiting if entry.loop is loop for then in entry.thens]
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            loop.call_soon_threadsafe(_call_all, loop, continuations, failure)


def _call_all(
    loop: asyncio.AbstractEventLoop, continuations: list[Then], failure: AuditUnavailable | None
) -> None:
    for then in continuations:
        loop.call_soon(then, failure)  # not called here: one that raises must not stop the rest


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
