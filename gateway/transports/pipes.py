"""Reads and writes the pipes of a child process from the event loop.

Not loop.connect_read_pipe and connect_write_pipe: uvloop's close the descriptor twice, which
hits a file that another thread has opened meanwhile; and what is left in a pipe after the
child's exit has to be read at once, without waiting for an end that may not come.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

if sys.platform == "linux":
    import fcntl

_CHUNK_BYTES = 64 << 10  # what a pipe holds
_LARGE_CHUNK_BYTES = 256 << 10
_WIDE_BYTES = 1 << 20
_DRAIN_CHUNKS = 64
_HIGH_WATER_BYTES = 64 << 10
_LOW_WATER_BYTES = 16 << 10


def widen(descriptor: int) -> None:
    """Have a pipe hold 1 MiB, where the system lets us and it is a pipe.

    Only for one that was found full: what a user's pipes may hold together is limited (64 MiB), and
    beyond that every new one is tiny.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            if fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) < _WIDE_BYTES:
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _WIDE_BYTES)


class PipeReader:
    """Hands what arrives to `received`, and calls `ended` once at the end of the stream."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pipe: IO[bytes],
        received: Callable[[bytes], None],
        ended: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._pipe = pipe
        self._fd = pipe.fileno()
        self._received = received
        self._ended = ended
        self._open = True
        self._reading = False
        self._chunk_bytes = _CHUNK_BYTES
        os.set_blocking(self._fd, False)
        self.resume()

    def pause(self) -> None:
        """Leave what arrives in the pipe."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Undo `pause()`."""
        if self._open and not self._reading:
            self._reading = True
            self._loop.add_reader(self._fd, self._read)

    def drain(self) -> None:
        """Read what is in the pipe now; a bounded amount, as the writer may still be writing."""
        for _ in range(_DRAIN_CHUNKS):
            if not self._open or not self._read():
                return

    def close(self) -> None:
        """Read nothing more; `ended` is not called."""
        if self._open:
            self.pause()
            self._open = False
            self._pipe.close()

    def _read(self) -> bool:
        try:
            chunk = os.read(self._fd, self._chunk_bytes)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            chunk = b""
        if chunk:
            if len(chunk) == self._chunk_bytes == _CHUNK_BYTES:  # something large is on its way
                widen(self._fd)
                self._chunk_bytes = _LARGE_CHUNK_BYTES
            self._received(chunk)
            return True
        self.close()
        self._ended()
        return False


class PipeWriter:
    """Writes as much as the pipe takes and keeps the rest.

    `pause` and `resume` are called when the rest grows beyond a limit and when it has shrunk;
    `broken` once, when the reader has gone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pipe: IO[bytes],
        *,
        pause: Callable[[], None],
        resume: Callable[[], None],
        broken: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._pipe = pipe
        self._fd = pipe.fileno()
        self._pause = pause
        self._resume = resume
        self._broken = broken
        self._new: list[bytes] = []
        self._new_bytes = 0
        self._rest = bytearray()
        self._paused = False
        self._closing = False
        self._open = True
        os.set_blocking(self._fd, False)

    def write(self, *parts: bytes) -> None:
        """Write `parts`, with whatever else comes in this turn of the event loop, by one write.

        Nothing happens after `close()` or when the reader has gone.
        """
        if self._closing or not self._open:
            return
        if not self._new:
            self._loop.call_soon(self._write_new)
        self._new += parts
        self._new_bytes += sum(map(len, parts))
        if not self._paused and self._new_bytes + len(self._rest) > _HIGH_WATER_BYTES:
            self._paused = True
            self._pause()

    def close(self) -> None:
        """Close the pipe as soon as everything is written."""
        self._closing = True
        self._write_new()
        if not self._rest:
            self.abort()

    def _write_new(self) -> None:
        if not self._new or not self._open:
            return
        data = b"".join(self._new)
        self._new.clear()
        self._new_bytes = 0
        if self._rest:
            self._rest += data
            return
        written = self._write(data)
        if written < 0:
            return
        if written < len(data):
            widen(self._fd)
            self._rest += memoryview(data)[written:]
            self._loop.add_writer(self._fd, self._flush)
        self._resume_if_drained()

    def abort(self) -> None:
        """Close the pipe at once."""
        if self._open:
            self._open = False
            self._new.clear()
            if self._rest:
                self._loop.remove_writer(self._fd)
                self._rest.clear()
            self._pipe.close()

    def _flush(self) -> None:
        # In pieces: the kernel takes no more at a time, and the copy need not be larger.
        written = self._write(bytes(memoryview(self._rest)[: 4 * _CHUNK_BYTES]))
        if written < 0:
            return
        del self._rest[:written]
        if not self._rest:
            self._loop.remove_writer(self._fd)
            if self._closing:
                self.abort()
        self._resume_if_drained()

    def _resume_if_drained(self) -> None:
        if self._paused and len(self._rest) <= _LOW_WATER_BYTES:
            self._paused = False
            self._resume()

    def _write(self, data: bytes) -> int:
        """The number of bytes written; -1 when the reader has gone."""
        try:
            return os.write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self.abort()
            self._broken()
            return -1
