"""One whole run: rounds over combinations and subjects, then sessions and growth."""

import asyncio
import contextlib
import os
import platform
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.load.messages import BadAnswerError
from bench.measure.calls import Effort, measure
from bench.measure.growth import LARGE, SMALL, measure_growth
from bench.measure.processes import Family
from bench.measure.results import Machine, Results
from bench.measure.running import Running, StartError, free_port
from bench.measure.sessions import idle_sessions
from bench.places import WORK
from bench.subjects.own import own_subjects
from bench.subjects.peers import PACKAGES, peer_subjects
from bench.subjects.subject import COMBOS, Combo, Site, Subject, UnsupportedError

QUICK = Effort(rounds=3, slice_s=0.2, big_calls=2, rates=(1000,), sessions=1000)
FULL = Effort(rounds=7, slice_s=0.6, big_calls=4, rates=(100, 1000), sessions=1000)
PEERS_QUICK = Effort(
    rounds=1,
    slice_s=0.3,
    big_calls=1,
    rates=(),
    sessions=100,
    limit_s=30.0,
    left_out=frozenset(("open", "1 MB, 16 in flight", "10 MB, not ASCII")),
)
PEERS_FULL = Effort(
    rounds=3,
    slice_s=1.0,
    big_calls=1,
    rates=(100,),
    sessions=1000,
    limit_s=30.0,
    left_out=frozenset(("open", "1 MB, 16 in flight", "10 MB, not ASCII")),
)


@dataclass(frozen=True)
class Plan:
    """What to measure: `chosen` tells by subject and combination."""

    mode: str
    own: Effort
    peers: Effort | None
    chosen: Callable[[str, Combo], bool]
    growth: bool


async def run(plan: Plan) -> Results:
    """Measure everything that the plan names."""
    started_s = time.monotonic()
    load_before = os.getloadavg()[0]
    shutil.rmtree(WORK, ignore_errors=True)
    results = Results(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        mode=plan.mode,
        rounds=plan.own.rounds,
        machine=_machine(load_before),
        peers=_peer_versions() if plan.peers else {},
    )
    async with upstream(tools=10) as url:
        await _rounds(plan, url, results)
        await _sessions(plan, url, results)
    if plan.growth:
        await _growth(plan, results)
    results.machine = _machine(load_before)
    results.duration_s = round(time.monotonic() - started_s, 1)
    shutil.rmtree(WORK, ignore_errors=True)
    return results


@contextlib.asynccontextmanager
async def upstream(tools: int) -> AsyncIterator[str]:
    """The HTTP echo upstream; yields its URL."""
    WORK.mkdir(parents=True, exist_ok=True)
    port = free_port()
    argv = (sys.executable, "-m", "bench.upstreams.http", "--port", str(port))
    family = Family((*argv, "--tools", str(tools)), {}, WORK / f"upstream-{port}.txt")
    assert family.process.stdout is not None
    await asyncio.to_thread(family.process.stdout.readline)
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        family.stop()


async def _rounds(plan: Plan, url: str, results: Results) -> None:
    for number in range(plan.own.rounds):
        for combo in COMBOS:
            mine = [each for each in own_subjects() if plan.chosen(each.name, combo)]
            _say(f"round {number + 1} of {plan.own.rounds}, {combo}")
            await _group(mine, combo, url, plan.own, number, results)
            if plan.peers is None or number >= plan.peers.rounds:
                continue
            for peer in peer_subjects():
                if plan.chosen(peer.name, combo):
                    _say(f"round {number + 1}, {combo}: {peer.name}")
                    await _group([peer], combo, url, plan.peers, number, results)


async def _group(
    subjects: Sequence[Subject],
    combo: Combo,
    url: str,
    effort: Effort,
    number: int,
    results: Results,
) -> None:
    """Start the subjects one after the other, measure them in turns, end them."""
    async with contextlib.AsyncExitStack() as stack:
        runnings = []
        for subject in subjects:
            try:
                running = await stack.enter_async_context(started(subject, combo, url))
            except (UnsupportedError, StartError) as error:
                results.fail(subject.name, combo, "", str(error))
            else:
                runnings.append(running)
        await measure(runnings, effort, number, results)


async def _sessions(plan: Plan, url: str, results: Results) -> None:
    """In processes of their own, because memory is what is looked at."""
    for subject, effort in _everyone(plan):
        if subject.name in ("direct", "relay") or not plan.chosen(subject.name, "HH"):
            continue
        if "HH" not in subject.combos:
            continue
        _say(f"idle sessions: {subject.name}")
        try:
            async with started(subject, "HH", url) as running:
                figures = await idle_sessions(running, effort.sessions)
        except (UnsupportedError, StartError, BadAnswerError, TimeoutError, OSError) as error:
            results.fail(subject.name, "HH", "idle sessions", str(error) or type(error).__name__)
        else:
            results.add(subject.name, "HH", 0, **figures)


async def _growth(plan: Plan, results: Results) -> None:
    _say("growth")
    async with upstream(SMALL.tools_each) as small, upstream(LARGE.tools_each) as large:
        try:
            await measure_growth(results, {SMALL: small, LARGE: large}, plan.own.rounds)
        except (StartError, BadAnswerError, TimeoutError, OSError) as error:
            results.fail(LARGE.name, "SH", "growth", str(error) or type(error).__name__)


def _everyone(plan: Plan) -> Iterator[tuple[Subject, Effort]]:
    for subject in own_subjects():
        yield subject, plan.own
    if plan.peers is not None:
        for subject in peer_subjects():
            yield subject, plan.peers


@contextlib.asynccontextmanager
async def started(subject: Subject, combo: Combo, url: str) -> AsyncIterator[Running]:
    """A subject, up and then down again. Raises UnsupportedError, StartError.

    It keeps its directory between rounds, as a gateway does that was started before.
    """
    directory = WORK / f"{combo}-{subject.name}".replace(" ", "-").replace(",", "")
    directory.mkdir(parents=True, exist_ok=True)
    running = await Running.start(subject, combo, Site(directory, free_port(), url))
    try:
        yield running
    finally:
        await running.stop()


def _machine(load_before: float) -> Machine:
    cpu = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return Machine(
        cpus=os.cpu_count() or 1,
        cpu=cpu,
        python=platform.python_version(),
        kernel=platform.release(),
        load=(round(load_before, 1), round(os.getloadavg()[0], 1)),
    )


def _peer_versions() -> dict[str, str]:
    return {
        f"{package.name} ({package.registry})": package.version()
        for package in PACKAGES
        if package.installed
    }


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
