"""The calls that wait for a person, and their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException

from gateway.audit.calls import Filters
from gateway.console.answers import page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from gateway.audit.log import AuditLog, LoggedEvent
    from gateway.console.access import Session
    from gateway.console.site import Desk

_PAST: Final = 50


async def approvals(desk: Desk, request: Request, session: Session) -> Response:
    """What waits, and what was answered."""

    def look(log: AuditLog) -> list[LoggedEvent]:
        return log.events(Filters(), _PAST, beginnings=("approval.",))[::-1]

    return page(
        desk,
        request,
        session,
        "approvals.html",
        title="Approvals",
        pending=[],
        events=await desk.reading.ask(look),
    )


async def answer(
    desk: Desk, request: Request, session: Session, form: Mapping[str, str]
) -> Response:
    """Approve or deny one."""
    raise HTTPException(404)
