"""Answers that are pages, and the cookie of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import HTMLResponse

if TYPE_CHECKING:
    from starlette.requests import Request

    from gateway.console.access import Session
    from gateway.console.site import Desk

NAVIGATION: Final = (
    ("/", "Overview"),
    ("/calls", "Calls"),
    ("/refusals", "Refusals"),
    ("/approvals", "Approvals"),
    ("/matrix", "Matrix"),
    ("/upstreams", "Upstreams"),
    ("/drift", "Drift"),
    ("/changes", "Changes"),
    ("/verification", "Verification"),
)


def page(
    desk: Desk,
    request: Request,
    session: Session,
    template: str,
    *,
    title: str,
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    """A page of the console."""
    here = request.url.path.removeprefix(desk.templates.base) or "/"
    text = desk.templates.render(
        template,
        title=title,
        here="/" + here.split("/")[1],
        navigation=NAVIGATION,
        session=session,
        where=desk.site.where,
        **values,
    )
    return HTMLResponse(text, status)


def cookie_name(request: Request) -> str:
    """Cookies do not tell ports apart, and several gateways may run on one host."""
    port = request.headers.get("host", "").rpartition(":")[2]
    return f"gateway_console_{port}" if port.isdigit() else "gateway_console"
