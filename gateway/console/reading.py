"""Asks the audit log in one thread of its own: pages never wait for it on the event loop.

One thread, because pages must not take from calls: whatever readers ask for, it is one after the
other.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.audit.log import AuditLog
from gateway.errors import UserError

T = TypeVar("T")

REFRESH_S = 1.0
"""How old what a page shows may be."""


class Reading:
    """`open_log` opens the log, in the thread; after an error it is opened anew."""

    def __init__(self, open_log: Callable[[], AuditLog]) -> None:
        self._open_log = open_log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="console")
        self._log: AuditLog | None = None
        self._refreshed_s = float("-inf")

    async def ask(self, question: Callable[[AuditLog], T]) -> T:
        """What `question` answers; all that it asks sees one state of the log.

        Raises UserError when the log cannot be read.
        """
        return await self.work(lambda: self._ask(question))

    async def work(self, job: Callable[[], T]) -> T:
        """The result of something else that would take long on the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)

    def close(self) -> None:
        """Let go of the log, once what is under way is done."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def _ask(self, question: Callable[[AuditLog], T]) -> T:
        try:
            if self._log is None:
                self._log = self._open_log()
            if time.monotonic() - self._refreshed_s > REFRESH_S:
                self._log.refresh()
                self._refreshed_s = time.monotonic()
            with self._log.snapshot():
                return question(self._log)
        except UserError:
            self._close()
            raise

    def _close(self) -> None:
        log, self._log = self._log, None
        self._refreshed_s = float("-inf")
        if log is not None:
            log.close()
