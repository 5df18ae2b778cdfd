"""Stdio as the relay sees it: pipes with bytes, or with lines where HTTP is on the other side."""

import asyncio
import os
import subprocess
from collections.abc import Callable
from typing import IO


class Output(asyncio.BaseProtocol):
    """The writing end of a pipe; holds `source` up while it is full."""

    def __init__(self) -> None:
        self.source: asyncio.ReadTransport | None = None

    def pause_writing(self) -> None:
        if self.source is not None:
            self.source.pause_reading()

    def resume_writing(self) -> None:
        if self.source is not None:
            self.source.resume_reading()


class Input(asyncio.Protocol):
    """The reading end of a pipe."""

    def __init__(self, received: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._received = received
        self._ended = ended

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()


class Lines:
    """Cuts chunks into lines; `take` gets each, as the chunks that it came in."""

    def __init__(self, take: Callable[[list[bytes]], None]) -> None:
        self._take = take
        self._chunks: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """More bytes."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            chunks, self._chunks = [*self._chunks, line], []
            self._take(chunks)
        if rest:
            self._chunks.append(rest)


async def read_from(
    descriptor: int | IO[bytes], received: Callable[[bytes], None], ended: Callable[[], None]
) -> asyncio.ReadTransport:
    """Call `received` with what comes out of a pipe."""
    file = os.fdopen(descriptor, "rb", 0) if isinstance(descriptor, int) else descriptor
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: Input(received, ended), file)
    return transport


async def write_to(descriptor: int | IO[bytes]) -> tuple[asyncio.WriteTransport, Output]:
    """Make a pipe writable."""
    file = os.fdopen(descriptor, "wb", 0) if isinstance(descriptor, int) else descriptor
    return await asyncio.get_running_loop().connect_write_pipe(Output, file)


def child(command: list[str]) -> "subprocess.Popen[bytes]":
    """Start an upstream."""
    return subprocess.Popen(  # noqa: S603 - the command that the benchmark gave
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
