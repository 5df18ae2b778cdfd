"""Puts a console together: for a gateway that serves, or for a log on its own.

Nothing of what pages are made with is imported before the first of them is asked for.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

from gateway import __version__
from gateway.approvals.store import Store
from gateway.config.directories import approvals_directory, audit_directory
from gateway.config.references import Where, resolve
from gateway.console.access import LINK_S, Access, Role
from gateway.console.site import BASE, Site
from gateway.errors import UserError
from gateway.identity.person import user_name
from gateway.transports.http_asgi import AsgiMount

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gateway.audit.log import AuditLog
    from gateway.catalog.listing import UpstreamCatalog
    from gateway.config.load import Loaded
    from gateway.config.settings import Settings
    from gateway.relay.wiring import Running
    from gateway.transports.http_asgi import AsgiApp

MIN_TOKEN_CHARS: Final = 24
SHARED: Final = "the store that gateways share"
_SWITCH_S: Final = 0.0005


class Links:
    """Prints the links that lead into one console; `address` is known once it is listened on."""

    def __init__(self) -> None:
        self.address = ""

    def print_link(self, code: str) -> None:
        """Print the link with this code."""
        sys.stderr.write(
            f"Console: {self.address}{BASE}/login?code={code}"
            f" (works once, for {LINK_S / 60:.0f} minutes)\n"
        )
        sys.stderr.flush()


class MountedConsole:
    """The console of a gateway that serves."""

    def __init__(self, pages: AsgiMount, access: Access, links: Links) -> None:
        self.pages = pages
        self._access = access
        self._links = links

    def announce(self, address: str) -> None:
        """The gateway is reached under `address`: say how to get in."""
        self._links.address = address
        code = self._access.new_link()
        if code is not None:
            self._links.print_link(code)
        else:
            sys.stderr.write(f"Console: {address}{BASE}/ with a token of console:\n")
            sys.stderr.flush()


def mount(running: Running, access: Access) -> MountedConsole:
    """The console of `running`."""
    links = Links()
    directory = audit_directory(running.loaded.settings)
    shared = is_shared(running.loaded.settings)
    site = Site(
        where=SHARED if shared else str(directory),
        directory=None if shared else directory,
        open_log=lambda: open_log(directory, running.loaded.settings),
        configuration=lambda: running.loaded,
        approvals=open_approvals,
        record=_Records(running).record,
        print_link=links.print_link,
        live=_Live(running),
    )

    def made() -> AsgiApp:
        # Whenever something comes in, a thread that works on a page is given up to so long before
        # the event loop has its turn. With the usual 5 ms a call beside it took 20 ms instead of 1.
        sys.setswitchinterval(_SWITCH_S)
        return load(site, access)

    return MountedConsole(AsgiMount(BASE, made), access, links)


def load(site: Site, access: Access) -> AsgiApp:
    """Import what pages are made with, and make the application."""
    from gateway.console.app import build

    return build(site, access)


def access_to(settings: Settings, *, local: bool, person: bool) -> Access | None:
    """Who may open the console of a service; None where nobody may.

    `local`: only callers of this host reach it. `person`: as far as it can be told, a person reads
    what is printed; else who follows a link only reads. Raises UserError where a token cannot be
    had.
    """
    console = settings.console
    tokens: dict[Role, str] = {}
    if console.approver_token is not None:
        tokens["approver"] = _token(settings, "approver_token", console.approver_token)
    if console.reader_token is not None:
        tokens["reader"] = _token(settings, "reader_token", console.reader_token)
    if len(set(tokens.values())) < len(tokens):
        raise UserError(
            "console.approver_token and console.reader_token are the same; then every reader "
            "could approve",
            path=settings.path,
            line=settings.lines.get("console"),
        )
    if console.enabled is False or not (local or tokens):
        if console.enabled:
            raise UserError(
                "console.enabled is true, and nobody could log in: on an address that others "
                "reach, set console.approver_token or console.reader_token",
                path=settings.path,
                line=settings.lines.get("console"),
            )
        return None
    return Access(
        tokens,
        user=user_name() if local else None,
        session_s=console.session_minutes * 60.0,
        link_role="approver" if person else "reader",
    )


def is_shared(settings: Settings | None) -> bool:
    """Whether readers are to ask a store that gateways share."""
    return settings is not None and settings.audit.read_from is not None


def open_log(directory: Path, settings: Settings | None = None) -> AuditLog:
    """The log that readers are to ask: the shared store of `settings`, else the directory's."""
    if settings is not None and is_shared(settings):
        from gateway.audit.postgres.log import PostgresLog
        from gateway.config.store import reading_address

        return PostgresLog.open(reading_address(settings, os.environ))
    from gateway.audit.index import Index

    return Index.open(directory)


