"""The benchmark's harness still runs: its smallest cases, without a word about times."""

import uvloop

from bench.load.loops import closed_loop, open_loop
from bench.load.messages import blob, echo
from bench.measure.calls import Effort, measure
from bench.measure.results import Machine, Results
from bench.measure.run import started, upstream
from bench.report.page import summary
from bench.report.plots import CHARTS, svg
from bench.report.targets import targets
from bench.subjects.own import own_subjects
from bench.subjects.subject import Combo, Subject


def subject(name: str) -> Subject:
    return next(each for each in own_subjects() if each.name == name)


def empty() -> Results:
    machine = Machine(cpus=1, cpu="", python="", kernel="", load=(0.0, 0.0))
    return Results(started="2026-01-01T00:00:00+00:00", mode="test", rounds=1, machine=machine)


async def answered(name: str, combo: Combo, calls: int) -> int:
    async with upstream(tools=2) as url, started(subject(name), combo, url) as running:
        call = blob(1_000, tool=running.blob)
        load = await closed_loop(
            running.session, call, in_flight=4, duration_s=30.0, max_calls=calls
        )
        assert load.problems == []
        return len(load.latencies_us)


def test_a_closed_loop_gets_every_answer_of_the_stdio_upstream() -> None:
    assert uvloop.run(answered("direct", "SS", 50)) == 50


def test_a_closed_loop_gets_every_answer_through_the_relay_between_http_ends() -> None:
    assert uvloop.run(answered("relay", "HH", 50)) == 50


def test_an_open_loop_sends_what_is_due() -> None:
    async def run() -> int:
        async with upstream(tools=2) as url, started(subject("direct"), "HH", url) as running:
            load = await open_loop(running.session, echo(), rate=500, duration_s=0.1)
            assert load.problems == []
            return len(load.latencies_us)

    assert uvloop.run(run()) == 50


def test_a_round_yields_figures_that_can_be_reported() -> None:
    results = empty()

    async def run() -> None:
        effort = Effort(rounds=1, slice_s=0.02, big_calls=1, rates=(100,), sessions=1)
        async with upstream(tools=2) as url, started(subject("direct"), "SS", url) as running:
            await measure([running], effort, 0, results)

    uvloop.run(run())

    assert results.problems == []
    assert (results.value("direct", "SS", "calls_64_per_s") or 0) > 0
    assert "| SS direct |" in summary(results)
    assert svg(CHARTS[0], results).startswith("<svg")
    assert all(target.reached is None for target in targets(results))
