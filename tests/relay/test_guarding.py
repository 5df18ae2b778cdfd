"""Slow guards in a process of their own: answers, limits of time, crashes."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from gateway.policy.guards.keyword import Job
from gateway.relay.guarding import Guarding

# Parsed in square time: ten seconds and more, within all bounds of length and nesting.
SLOW = "select a" + "[1]" * 15_000


def job(statement: object, options: str = "{}", guard: str = "sql") -> Job:
    """A job as a rule asks it."""
    return Job(guard, options, msgspec.json.encode(statement))


async def judged(guarding: Guarding, *jobs: Job) -> tuple[str | None, ...]:
    """The verdicts on some jobs."""
    answer: asyncio.Future[tuple[str | None, ...]] = asyncio.get_running_loop().create_future()
    guarding.judge(jobs, answer.set_result)
    return await asyncio.wait_for(answer, 60)


def run(scenario: Callable[[Guarding], Awaitable[None]], **options: float) -> None:
    """Run a scenario, and see that it leaves no process."""

    async def whole() -> None:
        guarding = Guarding(**options)  # type: ignore[arg-type]  # one of them is an int
        try:
            await scenario(guarding)
        finally:
            pid = guarding.pid
            guarding.close()
        if pid is not None:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    asyncio.run(whole())


async def gone(pid: int) -> None:
    """Wait until there is no such process, not even one that is to be reaped."""
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the process is still there")


def test_verdicts_come_in_the_order_of_the_jobs() -> None:
    async def scenario(guarding: Guarding) -> None:
        quick = job("/etc/passwd", '{"roots": ["/srv"]}', "path")
        verdicts = await judged(
            guarding, job("select 1"), job("drop table t"), quick, job("select 2")
        )
        assert [verdict is None for verdict in verdicts] == [True, False, False, True]
        assert verdicts[1] == "Only these statements are allowed: SELECT."

    run(scenario)


def test_no_process_is_started_where_a_glance_is_enough() -> None:
    async def scenario(guarding: Guarding) -> None:
        answers: list[tuple[str | None, ...]] = []
        nested = job("(" * 200_000 + ")" * 200_000)
        begun = time.perf_counter()
        guarding.judge([nested, job("a", '{"max_bytes": 1}', "size")], answers.append)
        assert time.perf_counter() - begun < 0.1
        assert answers == [("The SQL is longer than 65536 bytes.", None)]
        guarding.judge([], answers.append)
        assert answers[1:] == [()]
        assert guarding.pid is None

    run(scenario)


def test_what_takes_too_long_is_refused_while_the_loop_goes_on() -> None:
    async def scenario(guarding: Guarding) -> None:
        assert await judged(guarding, job("select 1")) == (None,)
        first = guarding.pid
        longest, last, stop = 0.0, time.perf_counter(), False

        async def beat() -> None:
            nonlocal longest, last
            while not stop:
                await asyncio.sleep(0.005)
                now = time.perf_counter()
                longest, last = max(longest, now - last), now

        beating = asyncio.ensure_future(beat())
        slow, after = await asyncio.gather(
            judged(guarding, job(SLOW)), judged(guarding, job("select 2"))
        )
        stop = True
        await beating
        assert slow == ("The argument takes too long to examine: make it simpler.",)
        assert after == (None,)
        assert guarding.pid != first
        assert first is not None
        await gone(first)
        assert longest < 0.3

    run(scenario, timeout_s=0.4)


def test_a_crash_is_a_refusal_and_the_next_job_has_a_new_process() -> None:
    async def scenario(guarding: Guarding) -> None:
        assert await judged(guarding, job("select 1")) == (None,)
        assert guarding.pid is not None
        waiting = asyncio.ensure_future(judged(guarding, job(SLOW)))
        await asyncio.sleep(0.05)
        os.kill(guarding.pid, signal.SIGKILL)
        assert await waiting == ("The argument could not be examined.",)
        assert await judged(guarding, job("select 1")) == (None,)

    run(scenario, timeout_s=30)


def test_a_process_that_dies_between_jobs_is_replaced() -> None:
    async def scenario(guarding: Guarding) -> None:
        assert await judged(guarding, job("select 1")) == (None,)
        pid = guarding.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
        assert await judged(guarding, job("select 1")) == (None,)
        assert guarding.pid != pid

    run(scenario)


@pytest.mark.parametrize(
    "asked",
    [
        Job("nowhere", "{}", b'"x"'),
        Job("sql", '{"unknown": 1}', b'"x"'),
        Job("sql", "no JSON", b'"x"'),
        Job("sql", "{}", b"no JSON"),
    ],
)
def test_what_cannot_be_judged_is_refused(asked: Job) -> None:
    async def scenario(guarding: Guarding) -> None:
        assert await judged(guarding, asked) == ("The argument could not be examined.",)

    run(scenario)


def test_too_many_jobs_are_refused() -> None:
    async def scenario(guarding: Guarding) -> None:
        verdicts = await judged(guarding, *[job("select 1")] * 5)
        busy = "Too many arguments wait to be examined: try again later."
        assert verdicts == (None, None, None, busy, busy)

    run(scenario, max_waiting=2)


def test_a_job_does_not_wait_for_ever() -> None:
    async def scenario(guarding: Guarding) -> None:
        slow, after = await asyncio.gather(
            judged(guarding, job(SLOW)), judged(guarding, job("select 1"))
        )
        assert slow != (None,)
        assert after == ("Too many arguments wait to be examined: try again later.",)

    run(scenario, timeout_s=0.3, patience_s=0.1)


def test_a_process_that_cannot_get_ready_is_given_up() -> None:
    async def scenario(guarding: Guarding) -> None:
        begun = time.perf_counter()
        assert await judged(guarding, job("select 1")) != (None,)
        assert time.perf_counter() - begun < 5

    run(scenario, start_timeout_s=0.01)


def test_closing_refuses_what_waits_and_what_comes() -> None:
    async def scenario(guarding: Guarding) -> None:
        waiting = [asyncio.ensure_future(judged(guarding, job(SLOW))) for _ in range(3)]
        await asyncio.sleep(0)
        pid = guarding.pid
        guarding.close()
        refused = ("The argument could not be examined.",)
        assert await asyncio.gather(*waiting) == [refused] * 3
        assert await judged(guarding, job("select 1")) == refused
        assert pid is not None
        await gone(pid)

    run(scenario)


def test_the_process_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_GATEWAY", "hunter2")

    async def scenario(guarding: Guarding) -> None:
        assert await judged(guarding, job("select 1")) == (None,)
        with open(f"/proc/{guarding.pid}/environ", "rb") as environ:  # noqa: ASYNC230, PTH123
            assert b"hunter2" not in environ.read()

    run(scenario)