def open_approvals() -> Store:
    """The approvals of every gateway that runs as this user."""
    return Store.open(approvals_directory())


def recording_into(directory: Path) -> Callable[[str, dict[str, str | int | bool | None]], None]:
    """Writes events into the log of a directory, where no gateway runs that could."""
    from gateway.audit.errors import AuditUnavailable
    from gateway.audit.records import Event, timestamp
    from gateway.audit.shared_journal import SharedJournal

    journal = SharedJournal.open(directory, durability="process", version=__version__)

    def record(event: str, data: dict[str, str | int | bool | None]) -> None:
        try:
            journal.append(Event(time=timestamp(), event=event, data=data))
        except AuditUnavailable as error:
            raise UserError(f"the audit log cannot be written: {error}") from error

    return record


class _Records:
    """Writes events into the log of a gateway that runs."""

    def __init__(self, running: Running) -> None:
        self._recorder = running.gateway.recorder

    def record(self, event: str, data: dict[str, str | int | bool | None]) -> None:
        if not self._recorder.writable:
            raise UserError("the audit log cannot be written")
        self._recorder.event(event, data)


class _Live:
    """What only the running gateway knows. Is a Live."""

    def __init__(self, running: Running) -> None:
        self._running = running

    @property
    def catalogs(self) -> Mapping[str, UpstreamCatalog]:
        return self._running.gateway.in_force.catalogs

    def links(self, upstream: str) -> Mapping[str, int]:
        return Counter(
            each.state
            for each in tuple(self._running.gateway.links)
            if each.name == upstream and each.state != "stopped"
        )

    @property
    def refused(self) -> str:
        return self._running.gateway.in_force.refused

    @property
    def problem(self) -> str | None:
        recorder = self._running.gateway.recorder
        if not recorder.writable:
            return "the audit log cannot be written"
        return recorder.held and f"the audit store is away for too long: {recorder.held}"


def _token(settings: Settings, key: str, reference: str) -> str:
    where = Where(settings.path, settings.lines.get("console", 1), f"console.{key}", settings.root)
    token = resolve(reference, os.environ, where=where)
    if len(token) < MIN_TOKEN_CHARS:
        raise where.error(
            f"resolves to fewer than {MIN_TOKEN_CHARS} characters; make one with "
            "`openssl rand -base64 32`"
        )
    return token


def of_log(
    directory: Path,
    configuration: Callable[[], Loaded],
    links: Links,
    open_store: Callable[[], AuditLog] | None = None,
    *,
    named: bool = True,
) -> Site:
    """A console of a log on its own, without a gateway. Raises UserError where there is no log.

    `named`: it is this directory that is asked for; otherwise audit.read_from goes before it, and
    `open_store`, which opens a shared store, before both. Who comes in is recorded in the directory
    all the same.
    """
    settings = None if named else configuration().settings
    shared = open_store is not None or is_shared(settings)
    if not shared and not directory.is_dir():
        raise UserError(
            "there is no audit log here; name its directory with --directory, "
            "or run the gateway first",
            path=str(directory),
        )
    return Site(
        where=SHARED if shared else str(directory),
        directory=None if shared else directory,
        open_log=open_store or (lambda: open_log(directory, settings)),
        configuration=configuration,
        approvals=open_approvals,
        record=recording_into(directory),
        print_link=links.print_link,
    )
