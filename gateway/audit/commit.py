"""Group commit: one fdatasync for all records that were written before it started."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, TypeAlias

from gateway.audit.errors import AuditUnavailable

Then: TypeAlias = Callable[[AuditUnavailable | None], None]
Sync: TypeAlias = Callable[[int], None]

# macOS has no fdatasync.
sync_data: Final[Sync] = getattr(os, "fdatasync", os.fsync)


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
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()  # None: stop
        self._thread = Thread(target=self._run, name="audit-commit", daemon=True)
        self._thread.start()

    def submit(self, waiting: "Waiting") -> None:
        """Have all that is written to the file so far on the disk, then tell `waiting`."""
        self._queue.put(waiting)

    def close(self) -> None:
        """Sync what is left and end the thread; blocks for as long as that takes."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            group = [self._queue.get()]
            while True:
                try:
                    group.append(self._queue.get_nowait())
                except Empty:
                    break
            waiting = [entry for entry in group if entry is not None]
            stopping = len(waiting) < len(group)
            if waiting:
                self._commit(waiting)

    def _commit(self, waiting: "list[Waiting]") -> None:
        if self.failure is None:
            try:
                self._sync(self._descriptor)
            except OSError as error:
                self.failure = AuditUnavailable(f"the journal cannot be synced: {error.strerror}")
        if self.failure is not None:
            self.unsynced += len(waiting)
        deliver(waiting, self.failure)


class Waiting:
    """Who waits for a record: a continuation and the event loop that it runs on, or nobody."""

    __slots__ = ("loop", "then")

    def __init__(self, then: Then | None) -> None:
        """Raises RuntimeError when there is a `then` and no event loop runs in this thread."""
        self.then = then
        self.loop = None if then is None else asyncio.get_running_loop()


def deliver(waiting: list[Waiting], failure: AuditUnavailable | None) -> None:
    """Tell everybody in `waiting` in order, each on their loop, one wake-up for all of a loop."""
    loops = {entry.loop: None for entry in waiting if entry.loop is not None}
    for loop in loops:
        continuations = [entry.then for entry in waiting if entry.loop is loop]
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            loop.call_soon_threadsafe(_call_all, loop, continuations, failure)


def _call_all(
    loop: asyncio.AbstractEventLoop,
    continuations: list[Then | None],
    failure: AuditUnavailable | None,
) -> None:
    for then in continuations:
        if then is not None:
            loop.call_soon(then, failure)  # not called here: one that raises must not stop the rest
