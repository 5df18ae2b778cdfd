"""Asks upstreams what they offer, outside of any client session; nothing is called or recorded."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from gateway.catalog.listing import UpstreamCatalog, build_catalog
from gateway.config.settings import Settings
from gateway.relay.connection import Failure
from gateway.relay.link import Data, UpstreamLink
from gateway.relay.negotiation import own_greeting
from gateway.relay.wiring import open_transport
from gateway.wire import frames
from gateway.wire.envelope import Notification, Request

_AT_ONCE = 6
"""Upstreams that are asked at the same time; each may be a process that takes a while to load."""
_LISTING_TIMEOUT_S = 30.0
_GRACE_S = 2.0


class Surveyed(msgspec.Struct, frozen=True):
    """What one upstream offers, or `problem`: why that cannot be told.

    `instructions` are what it says of itself, None where it says nothing. The problem is a sentence
    without secrets; the last lines of the upstream's stderr may follow.
    """

    upstream: str
    catalog: UpstreamCatalog | None
    problem: str = ""
    instructions: str | None = None


async def survey(
    settings: Settings, upstreams: Iterable[str], asked: Callable[[Surveyed], None]
) -> dict[str, Surveyed]:
    """Start or reach each upstream, read its tools, and end it again.

    `asked` is told of each as it comes. When this returns or is cancelled, what was started for it
    has ended.
    """
    free = asyncio.Semaphore(_AT_ONCE)

    async def ask(name: str) -> Surveyed:
        async with free:
            result = await _ask(settings, name)
        asked(result)
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(name)) for name in upstreams]
    return {result.upstream: result for result in (task.result() for task in tasks)}


async def _ask(settings: Settings, name: str) -> Surveyed:
    start_timeout_s = settings.upstreams[name].start_timeout_s
    answer: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()

    def answered(failure: Failure | None) -> None:
        if not answer.done():
            answer.set_result(failure)

    link = UpstreamLink(
        name,
        _Listener(),
        partial(open_transport, settings, name),
        greeting=own_greeting(),
        start_timeout_s=start_timeout_s,
        max_items=settings.limits.max_tools,
    )
    try:
        link.with_catalog(answered)
        async with asyncio.timeout(start_timeout_s + _LISTING_TIMEOUT_S):
            failure = await answer
        if failure is None:
            return Surveyed(name, link.catalog, instructions=_instructions(link))
        if link.ready and not _has_tools(link):
            return Surveyed(name, build_catalog(name, ()), instructions=_instructions(link))
        return Surveyed(name, None, failure.reason)
    except TimeoutError:
        return Surveyed(name, None, f"the upstream {name!r} did not answer tools/list in time")
    finally:
        await link.stop(_GRACE_S)


def _instructions(link: UpstreamLink) -> str | None:
    told = (link.answer or {}).get("instructions")
    return told if isinstance(told, str) else None


def _has_tools(link: UpstreamLink) -> bool:
    capabilities = (link.answer or {}).get("capabilities")
    return isinstance(capabilities, dict) and "tools" in capabilities


class _Listener:
    """A link's owner that has no client: what the upstream asks is answered with a refusal."""

    def upstream_asked(
        self, link: UpstreamLink, message: Request | Notification, _request: int | None
    ) -> None:
        if not isinstance(message, Request):
            return
        if message.method == "ping":
            link.connection.respond(frames.result(message.id, b"{}"))
            return
        refusal = frames.error(message.id, frames.METHOD_NOT_FOUND, "there is no client to ask")
        link.connection.respond(refusal)

    def upstream_event(self, link: UpstreamLink, event: str, data: Data) -> None:
        pass

    def upstream_ready(self, link: UpstreamLink) -> None:
        pass

    def upstream_lost(self, link: UpstreamLink) -> None:
        pass

    def pause_client(self) -> None:
        pass

    def resume_client(self) -> None:
        pass
