"""Who syncs a journal's files beside the event loop: a process of its own, or else a thread.

A thread needs the interpreter's lock three times for each sync, and the event loop waits for it as
often. That costs more than the sync does itself: with the process a gateway under load answers 10
to 30 % more calls.
"""

import asyncio
import errno
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Protocol, TypeAlias

from gateway.audit import sync_process
from gateway.state import sync_directory

Sync: TypeAlias = Callable[[int], None]
Loop: TypeAlias = asyncio.AbstractEventLoop

# macOS has no fdatasync.
sync_data: Final[Sync] = getattr(os, "fdatasync", os.fsync)

_ENDED: Final = b""
"""What is received where nobody is left to answer."""

_INHERITED: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""The environment that an interpreter may need to start; the rest may hold secrets."""


class Syncer(Protocol):
    """Syncs one file, one time after the other. Its methods are called on one thread."""

    def begin(self, following: int | None, loop: Loop | None, arrived: Callable[[], None]) -> None:
        """Sync the file; with `following`, go on with that one then: sync it and the directory.

        `arrived` is called on `loop` when the result is there, if it was not taken meanwhile.
        """

    def ready(self) -> bool:
        """Whether the result is there."""

    def result(self) -> str | None:
        """What went wrong, or None; blocks until it is known. To be called once for each begin."""

    def close(self) -> None:
        """Nothing more is begun."""


def start_syncer(descriptor: int, directory: Path, sync: Sync | None = None) -> Syncer:
    """A syncer of the file `descriptor` in `directory`; with `sync`, one that does that instead.

    Where no process can be started, or none that works, it is a thread: slower, but as safe. Blocks
    until that is known (20 ms).
    """
    if sync is None and sys.executable and hasattr(socket, "send_fds"):
        with suppress(OSError):
            syncer = ProcessSyncer(descriptor, directory)
            syncer.begin(None, None, _nobody_waits)
            if syncer.result() is None:
                return syncer
            syncer.close()
    return ThreadSyncer(descriptor, directory, sync or sync_data)


class ThreadSyncer:
    """Is a Syncer with a thread."""

    def __init__(self, descriptor: int, directory: Path, sync: Sync) -> None:
        self._descriptor = descriptor
        self._directory = directory
        self._sync = sync
        self._begun: SimpleQueue[tuple[int | None, Loop | None, Callable[[], None]] | None]
        self._begun = SimpleQueue()
        self._results: SimpleQueue[str | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="audit-commit", daemon=True)
        self._thread.start()

    def begin(self, following: int | None, loop: Loop | None, arrived: Callable[[], None]) -> None:
        """See Syncer."""
        self._begun.put((following, loop, arrived))

    def ready(self) -> bool:
        """See Syncer."""
        return not self._results.empty()

    def result(self) -> str | None:
        """See Syncer."""
        return self._results.get()

    def close(self) -> None:
        """See Syncer."""
        self._begun.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (begun := self._begun.get()) is not None:
            following, loop, arrived = begun
            problem = None
            try:
                self._sync(self._descriptor)
                if following is not None:
                    self._descriptor = following
                    self._sync(following)
                    sync_directory(self._directory)
            except OSError as error:
                problem = error.strerror or str(error)
            self._results.put(problem)
            if loop is not None:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(arrived)


class ProcessSyncer:
    """Is a Syncer with a process, which ends with us: it reads from a socket that we hold."""

    def __init__(self, descriptor: int, directory: Path) -> None:
        """Raises OSError where no process can be started."""
        self._directory = directory
        self._socket, other = socket.socketpair()
        try:
            socket.send_fds(self._socket, [sync_process.USE], [descriptor])
            self._process = subprocess.Popen(  # noqa: S603 - a file of this package
                [sys.executable, "-I", "-S", sync_process.__file__],
                stdin=other.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={name: os.environ[name] for name in _INHERITED if name in os.environ},
                start_new_session=True,
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            other.close()
        self._watching: Loop | None = None
        self._arrived: Callable[[], None] = _nobody_waits
        self._answer: bytes | None = None  # that is not taken yet; the last one is that it ended

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def begin(self, following: int | None, loop: Loop | None, arrived: Callable[[], None]) -> None:
        """See Syncer."""
        self._arrived = arrived
        if self._answer is None:
            self._watch(loop)
            try:
                if following is None:
                    self._socket.send(sync_process.SYNC)
                else:
                    self._send_following(following)
            except ConnectionError:
                self._answer = _ENDED
            except OSError as error:
                self._answer = bytes((error.errno or errno.EIO,))
        if self._answer is not None and loop is not None:
            loop.call_soon(arrived)

    def ready(self) -> bool:
        """See Syncer."""
        if self._answer is None:
            with suppress(BlockingIOError):
                self._answer = self._received()
        if self._answer == _ENDED:
            self._watch_no_more()  # or the loop would be told for ever
        return self._answer is not None

    def result(self) -> str | None:
        """See Syncer."""
        if not self.ready():
            waiting = select.poll()  # the event loop has made the socket one that does not wait
            waiting.register(self._socket, select.POLLIN)
            waiting.poll()
            self.ready()
        answer = self._answer
        if not answer:
            return "the process that does it has ended"
        self._answer = None
        return os.strerror(answer[0]) if answer[0] else None

    def close(self) -> None:
        """See Syncer."""
        self._watch_no_more()
        self._socket.close()
        self._process.wait()

    def _received(self) -> bytes:
        try:
            return self._socket.recv(1, socket.MSG_DONTWAIT)
        except ConnectionError:
            return _ENDED

    def _send_following(self, following: int) -> None:
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            socket.send_fds(self._socket, [sync_process.MOVE], [following, directory])
        finally:
            os.close(directory)

    def _watch(self, loop: Loop | None) -> None:
        if loop is not self._watching:
            self._watch_no_more()
            if loop is not None:
                loop.add_reader(self._socket.fileno(), self._readable)
                self._watching = loop

    def _readable(self) -> None:
        if self.ready():
            self._arrived()

    def _watch_no_more(self) -> None:
        if self._watching is not None and not self._watching.is_closed():
            self._watching.remove_reader(self._socket.fileno())
        self._watching = None


def _nobody_waits() -> None: ...
