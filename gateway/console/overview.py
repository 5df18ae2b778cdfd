"""The first page: how things stand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.audit.calls import Call, Filters
from gateway.console.answers import page
from gateway.console.asking import SPANS, span
from gateway.console.charts import buckets, calls_chart, latency_chart

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from gateway.audit.log import Activity, AuditLog, Freshness, Performance, Refusal, Tally
    from gateway.console.access import Session
    from gateway.console.site import Desk

_ROWS: Final = 6


class _Look(msgspec.Struct, frozen=True):
    activity: list[Activity]
    agents: list[Tally]
    tools: list[Tally]
    refusals: list[Refusal]
    upstreams: list[Performance]
    newest: list[Call]
    freshness: Freshness


async def overview(desk: Desk, request: Request, session: Session) -> Response:
    """Charts of the calls, who makes them, what was refused, and what is new."""
    chosen = span(request.query_params.get("span"))
    filters = Filters(since=chosen.since)

    def look(log: AuditLog) -> _Look:
        return _Look(
            log.activity(chosen.unit, filters),
            log.tallies("agent", filters, _ROWS),
            log.tallies("tool", filters, _ROWS),
            log.refusals(filters, _ROWS),
            [each for each in log.performance(filters) if each.tool is None],
            log.calls(Filters(), _ROWS)[::-1],
            log.freshness(),
        )

    seen = await desk.reading.ask(look)
    waiting = await asyncio.to_thread(lambda: len(desk.site.approvals().pending()))
    parts = buckets(chosen, seen.activity)
    return page(
        desk,
        request,
        session,
        "overview.html",
        title="Overview",
        spans=SPANS,
        span=chosen,
        buckets=parts,
        calls=sum(part.calls for part in parts),
        refused=sum(part.refused for part in parts),
        failed=sum(part.failed for part in parts),
        calls_chart=calls_chart(parts),
        latency_chart=latency_chart(parts),
        seen=seen,
        live=desk.site.live,
        waiting=waiting,
        verified=None if desk.verifying is None else desk.verifying.last,
    )
