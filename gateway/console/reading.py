"""Asks the audit log in one thread of its own: pages never wait for it on the event loop.

One thread, because pages must not take from calls: whatever readers ask for, it is one after the
other. It is a daemon, so that a gateway that is to stop does not wait for a long question.
"""

import asyncio
import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from gateway.audit.log import AuditLog

T = TypeVar("T")

REFRESH_S = 1.0
"""How old what a page shows may be."""


class Reading:
    """`open_log` opens the log, in the thread; after an error it is opened anew."""

    def __init__(self, open_log: Callable[[], AuditLog]) -> None:
        self._open_log = open_log
        self._log: AuditLog | None = None
        self._refreshed_s = float("-inf")
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        Thread(target=self._run, name="console", daemon=True).start()

    async def ask(self, question: Callable[[AuditLog], T]) -> T:
        """What `question` answers; all that it asks sees one state of the log.

        Raises UserError when the log cannot be read.
        """
        return await self.work(lambda: self._ask(question))

    async def work(self, job: Callable[[], T]) -> T:
        """The result of something else that would take long on the event loop."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            if done.cancelled():
                return  # nobody waits for it any more
            settle: Callable[[Any], None]
            try:
                result: Any = job()
                settle = done.set_result
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                result, settle = error, done.set_exception
            loop.call_soon_threadsafe(lambda: None if done.done() else settle(result))

        self._jobs.put(run)
        return await done

    def _run(self) -> None:
        while True:
            try:
                self._jobs.get()()
            except RuntimeError:
                return

    def _ask(self, question: Callable[[AuditLog], T]) -> T:
        try:
            if self._log is None:
                self._log = self._open_log()
            if time.monotonic() - self._refreshed_s > REFRESH_S:
                self._log.refresh()
                self._refreshed_s = time.monotonic()
            with self._log.snapshot():
                return question(self._log)
        except BaseException:
            log, self._log = self._log, None
            self._refreshed_s = float("-inf")
            if log is not None:
                log.close()
            raise
