"""The calls that wait for a person, and their answers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.responses import RedirectResponse, Response

from gateway.approvals.request import Request as Waiting
from gateway.approvals.request import is_id
from gateway.audit.calls import Filters
from gateway.console.answers import page
from gateway.console.asking import as_recorded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from gateway.audit.log import AuditLog, LoggedEvent
    from gateway.console.access import Session
    from gateway.console.site import Desk

_PAST: Final = 50
_SHOWN: Final = 100
_LOOKS: Final = 40
_LOOK_EVERY_S: Final = 0.05
"""How often, and how long, it is looked whether the gateway has taken an answer."""
_SAID: Final = {
    "approved": "Approved: the call goes on.",
    "denied": "Denied: the call is refused.",
    "untaken": "The answer is given, and the gateway that asked has not taken it: it seems to be "
    "gone.",
}


class Shown(msgspec.Struct, frozen=True):
    """A request with its times as records have them; `here`: an answer here counts."""

    request: Waiting
    asked: str
    expires: str
    here: bool


async def approvals(desk: Desk, request: Request, session: Session) -> Response:
    """What waits, and what was answered."""
    said = _SAID.get(request.query_params.get("said", ""), "")
    return await _page(desk, request, session, note=said)


async def answer(
    desk: Desk, request: Request, session: Session, form: Mapping[str, str]
) -> Response:
    """Approve or deny one: the very one that was shown, which its digest tells."""
    if not session.approves:
        return await _page(desk, request, session, problem="This session only reads.", status=403)
    identifier, said = request.path_params["approval"], form.get("answer")
    if not is_id(identifier) or said not in ("approve", "deny"):
        return await _page(desk, request, session, problem="This is no answer.", status=400)
    digest, remember = form.get("digest", ""), form.get("remember", "call")

    def give() -> str:
        store = desk.site.approvals()
        waiting = store.find(identifier)
        if waiting is None or waiting.digest != digest:
            return "It does not wait for this answer any more."
        if said == "approve" and remember not in waiting.remember:
            return "It cannot be remembered for so long."
        problem = store.answer(
            waiting,
            approved=said == "approve",
            by=session.user,
            way="console",
            remember=remember if said == "approve" else "call",
        )
        return f"The answer does not count: {problem}." if problem else ""

    problem = await asyncio.to_thread(give)
    if problem:
        return await _page(desk, request, session, problem=problem, status=409)
    for _ in range(_LOOKS):
        if await asyncio.to_thread(lambda: desk.site.approvals().taken(identifier)):
            break
        await asyncio.sleep(_LOOK_EVERY_S)
    else:
        said = "untaken"
    words = {"approve": "approved", "deny": "denied"}
    return RedirectResponse(desk.templates.link("/approvals", said=words.get(said, said)), 303)


async def _page(
    desk: Desk,
    request: Request,
    session: Session,
    *,
    note: str = "",
    problem: str = "",
    status: int = 200,
) -> Response:
    def look(log: AuditLog) -> list[LoggedEvent]:
        return log.events(Filters(), _PAST, beginnings=("approval.",))[::-1]

    waiting = await asyncio.to_thread(lambda: desk.site.approvals().pending())
    return page(
        desk,
        request,
        session,
        "approvals.html",
        title="Approvals",
        pending=[_shown(each) for each in waiting[:_SHOWN]],
        left_off=max(0, len(waiting) - _SHOWN),
        events=await desk.reading.ask(look),
        note=note,
        problem=problem,
        reload=desk.templates.link("/approvals"),
        status=status,
    )


def _shown(request: Waiting) -> Shown:
    asked, expires = (
        as_recorded(datetime.fromtimestamp(seconds, UTC))
        for seconds in (request.asked_s, request.expires_s)
    )
    return Shown(request, asked, expires, "console" in request.ways)
