"""A gateway's journal copied to the shared store: what its sessions notice of that."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from gateway.audit.journal import Journal
from gateway.audit.postgres.address import require_driver
from gateway.audit.postgres.shipper import Shipper, Told
from gateway.audit.postgres.spool import SpoolLimits
from gateway.config.settings import Settings
from gateway.config.store import require_store, store_address
from gateway.relay.recording import Recorder

_DRAIN_S: Final = 1.5
"""How long the last records may take to be copied when the gateway ends."""


class Shipping:
    """Runs the shipper of one gateway, and is its listener.

    Records what happens to the copying, and has the recorder refuse calls while too much waits.
    """

    def __init__(
        self, settings: Settings, directory: Path, journal: Journal, recorder: Recorder
    ) -> None:
        """Raises UserError where the store cannot be used for a reason that is here."""
        require_driver()
        require_store(settings, os.environ)
        self._loop = asyncio.get_running_loop()
        self._recorder = recorder
        self._ended = False
        limits = SpoolLimits(settings.audit.spool.max_bytes, settings.audit.spool.max_age_s)
        self.shipper = Shipper(
            directory,
            limits,
            lambda: store_address(settings, os.environ),
            lambda: journal.writer,
            self,
        )

    def start(self) -> None:
        """Begin to copy, a moment after this."""
        self.shipper.start()

    def close(self) -> None:
        """Copy the rest of a journal that is closed, for a short time."""
        self._ended = True
        self.shipper.close(_DRAIN_S)

    def happened(self, event: str, data: Told) -> None:
        """As `Listener` says."""
        self._later(partial(self._record, event, data))

    def full(self, reason: str | None) -> None:
        """As `Listener` says."""
        self._later(partial(self._hold, reason))

    def _later(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call)

    def _record(self, event: str, data: Told) -> None:
        if self._ended:
            return
        if event != "store.connected":
            what = "cannot be used" if event == "store.unavailable" else "does not take a journal"
            sys.stderr.write(f"gateway: the audit store {what}: {data['reason']}\n")
            sys.stderr.flush()
        if event != "store.refused":
            reason = data.get("reason")
            self._recorder.store_problem = None if reason is None else str(reason)
        self._recorder.event(event, {**data})

    def _hold(self, reason: str | None) -> None:
        if not self._ended:
            self._recorder.hold(reason)
