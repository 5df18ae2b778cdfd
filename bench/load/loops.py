"""Load: closed loops with so many calls in flight, open loops at so many calls a second."""

import asyncio
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.load.messages import BadAnswerError, CallSpec, check
from bench.load.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

_DRAIN_S = 30.0
_NS = 1_000_000_000


@dataclass
class Load:
    """What a loop has seen. `latencies_us` has one entry for each call that was answered well.

    `elapsed_s` runs from the first call to the last answer.
    """

    latencies_us: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def calls_per_s(self) -> float:
        """Answers a second."""
        return len(self.latencies_us) / self.elapsed_s if self.elapsed_s else 0.0

    def percentile_us(self, percent: float) -> float:
        """A percentile of the latencies, nearest rank."""
        ordered = sorted(self.latencies_us)
        if not ordered:
            return float("nan")
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


async def closed_loop(
    session: Session,
    call: CallSpec,
    *,
    in_flight: int,
    duration_s: float,
    max_calls: int = 10_000_000,
) -> Load:
    """Each answer sends the next call, until time or calls are used up; then the rest is awaited.

    Raises TimeoutError when answers stay out.
    """
    await session.prepare(in_flight)
    run = _Run(session, call)
    remaining = max_calls
    deadline_ns = time.perf_counter_ns() + int(duration_s * _NS)

    def refill(now_ns: int) -> None:
        nonlocal remaining
        if remaining and now_ns < deadline_ns and not run.load.problems:
            remaining -= 1
            run.send(now_ns)
        else:
            run.stop()

    run.answered = refill
    for _ in range(min(in_flight, max_calls)):  # however late it is by now
        remaining -= 1
        run.send(time.perf_counter_ns())
    return await run.finished()


async def open_loop(session: Session, call: CallSpec, *, rate: int, duration_s: float) -> Load:
    """Calls leave at fixed times, whatever happens to the ones before.

    A latency counts from the time that the call was due, not from when it left: a stall shows in
    every call that it held up (no coordinated omission). Raises TimeoutError.
    """
    await session.prepare(64)
    run = _Run(session, call)
    loop = asyncio.get_running_loop()
    start_ns = time.perf_counter_ns()
    due_ns = [start_ns + number * _NS // rate for number in range(int(rate * duration_s) or 1)]
    waiting = iter(due_ns)
    wake_read, wake_write = os.pipe()

    def tick() -> None:
        """A thread, because the event loop's own clock has a resolution of a millisecond."""
        for due in due_ns:
            delay_s = (due - time.perf_counter_ns()) / _NS
            if delay_s > 0:
                time.sleep(delay_s)
            os.write(wake_write, b".")
        os.close(wake_write)

    def woken() -> None:
        ticks = os.read(wake_read, 4096)
        for _ in ticks:
            run.send(next(waiting))
        if not ticks:
            loop.remove_reader(wake_read)
            run.stop()

    loop.add_reader(wake_read, woken)
    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        return await run.finished(extra_s=duration_s)
    finally:
        loop.remove_reader(wake_read)
        await loop.run_in_executor(None, ticker.join)
        os.close(wake_read)


class _Run:
    """Sends calls and keeps account; `answered` is called after each answer, with the time."""

    def __init__(self, session: Session, call: CallSpec) -> None:
        self.load = Load()
        self.answered: Callable[[int], None] | None = None
        self._session = session
        self._call = call
        self._open = 0
        self._stopped = False
        self._start_ns = time.perf_counter_ns()
        self._last_ns = self._start_ns
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, since_ns: int) -> None:
        """Send one call, whose latency counts from `since_ns`."""
        self._open += 1

        def done(answer: bytes | BadAnswerError) -> None:
            self._done(since_ns, answer)

        self._session.request("tools/call", self._call.params, done)

    def stop(self) -> None:
        """Send no more: it is over with the last answer."""
        self._stopped = True
        if self._open == 0 and not self._over.done():
            self._over.set_result(None)

    async def finished(self, *, extra_s: float = 0.0) -> Load:
        """Wait for the last answer."""
        async with asyncio.timeout(_DRAIN_S + extra_s):
            await self._over
        self.load.elapsed_s = (self._last_ns - self._start_ns) / _NS
        return self.load

    def _done(self, since_ns: int, answer: bytes | BadAnswerError) -> None:
        now_ns = self._last_ns = time.perf_counter_ns()
        self._open -= 1
        try:
            if isinstance(answer, BadAnswerError):
                raise answer
            check(answer, self._call)
        except BadAnswerError as error:
            self.load.problems.append(str(error))
        else:
            self.load.latencies_us.append((now_ns - since_ns) / 1000)
        if self.answered is not None:
            self.answered(now_ns)
        if self._stopped:
            self.stop()
