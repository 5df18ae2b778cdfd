"""An upstream that runs as a child process and speaks JSON lines on stdin and stdout."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import msgspec

from gateway.transports.descendants import MARKER_VARIABLE, Family
from gateway.transports.pipes import PipeReader, PipeWriter
from gateway.transports.spawn import SpawnError, spawn, watch_exit
from gateway.transports.upstream import UpstreamUnavailable
from gateway.wire.lines import LineFramer, Oversized

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

    from gateway.transports.upstream import UpstreamEvents

_STDERR_LINES = 200
_STDERR_BYTES = 64 << 10
_DETAIL_LINES = 20
_OBJECT = ord("{")
_LINGER_S = 1.0  # from the end of stdin or stdout to the verdict that the process is of no use


class StdioSpec(msgspec.Struct, frozen=True):
    """How an upstream's process is started.

    `argv` is run as it stands, without a shell. `env` is the child's complete environment.
    `secrets` are strings that are blotted out of what the process writes on stderr.
    """

    upstream: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    max_frame_bytes: int
    secrets: tuple[str, ...] = ()


class StdioUpstream:
    """An `UpstreamTransport` over a child process and everything that comes out of it."""

    def __init__(self, spec: StdioSpec, events: UpstreamEvents) -> None:
        self._spec = spec
        self._events = events
        self._framer = LineFramer(spec.max_frame_bytes)
        self._stderr_bytes = bytearray()
        self._closed = False
        self._ending: asyncio.Task[None] | None = None
        # Set by start():
        self._loop: asyncio.AbstractEventLoop
        self._exited: asyncio.Future[int]
        self._process: subprocess.Popen[bytes]
        self._family: Family
        self._stdin: PipeWriter
        self._stdout: PipeReader
        self._stderr: PipeReader

    @property
    def pid(self) -> int:
        """The child's pid, valid until `closed` has been reported."""
        return self._process.pid

    async def start(self) -> None:
        """Start the process. Raises UpstreamUnavailable where that is not possible."""
        self._loop = asyncio.get_running_loop()
        self._exited = self._loop.create_future()
        marker = secrets.token_hex(16)
        env = {**self._spec.env, MARKER_VARIABLE: marker}
        try:
            self._process = spawn(self._spec.argv, env=env, cwd=self._spec.cwd)
        except SpawnError as error:
            raise UpstreamUnavailable(
                f"upstream {self._spec.upstream!r} could not be started: {error}"
            ) from None
        self._family = Family(self._process.pid, marker)
        loop, process = self._loop, self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._stdin = PipeWriter(
            loop,
            process.stdin,
            pause=self._events.pause,
            resume=self._events.resume,
            broken=lambda: self._pipe_closed("input"),
        )
        self._stdout = PipeReader(
            loop, process.stdout, self._stdout_received, lambda: self._pipe_closed("output")
        )
        self._stderr = PipeReader(loop, process.stderr, self._stderr_received, lambda: None)
        watch_exit(loop, process, self._process_exited)

    closes_streams = False

    def send(
        self,
        frame: bytes,
        request: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Write one message; see `UpstreamTransport.send`."""
        if b"\n" in frame:
            raise ValueError("a frame must not contain a line feed")
        if not self._closed:
            self._stdin.write(frame, b"\n")

    def abandon(self, request: int) -> None:
        """Nothing: answers over stdio share one stream."""

    def session_started(self, protocol_version: str) -> None:
        """Nothing: stdio has neither headers nor a second stream."""

    def pause_reading(self) -> None:
        """See `UpstreamTransport.pause_reading`."""
        self._stdout.pause()

    def resume_reading(self) -> None:
        """See `UpstreamTransport.resume_reading`."""
        self._stdout.resume()

    def stderr_tail(self, lines: int = _DETAIL_LINES) -> str:
        """The last lines (at most 200, 64 KiB) of stderr, control characters escaped.

        Without what looks like a secret: it is told to the client, and printed.
        """
        from gateway.redaction.redactor import redact_text  # most upstreams end without a word

        text = self._stderr_bytes[-_STDERR_BYTES:].decode(errors="replace")
        for secret in self._spec.secrets:
            text = text.replace(secret, "***")
        text = redact_text(text)
        shown = text.replace("\r\n", "\n").split("\n")
        if shown[-1] == "":
            shown.pop()
        shown = shown[-min(lines, _STDERR_LINES) :] if lines > 0 else []
        return "\n".join("".join(map(_visible, line)) for line in shown)

    async def stop(self, grace_s: float) -> None:
        """Close stdin, wait up to `grace_s`, then end the process and all its descendants."""
        # Shielded: a caller that gives up must not leave processes behind.
        await asyncio.shield(self._end_soon(grace_s))

    def _end_soon(self, grace_s: float) -> asyncio.Task[None]:
        if self._ending is None:
            self._ending = self._loop.create_task(self._end(grace_s))
        return self._ending

    async def _end(self, grace_s: float) -> None:
        if not self._exited.done():
            # Before stdin closes: a child that exits cuts the links to its descendants.
            await self._family.survey()
        if not self._closed:
            self._stdin.close()
            self._stdout.resume()  # a child that cannot write cannot end
        await self._family.end_all(grace_s, self._exited)
        if not self._closed:
            self._finish("could not be ended")

    def _stdout_received(self, chunk: bytes) -> None:
        for frame in self._framer.feed(chunk):
            self._frame(frame)

    def _frame(self, frame: bytes | Oversized) -> None:
        if self._closed:
            return
        if isinstance(frame, Oversized):
            self._events.frame_dropped(frame)
        elif frame[0] == _OBJECT or frame.lstrip(b" \t\r")[:1] in (b"{", b"["):
            self._events.frame_received(frame, None)
        else:
            self._events.noise(len(frame))

    def _stderr_received(self, chunk: bytes) -> None:
        self._stderr_bytes += chunk
        if len(self._stderr_bytes) > 2 * _STDERR_BYTES:
            del self._stderr_bytes[:-_STDERR_BYTES]

    def _pipe_closed(self, what: str) -> None:
        """The child closed its stdin or stdout: most likely it is about to exit."""
        if not self._closed and not self._exited.done() and self._ending is None:
            self._loop.call_later(_LINGER_S, self._lingering, what)

    def _lingering(self, what: str) -> None:
        if not self._closed and not self._exited.done() and self._ending is None:
            self._finish(f"closed its {what} but keeps running")
            self._end_soon(0.0)

    def _process_exited(self, code: int) -> None:
        self._family.root_exited()
        self._exited.set_result(code)
        if self._closed:
            return
        # What the child wrote is in the pipes by now; their end may never come, as a
        # descendant may hold them open.
        self._stdout.drain()
        self._stderr.drain()
        self._finish(f"was ended by signal {-code}" if code < 0 else f"exited with status {code}")
        self._end_soon(0.0)

    def _finish(self, reason: str) -> None:
        for frame in self._framer.at_eof():
            self._frame(frame)
        self._closed = True
        self._stdin.abort()
        self._stdout.close()
        self._stderr.close()
        self._events.closed(reason, self.stderr_tail())


def _visible(ch: str) -> str:
    return ch if ch.isprintable() else ch.encode("unicode_escape").decode()
