"""How people come in, and out again. Every attempt is in the log."""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.console.access import NotOpened
from gateway.console.answers import cookie_name
from gateway.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from gateway.console.access import Opened, Session
    from gateway.console.site import Desk


_RECORDED_EVERY_S = 1.0


class RefusedEntries:
    """Records who was not let in: at most one record a second, with their number."""

    def __init__(self, record: Callable[[str, dict[str, str | int | bool | None]], None]) -> None:
        self._record = record
        self._count = 0
        self._next_s = float("-inf")

    def note(self, reason: str, way: str, peer: str) -> None:
        """Count one, and record it if it is time."""
        self._count += 1
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + _RECORDED_EVERY_S
        count, self._count = self._count, 0
        # What cannot be recorded was refused all the same.
        with contextlib.suppress(UserError):
            self._record(
                "console.refused", {"reason": reason, "by": way, "peer": peer, "count": count}
            )


def login(desk: Desk, request: Request) -> Response:
    """GET: the page to come in by, or what the link leads to."""
    code = request.query_params.get("code")
    if code is None or request.method == "HEAD":  # a look at a link does not spend it
        return login_page(desk, request)
    return _come_in(desk, request, desk.access.follow_link(code), "link")


def enter(desk: Desk, request: Request, form: Mapping[str, str]) -> Response:
    """POST: a token, or the wish for another link."""
    if "link" in form:
        return _print_link(desk, request)
    if not desk.access.tokens:
        return login_page(desk, request, problem="No token is configured.", status=400)
    opened = desk.access.enter_token(form.get("token", ""), _peer(request))
    return _come_in(desk, request, opened, "token")


async def log_out(
    desk: Desk, request: Request, session: Session, form: Mapping[str, str]
) -> Response:
    """End the session."""
    name = cookie_name(request)
    desk.access.end(request.cookies.get(name, ""))
    response = RedirectResponse(desk.templates.link("/login"), 303)
    response.delete_cookie(name, path=desk.templates.base, httponly=True, samesite="strict")
    return response


def login_page(
    desk: Desk, request: Request, *, problem: str = "", note: str = "", status: int = 200
) -> HTMLResponse:
    """The page that says how to come in."""
    text = desk.templates.render(
        "login.html",
        title="Log in",
        problem=problem,
        note=note,
        links=desk.access.links,
        tokens=desk.access.tokens,
    )
    return HTMLResponse(text, status)


def _come_in(desk: Desk, request: Request, opened: Opened | NotOpened, way: str) -> Response:
    peer = _peer(request)
    if isinstance(opened, NotOpened):
        desk.refused.note(opened.reason, way, peer)
        headers = {}
        if opened.wait_s:
            headers["retry-after"] = str(math.ceil(opened.wait_s))
        response = login_page(
            desk,
            request,
            problem=f"{opened.reason[0].upper()}{opened.reason[1:]}.",
            status=429 if opened.wait_s else 403,
        )
        response.headers.update(headers)
        return response
    session = opened.session
    try:
        desk.site.record(
            "console.opened", {"user": session.user, "role": session.role, "by": way, "peer": peer}
        )
    except UserError as error:
        # Nobody comes in unrecorded.
        desk.access.end(opened.secret)
        return login_page(desk, request, problem=str(error), status=503)
    answer = RedirectResponse(desk.templates.link("/"), 303)
    answer.set_cookie(
        cookie_name(request),
        opened.secret,
        path=desk.templates.base,
        httponly=True,
        samesite="strict",
        # The scheme is that of the page with the form: TLS may end before the gateway.
        secure=request.headers.get("origin", "").startswith("https://"),
    )
    return answer


def _print_link(desk: Desk, request: Request) -> Response:
    if not desk.access.links:
        return login_page(desk, request, problem="Links are given on loopback only.", status=400)
    code = desk.access.new_link()
    if code is None:
        return login_page(desk, request, problem="Wait some seconds, then ask again.", status=429)
    desk.site.print_link(code)
    return login_page(desk, request, note="A new link stands where the gateway was started.")


def _peer(request: Request) -> str:
    return "" if request.client is None else request.client.host
