"""Latency, throughput, sizes, memory and stalls of subjects that run side by side."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.load.loops import Load, closed_loop, open_loop
from bench.load.messages import BadAnswerError, blob, echo
from bench.measure.results import Results
from bench.measure.running import Running

KB = 1_000
MB = 1_000_000
IN_FLIGHT = (1, 16, 64)


@dataclass(frozen=True)
class Effort:
    """How long things are measured: `slice_s` a loop, `big_calls` calls of 10 MB.

    `limit_s` bounds one measurement of one subject; `left_out` are measurements not taken.
    """

    rounds: int
    slice_s: float
    big_calls: int
    rates: tuple[int, ...]
    sessions: int
    limit_s: float = 60.0
    left_out: frozenset[str] = frozenset()


class FailedError(Exception):
    """A measurement came to nothing; the message says why."""


Measurement = Callable[[Running, Effort], Awaitable[dict[str, float]]]
"""Yields figures by metric. Raises FailedError."""


async def measure(
    runnings: Sequence[Running], effort: Effort, number: int, results: Results
) -> None:
    """One round: each measurement is taken of every subject before the next one's turn.

    So what else the machine does at a time meets all subjects alike, as well as it can be had.
    """
    broken: set[str] = set()
    for name, measurement in MEASUREMENTS.items():
        if name in effort.left_out:
            continue
        for running in runnings:
            subject = running.subject.name
            if subject in broken:
                continue
            try:
                async with asyncio.timeout(effort.limit_s):
                    figures = await measurement(running, effort)
            except (FailedError, TimeoutError, BadAnswerError, OSError) as error:
                reason = str(error) or f"no answer within {effort.limit_s:.0f} s"
                results.fail(subject, running.combo, name, reason)
                if isinstance(error, TimeoutError):
                    broken.add(subject)
            else:
                results.add(subject, running.combo, number, **figures)


async def _start(running: Running, effort: Effort) -> dict[str, float]:
    return {"initialize_s": running.initialize_s, "list_s": running.list_s}


async def _idle(running: Running, effort: Effort) -> dict[str, float]:
    rss_mb = running.family.rss_mb()
    call = blob(KB, tool=running.blob)
    _good(await closed_loop(running.session, call, in_flight=1, duration_s=effort.slice_s / 2))
    return {"rss_idle_mb": rss_mb}


def _closed(in_flight: int) -> Measurement:
    async def take(running: Running, effort: Effort) -> dict[str, float]:
        call = blob(KB, tool=running.blob)
        before_s = running.family.cpu_s()
        load = _good(
            await closed_loop(running.session, call, in_flight=in_flight, duration_s=effort.slice_s)
        )
        cpu_us = (running.family.cpu_s() - before_s) * 1e6 / len(load.latencies_us)
        return {
            f"p50_{in_flight}_us": load.percentile_us(50),
            f"p99_{in_flight}_us": load.percentile_us(99),
            f"calls_{in_flight}_per_s": load.calls_per_s,
            f"cpu_{in_flight}_us": cpu_us,
        }

    return take


async def _open(running: Running, effort: Effort) -> dict[str, float]:
    figures: dict[str, float] = {}
    for rate in effort.rates:
        call = echo(tool=running.echo)
        load = _good(await open_loop(running.session, call, rate=rate, duration_s=effort.slice_s))
        figures[f"open_{rate}_p50_us"] = load.percentile_us(50)
        figures[f"open_{rate}_p99_us"] = load.percentile_us(99)
    return figures


def _sized(metric: str, size_bytes: int, *, wide: bool = False, in_flight: int = 1) -> Measurement:
    async def take(running: Running, effort: Effort) -> dict[str, float]:
        call = blob(size_bytes, tool=running.blob, wide=wide)
        calls = effort.big_calls * (3 if size_bytes < 10 * MB else 1) * in_flight
        duration_s = effort.slice_s * 5
        await _warm(running, size_bytes, wide=wide)
        load = _good(
            await closed_loop(
                running.session,
                call,
                in_flight=in_flight,
                duration_s=duration_s,
                max_calls=calls,
            )
        )
        return {metric: load.percentile_us(50) / 1000}

    return take


async def _warm(running: Running, size_bytes: int, *, wide: bool) -> None:
    """The upstream makes a text once; that is not to be measured."""
    call = blob(size_bytes, tool=running.blob, wide=wide)
    _good(await closed_loop(running.session, call, in_flight=1, duration_s=60, max_calls=1))


async def _memory(running: Running, effort: Effort) -> dict[str, float]:
    """What 10 MB add at most to what was resident, and what stays."""
    family = running.family
    before_mb = family.rss_mb()
    family.reset_peak()
    await _warm(running, 10 * MB, wide=False)
    peak_mb = family.peak_mb()
    await asyncio.sleep(0.05)
    return {
        "rss_loaded_mb": before_mb,
        "added_by_10mb_mb": peak_mb - before_mb,
        "rss_after_10mb_mb": family.rss_mb(),
    }


async def _stall(running: Running, effort: Effort) -> dict[str, float]:
    """The longest of another session's calls, one after the other, while 10 MB pass."""
    other = await running.another(elsewhere=True)
    small, big = echo(tool=running.echo), blob(10 * MB, tool=running.blob)
    try:
        _good(await closed_loop(other, small, in_flight=1, duration_s=0.02))
        around = asyncio.ensure_future(
            closed_loop(other, small, in_flight=1, duration_s=effort.slice_s / 2 + 0.1)
        )
        await asyncio.sleep(0.02)
        _good(await closed_loop(running.session, big, in_flight=1, duration_s=60, max_calls=1))
        load = _good(await around)
    finally:
        if other is not running.session:
            await other.close()
    return {"stall_ms": max(load.latencies_us) / 1000}


def _good(load: Load) -> Load:
    if load.problems:
        raise FailedError(load.problems[0])
    if not load.latencies_us:
        raise FailedError("no call was answered")
    return load


MEASUREMENTS: dict[str, Measurement] = {
    "start": _start,
    "idle": _idle,
    **{f"closed {number}": _closed(number) for number in IN_FLIGHT},
    "open": _open,
    "1 MB": _sized("size_1mb_ms", MB),
    "1 MB, 16 in flight": _sized("size_1mb_16_ms", MB, in_flight=16),
    "memory": _memory,
    "10 MB": _sized("size_10mb_ms", 10 * MB),
    "10 MB, not ASCII": _sized("size_10mb_wide_ms", 10 * MB, wide=True),
    "stall": _stall,
}
"""In the order in which they are taken: memory before the first 10 MB."""
