"""Who may do what, what was refused, what drifted and what changed."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.audit.calls import Filters
from gateway.audit.log import CHANGES, LoggedEvent
from gateway.catalog.pins import drift as compare
from gateway.console.answers import page
from gateway.console.asking import SPANS, asked, cursor, place, span
from gateway.console.rendering import NOTHING
from gateway.errors import UserError
from gateway.policy.matrix import Cell, Row, cells_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from gateway.audit.log import AuditLog, Refusal
    from gateway.catalog.listing import UpstreamCatalog
    from gateway.catalog.pins import Drift
    from gateway.console.access import Session
    from gateway.console.site import Desk

MAX_ROWS: Final = 300
MAX_AGENTS: Final = 30
PAGE_EVENTS: Final = 60
_MAX_REFUSALS: Final = 100
_MAX_DRIFT: Final = 500
_DRIFTED: Final = ("tool.changed", "instructions.changed")
WORDS: Final = {
    "reachable": "yes",
    "conditional": "if",
    "asked": "ask",
    "denied": "denied",
    "drifted": "gone",
    "undeclared": NOTHING,
}


class _Table(msgspec.Struct, frozen=True):
    """The matrix, or why there is none."""

    agents: list[str] = []
    groups: list[tuple[str, list[tuple[Row, list[Cell]]]]] = []
    left_off: int = 0
    agents_left_off: int = 0
    asked: list[str] = []
    """The upstreams whose tools are known from the upstreams themselves."""
    configuration: str = ""
    observe: bool = False
    problem: str = ""


async def matrix(desk: Desk, request: Request, session: Session) -> Response:
    """Agents and tools in one table, and the line that decides each cell."""
    only = request.query_params.get("agent") or None
    wanted = request.query_params.get("tool", "").strip()
    table = await desk.reading.work(lambda: _table(desk, only, wanted))
    return page(
        desk,
        request,
        session,
        "matrix.html",
        title="Matrix",
        table=table,
        words=WORDS,
        state_of=state_of,
        only=only or "",
        wanted=wanted,
    )


def state_of(cell: Cell) -> str:
    """Which of `WORDS` a cell says."""
    return "conditional" if cell.state == "reachable" and cell.conditions else cell.state


def _table(desk: Desk, only: str | None, wanted: str) -> _Table:
    try:
        loaded = desk.site.configuration()
    except UserError as error:
        return _Table(problem=str(error))
    snapshot = loaded.snapshot
    catalogs = {} if desk.site.live is None else dict(desk.site.live.catalogs)
    agents = [each for each in snapshot.agents.values() if only in (None, each.name)]
    left_off, agents = len(agents[MAX_AGENTS:]), agents[:MAX_AGENTS]
    rows = rows_of(agents, snapshot.rules.rules, catalogs)
    rows = tuple(row for row in rows if wanted.lower() in row.tool_id.lower())
    shown = rows[:MAX_ROWS]
    found: dict[str, list[Cell]] = {}
    for cell in cells_of(agents, shown, snapshot, catalogs):
        found.setdefault(cell.tool, []).append(cell)
    groups = [
        (upstream, [(row, found.get(row.tool_id, [])) for row in group])
        for upstream, group in groupby(shown, key=lambda row: row.upstream)
    ]
    return _Table(
        [each.name for each in agents],
        groups,
        len(rows) - len(shown),
        left_off,
        sorted(catalogs),
        loaded.settings.path,
        snapshot.observe,
    )


async def refusals(desk: Desk, request: Request, session: Session) -> Response:
    """What was not simply allowed, by the rule that said so."""
    chosen = span(request.query_params.get("span"))
    query = asked(request.query_params)
    filters = msgspec.structs.replace(query.filters, since=chosen.since, until=None)

    def look(log: AuditLog) -> list[Refusal]:
        return log.refusals(filters, _MAX_REFUSALS)

    found = await desk.reading.ask(look)
    return page(
        desk,
        request,
        session,
        "refusals.html",
        title="Refusals",
        refusals=found,
        most=max((each.calls for each in found), default=1),
        full=len(found) == _MAX_REFUSALS,
        spans=SPANS,
        span=chosen,
        asked=query,
    )


async def changes(desk: Desk, request: Request, session: Session) -> Response:
    """What changed in what is permitted, offered or running, the newest first."""
    at = cursor(request.query_params)
    kind = request.query_params.get("kind", "")
    beginnings = (f"{kind}.",) if kind in _KINDS else CHANGES
    before = at[1] if at is not None and at[0] == "before" else None

    def look(log: AuditLog) -> list[LoggedEvent]:
        return log.events(Filters(), PAGE_EVENTS + 1, beginnings=beginnings, before=before)

    found = await desk.reading.ask(look)
    more, found = len(found) > PAGE_EVENTS, found[-PAGE_EVENTS:][::-1]
    older = (
        desk.templates.link("/changes", kind=kind, **place("before", found[-1].cursor))
        if more
        else ""
    )
    return page(
        desk,
        request,
        session,
        "changes.html",
        title="Changes",
        events=found,
        kinds=_KINDS,
        kind=kind if kind in _KINDS else "",
        older=older,
        newest=before is None,
    )


_KINDS: Final = {
    "configuration": "Configuration",
    "trust": "Trust",
    "tool": "Tools",
    "upstream": "Upstreams",
    "approval": "Approvals",
    "console": "Console",
}


async def drift(desk: Desk, request: Request, session: Session) -> Response:
    """What upstreams offer otherwise than it was pinned: now, and as the log tells."""

    def look(log: AuditLog) -> list[LoggedEvent]:
        return log.events(Filters(), PAGE_EVENTS, beginnings=_DRIFTED)[::-1]

    found = await desk.reading.ask(look)
    standing = await desk.reading.work(lambda: _standing(desk))
    return page(
        desk, request, session, "drift.html", title="Drift", events=found, standing=standing
    )


class _Standing(msgspec.Struct, frozen=True):
    """What is pinned, and what of it is otherwise now."""

    path: str = ""
    pinned: list[tuple[str, int]] = []
    drifted: list[Drift] = []
    asked: list[str] = []
    problem: str = ""


def _standing(desk: Desk) -> _Standing:
    try:
        pins = desk.site.configuration().snapshot.pins
    except UserError as error:
        return _Standing(problem=str(error))
    if pins is None:
        return _Standing()
    catalogs: Mapping[str, UpstreamCatalog] = {}
    if desk.site.live is not None:
        catalogs = dict(desk.site.live.catalogs)
    drifted = [
        each
        for catalog in catalogs.values()
        for each in compare(pins, catalog, None)
        if each.part != "instructions"
    ]
    pinned = [(name, len(each.tools)) for name, each in sorted(pins.upstreams.items())]
    return _Standing(pins.path, pinned, drifted[:_MAX_DRIFT], sorted(catalogs))
