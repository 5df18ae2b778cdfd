"""Copies this process's journal to the store while it is written, beside the event loop.

Two threads: one copies and may wait for the network for long; the other only looks at the files,
so that the bound on what waits holds whatever the network does. A block of the journal goes to the
server as it is; the server takes it apart, which leaves the interpreter to the calls.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from gateway.audit.postgres.address import Address, StoreUnavailable
from gateway.audit.postgres.copying import Copier
from gateway.audit.postgres.schema import require_schema
from gateway.audit.postgres.source import Differs, Place, Source
from gateway.audit.postgres.spool import Spool, SpoolLimits, lock_leftovers
from gateway.errors import UserError

Told = Mapping[str, str | int | bool | None]

START_AFTER_S: Final = 0.5
"""A client's first message is on its way, and importing the driver takes a moment."""

_INTERVAL_S: Final = 0.25
_LOOK_SHARE: Final = 100  # looking at the files takes at most one part in so many
_KEEP_S: Final = 30.0
_RETRY_S: Final = (0.5, 5.0)


class Listener(Protocol):
    """Who hears of the shipping; called on its threads."""

    def happened(self, event: str, data: Told) -> None:
        """Something that belongs into the log."""

    def full(self, reason: str | None) -> None:
        """Nothing more may be recorded, and why; None: there is room again."""


class Shipper:
    """The copying of one gateway process. `writer` tells its journal's writer at the moment.

    `address` resolves the store's address anew for each connection; raises UserError.
    """

    def __init__(
        self,
        directory: Path,
        limits: SpoolLimits,
        address: Callable[[], Address],
        writer: Callable[[], str],
        listener: Listener,
    ) -> None:
        self.spool = Spool(directory, limits)
        self.problem: str | None = None
        """Why the store cannot be used at the moment; None where it can, or it is not known."""
        self._directory = directory
        self._address = address
        self._writer = writer
        self._listener = listener
        self._told: str | None = None  # the last event about the connection
        self._full: str | None = None
        self._looking = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._todo: dict[str, Source] = {}
        self._places: dict[str, Place] = {}
        self._unlock: Callable[[], None] | None = None
        self._kept_s = 0.0
        self._threads = [
            threading.Thread(target=self._watch, name="audit-spool", daemon=True),
            threading.Thread(target=self._run, name="audit-ship", daemon=True),
        ]

    def start(self) -> None:
        """Begin. What waits from earlier runs is counted before this returns."""
        self.spool.recall()
        self._look()
        for thread in self._threads:
            thread.start()

    def close(self, timeout_s: float) -> bool:
        """Copy what is left, for so long at most; whether nothing waits any more.

        What is left after that is copied by the next gateway here.
        """
        self._stopping.set()
        self._wake.set()
        deadline = time.monotonic() + timeout_s
        for thread in reversed(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        return not self.spool.waiting_bytes

    def _watch(self) -> None:
        looking_s = 0.0
        while not self._stopping.wait(max(_INTERVAL_S, looking_s * _LOOK_SHARE)):
            looking_s = self._look()

    def _look(self) -> float:
        """See what waits, and say when it is too much; how long that took, in seconds."""
        with self._looking:
            begun = time.monotonic()
            if self._unlock is None:
                with suppress(OSError):
                    self._unlock = lock_leftovers(self._directory)
                self.spool.keeper = self._unlock is not None
            self.spool.current = self._writer()
            self.spool.own.add(self.spool.current)
            try:
                self._todo = self.spool.look()
                full = self.spool.full()
            except Exception as error:  # noqa: BLE001 - what waits is not known: no call goes on
                full = f"it cannot be found out what waits to be copied ({type(error).__name__})"
            if self._todo:
                self._wake.set()
            if (full is None) != (self._full is None):
                self._full = full
                self._listener.full(full)
            return time.monotonic() - begun

    def _run(self) -> None:
        self._stopping.wait(START_AFTER_S)
        retry_s = _RETRY_S[0]
        while True:
            try:
                self._serve()
                return
            except StoreUnavailable as error:
                problem = str(error)
            except UserError as error:
                problem = error.message
            except Exception as error:  # noqa: BLE001 - whatever it is, copying has to go on
                problem = f"the journals here cannot be copied ({type(error).__name__})"
            was_reached, self.problem = self.problem is None and self._told is not None, problem
            if was_reached:
                retry_s = _RETRY_S[0]
                continue  # connections end for reasons that do not matter: see whether this is one
            self._tell("store.unavailable", {"reason": problem})
            if self._stopping.wait(retry_s):
                return
            retry_s = min(retry_s * 2, _RETRY_S[1])

    def _serve(self) -> None:
        """Copy over one connection, until this is to stop and nothing is left."""
        with self._address().connect() as connection:
            require_schema(connection)
            copier = Copier(connection)
            self._places.clear()
            self.spool.refused.clear()
            self._pass(copier)
            self.problem = None
            self._tell("store.connected", {})
            while not self._stopping.is_set():
                self._wake.wait(_KEEP_S)
                self._wake.clear()
                self._pass(copier)
                self._keep(_KEEP_S)
            self._look()
            self._pass(copier)
            self._look()
            self._keep(0)

    def _tell(self, event: str, data: Told) -> None:
        told = f"{event} {data.get('reason')}"
        if told != self._told:
            self._told = told
            self._listener.happened(event, data)

    def _pass(self, copier: Copier) -> None:
        todo = self._todo
        heads = copier.heads([writer for writer in todo if writer not in self._places])
        for writer, source in todo.items():
            if writer in self.spool.refused:
                continue
            as_of_s = time.monotonic()
            try:
                sizes = source.sizes()
                head = heads.get(writer)
                # Of a whole journal its size tells; one that lost its beginning has to be read.
                known = head is not None and head.size_bytes == sum(sizes.values())
                if not known or not source.is_whole():
                    self._places[writer] = copier.copy(source, self._places.get(writer))
            except OSError:
                continue  # gone, or the disk fails: the next look tells
            except Differs as error:
                self.spool.refused[writer] = str(error)
                self._listener.happened("store.refused", {"writer": writer, "reason": str(error)})
                continue
            self.spool.copied(writer, sizes, as_of_s)

    def _keep(self, interval_s: float) -> None:
        if self.spool.keeper and time.monotonic() - self._kept_s >= interval_s:
            self._kept_s = time.monotonic()
            self.spool.keep()
