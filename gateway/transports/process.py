"""An upstream that runs as a child process and speaks JSON lines on stdin and stdout."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from gateway.transports.descendants import MARKER_VARIABLE, Family
from gateway.transports.upstream import UpstreamUnavailable
from gateway.wire.lines import LineFramer, Oversized

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.transports.upstream import UpstreamEvents

_STDERR_LINES = 200
_STDERR_BYTES = 64 << 10
_DETAIL_LINES = 20
_LINGER_S = 1.0  # from the end of stdin or stdout to the verdict that the process is of no use
_DRAIN_S = 2.0  # from the exit to the verdict, where a descendant keeps writing into the pipe
_DRAIN_STEP_S = 0.005
_PR_SET_PDEATHSIG = 1


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
    """An `UpstreamTransport` over a child process.

    The child leads a session of its own, so that a terminal's Ctrl-C reaches only us; on Linux
    it gets SIGTERM when the thread that started it ends, however that comes about.
    """

    def __init__(self, spec: StdioSpec, events: UpstreamEvents) -> None:
        self._spec = spec
        self._events = events
        self._framer = LineFramer(spec.max_frame_bytes)
        self._stderr_bytes = bytearray()
        self._reading = True
        self._closed = False
        self._ending: asyncio.Task[None] | None = None
        # Set by start():
        self._loop: asyncio.AbstractEventLoop
        self._exited: asyncio.Future[int]
        self._process: asyncio.SubprocessTransport
        self._family: Family
        self._stdin: asyncio.WriteTransport
        self._input: _InputProtocol
        self._stdout: asyncio.ReadTransport
        self._stderr: asyncio.ReadTransport

    @property
    def pid(self) -> int:
        """The child's pid, valid until `closed` has been reported."""
        return self._process.get_pid()

    async def start(self) -> None:
        """Start the process. Raises UpstreamUnavailable where that is not possible."""
        program = _find_program(self._spec)
        self._loop = asyncio.get_running_loop()
        self._exited = self._loop.create_future()
        with contextlib.ExitStack() as undo:
            try:
                await self._spawn(program, undo)
            except (OSError, ValueError) as error:
                raise UpstreamUnavailable(
                    f"upstream {self._spec.upstream!r} could not be started: {_words(error)}"
                ) from None
            undo.pop_all()

    async def _spawn(self, program: str, undo: contextlib.ExitStack) -> None:
        # Pipes of our own rather than the loop's: they call back without a detour over
        # call_soon, and how much is left in them can be asked after the child's exit.
        with contextlib.ExitStack() as childs_ends:
            ours, childs = [], []
            for end_of_child in (0, 1, 1):
                pipe = os.pipe()
                childs.append(pipe[end_of_child])
                childs_ends.callback(os.close, pipe[end_of_child])
                mode = "rb" if end_of_child else "wb"
                ours.append(undo.enter_context(os.fdopen(pipe[1 - end_of_child], mode, 0)))
            marker = secrets.token_hex(16)
            self._process, _ = await self._loop.subprocess_exec(
                lambda: _ExitProtocol(self._process_exited),
                program,
                *self._spec.argv[1:],
                stdin=childs[0],
                stdout=childs[1],
                stderr=childs[2],
                cwd=self._spec.cwd,
                env={**self._spec.env, MARKER_VARIABLE: marker},
                start_new_session=True,
                preexec_fn=_before_exec(),
            )
        undo.callback(self._process.close)  # which kills it
        self._family = Family(self._process.get_pid(), marker)
        stdin, stdout, stderr = ours
        connect_read, connect_write = self._loop.connect_read_pipe, self._loop.connect_write_pipe
        self._stdin, self._input = await connect_write(
            lambda: _InputProtocol(self._events, self._pipe_closed), stdin
        )
        undo.callback(self._stdin.abort)
        self._stderr, _ = await connect_read(lambda: _OutputProtocol(self._stderr_received), stderr)
        undo.callback(self._stderr.close)
        self._stdout, _ = await connect_read(
            lambda: _OutputProtocol(self._stdout_received, self._pipe_closed), stdout
        )

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
        if not self._closed and not self._stdin.is_closing():
            self._stdin.write(frame + b"\n")

    def abandon(self, request: int) -> None:
        """Nothing: answers over stdio share one stream."""

    def session_started(self, protocol_version: str) -> None:
        """Nothing: stdio has neither headers nor a second stream."""

    def pause_reading(self) -> None:
        """See `UpstreamTransport.pause_reading`."""
        if self._reading and not self._exited.done() and not self._stdout.is_closing():
            self._stdout.pause_reading()
            self._reading = False

    def resume_reading(self) -> None:
        """See `UpstreamTransport.resume_reading`."""
        if not self._reading and not self._stdout.is_closing():
            self._reading = True
            self._stdout.resume_reading()

    def stderr_tail(self, lines: int = _DETAIL_LINES) -> str:
        """The last lines (at most 200, 64 KiB) of stderr, control characters escaped."""
        text = self._stderr_bytes[-_STDERR_BYTES:].decode(errors="replace")
        for secret in self._spec.secrets:
            text = text.replace(secret, "***")
        shown = text.replace("\r\n", "\n").split("\n")
        if shown[-1] == "":
            shown.pop()
        shown = shown[-min(lines, _STDERR_LINES) :] if lines > 0 else []
        return "\n".join("".join(map(_visible, line)) for line in shown)

    async def stop(self, grace_s: float) -> None:
        """Close stdin, wait up to `grace_s`, then end the process and all its descendants."""
        if self._ending is None:
            self._ending = self._loop.create_task(self._end(grace_s))
        # Shielded: a caller that gives up must not leave processes behind.
        await asyncio.shield(self._ending)

    async def _end(self, grace_s: float) -> None:
        if not self._exited.done():
            # Before stdin closes: a child that exits cuts the links to its descendants.
            await self._family.survey()
        if not self._closed:
            self._stdin.close()
            self.resume_reading()  # a child that cannot write cannot end
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
        elif frame.lstrip(b" \t\r")[:1] in (b"{", b"["):
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
            self._ending = self._loop.create_task(self._end(0.0))

    def _process_exited(self) -> None:
        self._family.root_exited()
        self._exited.set_result(cast("int", self._process.get_returncode()))
        if self._closed:
            self._process.close()
            return
        self.resume_reading()
        self._drain(self._loop.time() + _DRAIN_S)

    def _drain(self, deadline: float) -> None:
        """Wait until what the child wrote has been read: not for the end of the pipe, which a
        descendant may hold open."""
        if self._closed:
            return
        pending = _unread(self._stdout) + _unread(self._stderr)
        if pending and self._loop.time() < deadline:
            self._loop.call_later(_DRAIN_STEP_S, self._drain, deadline)
            return
        code = self._exited.result()
        self._finish(f"was ended by signal {-code}" if code < 0 else f"exited with status {code}")
        if self._ending is None:
            self._ending = self._loop.create_task(self._end(0.0))

    def _finish(self, reason: str) -> None:
        for frame in self._framer.at_eof():
            self._frame(frame)
        self._closed = True
        if not self._input.lost:
            self._stdin.abort()
        self._stdout.close()
        self._stderr.close()
        if self._exited.done():
            self._process.close()
        self._events.closed(reason, self.stderr_tail())


