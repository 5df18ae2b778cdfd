"""Calls back what has waited for a fixed time: one timer for all of them."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Waiter(Protocol):
    """What waits. Compared by identity."""

    def waited(self) -> None:
        """The time is over."""


class Patience:
    """Whoever starts to wait is last in the line, so only the first has to be looked at."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._due_s: dict[Waiter, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self, waiter: Waiter) -> None:
        """Call `waiter.waited()` once the time is over; it must not wait already."""
        self._due_s[waiter] = self._loop.time() + self._delay_s
        if self._timer is None:
            self._timer = self._loop.call_later(self._delay_s, self._look)

    def stop(self, waiter: Waiter) -> None:
        """Let it wait no more."""
        self._due_s.pop(waiter, None)

    def _look(self) -> None:
        now_s = self._loop.time()
        self._timer = None
        over = []
        for waiter, due_s in self._due_s.items():
            if due_s > now_s:
                self._timer = self._loop.call_at(due_s, self._look)
                break
            over.append(waiter)
        for waiter in over:
            if self._due_s.pop(waiter, None) is not None:  # not stopped by one before it
                waiter.waited()
