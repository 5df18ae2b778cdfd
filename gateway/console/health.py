"""How upstreams do, and whether the log stands up."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.responses import RedirectResponse

from gateway.audit.calls import Filters
from gateway.config.settings import HttpEntry, SseEntry, UpstreamEntry
from gateway.console.answers import page
from gateway.console.asking import SPANS, span
from gateway.console.rendering import particulars
from gateway.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from gateway.audit.log import AuditLog, Freshness, LoggedEvent, Performance
    from gateway.audit.reader import Problem
    from gateway.console.access import Session
    from gateway.console.site import Desk

_EVENTS: Final = ("upstream.",)
_MAX_EVENTS: Final = 2_000
_MAX_UPSTREAMS: Final = 100
_MAX_TOOLS: Final = 200


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream: what it is, how it did, and what was last heard of it."""

    name: str
    kind: str = ""
    where: str = ""
    held: str = ""
    offered: int | None = None
    withheld: int | None = None
    links: Mapping[str, int] | None = None
    whole: Performance | None = None
    tools: list[Performance] = []
    last: LoggedEvent | None = None
    starts: int = 0
    exits: int = 0

    @property
    def reason(self) -> str:
        """Why it was last lost."""
        if self.last is None or self.last.row.event != "upstream.exited":
            return ""
        return str(dict(particulars(self.last)).get("reason", ""))

    @property
    def state(self) -> str:
        """In a word, as far as the log tells."""
        if self.held:
            return "held"
        if self.last is None:
            return "unused"
        return _STATES.get(self.last.row.event or "", "unknown")


_STATES: Final = {
    "upstream.ready": "ready",
    "upstream.started": "starting",
    "upstream.exited": "lost",
    "upstream.stopped": "stopped",
}


async def upstreams(desk: Desk, request: Request, session: Session) -> Response:
    """Every upstream that is configured or that the log tells of."""
    chosen = span(request.query_params.get("span"))

    def look(log: AuditLog) -> tuple[list[Performance], list[LoggedEvent], list[LoggedEvent]]:
        filters = Filters(since=chosen.since)
        recent = log.events(filters, _MAX_EVENTS, beginnings=_EVENTS)
        known = {each.row.upstream for each in recent}
        earlier: list[LoggedEvent] = []
        for name in [name for name in configured if name not in known][:_MAX_UPSTREAMS]:
            earlier += log.events(Filters(upstream=name), 1, beginnings=_EVENTS)
        return log.performance(filters), recent, earlier

    problem, configured = await desk.reading.work(lambda: _configured(desk))
    performances, recent, earlier = await desk.reading.ask(look)
    found = _health(desk, configured, performances, [*earlier, *recent])
    return page(
        desk,
        request,
        session,
        "upstreams.html",
        title="Upstreams",
        upstreams=found,
        problem=problem,
        spans=SPANS,
        span=chosen,
        live=desk.site.live,
        full=len(recent) == _MAX_EVENTS,
    )


def _configured(desk: Desk) -> tuple[str, Mapping[str, tuple[UpstreamEntry, str]]]:
    """The entries by name, each with why it is held; and why they are not known."""
    try:
        loaded = desk.site.configuration()
    except UserError as error:
        return str(error), {}
    traits = loaded.snapshot.upstreams
    return "", {
        name: (entry, traits[name].held if name in traits else "")
        for name, entry in loaded.settings.upstreams.items()
    }


def _health(
    desk: Desk,
    configured: Mapping[str, tuple[UpstreamEntry, str]],
    performances: list[Performance],
    events: list[LoggedEvent],
) -> list[Health]:
    last: dict[str, LoggedEvent] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for event in events:
        name = event.row.upstream or ""
        last[name] = event
        counts[name, event.row.event or ""] += 1
    wholes = {each.upstream: each for each in performances if each.tool is None}
    tools: dict[str, list[Performance]] = {}
    for each in performances:
        if each.tool is not None:
            tools.setdefault(each.upstream, []).append(each)
    catalogs = {} if desk.site.live is None else desk.site.live.catalogs
    names = sorted({*configured, *wholes, *filter(None, last)})[:_MAX_UPSTREAMS]
    found = []
    for name in names:
        entry, held = configured.get(name, (None, ""))
        catalog = catalogs.get(name)
        found.append(
            Health(
                name=name,
                kind="not configured" if entry is None else _kind(entry),
                where="" if entry is None else f"{entry.path}:{entry.line}",
                held=held,
                offered=None if catalog is None else len(catalog.tools),
                withheld=None if catalog is None else len(catalog.withheld),
                links=None if desk.site.live is None else desk.site.live.links(name),
                whole=wholes.get(name),
                tools=sorted(tools.get(name, []), key=lambda each: -each.calls)[:_MAX_TOOLS],
                last=last.get(name),
                starts=counts[name, "upstream.started"],
                exits=counts[name, "upstream.exited"],
            )
        )
    return found


def _kind(entry: UpstreamEntry) -> str:
    if isinstance(entry, SseEntry):
        return "HTTP+SSE"
    kind = "streamable HTTP" if isinstance(entry, HttpEntry) else "process"
    return f"{kind}, shared" if entry.shared else kind


async def verification(desk: Desk, request: Request, session: Session) -> Response:
    """What is known of the log's own soundness."""

    def look(log: AuditLog) -> tuple[list[Problem], Freshness]:
        return log.problems(), log.freshness()

    problems, freshness = await desk.reading.ask(look)
    verifying = desk.verifying
    return page(
        desk,
        request,
        session,
        "verification.html",
        title="Verification",
        problems=problems,
        freshness=freshness,
        last=None if verifying is None else verifying.last,
        running="" if verifying is None else verifying.began,
        store=verifying is None,
        reload=desk.templates.link("/verification"),
    )


async def verify(
    desk: Desk, request: Request, session: Session, form: Mapping[str, str]
) -> Response:
    """Begin to verify the log."""
    if desk.verifying is not None:
        desk.verifying.begin()
    return RedirectResponse(desk.templates.link("/verification"), 303)
