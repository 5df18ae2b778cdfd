"""Group commit: one fdatasync for all records that were written before it started."""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from gateway.audit.errors import AuditUnavailable
from gateway.audit.syncers import Sync, Syncer, start_syncer

Then: TypeAlias = Callable[[AuditUnavailable | None], None]

UNWAITED_S: Final = 0.05
"""How long records that nobody waits for may stay unsynced."""


class GroupCommit:
    """Has one file synced beside the event loop and says there which records are safe.

    After a sync has failed, nothing written to that file can be trusted any more: the kernel may
    have dropped the pages and would report the next sync as good. So `failure` is final, and what
    is submitted from then on is refused with it.

    Its methods are called on one thread. Where no event loop runs there, nobody can be told later:
    they block until everything is synced.
    """

    def __init__(self, descriptor: int, directory: Path, sync: Sync | None = None) -> None:
        """`directory` is where the file is; `sync` replaces fdatasync."""
        self.failure: AuditUnavailable | None = None
        self.unsynced = 0
        """How many records were refused because of `failure`."""
        self._descriptor = descriptor
        self._syncer: Syncer = start_syncer(descriptor, directory, sync)
        self._queue: deque[Waiting | _Move] = deque()
        self._group: list[Waiting] = []  # what the sync under way is for
        self._moving: _Move | None = None  # the move under way
        self._loop: asyncio.AbstractEventLoop | None = None  # that is told when the syncer is done
        self._unwaited = 0  # records that nobody waits for, and that are not submitted yet
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, waiting: "Waiting") -> None:
        """Have all that is written to the file so far on the disk, then tell `waiting`.

        Where nobody waits, it may take UNWAITED_S until then: outcomes are as many as decisions,
        and would have the disk do everything twice.
        """
        if not waiting.thens and self.failure is None:
            self._unwaited += waiting.records
            if self._timer is None and (loop := _running_loop()) is not None:
                self._timer = loop.call_later(UNWAITED_S, self._submit_unwaited)
            if self._timer is not None:
                return
            waiting = self._take_unwaited()
        elif self._unwaited:
            self._queue.append(self._take_unwaited())
        self._queue.append(waiting)
        self._go_on()

    def move(self, descriptor: int) -> None:
        """Go on with another file, once all that is in this one is synced, and close this one."""
        self._queue.append(self._take_unwaited())
        self._queue.append(_Move(descriptor))
        self._go_on()

    def close(self) -> None:
        """Sync what is left; blocks for as long as that takes."""
        if self._unwaited:
            self._queue.append(self._take_unwaited())
        self._finish()
        self._syncer.close()

    def _submit_unwaited(self) -> None:
        self._queue.append(self._take_unwaited())
        self._go_on()

    def _take_unwaited(self) -> "Waiting":
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        records, self._unwaited = self._unwaited, 0
        return Waiting((), records)

    @property
    def _busy(self) -> bool:
        return bool(self._group) or self._moving is not None

    def _go_on(self) -> None:
        """Begin what is next, unless something is under way that this loop will hear of."""
        loop = _running_loop()
        if loop is None or (self._busy and loop is not self._loop):
            self._finish()
        elif not self._busy:
            self._begin(loop)

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Begin with the next group or move. What is queued behind a failure is told of it."""
        self._loop = loop
        queue = self._queue
        while queue:
            if isinstance(first := queue.popleft(), _Move):
                self._moving = first
            else:
                self._group.append(first)
                while queue and isinstance(entry := queue[0], Waiting):
                    self._group.append(entry)
                    queue.popleft()
            if self.failure is None:
                following = None if self._moving is None else self._moving.descriptor
                self._syncer.begin(following, loop, self._arrived)
                return
            deliver(self._end(), self.failure)

    def _arrived(self) -> None:
        """The syncer has finished what it began on this loop, unless it was waited for."""
        if self._busy and self._syncer.ready():
            group = self._end(self._syncer.result())
            failure = self.failure
            self._begin(self._loop)
            _call_all([then for entry in group for then in entry.thens], failure)

    def _finish(self) -> None:
        """Do everything that is queued, and block meanwhile."""
        while self._busy or self._queue:
            if not self._busy:
                self._begin(None)
            if self._busy:
                deliver(self._end(self._syncer.result()), self.failure)

    def _end(self, problem: str | None = None) -> "list[Waiting]":
        """What was under way is over; returns those who wait for it."""
        if problem is not None and self.failure is None:
            self.failure = AuditUnavailable(f"the journal cannot be synced: {problem}")
        group, self._group = self._group, []
        if self._moving is not None:
            former, self._descriptor = self._descriptor, self._moving.descriptor
            self._moving = None
            with suppress(OSError):
                os.close(former)
        if self.failure is not None:
            self.unsynced += sum(entry.records for entry in group)
        return group


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


def deliver(waiting: Sequence[Waiting], failure: AuditUnavailable | None) -> None:
    """Tell everybody in `waiting` in order, each on their loop, one wake-up for all of a loop."""
    loops = {entry.loop: None for entry in waiting if entry.loop is not None}
    for loop in loops:
        continuations = [then for entry in waiting if entry.loop is loop for then in entry.thens]
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            loop.call_soon_threadsafe(_call_all, continuations, failure)


def _call_all(continuations: list[Then], failure: AuditUnavailable | None) -> None:
    for then in continuations:
        try:
            then(failure)
        except Exception as error:  # noqa: BLE001 - it must not stop the others
            context = {"message": "a call could not go on after its record", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
