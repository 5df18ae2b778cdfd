"""Runs slow guards in a process of their own: the event loop never waits, no value takes long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from gateway.policy.guards import build
from gateway.policy.guards.worker import Verdict, WorkerJob, packed, unpacked
from gateway.transports.pipes import PipeReader, PipeWriter
from gateway.transports.spawn import SpawnError, spawn, watch_exit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.policy.guards import Guard
    from gateway.policy.guards.keyword import Job

_TOO_LONG = "The argument takes too long to examine: make it simpler."
_UNEXAMINED = "The argument could not be examined."
_BUSY = "Too many arguments wait to be examined: try again later."

_KEPT_GUARDS = 1024
_REAPED_S = 2.0
_INHERITED = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "SYSTEMROOT")


class _Batch:
    """Several jobs whose verdicts are handed over together."""

    def __init__(self, jobs: int, then: Callable[[tuple[str | None, ...]], None]) -> None:
        self._verdicts: list[str | None] = [_UNEXAMINED] * jobs
        self._open = jobs
        self._then = then

    def answered(self, position: int, problem: str | None) -> None:
        self._verdicts[position] = problem
        self._open -= 1
        if not self._open:
            self._then(tuple(self._verdicts))


class _Waiting(msgspec.Struct, eq=False):
    job: Job
    since_s: float
    answer: Callable[[str | None], None]


class Guarding:
    """Judges the jobs of guards, one slow job at a time, in the order in which they come.

    The process is started on first need. It is ended and a new one started when a job takes longer
    than `timeout_s` or it exits; that job is refused. `start_timeout_s` is for building a guard,
    with the imports it needs. A job that has waited `patience_s` for its turn is refused, and so is
    one that comes while `max_waiting` wait.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 1.0,
        start_timeout_s: float = 15.0,
        patience_s: float = 10.0,
        max_waiting: int = 1000,
    ) -> None:
        self._timeout_s = timeout_s
        self._start_timeout_s = start_timeout_s
        self._patience_s = patience_s
        self._max_waiting = max_waiting
        self._guards: dict[tuple[str, str], Guard] = {}
        self._waiting: deque[_Waiting] = deque()
        self._current: _Waiting | None = None
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._worker: _Worker | None = None
        self._ended: list[_Worker] = []
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process that is running, if any."""
        return None if self._worker is None else self._worker.pid

    def judge(self, jobs: Sequence[Job], then: Callable[[tuple[str | None, ...]], None]) -> None:
        """Call `then` with a verdict for each job: None, or why not.

        At once where no slow guard has to be run. Must be called on the event loop.
        """
        if not jobs:
            then(())
            return
        batch = _Batch(len(jobs), then)
        for position, job in enumerate(jobs):
            self._take(job, partial(batch.answered, position))

    def close(self) -> None:
        """End the process; what waits is refused, and whatever is asked later.

        Blocks until it is gone: milliseconds, as it is killed.
        """
        self._closed = True
        self._end_worker()
        for worker in self._ended:
            worker.reap()
        self._answer(_UNEXAMINED)
        while self._waiting:
            self._waiting.popleft().answer(_UNEXAMINED)

    def _take(self, job: Job, answer: Callable[[str | None], None]) -> None:
        try:
            guard = self._guard(job)
            value = msgspec.json.decode(job.value)
            problem = guard.glance(value) if guard.slow else guard.check(value)
        except Exception:  # noqa: BLE001 - whatever a guard raises, it has not said yes
            answer(_UNEXAMINED)
            return
        if problem is not None or not guard.slow:
            answer(problem)
        elif self._closed:
            answer(_UNEXAMINED)
        elif len(self._waiting) >= self._max_waiting:
            answer(_BUSY)
        else:
            self._waiting.append(_Waiting(job, time.monotonic(), answer))
            self._next()

    def _guard(self, job: Job) -> Guard:
        key = (job.guard, job.options)
        guard = self._guards.get(key)
        if guard is None:
            if len(self._guards) >= _KEPT_GUARDS:
                self._guards.clear()
            guard = self._guards[key] = build(job.guard, msgspec.json.decode(job.options))
        return guard

    def _next(self) -> None:
        """Give the worker the next job, where it has none."""
        while self._current is None and self._waiting:
            self._current = waiting = self._waiting.popleft()
            if time.monotonic() - waiting.since_s > self._patience_s:
                self._answer(_BUSY)
                continue
            if self._worker is None:
                try:
                    self._worker = _Worker(self._said, self._exited)
                except SpawnError:
                    self._answer(_UNEXAMINED)
                    continue
            self._number += 1
            self._limit(self._start_timeout_s)
            job = waiting.job
            self._worker.ask(WorkerJob(self._number, job.guard, job.options, job.value))

    def _said(self, verdict: Verdict) -> None:
        if verdict.number != self._number or self._current is None:
            return
        if not verdict.ended:
            self._limit(self._timeout_s)
            return
        self._answer(verdict.problem)
        self._next()

    def _limit(self, timeout_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._took_too_long)

    def _took_too_long(self) -> None:
        self._end_worker()
        self._answer(_TOO_LONG)
        self._next()

    def _exited(self) -> None:
        self._end_worker()
        if self._current is not None:
            self._answer(_UNEXAMINED)
        self._next()

    def _answer(self, problem: str | None) -> None:
        current, self._current = self._current, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if current is not None:
            current.answer(problem)

    def _end_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()
            self._ended = [*(each for each in self._ended if each.running), worker]


class _Worker:
    """The process, its pipes, and the messages in them. Raises SpawnError."""

    def __init__(self, said: Callable[[Verdict], None], exited: Callable[[], None]) -> None:
        self._said = said
        self._gone = exited
        self._buffer = bytearray()
        self._ended = False
        import tempfile  # most gateways have no slow guard

        loop = asyncio.get_running_loop()
        # -P: no module of the folder we stand in. Nothing of our environment: it holds secrets.
        self._process: subprocess.Popen[bytes] = spawn(
            [sys.executable, "-P", "-m", "gateway.policy.guards.worker"],
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            cwd=tempfile.gettempdir(),
        )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._stdin = PipeWriter(
            loop, process.stdin, pause=_nothing, resume=_nothing, broken=self._broken
        )
        self._stdout = PipeReader(loop, process.stdout, self._received, self._broken)
        self._stderr = PipeReader(loop, process.stderr, lambda _: None, _nothing)
        watch_exit(loop, process, lambda _: self._broken())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def ask(self, job: WorkerJob) -> None:
        self._stdin.write(packed(job))

    def end(self) -> None:
        """Kill it; nothing is reported any more. It is reaped when the loop sees it exit."""
        self._ended = True
        self._stdin.abort()
        self._stdout.close()
        self._stderr.close()
        if self.running:
            self._process.kill()

    def reap(self) -> None:
        """Wait for the end of it, for when the loop will not see it any more."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAPED_S)

    def _received(self, chunk: bytes) -> None:
        self._buffer += chunk
        try:
            verdicts = [
                msgspec.msgpack.decode(body, type=Verdict) for body in unpacked(self._buffer)
            ]
        except msgspec.DecodeError:
            self._broken()
            return
        for verdict in verdicts:
            if not self._ended:
                self._said(verdict)

    def _broken(self) -> None:
        if not self._ended:
            self.end()
            self._gone()


def _nothing() -> None:
    pass