class _ExitProtocol(asyncio.SubprocessProtocol):
    def __init__(self, exited: Callable[[], None]) -> None:
        self._exited = exited

    def process_exited(self) -> None:
        self._exited()


class _InputProtocol(asyncio.Protocol):
    def __init__(self, events: UpstreamEvents, closed: Callable[[str], None]) -> None:
        self._events = events
        self._closed = closed
        self.lost = False

    def pause_writing(self) -> None:
        self._events.pause()

    def resume_writing(self) -> None:
        self._events.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._closed("input")


class _OutputProtocol(asyncio.Protocol):
    def __init__(
        self, received: Callable[[bytes], None], closed: Callable[[str], None] | None = None
    ) -> None:
        self._received = received
        self._closed = closed

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed is not None:
            self._closed("output")


def _find_program(spec: StdioSpec) -> str:
    """The program's absolute path, found as the child itself would find it."""
    command = spec.argv[0]
    who = f"upstream {spec.upstream!r} could not be started"
    cwd = Path(spec.cwd)
    if not cwd.is_dir():
        raise UpstreamUnavailable(f"{who}: its working directory {spec.cwd!r} does not exist")
    if "/" in command:
        path = cwd / command
        if not path.exists():
            raise UpstreamUnavailable(f"{who}: there is no file {command!r}")
        if not os.access(path, os.X_OK) or path.is_dir():
            raise UpstreamUnavailable(f"{who}: {command!r} is not an executable file")
        return str(path.absolute())
    search = spec.env.get("PATH", os.defpath)
    found = shutil.which(command, path=search)
    if found is None:
        raise UpstreamUnavailable(
            f"{who}: there is no executable command {command!r} on its PATH", f"PATH is {search}"
        )
    return str(Path(found).absolute())


def _before_exec() -> Callable[[], None] | None:
    """What runs in the child between fork and exec: everything it needs is prepared here."""
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    term = int(signal.SIGTERM)
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, term, 0, 0, 0)
        if os.getppid() != parent:  # it died before it could be asked for
            os._exit(1)

    return before_exec


def _unread(pipe: asyncio.ReadTransport) -> int:
    """Bytes that wait in the kernel."""
    if pipe.is_closing():
        return 0
    count = fcntl.ioctl(pipe.get_extra_info("pipe").fileno(), termios.FIONREAD, b"\0\0\0\0")
    return int.from_bytes(count, sys.byteorder)


def _visible(ch: str) -> str:
    return ch if ch.isprintable() else ch.encode("unicode_escape").decode()


def _words(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
