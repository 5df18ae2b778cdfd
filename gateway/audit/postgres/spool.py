"""How much of the journals waits to be copied, since when, and when that is too much.

The store alone knows what it has. What is noted here, and kept between runs in `copied.json`, only
counts what waits while the store cannot be asked; what is missing from it counts as waiting.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from gateway.audit.files import journal_files
from gateway.audit.postgres.source import Source, sources


class SpoolLimits(msgspec.Struct, frozen=True):
    """How much may wait for the store, and how long, before calls are refused."""

    max_bytes: int
    max_age_s: float


class Spool:
    """The journals of one audit directory, as one gateway process looks after them.

    `own` are the writers of this process, `current` is the one that writes now. `keeper`: this
    process copies the leftovers of others too, and what waits of them counts. Its methods may be
    called on any thread.
    """

    def __init__(self, directory: Path, limits: SpoolLimits) -> None:
        self._directory = directory
        self._limits = limits
        self.own: set[str] = set()
        self.current = ""
        self.keeper = False
        self.refused: dict[str, str] = {}
        """Writers whose journal and copy do not agree, and why; of others they do not count."""
        self.waiting_bytes = 0
        self.waiting_s = 0.0
        self._seen = ""  # the current writer, once its journal was there
        self._gone = False
        self._copied: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._kept: dict[str, int] = {}

    def look(self) -> dict[str, Source]:
        """Count what waits: the journals of it that this process is to copy."""
        now, wall = time.monotonic(), time.time()
        found, total, oldest = {}, 0, now
        since: dict[str, float] = {}
        there = sources(self._directory)
        if self.current in there:
            self._seen = self.current
        self._gone = self._seen == self.current != "" and self.current not in there
        for writer, source in there.items():
            own = writer in self.own
            try:
                waiting = sum(
                    max(0, size_bytes - self._copied.get(name, 0))
                    for name, size_bytes in source.sizes().items()
                )
                if not waiting or not (own or (self.keeper and source.is_left())):
                    continue
                began = self._since.get(writer, now)
                if writer not in self._since and not own:
                    # What another process left waits since it was last added to, at the least.
                    began = now - max(0.0, wall - source.changed_s())
            except OSError:
                continue  # gone meanwhile
            since[writer] = began
            if own or writer not in self.refused:
                total += waiting
                oldest = min(oldest, began)
                found[writer] = source
        self._since = since
        self.waiting_bytes, self.waiting_s = total, now - oldest
        return found

    def full(self) -> str | None:
        """Why nothing more may be recorded, None while there is room."""
        if self._gone:
            return f"the journal {self.current} was deleted, so what is added to it is not copied"
        if self.waiting_bytes > self._limits.max_bytes:
            return f"{self.waiting_bytes} bytes wait to be copied to the audit store"
        if self.waiting_s > self._limits.max_age_s:
            return f"records wait for the audit store for {self.waiting_s:.0f} s"
        return None

    def copied(self, writer: str, sizes: Mapping[str, int], as_of_s: float) -> None:
        """All that the journal held at `as_of_s` (monotonic), by segment, is in the store."""
        self._copied.update(sizes)
        if writer in self._since:
            self._since[writer] = as_of_s

    def recall(self) -> None:
        """Take what an earlier run noted. What is not known counts as waiting."""
        try:
            noted = msgspec.json.decode(self._file.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return
        self._copied = {**noted, **self._copied}
        self._kept = dict(self._copied)

    def keep(self) -> None:
        """Note what is copied, for the next run; a failure costs no more than a count too high."""
        there = journal_files(self._directory)
        copied = {name: size for name, size in self._copied.items() if name in there}
        if copied == self._kept:
            return
        beside = self._file.with_suffix(".tmp")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(msgspec.json.encode(copied))
            beside.replace(self._file)
        except OSError:
            return
        self._kept = copied

    @property
    def _file(self) -> Path:
        return self._directory / "copied.json"


def lock_leftovers(directory: Path) -> Callable[[], None] | None:
    """Become the one that copies leftovers: what gives that up again, None where another has it."""
    try:
        import fcntl
    except ImportError:  # Windows: everybody does, and the store sorts them out
        return lambda: None
    descriptor = os.open(directory / "copied.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return lambda: os.close(descriptor)
