"""The console as an ASGI application: which page is where, who may see it, and under which rules.

Every answer carries the same headers. They let a page have nothing but styles, scripts and pictures
of its own, be framed by nobody, and be kept by nobody. The referrer is kept to the console itself
rather than dropped altogether: without any, browsers send `Origin: null` with a form, and then
nobody could tell a form of ours from a foreign one.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway.console import approving, calls, entering, health, overview, permissions
from gateway.console.answers import cookie_name, page
from gateway.console.reading import Reading
from gateway.console.rendering import ASSETS, Templates, asset, asset_version
from gateway.console.site import BASE, Desk
from gateway.console.verifying import Verifying
from gateway.errors import UserError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gateway.console.access import Access, Session
    from gateway.console.site import Site

Form: TypeAlias = Mapping[str, str]
Page: TypeAlias = "Callable[[Desk, Request, Session], Awaitable[Response]]"
Deed: TypeAlias = "Callable[[Desk, Request, Session, Form], Awaitable[Response]]"

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_MAX_FORM_BYTES = 16 * 1024
_PAGES: Final[Mapping[str, Page]] = {
    "/": overview.overview,
    "/calls": calls.calls,
    "/calls/{call}": calls.story,
    "/calls/{call}/records": calls.records,
    "/refusals": permissions.refusals,
    "/approvals": approving.approvals,
    "/matrix": permissions.matrix,
    "/upstreams": health.upstreams,
    "/drift": permissions.drift,
    "/changes": permissions.changes,
    "/verification": health.verification,
}
_DEEDS: Final[Mapping[str, Deed]] = {
    "/logout": entering.log_out,
    "/approvals/{approval}": approving.answer,
    "/verification": health.verify,
}


def build(site: Site, access: Access) -> Starlette:
    """The application. It serves what is below `BASE`."""
    refused = entering.RefusedEntries(site.record)
    reading = Reading(site.open_log)
    verifying = None if site.directory is None else Verifying(site.directory)
    desk = Desk(site, access, refused, reading, Templates(BASE), verifying)
    routes = [
        Route(BASE, _to_start, methods=["GET"]),
        Route(BASE + "/static/{version}/{name}", _asset, methods=["GET"]),
        Route(BASE + "/login", _entering(desk), methods=["GET", "POST"]),
    ]
    routes += [
        Route(BASE + path, _reading(desk, show), methods=["GET"]) for path, show in _PAGES.items()
    ]
    routes += [
        Route(BASE + path, _doing(desk, do), methods=["POST"]) for path, do in _DEEDS.items()
    ]
    app = Starlette(routes=routes, exception_handlers={404: _not_found(desk)})
    app.add_middleware(_Headers)
    return app


class _Headers:
    """Puts the headers on every answer, those to what went wrong included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, dressed)


def _reading(desk: Desk, show: Page) -> Callable[[Request], Awaitable[Response]]:
    """A page for whoever has a session."""

    async def handle(request: Request) -> Response:
        session = _session(desk, request)
        if session is None:
            return entering.login_page(desk, request, status=401)
        return await _explained(desk, request, session, lambda: show(desk, request, session))

    return handle


def _doing(desk: Desk, do: Deed) -> Callable[[Request], Awaitable[Response]]:
    """Something that a form of a page does: nobody else's form may."""

    async def handle(request: Request) -> Response:
        if not from_own_page(request):
            return PlainTextResponse("This form does not come from the console.\n", 403)
        session = _session(desk, request)
        if session is None:
            return entering.login_page(desk, request, status=401)
        form = await _form(request)
        if form is None or not hmac.compare_digest(
            form.get("csrf", "").encode(), session.csrf.encode()
        ):
            return PlainTextResponse(
                "The form is not from this session. Go back, load the page anew and try again.\n",
                403,
            )
        return await _explained(desk, request, session, lambda: do(desk, request, session, form))

    return handle


def _entering(desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        if request.method != "POST":
            return entering.login(desk, request)
        form = await _form(request)
        if form is None or not from_own_page(request):
            return PlainTextResponse("This form does not come from the console.\n", 403)
        return entering.enter(desk, request, form)

    return handle


async def _explained(
    desk: Desk, request: Request, session: Session, respond: Callable[[], Awaitable[Response]]
) -> Response:
    """A page that cannot be made, because of something a person can mend, says so."""
    try:
        return await respond()
    except UserError as error:
        return page(
            desk,
            request,
            session,
            "error.html",
            title="Cannot be shown",
            error=str(error),
            status=503,
        )


def from_own_page(request: Request) -> bool:
    """Whether a form was sent by a page of this very host: what the listener lets other origins do
    (`http.allowed_origins`) is about calls."""
    origin = request.headers.get("origin", "")
    host = request.headers.get("host", "")
    scheme, _, sender = origin.partition("://")
    return bool(host) and scheme in ("http", "https") and sender.lower() == host.lower()


def _session(desk: Desk, request: Request) -> Session | None:
    secret = request.cookies.get(cookie_name(request))
    return None if secret is None else desk.access.session(secret)


async def _form(request: Request) -> Form | None:
    """The fields of a form as browsers send it by default; None where it is another."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return None
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_FORM_BYTES:
            return None
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=50))
    except ValueError:
        return None


async def _to_start(_: Request) -> Response:
    return RedirectResponse(BASE + "/", 308)


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS or request.path_params["version"] != asset_version(name):
        return PlainTextResponse("Not found\n", 404)
    kept = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(asset(name), media_type=ASSETS[name], headers=kept)


def _not_found(desk: Desk) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, _: Exception) -> Response:
        session = _session(desk, request)
        if session is None:
            return entering.login_page(desk, request, status=401)
        return page(
            desk,
            request,
            session,
            "error.html",
            title="There is no such page",
            error="The address may have a mistake in it.",
            status=404,
        )

    return handle
