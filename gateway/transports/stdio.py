"""The client side over stdin and stdout: one JSON-RPC message a line."""

import asyncio
import contextlib
import os
import stat
import threading

from gateway.transports.client import ClientHandler
from gateway.transports.pipes import widen
from gateway.wire.lines import LineFramer, Oversized

_HIGH_WATER_BYTES = 4 * 1024 * 1024
_JOINED_BYTES = 64 * 1024


class StdioClient:
    """The client at the other end of this process's stdin and stdout.

    Is Outlet and Reply at once: over stdio everything goes the same way. From `open` on, the
    process's own stdout is stderr, so that nothing but protocol messages can reach the client.
    """

    def __init__(self, max_message_bytes: int) -> None:
        self._framer = LineFramer(max_message_bytes)
        self._max_message_bytes = max_message_bytes
        self._handler: ClientHandler | None = None
        self._input: asyncio.ReadTransport | None = None
        self._output: asyncio.WriteTransport | None = None
        self._paused = False
        self._loop = asyncio.get_running_loop()
        self._sent: list[bytes] = []
        self._sent_bytes = 0
        self._stdout = -1
        self._expected = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self.ended = asyncio.get_running_loop().create_future()
        """Resolved when the client has closed our input (True) or our output (False)."""

    async def open(self, handler: ClientHandler) -> None:
        """Take stdin and stdout and begin to read."""
        self._handler = handler
        loop = asyncio.get_running_loop()
        output = os.dup(1)
        os.dup2(2, 1)
        self._stdout = _pipe_to(output)
        transport, _ = await loop.connect_write_pipe(
            lambda: _Output(self, handler), os.fdopen(self._stdout, "wb", 0)
        )
        transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._output = transport
        self._input, _ = await loop.connect_read_pipe(
            lambda: _Input(self), os.fdopen(_pipe_from(0), "rb", 0)
        )

    def receive(self, data: bytes) -> None:
        """Take what came in on stdin."""
        for frame in self._framer.feed(data):
            self._take(frame)

    def end_of_input(self) -> None:
        """The client has closed our stdin."""
        for frame in self._framer.at_eof():
            self._take(frame)
        self.end(by_input=True)

    def end(self, *, by_input: bool) -> None:
        """The client is going, or gone."""
        if not self.ended.done():
            self.ended.set_result(by_input)

    async def settled(self, timeout_s: float) -> None:
        """Wait until every request has its answer, at most `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()

    async def flush(self, timeout_s: float) -> None:
        """Wait until what was sent has left this process."""
        self._write_sent()
        output = self._output
        if output is None:
            return
        deadline = asyncio.get_running_loop().time() + timeout_s
        while output.get_write_buffer_size() and not output.is_closing():
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(0.002)

    # Outlet and Reply

    def send(self, frame: bytes) -> None:
        """Send one message."""
        if not self._sent:
            self._loop.call_soon(self._write_sent)
        self._sent += (frame, b"\n")
        self._sent_bytes += len(frame)

    def _write_sent(self) -> None:
        """Write what this turn of the event loop has brought, at once."""
        sent, self._sent = self._sent, []
        size_bytes, self._sent_bytes = self._sent_bytes, 0
        output = self._output
        if not sent or output is None or output.is_closing():
            return
        if size_bytes <= _JOINED_BYTES:
            output.write(b"".join(sent))
        else:
            widen(self._stdout)
            output.writelines(sent)

    def answer(self, frame: bytes, code: int | None = None) -> None:
        """Send an answer."""
        self.send(frame)
        self.withdraw()

    def reject(self, frame: bytes) -> None:
        """Answer what was no message."""
        self.answer(frame)

    def discard(self, frame: bytes) -> None:
        """Say nothing to what wants no answer."""
        self.withdraw()

    def expect(self) -> None:
        """One more message will be answered."""
        self._expected += 1
        self._settled.clear()

    def withdraw(self) -> None:
        """One message less waits for its answer."""
        self._expected -= 1
        if self._expected == 0:
            self._settled.set()

    def pause_reading(self) -> None:
        """Read no more for now."""
        if self._input is not None and not self._paused:
            self._paused = True
            self._input.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._input is not None and self._paused and not self._input.is_closing():
            self._paused = False
            self._input.resume_reading()

    def _take(self, frame: bytes | Oversized) -> None:
        if self._handler is None:
            return
        if isinstance(frame, Oversized):
            self._handler.oversized(frame.size_bytes, self._max_message_bytes, self)
        else:
            self._handler.receive(frame, self)


class _Input(asyncio.Protocol):
    def __init__(self, client: StdioClient) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.receive(data)

    def eof_received(self) -> bool:
        self._client.end_of_input()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.end_of_input()


class _Output(asyncio.BaseProtocol):
    def __init__(self, client: StdioClient, handler: ClientHandler) -> None:
        self._client = client
        self._handler = handler

    def pause_writing(self) -> None:
        self._handler.client_full()

    def resume_writing(self) -> None:
        self._handler.client_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.end(by_input=False)


def _pipe_from(source: int) -> int:
    """A descriptor that the event loop can watch and that yields what `source` does."""
    if not stat.S_ISREG(os.fstat(source).st_mode):
        return os.dup(source)
    outgoing, incoming = os.pipe()
    _copy_aside(source, incoming)
    return outgoing


def _pipe_to(target: int) -> int:
    """A descriptor that the event loop can watch and whose bytes end up in `target`."""
    if not stat.S_ISREG(os.fstat(target).st_mode):
        return target
    outgoing, incoming = os.pipe()
    _copy_aside(outgoing, target)
    return incoming


def _copy_aside(source: int, target: int) -> None:
    """Copy until the end in a thread; a file on disk cannot be watched by the event loop."""

    def copy() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(source, 1 << 16):
                os.write(target, data)
        os.close(target)

    threading.Thread(target=copy, daemon=True).start()
