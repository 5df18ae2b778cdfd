"""Where signed checkpoints go besides the journal: the file beside it, and the anchors elsewhere.

All of it happens in a thread of its own. An anchor that fails is told in the journal and in the
file of checkpoints; it never stops a call.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from gateway.audit.checkpoint_files import Kept, encode_kept
from gateway.audit.files import checkpoints_file
from gateway.audit.records import Event, Scalar, timestamp

if TYPE_CHECKING:
    from urllib.request import BaseHandler

TIMEOUT_S: Final = 20.0
CLOSING_TIMEOUT_S: Final = 3.0
"""How long the last checkpoints may take when the gateway ends."""


class AnchorFailed(Exception):  # noqa: N818 - the name states the condition
    """An anchor did not take a checkpoint; the text says why, without a secret."""


class Anchor(Protocol):
    """A place outside of the log that keeps checkpoints."""

    @property
    def name(self) -> str:
        """What it is called in records: nothing secret."""
        ...

    def keep(self, kept: Kept) -> None:
        """Keep one checkpoint; raises AnchorFailed. May take its time."""
        ...


class FileAnchor(NamedTuple):
    """An append-only file, one JSON object a line."""

    path: Path

    @property
    def name(self) -> str:
        """The file."""
        return f"file {self.path}"

    def keep(self, kept: Kept) -> None:
        """Append it, and have it on the disk."""
        try:
            _append(self.path, kept, sync=True)
        except OSError as error:
            raise AnchorFailed(str(error.strerror)) from error


class CommandAnchor(NamedTuple):
    """A command that is given the note on its standard input."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]

    @property
    def name(self) -> str:
        """The program; its arguments may be secret."""
        return f"command {self.argv[0]}"

    def keep(self, kept: Kept) -> None:
        """Run it."""
        named = {"AUDIT_JOURNAL": kept.journal, "AUDIT_SIZE": str(kept.size)}
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own command, no shell
                self.argv,
                input=(kept.note or "").encode(),
                cwd=self.cwd,
                env={**self.env, **named},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT_S,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise AnchorFailed(f"it did not finish in {TIMEOUT_S:g} s") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it cannot be run"
            raise AnchorFailed(reason) from error
        if done.returncode:
            raise AnchorFailed(f"it ended with the status {done.returncode}")


class WebhookAnchor(NamedTuple):
    """A URL that the note is posted to."""

    url: str
    headers: Mapping[str, str]

    @property
    def name(self) -> str:
        """The host: the rest of the URL may be secret."""
        parts = urlsplit(self.url)
        return f"webhook {parts.scheme}://{parts.hostname or ''}"

    def keep(self, kept: Kept) -> None:
        """Post it; any answer of 200 to 299 says that it was kept."""
        import urllib.error
        import urllib.request

        request = urllib.request.Request(  # noqa: S310 - the configuration takes http and https
            self.url,
            data=(kept.note or "").encode(),
            headers={
                "Content-Type": "text/plain; charset=utf-8",
                "Audit-Journal": kept.journal,
                "Audit-Size": str(kept.size),
                **self.headers,
            },
            method="POST",
        )
        opener = urllib.request.build_opener(_no_redirects())
        try:
            with opener.open(request, timeout=TIMEOUT_S):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            raise AnchorFailed(f"it answered {error.code}") from error
        except (OSError, ValueError) as error:
            # The text of an error may hold the URL: only its kind is told.
            reason = getattr(error, "reason", error)
            told = getattr(reason, "strerror", None) or type(reason).__name__
            raise AnchorFailed(f"it could not be reached: {told}") from error


class Tell(Protocol):
    """Hears of what becomes of anchors, in the publisher's thread."""

    def __call__(self, record: Event) -> None: ...


class Publisher:
    """The thread that checkpoints are published in."""

    def __init__(self, directory: Path, anchors: Sequence[Anchor], tell: Tell) -> None:
        self._path = checkpoints_file(directory)
        self._anchors = anchors
        self._tell = tell
        self._failing: set[str] = set()
        self._at: tuple[str, Kept] | None = None  # the anchor that is at work, and on what
        self._queue: SimpleQueue[Kept | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="audit-anchors", daemon=True)
        self._thread.start()

    def publish(self, time: str, journal: str, size: int, note: str) -> None:
        """Publish one checkpoint, after those before it."""
        self._queue.put(Kept(time=time, journal=journal, size=size, note=note))

    def close(self) -> None:
        """End when all is published, or not later than CLOSING_TIMEOUT_S.

        An anchor that has not answered by then is told of in the file of checkpoints.
        """
        self._queue.put(None)
        self._thread.join(CLOSING_TIMEOUT_S)
        at = self._at
        if at is not None and self._thread.is_alive():
            self._note_failure(*at, "the gateway ended before it answered")

    def _run(self) -> None:
        while (kept := self._queue.get()) is not None:
            try:
                _append(self._path, kept)
            except OSError as error:
                self._became("the file of checkpoints", kept, str(error.strerror))
            else:
                self._became("the file of checkpoints", kept, None)
            for anchor in self._anchors:
                self._at = (anchor.name, kept)
                try:
                    anchor.keep(kept)
                except AnchorFailed as failure:
                    self._became(anchor.name, kept, str(failure))
                else:
                    self._became(anchor.name, kept, None)
            self._at = None

    def _became(self, anchor: str, kept: Kept, failed: str | None) -> None:
        """Tell once that an anchor fails, and once that it works again."""
        if (failed is not None) == (anchor in self._failing):
            return
        if failed is None:
            self._failing.discard(anchor)
            self._tell(Event(time=timestamp(), event="anchor.recovered", data={"anchor": anchor}))
            return
        self._failing.add(anchor)
        data: dict[str, Scalar] = {"anchor": anchor, "reason": failed}
        data |= {"journal": kept.journal, "size": kept.size}
        self._tell(Event(time=timestamp(), event="anchor.failed", data=data))
        self._note_failure(anchor, kept, failed)

    def _note_failure(self, anchor: str, kept: Kept, failed: str) -> None:
        line = Kept(
            time=timestamp(), journal=kept.journal, size=kept.size, anchor=anchor, failed=failed
        )
        with suppress(OSError):  # the journal has it, as long as there is one
            _append(self._path, line)


def _append(path: Path, kept: Kept, *, sync: bool = False) -> None:
    """Add one line by one write: several gateways do so at once."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        os.write(descriptor, encode_kept(kept) + b"\n")
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _no_redirects() -> "BaseHandler":
    import urllib.request

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        """A note is posted where the configuration says, and nowhere else."""

        def redirect_request(self, *_: object) -> None:
            return None

    return NoRedirects()
