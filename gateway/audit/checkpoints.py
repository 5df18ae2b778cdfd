"""Signs what a journal holds, again and again and when it is closed.

A checkpoint says how many records there were and the root of the tree over them. It goes into the
journal itself, as the record after the last one that it covers, and from there to the file of
checkpoints beside the journals and to the anchors, in a thread: whoever keeps one elsewhere can
prove later that nothing before it was changed.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.audit.records import Event, timestamp
from gateway.audit.tree import Range
from gateway.errors import UserError

if TYPE_CHECKING:
    import asyncio

    from gateway.audit.anchors import Anchor, Publisher
    from gateway.audit.journal import Journal
    from gateway.audit.notes import Signer

EVERY_RECORDS: Final = 1000
EVERY_S: Final = 60.0


class Checkpoints:
    """What one journal needs to be signed. Its methods are called on the journal's thread.

    Where an event loop runs, a checkpoint is made after `every_records` new records, or `every_s`
    after the first new one; otherwise only when the journal is closed.
    """

    def __init__(
        self,
        directory: Path,
        signers: "Sequence[Signer]",
        *,
        anchors: "Sequence[Anchor]" = (),
        every_records: int = EVERY_RECORDS,
        every_s: float = EVERY_S,
    ) -> None:
        self._directory = directory
        self._signers = signers
        self._anchors = anchors
        self._every_records = every_records
        self._every_s = every_s
        self._writer = ""
        self._journal: Journal | None = None
        self._tree = Range()
        self._new = 0  # records since the last checkpoint, it itself left out
        self._own = 0
        self._timer: asyncio.TimerHandle | None = None
        self._known = False  # the public halves are beside the log
        self._called = False  # a checkpoint is under way
        self._loop: asyncio.AbstractEventLoop | None = None
        self._publisher: Publisher | None = None

    def begin(self, writer: str, journal: "Journal") -> None:
        """Start with the first record of another journal."""
        self._writer, self._journal = writer, journal
        self._tree = Range()
        self._new = self._own = 0

    def added(self, lines: Sequence[bytes]) -> None:
        """Take in the lines that were written."""
        for line in lines:
            self._tree.append(line)
        self._new += len(lines) - self._own
        self._own = 0
        if self._new >= self._every_records:
            self._schedule(at_once=True)
        elif self._timer is None and self._new > 0:
            self._schedule(at_once=False)

    def sign(self) -> tuple[Event, Callable[[], None]]:
        """The record that signs all before it, and what to call once it is committed."""
        size, writer = self._tree.end, self._writer
        self._new, self._own = 0, 1
        try:
            from gateway.audit.notes import Checkpoint, signed_note

            origin = f"{self._signers[0].name}/{writer}"
            text = Checkpoint(origin, size, self._tree.root()).text()
            note = signed_note(text, self._signers)
            self._introduce()
        except UserError as error:
            failed = Event(time=timestamp(), event="checkpoint.failed", data={"reason": str(error)})
            return failed, _nothing
        now = timestamp()
        record = Event(time=now, event="checkpoint", data={"size": size, "note": note})
        return record, lambda: self._publish(now, writer, size, note)

    def close(self) -> None:
        """Wait, a bounded time, until what was signed is published."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._journal = None
        if self._publisher is not None:
            self._publisher.close()

    def _publish(self, time: str, writer: str, size: int, note: str) -> None:
        if self._publisher is None:
            from gateway.audit.anchors import Publisher

            self._publisher = Publisher(self._directory, self._anchors, self._tell)
        self._publisher.publish(time, writer, size, note)

    def _tell(self, record: Event) -> None:
        """Record what became of an anchor; called on any thread."""
        loop, journal = self._loop, self._journal
        if loop is not None and journal is not None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._append, record)

    def _append(self, record: Event) -> None:
        if self._journal is not None:
            self._journal.append(record, _ignore)

    def _schedule(self, *, at_once: bool) -> None:
        asyncio = sys.modules.get("asyncio")  # without it no loop runs
        if asyncio is None or self._called:
            return
        try:
            self._loop = loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if at_once:
            self._called = True
            loop.call_soon(self._come)
        else:
            self._timer = loop.call_later(self._every_s, self._come)

    def _come(self) -> None:
        """Have the key loaded in a thread, the first time, and make the checkpoint then."""
        self._called = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._known:
            self._make()
            return
        from threading import Thread

        Thread(target=self._load, name="audit-key", daemon=True).start()

    def _load(self) -> None:
        with suppress(UserError):  # which signing runs into again, and tells
            self._introduce()
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._make)

    def _introduce(self) -> None:
        """Load the keys, and have their public halves where others find them."""
        for signer in self._signers:
            signer.load()
        if not self._known:
            from gateway.audit.signing_keys import publish

            publish(self._directory, [signer.verifier() for signer in self._signers])
            self._known = True

    def _make(self) -> None:
        self._called = False
        if self._journal is not None and self._new:
            self._journal.checkpoint()


def _nothing() -> None:
    pass


def _ignore(_: object) -> None:
    pass
