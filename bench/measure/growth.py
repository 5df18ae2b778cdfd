"""What a call costs in a large world and in a small one: it should be the same."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from bench.load.loops import closed_loop
from bench.load.messages import echo
from bench.load.session import ask_raw
from bench.measure.results import Results
from bench.measure.running import Running
from bench.places import WORK
from bench.subjects import gateway
from bench.subjects.subject import Combo, Launch, Site, Subject

_COMBO: Combo = "SH"
"""Stdio client, HTTP upstreams: one echo server plays all of them, on a path each."""
_LISTINGS = 5


@dataclass(frozen=True)
class World:
    """A configuration's size. The agents share `entries` declared tools; the first has all."""

    name: str
    upstreams: int
    tools_each: int
    agents: int
    entries: int
    rules: int


SMALL = World("small world", upstreams=1, tools_each=10, agents=1, entries=1, rules=0)
LARGE = World("large world", upstreams=100, tools_each=100, agents=500, entries=5_000, rules=5_000)


def configure(world: World, site: Site) -> Launch:
    """Write the world's configuration."""
    names = [f"up{number:03d}" for number in range(world.upstreams)]
    agents = {gateway.AGENT: tuple(f"mcp__{name}" for name in names)}
    each = (world.entries - world.upstreams) // max(1, world.agents - 1)
    for number in range(1, world.agents):
        agents[f"agent{number:03d}"] = tuple(
            f"mcp__{names[(number + entry) % len(names)]}__tool_{entry + 2:05d}"
            for entry in range(each)
        )
    gateway.write(
        site,
        "process",
        upstreams={
            name: gateway.http_entry(site.upstream_url.replace("/mcp", f"/{name}/mcp"))
            for name in names
        },
        agents=agents,
        policies=_policies(world),
    )
    return gateway.run(site, "connect", "--all")


def _policies(world: World) -> Mapping[str, object]:
    """The configuration of `world.rules` policy rules: none, until there are policies."""
    return {}


async def measure_growth(results: Results, urls: Mapping[World, str], slices: int) -> None:
    """Call the same tool in both worlds, in turns, then list all tools. `urls`: their upstreams."""
    async with contextlib.AsyncExitStack() as stack:
        runnings = {
            world: await stack.enter_async_context(_running(world, url))
            for world, url in urls.items()
        }
        for number in range(slices):
            for world, running in runnings.items():
                results.add(world.name, _COMBO, number, **await _cost(running))
        for number in range(_LISTINGS):
            for world, running in runnings.items():
                started_s = time.perf_counter()
                listing = await ask_raw(running.session, "tools/list")
                spent_ms = (time.perf_counter() - started_s) * 1000
                tools = float(listing.count(b'"inputSchema"'))
                results.add(world.name, _COMBO, number, listing_ms=spent_ms, listed_tools=tools)
        for world, running in runnings.items():
            results.add(
                world.name,
                _COMBO,
                0,
                initialize_s=running.initialize_s,
                list_s=running.list_s,
                rss_loaded_mb=running.family.rss_mb(),
            )


async def _cost(running: Running) -> dict[str, float]:
    call = echo(tool=running.echo)
    await closed_loop(running.session, call, in_flight=1, duration_s=0.05)
    one = await closed_loop(running.session, call, in_flight=1, duration_s=0.2)
    before_s = running.family.cpu_s()
    many = await closed_loop(running.session, call, in_flight=64, duration_s=0.5)
    cpu_us = (running.family.cpu_s() - before_s) * 1e6 / max(1, len(many.latencies_us))
    return {
        "p50_1_us": one.percentile_us(50),
        "calls_64_per_s": many.calls_per_s,
        "cpu_64_us": cpu_us,
    }


@contextlib.asynccontextmanager
async def _running(world: World, url: str) -> AsyncIterator[Running]:
    site = Site(WORK / world.name.replace(" ", "-"), 0, url)
    site.directory.mkdir(parents=True, exist_ok=True)
    subject = Subject(world.name, "own", {_COMBO: lambda site: configure(world, site)})
    running = await Running.start(subject, _COMBO, site)
    try:
        await asyncio.sleep(0.5)
        yield running
    finally:
        await running.stop()
