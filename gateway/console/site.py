"""What one console shows, and what its pages are made with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gateway.approvals.store import Store
    from gateway.audit.log import AuditLog
    from gateway.catalog.listing import UpstreamCatalog
    from gateway.config.load import Loaded
    from gateway.console.access import Access
    from gateway.console.entering import RefusedEntries
    from gateway.console.reading import Reading
    from gateway.console.rendering import Templates
    from gateway.console.verifying import Verifying

BASE: Final = "/console"


class Live(Protocol):
    """What only a gateway that runs in this process knows."""

    @property
    def catalogs(self) -> Mapping[str, UpstreamCatalog]:
        """What each upstream last offered, as far as it was asked."""

    def links(self, upstream: str) -> Mapping[str, int]:
        """How many sessions' connections to an upstream are in which state."""

    @property
    def refused(self) -> str:
        """Why the files as they are now are not in force, "" where they are."""

    @property
    def problem(self) -> str | None:
        """Why calls cannot be served at the moment, or None."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where the console's content comes from.

    `where` names the log for people; `directory` is where its journals are, None for a store.
    `open_log`, `configuration` and `approvals` are called in a thread and may raise UserError.
    `record` writes an event into the log, and raises UserError where it cannot. `print_link` prints
    the link with a code where the gateway was started. `live` None: no gateway runs here.
    """

    where: str
    directory: Path | None
    open_log: Callable[[], AuditLog]
    configuration: Callable[[], Loaded]
    approvals: Callable[[], Store]
    record: Callable[[str, dict[str, str | int | bool | None]], None]
    print_link: Callable[[str], None]
    live: Live | None = None


class Desk(msgspec.Struct, frozen=True):
    """What the pages share."""

    site: Site
    access: Access
    refused: RefusedEntries
    reading: Reading
    templates: Templates
    verifying: Verifying | None
